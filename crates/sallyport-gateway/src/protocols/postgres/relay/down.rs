//! From the target to the client: rows and copied data pass as they come, answers are matched to what was
//! asked, and what people are told is said where a message ends.
//!
//! INVARIANT: a message of a kind that has no place after login ends the session; it is not passed on.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::{Buf as _, BytesMut};
use sallyport_core::authz::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::sleep,
};

use super::{
    super::{
        codec::{self, Body, CodecError, Header},
        limits::{MASKED_BYTES_MAX, SERVER_WHOLE_BYTES_MAX},
        mask::{Shape, Unmaskable},
        startup, wording,
    },
    Never, READ_BYTES_MIN, Relay, RelayError, Unasked, fill,
    pipeline::{Answer, Pipeline},
};
use crate::{
    session::{Session, Words},
    statement::is_plain_encoding,
    stream::READ_BYTES,
};

/// The direction from the target.
pub(super) struct Down<'a, R, W> {
    relay: &'a Relay,
    client: W,
    target: R,
    buffer: BytesMut,
    passed: usize,
    passing: usize,
    /// Bytes of a message that are still to come and are for nobody.
    dropping: usize,
    /// Masked rows that are to be sent before anything else.
    masked: BytesMut,
    is_copy: bool,
    words: Words,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Down<'a, R, W> {
    pub(super) fn new(
        relay: &'a Relay,
        client: W,
        target: R,
        rest: BytesMut,
        words: Words,
    ) -> Self {
        Self {
            relay,
            client,
            target,
            buffer: rest,
            passed: 0,
            passing: 0,
            dropping: 0,
            masked: BytesMut::new(),
            is_copy: false,
            words,
        }
    }

    pub(super) async fn run(&mut self) -> Result<Never, RelayError> {
        let mut want = READ_BYTES_MIN;
        loop {
            self.take_all().await?;
            self.send().await?;
            let left = self.time_left();
            let is_between = self.passing == 0 && self.dropping == 0;
            let filling = fill(&mut self.target, &mut self.buffer, &mut want);
            let line = tokio::select! {
                filled = filling => match filled {
                    Ok(0) | Err(_) => return Err(RelayError::TargetLeft),
                    Ok(_) => None,
                },
                line = self.words.next(), if is_between => Some(line.to_string()),
                line = self.relay.next_line(), if is_between => Some(line),
                () = self.relay.begun.notified() => continue,
                () = sleep(left.unwrap_or_default()), if left.is_some() && is_between => {
                    self.cut(Reason::TimeBudget).await?;
                    continue;
                }
            };
            if let Some(line) = line {
                let mut notice = BytesMut::new();
                wording::put_notices(&mut notice, &line).map_err(RelayError::Target)?;
                self.write(&notice, true).await?;
            }
        }
    }

    async fn take_all(&mut self) -> Result<(), RelayError> {
        loop {
            self.pass_on();
            self.drop_on();
            if self.passing > 0 || self.dropping > 0 {
                return Ok(());
            }
            let rest = self.buffer.get(self.passed..).unwrap_or_default();
            let Some(header) = codec::header(rest).map_err(RelayError::Target)? else {
                return Ok(());
            };
            let is_masked = self.relay.session.has_masks();
            let head = match is_masked {
                true => self.head_of_masked(header),
                false => head_of_target(header),
            };
            let Some(message) = rest.get(..head) else {
                return Ok(());
            };
            if matches!(header.kind, b'D' | b'd')
                && self.relay.session.has_budgets()
                && let Some(reason) = self.over_budget(header.bytes)
            {
                self.cut(reason).await?;
                continue;
            }
            if is_masked && self.look(header, message) {
                self.cut(Reason::MaskedColumn).await?;
                continue;
            }
            let answer = follow(self.relay, header, message)?;
            self.relay.answered.notify_one();
            match answer {
                Answer::Pass => {
                    self.is_copy = header.kind == b'd';
                    self.passed = self.passed.saturating_add(head);
                    self.passing = header.bytes.saturating_sub(head);
                }
                Answer::Drop => {
                    self.send().await?;
                    self.dropping = header.bytes;
                    if self.relay.pipeline().is_failing() {
                        self.relay.failing.notify_one();
                    }
                }
                Answer::Instead(instead) if header.kind == b'D' => {
                    if self.passed > 0 {
                        self.send().await?;
                    }
                    self.masked.extend_from_slice(&instead);
                    self.buffer.advance(header.bytes.min(self.buffer.len()));
                    if self.masked.len() >= READ_BYTES {
                        self.send().await?;
                    }
                }
                Answer::Instead(instead) => {
                    self.send().await?;
                    self.relay.record.output(&instead).await?;
                    self.write(&instead, true).await?;
                    self.dropping = header.bytes;
                }
                Answer::Before(report) => {
                    self.send().await?;
                    self.write(&report, true).await?;
                    self.passed = head;
                    self.passing = header.bytes.saturating_sub(head);
                }
                Answer::Replace(instead) => {
                    self.send().await?;
                    let Some(said) = self.buffer.get(..header.bytes) else {
                        // No server says so much about a statement this short.
                        return Err(RelayError::Target(CodecError::TooLong));
                    };
                    // What the target said is on record; the client gets our words for it.
                    self.relay.record.output(said).await?;
                    self.buffer.advance(header.bytes);
                    self.write(&instead, true).await?;
                }
            }
        }
    }

    fn pass_on(&mut self) {
        let here = self.buffer.len().saturating_sub(self.passed);
        let count = here.min(self.passing);
        if count == 0 {
            return;
        }
        let end = self.passed.saturating_add(count);
        if self.is_copy {
            let piece = self.buffer.get(self.passed..end).unwrap_or_default();
            self.relay.pipeline().copied(piece);
        }
        self.passed = end;
        self.passing = self.passing.saturating_sub(count);
    }

    fn drop_on(&mut self) {
        let count = self.buffer.len().min(self.dropping);
        if count > 0 {
            self.buffer.advance(count);
            self.dropping = self.dropping.saturating_sub(count);
        }
    }

    /// How much longer the statement that runs may run.
    fn time_left(&self) -> Option<Duration> {
        let since = self.relay.pipeline().running_since()?;
        self.relay.session.time_left(since)
    }

    fn over_budget(&self, row_bytes: usize) -> Option<Reason> {
        let row_bytes = u64::try_from(row_bytes).unwrap_or(u64::MAX);
        let (rows, bytes) = self.relay.pipeline().spend(row_bytes)?;
        self.relay.session.take_row(rows, bytes, row_bytes)
    }

    /// Passes on no more of the statement that answers now, and has the target give it up. What the target
    /// says meanwhile waits, so that it is over before its client asks for something else.
    async fn cut(&mut self, reason: Reason) -> Result<(), RelayError> {
        self.send().await?;
        let mut report = BytesMut::new();
        wording::put_refusal(&mut report, reason, "").map_err(RelayError::Target)?;
        self.relay.pipeline().cut(reason, report);
        if let Some(stop) = &self.relay.stop {
            stop.stop().await;
        }
        Ok(())
    }

    /// Looks at a message of a session with masks, once; whether its statement must be cut off.
    fn look(&self, header: Header, message: &[u8]) -> bool {
        let mut pipeline = self.relay.pipeline();
        if header.kind == b'D' && message.len() < header.bytes && pipeline.masks_rows() {
            // It is too long to be masked.
            return true;
        }
        if header.kind == b'T' {
            let catalog = self.relay.known_masks();
            pipeline.describe(|is_clear| match catalog {
                Some(catalog) => Shape::of(Body::of(message), is_clear, catalog),
                None => Err(Unmaskable),
            });
        }
        pipeline.is_unmaskable(header.kind)
    }

    /// How much of a target's message must be here where rows are masked.
    fn head_of_masked(&self, header: Header) -> usize {
        let is_whole = match header.kind {
            b'T' => true,
            b'D' => self.relay.pipeline().masks_rows(),
            _ => false,
        };
        match is_whole {
            true => header.bytes.min(MASKED_BYTES_MAX),
            false => head_of_target(header),
        }
    }

    async fn send(&mut self) -> Result<(), RelayError> {
        if !self.masked.is_empty() {
            let rows = self.masked.split();
            self.relay.record.output(&rows).await?;
            self.write(&rows, true).await?;
        }
        if self.passed == 0 {
            return Ok(());
        }
        let count = std::mem::take(&mut self.passed);
        let run = self.buffer.split_to(count);
        self.relay.record.output(&run).await?;
        self.write(&run, self.passing == 0).await?;
        if self.buffer.is_empty() {
            let mut run = run;
            run.clear();
            self.buffer = run;
        }
        Ok(())
    }

    /// Sends bytes; `ends_message` says whether a message ends with them.
    async fn write(&mut self, bytes: &[u8], ends_message: bool) -> Result<(), RelayError> {
        self.relay.is_between.store(false, Ordering::Release);
        let written = async {
            self.client.write_all(bytes).await?;
            self.client.flush().await
        };
        written
            .await
            .map_err(|_: std::io::Error| RelayError::ClientLeft)?;
        self.relay.is_between.store(ends_message, Ordering::Release);
        Ok(())
    }
}

