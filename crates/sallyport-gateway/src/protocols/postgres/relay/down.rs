//! From the target to the client: rows and copied data pass as they come, answers are matched to what was
//! asked, and what people are told is said where a message ends.
//!
//! INVARIANT: a message of a kind that has no place after login ends the session; it is not passed on.

use std::sync::atomic::Ordering;

use bytes::{Buf as _, BytesMut};
use sallyport_core::authz::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep_until},
};

use super::{
    super::{
        codec::{self, Body, CodecError, Header},
        limits::SERVER_WHOLE_BYTES_MAX,
        wording,
    },
    Never, READ_BYTES_MIN, Relay, RelayError, Unasked, fill,
    pipeline::{Answer, Pipeline},
};
use crate::{
    session::{Session, Words},
    statement::is_plain_encoding,
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
            is_copy: false,
            words,
        }
    }

    pub(super) async fn run(&mut self) -> Result<Never, RelayError> {
        let mut want = READ_BYTES_MIN;
        loop {
            self.take_all().await?;
            self.send().await?;
            let deadline = self.deadline();
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
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() && is_between => {
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
            let head = head_of_target(header);
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
            let answer = follow(
                &self.relay.session,
                &mut self.relay.pipeline(),
                header,
                message,
            )?;
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

    /// When the statement that runs has run for too long.
    fn deadline(&self) -> Option<Instant> {
        let time = self.relay.session.statement_time()?;
        self.relay.pipeline().running_since()?.checked_add(time)
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

    async fn send(&mut self) -> Result<(), RelayError> {
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

/// Follows what a target says.
fn follow(
    session: &Session,
    pipeline: &mut Pipeline,
    header: Header,
    message: &[u8],
) -> Result<Answer, RelayError> {
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
