//! A client's commands: which there are, what each is as an operation, and what becomes of it.
//!
//! INVARIANT: what is not listed here is not passed on, and is on record as refused.

use std::sync::Arc;

use sallyport_core::{
    authz::Reason,
    session::{Operation, OperationOutcome, StatementRecord},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        codec::{Body, CURSOR_EXISTS, LAST_ROW_SENT, Packet},
        mask::{Rows, Shape},
        operations::{self, Text},
        running::Running,
        upstream::Kill,
        values::{self, Parameters},
        wording::{self, Told},
        words::Killing,
    },
    Expected, READ_BYTES, Relay, RelayError, fill,
};
use crate::{
    enforce::OperationDecision,
    session::{
        HeldOperation, HeldStep, OperationResult, OperationStart, RunningOperation, SessionOver,
    },
};

const QUIT: u8 = 0x01;
const INIT_DB: u8 = 0x02;
const QUERY: u8 = 0x03;
const FIELD_LIST: u8 = 0x04;
const STATISTICS: u8 = 0x09;
const PROCESS_KILL: u8 = 0x0c;
const PING: u8 = 0x0e;
const STMT_PREPARE: u8 = 0x16;
const STMT_EXECUTE: u8 = 0x17;
const STMT_SEND_LONG_DATA: u8 = 0x18;
const STMT_CLOSE: u8 = 0x19;
const STMT_RESET: u8 = 0x1a;
const SET_OPTION: u8 = 0x1b;
const STMT_FETCH: u8 = 0x1c;
const RESET_CONNECTION: u8 = 0x1f;

/// Whether commands of this number carry SQL or values, and may be long.
pub(super) const fn carries_statement(code: u8) -> bool {
    matches!(
        code,
        QUERY | STMT_PREPARE | STMT_EXECUTE | STMT_SEND_LONG_DATA
    )
}

/// What a command that is not passed on is called.
const fn name(code: u8) -> &'static str {
    match code {
        0x05 => "COM_CREATE_DB",
        0x06 => "COM_DROP_DB",
        0x07 => "COM_REFRESH",
        0x08 => "COM_SHUTDOWN",
        0x0a => "COM_PROCESS_INFO",
        0x0d => "COM_DEBUG",
        0x11 => "COM_CHANGE_USER",
        0x12 => "COM_BINLOG_DUMP",
        0x13 => "COM_TABLE_DUMP",
        0x15 => "COM_REGISTER_SLAVE",
        0x1e => "COM_BINLOG_DUMP_GTID",
        0x20 => "COM_CLONE",
        0xfa => "COM_STMT_BULK_EXECUTE",
        0xfe => "COM_MULTI",
        _ => "this command",
    }
}

/// Whether a statement may run.
enum Begun {
    Running,
    Refused(Told),
}

