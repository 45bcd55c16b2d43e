//! A gateway as the control plane sees one: frames over its socket, and the keys a gateway holds.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use bytes::BytesMut;
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey},
};
use sallyport_api::gateway::{
    AuthenticationAnswer, AuthenticationFacts, Call, Credential, FromControl, FromGateway,
    GatewayHello, HoldOperation, OpenSession, Opened, Push, RPC_VERSION, Reply, SshKeyProof,
    Submission, Welcome, decode_frame, encode_frame,
};
use sallyport_core::{
    access::{HoldTerms, Quorum},
    id::{AuthenticationId, GatewayId, OperationId, SessionId},
    policy::BundleHash,
    session::{Operation, OperationKind},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const CONNECTION: u64 = 7;

pub struct FakeGateway {
    pub id: GatewayId,
    pub welcome: Welcome,
    stream: UnixStream,
    buffer: BytesMut,
    key: HpkePrivateKey,
    next_id: u64,
    pushes: VecDeque<Push>,
}

impl FakeGateway {
    pub async fn connect(socket: &Path, id: GatewayId, live_sessions: Vec<SessionId>) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (public, key) = DH_KEM_X25519_HKDF_SHA256_AES_256
            .generate_key_pair()
            .unwrap();
        let hello = GatewayHello {
            rpc_version: RPC_VERSION,
            version: "test".to_owned(),
            gateway_id: id.clone(),
            sealing_key: public.0,
            live_sessions,
            entrances: Vec::new(),
            tls_public_key: Vec::new(),
        };
        let mut gateway = Self {
            id,
            welcome: Welcome {
                permit_key: vec![],
                bundle: String::new(),
                user_authorities: vec![],
                end_now: vec![],
                paused: Vec::new(),
                control_grace_s: 0,
                tls_certificate: Vec::new(),
            },
            stream,
            buffer: BytesMut::new(),
            key,
            next_id: 0,
            pushes: VecDeque::new(),
        };
        match gateway.call(Call::Hello(hello)).await {
            Reply::Welcome(welcome) => gateway.welcome = *welcome,
            other => panic!("{other:?}"),
        }
        gateway
    }

    pub async fn call(&mut self, call: Call) -> Reply {
        self.next_id += 1;
        let mut bytes = BytesMut::new();
        encode_frame(
            &FromGateway {
                id: self.next_id,
                call,
            },
            &mut bytes,
        )
        .unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        loop {
            match self.frame().await {
                FromControl::Reply { id, reply } if id == self.next_id => return reply,
                FromControl::Reply { .. } => {}
                FromControl::Push { push } => self.pushes.push_back(push),
            }
        }
    }

    async fn frame(&mut self) -> FromControl {
        loop {
            if let Some(frame) = decode_frame(&mut self.buffer).unwrap() {
                return frame;
            }
            assert!(
                self.stream.read_buf(&mut self.buffer).await.unwrap() > 0,
                "control hung up"
            );
        }
    }

    /// The next push that is not a heartbeat.
    pub async fn push(&mut self) -> Push {
        loop {
            while let Some(push) = self.pushes.pop_front() {
                if push != Push::Heartbeat {
                    return push;
                }
            }
            if let FromControl::Push { push } = self.frame().await {
                self.pushes.push_back(push);
            }
        }
    }

    /// Whether control hangs up, whatever it still says before.
    pub async fn hung_up(&mut self) -> bool {
        loop {
            self.buffer.clear();
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            }
        }
    }

    pub async fn prove_key(&mut self, public_key: &str) -> AuthenticationAnswer {
        let proof = SshKeyProof {
            facts: facts(None),
            public_key: public_key.to_owned(),
        };
        match self.call(Call::ProveSshKey(proof)).await {
            Reply::Authentication(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub async fn proven(&mut self, public_key: &str) -> AuthenticationId {
        match self.prove_key(public_key).await {
            AuthenticationAnswer::Proven {
                authentication_id, ..
            } => authentication_id,
            refused @ AuthenticationAnswer::Refused { .. } => panic!("{refused:?}"),
        }
    }

    pub async fn open(&mut self, authentication_id: &AuthenticationId) -> Reply {
        self.open_as(authentication_id, "root").await
    }

    pub async fn open_as(&mut self, authentication_id: &AuthenticationId, account: &str) -> Reply {
        self.open_on(authentication_id, account, "web-1", "ssh")
            .await
    }

    pub async fn open_on(
        &mut self,
        authentication_id: &AuthenticationId,
        account: &str,
        target: &str,
        protocol: &str,
    ) -> Reply {
        let asked = asking(authentication_id, account, target, protocol);
        self.call(Call::OpenSession(asked)).await
    }

    pub async fn submit(&mut self, authentication_id: &AuthenticationId, reason: &str) -> Reply {
        self.call(Call::SubmitRequest(Submission {
            authentication_id: authentication_id.clone(),
            connection: CONNECTION,
            ip: CLIENT,
            account: "root".parse().unwrap(),
            target: "web-1".parse().unwrap(),
            reason: reason.to_owned(),
            ticket: None,
            duration_s: None,
        }))
        .await
    }

    /// Opens something sealed to this gateway.
    pub fn unseal(&self, sealed: &Credential, info: &[u8], session_id: &SessionId) -> Vec<u8> {
        DH_KEM_X25519_HKDF_SHA256_AES_256
            .open(
                &EncapsulatedSecret(sealed.encapsulated.clone()),
                info,
                session_id.as_str().as_bytes(),
                &sealed.sealed,
                &self.key,
            )
            .unwrap()
    }
}

/// What a gateway asks to open a session.
pub fn asking(
    authentication_id: &AuthenticationId,
    account: &str,
    target: &str,
    protocol: &str,
) -> OpenSession {
    OpenSession {
        authentication_id: authentication_id.clone(),
        connection: CONNECTION,
        ip: CLIENT,
        protocol: protocol.to_owned(),
        account: account.parse().unwrap(),
        target: target.parse().unwrap(),
    }
}

/// The session that an opened one's permit names.
pub fn session_of(opened: &Opened) -> SessionId {
    let permit: Value = serde_json::to_value(&opened.permit).unwrap();
    let terms: Value = serde_json::from_str(permit["terms"].as_str().unwrap()).unwrap();
    terms["session_id"].as_str().unwrap().parse().unwrap()
}

/// A command of this session that waits for votes.
pub fn holding(
    session_id: &SessionId,
    operation_id: OperationId,
    command: &str,
    quorums: Vec<Quorum>,
) -> HoldOperation {
    HoldOperation {
        session_id: session_id.clone(),
        operation_id,
        operation: Operation {
            kind: OperationKind::Exec,
            detail: command.to_owned(),
            facts: None,
        },
        recorded: command.replace("secret", "[redacted]"),
        terms: HoldTerms {
            quorums,
            within_s: 600,
        },
        bundle: BundleHash("b".to_owned()),
    }
}

pub fn facts(adds_to: Option<AuthenticationId>) -> AuthenticationFacts {
    AuthenticationFacts {
        ip: CLIENT,
        claimed: None,
        connection: CONNECTION,
        adds_to,
    }
}
