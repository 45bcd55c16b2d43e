//! Moves commands from a client to a target and their answers back, one after the other, in one task.
//!
//! A command has one answer, and the next is not looked at before it ended. So a refused command is answered
//! by us, and neither side notices that the other heard nothing: an error changes nothing in this protocol.
//!
//! INVARIANT: a byte reaches the target only after its command was let through and it was recorded; commands
//! that are not known here are not passed on.
//!
//! Not here: what a command is (`command`), which packet ends an answer (`answer`).

mod answer;
mod command;
mod cut;
mod file;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::{Buf as _, BytesMut};
use sallyport_core::authz::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
    time::sleep,
};

pub(super) use self::answer::Unasked;
use self::answer::{Answer, Expected, Seen};
use super::{
    codec::{self, CodecError, HEADER_BYTES, NO_BACKSLASH_ESCAPES, Packet, ServerError, Success},
    kills::{Killable, Kills, Owner},
    limits::{SERVER_WHOLE_BYTES_MAX, SMALL_BYTES_MAX, STATEMENT_BYTES_MAX},
    login::{self, capability},
    prepared::Statements,
    running::Running,
    wording::Told,
};
use crate::{
    session::{ChannelRecord, Session, SessionOver},
    stream::{READ_BYTES, READ_BYTES_MIN, fill},
};

