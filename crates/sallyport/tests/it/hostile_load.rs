//! Strangers who connect and stall, by the hundred, on every listener: honest people get in all the same.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use sallyport_testkit::effort::rounds;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
    time::timeout,
};

use crate::{
    node::Role,
    ssh::said,
    waiting::{PATIENCE, within},
    world::{ROOT, World},
};

/// How a stranger wastes a connection.
#[derive(Clone, Copy, Debug)]
enum Stall {
    /// Says nothing.
    Silent,
    /// The first bytes of the protocol, one every tick, and never the last.
    Drip(&'static [u8]),
    /// A beginning, then nothing.
    Begun(&'static [u8]),
}

/// What an SSH client, a TLS client and an HTTP client would begin with.
const SSH_VERSION: &[u8] = b"SSH-2.0-OpenSSH_9.2 and a comment that goes on and on and on for ever";
const SSH_BEGUN: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n\x00\x00\x05\xdc\x06\x14aaaaaaaaaaaaaaaa";
const TLS_HELLO: &[u8] =
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const HTTP_HEAD: &[u8] =
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaa";

/// A connection from an address of this machine's loopback network.
async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    let connecting = timeout(PATIENCE, socket.connect(to));
    connecting.await.ok()?.ok()
}

/// Opens connections and stalls on them, until it is dropped.
struct Strangers {
    open: Vec<(TcpStream, Stall, usize)>,
}

impl Strangers {
    async fn connect(to: SocketAddr, network: u8, count: usize, stalls: &[Stall]) -> Self {
        let mut open = Vec::new();
        for turn in 0..count {
            // As a botnet: a new source for every forty connections.
            let host = u8::try_from(turn / 40 + 1).unwrap();
            let source = Ipv4Addr::new(127, network, 0, host);
            let stall = stalls[turn % stalls.len()];
            if let Some(mut stream) = connect_from(source, to).await {
                if let Stall::Begun(bytes) = stall {
                    let _ = stream.write_all(bytes).await;
                }
                open.push((stream, stall, 0));
            }
        }
        Self { open }
    }

    /// One more byte of every drip.
    async fn tick(&mut self) {
        for (stream, stall, said) in &mut self.open {
            if let Stall::Drip(bytes) = stall
                && let Some(byte) = bytes.get(*said)
            {
                *said += 1;
                // It may have been cut already, which is as it should be.
                let _ = stream.write_all(&[*byte]).await;
            }
        }
    }
}

fn resident_bytes(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: usize = line
        .and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok())
        .unwrap();
    kib * 1024
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn start() -> Instant {
    Instant::now()
}

/// Time from a connection to the gateway's first byte.
async fn accept_gap(gateway: SocketAddr) -> Duration {
    let began = start();
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let mut first = [0];
    let reading = timeout(PATIENCE, stream.read_exact(&mut first));
    reading.await.unwrap().unwrap();
    began.elapsed()
}

/// R22, F3, O2: 500 connections that stall on the gateway's SSH listener and 500 on the API's, and as
/// many as they take on the listeners for health, beside people who guess passwords. An honest person
/// gets in every time, and a stranger's connection costs little. Times are asserted from effort 2 on:
/// on a loaded machine they say nothing.
#[test]
fn given_strangers_who_stall_on_every_listener_then_honest_people_get_in() {
    let world = World::new();
    world.grant(ROOT, "1h");
    assert!(world.ssh().run(ROOT, "true").status.success());
    let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, world.node.ssh_port));
    let api: SocketAddr = world
        .node
        .api()
        .trim_start_matches("https://")
        .parse()
        .unwrap();
    let pids = [Role::Gateway, Role::Control].map(|role| world.node.pid(role));
    let before = pids.map(resident_bytes);

    let runtime = Runtime::new().unwrap();
    let stalls = |drip, begun| [Stall::Silent, Stall::Drip(drip), Stall::Begun(begun)];
    let (ssh, tls) = (stalls(SSH_VERSION, SSH_BEGUN), stalls(TLS_HELLO, TLS_HELLO));
    let http = stalls(HTTP_HEAD, HTTP_HEAD);
    let mut crowds = runtime.block_on(async {
        [
            Strangers::connect(gateway, 1, 500, &ssh).await,
            Strangers::connect(api, 2, 500, &tls).await,
            Strangers::connect(world.node.health(), 3, 48, &http).await,
            Strangers::connect(world.node.gateway_health(), 4, 48, &http).await,
        ]
    });
    let stalled = [0, 1].map(|place: usize| crowds[place].open.len());
    assert_eq!(stalled, [500, 500], "strangers were not let in to stall");

    let (mut logins, mut gaps) = (Vec::new(), Vec::new());
    for _ in 0..rounds(6) {
        runtime.block_on(async {
            for crowd in &mut crowds {
                crowd.tick().await;
            }
            gaps.push(accept_gap(gateway).await);
        });
        // Somebody who guesses, from elsewhere on this machine and under many names.
        let mut guess = world.ssh().client("ssh");
        guess.args(["-b", "127.9.0.1", "-o", "PubkeyAuthentication=no"]);
        let mut guess = guess
            .args(["-l", "mallory:root@web-1", "127.0.0.1", "true"])
            .spawn()
            .unwrap();
        let began = start();
        let output = world.ssh().run(ROOT, "true");
        assert!(output.status.success(), "{}", said(&output.stderr));
        logins.push(began.elapsed());
        let began = start();
        world.carol.say(&["whoami"]);
        logins.push(began.elapsed());
        guess.kill().unwrap();
        guess.wait().unwrap();
    }
    let grown = [0, 1].map(|place: usize| {
        resident_bytes(pids[place]).saturating_sub(before[place]) / stalled[place]
    });
    logins.sort();
    gaps.sort();
    let figures = format!(
        "bytes for each stalled connection: gateway {}, control {}; slowest honest use {:?}; longest accept gap {:?}",
        grown[0],
        grown[1],
        logins[logins.len() - 1],
        gaps[gaps.len() - 1],
    );
    // Figures are what this is for.
    eprintln!("{figures}");
    assert!(grown.iter().all(|bytes| *bytes <= 64 * 1024), "{figures}");
    if rounds(1) > 1 {
        let slowest = logins[logins.len() - 1];
        assert!(slowest <= Duration::from_secs(2), "{figures}");
        assert!(
            gaps[gaps.len() - 1] <= Duration::from_millis(100),
            "{figures}"
        );
    }
}

