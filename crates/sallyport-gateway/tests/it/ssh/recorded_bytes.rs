//! What the target got and said is what the recording holds: byte by byte, both ways, every kind of
//! channel.
//!
//! A target that keeps a copy of everything (a tee) is compared with the decrypted recording, and with
//! what the client got. File transfers, which are kept by size and hash, pass a real OpenSSH server
//! whose sftp server is wrapped in `tee`.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use russh::{
    Channel, ChannelId, ChannelMsg,
    keys::{Algorithm, PrivateKey, key::safe_rng},
    server::{self, Auth, ChannelOpenHandle, Msg, Session},
};
use sallyport_core::entropy::Entropy;
use sallyport_evidence::recording::{
    ContainerReader, Direction, FrameKind, NOT_ECHOED, Opener, RecordingKey,
};
use sallyport_testkit::effort::rounds;
use tokio::{net::TcpListener, sync::mpsc};

use super::world::{AnyHost, RawClient, World, output, text, walk, within};
use crate::control::{PATIENCE, PERMIT_ALL, Rules, SystemEntropy, spawn};

/// Numbers that look random and are the same for the same seed (xorshift).
#[derive(Clone, Debug)]
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Pieces as a program would write them: mostly small, now and then large.
    fn pieces(&mut self) -> Vec<Vec<u8>> {
        let count = self.below(12);
        (0..count)
            .map(|_| {
                let size = match self.below(4) {
                    0 => self.below(100_000),
                    1 => 1,
                    _ => self.below(300),
                };
                (0..size)
                    .map(|_| u8::try_from(self.next() >> 56).unwrap())
                    .collect()
            })
            .collect()
    }
}

/// What one channel carried, by stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Streams {
    input: Vec<u8>,
    output: Vec<u8>,
    error_output: Vec<u8>,
}

impl Streams {
    /// Sizes, for a failure that can be read.
    fn sizes(&self) -> [usize; 3] {
        [&self.input, &self.output, &self.error_output].map(Vec::len)
    }
}

/// Every channel begins with its own mark, in both directions.
const MARK_BYTES: usize = 8;

type Kept = Arc<Mutex<BTreeMap<Vec<u8>, Streams>>>;

/// A target that answers the end of the input with bytes of its own, and keeps a copy of everything.
/// Where it is asked to listen, somebody connects at once.
struct TeeTarget {
    kept: Kept,
    /// Those that a client opened; others are the target's own, and become known by their first bytes.
    channels: BTreeMap<ChannelId, OpenAtTarget>,
}

/// A channel whose input has not ended.
struct OpenAtTarget {
    input: Vec<u8>,
    /// A forwarded connection: it has no error output and no process.
    is_connection: bool,
}

impl TeeTarget {
    /// Becomes the target; returns what it keeps.
    async fn serve(world: &World) -> Kept {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let host_key = key.public_key().to_openssh().unwrap();
        let config = Arc::new(server::Config {
            keys: vec![key],
            auth_rejection_time: std::time::Duration::ZERO,
            preferred: russh::Preferred {
                kex: std::borrow::Cow::Borrowed(&[russh::kex::CURVE25519]),
                ..russh::Preferred::default()
            },
            ..server::Config::default()
        });
        let kept = Kept::default();
        let keeping = Arc::clone(&kept);
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let side = Self {
                    kept: Arc::clone(&keeping),
                    channels: BTreeMap::new(),
                };
                let config = Arc::clone(&config);
                spawn(async move {
                    if let Ok(running) = server::run_stream(config, stream, side).await {
                        let _ = running.await;
                    }
                });
            }
        });
        world.control.rule(|rules: &mut Rules| {
            rules.address = address.to_string();
            rules.host_keys = vec![host_key];
            rules.credential = r#"{"kind":"password","password":"correct horse"}"#.to_owned();
        });
        kept
    }

    fn opened(&mut self, channel: ChannelId, is_connection: bool) -> &mut OpenAtTarget {
        let open = OpenAtTarget {
            input: Vec::new(),
            is_connection,
        };
        self.channels.entry(channel).or_insert(open)
    }
}

