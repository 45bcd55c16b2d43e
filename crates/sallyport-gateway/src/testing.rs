//! What this crate's tests share: a clock that stands still, a control plane in memory, policies that
//! say what a test wants, and a gateway node around them.
//!
//! Not here: real sockets to control (`rpc/tests.rs`), a whole gateway process (`run/tests.rs`).

mod control;

pub(crate) use control::FakeControl;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{Hpke as _, HpkePublicKey},
};
use sallyport_api::gateway::{self as api, Credential, SessionClosed, Welcome};
use sallyport_core::{
    authz::{
        AccountFacts, Action, Decision, Evaluation, GrantFacts, HistoryFacts, NetworkFacts, Permit,
        PermitIds, PolicyEngine, PolicyError, PrincipalFacts, Question, SignedPermit, TargetFacts,
        decide,
    },
    entropy::Entropy,
    id::{
        AccountId, AuthenticationId, GatewayId, GrantId, PermitId, PersonId, RecordingId,
        SessionId, TargetId,
    },
    inventory::Sensitivity,
    policy::{
        Budget, BundleHash, CommandRule, Constraint, Demand, Mask, Masks, Pattern, Requirement,
        Restraints,
    },
    principal::{Authentication, AuthenticationStrength, PrincipalKind},
    time::{Clock, Timestamp},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Limits,
    connection::{Connection, LoginGrace},
    control::OpenAnswer,
    directives::{Directives, ReadBundle},
    door::{Door, OpenOutcome},
    listener::Counts,
    live::LiveSessions,
    node::Node,
    outbox::outbox,
    recorder::{RecordingDirectory, RecordingStore},
    sealing::{CREDENTIAL_INFO, RECORDING_KEY_INFO, SealingKey},
    session::{End, Session},
    spool::Spool,
    tasks::Tasks,
};

/// Longest that a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// When every test begins.
pub(crate) const START: Timestamp = Timestamp::from_unix_ms(1_795_000_000_000);
/// The key of every recording in tests.
pub(crate) const RECORDING_KEY: [u8; 32] = [7; 32];

/// A clock that a test moves.
#[derive(Debug)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(START.unix_ms())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0
            .fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl ManualClock {
    pub(crate) fn now(&self) -> Timestamp {
        Clock::now(self)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::SeqCst))
    }
}

/// Never the same twice, and the same in every run.
#[derive(Debug, Default)]
pub(crate) struct CountingEntropy(AtomicU64);

impl Entropy for CountingEntropy {
    fn fill(&self, destination: &mut [u8]) {
        let next = self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        for (slot, byte) in destination.iter_mut().rev().zip(next.iter().rev()) {
            *slot = *byte;
        }
    }
}

/// Seals as control does.
pub(crate) fn seal(
    public_key: &[u8],
    info: &[u8],
    session_id: &SessionId,
    content: &[u8],
) -> Credential {
    let (encapsulated, sealed) = DH_KEM_X25519_HKDF_SHA256_AES_256
        .seal(
            info,
            session_id.as_str().as_bytes(),
            content,
            &HpkePublicKey(public_key.to_vec()),
        )
        .unwrap();
    Credential {
        encapsulated: encapsulated.0,
        sealed,
    }
}

/// Policies whose text is a list of words: `forbid:exec` forbids an operation, `forbid:session` any
/// session, `hold:rm` holds commands that begin so, `no-upload`, `idle:60`, `watcher:60`,
/// `own-keyboard`, `read-only`, `rows:5` and `mask` limit it, `mfa-age:60` and `mfa-strong` demand; without `permit` nothing is
/// permitted, and `unreadable` is no bundle.
pub(crate) const READ_BUNDLE: ReadBundle = |text| {
    if text == "unreadable" {
        return Err("no bundle".into());
    }
    Ok(Arc::new(WordPolicies(
        text.split_whitespace().map(str::to_owned).collect(),
    )))
};