/// How much of a target's message must be here before it goes on.
fn head_of_target(header: Header) -> usize {
    match header.kind {
        b'D' | b'd' | b'T' | b't' | b'V' => codec::HEADER_BYTES,
        _ => header.bytes.min(SERVER_WHOLE_BYTES_MAX),
    }
}

/// What becomes of a message where columns are masked; nothing when it goes the way of all others.
fn masked(
    session: &Session,
    pipeline: &mut Pipeline,
    header: Header,
    message: &[u8],
) -> Result<Option<Answer>, RelayError> {
    match header.kind {
        b'T' | b'n' if pipeline.own_described() => Ok(Some(Answer::Drop)),
        b'D' if pipeline.masks_rows() => {
            let token = |column: &str, value: &[u8]| session.token(column, value);
            let row = pipeline.shown(|shape| shape.row(message, token));
            // `Down::look` has cut off what cannot be shown.
            let row = row.map_err(|Unmaskable| RelayError::Target(CodecError::Body))?;
            pipeline.row(header.bytes)?;
            Ok(Some(Answer::Instead(row)))
        }
        b'N' if pipeline.keeps_back() => Ok(Some(Answer::Drop)),
        b'E' if pipeline.keeps_back() => {
            let error = codec::server_error(Body::of(message));
            if error.is_fatal {
                return Ok(None);
            }
            Ok(Some(match pipeline.failed(&error) {
                Answer::Pass => {
                    let mut instead = BytesMut::new();
                    wording::put_kept_back(&mut instead, &error.sqlstate)
                        .map_err(RelayError::Target)?;
                    Answer::Instead(instead)
                }
                answer => answer,
            }))
        }
        _ => Ok(None),
    }
}

