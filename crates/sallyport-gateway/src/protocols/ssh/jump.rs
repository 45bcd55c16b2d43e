//! Jumping through the gateway to a target (`ssh -J gateway account@target`): what OpenSSH does for
//! `ProxyJump` is to open a `direct-tcpip` channel (RFC 4254 section 7.2) to the second host's port 22 and
//! to speak SSH within it.
//!
//! A client that signs in without naming a target may do that, and nothing else. What it speaks within the
//! channel goes nowhere: the gateway answers it itself, as a new connection towards that target, with its
//! own proof of the person, decision, session and recording (`docs/adr/0021-jumps-end-at-the-gateway.md`).
//! So no byte of a jump leaves the gateway but through a session.
//!
//! INVARIANT: a channel of a jump reaches the gateway's own SSH and nothing else. Within a jump there is no
//! other.
//!
//! Not here: forwarding through a target, within a session (`relay`).

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use russh::server;
use sallyport_core::{authz::Reason, inventory::TargetName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};

use super::{
    channel::{ClientChannel, ClientEvent},
    inbox::Arrival,
    serve_stream,
};
use crate::door::InnerDoor;

/// The port that clients take a target's SSH to be on when they jump; what port the target really has is
/// the inventory's to say.
const SSH_PORT: u32 = 22;
/// Bytes of the inner connection that wait between it and its channel, in each direction.
const PIPE_BYTES: usize = 64 * 1024;

/// A jump that was let through as far as the gateway's own door.
pub(super) struct Jump {
    pub(super) door: InnerDoor,
    pub(super) target: TargetName,
    pub(super) channel: ClientChannel,
}

/// Where a jump goes. Whether there is such a target, and who may use it, is decided once the person has
/// proven again who they are; until then unknown and forbidden look the same.
///
/// # Errors
/// [`Reason::JumpRefused`] for what cannot be a target.
pub(super) fn destination(host: &str, port: u32) -> Result<TargetName, Reason> {
    match host.parse() {
        Ok(target) if port == SSH_PORT => Ok(target),
        _ => Err(Reason::JumpRefused),
    }
}

/// Serves a jump to its end. Boxed, because a connection serves jumps and a jump is a connection.
pub(super) fn serve(
    config: Arc<server::Config>,
    jump: Jump,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let Jump {
            door,
            target,
            channel,
        } = jump;
        let (inside, outside) = tokio::io::duplex(PIPE_BYTES);
        let serving = door.serve(inside, |stream, door| {
            serve_stream(config, stream, door, Some(target))
        });
        tokio::join!(serving, carry(&channel, outside));
        // A client that is gone needs no goodbye.
        let _ = channel.close().await;
    })
}

/// Moves bytes between the channel and the inner connection until either is over.
async fn carry(channel: &ClientChannel, outside: DuplexStream) {
    let (reader, writer) = tokio::io::split(outside);
    tokio::select! {
        () = inwards(channel, writer) => {}
        () = outwards(channel, reader) => {}
    }
}

async fn inwards(channel: &ClientChannel, mut writer: WriteHalf<DuplexStream>) {
    while let Some(arrival) = channel.inbox.next().await {
        let moved = match arrival {
            Arrival::Content((), bytes) => writer.write_all(&bytes).await,
            Arrival::Event(ClientEvent::Eof) => writer.shutdown().await,
            // Nothing is launched on a channel that carries a connection.
            Arrival::Event(_) => Ok(()),
        };
        if moved.is_err() {
            // The inner connection is over, and its last words may still be on their way.
            return std::future::pending().await;
        }
    }
}

async fn outwards(channel: &ClientChannel, mut reader: ReadHalf<DuplexStream>) {
    let mut buffer = vec![0; PIPE_BYTES];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let bytes = buffer.get(..count).map(Bytes::copy_from_slice);
        if channel.send(bytes.unwrap_or_default()).await.is_err() {
            return;
        }
    }
    // A client that is gone needs no end of its input.
    let _ = channel.eof().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GW-1: a jump names a target and nothing else; no address of anything else gets further.
    #[test]
    fn given_what_is_no_target_on_port_22_then_it_is_no_destination_of_a_jump() {
        assert_eq!(destination("web-2", 22).unwrap().as_str(), "web-2");
        for (host, port) in [
            ("web-2", 2_222),
            ("web-2", 0),
            ("web-2", 65_558),
            ("", 22),
            ("WEB-2", 22),
            ("::1", 22),
            ("web-2:22", 22),
            ("root@web-2", 22),
            ("/run/control.sock", 22),
            ("web-2\0.example", 22),
        ] {
            assert_eq!(
                destination(host, port),
                Err(Reason::JumpRefused),
                "{host:?}:{port}"
            );
        }
    }
}