impl<C, T> Relay<C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Decides on a command, and moves its answer if it may run.
    pub(super) async fn command(&mut self, packet: Packet) -> Result<(), RelayError> {
        let payload = packet.payload();
        let Some((code, body)) = payload.split_first() else {
            return Err(RelayError::Client(super::CodecError::Body));
        };
        match *code {
            QUIT => {
                self.send(&packet.wire).await?;
                Err(RelayError::ClientLeft)
            }
            QUERY => self.query(&packet, body).await,
            STMT_PREPARE => self.prepare(&packet, body).await,
            STMT_EXECUTE => self.execute(&packet, body).await,
            STMT_FETCH => self.fetch(&packet, body).await,
            STMT_SEND_LONG_DATA => self.send_ahead(&packet, body).await,
            STMT_CLOSE => {
                let number = read(Body::new(body).u32())?;
                self.statements.close(number);
                self.send(&packet.wire).await
            }
            STMT_RESET => {
                let number = read(Body::new(body).u32())?;
                if let Some(statement) = self.statements.get(number) {
                    statement.end_cursor();
                    statement.ahead.clear();
                }
                self.plain(&packet, Expected::One).await
            }
            // What the session tells of its state would be what the server begins with, and nobody asked that.
            RESET_CONNECTION if self.setup.session.has_masks() => {
                self.refuse_command("COM_RESET_CONNECTION").await
            }
            RESET_CONNECTION => {
                self.statements.close_all();
                self.plain(&packet, Expected::One).await?;
                // It has what the server begins with.
                match self.setup.session.is_read_only() {
                    true => self.keep_from_writing().await,
                    false => Ok(()),
                }
            }
            PING | SET_OPTION => self.plain(&packet, Expected::One).await,
            STATISTICS => self.plain(&packet, Expected::Words).await,
            INIT_DB => self.use_database(&packet, body).await,
            FIELD_LIST => {
                let text = Text::of_field_list(body, self.database.as_deref());
                self.run_statement(
                    &packet,
                    &text,
                    &Parameters::default(),
                    Expected::Fields,
                    &[],
                )
                .await
            }
            PROCESS_KILL => {
                let number = read(Body::new(body).u32())?;
                let text = Text::of(format!("KILL {number}").as_bytes(), false, None);
                self.kill(&text, Some((Kill::Connection, u64::from(number))))
                    .await
            }
            other => {
                let name = name(other);
                let detail = match name {
                    "this command" => format!("command {other:#04x}"),
                    name => name.to_owned(),
                };
                self.refuse_command(&detail).await
            }
        }
    }

    /// Answers a command that is not passed on.
    async fn refuse_command(&mut self, detail: &str) -> Result<(), RelayError> {
        let operation = operations::unsupported(detail);
        self.put_refusal(operation, Reason::FeatureRefused).await;
        self.refuse(&wording::unknown_command(detail)).await
    }

    /// Passes a command that runs nothing.
    async fn plain(&mut self, packet: &Packet, expected: Expected) -> Result<(), RelayError> {
        self.ask(packet, expected, &[]).await?;
        Ok(())
    }

    async fn put_refusal(&self, operation: Operation, reason: Reason) {
        let number = self.setup.record.number();
        let session = &self.setup.session;
        session.refuse_operation(number, operation, reason).await;
    }

    async fn query(&mut self, packet: &Packet, sql: &[u8]) -> Result<(), RelayError> {
        let text = self.text(sql);
        match text.asked.kills {
            Some(Killing::One(kill, number)) => {
                return self.kill(&text, Some((kill, number))).await;
            }
            Some(Killing::Unclear) => return self.kill(&text, None).await,
            None => {}
        }
        let may_ask = text.asked.sends_file;
        let expected = Expected::Results { may_ask };
        self.run_statement(packet, &text, &Parameters::default(), expected, sql)
            .await
    }

    /// Has a statement decided and run.
    async fn run_statement(
        &mut self,
        packet: &Packet,
        text: &Text,
        parameters: &Parameters,
        expected: Expected,
        sql: &[u8],
    ) -> Result<(), RelayError> {
        match self.begin(text, parameters, Rows::Text).await? {
            Begun::Refused(told) => self.refuse(&told).await,
            Begun::Running => {
                self.ask(packet, expected, sql).await?;
                self.finish();
                Ok(())
            }
        }
    }

    /// The statement that ran has ended.
    fn finish(&mut self) {
        if let Some(running) = self.running.take() {
            running.finish();
        }
    }

    /// Has a statement decided that is about to run.
    async fn begin(
        &mut self,
        text: &Text,
        parameters: &Parameters,
        rows: Rows,
    ) -> Result<Begun, RelayError> {
        let record = text.record(parameters);
        let operation = text.operation();
        if text.hides {
            self.put_refusal(operation, Reason::FeatureRefused).await;
            return Ok(Begun::Refused(wording::refusal(Reason::FeatureRefused, "")));
        }
        let Ok(shape) = self.shape(text, rows) else {
            self.put_refusal(operation, Reason::MaskedColumn).await;
            return Ok(Begun::Refused(wording::refusal(Reason::MaskedColumn, "")));
        };
        let number = self.setup.record.number();
        // Whoever agrees to a statement agrees to all of it, and to its values as well.
        let whole = |_: &Operation| text.operation_with(parameters);
        let session = &self.setup.session;
        match session.begin_shown(number, operation, whole).await {
            OperationStart::Begun(operation) => {
                self.started(operation, record, shape);
                Ok(Begun::Running)
            }
            OperationStart::Held(operation) => self.agreed(operation, record, shape).await,
            OperationStart::Refused(reason) => Ok(Begun::Refused(wording::refusal(reason, ""))),
            OperationStart::Over(over) => Err(over.into()),
        }
    }

    fn started(
        &mut self,
        operation: RunningOperation,
        record: StatementRecord,
        shape: Option<Shape>,
    ) {
        self.running = Some(Box::new(Running::new(
            operation,
            record,
            self.setup.session.now(),
            shape,
        )));
    }

    /// Waits until other people have agreed to a statement, or it is clear that they will not. The client
    /// gives it up by leaving, or by `KILL QUERY` on another connection.
    async fn agreed(
        &mut self,
        mut operation: Box<HeldOperation>,
        record: StatementRecord,
        shape: Option<Shape>,
    ) -> Result<Begun, RelayError> {
        let given_up = |reason| Ok(Begun::Refused(wording::refusal(reason, "")));
        loop {
            let has_room = self.setup.from_client.len() < READ_BYTES;
            let [want, _] = &mut self.want;
            let setup = &mut self.setup;
            let step = tokio::select! {
                step = operation.next() => step,
                () = setup.activity.interrupted.notified() => {
                    operation.refuse(Reason::CommandWithdrawn);
                    return given_up(Reason::CommandWithdrawn);
                }
                end = setup.session.ended() => return Err(SessionOver(end).into()),
                // What it sends meanwhile waits; that it left is to be known.
                filled = fill(&mut setup.client, &mut setup.from_client, want), if has_room => match filled {
                    Ok(0) | Err(_) => return Err(RelayError::ClientLeft),
                    Ok(_) => continue,
                },
            };
            match step {
                HeldStep::Waiting(_) => {}
                HeldStep::Refused { reason, comment } => {
                    operation.refuse(reason);
                    return Ok(Begun::Refused(wording::refusal(reason, &comment)));
                }
                HeldStep::Released => {
                    return match operation.begin() {
                        OperationStart::Begun(running) => {
                            self.started(running, record, shape);
                            Ok(Begun::Running)
                        }
                        OperationStart::Over(over) => Err(over.into()),
                        OperationStart::Refused(reason) => given_up(reason),
                        OperationStart::Held(again) => {
                            again.refuse(Reason::CommandChanged);
                            given_up(Reason::CommandChanged)
                        }
                    };
                }
            }
        }
    }

    async fn prepare(&mut self, packet: &Packet, sql: &[u8]) -> Result<(), RelayError> {
        let text = self.text(sql);
        let operation = text.operation();
        let shape = self.shape(&text, Rows::Binary);
        // It does not run yet: whoever has to agree is asked when it does.
        let reason = match self.setup.session.check(&operation) {
            _ if text.hides || text.asked.kills.is_some() => Reason::FeatureRefused,
            OperationDecision::Refused(reason) => reason,
            _ if shape.is_err() => Reason::MaskedColumn,
            OperationDecision::Permitted | OperationDecision::Held(_)
                if self.statements.has_room_for(&text) =>
            {
                self.keeps_back = matches!(shape, Ok(Some(_)));
                let outcome = self.ask(packet, Expected::Prepared, &[]).await?;
                self.keeps_back = false;
                if let Some((number, parameters)) = outcome.prepared {
                    self.statements.add(number, Arc::new(text), parameters);
                }
                return Ok(());
            }
            OperationDecision::Permitted | OperationDecision::Held(_) => Reason::OperationTooLong,
        };
        self.put_refusal(operation, reason).await;
        self.refuse(&wording::refusal(reason, "")).await
    }

    async fn execute(&mut self, packet: &Packet, body: &[u8]) -> Result<(), RelayError> {
        let mut body = Body::new(body);
        let number = read(body.u32())?;
        let Some(statement) = self.statements.get(number) else {
            // The target may know one under this number; we would not know what it runs.
            return self.refuse(&wording::NO_SUCH_STATEMENT.into()).await;
        };
        // A cursor's flags, and how often: once.
        let flags = read(body.byte())?;
        read(body.u32())?;
        let count = statement.parameters;
        let parameters = values::read(body, count, &mut statement.types, &statement.ahead);
        let parameters = read(parameters)?;
        statement.end_cursor();
        let text = Arc::clone(&statement.text);
        // Fields of a cursor are described as those of a table that the server makes for it: by the names that the
        // statement gave them.
        if flags != 0 && !matches!(self.shape(&text, Rows::Binary), Ok(None)) {
            let reason = Reason::MaskedColumn;
            self.put_refusal(text.operation(), reason).await;
            return self.refuse(&wording::refusal(reason, "")).await;
        }
        match self.begin(&text, &parameters, Rows::Binary).await? {
            Begun::Refused(told) => self.refuse(&told).await,
            Begun::Running => {
                // Now the target has used up what was sent ahead. What was refused it never saw.
                if let Some(statement) = self.statements.get(number) {
                    statement.ahead.clear();
                }
                let expected = Expected::Results { may_ask: false };
                let outcome = self.ask(packet, expected, &[]).await?;
                if outcome.status & CURSOR_EXISTS != 0 && outcome.error.is_none() {
                    let running = self.running.take();
                    if let Some(statement) = self.statements.get(number) {
                        statement.cursor = running;
                    }
                }
                self.finish();
                Ok(())
            }
        }
    }

    /// More rows of a statement that was decided on when it was executed.
    async fn fetch(&mut self, packet: &Packet, body: &[u8]) -> Result<(), RelayError> {
        let number = read(Body::new(body).u32())?;
        let statement = self.statements.get(number);
        let Some(running) = statement.and_then(|statement| statement.cursor.take()) else {
            return self.refuse(&wording::NO_SUCH_STATEMENT.into()).await;
        };
        let mut running = running;
        running.resumed(self.setup.session.now());
        self.running = Some(running);
        let outcome = self.ask(packet, Expected::Rows, &[]).await?;
        if outcome.status & LAST_ROW_SENT == 0 && outcome.error.is_none() {
            let running = self.running.take();
            if let Some(statement) = self.statements.get(number) {
                statement.cursor = running;
            }
        }
        self.finish();
        Ok(())
    }

    /// A piece of a value. Nothing answers it.
    async fn send_ahead(&mut self, packet: &Packet, body: &[u8]) -> Result<(), RelayError> {
        let mut body = Body::new(body);
        let (number, position) = (read(body.u32())?, read(body.u16())?);
        if let Some(statement) = self.statements.get(number)
            && position < statement.parameters
        {
            statement
                .ahead
                .entry(position)
                .or_default()
                .add(body.rest());
        }
        self.send(&packet.wire).await
    }

    async fn use_database(&mut self, packet: &Packet, body: &[u8]) -> Result<(), RelayError> {
        let operation = operations::database(&String::from_utf8_lossy(body));
        let number = self.setup.record.number();
        let reason = match self.setup.session.begin_operation(number, operation).await {
            OperationStart::Begun(operation) => {
                let outcome = self.ask(packet, Expected::One, &[]).await?;
                let outcome = match outcome.error {
                    Some(_) => OperationOutcome::FailedAtTarget,
                    None => OperationOutcome::Completed,
                };
                operation.finish(outcome, OperationResult::default());
                return Ok(());
            }
            // What is held is commands and statements.
            OperationStart::Held(held) => {
                held.refuse(Reason::NotPermitted);
                Reason::NotPermitted
            }
            OperationStart::Refused(reason) => reason,
            OperationStart::Over(over) => return Err(over.into()),
        };
        self.refuse(&wording::refusal(reason, "")).await
    }

    /// Stops what the person runs on another connection: the target does not get the statement, because its
    /// numbers are those of everybody's connections.
    async fn kill(&mut self, text: &Text, what: Option<(Kill, u64)>) -> Result<(), RelayError> {
        if let Begun::Refused(told) = self.begin(text, &Parameters::default(), Rows::Text).await? {
            return self.refuse(&told).await;
        }
        let found = what.and_then(|(kill, number)| {
            let found = self.setup.kills.find(number, &self.owner)?;
            Some((kill, found))
        });
        let stopped = match found {
            Some((kill, found)) => found.stop(kill).await.is_ok(),
            None => false,
        };
        if !stopped {
            let error = super::ServerError {
                number: 1_094,
                state: "HY000".to_owned(),
            };
            if let Some(running) = &mut self.running {
                running.failed(&error);
            }
            self.finish();
            return self.refuse(&wording::NOT_OWN_CONNECTION.into()).await;
        }
        self.finish();
        self.succeed().await
    }
}

/// What cannot be read of a client's command ends its session.
fn read<V>(value: Result<V, super::CodecError>) -> Result<V, RelayError> {
    value.map_err(RelayError::Client)
}
