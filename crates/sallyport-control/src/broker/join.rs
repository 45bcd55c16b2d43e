//! Joining a live session: what it shows, as long as whoever joined may see it and is there.
//!
//! What they see is the session's recording, followed while it is written; what they type goes to the
//! gateway, which records it as theirs.
//!
//! INVARIANT: the record of a joining is durable before the gateway is told and before the first byte
//! is shown; it ends when the right, the token, the person, the connection or the session does, or a
//! lock says so, within [`RIGHT_CHECKED_EVERY`]. One who does not read is put out and never slows the
//! session.
//!
//! Not here: the rules (`sallyport-core::session::oversight`), the list of who is joined (`watchers`).

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use sallyport_api::gateway::{KEYSTROKES_BYTES_MAX, Keystrokes, Push};
use sallyport_core::{
    authz::{AdminAction, Reason},
    event::{Event, EventName, Events},
    id::{AccountId, SessionId, TargetId, WatcherId},
    policy::Constraints,
    session::oversight::{Watcher, counts_as_watcher},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    store::{self, SessionRow},
    watchers::Seat,
};
use crate::{
    authn,
    kernel::{caller::Caller, control::Control, database::StoreError, ids, task},
    lock,
    recording::{self, RecordingError},
};

/// How often it is looked at whether somebody still may be joined.
const RIGHT_CHECKED_EVERY: Duration = Duration::from_millis(500);
/// Who is not heard of for this long is gone: their machine, or the way to it.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Something is sent at least this often, so that a client knows that the connection lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// Pieces on their way to one who is joined.
const PIECES_MAX: usize = 8;
/// Who takes nothing for this long is put out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why somebody does not join, or does not type.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no such session for the caller, or they are not joined to it.
    #[error("there is no such {noun}")]
    NotFound {
        /// `session` or `watcher`.
        noun: &'static str,
    },
    /// The session is over.
    #[error("the session has ended already")]
    Ended,
    /// Typing takes a right of its own.
    #[error("joining with the keyboard takes the right to")]
    NoKeyboardRight,
    /// A rule says no.
    #[error("join a session: {0}")]
    Refused(Reason),
    /// As many as there may be are joined already.
    #[error("too many people are joined to this session")]
    Full,
    /// What was typed is not acceptable.
    #[error("`input` {problem}")]
    BadInput {
        /// What is wrong and what is accepted.
        problem: &'static str,
    },
    /// The gateway does not keep up with what is typed.
    #[error("the gateway does not take what was typed")]
    Busy,
    /// The recording, through which it is seen, is not to be had.
    #[error("follow the recording")]
    Recording(#[from] RecordingError),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// What somebody who joined gets.
pub(super) struct Joined {
    pub(super) watcher_id: WatcherId,
    pub(super) shown: ReceiverStream<Result<Bytes, io::Error>>,
}

/// How somebody wants to join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) has_keyboard: bool,
    /// The channel to show; those that open, one after the other, when absent.
    pub(super) channel: Option<u32>,
}

