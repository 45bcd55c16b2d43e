//! What a gateway can ask, and what control answers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::sensitive::Sensitive;
use sallyport_core::{
    access::HoldTerms,
    authz::{Reason, SignedPermit, Unmet},
    id::{
        AuthenticationId, GatewayId, GrantId, OperationId, RecordingId, RequestId, SessionId,
        TargetId,
    },
    inventory::{AccountName, TargetName},
    policy::BundleHash,
    principal::{AuthenticationStrength, PersonName},
    session::{EndReason, Operation, OperationRecord},
    time::Timestamp,
};

/// The first frame of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayHello {
    /// [`super::RPC_VERSION`].
    pub rpc_version: u32,
    /// Version of the binary.
    pub version: String,
    /// The gateway's stable id.
    pub gateway_id: GatewayId,
    /// HPKE public key (DHKEM X25519) that credentials are sealed to; fresh at each start.
    pub sealing_key: Vec<u8>,
    /// Sessions still alive at the gateway, as after a restart of control.
    pub live_sessions: Vec<SessionId>,
    /// Where it takes clients.
    pub entrances: Vec<Entrance>,
    /// Public key that its TLS listeners prove: an uncompressed point on P-256 (SEC 1, 2.3.3), fresh at
    /// each start.
    pub tls_public_key: Vec<u8>,
}

/// Where a gateway takes clients of one protocol, and how they recognise it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entrance {
    /// Protocol kind: `ssh`, `postgres`, `mysql`.
    pub protocol: String,
    /// TCP port.
    pub port: u16,
    /// Identities it shows, in the protocol's own text form (`ssh-ed25519 AAAA…`).
    pub identities: Vec<String>,
}

/// Control's answer to [`GatewayHello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// Ed25519 public key that permits verify with.
    pub permit_key: Vec<u8>,
    /// The policy bundle in force, as `sallyport-policy` reads it.
    pub bundle: String,
    /// OpenSSH public keys of the authorities whose user certificates prove a person.
    pub user_authorities: Vec<String>,
    /// Of the sessions reported alive, those that must end now, and why.
    pub end_now: Vec<(SessionId, EndReason)>,
    /// Of the sessions reported alive, those that are paused, and by whom; no other is.
    pub paused: Vec<(SessionId, PersonName)>,
    /// How long sessions may live on while control is away, in seconds.
    pub control_grace_s: u64,
    /// Certificate over the gateway's TLS key, X.509 DER, of the authority that vouches for the API too.
    pub tls_certificate: Vec<u8>,
}

/// Facts about a connection that go with every proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticationFacts {
    /// The client's address as the listener saw it.
    pub ip: IpAddr,
    /// The person the selector claims, if it names one.
    pub claimed: Option<PersonName>,
    /// The gateway's own number of the connection; a proof serves this connection only.
    pub connection: u64,
    /// A proof made before on the same connection that this one adds to (second factor).
    pub adds_to: Option<AuthenticationId>,
}

/// Possession of a key was proven on the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshKeyProof {
    /// Facts of the connection.
    pub facts: AuthenticationFacts,
    /// The verified key, OpenSSH one-line form without comment.
    pub public_key: String,
}

/// Possession of the key of a certificate was proven on the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshCertificateProof {
    /// Facts of the connection.
    pub facts: AuthenticationFacts,
    /// The verified certificate, OpenSSH one-line form.
    pub certificate: String,
}

/// A password and/or one-time code typed at the keyboard.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordProof {
    /// Facts of the connection; `claimed` is needed unless `adds_to` says who.
    pub facts: AuthenticationFacts,
    /// Password; absent when only a code is added.
    pub password: Option<Sensitive>,
    /// One-time code.
    pub code: Option<Sensitive>,
}

/// A pass was shown over an encrypted connection.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassProof {
    /// Facts of the connection.
    pub facts: AuthenticationFacts,
    /// The pass.
    pub pass: Sensitive,
    /// Account the client names.
    pub account: AccountName,
    /// Target the client names.
    pub target: TargetName,
}

/// Control's answer to a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthenticationAnswer {
    /// Proven.
    Proven {
        /// Name this proof in [`OpenSession`] and [`Submission`].
        authentication_id: AuthenticationId,
        /// Who it is.
        person: PersonName,
        /// How strongly.
        strength: AuthenticationStrength,
    },
    /// Not proven. Unknown person, unknown key and wrong password look the same.
    Refused {
        /// Why, when it may be told.
        reason: Option<Reason>,
    },
}

