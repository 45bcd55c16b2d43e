//! Accepts connections for one protocol, within limits.
//!
//! Every connection is a task of its own, and has a [`Seat`]; so has one that a protocol carries within
//! another. INVARIANT: however it ends, by its protocol, by its login grace, by the gateway's stop or by
//! a panic, its stream is cut and its slots are free again.
//!
//! Not here: what is said on a connection (`protocols`), what it may do ([`crate::door`]).

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sallyport_core::time::{Clock, Timestamp};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Connection, LoginGrace},
    door::Door,
    node::Node,
    protocols::{Protocol, ServeError},
    stream::CutStream,
};

/// How long a protocol may take to say goodbye on a connection that is over.
const GOODBYE_TIME: Duration = Duration::from_secs(2);
/// Rest after accepting failed, as when the process has no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What all connections of a gateway count in together.
#[derive(Debug)]
pub(crate) struct Counts {
    connections: Arc<Semaphore>,
    unproven: Arc<Unproven>,
    next_number: AtomicU64,
}

impl Counts {
    pub(crate) fn new(connections_max: usize, per_source_max: usize, now: Timestamp) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))),
            unproven: Arc::new(Unproven {
                counts: Mutex::default(),
                per_source_max,
            }),
            // A proof is for one connection, so a number must not come back after a restart: a
            // million connections fit into each millisecond.
            next_number: AtomicU64::new(now.unix_ms().unsigned_abs() << 20),
        }
    }

    /// A seat for one more connection of `source`, or nothing when a limit is reached.
    pub(crate) fn take_seat(
        &self,
        source: IpAddr,
        cut: CancellationToken,
        grace: Duration,
        clock: &Arc<dyn Clock>,
    ) -> Option<Seat> {
        let Ok(place) = Arc::clone(&self.connections).try_acquire_owned() else {
            return turned_away("connections");
        };
        let Some(slot) = self.unproven.take(source) else {
            return turned_away("source");
        };
        let grace = Arc::new(LoginGrace::new(grace, Arc::clone(clock)));
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        Some(Seat {
            connection: Arc::new(Connection::new(number, source, cut, grace, Some(slot))),
            _place: place,
        })
    }
}

fn turned_away(limit: &'static str) -> Option<Seat> {
    metrics::counter!("sallyport_gateway_connections_refused_total", "limit" => limit).increment(1);
    None
}

/// One connection's place among all of the gateway, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) connection: Arc<Connection>,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    /// Serves the connection to its end, which its protocol, its login grace or its cut bring.
    pub(crate) async fn hold(
        self,
        mut serving: impl Future<Output = Result<(), ServeError>> + Unpin,
    ) {
        let connection = &self.connection;
        // Cut however this ends: a protocol's library may keep the stream in a task of its own.
        let cut = connection.cut.clone();
        let _cut_at_end = cut.clone().drop_guard();
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = connection.grace.used_up() => {
                cut.cancel();
                goodbye(&mut serving).await
            }
            () = cut.cancelled() => goodbye(&mut serving).await,
        };
        if let Err(error) = ended {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(connection = connection.number, error, "connection ended");
        }
    }
}

/// Connections of each source that have not proven who they are.
#[derive(Debug)]
pub(crate) struct Unproven {
    counts: Mutex<HashMap<IpAddr, usize>>,
    per_source_max: usize,
}

impl Unproven {
    fn take(self: &Arc<Self>, source: IpAddr) -> Option<UnprovenSlot> {
        let source = network_of(source);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= self.per_source_max {
            return None;
        }
        *count = count.saturating_add(1);
        drop(counts);
        Some(UnprovenSlot {
            unproven: Arc::clone(self),
            source,
        })
    }
}

/// One connection's place among those of its source that have not proven who they are.
#[derive(Debug)]
pub(crate) struct UnprovenSlot {
    unproven: Arc<Unproven>,
    source: IpAddr,
}

impl Drop for UnprovenSlot {
    fn drop(&mut self) {
        let mut counts = self
            .unproven
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// What one source is: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

/// One protocol's socket.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) node: Arc<Node>,
}

impl Listener {
    /// Accepts until `stop`. Connections are cut when `cut` is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken, cut: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &cut),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Starts serving a connection, or closes it when a limit is reached.
    fn admit(&self, stream: TcpStream, peer: SocketAddr, cut: &CancellationToken) {
        let node = &self.node;
        let seat = node.counts.take_seat(
            peer.ip().to_canonical(),
            cut.child_token(),
            node.limits.login_grace(),
            &node.clock,
        );
        if let Some(seat) = seat {
            let served = serve(stream, Arc::clone(&self.protocol), Arc::clone(node), seat);
            node.tasks.spawn("connection", served);
        }
    }
}

async fn serve(stream: TcpStream, protocol: Arc<dyn Protocol>, node: Arc<Node>, seat: Seat) {
    // Keystrokes and their echoes must not wait for more to send. If even this fails, the client is
    // gone already, and reading says so.
    let _: io::Result<()> = stream.set_nodelay(true);
    let stream = CutStream::new(stream, seat.connection.cut.clone());
    let door = Door::new(node, Arc::clone(&seat.connection), protocol.enforces());
    seat.hold(protocol.serve(stream, door)).await;
}

async fn goodbye(
    serving: &mut (impl Future<Output = Result<(), ServeError>> + Unpin),
) -> Result<(), ServeError> {
    timeout(GOODBYE_TIME, serving).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests;