/// Joins `caller`, who may see recordings, to a session.
pub(super) async fn join(
    control: &Control,
    caller: Caller,
    session_id: &SessionId,
    wish: Wish,
) -> Result<Joined, JoinError> {
    // Before anything is looked up: whether there is such a session is not for everybody to know.
    if wish.has_keyboard && !caller.is_permitted(AdminAction::SessionJoin) {
        return Err(JoinError::NoKeyboardRight);
    }
    let mut reader = control.db().read().await?;
    let session = store::session_by_id(&mut reader, session_id)
        .await?
        .ok_or(JoinError::NotFound { noun: "session" })?;
    drop(reader);
    if !session.is_live {
        return Err(JoinError::Ended);
    }
    if wish.has_keyboard && !shares_keyboard(&session, &caller) {
        return Err(JoinError::Refused(Reason::KeyboardRefused));
    }
    if is_locked(control, &caller, &session).await? {
        return Err(JoinError::Refused(Reason::Locked));
    }
    let view = recording::live_view(control, &caller, &session.recording_id, wish.channel).await?;

    let watcher = Watcher {
        id: WatcherId::new(control.now(), ids::entropy()),
        person_id: caller.person.id.clone(),
        person: caller.person.name.clone(),
        has_keyboard: wish.has_keyboard,
    };
    let event = Event::new(EventName::SessionJoined, &session.id)
        .with("watcher_id", &watcher.id)
        .with("has_keyboard", watcher.has_keyboard);
    let tx = control.db().begin(caller.actor()).await?;
    tx.commit(Events::one(event)).await?;

    let (out, shown) = mpsc::channel(PIECES_MAX);
    let joined = Joined {
        watcher_id: watcher.id.clone(),
        shown: ReceiverStream::new(shown),
    };
    let attendance = Attendance {
        control: control.clone(),
        caller,
        session,
        watcher,
        out,
    };
    let Some(seat) = Seat::take(control, &attendance.session, attendance.watcher.clone()) else {
        attendance.write_down(Leaving::NoPlace).await;
        return Err(JoinError::Full);
    };
    task::spawn("joined session", attendance.run(seat, view));
    Ok(joined)
}

/// Whether people who join may type: not in one's own session, where it would hide who typed.
fn shares_keyboard(session: &SessionRow, caller: &Caller) -> bool {
    let is_allowed = session
        .constraints
        .as_ref()
        .is_none_or(|constraints: &Constraints| constraints.shares_keyboard);
    is_allowed && counts_as_watcher(&caller.person.id, &session.person_id)
}

async fn is_locked(
    control: &Control,
    caller: &Caller,
    session: &SessionRow,
) -> Result<bool, StoreError> {
    let now = control.now();
    let mut reader = control.db().read().await?;
    let (Ok(account_id), Ok(target_id)) = (
        session.account_id.parse::<AccountId>(),
        session.target_id.parse::<TargetId>(),
    ) else {
        return Ok(true);
    };
    let locks = lock::in_force(&mut reader, now).await?;
    Ok(locks
        .iter()
        .any(|lock| lock.stops(&caller.person.id, &account_id, &target_id, now)))
}

/// Why somebody is no longer joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// The session, or its recording, is over.
    SessionEnded,
    /// They closed the connection, or it broke.
    Closed,
    /// They were not heard of.
    Silent,
    /// They did not read.
    Slow,
    /// The token, the right or the person ended, or a lock says so.
    RightEnded,
    /// The recording cannot be read on, or whether they still may is not to be known.
    Failed,
    /// Control stops.
    Stopped,
    /// There was no place left.
    NoPlace,
}

impl Leaving {
    /// As recorded.
    const fn as_str(self) -> &'static str {
        match self {
            Self::SessionEnded => "session-ended",
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::RightEnded => "right-ended",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::NoPlace => "no-place",
        }
    }
}

/// One who is joined.
struct Attendance {
    control: Control,
    caller: Caller,
    session: SessionRow,
    watcher: Watcher,
    out: mpsc::Sender<Result<Bytes, io::Error>>,
}