struct WordPolicies(Vec<String>);

impl WordPolicies {
    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|known| known == word)
    }

    fn held(&self) -> Option<Requirement> {
        let patterns: Vec<Pattern> = self
            .0
            .iter()
            .filter_map(|known| format!("{}*", known.strip_prefix("hold:")?).parse().ok())
            .collect();
        (!patterns.is_empty()).then_some(Requirement::CommandApproval(CommandRule {
            count: 1,
            from: None,
            within_s: 600,
            allows_unknown_prompt: self.has("any-prompt"),
            allows_full_screen: false,
            patterns,
        }))
    }

    fn number(&self, word: &str) -> Option<u64> {
        self.0
            .iter()
            .find_map(|known| known.strip_prefix(word)?.parse().ok())
    }
}

impl PolicyEngine for WordPolicies {
    fn evaluate(&self, question: &Question) -> Result<Evaluation, PolicyError> {
        let what = match &question.operation {
            Some(operation) => operation.kind.as_str(),
            None => "session",
        };
        let idle = self
            .number("idle:")
            .map(|seconds| Constraint::IdleTimeout { seconds });
        let mfa = |strength, max_age_s| Requirement::Mfa {
            strength,
            max_age_s,
        };
        let age = self
            .number("mfa-age:")
            .map(|age_s| mfa(AuthenticationStrength::SingleFactor, Some(age_s)));
        let strong = self
            .has("mfa-strong")
            .then(|| mfa(AuthenticationStrength::PhishingResistant, None));
        let uploads = self.has("no-upload").then_some(Constraint::FileTransfer {
            up: false,
            down: true,
        });
        let watcher = self
            .number("watcher:")
            .map(|wait_s| Constraint::Watcher { wait_s });
        let keyboard = self
            .has("own-keyboard")
            .then_some(Constraint::Keyboard { shared: false });
        let read_only = self.has("read-only").then_some(Constraint::ReadOnly);
        let rows = self.number("rows:").map(|most| Constraint::Budget {
            of: Budget::StatementRows,
            most,
        });
        let mask = self.has("mask").then(|| Constraint::Mask {
            columns: Masks::from([("*.*.customer.email".parse().unwrap(), Mask::Null)]),
        });
        Ok(Evaluation {
            bundle: BundleHash("test".to_owned()),
            is_authorised: self.has("permit"),
            determining: Vec::new(),
            is_forbidden: self.has(&format!("forbid:{what}")),
            demands: vec![Demand {
                policy: "limits".to_owned(),
                requirements: [age, strong, self.held()].into_iter().flatten().collect(),
                constraints: [idle, uploads, watcher, keyboard, read_only, rows, mask]
                    .into_iter()
                    .flatten()
                    .collect(),
            }],
        })
    }
}

/// Alice, with a live grant of one hour, asks for root on web-1.
pub(crate) fn question() -> Question {
    let person_id = PersonId::new(START, [1; 10]);
    let account_id = AccountId::new(START, [2; 10]);
    Question {
        action: Action::SessionOpen,
        now: START,
        principal: PrincipalFacts {
            kind: PrincipalKind::Person,
            id: person_id.clone(),
            name: "alice".parse().unwrap(),
            groups: Vec::new(),
            is_enabled: true,
        },
        authentication: Authentication {
            strength: AuthenticationStrength::SingleFactor,
            at: START,
            methods: vec!["ssh_key".to_owned()],
        },
        network: NetworkFacts {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        },
        target: TargetFacts {
            id: TargetId::new(START, [3; 10]),
            name: "web-1".parse().unwrap(),
            protocol: "ssh".to_owned(),
            labels: BTreeMap::new(),
            sensitivity: Sensitivity::High,
        },
        account: AccountFacts {
            id: account_id.clone(),
            name: "root".parse().unwrap(),
        },
        request: None,
        grant: Some(GrantFacts {
            id: GrantId::new(START, [4; 10]),
            person_id,
            account_id,
            from: START,
            until: START.plus(Duration::from_secs(3_600)),
            is_open: true,
            is_break_glass: false,
        }),
        operation: None,
        locks: Vec::new(),
        history: HistoryFacts::default(),
    }
}