/// Why moving commands ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// The client said goodbye, or left.
    #[error("go on without the client")]
    ClientLeft,
    /// The target said goodbye, or left.
    #[error("go on without the target")]
    TargetLeft,
    /// The session is over.
    #[error("go on with a session that is over")]
    Over(#[from] SessionOver),
    /// The client's packet is none, or has no place here.
    #[error("follow the client")]
    Client(#[source] CodecError),
    /// The target's packet is none, or has no place here.
    #[error("follow the target")]
    Target(#[source] CodecError),
    /// The target answers what nobody asked.
    #[error("follow the target")]
    Unasked(#[from] Unasked),
    /// The target asks for a file that no statement of the client's names.
    #[error("send the target a file that nobody offered")]
    FileUnasked,
    /// The target does not keep a session from writing that only reads.
    #[error("go on with a session that may write")]
    MayWrite,
    /// The target turned to an encoding in which SQL is not what it seems.
    #[error("go on in an encoding in which SQL is not what it seems")]
    Encoding,
}

/// What a session shares with whoever stops it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The client wants what it asked last to stop.
    pub(super) interrupted: Notify,
    /// The target is working on something.
    pub(super) is_busy: AtomicBool,
}

/// How an answer ended.
#[derive(Debug, Default)]
struct Outcome {
    /// What failed, if something did.
    error: Option<ServerError>,
    /// The last status that the target told.
    status: u16,
    /// The number of a statement that was prepared, and how many parameters it takes.
    prepared: Option<(u32, u16)>,
}

/// What one session's relay is made of.
pub(super) struct RelaySetup<C, T> {
    pub(super) session: Arc<Session>,
    pub(super) record: ChannelRecord,
    pub(super) activity: Arc<Activity>,
    pub(super) kills: Arc<Kills>,
    /// How the target is asked to stop what it does.
    pub(super) stop: Arc<Killable>,
    pub(super) client: C,
    pub(super) target: T,
    /// What the client sent ahead.
    pub(super) from_client: BytesMut,
    /// What the target sent ahead.
    pub(super) from_target: BytesMut,
    /// What the client can do.
    pub(super) capabilities: u32,
    /// The target's status.
    pub(super) status: u16,
    /// The database that the client named.
    pub(super) database: Option<String>,
}

/// One session's commands and answers.
pub(super) struct Relay<C, T> {
    setup: RelaySetup<C, T>,
    owner: Owner,
    /// Where names without a database are looked for.
    database: Option<String>,
    statements: Statements,
    /// The statement that the target is working on.
    running: Option<Box<Running>>,
    /// Read at once from each side.
    want: [usize; 2],
    /// Bytes at the front of what the target sent that may go.
    passed: usize,
    /// Bytes of its current packet that are still to come.
    passing: usize,
    /// The number that its next packet has.
    sequence: u8,
    /// Everything that was sent to the client ends where a packet ends.
    is_between: bool,
    /// What the client gets in place of the answer.
    instead: Option<Told>,
    /// The client has got its answer; the rest is for nobody.
    is_muted: bool,
    /// The answer is to something of ours, or no more of it is wanted: it is not on record either.
    is_for_nobody: bool,
}

impl<C, T> Relay<C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(mut setup: RelaySetup<C, T>) -> Self {
        let database = setup.database.take();
        let owner = Owner::of(setup.session.permit());
        Self {
            setup,
            owner,
            database,
            statements: Statements::default(),
            running: None,
            want: [READ_BYTES_MIN; 2],
            passed: 0,
            passing: 0,
            sequence: 1,
            is_between: true,
            instead: None,
            is_muted: false,
            is_for_nobody: false,
        }
    }

    /// Moves commands and answers until one of both sides leaves.
    pub(super) async fn run(&mut self) -> RelayError {
        loop {
            if let Err(error) = self.exchange().await {
                return error;
            }
        }
    }

    /// Says something in place of what would come next, where the client would understand it.
    pub(super) async fn farewell(&mut self, told: &Told) {
        if !self.is_between || self.is_muted {
            return;
        }
        let mut out = BytesMut::new();
        if told.report().put(&mut out, self.sequence).is_ok() {
            let telling = async {
                self.setup.client.write_all(&out).await?;
                self.setup.client.shutdown().await
            };
            let _ = telling.await;
        }
    }

    /// Whether the target is working on something.
    pub(super) fn is_busy(&self) -> bool {
        self.setup.activity.is_busy.load(Ordering::Acquire)
    }

    /// One command with its answer.
    async fn exchange(&mut self) -> Result<(), RelayError> {
        // What is said between commands stands where the answer to the next would.
        self.sequence = 1;
        let packet = self.next_command().await?;
        self.sequence = packet.sequence.wrapping_add(1);
        self.command(packet).await
    }

    async fn next_command(&mut self) -> Result<Packet, RelayError> {
        loop {
            let code = self.setup.from_client.get(HEADER_BYTES);
            let limit = match code.is_some_and(|code| command::carries_statement(*code)) {
                true => STATEMENT_BYTES_MAX,
                false => SMALL_BYTES_MAX,
            };
            // Whether it is long is known once its first byte is here.
            if code.is_some() || self.setup.from_client.len() < HEADER_BYTES {
                let taken = codec::take_packet(&mut self.setup.from_client, 0, limit);
                if let Some(packet) = taken.map_err(RelayError::Client)? {
                    return Ok(packet);
                }
            } else if codec::header(&self.setup.from_client).is_some_and(|h| h.payload == 0) {
                return Err(RelayError::Client(CodecError::Body));
            }
            let [want_client, want_target] = &mut self.want;
            let setup = &mut self.setup;
            tokio::select! {
                filled = fill(&mut setup.client, &mut setup.from_client, want_client) => match filled {
                    Ok(0) | Err(_) => return Err(RelayError::ClientLeft),
                    Ok(_) => {}
                },
                // It has nothing to say now but why it leaves.
                _ = fill(&mut setup.target, &mut setup.from_target, want_target) => {
                    return Err(RelayError::TargetLeft);
                }
            }
        }
    }

    /// Records and sends something to the target.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), RelayError> {
        self.setup.record.input(bytes).await?;
        let target = &mut self.setup.target;
        let written = async {
            target.write_all(bytes).await?;
            target.flush().await
        };
        written
            .await
            .map_err(|_: std::io::Error| RelayError::TargetLeft)
    }

    /// Sends something of ours to the client, where a packet ends and the next begins.
    async fn tell(&mut self, bytes: &[u8]) -> Result<(), RelayError> {
        self.write(bytes, true).await
    }

    /// Answers a command that the target does not get.
    async fn refuse(&mut self, told: &Told) -> Result<(), RelayError> {
        let mut out = BytesMut::new();
        let put = told.report().put(&mut out, self.sequence);
        put.map_err(RelayError::Client)?;
        self.tell(&out).await
    }

    /// Answers a command that the gateway itself has carried out.
    async fn succeed(&mut self) -> Result<(), RelayError> {
        let mut out = BytesMut::new();
        codec::put_success(&mut out, self.sequence, self.setup.status, "")
            .map_err(RelayError::Client)?;
        self.tell(&out).await
    }

    /// Writes to the client; `ends_packet` says whether a packet ends with it.
    async fn write(&mut self, bytes: &[u8], ends_packet: bool) -> Result<(), RelayError> {
        self.is_between = false;
        let client = &mut self.setup.client;
        let written = async {
            client.write_all(bytes).await?;
            client.flush().await
        };
        written
            .await
            .map_err(|_: std::io::Error| RelayError::ClientLeft)?;
        self.is_between = ends_packet;
        Ok(())
    }

    /// Sends a command that was let through, and moves its answer. `sql` is its text, where it has one.
    async fn ask(
        &mut self,
        packet: &Packet,
        expected: Expected,
        sql: &[u8],
    ) -> Result<Outcome, RelayError> {
        self.setup.activity.is_busy.store(true, Ordering::Release);
        self.send(&packet.wire).await?;
        (self.is_muted, self.is_for_nobody) = (false, false);
        let outcome = self.answers(expected, sql).await?;
        self.setup.activity.is_busy.store(false, Ordering::Release);
        if std::mem::take(&mut self.is_for_nobody) {
            self.forget_stop().await?;
        }
        Ok(outcome)
    }

    /// Moves the answer to one command.
    async fn answers(&mut self, expected: Expected, sql: &[u8]) -> Result<Outcome, RelayError> {
        let has_no_end = self.setup.capabilities & capability::DEPRECATE_EOF != 0;
        let mut answer = Answer::to(expected, has_no_end);
        let mut outcome = Outcome {
            status: self.setup.status,
            ..Outcome::default()
        };
        self.instead = None;
        loop {
            self.follow(&mut answer, &mut outcome, sql).await?;
            self.pass().await?;
            if answer.is_done() && self.passing == 0 {
                self.is_muted = false;
                return Ok(outcome);
            }
            let has_room = self.setup.from_client.len() < READ_BYTES;
            let left = self.time_left();
            let [want_client, want_target] = &mut self.want;
            let setup = &mut self.setup;
            tokio::select! {
                filled = fill(&mut setup.target, &mut setup.from_target, want_target) => match filled {
                    Ok(0) | Err(_) => return Err(RelayError::TargetLeft),
                    Ok(_) => {}
                },
                () = sleep(left.unwrap_or_default()), if left.is_some() => {
                    self.cut(Reason::TimeBudget).await?;
                }
                // What it sends meanwhile waits; that it left is to be known.
                filled = fill(&mut setup.client, &mut setup.from_client, want_client), if has_room => {
                    if let Ok(0) | Err(_) = filled {
                        return Err(RelayError::ClientLeft);
                    }
                }
            }
        }
    }

    /// Looks at every packet of an answer that is here.
    async fn follow(
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
            let is_whole = first.is_some_and(|first| answer.needs_whole(first, length));
            if is_whole && length > SERVER_WHOLE_BYTES_MAX {
                return Err(RelayError::Target(CodecError::TooLong));
            }
            let wire = HEADER_BYTES.saturating_add(length);
            if answer.is_row(first, length)
                && let Some(reason) = self.over_budget(wire)
            {
                self.cut(reason).await?;
                continue;
            }
            let head = if is_whole { length } else { length.min(1) };
            let payload = self.setup.from_target.get(self.passed..);
            let payload = payload.and_then(|rest| rest.get(HEADER_BYTES..));
            let Some(payload) = payload.and_then(|payload| payload.get(..head)) else {
                return Ok(());
            };
            let seen = answer.follow(payload, length)?;
            self.sequence = self.sequence.wrapping_add(1);
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
                    outcome.error = Some(error);
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
    async fn pass(&mut self) -> Result<(), RelayError> {
        if self.passed == 0 {
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
    async fn drop_packet(&mut self, wire: usize) -> Result<(), RelayError> {
        let Some(said) = self.setup.from_target.get(..wire) else {
            return Err(RelayError::Target(CodecError::TooLong));
        };
        if !self.is_for_nobody {
            self.setup.record.output(said).await?;
        }
        self.setup.from_target.advance(wire);
        Ok(())
    }

    /// Whether a backslash in strings of this session takes the next character along.
    fn has_escapes(&self) -> bool {
        self.setup.status & NO_BACKSLASH_ESCAPES == 0
    }
}
