//! The sockets of the control plane: the API over TLS, and metrics and health over plain HTTP on
//! loopback.
//!
//! INVARIANT: a slow or silent client holds one connection slot and nothing else; handshakes and heads
//! of requests have a time limit, connections a number.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::{
    caller::ClientAddress,
    control::Control,
    health,
    http::Routes,
    task,
    tls::{self, TlsError},
};

/// Why the control plane does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address cannot be used.
    #[error("listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no TLS identity.
    #[error("make the server's TLS identity")]
    Tls(#[source] TlsError),
    /// Accepting failed for good.
    #[error("accept connections")]
    Accept(#[source] io::Error),
}

/// Sockets that are bound but not served yet.
#[derive(Debug)]
pub struct Listeners {
    api: TcpListener,
    health: TcpListener,
    tls: Arc<ServerConfig>,
}

/// Binds every socket.
///
/// # Errors
/// [`ListenError`].
pub async fn bind(control: &Control) -> Result<Listeners, ListenError> {
    let listen = &control.config().listen;
    let tls = tls::server_config(control.directory(), &listen.names).map_err(ListenError::Tls)?;
    Ok(Listeners {
        api: bind_one(listen.api).await?,
        health: bind_one(listen.health).await?,
        tls,
    })
}

async fn bind_one(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError::Bind { address, source })
}

impl Listeners {
    /// Addresses bound: API, then health.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.api.local_addr()?, self.health.local_addr()?))
    }

    /// Serves until the control plane stops; then lets open requests finish, for as long as
    /// `shutdown_grace` allows.
    ///
    /// # Errors
    /// [`ListenError::Accept`].
    pub async fn serve(self, routes: Routes, control: Control) -> Result<(), ListenError> {
        let listen = &control.config().listen;
        let slots = usize::try_from(listen.connections_max).unwrap_or(1_024);
        let api = Door {
            router: routes.into_router(control.clone()),
            tls: Some(TlsAcceptor::from(self.tls)),
            slots: Arc::new(Semaphore::new(slots)),
            control: control.clone(),
        };
        let open = Arc::clone(&api.slots);
        let health = Door {
            router: health::router(control.clone()),
            tls: None,
            slots: Arc::new(Semaphore::new(64)),
            control: control.clone(),
        };
        tokio::select! {
            ended = api.accept(self.api) => ended?,
            ended = health.accept(self.health) => ended?,
            () = control.stopped() => {}
        }
        // Every connection holds a slot, so all slots are free when the last one is done.
        let all = u32::try_from(slots).unwrap_or(u32::MAX);
        let grace = control.config().listen.shutdown_grace;
        if tokio::time::timeout(grace, open.acquire_many(all))
            .await
            .is_err()
        {
            tracing::warn!("requests were cut off when the control plane stopped");
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Door {
    router: Router,
    tls: Option<TlsAcceptor>,
    slots: Arc<Semaphore>,
    control: Control,
}

impl Door {
    async fn accept(self, listener: TcpListener) -> Result<(), ListenError> {
        loop {
            // A closed semaphore cannot happen; without a slot the client waits in the kernel's queue.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                return Ok(());
            };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(ListenError::Accept(error)),
            };
            let door = self.clone();
            task::spawn("HTTP connection", async move {
                door.serve(stream, peer).await;
                drop(slot);
            });
        }
    }

    async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.converse(stream, peer).await,
            Some(acceptor) => {
                let limit = self.control.config().listen.handshake_timeout;
                match tokio::time::timeout(limit, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => self.converse(stream, peer).await,
                    Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
                }
            }
        }
    }

    async fn converse<S>(&self, stream: S, peer: SocketAddr)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request
                .extensions_mut()
                .insert(ClientAddress(peer.ip().to_canonical()));
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        // HTTP/1.1 only: its time limit for heads bounds silent clients, and nothing here needs more.
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.control.config().listen.handshake_timeout);
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.control.stopped() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "an HTTP connection broke");
        }
    }
}

/// Running out of file descriptors passes; so does a client that left before it was accepted.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24 | 103 | 104))
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        )
}