/// Follows what a target says.
fn follow(relay: &Relay, header: Header, message: &[u8]) -> Result<Answer, RelayError> {
    let session = &relay.session;
    let pipeline = &mut relay.pipeline();
    let mut body = Body::of(message);
    let kind = header.kind;
    let is_fatal = kind == b'E' && codec::server_error(Body::of(message)).is_fatal;
    if pipeline.is_cut() && !is_fatal {
        let status = match kind {
            b'Z' => Some(body.byte().map_err(RelayError::Target)?),
            _ => None,
        };
        return Ok(pipeline.follow_cut(kind, status)?);
    }
    if session.has_masks()
        && let Some(answer) = masked(session, pipeline, header, message)?
    {
        return Ok(answer);
    }
    match kind {
        b'D' => pipeline.row(header.bytes)?,
        b'd' | b'c' | b'A' | b'N' | b't' => {}
        b'T' if pipeline.describes_result() => {}
        b'1' | b'2' | b'3' | b'n' | b'T' => pipeline.answered(kind)?,
        b'C' => {
            let tag = String::from_utf8_lossy(body.text().map_err(RelayError::Target)?);
            pipeline.completed(kind, &tag)?;
        }
        b'I' | b's' => pipeline.completed(kind, "")?,
        b'V' if pipeline.describes_result() => {}
        b'G' | b'H' | b'W' => pipeline.copying(kind)?,
        b'S' => {
            let name = body.text().map_err(RelayError::Target)?;
            let value = body.text().map_err(RelayError::Target)?;
            if name == b"client_encoding" && !is_plain_encoding(&String::from_utf8_lossy(value)) {
                tracing::warn!(session_id = %session.id(), "a session turned to an encoding in which SQL cannot be read");
                return Err(RelayError::Encoding);
            }
            if name == startup::READ_ONLY.as_bytes() && value != b"on" && session.is_read_only() {
                tracing::warn!(session_id = %session.id(), "a session that only reads was let write");
                return Err(RelayError::MayWrite);
            }
        }
        b'E' => return Ok(pipeline.failed(&codec::server_error(body))),
        b'Z' => pipeline.ready(body.byte().map_err(RelayError::Target)?)?,
        kind => return Err(Unasked { kind }.into()),
    }
    Ok(Answer::Pass)
}
