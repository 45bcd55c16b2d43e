//! Moves commands from a client to a target and their answers back, one after the other, in one task.
//!
//! A command has one answer, and the next is not looked at before it ended. So a refused command is answered
//! by us, and neither side notices that the other heard nothing: an error changes nothing in this protocol.
//!
//! INVARIANT: a byte reaches the target only after its command was let through and it was recorded; commands
//! that are not known here are not passed on.
//!
//! Not here: what a command is (`command`), which packet ends an answer (`answer`), passing packets on
//! (`passing`), how rows are shown (`shown`).

mod answer;
mod command;
mod cut;
mod file;
mod passing;
mod shown;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::BytesMut;
use sallyport_core::authz::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
    time::sleep,
};

pub(super) use self::answer::Unasked;
use self::answer::{Answer, Expected};
use super::{
    codec::{self, CodecError, HEADER_BYTES, NO_BACKSLASH_ESCAPES, Packet, ServerError},
    kills::{Killable, Kills, Owner},
    limits::{SMALL_BYTES_MAX, STATEMENT_BYTES_MAX},
    login::capability,
    mask::Catalog,
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
    /// What is masked there, as it was when the session began.
    pub(super) catalog: Option<Box<Catalog>>,
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
    /// Number of the first packet that waits with those behind it until it is known whether rows can be shown.
    held: Option<u8>,
    /// Rows as they are shown, to be sent before anything else.
    masked: BytesMut,
    /// What is being prepared touches masked columns: words about it may hold their values.
    keeps_back: bool,
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
            held: None,
            masked: BytesMut::new(),
            keeps_back: false,
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
        let sequence = self.held.unwrap_or(self.sequence);
        if told.report().put(&mut out, sequence).is_ok() {
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
                    Box::pin(self.cut(Reason::TimeBudget)).await?;
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

    /// Whether a backslash in strings of this session takes the next character along.
    fn has_escapes(&self) -> bool {
        self.setup.status & NO_BACKSLASH_ESCAPES == 0
    }
}