impl server::Handler for TeeTarget {
    type Error = russh::Error;

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.opened(channel.id(), false);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.opened(channel.id(), true);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.opened(channel.id(), true);
        reply.accept().await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let (handle, address, port) = (session.handle(), address.to_owned(), *port);
        spawn(async move {
            let opening = handle.channel_open_forwarded_tcpip(address, port, "10.0.0.9", 9);
            opening.await.unwrap();
        });
        Ok(true)
    }

    async fn streamlocal_forward(
        &mut self,
        socket_path: &str,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let (handle, path) = (session.handle(), socket_path.to_owned());
        spawn(async move {
            let opening = handle.channel_open_forwarded_streamlocal(path);
            opening.await.unwrap();
        });
        Ok(true)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width_pixels: u32,
        _height_pixels: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.opened(channel, true).input.extend(data);
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let open = self.channels.remove(&channel).unwrap();
        let OpenAtTarget {
            input,
            is_connection,
        } = open;
        let mark = input[..MARK_BYTES].to_vec();
        let mut random = Seeded(u64::from_be_bytes(mark.clone().try_into().unwrap()) ^ 1);
        let mut streams = Streams {
            input,
            output: mark.clone(),
            error_output: Vec::new(),
        };
        let handle = session.handle();
        let kept = Arc::clone(&self.kept);
        spawn(async move {
            let mut send = vec![(false, mark.clone())];
            for piece in random.pieces() {
                send.push((random.below(3) == 0 && !is_connection, piece));
            }
            for (is_error, piece) in send {
                let bytes = Bytes::from(piece.clone());
                if is_error {
                    streams.error_output.extend(&piece);
                    handle.extended_data(channel, 1, bytes).await.unwrap();
                } else {
                    if streams.output.len() > MARK_BYTES || piece != mark {
                        streams.output.extend(&piece);
                    }
                    handle.data(channel, bytes).await.unwrap();
                }
            }
            kept.lock().unwrap().insert(mark, streams);
            if !is_connection {
                handle.exit_status_request(channel, 0).await.unwrap();
            }
            handle.eof(channel).await.unwrap();
            handle.close(channel).await.unwrap();
        });
        Ok(())
    }
}

/// What carries a channel's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A shell or a command, with or without a terminal, as chance has it.
    Session,
    /// `direct-tcpip`
    Connection,
    /// `direct-streamlocal@openssh.com`
    Socket,
    /// `forwarded-tcpip`
    Listening,
    /// `forwarded-streamlocal@openssh.com`
    ListeningSocket,
}

impl Way {
    /// In turn; half of them are sessions.
    const ALL: [Self; 8] = [
        Self::Session,
        Self::Connection,
        Self::Session,
        Self::Socket,
        Self::Session,
        Self::Listening,
        Self::Session,
        Self::ListeningSocket,
    ];

    /// A channel of this kind, ready for bytes. What comes from the target comes over `forwarded`.
    async fn open(
        self,
        client: &RawClient,
        forwarded: &mut mpsc::Receiver<Channel<russh::client::Msg>>,
        seed: u64,
    ) -> Channel<russh::client::Msg> {
        let handle = &client.handle;
        let mut random = Seeded(seed);
        match self {
            Self::Session => {
                let channel = handle.channel_open_session().await.unwrap();
                if random.below(2) == 0 {
                    let asked = channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]);
                    asked.await.unwrap();
                }
                if random.below(2) == 0 {
                    channel.request_shell(true).await.unwrap();
                } else {
                    channel.exec(true, "tee").await.unwrap();
                }
                channel
            }
            Self::Connection => {
                let opening = handle.channel_open_direct_tcpip("10.0.0.1", 80, "127.0.0.1", 9);
                opening.await.unwrap()
            }
            Self::Socket => {
                let opening = handle.channel_open_direct_streamlocal("/run/app.sock");
                opening.await.unwrap()
            }
            Self::Listening => {
                let port = 1_024 + u32::try_from(random.below(60_000)).unwrap();
                handle.tcpip_forward("localhost", port).await.unwrap();
                forwarded.recv().await.unwrap()
            }
            Self::ListeningSocket => {
                let path = format!("/run/{seed}.sock");
                handle.streamlocal_forward(path).await.unwrap();
                forwarded.recv().await.unwrap()
            }
        }
    }
}

