//! Limits of connections, and that each ends alone.

use async_trait::async_trait;
use sallyport_core::{descriptor::Descriptor, policy::Restraints};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    config::Limits,
    door::Claim,
    recorder::RecordingDirectory,
    stream::ClientStream,
    testing::{Harness, PATIENCE},
};

/// A protocol that says `h`, and then does what each byte it reads stands for.
struct Letters;

#[async_trait]
impl Protocol for Letters {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: "letters".to_owned(),
            title: "Letters".to_owned(),
            settings: Vec::new(),
            operations: Vec::new(),
            secrets_needed: Vec::new(),
        }
    }

    fn identities(&self) -> Vec<String> {
        Vec::new()
    }

    fn enforces(&self) -> Restraints {
        Restraints::NONE
    }

    async fn serve(&self, mut stream: ClientStream, door: Door) -> Result<(), ServeError> {
        let failed = |source: io::Error| ServeError {
            kind: "letters",
            attempt: "conversation",
            source: source.into(),
        };
        stream.write_all(b"h").await.map_err(failed)?;
        loop {
            match stream.read_u8().await.map_err(failed)? {
                b'p' => panic!("as the test wants"),
                b'q' => return Ok(()),
                b'k' => {
                    door.prove_ssh_key(Claim::default(), "key".to_owned())
                        .await
                        .unwrap();
                    stream.write_all(b"k").await.map_err(failed)?;
                }
                // Hands the stream to a task that nobody tracks, as a library may.
                b'd' => {
                    let detached = async move {
                        let _ = stream.read_u8().await;
                    };
                    door.spawn("detached", detached);
                    return Ok(());
                }
                other => stream.write_all(&[other]).await.map_err(failed)?,
            }
        }
    }
}

struct Fixture {
    harness: Harness,
    address: SocketAddr,
    stop: CancellationToken,
    cut: CancellationToken,
}

async fn start(limits: Limits) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let recordings = RecordingDirectory::open(directory.path().join("recordings")).unwrap();
    let harness = Harness::with(directory, Arc::new(recordings), limits);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener {
        socket,
        protocol: Arc::new(Letters),
        node: Arc::clone(&harness.node),
    };
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    harness
        .node
        .tasks
        .spawn("listener", listener.run(stop.clone(), cut.clone()));
    Fixture {
        harness,
        address,
        stop,
        cut,
    }
}

/// A connection that is being served.
async fn connect(fixture: &Fixture) -> TcpStream {
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'h');
    stream
}

/// Connects until served: a place is free a moment after its connection ended.
async fn connect_soon(fixture: &Fixture) -> TcpStream {
    let connecting = async {
        loop {
            let mut stream = TcpStream::connect(fixture.address).await.unwrap();
            if stream.read_u8().await.is_ok() {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    };
    let connected = tokio::time::timeout(PATIENCE, connecting).await;
    connected.expect("its place must be free")
}

async fn assert_turned_away(fixture: &Fixture) {
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    assert!(stream.read_u8().await.is_err());
}

#[tokio::test]
async fn a_source_has_a_limited_number_of_connections_that_have_not_proven_who_they_are() {
    let limits = Limits {
        unauthenticated_per_source_max: 2,
        ..Limits::default()
    };
    let fixture = start(limits).await;
    let (mut first, _second) = (connect(&fixture).await, connect(&fixture).await);
    assert_turned_away(&fixture).await;
    first.write_all(b"k").await.unwrap();
    assert_eq!(first.read_u8().await.unwrap(), b'k');
    let _third = connect(&fixture).await;
    assert_turned_away(&fixture).await;
}

#[tokio::test]
async fn the_number_of_connections_is_limited_and_a_place_is_free_again_at_their_end() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let fixture = start(limits).await;
    let mut first = connect(&fixture).await;
    assert_turned_away(&fixture).await;
    first.write_all(b"q").await.unwrap();
    let _second = connect_soon(&fixture).await;
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_frees_its_place_and_no_other_notices() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let fixture = start(limits).await;
    let (mut broken, mut sound) = (connect(&fixture).await, connect(&fixture).await);
    broken.write_all(b"p").await.unwrap();
    assert!(broken.read_u8().await.is_err());
    sound.write_all(b"x").await.unwrap();
    assert_eq!(sound.read_u8().await.unwrap(), b'x');
    let _next = connect_soon(&fixture).await;
}

#[tokio::test]
async fn a_connection_without_a_session_is_cut_when_its_grace_is_used_up() {
    let fixture = start(Limits {
        login_grace_s: 0,
        ..Limits::default()
    })
    .await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let mut heard = Vec::new();
    // Ends, cleanly or not; what matters is that it ends.
    let _ = stream.read_to_end(&mut heard).await;
}

#[tokio::test]
async fn a_stream_that_outlives_its_protocol_is_cut() {
    let fixture = start(Limits::default()).await;
    let mut stream = connect(&fixture).await;
    stream.write_all(b"d").await.unwrap();
    assert!(stream.read_u8().await.is_err());
}

#[tokio::test]
async fn at_the_stop_nothing_is_accepted_and_connections_are_cut() {
    let fixture = start(Limits::default()).await;
    let mut stream = connect(&fixture).await;
    fixture.stop.cancel();
    fixture.cut.cancel();
    assert!(stream.read_u8().await.is_err());
    fixture.harness.stop_evidence.cancel();
    fixture.harness.node.tasks.wait().await;
    assert!(TcpStream::connect(fixture.address).await.is_err());
}

#[test]
fn a_host_cannot_be_many_sources_by_choosing_among_its_own_addresses() {
    let network = |address: &str| network_of(address.parse().unwrap());
    assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
    assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
}