/// The key that control signs permits with.
pub(crate) struct PermitSigner(Ed25519KeyPair);

impl PermitSigner {
    pub(crate) fn generate() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// A permit for session `number` at `gateway_id`, decided by `bundle` on [`question`].
    pub(crate) fn permit(
        &self,
        number: u8,
        gateway_id: &GatewayId,
        bundle: &str,
        question: &Question,
    ) -> SignedPermit {
        let engine = READ_BUNDLE(bundle).unwrap();
        let Decision::Permit(authorisation) = decide(engine.as_ref(), question) else {
            panic!("the test's policies `{bundle}` do not permit the session");
        };
        let ids = PermitIds {
            id: PermitId::new(START, [number; 10]),
            session_id: session_id(number),
            recording_id: recording_id(number),
            gateway_id: gateway_id.clone(),
        };
        let permit = Permit::mint(&authorisation, ids).unwrap();
        permit
            .sign(|bytes| self.0.sign(bytes).as_ref().to_vec())
            .unwrap()
    }
}

pub(crate) fn session_id(number: u8) -> SessionId {
    SessionId::new(START, [number; 10])
}

pub(crate) fn recording_id(number: u8) -> RecordingId {
    RecordingId::new(START, [number; 10])
}

/// Why a session ended, which it must.
pub(crate) async fn ended(session: &Session) -> End {
    tokio::time::timeout(PATIENCE, session.ended())
        .await
        .expect("the session must end")
}

/// A gateway node around a control plane in memory.
pub(crate) struct Harness {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) control: Arc<FakeControl>,
    pub(crate) node: Arc<Node>,
    pub(crate) directory: TempDir,
    pub(crate) signer: PermitSigner,
    pub(crate) stop_evidence: CancellationToken,
    /// What the protocol of its doors enforces.
    pub(crate) enforced: Restraints,
}