/// One channel of a client's; returns what it sent and got.
async fn converse(mut channel: Channel<russh::client::Msg>, way: Way, seed: u64) -> Streams {
    let mut random = Seeded(seed);
    let mut seen = Streams::default();
    let mut pieces = vec![seed.to_be_bytes().to_vec()];
    pieces.extend(random.pieces());
    for piece in pieces {
        seen.input.extend(&piece);
        channel.data_bytes(Bytes::from(piece)).await.unwrap();
        if way == Way::Session && random.below(8) == 0 {
            channel.window_change(100, 30, 0, 0).await.unwrap();
        }
    }
    channel.eof().await.unwrap();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => seen.output.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, .. } => seen.error_output.extend_from_slice(&data),
            _ => {}
        }
    }
    seen
}

/// One channel of a recording. A terminal's keys that were not shown are in it by their number.
#[derive(Default)]
struct InRecording {
    streams: Streams,
    has_terminal: bool,
    masked: Vec<Range<usize>>,
}

impl InRecording {
    /// What the recording says of a channel of which the target got `input`.
    fn unmasked(mut self, input: &[u8]) -> Streams {
        assert!(self.has_terminal || self.masked.is_empty());
        for range in self.masked {
            if let Some(bytes) = input.get(range.clone()) {
                self.streams.input[range].copy_from_slice(bytes);
            }
        }
        self.streams
    }
}

/// Every channel of every recording, by its mark.
fn recorded(world: &World) -> BTreeMap<Vec<u8>, InRecording> {
    let mut by_mark = BTreeMap::new();
    for file in walk(&world.path("gateway").join("recordings")) {
        let mut channels: BTreeMap<u32, InRecording> = BTreeMap::new();
        let bytes = fs::read(&file).unwrap();
        let container = ContainerReader::open(&bytes[..]).unwrap();
        let key = RecordingKey::new(crate::control::RECORDING_KEY);
        let mut opener = Opener::new(container, key).unwrap();
        while let Some(chunk) = opener.next_chunk().unwrap() {
            for frame in chunk.frames() {
                let channel = channels.entry(frame.channel).or_default();
                let streams = &mut channel.streams;
                match frame.kind {
                    FrameKind::ChannelOpened { pty, .. } => channel.has_terminal = pty.is_some(),
                    FrameKind::Redacted { rule, bytes, .. } => {
                        assert_eq!(rule, NOT_ECHOED);
                        let start = streams.input.len();
                        let end = start + usize::try_from(bytes).unwrap();
                        streams.input.resize(end, 0);
                        channel.masked.push(start..end);
                    }
                    FrameKind::Input(bytes) => streams.input.extend(bytes),
                    FrameKind::Output(bytes) => streams.output.extend(bytes),
                    FrameKind::ErrorOutput(bytes) => streams.error_output.extend(bytes),
                    _ => {}
                }
            }
        }
        for channel in channels.into_values() {
            if let Some(mark) = channel.streams.output.get(..MARK_BYTES) {
                by_mark.insert(mark.to_vec(), channel);
            }
        }
    }
    by_mark
}

