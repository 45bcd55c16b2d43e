//! Speaking TLS with a target, whatever protocol asks for it and speaks inside: what is not recognised is
//! reported, and what may be pinned is.
//!
//! INVARIANT: a stream comes out of here only after the target has proven an accepted identity (security
//! class G2).
//!
//! Not here: whom to believe (`sallyport-wire`), how TLS is asked for and the login inside (each protocol's
//! `upstream`).

use sallyport_core::{authz::Reason, session::EndReason};
use sallyport_wire::trust::{TlsTrust, Trust, TrustError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{control::ControlError, session::Session};

/// Why a target is not recognised. The log gets the chain; the person gets [`RecognitionError::reason`].
#[derive(Debug, thiserror::Error)]
pub(super) enum RecognitionError {
    /// TLS failed.
    #[error("speak TLS with the target")]
    Tls(#[source] rustls::Error),
    /// The connection broke.
    #[error("speak TLS with the target")]
    Io(#[source] std::io::Error),
    /// Its certificate or key is none of the accepted ones. Already reported.
    #[error("recognise the target: its certificate is not an accepted one")]
    IdentityChanged,
    /// It is not known by what the target is recognised.
    #[error("know the target")]
    Trust(#[from] TrustError),
    /// The key could not be pinned.
    #[error("pin the target's key")]
    Pin(#[source] ControlError),
}

impl RecognitionError {
    /// What the person is told.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::IdentityChanged => Reason::HostKeyChanged,
            Self::Trust(_) => Reason::HostKeyUnknown,
            Self::Pin(error) => error.reason(),
            Self::Tls(_) | Self::Io(_) => Reason::TargetUnreachable,
        }
    }

    /// Why the session is over because of it.
    pub(super) const fn end_reason(&self) -> EndReason {
        match self {
            Self::IdentityChanged => EndReason::HostKeyChanged,
            _ => EndReason::TargetUnreachable,
        }
    }
}

/// By what the target of `session` is recognised. Inside TLS `alpn` is named.
///
/// # Errors
/// [`RecognitionError::Trust`].
pub(super) fn trust_of(session: &Session, alpn: &[&[u8]]) -> Result<Trust, RecognitionError> {
    let (identities, pins_first) = (session.host_keys(), session.pins_first_host_key());
    Ok(Trust::read(
        identities,
        pins_first,
        session.address(),
        alpn,
    )?)
}

/// Speaks TLS on a stream whose other end is ready for it.
///
/// # Errors
/// [`RecognitionError::Tls`] or [`RecognitionError::Io`].
pub(super) async fn shake<S>(stream: S, tls: &TlsTrust) -> Result<TlsStream<S>, RecognitionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(tls.config());
    connector
        .connect(tls.name(), stream)
        .await
        .map_err(|error| match error.downcast::<rustls::Error>() {
            Ok(error) => RecognitionError::Tls(error),
            Err(error) => RecognitionError::Io(error),
        })
}

/// As [`shake`], on a session's first connection. Returns what is accepted from now on as well.
///
/// # Errors
/// [`RecognitionError`].
pub(super) async fn introduce<S>(
    session: &Session,
    stream: S,
    tls: &TlsTrust,
) -> Result<(TlsStream<S>, TlsTrust), RecognitionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = match shake(stream, tls).await {
        Err(RecognitionError::Tls(rustls::Error::InvalidCertificate(why))) => {
            tracing::warn!(session_id = %session.id(), %why, "a target is not recognised");
            if let Some(seen) = tls.refused()
                && let Err(error) = session.report_host_key(seen).await
            {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(session_id = %session.id(), error, "an unknown key could not be reported");
            }
            return Err(RecognitionError::IdentityChanged);
        }
        shaken => shaken?,
    };
    if let Some(seen) = tls.seen() {
        session
            .pin_host_key(seen)
            .await
            .map_err(RecognitionError::Pin)?;
    }
    Ok((stream, tls.settled()?))
}