/// What a process has read so far, of files and sockets.
fn read_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io.lines().find(|line| line.starts_with("rchar:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// F8, O1: a target that does not read while its client sends without end, and a client that does not
/// read while its target does, are held back: the gateway keeps little for either.
#[test]
fn given_a_side_that_does_not_read_then_a_session_costs_at_most_five_mebibytes() {
    const SESSIONS: usize = 6;
    let world = World::new();
    world.grant(ROOT, "1h");
    assert!(world.ssh().run(ROOT, "true").status.success());
    let pid = world.node.pid(Role::Gateway);
    let before = resident_bytes(pid);
    let mut clients = Vec::new();
    for number in 0..SESSIONS {
        let mut ssh = world.ssh().client("ssh");
        ssh.args(["-l", ROOT, "127.0.0.1"]);
        if number % 2 == 0 {
            ssh.arg("exec sleep 600");
            ssh.stdin(fs::File::open("/dev/zero").unwrap());
        } else {
            ssh.arg("exec cat /dev/zero");
        }
        clients.push(ssh.spawn().unwrap());
    }
    let (mut last, mut quiet) = (0, 0);
    within(PATIENCE, "every session is held back", || {
        let read: Vec<u64> = clients
            .iter()
            .filter_map(|one| read_bytes(one.id()))
            .collect();
        let have_begun = read.iter().filter(|bytes| **bytes > 1 << 20).count();
        let now: u64 = read.iter().sum();
        // A byte now and then asks whether to go on; that is not flowing.
        let is_held = now.saturating_sub(last) < 64 * 1024 && have_begun == SESSIONS;
        quiet = if is_held { quiet + 1 } else { 0 };
        last = now;
        // About a second.
        (quiet > 40).then_some(())
    });
    // What moving so much left behind is given back a second or two later.
    let mut grown = 0;
    within(PATIENCE, "a held session costs at most 5 MiB", || {
        grown = resident_bytes(pid).saturating_sub(before) / SESSIONS;
        (grown <= 5 * 1024 * 1024).then_some(())
    });
    eprintln!("{grown} bytes for each session");
    for client in &mut clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
}

/// R22: one source may have 64 connections that have proven nothing; others are not its business.
#[test]
fn given_one_source_that_connects_without_end_then_others_are_served_and_it_is_not() {
    let world = World::new();
    let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, world.node.ssh_port));
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let greedy = Ipv4Addr::new(127, 5, 0, 1);
        let mut served = Vec::new();
        for _ in 0..100 {
            let mut stream = connect_from(greedy, gateway).await.unwrap();
            let mut first = [0];
            let reading = timeout(PATIENCE, stream.read(&mut first)).await.unwrap();
            // Whoever is turned away reads the end at once.
            if reading.is_ok_and(|count| count == 1) {
                served.push(stream);
            }
        }
        assert_eq!(served.len(), 64);
        let modest = Ipv4Addr::new(127, 5, 0, 2);
        let mut stream = connect_from(modest, gateway).await.unwrap();
        let mut first = [0];
        timeout(PATIENCE, stream.read_exact(&mut first))
            .await
            .unwrap()
            .unwrap();
    });
}
