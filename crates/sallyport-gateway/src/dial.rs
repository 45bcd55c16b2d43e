//! Reaching a target: directly over TCP, within a time.
//!
//! INVARIANT: called with an address that came with a verified permit: by `Session::dial`, and by a
//! [`WayToStop`] that a session gave out.

use std::{io, time::Duration};

use tokio::net::TcpStream;

/// Why a target was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answered in time.
    #[error("reach target at `{address}` within {timeout_s} s")]
    TimedOut {
        /// Where.
        address: String,
        /// How long was waited.
        timeout_s: u64,
    },
    /// The name does not resolve, or the connection was refused.
    #[error("reach target at `{address}`")]
    Connect {
        /// Where.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The session ended first.
    #[error("reach target of a session that is over")]
    SessionOver(#[source] crate::session::SessionOver),
}

/// The way to a target on which nothing is asked but to stop what a session began there. It outlives the
/// session: what still runs when a grant ends must not run on.
#[derive(Clone, Debug)]
pub struct WayToStop {
    address: String,
    timeout: Duration,
}

impl WayToStop {
    /// Called by a session alone.
    pub(crate) const fn new(address: String, timeout: Duration) -> Self {
        Self { address, timeout }
    }

    /// Connects to the target.
    ///
    /// # Errors
    /// [`DialError::TimedOut`] or [`DialError::Connect`].
    pub async fn dial(&self) -> Result<TcpStream, DialError> {
        dial(&self.address, self.timeout).await
    }
}

/// Connects to `address`, a `host:port`.
///
/// # Errors
/// [`DialError::TimedOut`] or [`DialError::Connect`].
pub(crate) async fn dial(address: &str, timeout: Duration) -> Result<TcpStream, DialError> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        // Keystrokes and their echoes must not wait for more to send.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    match tokio::time::timeout(timeout, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(DialError::Connect {
            address: address.to_owned(),
            source,
        }),
        Err(_) => Err(DialError::TimedOut {
            address: address.to_owned(),
            timeout_s: timeout.as_secs(),
        }),
    }
}
