//! A TCP proxy in user space that makes a good network bad: far away, slow, stalled, cut.
//!
//! The kernels that tests run on have no delay to inject, so it is done here: what arrives is passed
//! on when its time has come, in order, both ways. Distance alone costs no bandwidth: as much as a fast
//! link carries in the longest delay may be under way. Used by tests, and by `cargo xtask bench`
//! through the program `delaying-proxy`.
//!
//! INVARIANT: bytes are passed on unchanged, in order, or the connection ends. Dropping the proxy ends
//! every connection.
//!
//! Not here: lost packets, which TCP hides from both ends anyway; a link that loses everything for a
//! while is [`Proxy::stall`].

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks under way in one direction: 256 MiB at most, more than a gigabyte a second in 150 ms.
const CHUNKS_MAX: usize = 4_096;

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Added to each direction: half of what is added to a round trip.
    pub delay: Duration,
    /// Bytes a second in each direction; as many as the machine can if there is none.
    pub bytes_per_s: Option<u64>,
}

/// A proxy in front of one address.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    accepted: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    is_stalled: bool,
    /// Both ends of every connection there is.
    streams: Vec<Weak<TcpStream>>,
}

impl Proxy {
    /// Starts a proxy on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no socket can be made.
    pub fn start(to: SocketAddr, link: Link) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")?;
        let address = listener.local_addr().context("read address")?;
        let shared = Arc::new(Shared::default());
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, to, link, &shared))
        };
        Ok(Self {
            address,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Passes nothing on any more, in either direction; connections stay open, as on a link that is
    /// gone without a word.
    pub fn stall(&self) {
        self.shared.change(|state| state.is_stalled = true);
    }

    /// Passes on again, beginning with what has waited.
    pub fn resume(&self) {
        self.shared.change(|state| state.is_stalled = false);
    }

    /// Ends every connection there is; new ones are served.
    pub fn cut(&self) {
        self.shared.change(cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.is_stopped = true;
            cut(state);
        });
        // Wakes the accepting thread; whether it still listens does not matter.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn cut(state: &mut State) {
    for stream in state.streams.drain(..).filter_map(|end| end.upgrade()) {
        // The other side may have been faster.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Keeps the ends of a connection where they can be cut; false once the proxy has stopped.
    fn keep(&self, ends: [&Arc<TcpStream>; 2]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.streams.retain(|end| end.strong_count() > 0);
        state.streams.extend(ends.map(Arc::downgrade));
        !state.is_stopped
    }

    fn is_stopped(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_stopped
    }

    /// Waits until `due`, and longer while the link is stalled; false once the proxy has stopped.
    fn wait_until(&self, due: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.is_stopped {
                return false;
            }
            let left = due.saturating_duration_since(now());
            state = if state.is_stalled {
                self.changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner)
            } else if left.is_zero() {
                return true;
            } else {
                self.changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the delay of a link is real time, whatever a test lets the product believe"
)]
fn now() -> Instant {
    Instant::now()
}

fn accept(listener: &TcpListener, to: SocketAddr, link: Link, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { return };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        // A connection that cannot be made on ends here, as by a network that refuses it.
        if !matches!(join(client, to, link, shared), Ok(true)) && shared.is_stopped() {
            return;
        }
    }
}

/// Connects on and starts both directions; false once the proxy has stopped.
fn join(client: TcpStream, to: SocketAddr, link: Link, shared: &Arc<Shared>) -> io::Result<bool> {
    let (client, server) = (Arc::new(client), Arc::new(TcpStream::connect(to)?));
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    if !shared.keep([&client, &server]) {
        return Ok(false);
    }
    let there = (Arc::clone(&client), Arc::clone(&server));
    for (from, into) in [there, (server, client)] {
        let shared = Arc::clone(shared);
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        std::thread::spawn(move || take_in(&from, link, &sender));
        std::thread::spawn(move || pass_on(&into, link, &receiver, &shared));
    }
    Ok(true)
}

/// What arrived, and when it is due; nothing stands for the end of the stream.
type Arrived = (Instant, Vec<u8>);

/// Reads until the stream ends or nobody takes the bytes any more.
fn take_in(mut from: &TcpStream, link: Link, sender: &SyncSender<Arrived>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        // A connection that was reset ends like one that was closed.
        let count = from.read(&mut buffer).unwrap_or(0);
        let chunk = buffer.get(..count).unwrap_or_default().to_vec();
        if sender.send((now() + link.delay, chunk)).is_err() || count == 0 {
            return;
        }
    }
}

/// Writes what is due.
fn pass_on(mut into: &TcpStream, link: Link, receiver: &Receiver<Arrived>, shared: &Shared) {
    let mut free = now();
    while let Ok((due, chunk)) = receiver.recv() {
        if chunk.is_empty() || !shared.wait_until(due.max(free)) {
            break;
        }
        if let Some(rate) = link.bytes_per_s.filter(|rate| *rate > 0) {
            free = now() + Duration::from_secs_f64(chunk.len() as f64 / rate as f64);
        }
        if into.write_all(&chunk).is_err() {
            break;
        }
    }
    // The other direction may go on.
    let _ = into.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with itself.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(std::result::Result::ok) {
                std::thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    let _ = io::copy(&mut &stream, &mut writer);
                    let _ = writer.shutdown(Shutdown::Write);
                });
            }
        });
        address
    }

    fn far(delay_ms: u64) -> Link {
        Link {
            delay: Duration::from_millis(delay_ms),
            bytes_per_s: None,
        }
    }

    fn round_trip(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(b"x")?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn given_a_delay_then_a_round_trip_takes_twice_as_long() {
        let proxy = Proxy::start(echo(), far(40)).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let start = now();
        assert_eq!(round_trip(&mut stream).unwrap(), b'x');
        assert!(start.elapsed() >= Duration::from_millis(80));
        assert_eq!(proxy.connections(), 1);
    }

    #[test]
    fn given_a_delay_then_bytes_arrive_in_order_and_do_not_wait_for_each_other() {
        let proxy = Proxy::start(echo(), far(50)).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let sent: Vec<u8> = (0..16_u32 << 18).flat_map(u32::to_le_bytes).collect();
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let start = now();
        let sending = std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        sending.join().unwrap();
        assert!(received == sent, "bytes were changed");
        // One chunk under way at a time would take 256 times 50 ms.
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn given_a_rate_then_bytes_take_their_time() {
        let link = Link {
            delay: Duration::ZERO,
            bytes_per_s: Some(1 << 20),
        };
        let proxy = Proxy::start(echo(), link).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let start = now();
        stream.write_all(&vec![7; 512 << 10]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 512 << 10);
        // The last chunk of each direction is passed on before its time is up.
        assert!(start.elapsed() >= Duration::from_millis(400));
    }

    #[test]
    fn given_a_stall_then_nothing_passes_until_it_is_over() {
        let proxy = Proxy::start(echo(), Link::default()).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        round_trip(&mut stream).unwrap();
        proxy.stall();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert!(round_trip(&mut stream).is_err());
        proxy.resume();
        stream.set_read_timeout(None).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn given_a_cut_then_both_ends_see_it_and_the_next_connection_is_served() {
        let proxy = Proxy::start(echo(), Link::default()).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        round_trip(&mut stream).unwrap();
        proxy.cut();
        assert!(round_trip(&mut stream).is_err());
        let mut next = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(round_trip(&mut next).unwrap(), b'x');
    }
}
