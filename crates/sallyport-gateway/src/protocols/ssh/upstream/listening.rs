//! Places where the target listens for the client: one connection of the session for all of them.
//!
//! INVARIANT: the target is asked only for what was permitted. A place is expected before the target hears
//! of it, one whose port the target chooses from its answer on. When the connection is lost, so is the session: nobody could say that nothing comes in
//! any more.
//!
//! Not here: deciding (`forward`), the connections that come in (`side`, `forward`).

use std::sync::Arc;

use sallyport_core::session::{EndReason, OperationOutcome};
use tokio::time::timeout;

use super::{TargetConnection, Targets, UpstreamError, asked::Listener};
use crate::{
    protocols::ssh::{
        destination::ListenPlace,
        limits::{LISTENERS_MAX, TARGET_ANSWER_TIME},
    },
    session::{OperationResult, RunningOperation},
};

/// The connection of a session whose target listens, once there is one.
#[derive(Default)]
pub(in crate::protocols::ssh) struct Listening(Option<Arc<TargetConnection>>);

/// Why the target does not listen. The person gets no word of it: SSH has none in this answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::protocols::ssh) enum ListenError {
    /// The session has enough of them, or this one already.
    #[error("listen in one more place: {LISTENERS_MAX} at one time, each once")]
    TooMany,
    /// The target cannot be used.
    #[error("reach the target to listen there")]
    Upstream(#[source] UpstreamError),
    /// It says no.
    #[error("have the target listen")]
    Refused(#[source] russh::Error),
    /// It did not answer.
    #[error("wait for the target to listen")]
    TimedOut,
}

impl Targets {
    /// Has the target listen in `place`. The port it listens on; 0 for a socket.
    ///
    /// # Errors
    /// [`ListenError`]; the target does not listen, and `running` ends with that.
    pub(in crate::protocols::ssh) async fn listen(
        &self,
        place: ListenPlace,
        running: RunningOperation,
    ) -> Result<u32, ListenError> {
        let connection = match self.listening_connection().await {
            Ok(connection) if connection.asked().listeners() >= LISTENERS_MAX => {
                Err(ListenError::TooMany)
            }
            Ok(connection) if connection.asked().has(&place) => Err(ListenError::TooMany),
            answer => answer,
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                running.finish(OperationOutcome::FailedAtTarget, OperationResult::default());
                return Err(error);
            }
        };
        let asked = connection.asked();
        let mut running = Some(running);
        if let Some((port, running)) = place
            .known_port()
            .zip(running.take_if(|_| place.known_port().is_some()))
        {
            // Before the target hears of it: what comes in at once is expected already.
            asked.want(Listener {
                place: place.clone(),
                port,
                running,
            });
        }
        match ask_to_listen(&connection, &place).await {
            Ok(port) => {
                if let Some(running) = running {
                    asked.want(Listener {
                        place,
                        port,
                        running,
                    });
                }
                Ok(port)
            }
            Err(error) => {
                let running = running.or_else(|| asked.forget(&place).map(|one| one.running));
                if let Some(running) = running {
                    running.finish(OperationOutcome::FailedAtTarget, OperationResult::default());
                }
                Err(error)
            }
        }
    }

    /// Has the target listen there no longer. Whether it did.
    pub(in crate::protocols::ssh) async fn stop_listening(&self, place: &ListenPlace) -> bool {
        let Some(connection) = self.listening.lock().await.0.clone() else {
            return false;
        };
        // First: what comes in from now on is not wanted any more.
        let Some(listener) = connection.asked().forget(place) else {
            return false;
        };
        let handle = connection.handle();
        let answer = async {
            match &listener.place {
                ListenPlace::Address { host, .. } => {
                    handle
                        .cancel_tcpip_forward(host.as_str(), listener.port)
                        .await
                }
                ListenPlace::Socket { path, .. } => {
                    handle.cancel_streamlocal_forward(path.as_str()).await
                }
            }
        };
        let is_stopped = matches!(timeout(TARGET_ANSWER_TIME, answer).await, Ok(Ok(())));
        let outcome = match is_stopped {
            true => OperationOutcome::Completed,
            false => OperationOutcome::Interrupted,
        };
        listener.running.finish(outcome, OperationResult::default());
        is_stopped
    }

    async fn listening_connection(&self) -> Result<Arc<TargetConnection>, ListenError> {
        let mut listening = self.listening.lock().await;
        if let Some(connection) = &listening.0 {
            return Ok(Arc::clone(connection));
        }
        let connection = self.connect().await.map_err(ListenError::Upstream)?;
        let connection = Arc::new(connection);
        listening.0 = Some(Arc::clone(&connection));
        drop(listening);
        let (session, watched) = (Arc::clone(&self.session), Arc::downgrade(&connection));
        // Dropped handle: the task ends with the session or the connection.
        drop(self.session.spawn("watch a listening target", async move {
            let dead = async {
                if let Some(connection) = watched.upgrade() {
                    connection.lost().await;
                    session.end(EndReason::TargetClosed);
                }
            };
            tokio::select! {
                () = dead => {}
                _ = session.ended() => {}
            }
        }));
        Ok(connection)
    }
}

/// Asks the target. The port it listens on; 0 for a socket.
async fn ask_to_listen(
    connection: &TargetConnection,
    place: &ListenPlace,
) -> Result<u32, ListenError> {
    let handle = connection.handle();
    let answer = async {
        match place {
            ListenPlace::Address { host, port, .. } => {
                let given = handle
                    .tcpip_forward(host.as_str(), u32::from(*port))
                    .await?;
                // Only a port that was left open is named in the answer.
                Ok(if *port == 0 { given } else { u32::from(*port) })
            }
            ListenPlace::Socket { path, .. } => {
                handle.streamlocal_forward(path.as_str()).await.map(|()| 0)
            }
        }
    };
    timeout(TARGET_ANSWER_TIME, answer)
        .await
        .map_err(|_| ListenError::TimedOut)?
        .map_err(ListenError::Refused)
}