/// Asks to open a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// Proof of who asks.
    pub authentication_id: AuthenticationId,
    /// The connection it was made on.
    pub connection: u64,
    /// The client's address.
    pub ip: IpAddr,
    /// Protocol kind.
    pub protocol: String,
    /// Account asked for.
    pub account: AccountName,
    /// Target asked for.
    pub target: TargetName,
}

/// A secret sealed to the gateway: HPKE base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
/// AES-256-GCM, with the session id as associated data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Encapsulated key.
    pub encapsulated: Vec<u8>,
    /// Sealed bytes; what they are is said where the credential is used.
    pub sealed: Vec<u8>,
}

/// A session may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The permit.
    pub permit: SignedPermit,
    /// `host:port` to dial.
    pub address: String,
    /// Host keys accepted, OpenSSH one-line form.
    pub host_keys: Vec<String>,
    /// Whether the first key seen may be pinned (only when `host_keys` is empty).
    pub pins_first_host_key: bool,
    /// What to log in with: a sealed JSON [`CredentialContent`](super::CredentialContent).
    pub credential: Credential,
    /// The recording's own key, sealed: 32 bytes.
    pub recording_key: Credential,
    /// The same key wrapped by the vault, to be stored in the recording's header: opaque text.
    pub wrapped_recording_key: String,
    /// Lines for the person to read when the session opens.
    pub notice: String,
}

/// Not yet: something is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeAnswer {
    /// What is missing.
    pub unmet: Vec<Unmet>,
    /// Longest duration that may be asked for, in seconds.
    pub max_duration_s: u64,
    /// A request of this person for this account that is waiting already.
    pub pending_request: Option<RequestId>,
}

/// No, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Reasons, at least one.
    pub reasons: Vec<Reason>,
    /// What to name when asking about it: a request or session id.
    pub reference: String,
}

/// Asks for access in band.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Proof of who asks.
    pub authentication_id: AuthenticationId,
    /// The connection it was made on.
    pub connection: u64,
    /// The client's address.
    pub ip: IpAddr,
    /// Account asked for.
    pub account: AccountName,
    /// Target asked for.
    pub target: TargetName,
    /// Reason typed.
    pub reason: String,
    /// Ticket typed.
    pub ticket: Option<String>,
    /// Duration in seconds; absent means the default of one hour or what policy allows, if less.
    pub duration_s: Option<u64>,
}

/// Where a request stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum RequestProgress {
    /// Waiting for votes.
    Waiting {
        /// At least this many.
        approvals_missing: u64,
        /// Who has voted yes.
        approved_by: Vec<PersonName>,
        /// When it ends by itself.
        expires_at: Timestamp,
    },
    /// Granted.
    Granted {
        /// The grant.
        grant_id: GrantId,
        /// Its end.
        until: Timestamp,
    },
    /// Denied, cancelled or run out.
    Ended {
        /// Why.
        reason: Reason,
        /// The approver's comment, if any.
        comment: String,
    },
}

/// Control's answer to [`Submission`] and to waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum RequestAnswer {
    /// The request exists and stands so.
    Progress {
        /// Id.
        request_id: RequestId,
        /// Where it stands.
        progress: RequestProgress,
    },
    /// Something is still missing.
    Challenge(ChallengeAnswer),
    /// No.
    Refused(Refused),
}

/// An operation that must wait for other people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldOperation {
    /// Session it would run in.
    pub session_id: SessionId,
    /// Id of the operation; fresh.
    pub operation_id: OperationId,
    /// The operation, to the last byte.
    pub operation: Operation,
    /// Its detail as it stands in records: redacted by the rules of its session.
    pub recorded: String,
    /// What releasing it takes.
    pub terms: HoldTerms,
    /// Bundle that said so.
    pub bundle: BundleHash,
}

/// Where a held operation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum HeldProgress {
    /// Waiting for votes.
    Waiting {
        /// At least this many.
        approvals_missing: u64,
        /// Who has voted yes.
        approved_by: Vec<PersonName>,
        /// When it ends by itself.
        expires_at: Timestamp,
    },
    /// It may run, now and once. Said to one call only.
    Released {
        /// Who voted yes.
        approved_by: Vec<PersonName>,
    },
    /// It must not run.
    Refused {
        /// Why.
        reason: Reason,
        /// The comment of whoever denied it, if any.
        comment: String,
    },
}

/// Evidence of operations, in order. Acknowledged when durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationBatch {
    /// Session.
    pub session_id: SessionId,
    /// Number of the first record within the session, dense from 0; makes repeats harmless.
    pub first: u64,
    /// Records, at most 256.
    pub records: Vec<OperationRecord>,
}

