//! Looks at the packets of an answer and passes them on, rewritten where they have to be.
//!
//! INVARIANT: what passes was recorded before, as it passes; a packet is looked at before any of it passes.
//!
//! Not here: which packet ends an answer (`answer`), which rows are masked (`shown`).

use bytes::{Buf as _, BytesMut};
use sallyport_core::authz::Reason;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        super::masking::Unmaskable,
        codec::{self, CodecError, HEADER_BYTES, Success},
        limits::{MASKED_BYTES_MAX, SERVER_WHOLE_BYTES_MAX},
        login::{self, capability},
    },
    Outcome, Relay, RelayError, RelaySetup,
    answer::{Answer, Seen},
    shown::{Describes, Noted},
};

impl<C, T> Relay<C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Looks at every packet of an answer that is here.
    pub(super) async fn follow(
        &mut self,
        answer: &mut Answer,
        outcome: &mut Outcome,
        sql: &[u8],
    ) -> Result<(), RelayError> {
        loop {
            self.let_go();
            if self.passing > 0 || answer.is_done() {
                return Ok(());
            }
            let rest = self
                .setup
                .from_target
                .get(self.passed..)
                .unwrap_or_default();
            let Some(header) = codec::header(rest) else {
                return Ok(());
            };
            if header.sequence != self.sequence {
                return Err(RelayError::Target(CodecError::Sequence {
                    expected: self.sequence,
                    found: header.sequence,
                }));
            }
            let length = header.payload;
            let payload = rest.get(HEADER_BYTES..).unwrap_or_default();
            let first = payload.first().copied();
            if first.is_none() && length > 0 {
                return Ok(());
            }
            let is_row = answer.is_row(first, length);
            let is_looked_at = self.looks_at(answer, is_row);
            if is_looked_at && length.saturating_add(self.passed) > MASKED_BYTES_MAX {
                // It is too long to be masked.
                self.pass().await?;
                if length.saturating_add(self.passed) > MASKED_BYTES_MAX {
                    Box::pin(self.cut(Reason::MaskedColumn)).await?;
                }
                continue;
            }
            let is_whole =
                is_looked_at || first.is_some_and(|first| answer.needs_whole(first, length));
            if is_whole && !is_looked_at && length > SERVER_WHOLE_BYTES_MAX {
                return Err(RelayError::Target(CodecError::TooLong));
            }
            let wire = HEADER_BYTES.saturating_add(length);
            let head = if is_whole { length } else { length.min(1) };
            if rest.len() < HEADER_BYTES.saturating_add(head) {
                return Ok(());
            }
            if is_row && let Some(reason) = self.over_budget(wire) {
                Box::pin(self.cut(reason)).await?;
                continue;
            }
            let payload = self.setup.from_target.get(self.passed..);
            let payload = payload.and_then(|rest| rest.get(HEADER_BYTES..));
            let Some(payload) = payload.and_then(|payload| payload.get(..head)) else {
                return Ok(());
            };
            if is_row && is_looked_at {
                match self.row_as_shown(payload, header.sequence) {
                    Ok(row) => {
                        answer.follow(payload, length)?;
                        self.sequence = self.sequence.wrapping_add(1);
                        if let Some(running) = &mut self.running {
                            running.row(wire);
                        }
                        self.show(&row, wire).await?;
                    }
                    Err(Unmaskable) => Box::pin(self.cut(Reason::MaskedColumn)).await?,
                }
                continue;
            }
            let was_describing = answer.is_describing();
            let seen = answer.follow(payload, length)?;
            self.sequence = self.sequence.wrapping_add(1);
            let describes = Describes {
                was: was_describing && seen == Seen::Passing,
                is: answer.is_describing(),
            };
            let catalog = self.setup.catalog.as_deref();
            let shape = self
                .running
                .as_mut()
                .and_then(|running| running.shape_mut());
            match shape.map(|shape| describes.note(shape, payload, catalog)) {
                None => {}
                Some(Noted::Known) => self.held = None,
                Some(Noted::Open) => {
                    self.held.get_or_insert(header.sequence);
                }
                Some(Noted::Hidden) => {
                    self.passed = self.passed.saturating_add(wire);
                    Box::pin(self.cut(Reason::MaskedColumn)).await?;
                    continue;
                }
            }
            let rewritten = match seen {
                Seen::Passing => None,
                Seen::Row => {
                    if let Some(running) = &mut self.running {
                        running.row(wire);
                    }
                    None
                }
                Seen::Success(success) => {
                    let put = Self::without_state(&success, &self.setup, header.sequence, first)?;
                    outcome.status = success.status;
                    let changes = success.changes().map_err(RelayError::Target)?;
                    if let Some(database) = changes.database {
                        self.database = Some(String::from_utf8_lossy(database).into_owned());
                    }
                    if let Some(running) = &mut self.running {
                        running.succeeded(&success);
                    }
                    put
                }
                Seen::End(status) => {
                    outcome.status = status;
                    None
                }
                Seen::Failed(error) => {
                    if let Some(running) = &mut self.running {
                        running.failed(&error);
                    }
                    let kept_back = self.kept_back(&error, header.sequence)?;
                    outcome.error = Some(error);
                    if let Some(instead) = kept_back {
                        Box::pin(self.show(&instead, wire)).await?;
                        self.pass().await?;
                        continue;
                    }
                    None
                }
                Seen::Prepared { number, parameters } => {
                    outcome.prepared = Some((number, parameters));
                    None
                }
                Seen::FileWanted(name) => {
                    let name = name.to_vec();
                    self.pass().await?;
                    self.file_wanted(&name, sql, wire).await?;
                    continue;
                }
            };
            self.setup.status = outcome.status;
            let instead = match (&rewritten, self.instead.take()) {
                (_, Some(told)) => {
                    let mut out = BytesMut::new();
                    let put = told.report().put(&mut out, header.sequence);
                    put.map_err(RelayError::Target)?;
                    Some((out, true))
                }
                (Some(_), None) => rewritten.map(|out| (out, false)),
                (None, None) => None,
            };
            match instead {
                Some((out, is_last)) => {
                    self.pass().await?;
                    self.drop_packet(wire).await?;
                    if !self.is_muted {
                        self.tell(&out).await?;
                    }
                    self.is_muted |= is_last;
                }
                None => {
                    let here = HEADER_BYTES.saturating_add(head);
                    self.passed = self.passed.saturating_add(here);
                    self.passing = wire.saturating_sub(here);
                }
            }
        }
    }

    /// The packet as a client understands it that does not follow the session's state; nothing where it may
    /// go as it is. The state itself must leave SQL what it seems.
    fn without_state(
        success: &Success<'_>,
        setup: &RelaySetup<C, T>,
        sequence: u8,
        first: Option<u8>,
    ) -> Result<Option<BytesMut>, RelayError> {
        let changed = success.changes().map_err(RelayError::Target)?;
        if !changed
            .character_set
            .is_none_or(login::is_plain_character_set)
        {
            let session_id = setup.session.id();
            tracing::warn!(%session_id, "a session turned to an encoding in which SQL cannot be read");
            return Err(RelayError::Encoding);
        }
        let follows = setup.capabilities & capability::SESSION_TRACK != 0;
        if follows || !success.has_state() {
            return Ok(None);
        }
        let mut out = BytesMut::new();
        success
            .put_stateless(&mut out, sequence, first.unwrap_or_default())
            .map_err(RelayError::Target)?;
        Ok(Some(out))
    }

    /// Lets go what is here of a packet that only passes.
    fn let_go(&mut self) {
        let here = self.setup.from_target.len().saturating_sub(self.passed);
        let count = here.min(self.passing);
        self.passed = self.passed.saturating_add(count);
        self.passing = self.passing.saturating_sub(count);
    }

    /// Records and sends what may go to the client.
    pub(super) async fn pass(&mut self) -> Result<(), RelayError> {
        if !self.masked.is_empty() {
            let rows = self.masked.split();
            self.setup.record.output(&rows).await?;
            self.write(&rows, true).await?;
        }
        if self.passed == 0 || self.held.is_some() {
            return Ok(());
        }
        let count = std::mem::take(&mut self.passed);
        let run = self.setup.from_target.split_to(count);
        if !self.is_for_nobody {
            self.setup.record.output(&run).await?;
        }
        if !self.is_muted {
            self.write(&run, self.passing == 0).await?;
        }
        // The allocation is used again.
        if self.setup.from_target.is_empty() {
            let mut run = run;
            run.clear();
            self.setup.from_target = run;
        }
        Ok(())
    }

    /// Takes a packet away that the client does not get as it is. What the target said is on record.
    pub(super) async fn drop_packet(&mut self, wire: usize) -> Result<(), RelayError> {
        let Some(said) = self.setup.from_target.get(..wire) else {
            return Err(RelayError::Target(CodecError::TooLong));
        };
        if !self.is_for_nobody {
            self.setup.record.output(said).await?;
        }
        self.setup.from_target.advance(wire);
        Ok(())
    }
}
