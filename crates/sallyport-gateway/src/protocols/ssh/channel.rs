//! One session channel of a client: what its callbacks put in, and how its task answers.
//!
//! INVARIANT: requests are answered in the callback, at once and in order; their consequences, and
//! everything that may wait, belong to the channel's task.
//!
//! Not here: the task (`relay`), the callbacks (`visitor`).

use std::sync::Arc;

use bytes::Bytes;
use russh::{ChannelWriteHalf, Pty, Sig, server};
use sallyport_core::{authz::Reason, session::Operation};
use sallyport_evidence::recording;
use tokio::sync::Mutex;

use super::{inbox::Inbox, limits, operations::Launch, wording};

/// The number of standard error among a channel's streams (RFC 4254 section 5.2).
pub(super) const STDERR: u32 = 1;

/// A terminal that a client asks for.
#[derive(Clone, Debug)]
pub(super) struct PtyRequest {
    pub(super) term: String,
    pub(super) size: Size,
    pub(super) modes: Vec<(Pty, u32)>,
}

impl PtyRequest {
    /// As recordings hold it.
    pub(super) fn recorded(&self) -> recording::Pty<'_> {
        recording::Pty {
            term: &self.term,
            columns: self.size.columns,
            rows: self.size.rows,
        }
    }
}

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) width_pixels: u32,
    pub(super) height_pixels: u32,
}

/// What a client says on a channel, besides bytes.
#[derive(Debug)]
pub(super) enum ClientEvent {
    /// A terminal, before the launch.
    Pty(PtyRequest),
    /// An environment variable that may be passed on, before the launch.
    Env(String, String),
    /// One that policy lets pass, and the operation that this is.
    DecidedEnv(String, String, Operation),
    /// Something beside the launch that was refused.
    Refused(Operation, Reason),
    /// The target may use the client's agent, for what is launched.
    Agent,
    /// What the channel is for.
    Launch(Launch),
    /// What the channel was for, were it offered.
    RefusedLaunch(Operation, Reason),
    /// The terminal has another size.
    Resize(Size),
    /// A signal for the process.
    Signal(Sig),
    /// It sends no more bytes.
    Eof,
}

pub(super) type ClientInbox = Inbox<(), ClientEvent>;

/// The client's end of a channel.
pub(super) struct ClientChannel {
    /// What arrived.
    pub(super) inbox: Arc<ClientInbox>,
    /// Whoever sends must send whole messages of the protocol within.
    pub(super) writer: Mutex<ChannelWriteHalf<server::Msg>>,
    handle: server::Handle,
    id: russh::ChannelId,
}

/// The client's connection is gone.
#[derive(Debug, thiserror::Error)]
#[error("send to the client")]
pub(super) struct ClientGone;

impl ClientChannel {
    pub(super) fn new(
        inbox: Arc<ClientInbox>,
        writer: ChannelWriteHalf<server::Msg>,
        handle: server::Handle,
    ) -> Self {
        Self {
            id: writer.id(),
            inbox,
            writer: Mutex::new(writer),
            handle,
        }
    }

    /// Sends bytes to standard output. Waits while the client's window is used up.
    pub(super) async fn send(&self, bytes: Bytes) -> Result<(), ClientGone> {
        let writer = self.writer.lock().await;
        writer.data_bytes(bytes).await.map_err(|_| ClientGone)
    }

    /// Sends bytes to standard error. Waits while the client's window is used up.
    pub(super) async fn send_error(&self, bytes: Bytes) -> Result<(), ClientGone> {
        let writer = self.writer.lock().await;
        writer
            .extended_data_bytes(STDERR, bytes)
            .await
            .map_err(|_| ClientGone)
    }

    /// Tells the person something on standard error.
    pub(super) async fn tell(&self, text: &str, has_pty: bool) -> Result<(), ClientGone> {
        let mut text = text.to_owned();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        if has_pty {
            text = wording::for_terminal(&text);
        }
        self.send_error(Bytes::from(text)).await
    }

    /// No more bytes will follow.
    pub(super) async fn eof(&self) -> Result<(), ClientGone> {
        self.handle.eof(self.id).await.map_err(|()| ClientGone)
    }

    /// The process ended.
    pub(super) async fn exit_status(&self, status: u32) -> Result<(), ClientGone> {
        self.handle
            .exit_status_request(self.id, status)
            .await
            .map_err(|()| ClientGone)
    }

    /// The process was ended by a signal.
    pub(super) async fn exit_signal(
        &self,
        signal: Sig,
        core_dumped: bool,
        message: String,
    ) -> Result<(), ClientGone> {
        self.handle
            .exit_signal_request(self.id, signal, core_dumped, message, String::new())
            .await
            .map_err(|()| ClientGone)
    }

    /// The channel is over.
    pub(super) async fn close(&self) -> Result<(), ClientGone> {
        self.handle.close(self.id).await.map_err(|()| ClientGone)
    }

    /// Ends a channel that was refused: the reason is on standard error already.
    pub(super) async fn close_refused(&self) -> Result<(), ClientGone> {
        self.exit_status(limits::EXIT_REFUSED).await?;
        self.eof().await?;
        self.close().await
    }
}

/// A signal's name, as in RFC 4254 section 6.10.
pub(super) fn signal_name(signal: &Sig) -> &str {
    match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    }
}
