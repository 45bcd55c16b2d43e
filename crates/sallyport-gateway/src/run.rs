//! Starts a gateway and stops it in order.
//!
//! INVARIANT: nothing is accepted before the spool of the last run was read, and the gateway has
//! stopped only when every session's end is kept.
//!
//! Not here: arguments, signals, `/metrics` (the binary's role).

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sallyport_api::gateway::Entrance;
use sallyport_core::{
    entropy::Entropy,
    id::{GatewayId, ParseIdError},
    time::Clock,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    config::GatewayConfig,
    control::ControlPlane,
    directives::{Directives, ReadBundle},
    listener::{Counts, Listener},
    live::LiveSessions,
    node::Node,
    outbox::{Carrier, outbox},
    protocols::{self, Protocol, ProtocolSetup, SetupError},
    recorder::{RecorderError, RecordingDirectory},
    rpc::{RpcClient, RpcSettings},
    sealing::{SealingKey, UnsealError},
    spool::{Spool, SpoolError},
    tasks::Tasks,
    tls::{TlsError, TlsIdentity},
};

/// How often sessions are looked at whose time may be over.
const SWEEP_EVERY: Duration = Duration::from_millis(200);
/// How long the end of the gateway may take, in three parts: sessions, then evidence, then the rest.
const SESSIONS_STOP: Duration = Duration::from_secs(10);
const EVIDENCE_STOP: Duration = Duration::from_secs(5);
const TASKS_STOP: Duration = Duration::from_secs(5);

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The file system refused.
    #[error("{attempt} `{path}`")]
    Io {
        /// What was being done.
        attempt: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Two processes would write one spool.
    #[error("use data directory `{path}`, which another gateway is using")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The file that holds the gateway's id holds something else.
    #[error("read the gateway's id from `{path}`")]
    Id {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ParseIdError,
    },
    /// What the last run left cannot be read, or a new spool cannot be made.
    #[error("open the spool")]
    Spool(#[source] SpoolError),
    /// The directory of recordings cannot be used.
    #[error("open the directory of recordings")]
    Recordings(#[source] RecorderError),
    /// No sealing key could be made.
    #[error("make the sealing key")]
    SealingKey(#[source] UnsealError),
    /// No TLS key could be made.
    #[error("make the TLS identity")]
    Tls(#[source] TlsError),
    /// A protocol cannot be offered.
    #[error("set up the protocols")]
    Protocol(#[source] SetupError),
    /// The address is taken or not ours.
    #[error("listen on {address} for `{protocol}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The protocol.
        protocol: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// A gateway that has its sockets and serves nobody yet.
pub struct Gateway {
    node: Arc<Node>,
    client: Arc<RpcClient>,
    carrier: Carrier,
    listeners: Vec<Listener>,
    addresses: Vec<(String, SocketAddr)>,
    /// Held while the gateway runs.
    _lock: File,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Runs a gateway until `shutdown` resolves.
///
/// # Errors
/// [`GatewayError`] when it cannot start. Once started it goes on, with or without control.
pub async fn run(
    config: GatewayConfig,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    Gateway::bind(config, clock, entropy)
        .await?
        .run(shutdown)
        .await;
    Ok(())
}

impl Gateway {
    /// Makes everything ready and binds the sockets.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing is left half-done.
    pub async fn bind(
        config: GatewayConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, GatewayError> {
        let data = &config.data_directory;
        make_directory(data)?;
        let lock = lock(data)?;
        let gateway_id = gateway_id(data, clock.as_ref(), entropy.as_ref())?;
        let spool = Spool::open(data.join("spool"), config.limits.spool_bytes_max)
            .map_err(GatewayError::Spool)?;
        let recordings =
            RecordingDirectory::open(data.join("recordings")).map_err(GatewayError::Recordings)?;
        let sealing_key = SealingKey::generate().map_err(GatewayError::SealingKey)?;

        let live = Arc::new(LiveSessions::new(config.limits.connections_max));
        let directives = Arc::new(Directives::new(Arc::clone(&live), READ_BUNDLE));
        let tls = Arc::new(TlsIdentity::generate().map_err(GatewayError::Tls)?);
        let doorways = bind_sockets(&config, &tls).await?;
        let settings = RpcSettings {
            socket: config.control_socket.clone(),
            gateway_id: gateway_id.clone(),
            sealing_key: sealing_key.public().to_vec(),
            entrances: doorways.iter().map(Doorway::entrance).collect(),
            tls,
            call_timeout: config.limits.call_timeout(),
            silence: config.limits.control_silence(),
        };
        let client = Arc::new(RpcClient::new(
            settings,
            Arc::clone(&directives),
            Arc::clone(&clock),
        ));
        let control: Arc<dyn ControlPlane> = Arc::clone(&client) as _;
        let (outbox, carrier) = outbox(
            spool,
            Arc::clone(&control),
            Arc::clone(&live),
            Arc::clone(&clock),
        );
        let node = Arc::new(Node {
            gateway_id,
            counts: Counts::new(
                config.limits.connections_max,
                config.limits.unauthenticated_per_source_max,
                clock.now(),
            ),
            limits: config.limits.clone(),
            clock,
            entropy,
            control,
            directives,
            live,
            outbox,
            recordings: Arc::new(recordings),
            sealing_key,
            redaction: crate::redaction::RuleShelf::default(),
            tasks: Tasks::default(),
        });
        let addresses = doorways
            .iter()
            .map(|doorway| (doorway.kind.clone(), doorway.address))
            .collect();
        let listeners = listen(doorways, &node);
        Ok(Self {
            node,
            client,
            carrier,
            listeners,
            addresses,
            _lock: lock,
        })
    }

    /// The protocols' kinds and the addresses they are bound to.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Serves until `shutdown` resolves, then ends every session and keeps its evidence.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        // They stop in this order: a later one serves the earlier ones' ends.
        let accepting = CancellationToken::new();
        let connections = CancellationToken::new();
        let evidence = CancellationToken::new();
        let control = CancellationToken::new();
        // It stays zero; a metric that appears only when things go wrong cannot be watched.
        metrics::counter!("sallyport_unrecorded_sessions_total").increment(0);

        let node = Arc::clone(&self.node);
        let client = Arc::clone(&self.client);
        let stop = control.clone();
        node.tasks
            .spawn("control", async move { client.run(stop).await });
        let carrying = node.tasks.spawn(
            "evidence",
            self.carrier.run(evidence.clone(), EVIDENCE_STOP),
        );
        node.tasks
            .spawn("sweep", sweep(Arc::clone(&node), control.clone()));
        for listener in self.listeners {
            node.tasks.spawn(
                "listener",
                listener.run(accepting.clone(), connections.clone()),
            );
        }
        tracing::info!(gateway_id = %node.gateway_id, addresses = ?self.addresses, "gateway started");

        shutdown.await;
        tracing::info!("gateway stopping");
        accepting.cancel();
        node.live.close(node.clock.now());
        let _ = tokio::time::timeout(SESSIONS_STOP, all_closed(&node)).await;
        connections.cancel();
        evidence.cancel();
        let _ = carrying.await;
        control.cancel();
        if tokio::time::timeout(TASKS_STOP, node.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some tasks did not stop in time");
        }
    }
}

const READ_BUNDLE: ReadBundle = |text| match sallyport_policy::Bundle::from_text(text) {
    Ok(bundle) => Ok(Arc::new(bundle)),
    Err(error) => Err(Box::new(error)),
};

/// A protocol with the socket its clients come to; nobody is accepted yet.
struct Doorway {
    protocol: Arc<dyn Protocol>,
    kind: String,
    socket: TcpListener,
    address: SocketAddr,
}

impl Doorway {
    /// As control tells it to people who sign in.
    fn entrance(&self) -> Entrance {
        Entrance {
            protocol: self.kind.clone(),
            port: self.address.port(),
            identities: self.protocol.identities(),
        }
    }
}

async fn bind_sockets(
    config: &GatewayConfig,
    tls: &Arc<TlsIdentity>,
) -> Result<Vec<Doorway>, GatewayError> {
    let setup = ProtocolSetup {
        data_directory: config.data_directory.clone(),
        limits: config.limits.clone(),
        ssh_key_exchange: config.ssh_key_exchange,
        tls: Arc::clone(tls),
    };
    let mut doorways = Vec::new();
    for protocol in protocols::all(&setup).map_err(GatewayError::Protocol)? {
        let kind = protocol.describe().kind;
        let Some(address) = config.listen(&kind) else {
            continue;
        };
        let refused = |source| GatewayError::Listen {
            address,
            protocol: kind.clone(),
            source,
        };
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        doorways.push(Doorway {
            protocol,
            kind,
            socket,
            address,
        });
    }
    Ok(doorways)
}

fn listen(doorways: Vec<Doorway>, node: &Arc<Node>) -> Vec<Listener> {
    doorways
        .into_iter()
        .map(|doorway| Listener {
            socket: doorway.socket,
            protocol: doorway.protocol,
            node: Arc::clone(node),
        })
        .collect()
}

async fn sweep(node: Arc<Node>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => node.directives.sweep(node.clock.now()),
            () = stop.cancelled() => return,
        }
    }
}

async fn all_closed(node: &Node) {
    while !node.live.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn at(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GatewayError {
    let path = path.to_owned();
    move |source| GatewayError::Io {
        attempt,
        path,
        source,
    }
}

fn make_directory(path: &Path) -> Result<(), GatewayError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(at("make directory", path))
}

fn lock(data: &Path) -> Result<File, GatewayError> {
    let path = data.join("gateway.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(at("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(GatewayError::InUse {
            path: data.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(GatewayError::Io {
            attempt: "lock",
            path,
            source,
        }),
    }
}

/// The gateway's own id: made at the first start, the same ever after.
fn gateway_id(
    data: &Path,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<GatewayId, GatewayError> {
    let path = data.join("gateway-id");
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|source| GatewayError::Id { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = GatewayId::new(clock.now(), entropy.draw());
            // Written whole or not at all: a torn id would keep the gateway from starting.
            let new = data.join("gateway-id.new");
            let mut file = File::create(&new).map_err(at("make", &new))?;
            writeln!(file, "{id}")
                .and_then(|()| file.sync_all())
                .map_err(at("write", &new))?;
            fs::rename(&new, &path).map_err(at("make", &path))?;
            Ok(id)
        }
        Err(source) => Err(GatewayError::Io {
            attempt: "read",
            path,
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
