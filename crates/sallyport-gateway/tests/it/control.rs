//! A control plane for tests: it speaks the gateway RPC over a Unix socket, decides by what a test
//! set, and remembers what it was told.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use bytes::BytesMut;
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{Hpke as _, HpkePublicKey},
};
use sallyport_api::gateway::{
    self as api, AuthenticationAnswer, Call, Credential, FromControl, FromGateway, HeldProgress,
    Push, Reply, RequestAnswer, RequestProgress, decode_frame, encode_frame,
};
use sallyport_core::{
    authz::{
        AccountFacts, Action, Decision, Evaluation, GrantFacts, HistoryFacts, NetworkFacts, Permit,
        PermitIds, PolicyEngine, PolicyError, PrincipalFacts, Question, Reason, TargetFacts, Unmet,
        decide,
    },
    entropy::Entropy,
    id::{
        AccountId, AuthenticationId, GatewayId, GrantId, OperationId, PermitId, PersonId,
        RecordingId, RequestId, SessionId, TargetId,
    },
    inventory::Sensitivity,
    policy::{BundleHash, Constraint, Demand},
    principal::{Authentication, AuthenticationStrength, PersonName, PrincipalKind},
    session::{EndReason, OperationRecord},
    time::{Clock, Timestamp},
};
use sallyport_gateway::sealing::{CREDENTIAL_INFO, RECORDING_KEY_INFO};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Notify, mpsc},
};
use tokio_util::sync::CancellationToken;

/// Longest that a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The key of every recording in tests.
pub(crate) const RECORDING_KEY: [u8; 32] = [7; 32];
/// Policies that permit everything, as a bundle's text.
pub(crate) const PERMIT_ALL: &str = r#"@id("all") permit (principal, action, resource);"#;

/// The system's clock: real servers compare with it.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "real servers look at the real clock"
    )]
    fn now(&self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_unix_ms(i64::try_from(elapsed.as_millis()).unwrap())
    }
}

/// The system's randomness.
#[derive(Debug)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, destination: &mut [u8]) {
        SystemRandom::new().fill(destination).unwrap();
    }
}

fn draw() -> [u8; 10] {
    let entropy: &dyn Entropy = &SystemEntropy;
    entropy.draw()
}

fn now() -> Timestamp {
    SystemClock.now()
}

/// The text of a bundle with these policies in its authorise and require sets.
fn bundle_of(authorise: &str, require: &str) -> String {
    let mut files = BTreeMap::from([("authorise/test.cedar".to_owned(), authorise.to_owned())]);
    if !require.is_empty() {
        files.insert("require/test.cedar".to_owned(), require.to_owned());
    }
    sallyport_policy::Bundle::load(&files).unwrap().to_text()
}

/// What control was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) proofs: Vec<String>,
    pub(crate) opens: Vec<api::OpenSession>,
    pub(crate) submissions: Vec<api::Submission>,
    pub(crate) cancelled: Vec<RequestId>,
    pub(crate) held: Vec<api::HoldOperation>,
    pub(crate) withdrawn: Vec<OperationId>,
    pub(crate) operations: Vec<OperationRecord>,
    pub(crate) closed: Vec<api::SessionClosed>,
    pub(crate) pinned: Vec<String>,
    pub(crate) reported: Vec<String>,
}

/// What a test decides beforehand.
pub(crate) struct Rules {
    /// Who has which key, by its OpenSSH line.
    pub(crate) keys: HashMap<String, PersonName>,
    /// Passwords and one-time codes of people.
    pub(crate) secrets: HashMap<PersonName, (String, String)>,
    /// What must be met before a session opens; met once they are gone.
    pub(crate) unmet: Vec<Unmet>,
    /// Refuses every session for this.
    pub(crate) refuses: Option<Reason>,
    /// Authorities of user certificates.
    pub(crate) authorities: Vec<String>,
    /// Where the target is.
    pub(crate) address: String,
    /// Its pinned host keys.
    pub(crate) host_keys: Vec<String>,
    /// Whether the first seen may be pinned.
    pub(crate) pins_first_host_key: bool,
    /// What to log in with, as JSON.
    pub(crate) credential: String,
    /// What the person reads.
    pub(crate) notice: String,
    /// Limits of the permit.
    pub(crate) constraints: Vec<Constraint>,
    /// Policies for operations.
    pub(crate) bundle: String,
    /// Policies of the require set.
    pub(crate) require: String,
}

