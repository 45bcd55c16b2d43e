//! When a role stops: a signal, or the end of standard input for one that is supervised.

use std::{io, os::fd::AsFd as _};

use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::failure::Failure;

/// Waits for the reason to stop. Made at the start, so that no signal is missed or kills.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
    supervisor: Option<pipe::Receiver>,
}

impl Stop {
    /// Listens from now on.
    pub fn listen(is_supervised: bool) -> Result<Self, Failure> {
        let listen = || -> io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                supervisor: if is_supervised {
                    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
                    Some(pipe::Receiver::from_owned_fd(stdin)?)
                } else {
                    None
                },
            })
        };
        listen().map_err(|error| Failure::of(&error, "check the limits of this process"))
    }

    /// Resolves when the role is to stop.
    pub async fn wait(mut self) {
        let supervisor_gone = async {
            match &mut self.supervisor {
                Some(pipe) => {
                    let mut rest = [0_u8; 64];
                    // Nothing is ever written; the end, or an error, means nobody watches any more.
                    while pipe.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = supervisor_gone => {}
        }
    }
}
