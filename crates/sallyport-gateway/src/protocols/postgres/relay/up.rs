//! From the client to the target: messages that run something, or say what a name stands for, are read and
//! decided on.
//!
//! INVARIANT: what is not let through does not reach the target, and what it gets instead it answers with an
//! error; waiting for the target never waits for what was not sent.

use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use sallyport_core::{
    authz::Reason,
    session::{Operation, StatementRecord},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{
    super::{
        super::wording as words,
        codec::{self, Body, CodecError, Header},
        limits::{
            BIND_HEAD_BYTES_MAX, FLUSH_EVERY, SMALL_BYTES_MAX, STATEMENT_BYTES_MAX, UNANSWERED_MAX,
        },
        operations::{self, Text},
        wording,
    },
    Never, READ_BYTES_MIN, Relay, RelayError, fill,
    pipeline::{Asked, Bound, Known, Named, Running, Spent},
};
use crate::{
    enforce::OperationDecision,
    session::{HeldOperation, HeldStep, OperationStart, RunningOperation, SessionOver},
    stream::READ_BYTES,
};

/// SQL that no server parses, sent in place of what was refused.
const REFUSED_SQL: &str = "refused by sallyport";
/// A name for it that no client uses, so that its own statement without a name stays.
const REFUSED_NAME: &str = "sallyport refused";
/// Asks the target for the answers it has.
const FLUSH: [u8; 5] = [b'H', 0, 0, 0, 4];

/// What to do with a client's message.
enum Verdict {
    Pass,
    /// Send this in its place.
    Replace(BytesMut),
    /// Look again once the target has answered more: what a name means depends on it.
    Wait,
    /// Other people have to agree first.
    Hold(Held),
    /// The client leaves.
    Leave,
}

/// A statement that waits for other people.
struct Held {
    operation: Box<HeldOperation>,
    record: StatementRecord,
    spent: Arc<Spent>,
    is_clear: bool,
    is_simple: bool,
    redefines: bool,
}

/// The direction from the client.
pub(super) struct Up<'a, R, W> {
    relay: &'a Relay,
    client: R,
    target: W,
    buffer: BytesMut,
    /// Bytes at the front that were looked at and may go.
    passed: usize,
    /// Bytes of the current message that are still to come.
    passing: usize,
    /// Whether they are copied rows.
    is_copy: bool,
    /// Messages since the target was last asked for its answers.
    unflushed: usize,
    /// The portal that is about to be executed.
    portal: Vec<u8>,
    /// Ours, to go before the message that was decided on.
    ahead: Option<BytesMut>,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Up<'a, R, W> {
    pub(super) fn new(relay: &'a Relay, client: R, target: W, rest: BytesMut) -> Self {
        Self {
            relay,
            client,
            target,
            buffer: rest,
            passed: 0,
            passing: 0,
            is_copy: false,
            unflushed: 0,
            portal: Vec::new(),
            ahead: None,
        }
    }

    pub(super) async fn run(&mut self) -> Result<Never, RelayError> {
        let mut want = READ_BYTES_MIN;
        loop {
            self.take_all().await?;
            self.send().await?;
            tokio::select! {
                filled = fill(&mut self.client, &mut self.buffer, &mut want) => match filled {
                    Ok(0) | Err(_) => return Err(RelayError::ClientLeft),
                    Ok(_) => {}
                },
                () = self.relay.failing.notified() => self.fail().await?,
            }
        }
    }

    /// Sends what the target cannot parse, where a statement that was cut off was done there already.
    async fn fail(&mut self) -> Result<(), RelayError> {
        let Some(is_simple) = self.relay.pipeline().take_failure() else {
            return Ok(());
        };
        let mut instead = refused_message(is_simple)?;
        if !is_simple {
            instead.extend_from_slice(&FLUSH);
        }
        self.write(&instead).await
    }

    /// Waits until nothing runs that may still be cut off: what comes after it must not have reached the
    /// target by then.
    async fn alone(&mut self) -> Result<(), RelayError> {
        let mut want = READ_BYTES_MIN;
        while self.relay.pipeline().has_running() {
            self.send().await?;
            if self.unflushed > 0 {
                self.unflushed = 0;
                self.write(&FLUSH).await?;
            }
            let has_room = self.buffer.len() < READ_BYTES;
            tokio::select! {
                () = self.relay.answered.notified() => {}
                () = self.relay.failing.notified() => self.fail().await?,
                filled = fill(&mut self.client, &mut self.buffer, &mut want), if has_room => match filled {
                    Ok(0) | Err(_) => return Err(RelayError::ClientLeft),
                    Ok(_) => {}
                },
            }
        }
        Ok(())
    }

    /// Looks at every message that is here.
    async fn take_all(&mut self) -> Result<(), RelayError> {
        loop {
            self.pass_on();
            if self.passing > 0 {
                return Ok(());
            }
            let rest = self.buffer.get(self.passed..).unwrap_or_default();
            let Some(header) = codec::header(rest).map_err(RelayError::Client)? else {
                return Ok(());
            };
            let head = head_of_client(header)?;
            if rest.len() < head {
                return Ok(());
            }
            // Rows that are copied, and a flush, belong to what runs.
            let belongs = matches!(header.kind, b'd' | b'c' | b'f' | b'H' | b'X');
            let session = &self.relay.session;
            if (session.has_budgets() || session.has_masks()) && !belongs {
                self.alone().await?;
            }
            // Taken out while it is decided on: deciding may send what came before.
            self.before_waiting().await?;
            let buffer = std::mem::take(&mut self.buffer);
            let message = buffer
                .get(self.passed..self.passed.saturating_add(head))
                .unwrap_or_default();
            let verdict = self.decide(header, message).await;
            self.buffer = buffer;
            match verdict? {
                Verdict::Pass => {
                    self.go_ahead().await?;
                    self.is_copy = header.kind == b'd';
                    // The header of copied rows is not among them.
                    self.passed = self.passed.saturating_add(head);
                    self.passing = header.bytes.saturating_sub(head);
                }
                Verdict::Replace(instead) => {
                    self.send().await?;
                    self.buffer.advance(header.bytes.min(self.buffer.len()));
                    self.write(&instead).await?;
                }
                Verdict::Wait => self.settle().await?,
                Verdict::Hold(held) => {
                    self.send().await?;
                    let is_simple = held.is_simple;
                    match self.agreed(held).await? {
                        Ok(()) => {
                            self.go_ahead().await?;
                            self.is_copy = false;
                            self.passed = self.passed.saturating_add(head);
                            self.passing = header.bytes.saturating_sub(head);
                        }
                        Err((reason, comment)) => {
                            let instead = self.refuse(reason, &comment, is_simple)?;
                            self.buffer.advance(header.bytes.min(self.buffer.len()));
                            self.write(&instead).await?;
                        }
                    }
                }
                Verdict::Leave => {
                    self.send().await?;
                    let goodbye = [b'X', 0, 0, 0, 4];
                    self.write(&goodbye).await?;
                    return Err(RelayError::ClientLeft);
                }
            }
        }
    }

    /// Sends what has to be there before the message that was decided on.
    async fn go_ahead(&mut self) -> Result<(), RelayError> {
        let Some(ahead) = self.ahead.take() else {
            return Ok(());
        };
        self.send().await?;
        self.write(&ahead).await
    }

    /// Lets go what is here of a message that only passes.
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

    /// Records and sends what may go.
    async fn send(&mut self) -> Result<(), RelayError> {
        if self.passed == 0 {
            return Ok(());
        }
        let count = std::mem::take(&mut self.passed);
        let run = self.buffer.split_to(count);
        self.write(&run).await?;
        // The allocation is used again.
        if self.buffer.is_empty() {
            let mut run = run;
            run.clear();
            self.buffer = run;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), RelayError> {
        self.relay.record.input(bytes).await?;
        let written = async {
            self.target.write_all(bytes).await?;
            self.target.flush().await
        };
        written.await.map_err(|_| RelayError::TargetLeft)
    }

    /// Sees to it that waiting for the target's answers cannot be for ever: what was let through is on its
    /// way, and the target has been asked for what it has.
    async fn before_waiting(&mut self) -> Result<(), RelayError> {
        if self.unflushed >= FLUSH_EVERY {
            self.unflushed = 0;
            self.send().await?;
            self.write(&FLUSH).await?;
        }
        while self.relay.pipeline().len() >= UNANSWERED_MAX {
            self.settle().await?;
        }
        Ok(())
    }

    /// Waits for the target's next answer.
    async fn settle(&mut self) -> Result<(), RelayError> {
        let relay = self.relay;
        let answered = relay.answered.notified();
        self.send().await?;
        answered.await;
        Ok(())
    }

    fn push(&mut self, asked: Asked) {
        self.unflushed = match asked {
            Asked::Sync | Asked::Query(_) => 0,
            _ => self.unflushed.saturating_add(1),
        };
        self.relay.pipeline().push(asked);
    }

    async fn decide(&mut self, header: Header, message: &[u8]) -> Result<Verdict, RelayError> {
        let body = Body::of(message);
        let is_whole = message.len() == header.bytes;
        match header.kind {
            b'Q' => self.query(body).await,
            b'P' => self.parse(body).await,
            b'B' => self.bind(body, is_whole),
            b'E' => self.execute(body).await,
            b'F' => self.call(body).await,
            b'C' | b'D' => self.name(header.kind, body),
            // The target would overlook it, and no answer would come.
            b'S' if self.relay.pipeline().is_fed => Err(RelayError::ClientKind { kind: 'S' }),
            b'S' => {
                self.push(Asked::Sync);
                Ok(Verdict::Pass)
            }
            b'H' => {
                self.unflushed = 0;
                Ok(Verdict::Pass)
            }
            b'c' | b'f' => {
                self.relay.pipeline().is_fed = false;
                Ok(Verdict::Pass)
            }
            b'd' => Ok(Verdict::Pass),
            b'X' => Ok(Verdict::Leave),
            kind => Err(RelayError::ClientKind {
                kind: char::from(kind),
            }),
        }
    }

    async fn query(&mut self, mut body: Body<'_>) -> Result<Verdict, RelayError> {
        let sql = body.text().map_err(RelayError::Client)?;
        if !body.is_empty() {
            return Err(RelayError::Client(CodecError::Body));
        }
        let text = Text::of(sql, &self.relay.database, &self.relay.shapes);
        self.run_statement(&text, &Bound::default(), true).await
    }

    /// Has a statement decided that is about to run.
    async fn run_statement(
        &mut self,
        text: &Text,
        bound: &Bound,
        is_simple: bool,
    ) -> Result<Verdict, RelayError> {
        let (parameters, spent) = (&bound.parameters, Arc::clone(&bound.spent));
        // A portal of the protocol is a cursor of SQL, and what it would run was decided for nobody yet.
        let doubted = self.relay.pipeline().has_named_portal() && text.facts().fetches;
        let doubted = doubted.then(|| text.in_doubt());
        let text = doubted.as_ref().unwrap_or(text);
        let record = text.record(parameters);
        let operation = text.operation();
        let Some(is_clear) = self.is_clear(text) else {
            let number = self.relay.record.number();
            let session = &self.relay.session;
            session
                .refuse_operation(number, operation, Reason::MaskedColumn)
                .await;
            return Ok(Verdict::Replace(self.refuse(
                Reason::MaskedColumn,
                "",
                is_simple,
            )?));
        };
        let number = self.relay.record.number();
        // Whoever agrees to a statement agrees to all of it, and to its values as well.
        let whole = |_: &Operation| text.operation_with(parameters);
        let session = &self.relay.session;
        match session.begin_shown(number, operation, whole).await {
            OperationStart::Begun(operation) => {
                let running = self.running(operation, record, spent).clear(is_clear);
                self.started(running, is_simple, text.redefines)?;
                Ok(Verdict::Pass)
            }
            OperationStart::Held(operation) => Ok(Verdict::Hold(Held {
                operation,
                record,
                spent,
                is_clear,
                is_simple,
                redefines: text.redefines,
            })),
            OperationStart::Refused(reason) => {
                Ok(Verdict::Replace(self.refuse(reason, "", is_simple)?))
            }
            OperationStart::Over(over) => Err(over.into()),
        }
    }

    fn running(
        &self,
        operation: RunningOperation,
        record: StatementRecord,
        spent: Arc<Spent>,
    ) -> Running {
        Running::new(operation, record, spent, self.relay.session.now())
    }

    /// Whether a statement touches nothing that is masked; nothing when it must not run at all.
    fn is_clear(&self, text: &Text) -> Option<bool> {
        if !self.relay.session.has_masks() {
            return Some(true);
        }
        let catalog = self.relay.known_masks()?;
        // What it computes would be told by the setting.
        (!text.facts().computes_setting).then(|| catalog.is_clear(text.facts()))
    }

    fn started(
        &mut self,
        running: Running,
        is_simple: bool,
        redefines: bool,
    ) -> Result<(), RelayError> {
        if redefines {
            self.relay.pipeline().redefined();
        }
        if !is_simple && self.relay.session.has_masks() {
            // Rows are masked by what they are: the client need not have asked.
            let mut describe = BytesMut::new();
            codec::message(&mut describe, b'D', |body| {
                body.extend_from_slice(b"P");
                body.extend_from_slice(&self.portal);
                body.extend_from_slice(&[0]);
            })
            .map_err(RelayError::Client)?;
            self.ahead = Some(describe);
            self.push(Asked::OwnDescribe {
                is_clear: running.is_clear(),
            });
        }
        let running = Box::new(running);
        self.push(match is_simple {
            true => Asked::Query(running),
            false => Asked::Execute(running),
        });
        if self.relay.session.has_budgets() {
            self.relay.begun.notify_one();
        }
        Ok(())
    }

    /// Waits until other people have agreed to a statement, or it is clear that they will not; the client
    /// reads where it stands, and gives it up by leaving or by a cancel request.
    async fn agreed(&mut self, held: Held) -> Result<Result<(), (Reason, String)>, RelayError> {
        let mut operation = held.operation;
        let mut want = READ_BYTES_MIN;
        self.relay
            .say(words::held(operation.id(), &operation.progress()));
        loop {
            let has_room = self.buffer.len() < READ_BYTES;
            let step = tokio::select! {
                step = operation.next() => step,
                () = self.relay.interrupted.notified() => {
                    operation.refuse(Reason::CommandWithdrawn);
                    return Ok(Err((Reason::CommandWithdrawn, String::new())));
                }
                end = self.relay.session.ended() => {
                    return Err(SessionOver(end).into());
                }
                // What it sends meanwhile waits; that it left is to be known.
                filled = fill(&mut self.client, &mut self.buffer, &mut want), if has_room => match filled {
                    Ok(0) | Err(_) => return Err(RelayError::ClientLeft),
                    Ok(_) => continue,
                },
            };
            match step {
                HeldStep::Waiting(progress) => {
                    self.relay.say(words::held(operation.id(), &progress));
                }
                HeldStep::Refused { reason, comment } => {
                    operation.refuse(reason);
                    return Ok(Err((reason, comment)));
                }
                HeldStep::Released => {
                    return match operation.begin() {
                        OperationStart::Begun(running) => {
                            let running = self
                                .running(running, held.record, held.spent)
                                .clear(held.is_clear);
                            self.started(running, held.is_simple, held.redefines)?;
                            Ok(Ok(()))
                        }
                        OperationStart::Over(over) => Err(over.into()),
                        OperationStart::Refused(reason) => Ok(Err((reason, String::new()))),
                        OperationStart::Held(again) => {
                            again.refuse(Reason::CommandChanged);
                            Ok(Err((Reason::CommandChanged, String::new())))
                        }
                    };
                }
            }
        }
    }

    async fn call(&mut self, body: Body<'_>) -> Result<Verdict, RelayError> {
        let operation = operations::function_call(body).map_err(RelayError::Client)?;
        let number = self.relay.record.number();
        let reason = match self.relay.session.begin_operation(number, operation).await {
            OperationStart::Begun(operation) => {
                let record = StatementRecord::default();
                let running = self.running(operation, record, Arc::default()).clear(false);
                self.started(running, true, false)?;
                return Ok(Verdict::Pass);
            }
            // What is held is commands and statements.
            OperationStart::Held(held) => {
                held.refuse(Reason::NotPermitted);
                Reason::NotPermitted
            }
            OperationStart::Refused(reason) => reason,
            OperationStart::Over(over) => return Err(over.into()),
        };
        Ok(Verdict::Replace(self.refuse(reason, "", true)?))
    }

    async fn parse(&mut self, mut body: Body<'_>) -> Result<Verdict, RelayError> {
        let name = body.text().map_err(RelayError::Client)?;
        let sql = body.text().map_err(RelayError::Client)?;
        let text = Text::of(sql, &self.relay.database, &self.relay.shapes);
        let operation = text.operation();
        let has_room = self.relay.pipeline().has_room_for(name, &text);
        let reason = match self.relay.session.check(&operation) {
            // It does not run yet: whoever has to agree is asked when it does.
            OperationDecision::Permitted | OperationDecision::Held(_) if has_room => {
                self.push(Asked::Parse {
                    name: name.to_vec(),
                    text: Arc::new(text),
                });
                return Ok(Verdict::Pass);
            }
            OperationDecision::Permitted | OperationDecision::Held(_) => Reason::OperationTooLong,
            OperationDecision::Refused(reason) => reason,
        };
        let number = self.relay.record.number();
        self.relay
            .session
            .refuse_operation(number, operation, reason)
            .await;
        Ok(Verdict::Replace(self.refuse(reason, "", false)?))
    }

    fn bind(&mut self, body: Body<'_>, is_whole: bool) -> Result<Verdict, RelayError> {
        let bind = operations::bind(body, is_whole).map_err(RelayError::Client)?;
        let known = self.relay.pipeline().statement(bind.statement);
        let Known::Is(text) = known else {
            return Ok(Verdict::Wait);
        };
        let bound = Bound {
            text,
            statement: bind.statement.to_vec(),
            parameters: bind.parameters,
            spent: Arc::default(),
        };
        self.push(Asked::Bind {
            portal: bind.portal.to_vec(),
            bound: Arc::new(bound),
        });
        Ok(Verdict::Pass)
    }

    async fn execute(&mut self, mut body: Body<'_>) -> Result<Verdict, RelayError> {
        let portal = body.text().map_err(RelayError::Client)?;
        let known = self.relay.pipeline().portal(portal);
        let Known::Is(bound) = known else {
            return Ok(Verdict::Wait);
        };
        let bound = bound.unwrap_or_default();
        let text = match &bound.text {
            Some(text) => Arc::clone(text),
            None if bound.statement.is_empty() => Arc::new(Text::of_name("portal", portal)),
            None => Arc::new(Text::of_name("prepared statement", &bound.statement)),
        };
        self.portal = portal.to_vec();
        self.run_statement(&text, &bound, false).await
    }

    fn name(&mut self, kind: u8, mut body: Body<'_>) -> Result<Verdict, RelayError> {
        let what = match body.byte().map_err(RelayError::Client)? {
            b'S' => Named::Statement,
            b'P' => Named::Portal,
            _ => return Err(RelayError::Client(CodecError::Body)),
        };
        let name = body.text().map_err(RelayError::Client)?;
        self.push(match kind {
            b'C' => Asked::Close(what, name.to_vec()),
            _ => Asked::Describe,
        });
        Ok(Verdict::Pass)
    }

    /// What the target gets in place of what was refused: something that it answers with an error.
    fn refuse(
        &mut self,
        reason: Reason,
        comment: &str,
        is_simple: bool,
    ) -> Result<BytesMut, RelayError> {
        let mut report = BytesMut::new();
        wording::put_refusal(&mut report, reason, comment).map_err(RelayError::Client)?;
        let instead = refused_message(is_simple)?;
        self.push(Asked::Refused { report, is_simple });
        Ok(instead)
    }
}

/// What no server parses, as a message.
fn refused_message(is_simple: bool) -> Result<BytesMut, RelayError> {
    let mut instead = BytesMut::new();
    let kind = if is_simple { b'Q' } else { b'P' };
    codec::message(&mut instead, kind, |body| {
        if is_simple {
            codec::put_text(body, REFUSED_SQL);
        } else {
            codec::put_text(body, REFUSED_NAME);
            codec::put_text(body, REFUSED_SQL);
            body.extend_from_slice(&[0, 0]);
        }
    })
    .map_err(RelayError::Client)?;
    Ok(instead)
}

/// How much of a client's message must be here before it is decided on.
fn head_of_client(header: Header) -> Result<usize, RelayError> {
    let limit = match header.kind {
        b'Q' | b'P' | b'F' => STATEMENT_BYTES_MAX,
        b'B' => return Ok(header.bytes.min(BIND_HEAD_BYTES_MAX)),
        b'd' => return Ok(codec::HEADER_BYTES),
        _ => SMALL_BYTES_MAX,
    };
    match header.bytes <= limit {
        true => Ok(header.bytes),
        false => Err(RelayError::Client(CodecError::TooLong)),
    }
}
