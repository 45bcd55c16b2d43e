//! A connection that a client speaks within another one, as when it jumps through the gateway.
//!
//! INVARIANT: it is a connection like any other: counted in the same limits, with its own number, login
//! grace, proofs and at most one session. It ends with the one that carries it, and carries none itself.
//!
//! Not here: how a protocol carries it (`protocols`).

use std::sync::Arc;

use super::Door;
use crate::{connection::Pause, listener::Seat, protocols::ServeError, stream::CutStream};

/// The way in for a connection within another.
#[derive(Debug)]
pub struct InnerDoor {
    door: Door,
    seat: Seat,
    /// Whoever is on the way is not idling at the outer door.
    _grace: Pause,
}

impl Door {
    /// A door for a connection within this one, or nothing: a limit is reached, or this one is itself
    /// within another.
    #[must_use]
    pub fn inner(&self) -> Option<InnerDoor> {
        if self.is_inner {
            return None;
        }
        let node = &self.node;
        let seat = node.counts.take_seat(
            self.connection.source,
            self.connection.cut.child_token(),
            node.limits.login_grace(),
            &node.clock,
        )?;
        let connection = seat.connection.number;
        tracing::debug!(connection, within = self.connection.number, "a jump begins");
        Some(InnerDoor {
            door: Door {
                is_inner: true,
                ..Self::new(
                    Arc::clone(node),
                    Arc::clone(&seat.connection),
                    self.enforced,
                )
            },
            seat,
            _grace: self.connection.grace.pause(),
        })
    }
}

impl InnerDoor {
    /// Serves the connection, whose bytes are `stream`, to its end.
    pub async fn serve<S, F>(self, stream: S, serve: impl FnOnce(CutStream<S>, Door) -> F)
    where
        F: Future<Output = Result<(), ServeError>>,
    {
        let stream = CutStream::new(stream, self.seat.connection.cut.clone());
        let serving = Box::pin(serve(stream, self.door));
        self.seat.hold(serving).await;
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        config::Limits, connection::GraceLeft, recorder::RecordingDirectory, testing::Harness,
    };

    use super::*;

    fn harness(connections_max: usize) -> Harness {
        let directory = tempfile::tempdir().unwrap();
        let recordings = RecordingDirectory::open(directory.path().join("recordings")).unwrap();
        let limits = Limits {
            connections_max,
            ..Limits::default()
        };
        Harness::with(directory, Arc::new(recordings), limits)
    }

    /// GW-1
    #[tokio::test]
    async fn given_a_door_within_another_then_there_is_none_within_it() {
        let harness = harness(10);
        let inner = harness.door().inner().unwrap();
        assert!(inner.door.inner().is_none());
    }

    /// GW-1: whoever jumps cannot get more connections than whoever does not.
    #[tokio::test]
    async fn given_no_place_is_left_then_there_is_no_door_within_until_one_is_free() {
        let harness = harness(2);
        let door = harness.door();
        let first = door.inner().unwrap();
        let second = door.inner().unwrap();
        assert_ne!(first.door.connection(), second.door.connection());
        assert!(door.inner().is_none());
        drop(first);
        assert!(door.inner().is_some());
    }

    /// GW-12: what ends the connection that carries another ends both, and carrying one is not idling.
    #[tokio::test]
    async fn given_a_door_within_another_then_it_is_cut_with_it_and_stops_its_login_grace() {
        let harness = harness(10);
        let door = harness.door();
        let inner = door.inner().unwrap();
        assert_eq!(door.connection.grace.left(), GraceLeft::Stopped);
        assert_ne!(inner.door.connection.grace.left(), GraceLeft::Stopped);
        door.connection.cut.cancel();
        assert!(inner.door.connection.cut.is_cancelled());
        drop(inner);
        assert_ne!(door.connection.grace.left(), GraceLeft::Stopped);
    }
}