struct State {
    rules: Rules,
    told: Told,
    people: HashMap<AuthenticationId, PersonName>,
    codes: HashSet<AuthenticationId>,
    requests: HashMap<RequestId, RequestProgress>,
    held: HashMap<OperationId, HeldProgress>,
    pushes: Vec<mpsc::Sender<FromControl>>,
    sessions: Vec<SessionId>,
}

/// The control plane.
pub(crate) struct Control {
    state: Mutex<State>,
    changed: Notify,
    signer: Ed25519KeyPair,
    socket: PathBuf,
    stopped: CancellationToken,
}

impl Control {
    /// Listens on a socket in `directory`.
    pub(crate) fn start(directory: &Path, rules: Rules) -> Arc<Self> {
        let socket = directory.join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let control = Arc::new(Self {
            state: Mutex::new(State {
                rules,
                told: Told::default(),
                people: HashMap::new(),
                codes: HashSet::new(),
                requests: HashMap::new(),
                held: HashMap::new(),
                pushes: Vec::new(),
                sessions: Vec::new(),
            }),
            changed: Notify::new(),
            signer: Ed25519KeyPair::generate().unwrap(),
            socket,
            stopped: CancellationToken::new(),
        });
        let accepting = Arc::clone(&control);
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn(Arc::clone(&accepting).serve(stream));
            }
        });
        control
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes what control decides by.
    pub(crate) fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.state().rules);
        self.changed.notify_waiters();
    }

    /// Looks at what control was told.
    pub(crate) fn told<T>(&self, look: impl FnOnce(&Told) -> T) -> T {
        look(&self.state().told)
    }

    /// Forgets everything that it was told.
    pub(crate) fn forget(&self) {
        self.state().told = Told::default();
    }

    /// How many sessions it has let open.
    pub(crate) fn sessions(&self) -> usize {
        self.state().sessions.len()
    }

    /// Forgets the proofs that a test's preparation made.
    pub(crate) fn forget_proofs(&self) {
        self.state().told.proofs.clear();
    }

    /// Waits until what was told gives an answer.
    pub(crate) async fn until<T>(&self, look: impl Fn(&Told) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = self.told(&look) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("control was never told; it knows {:#?}", self.state().told),
        }
    }

    /// Waits for the only request and sets where it stands.
    pub(crate) async fn decide_request(&self, progress: RequestProgress) -> RequestId {
        self.until(|told| (!told.submissions.is_empty()).then_some(()))
            .await;
        let mut state = self.state();
        let request_id = state.requests.keys().next().unwrap().clone();
        if matches!(progress, RequestProgress::Granted { .. }) {
            state
                .rules
                .unmet
                .retain(|unmet| matches!(unmet, Unmet::Mfa { .. }));
        }
        state.requests.insert(request_id.clone(), progress);
        drop(state);
        self.changed.notify_waiters();
        request_id
    }

    /// Approves the only request.
    pub(crate) async fn approve(&self) -> RequestId {
        let until = now().plus(Duration::from_secs(3_600));
        let grant_id = GrantId::new(now(), draw());
        self.decide_request(RequestProgress::Granted { grant_id, until })
            .await
    }

    /// Waits for the `number`th held operation, from 1, and settles it; returns it.
    pub(crate) async fn settle(&self, number: usize, progress: HeldProgress) -> api::HoldOperation {
        let hold = self.until(|told| told.held.get(number - 1).cloned()).await;
        self.state()
            .held
            .insert(hold.operation_id.clone(), progress);
        self.changed.notify_waiters();
        hold
    }

    /// Puts other policies of the require set in force, in order with every answer that follows.
    pub(crate) async fn change_bundle(&self, require: &str) {
        let pushes = self.state().pushes.clone();
        let bundle = bundle_of(PERMIT_ALL, require);
        for push in pushes {
            let bundle = bundle.clone();
            let push_bundle = Push::Bundle { bundle };
            let _ = push.send(FromControl::Push { push: push_bundle }).await;
        }
    }

    /// Pushes something about the last session.
    pub(crate) async fn push(&self, make: impl Fn(SessionId) -> Push) {
        let (pushes, session_id) = {
            let state = self.state();
            (state.pushes.clone(), state.sessions.last().unwrap().clone())
        };
        for queue in pushes {
            let push = make(session_id.clone());
            let _ = queue.send(FromControl::Push { push }).await;
        }
    }

    /// Tells every gateway to end the last session.
    pub(crate) async fn end_session(&self, reason: EndReason, comment: &str) {
        self.push(|session_id| Push::EndSession {
            session_id,
            reason,
            comment: comment.to_owned(),
        })
        .await;
    }

    /// Breaks every connection and takes no new one.
    pub(crate) async fn stop(&self) {
        std::fs::remove_file(&self.socket).unwrap();
        self.stopped.cancel();
        let pushes = std::mem::take(&mut self.state().pushes);
        for push in pushes {
            push.closed().await;
        }
    }

    async fn serve(self: Arc<Self>, stream: UnixStream) {
        let stopped = self.stopped.clone();
        tokio::select! {
            () = self.converse(stream) => {}
            () = stopped.cancelled() => {}
        }
    }

    async fn converse(self: Arc<Self>, stream: UnixStream) {
        let (mut reader, mut writer) = stream.into_split();
        let (sender, mut receiver) = mpsc::channel::<FromControl>(64);
        self.state().pushes.push(sender.clone());
        let (heart, stopped) = (sender.clone(), self.stopped.clone());
        spawn(async move {
            let beat = || FromControl::Push {
                push: Push::Heartbeat,
            };
            while heart.send(beat()).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        spawn(async move {
            loop {
                let frame = tokio::select! {
                    frame = receiver.recv() => frame,
                    () = stopped.cancelled() => None,
                };
                let Some(frame) = frame else { return };
                let mut bytes = BytesMut::new();
                encode_frame(&frame, &mut bytes).unwrap();
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let mut buffer = BytesMut::new();
        let mut hello = None;
        loop {
            while let Some(FromGateway { id, call }) = decode_frame(&mut buffer).unwrap() {
                if let Call::Hello(said) = &call {
                    hello = Some((said.gateway_id.clone(), said.sealing_key.clone()));
                }
                let (control, sender, hello) =
                    (Arc::clone(&self), sender.clone(), hello.clone().unwrap());
                spawn(async move {
                    let reply = control.answer(call, &hello.0, &hello.1).await;
                    let _ = sender.send(FromControl::Reply { id, reply }).await;
                });
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    async fn answer(&self, call: Call, gateway_id: &GatewayId, sealing_key: &[u8]) -> Reply {
        let reply = match call {
            Call::Hello(_) => self.welcome(),
            Call::ProveSshKey(proof) => {
                let person = self.state().rules.keys.get(&proof.public_key).cloned();
                self.proven(
                    format!("key {}", proof.public_key),
                    person,
                    &proof.facts,
                    false,
                )
            }
            Call::ProveSshCertificate(proof) => {
                let person = Some("alice".parse().unwrap());
                self.proven("certificate".to_owned(), person, &proof.facts, false)
            }
            Call::ProvePassword(proof) => self.prove_password(&proof),
            Call::ProvePass(_) => {
                Reply::Authentication(api::AuthenticationAnswer::Refused { reason: None })
            }
            Call::OpenSession(open) => self.open(&open, gateway_id, sealing_key),
            Call::SubmitRequest(submission) => self.submit(submission),
            Call::AwaitRequest {
                request_id, seen, ..
            } => self.await_request(request_id, &seen).await,
            Call::CancelRequest { request_id, .. } => self.note(|told| {
                told.cancelled.push(request_id);
            }),
            Call::PinHostKey { host_key, .. } => self.note(|told| told.pinned.push(host_key)),
            Call::ReportHostKey { host_key, .. } => self.note(|told| told.reported.push(host_key)),
            Call::HoldOperation(hold) => self.hold(*hold),
            Call::AwaitOperation {
                operation_id, seen, ..
            } => self.await_operation(&operation_id, seen).await,
            Call::WithdrawOperation { operation_id, .. } => {
                self.note(|told| told.withdrawn.push(operation_id))
            }
            Call::RecordOperations(batch) => {
                self.note(|told| told.operations.extend(batch.records))
            }
            Call::AnchorRecording(_) => Reply::Done,
            Call::CloseSession(closed) => self.note(|told| told.closed.push(closed)),
        };
        self.changed.notify_waiters();
        reply
    }

    fn note(&self, note: impl FnOnce(&mut Told)) -> Reply {
        note(&mut self.state().told);
        Reply::Done
    }

    fn welcome(&self) -> Reply {
        let state = self.state();
        Reply::Welcome(Box::new(api::Welcome {
            permit_key: self.signer.public_key().as_ref().to_vec(),
            bundle: bundle_of(&state.rules.bundle, &state.rules.require),
            user_authorities: state.rules.authorities.clone(),
            end_now: Vec::new(),
            paused: Vec::new(),
            control_grace_s: 60,
            tls_certificate: Vec::new(),
        }))
    }

    fn proven(
        &self,
        proof: String,
        person: Option<PersonName>,
        facts: &api::AuthenticationFacts,
        has_code: bool,
    ) -> Reply {
        let mut state = self.state();
        state.told.proofs.push(proof);
        let person = person.filter(|person| {
            facts
                .claimed
                .as_ref()
                .is_none_or(|claimed| claimed == person)
        });
        let Some(person) = person else {
            return Reply::Authentication(AuthenticationAnswer::Refused { reason: None });
        };
        let authentication_id = AuthenticationId::new(now(), draw());
        state
            .people
            .insert(authentication_id.clone(), person.clone());
        if has_code {
            state.codes.insert(authentication_id.clone());
        }
        Reply::Authentication(AuthenticationAnswer::Proven {
            authentication_id,
            person,
            strength: AuthenticationStrength::SingleFactor,
        })
    }

    fn prove_password(&self, proof: &api::PasswordProof) -> Reply {
        let person = {
            let state = self.state();
            let before = proof
                .facts
                .adds_to
                .as_ref()
                .and_then(|id| state.people.get(id));
            let person = before.or(proof.facts.claimed.as_ref()).cloned();
            person.filter(|person| {
                let Some((password, code)) = state.rules.secrets.get(person) else {
                    return false;
                };
                let matches = |given: &Option<sallyport_api::sensitive::Sensitive>, known: &str| {
                    given.as_ref().is_none_or(|given| given.expose() == known)
                };
                matches(&proof.password, password) && matches(&proof.code, code)
            })
        };
        let has_code = proof.code.is_some();
        let what = format!("password {} code {has_code}", proof.password.is_some());
        self.proven(what, person, &proof.facts, has_code)
    }

    fn open(&self, open: &api::OpenSession, gateway_id: &GatewayId, sealing_key: &[u8]) -> Reply {
        let mut state = self.state();
        state.told.opens.push(open.clone());
        let Some(person) = state.people.get(&open.authentication_id).cloned() else {
            return refused(Reason::NotPermitted);
        };
        if let Some(reason) = state.rules.refuses {
            return refused(reason);
        }
        let has_code = state.codes.contains(&open.authentication_id);
        let unmet: Vec<Unmet> = state
            .rules
            .unmet
            .iter()
            .filter(|unmet| !(has_code && matches!(unmet, Unmet::Mfa { .. })))
            .cloned()
            .collect();
        if !unmet.is_empty() {
            return Reply::Challenge(api::ChallengeAnswer {
                unmet,
                max_duration_s: 3_600,
                pending_request: None,
            });
        }
        let permit = permit(&state.rules, person, open, gateway_id);
        let session_id = permit.terms().session_id.clone();
        state.sessions.push(session_id.clone());
        let signed = permit
            .sign(|bytes| self.signer.sign(bytes).as_ref().to_vec())
            .unwrap();
        let seal = |info, content: &[u8]| seal(sealing_key, info, &session_id, content);
        Reply::Opened(Box::new(api::Opened {
            permit: signed,
            address: state.rules.address.clone(),
            host_keys: state.rules.host_keys.clone(),
            pins_first_host_key: state.rules.pins_first_host_key,
            credential: seal(CREDENTIAL_INFO, state.rules.credential.as_bytes()),
            recording_key: seal(RECORDING_KEY_INFO, &RECORDING_KEY),
            wrapped_recording_key: "wrapped".to_owned(),
            notice: state.rules.notice.clone(),
        }))
    }

    fn submit(&self, submission: api::Submission) -> Reply {
        let mut state = self.state();
        for unmet in &state.rules.unmet {
            if let Unmet::Justification { min_chars } = unmet
                && u64::try_from(submission.reason.chars().count()).unwrap() < *min_chars
            {
                return Reply::Request(RequestAnswer::Challenge(api::ChallengeAnswer {
                    unmet: state.rules.unmet.clone(),
                    max_duration_s: 3_600,
                    pending_request: None,
                }));
            }
        }
        state.told.submissions.push(submission);
        let request_id = RequestId::new(now(), draw());
        let progress = RequestProgress::Waiting {
            approvals_missing: 1,
            approved_by: Vec::new(),
            expires_at: now().plus(Duration::from_secs(600)),
        };
        state.requests.insert(request_id.clone(), progress.clone());
        Reply::Request(RequestAnswer::Progress {
            request_id,
            progress,
        })
    }

    fn hold(&self, hold: api::HoldOperation) -> Reply {
        let mut state = self.state();
        let progress = HeldProgress::Waiting {
            approvals_missing: 1,
            approved_by: Vec::new(),
            expires_at: now().plus(Duration::from_secs(600)),
        };
        state
            .held
            .insert(hold.operation_id.clone(), progress.clone());
        state.told.held.push(hold);
        Reply::Held(progress)
    }

    async fn await_operation(&self, operation_id: &OperationId, seen: HeldProgress) -> Reply {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let progress = self.state().held.get(operation_id).unwrap().clone();
                if progress != seen {
                    return progress;
                }
                changed.await;
            }
        };
        let progress = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        Reply::Held(progress.unwrap_or(seen))
    }

    async fn await_request(&self, request_id: RequestId, seen: &RequestProgress) -> Reply {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let progress = self.state().requests.get(&request_id).unwrap().clone();
                if progress != *seen {
                    return progress;
                }
                changed.await;
            }
        };
        let progress = tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .unwrap_or_else(|_| seen.clone());
        Reply::Request(RequestAnswer::Progress {
            request_id,
            progress,
        })
    }
}

fn refused(reason: Reason) -> Reply {
    Reply::Refused(api::Refused {
        reasons: vec![reason],
        reference: "ses_of_the_test".to_owned(),
    })
}

/// Permits everything within the test's constraints.
struct Permissive(Vec<Constraint>);

impl PolicyEngine for Permissive {
    fn evaluate(&self, _question: &Question) -> Result<Evaluation, PolicyError> {
        Ok(Evaluation {
            bundle: BundleHash("test".to_owned()),
            is_authorised: true,
            determining: Vec::new(),
            is_forbidden: false,
            demands: vec![Demand {
                policy: "limits".to_owned(),
                requirements: Vec::new(),
                constraints: self.0.clone(),
            }],
        })
    }
}

fn permit(
    rules: &Rules,
    person: PersonName,
    open: &api::OpenSession,
    gateway_id: &GatewayId,
) -> Permit {
    let at = now();
    let person_id = PersonId::new(at, [1; 10]);
    let account_id = AccountId::new(at, [2; 10]);
    let question = Question {
        action: Action::SessionOpen,
        now: at,
        principal: PrincipalFacts {
            kind: PrincipalKind::Person,
            id: person_id.clone(),
            name: person,
            groups: Vec::new(),
            is_enabled: true,
        },
        authentication: Authentication {
            strength: AuthenticationStrength::SingleFactor,
            at,
            methods: vec!["ssh_key".to_owned()],
        },
        network: NetworkFacts { ip: open.ip },
        target: TargetFacts {
            id: TargetId::new(at, [3; 10]),
            name: open.target.clone(),
            protocol: "ssh".to_owned(),
            labels: BTreeMap::new(),
            sensitivity: Sensitivity::High,
        },
        account: AccountFacts {
            id: account_id.clone(),
            name: open.account.clone(),
        },
        request: None,
        grant: Some(GrantFacts {
            id: GrantId::new(at, draw()),
            person_id,
            account_id,
            from: at,
            until: at.plus(Duration::from_secs(3_600)),
            is_open: true,
            is_break_glass: false,
        }),
        operation: None,
        locks: Vec::new(),
        history: HistoryFacts::default(),
    };
    let engine = Permissive(rules.constraints.clone());
    let Decision::Permit(authorisation) = decide(&engine, &question) else {
        panic!("the test's own policies do not permit the session");
    };
    let ids = PermitIds {
        id: PermitId::new(at, draw()),
        session_id: SessionId::new(at, draw()),
        recording_id: RecordingId::new(at, draw()),
        gateway_id: gateway_id.clone(),
    };
    Permit::mint(&authorisation, ids).unwrap()
}

fn seal(public_key: &[u8], info: &[u8], session_id: &SessionId, content: &[u8]) -> Credential {
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

#[expect(
    clippy::disallowed_methods,
    reason = "tasks of a test end with its runtime"
)]
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(future));
}