/// R23, K1: sessions with one to three channels at once, shells and commands, with and without a
/// terminal, connections and sockets forwarded from either side, any bytes in pieces of any size. 40
/// sessions at effort 1, 1,000 at effort 25.
#[tokio::test(flavor = "multi_thread")]
async fn given_random_sessions_then_the_recording_is_what_the_target_got_and_said() {
    let entropy: &dyn Entropy = &SystemEntropy;
    let seed = u64::from_be_bytes(entropy.draw::<8>()) | 1;
    let mut random = Seeded(seed);
    let world = World::with(|rules| {
        let features =
            r#"@id("it") permit (principal, action == Action::"feature.use", resource);"#;
        rules.bundle = format!("{PERMIT_ALL} {features}");
    })
    .await;
    let kept = TeeTarget::serve(&world).await;
    let sessions = rounds(40);
    let mut clients_saw = BTreeMap::new();
    let mut ways = Way::ALL.into_iter().cycle();
    for _ in 0..sessions {
        let (sender, mut forwarded) = mpsc::channel(1);
        let host = AnyHost {
            forwarded: Some(sender),
        };
        let client = RawClient::signed_in_as(&world, host).await;
        let mut conversations = Vec::new();
        for _ in 0..=random.below(3) {
            let mark = random.next();
            let way = ways.next().unwrap();
            let opening = way.open(&client, &mut forwarded, mark);
            let channel = within(PATIENCE, opening).await;
            conversations.push(async move { (mark, converse(channel, way, mark).await) });
        }
        let seen = futures_util::future::join_all(conversations);
        let seen = within(PATIENCE, seen).await;
        for (mark, streams) in seen {
            clients_saw.insert(mark.to_be_bytes().to_vec(), streams);
        }
    }
    let all_closed = |told: &crate::control::Told| (told.closed.len() >= sessions).then_some(());
    world.control.until(all_closed).await;
    let target_saw = kept.lock().unwrap().clone();
    let mut recorded = recorded(&world);
    assert_eq!(target_saw.len(), clients_saw.len(), "seed {seed}");
    assert_eq!(recorded.len(), target_saw.len(), "seed {seed}");
    for (mark, at_target) in &target_saw {
        let in_recording = recorded.remove(mark).unwrap().unmasked(&at_target.input);
        assert_eq!(
            in_recording.sizes(),
            at_target.sizes(),
            "seed {seed}: sizes in the recording and at the target"
        );
        assert!(in_recording == *at_target, "seed {seed}: other bytes");
        assert!(
            clients_saw[mark] == *at_target,
            "seed {seed}: at the client"
        );
    }
}

/// R23, RE-14: a file transfer is in the recording by size and hash, both ways, of exactly the bytes
/// that OpenSSH's sftp server got and said.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_file_transfer_then_size_and_hash_in_the_recording_are_those_at_the_target() {
    let shelf = tempfile::tempdir().unwrap();
    let script = shelf.path().join("tee-sftp");
    let folder = shelf.path().display();
    let lines =
        format!("#!/bin/sh\ntee {folder}/got | /usr/lib/openssh/sftp-server | tee {folder}/said\n");
    fs::write(&script, lines).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let forced = format!("ForceCommand {}", script.display());
    let world = World::with_target(vec![forced], |_| {}).await;
    let mut random = Seeded(77);
    let content: Vec<u8> = (0..300_000)
        .map(|_| random.next().to_le_bytes()[3])
        .collect();
    fs::write(world.path("up.bin"), &content).unwrap();
    let batch = format!("put up.bin {folder}/there.bin\nget {folder}/there.bin down.bin\n");
    fs::write(world.path("batch"), batch).unwrap();
    let mut sftp = world.client("sftp");
    sftp.args(["-b", "batch", "root@web-1@127.0.0.1"]);
    let ran = output(&mut sftp).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert!(fs::read(world.path("down.bin")).unwrap() == content);

    let closed = |told: &crate::control::Told| told.closed.first().map(|_| ());
    world.control.until(closed).await;
    let mut omitted = BTreeMap::new();
    let files = walk(&world.path("gateway").join("recordings"));
    let bytes = fs::read(&files[0]).unwrap();
    let key = RecordingKey::new(crate::control::RECORDING_KEY);
    let mut opener = Opener::new(ContainerReader::open(&bytes[..]).unwrap(), key).unwrap();
    while let Some(chunk) = opener.next_chunk().unwrap() {
        for frame in chunk.frames() {
            if let FrameKind::Omitted {
                direction,
                bytes,
                sha256,
            } = frame.kind
            {
                let is_input = direction == Direction::Input;
                omitted.insert(is_input, (usize::try_from(bytes).unwrap(), sha256.to_vec()));
            }
        }
    }
    for (is_input, name) in [(true, "got"), (false, "said")] {
        let at_target = fs::read(shelf.path().join(name)).unwrap();
        let expected = (
            at_target.len(),
            digest(&SHA256, &at_target).as_ref().to_vec(),
        );
        assert_eq!(omitted[&is_input], expected, "what the target {name}");
    }
}