/// How far a recording is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Session.
    pub session_id: SessionId,
    /// Recording.
    pub recording_id: RecordingId,
    /// Number of durable chunks.
    pub chunks: u64,
    /// Chain value after them, lower-case hex.
    pub chain: String,
    /// Bytes of the recording so far.
    pub size_bytes: u64,
}

/// A session is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionClosed {
    /// Session.
    pub session_id: SessionId,
    /// Why.
    pub reason: EndReason,
    /// Bytes from client to target.
    pub bytes_up: u64,
    /// Bytes from target to client.
    pub bytes_down: u64,
    /// The recording at its end; absent when none was begun.
    pub recording: Option<Anchor>,
    /// Whether the recording has its last chunk.
    pub is_recording_complete: bool,
}

/// A call from a gateway.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", content = "with", rename_all = "snake_case")]
pub enum Call {
    /// First frame; exactly once.
    Hello(GatewayHello),
    /// Proof by key.
    ProveSshKey(SshKeyProof),
    /// Proof by certificate.
    ProveSshCertificate(SshCertificateProof),
    /// Proof by password and/or code.
    ProvePassword(PasswordProof),
    /// Proof by a pass.
    ProvePass(PassProof),
    /// Asks to open a session.
    OpenSession(OpenSession),
    /// Asks for access.
    SubmitRequest(Submission),
    /// Waits until a request stands otherwise than `seen`, at most 20 seconds.
    AwaitRequest {
        /// The proof that asks; must be the requester's.
        authentication_id: AuthenticationId,
        /// The connection it was made on.
        connection: u64,
        /// Request.
        request_id: RequestId,
        /// What the gateway knows.
        seen: RequestProgress,
    },
    /// Takes a waiting request back, as when the person leaves.
    CancelRequest {
        /// The proof that asks; must be the requester's.
        authentication_id: AuthenticationId,
        /// The connection it was made on.
        connection: u64,
        /// Request.
        request_id: RequestId,
    },
    /// Pins the first host key seen of a target.
    PinHostKey {
        /// Session that saw it.
        session_id: SessionId,
        /// Target.
        target_id: TargetId,
        /// OpenSSH one-line form.
        host_key: String,
    },
    /// Reports a host key that is not the pinned one.
    ReportHostKey {
        /// Session that saw it.
        session_id: SessionId,
        /// Target.
        target_id: TargetId,
        /// OpenSSH one-line form.
        host_key: String,
    },
    /// Holds an operation until other people agree.
    HoldOperation(Box<HoldOperation>),
    /// Waits until a held operation stands otherwise than `seen`, at most 20 seconds, and takes its
    /// release when nothing is missing.
    AwaitOperation {
        /// Session it would run in.
        session_id: SessionId,
        /// The operation.
        operation_id: OperationId,
        /// What the gateway knows.
        seen: HeldProgress,
    },
    /// Gives a held operation up.
    WithdrawOperation {
        /// Session it would run in.
        session_id: SessionId,
        /// The operation.
        operation_id: OperationId,
    },
    /// Evidence of operations.
    RecordOperations(OperationBatch),
    /// How far a recording is durable.
    AnchorRecording(Anchor),
    /// A session is over; exactly once for each.
    CloseSession(SessionClosed),
}

/// Control's answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "with", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Call::Hello`].
    Welcome(Box<Welcome>),
    /// To the proofs.
    Authentication(AuthenticationAnswer),
    /// To [`Call::OpenSession`]: yes.
    Opened(Box<Opened>),
    /// To [`Call::OpenSession`]: not yet.
    Challenge(ChallengeAnswer),
    /// To [`Call::OpenSession`]: no.
    Refused(Refused),
    /// To [`Call::SubmitRequest`] and [`Call::AwaitRequest`].
    Request(RequestAnswer),
    /// To [`Call::HoldOperation`] and [`Call::AwaitOperation`].
    Held(HeldProgress),
    /// To everything else: done, and durable.
    Done,
    /// The call itself failed.
    Failed(Fault),
}

/// Whose fault a failed call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallError {
    /// Not allowed in this state, or malformed; the gateway is at fault.
    Caller,
    /// Try again.
    Unavailable,
    /// A fault in control.
    Bug,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose fault.
    pub error: CallError,
    /// What to tell the person, when there is a person.
    pub reason: Reason,
    /// Words for the gateway's log; no secrets.
    pub message: String,
}
