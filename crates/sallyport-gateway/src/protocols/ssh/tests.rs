//! What needs a gateway whose parts a test can break: everything else is tested with stock clients in
//! `tests/it/ssh`.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use russh::{
    ChannelMsg, client,
    keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, key::safe_rng},
};
use sallyport_core::id::RecordingId;
use sallyport_testkit::targets::sshd::{Sshd, SshdSetup, make_key_pair};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    control::OpenAnswer,
    recorder::{RecorderError, RecordingFile, RecordingStore},
    sealing::CREDENTIAL_INFO,
    stream::CutStream,
    testing::{Harness, PATIENCE, ended, seal, session_id},
};

/// A disk that is full once a test says so.
#[derive(Clone, Default)]
struct Disk(Arc<AtomicBool>);

impl RecordingFile for Disk {
    fn append(&self, _bytes: &[u8]) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl RecordingStore for Disk {
    fn create(&self, _recording_id: &RecordingId) -> Result<Box<dyn RecordingFile>, RecorderError> {
        Ok(Box::new(self.clone()))
    }
}

struct AnyHost;

impl client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _shown: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// Asked whether it is still there before it is let in, OpenSSH's client complains at the prompt.
#[test]
fn nobody_is_asked_for_a_sign_of_life_before_the_login_grace_is_over() {
    let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    let limits = Limits::default();
    let asked_after = config(key, &limits, SshKeyExchange::default())
        .keepalive_interval
        .unwrap();
    assert!(asked_after > limits.login_grace());
}

/// RE-12, K2: nothing goes on unrecorded, and the person is told.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_full_disk_when_more_passes_then_the_session_ends_and_the_person_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let key = make_key_pair(&directory.path().join("credential"), "ed25519", None).unwrap();
    let sshd = Sshd::start(&SshdSetup {
        authorized_keys: vec![key.public_key.clone()],
        ..SshdSetup::default()
    })
    .unwrap();
    let disk = Disk::default();
    let setup = ProtocolSetup {
        tls: Arc::new(crate::tls::TlsIdentity::generate().unwrap()),
        data_directory: directory.path().join("data"),
        limits: Limits::default(),
        ssh_key_exchange: SshKeyExchange::default(),
    };
    let harness = Harness::with(directory, Arc::new(disk.clone()), Limits::default());
    let mut opened = harness.opened(1);
    opened.address = sshd.address().to_string();
    opened.host_keys = vec![sshd.host_key().to_owned()];
    let credential = serde_json::json!({
        "kind": "private_key", "private_key": key.private_key, "certificate": null
    });
    opened.credential = seal(
        harness.node.sealing_key.public(),
        CREDENTIAL_INFO,
        &session_id(1),
        credential.to_string().as_bytes(),
    );
    harness
        .control
        .answer_open(move |_| OpenAnswer::Opened(Box::new(opened)));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ssh = Ssh::new(&setup).unwrap();
    let door = harness.door();
    let serving = harness.node.tasks.spawn("serve", async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = CutStream::new(stream, CancellationToken::new());
        let _ = ssh.serve(stream, door).await;
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = client::connect_stream(Arc::new(client::Config::default()), stream, AnyHost)
        .await
        .unwrap();
    let person = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    let proof = PrivateKeyWithHashAlg::new(Arc::new(person), None);
    let admitted = client.authenticate_publickey("root@web-1", proof).await;
    assert!(admitted.unwrap().success());
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "cat").await.unwrap();
    channel.data(&b"before"[..]).await.unwrap();
    let (mut output, mut told) = (Vec::new(), String::new());
    let reading = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    output.extend_from_slice(&data);
                    disk.0.store(true, Ordering::SeqCst);
                    // The writer fails with the next chunk, half a second later at most.
                    let _ = channel.data(&b"x"[..]).await;
                }
                ChannelMsg::ExtendedData { data, .. } => {
                    told.push_str(&String::from_utf8_lossy(&data));
                }
                _ => {}
            }
        }
    };
    timeout(PATIENCE, reading).await.unwrap();
    assert!(told.contains("(recorder-failed)"), "{told}");
    let closed = harness.closed(1).await;
    assert_eq!(closed.reason, EndReason::RecorderFailed);
    assert!(!closed.is_recording_complete);
    timeout(Duration::from_secs(5), serving)
        .await
        .unwrap()
        .unwrap();
}

/// R20: what a channel's task was doing when it panicked is not known, so its session is over, and on
/// record as that; others go on.
#[tokio::test]
async fn a_panic_in_a_channels_task_ends_its_own_session_and_no_other() {
    let harness = Harness::start();
    let (session, other) = (harness.open(1).await, harness.open(2).await);
    let broken = guard(Arc::clone(&session), async {
        tokio::task::yield_now().await;
        panic!("as the test wants");
    });
    let task = harness.node.tasks.spawn("serve an SSH channel", broken);
    assert_eq!(task.await.unwrap(), None);
    assert_eq!(ended(&session).await.reason, EndReason::Panicked);
    drop(session);
    assert_eq!(harness.closed(1).await.reason, EndReason::Panicked);
    assert_eq!(other.end_if_over(), None);
}