impl Attendance {
    async fn run<E: std::error::Error + 'static>(
        self,
        seat: Seat,
        view: impl Stream<Item = Result<Bytes, E>> + Send,
    ) {
        let leaving = tokio::select! {
            leaving = self.show(view) => leaving,
            leaving = self.until_right_ends() => leaving,
            leaving = until_silent(&seat) => leaving,
            () = self.out.closed() => Leaving::Closed,
            () = self.control.stopped() => Leaving::Stopped,
        };
        // First: it has effect at the gateway before anything is waited for.
        drop(seat);
        let last = format!("# detached: {}\n", leaving.as_str());
        // Whoever does not read does not read this either.
        let _ = self.out.try_send(Ok(Bytes::from(last)));
        self.write_down(leaving).await;
    }

    async fn show<E: std::error::Error + 'static>(
        &self,
        view: impl Stream<Item = Result<Bytes, E>>,
    ) -> Leaving {
        let mut view = pin!(view);
        loop {
            let piece = match timeout(SIGN_OF_LIFE, view.next()).await {
                Ok(None) => return Leaving::SessionEnded,
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => {
                    let session_id = &self.session.id;
                    tracing::warn!(%session_id, error = &error as &dyn std::error::Error, "a live view broke");
                    return Leaving::Failed;
                }
                Err(_) => Bytes::from_static(b"#\n"),
            };
            match self.out.send_timeout(Ok(piece), PATIENCE).await {
                Ok(()) => {}
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Leaving::Slow,
                Err(mpsc::error::SendTimeoutError::Closed(_)) => return Leaving::Closed,
            }
        }
    }

    async fn until_right_ends(&self) -> Leaving {
        loop {
            tokio::time::sleep(RIGHT_CHECKED_EVERY).await;
            match self.still_may().await {
                Ok(true) => {}
                Ok(false) => return Leaving::RightEnded,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "could not check a joined person's right"
                    );
                    return Leaving::Failed;
                }
            }
        }
    }

    async fn still_may(&self) -> Result<bool, StoreError> {
        let caller = match authn::caller_again(&self.control, &self.caller).await {
            Ok(caller) => caller,
            Err(authn::BearerError::Unknown) => return Ok(false),
            Err(authn::BearerError::Store(error)) => return Err(error),
        };
        let has_rights = caller.is_permitted(AdminAction::RecordingPlay)
            && (!self.watcher.has_keyboard || caller.is_permitted(AdminAction::SessionJoin));
        Ok(has_rights && !is_locked(&self.control, &caller, &self.session).await?)
    }

    async fn write_down(&self, leaving: Leaving) {
        let event = Event::new(EventName::SessionLeft, &self.session.id)
            .with("watcher_id", &self.watcher.id)
            .with("reason", leaving.as_str());
        let written = async {
            let tx = self.control.db().begin(self.caller.actor()).await?;
            tx.commit(Events::one(event)).await
        };
        if let Err(error) = written.await {
            tracing::error!(
                session_id = %self.session.id,
                error = &error as &dyn std::error::Error,
                "could not write down that somebody left a session"
            );
        }
    }
}

async fn until_silent(seat: &Seat) -> Leaving {
    loop {
        if timeout(SILENCE_MAX, seat.heard()).await.is_err() {
            return Leaving::Silent;
        }
    }
}

/// Sends on what somebody who is joined typed; nothing typed only says that they are there.
pub(super) async fn type_at(
    control: &Control,
    caller: &Caller,
    session_id: &SessionId,
    watcher_id: &WatcherId,
    typed: Option<(u32, Vec<u8>)>,
) -> Result<(), JoinError> {
    let watcher = control
        .live()
        .watchers()
        .heard(session_id, watcher_id, &caller.person.id)
        .ok_or(JoinError::NotFound { noun: "watcher" })?;
    let Some((channel, bytes)) = typed else {
        return Ok(());
    };
    let keystrokes = Keystrokes::new(bytes);
    if keystrokes.expose().len() > KEYSTROKES_BYTES_MAX {
        return Err(JoinError::BadInput {
            problem: "is longer than 4 KiB",
        });
    }
    if !watcher.has_keyboard || !caller.is_permitted(AdminAction::SessionJoin) {
        return Err(JoinError::NoKeyboardRight);
    }
    let mut reader = control.db().read().await?;
    let session = store::session_by_id(&mut reader, session_id)
        .await?
        .filter(|session| session.is_live)
        .ok_or(JoinError::Ended)?;
    drop(reader);
    let push = Push::Typed {
        session_id: session_id.clone(),
        watcher_id: watcher_id.clone(),
        channel,
        keystrokes,
    };
    if control.live().push_if_roomy(&session.gateway_id, push) {
        Ok(())
    } else {
        Err(JoinError::Busy)
    }
}