impl Harness {
    /// A node whose recordings are files and whose spool is roomy. Policies permit everything.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let recordings = RecordingDirectory::open(directory.path().join("recordings")).unwrap();
        Self::with(directory, Arc::new(recordings), Limits::default())
    }

    pub(crate) fn with(
        directory: TempDir,
        recordings: Arc<dyn RecordingStore>,
        limits: Limits,
    ) -> Self {
        let clock = ManualClock::start();
        let control = Arc::new(FakeControl::default());
        let live = Arc::new(LiveSessions::new(16));
        let directives = Arc::new(Directives::new(Arc::clone(&live), READ_BUNDLE));
        let tasks = Tasks::default();
        let spool = Spool::open(directory.path().join("spool"), limits.spool_bytes_max).unwrap();
        let (outbox, carrier) = outbox(
            spool,
            Arc::clone(&control) as _,
            Arc::clone(&live),
            clock.clone(),
        );
        let stop_evidence = CancellationToken::new();
        tasks.spawn("evidence", carrier.run(stop_evidence.clone(), PATIENCE));
        let signer = PermitSigner::generate();
        let node = Arc::new(Node {
            gateway_id: GatewayId::new(START, [9; 10]),
            counts: Counts::new(
                limits.connections_max,
                limits.unauthenticated_per_source_max,
                clock.now(),
            ),
            limits,
            clock: clock.clone(),
            entropy: Arc::new(CountingEntropy::default()),
            control: Arc::clone(&control) as _,
            directives,
            live,
            outbox,
            recordings,
            sealing_key: SealingKey::generate().unwrap(),
            redaction: crate::redaction::RuleShelf::default(),
            tasks,
        });
        let harness = Self {
            clock,
            control,
            node,
            directory,
            signer,
            stop_evidence,
            enforced: Restraints::NONE,
        };
        harness.welcome("permit", Duration::from_secs(60));
        harness
    }

    /// Control's welcome, with these policies.
    pub(crate) fn welcome(&self, bundle: &str, control_grace: Duration) {
        let welcome = Welcome {
            permit_key: self.signer.public(),
            bundle: bundle.to_owned(),
            user_authorities: Vec::new(),
            end_now: Vec::new(),
            paused: Vec::new(),
            control_grace_s: control_grace.as_secs(),
            tls_certificate: Vec::new(),
        };
        self.node.directives.welcomed(welcome, self.clock.now());
    }

    /// A door for a connection from this machine.
    pub(crate) fn door(&self) -> Door {
        Door::new(
            Arc::clone(&self.node),
            Arc::new(self.connection()),
            self.enforced,
        )
    }

    pub(crate) fn connection(&self) -> Connection {
        let grace = LoginGrace::new(Duration::from_secs(120), self.clock.clone());
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Connection::new(1, source, CancellationToken::new(), Arc::new(grace), None)
    }

    /// What control answers when it opens session `number`.
    pub(crate) fn opened(&self, number: u8) -> api::Opened {
        self.opened_with(
            self.signer
                .permit(number, &self.node.gateway_id, "permit", &question()),
        )
    }

    /// The same with another permit; everything sealed is for session 1.
    pub(crate) fn opened_with(&self, permit: SignedPermit) -> api::Opened {
        let number = (1..=8)
            .find(|number| {
                serde_json::to_string(&permit)
                    .unwrap()
                    .contains(session_id(*number).as_str())
            })
            .unwrap();
        let public_key = self.node.sealing_key.public();
        let credential = br#"{"kind":"password","password":"correct horse"}"#;
        api::Opened {
            permit,
            address: "127.0.0.1:9".to_owned(),
            host_keys: Vec::new(),
            pins_first_host_key: true,
            credential: seal(public_key, CREDENTIAL_INFO, &session_id(number), credential),
            recording_key: seal(
                public_key,
                RECORDING_KEY_INFO,
                &session_id(number),
                &RECORDING_KEY,
            ),
            wrapped_recording_key: "wrapped".to_owned(),
            notice: "this session is recorded".to_owned(),
        }
    }

    /// Asks for root on web-1; control answers with `opened`.
    pub(crate) async fn try_open(&self, opened: api::Opened) -> OpenOutcome {
        self.control
            .answer_open(move |_| OpenAnswer::Opened(Box::new(opened)));
        self.ask().await
    }

    /// Asks for root on web-1; the answer was prepared.
    pub(crate) async fn ask(&self) -> OpenOutcome {
        let proof = AuthenticationId::new(START, [1; 10]);
        let (account, target) = ("root".parse().unwrap(), "web-1".parse().unwrap());
        self.door()
            .open_session(proof, "ssh", account, target)
            .await
    }

    /// What control answers when it opens session `number` as this bundle has it.
    pub(crate) fn opened_by(&self, number: u8, bundle: &str) -> api::Opened {
        self.opened_with(
            self.signer
                .permit(number, &self.node.gateway_id, bundle, &question()),
        )
    }

    /// A session that is open.
    pub(crate) async fn open(&self, number: u8) -> Arc<Session> {
        match self.try_open(self.opened(number)).await {
            OpenOutcome::Opened(session) => session,
            other => panic!("the session did not open: {other:?}"),
        }
    }

    /// Waits until `count` sessions are closed at control, and returns the last.
    pub(crate) async fn closed(&self, count: usize) -> SessionClosed {
        self.control.until(|told| told.closed.len() >= count).await;
        let told = self.control.told.lock().unwrap();
        assert_eq!(
            told.closed.len(),
            count,
            "closed more than once: {:?}",
            told.closed
        );
        told.closed.last().unwrap().clone()
    }
}
