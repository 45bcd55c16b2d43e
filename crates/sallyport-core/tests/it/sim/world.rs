//! The shell that is simulated: what control and the gateways do, as simply as they are meant to do it.
//!
//! INVARIANT: load, ask core, keep what core returned. A rule that needs more than that is in the
//! wrong place.

use std::{collections::BTreeMap, time::Duration};

use sallyport_core::{
    access::{
        AccessRequest, Asked, Grant, Progress, RequestState, Review, ReviewState, VoteKind, Voter,
    },
    authz::{
        AccountFacts, Action, Decision, HistoryFacts, NetworkFacts, Permit, PermitIds,
        PrincipalFacts, Question, RequestFacts, TargetFacts, decide,
    },
    id::{
        GatewayId, GrantId, LeaseId, LockId, PermitId, PersonId, RecordingId, RequestId, ReviewId,
        SessionId,
    },
    inventory::Sensitivity,
    lease::{self, Lease, LeaseState},
    lock::{Lock, LockScope},
    principal::{AdminRole, Authentication, AuthenticationStrength, Person, PrincipalKind},
    session::{EndReason, Operation, OperationKind},
    time::Timestamp,
};

use super::policies::{
    ACCOUNTS, Dice, MAX_DURATION_S, PEOPLE, Policies, account_id, people, target_id,
};

/// An open session and the permit it came from.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) permit: Permit,
    pub(super) ended: Option<EndReason>,
}

/// What is stored, and must outlive every step.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) requests: Vec<AccessRequest>,
    pub(super) grants: Vec<Grant>,
    pub(super) reviews: Vec<Review>,
    pub(super) sessions: Vec<Session>,
    pub(super) leases: Vec<Lease>,
}

/// Everything there is.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now: Timestamp,
    pub(super) policies: Policies,
    pub(super) people: Vec<Person>,
    pub(super) locks: Vec<Lock>,
    pub(super) kept: Kept,
    /// When each grant was given.
    pub(super) begun: BTreeMap<GrantId, Timestamp>,
    /// What happened, so that a simulation that never does anything is noticed.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            now: Timestamp::from_unix_ms(1_772_445_600_000),
            policies: Policies { is_failing: false },
            people: people(),
            locks: vec![],
            kept: Kept::default(),
            begun: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn clone_of_what_is_kept(&self) -> Kept {
        self.kept.clone()
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn entropy(&mut self) -> [u8; 10] {
        let mut entropy = [0; 10];
        for byte in &mut entropy {
            *byte = u8::try_from(self.dice.below(256)).unwrap();
        }
        entropy
    }

    /// Some of `items`, when there are any.
    fn any_index(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.dice.below(count))
    }

    pub(super) fn question(&mut self, action: Action, person: usize, account: usize) -> Question {
        let person = &self.people[person];
        let age_s = self.dice.next() % 1_200;
        let is_strong = !self.dice.one_in(4);
        Question {
            action,
            now: self.now,
            principal: PrincipalFacts {
                kind: PrincipalKind::Person,
                id: person.id.clone(),
                name: person.name.clone(),
                groups: person.groups.clone(),
                is_enabled: person.is_enabled,
            },
            authentication: Authentication {
                strength: if is_strong {
                    AuthenticationStrength::MultiFactor
                } else {
                    AuthenticationStrength::SingleFactor
                },
                at: self.now.minus(Duration::from_secs(age_s)),
                methods: vec![],
            },
            network: NetworkFacts {
                ip: "192.0.2.1".parse().unwrap(),
            },
            target: TargetFacts {
                id: target_id(account),
                name: format!("target-{}", account / 2).parse().unwrap(),
                protocol: "ssh".into(),
                labels: BTreeMap::new(),
                sensitivity: Sensitivity::Medium,
            },
            account: AccountFacts {
                id: account_id(account),
                name: format!("account-{account}").parse().unwrap(),
            },
            request: None,
            grant: None,
            operation: None,
            locks: self.locks.clone(),
            history: HistoryFacts {
                open_reviews: self.open_reviews(&person.id),
            },
        }
    }

    fn open_reviews(&self, person: &PersonId) -> u64 {
        let open = self
            .kept
            .reviews
            .iter()
            .filter(|review| review.person_id == *person && review.state == ReviewState::Open);
        u64::try_from(open.count()).unwrap()
    }

    pub(super) fn is_stopped(&self, person: usize, account: usize) -> bool {
        let person = &self.people[person];
        !person.is_enabled
            || self.locks.iter().any(|lock| {
                let names = match &lock.scope {
                    LockScope::Person(id) => *id == person.id,
                    LockScope::Account(id) => *id == account_id(account),
                    LockScope::Target(id) => *id == target_id(account),
                    LockScope::Everything => true,
                };
                names && lock.until.is_none_or(|until| self.now < until)
            })
    }

    pub(super) fn step(&mut self) {
        match self.dice.below(100) {
            0..16 => self.ask(),
            16..42 => self.vote(),
            42..47 => self.cancel_or_edit(),
            47..65 => self.open_session(),
            65..77 => self.run_operation(),
            77..81 => self.end_grant(),
            81..84 => self.lock_or_unlock(),
            84..86 => self.disable_or_enable(),
            86..91 => self.close_review(),
            91..93 => self.work_on_leases(),
            93 => self.crash(),
            _ => self.wait(),
        }
        // Policies fail now and then, and are soon mended.
        self.policies.is_failing = self
            .dice
            .one_in(if self.policies.is_failing { 2 } else { 60 });
        self.run_jobs();
    }

    fn person_index(&self, id: &PersonId) -> usize {
        self.people
            .iter()
            .position(|person| person.id == *id)
            .unwrap()
    }

    fn ask(&mut self) {
        let (person, account) = (self.dice.below(PEOPLE), self.dice.below(ACCOUNTS));
        let is_break_glass = self.dice.one_in(6);
        let duration_s = 1 + self.dice.next() % (MAX_DURATION_S + 600);
        let mut question = self.question(Action::RequestCreate, person, account);
        question.request = Some(RequestFacts {
            id: None,
            reason: "rotate the certificates".into(),
            ticket: None,
            duration_s,
            is_break_glass,
        });
        let Decision::Permit(yes) = decide(&self.policies, &question) else {
            return;
        };
        assert!(!self.is_stopped(person, account), "permitted under a lock");
        assert!(duration_s <= MAX_DURATION_S);
        assert!(
            !is_break_glass || question.history.open_reviews == 0,
            "review outstanding"
        );
        let entropy = self.entropy();
        let asked = Asked {
            requester_id: question.principal.id.clone(),
            requester: question.principal.name.clone(),
            target_id: question.target.id.clone(),
            target: question.target.name.clone(),
            account_id: question.account.id.clone(),
            account: question.account.name.clone(),
            reason: "rotate the certificates".into(),
            ticket: None,
            duration_s,
            is_break_glass,
            bundle: yes.trace().bundle.clone().unwrap(),
        };
        let mut request = AccessRequest::submit(
            &yes,
            RequestId::new(self.now, entropy),
            asked,
            self.now.plus(Duration::from_secs(3_600)),
        );
        let progress = request.progress(self.now, GrantId::new(self.now, entropy));
        self.kept.requests.push(request);
        self.count("asked");
        self.keep(progress);
    }

    fn keep(&mut self, progress: Progress) {
        let Progress::Granted(grant) = progress else {
            return;
        };
        if grant.is_break_glass {
            let entropy = self.entropy();
            self.kept.reviews.push(Review {
                id: ReviewId::new(self.now, entropy),
                grant_id: grant.id.clone(),
                person_id: grant.person_id.clone(),
                opened_at: self.now,
                state: ReviewState::Open,
            });
            self.count("broke the glass");
        }
        self.begun.insert(grant.id.clone(), self.now);
        self.kept.grants.push(*grant);
        self.count("granted");
    }

    fn vote(&mut self) {
        // Mostly on what is newest, where votes are missing.
        let Some(index) = self.any_index(self.kept.requests.len().min(3)) else {
            return;
        };
        let index = self.kept.requests.len() - 1 - index;
        let voter = self.dice.below(PEOPLE);
        let kind = if self.dice.one_in(12) {
            VoteKind::Deny
        } else {
            VoteKind::Approve
        };
        let mut content_hash = self.kept.requests[index].asked.content_hash();
        if self.dice.one_in(20) {
            content_hash = "0".repeat(64);
        }
        let entropy = self.entropy();
        let voter = Voter {
            person: &self.people[voter],
            content_hash: &content_hash,
            comment: "",
        };
        let grant_id = GrantId::new(self.now, entropy);
        if let Ok(progress) = self.kept.requests[index].vote(&voter, kind, self.now, grant_id) {
            self.count("voted");
            self.keep(progress);
        }
    }

    fn cancel_or_edit(&mut self) {
        let Some(index) = self.any_index(self.kept.requests.len().min(3)) else {
            return;
        };
        let index = self.kept.requests.len() - 1 - index;
        if self.dice.one_in(2) {
            let by = self.dice.below(PEOPLE);
            let by = self.people[by].id.clone();
            if self.kept.requests[index].cancel(&by).is_ok() {
                assert_eq!(by, self.kept.requests[index].asked.requester_id);
            }
        } else if self.kept.requests[index].state == RequestState::Pending {
            self.kept.requests[index].asked.reason.push('!');
            self.count("edited");
        }
    }

    fn open_session(&mut self) {
        let (mut person, mut account) = (self.dice.below(PEOPLE), self.dice.below(ACCOUNTS));
        if let Some(grant) = self.kept.grants.last().filter(|_| !self.dice.one_in(3)) {
            person = self.person_index(&grant.person_id);
            account = account_index(&grant.account_id);
        }
        let mut question = self.question(Action::SessionOpen, person, account);
        // Mostly the right grant; sometimes any, sometimes none, as a fault in a shell might.
        let grant = match self.dice.below(6) {
            0 => None,
            1 => self.any_index(self.kept.grants.len()),
            _ => self.kept.grants.iter().rposition(|grant| {
                grant.person_id == question.principal.id && grant.account_id == question.account.id
            }),
        };
        question.grant = grant.map(|index| self.kept.grants[index].facts());
        let Decision::Permit(yes) = decide(&self.policies, &question) else {
            return;
        };
        let grant = self.kept.grants[grant.expect("permitted without a grant")].clone();
        self.check_permitted(person, account, &grant);
        let entropy = self.entropy();
        let ids = PermitIds {
            id: PermitId::new(self.now, entropy),
            session_id: SessionId::new(self.now, entropy),
            recording_id: RecordingId::new(self.now, entropy),
            gateway_id: GatewayId::new(Timestamp::EPOCH, [1; 10]),
        };
        let permit = Permit::mint(&yes, ids).unwrap();
        let ttl = Duration::from_secs(self.dice.next() % 7_200);
        let mut lease = Lease {
            id: LeaseId::new(self.now, entropy),
            grant_id: grant.id.clone(),
            session_id: permit.terms().session_id.clone(),
            account_id: grant.account_id.clone(),
            engine: "ssh_ca".into(),
            state: LeaseState::Intended,
            expires_at: lease::expiry(self.now, ttl, grant.until),
            handle: None,
            revoke_attempts: 0,
            next_attempt_at: self.now,
            last_failure: None,
        };
        // A crash may come between intent and issue.
        if !self.dice.one_in(5) {
            lease.issued(Some("serial".into())).unwrap();
        }
        self.kept.leases.push(lease);
        self.kept.sessions.push(Session {
            id: permit.terms().session_id.clone(),
            permit,
            ended: None,
        });
        self.count("opened");
    }

    fn check_permitted(&self, person: usize, account: usize, grant: &Grant) {
        assert!(
            !self.policies.is_failing,
            "permitted by policies that failed"
        );
        assert!(!self.is_stopped(person, account), "permitted under a lock");
        assert_eq!(
            grant.person_id, self.people[person].id,
            "another person's grant"
        );
        assert_eq!(
            grant.account_id,
            account_id(account),
            "another account's grant"
        );
        assert!(grant.ended.is_none(), "an ended grant");
        assert!(
            grant.from <= self.now && self.now < grant.until,
            "a grant that ran out"
        );
    }

    fn run_operation(&mut self) {
        let Some(index) = self.any_index(self.kept.sessions.len()) else {
            return;
        };
        if self.kept.sessions[index].ended.is_some() {
            return;
        }
        let operation = Operation {
            kind: OperationKind::Exec,
            detail: "id".into(),
            facts: None,
        };
        let terms = self.kept.sessions[index].permit.terms().clone();
        // The gateway asks on the facts of the permit and the locks that control streams to it.
        let mut question = terms.question.about_operation(operation, self.now);
        question.locks = self.locks.clone();
        if !matches!(decide(&self.policies, &question), Decision::Permit(_)) {
            return;
        }
        self.count("ran an operation");
        assert!(!self.policies.is_failing);
        assert!(
            terms.question.grant.unwrap().until > self.now,
            "an operation after the grant"
        );
        let account = (0..ACCOUNTS)
            .find(|n| account_id(*n) == question.account.id)
            .unwrap();
        let person = self
            .people
            .iter()
            .position(|p| p.id == question.principal.id)
            .unwrap();
        assert!(
            !self.is_stopped(person, account),
            "an operation under a lock"
        );
    }

    fn end_grant(&mut self) {
        let Some(index) = self.any_index(self.kept.grants.len()) else {
            return;
        };
        let was_open = self.kept.grants[index].ended.is_none();
        let has_ended = self.kept.grants[index].end(self.now, EndReason::GrantEnded);
        assert_eq!(was_open, has_ended);
    }

    fn lock_or_unlock(&mut self) {
        if !self.dice.one_in(3) && !self.locks.is_empty() {
            let index = self.dice.below(self.locks.len());
            self.locks.remove(index);
            return;
        }
        let (person, account) = (self.dice.below(PEOPLE), self.dice.below(ACCOUNTS));
        let scope = match self.dice.below(5) {
            0 => LockScope::Everything,
            1 => LockScope::Target(target_id(account)),
            2 => LockScope::Account(account_id(account)),
            _ => LockScope::Person(self.people[person].id.clone()),
        };
        let entropy = self.entropy();
        let until = self.dice.next() % 7_200;
        self.locks.push(Lock {
            id: LockId::new(self.now, entropy),
            scope,
            reason: "incident".into(),
            until: (until > 600).then(|| self.now.plus(Duration::from_secs(until))),
        });
        self.count("locked");
    }

    fn disable_or_enable(&mut self) {
        let person = self.dice.below(PEOPLE);
        let is_enabled = !self.people[person].is_enabled || !self.dice.one_in(2);
        self.people[person].is_enabled = is_enabled;
    }

    fn close_review(&mut self) {
        let is_open = |review: &Review| review.state == ReviewState::Open;
        // Mostly one that waits, by one of the two who may.
        let index = match self.kept.reviews.iter().position(is_open) {
            Some(index) if !self.dice.one_in(4) => index,
            _ => match self.any_index(self.kept.reviews.len()) {
                Some(index) => index,
                None => return,
            },
        };
        let among = if self.dice.one_in(4) { PEOPLE } else { 2 };
        let by = self.dice.below(among);
        let review = &mut self.kept.reviews[index];
        let grant = self
            .kept
            .grants
            .iter()
            .find(|g| g.id == review.grant_id)
            .unwrap();
        let is_live = grant.is_live(self.now);
        let by = &self.people[by];
        if review
            .close(by, "restarted it, nothing else", is_live, self.now)
            .is_ok()
        {
            assert_ne!(by.id, review.person_id);
            assert!(!is_live && by.is_enabled && by.admin_roles.contains(&AdminRole::Security));
            self.count("reviewed");
        }
    }

    fn work_on_leases(&mut self) {
        for lease in &mut self.kept.leases {
            if lease.state == LeaseState::Revoking && lease.next_attempt_at <= self.now {
                if self.dice.one_in(3) {
                    lease.revocation_failed(self.now, "no answer", 0);
                } else {
                    lease.revoked().unwrap();
                }
            }
        }
    }

    /// Everything in memory is lost; what was stored is read back.
    fn crash(&mut self) {
        fn restored<T: serde::Serialize + serde::de::DeserializeOwned>(items: &[T]) -> Vec<T> {
            serde_json::from_str(&serde_json::to_string(items).unwrap()).unwrap()
        }
        assert_eq!(restored(&self.kept.requests), self.kept.requests);
        assert_eq!(restored(&self.kept.grants), self.kept.grants);
        assert_eq!(restored(&self.kept.leases), self.kept.leases);
        assert_eq!(restored(&self.kept.reviews), self.kept.reviews);
        assert_eq!(restored(&self.locks), self.locks);
        // The gateways are gone with their sessions; the sweep revokes what they used.
        for session in &mut self.kept.sessions {
            session.ended.get_or_insert(EndReason::GatewayStopped);
        }
        for lease in &mut self.kept.leases {
            lease.begin_revocation(self.now);
        }
        self.count("crashed");
    }

    /// The clock only goes forward: by a moment, mostly; now and then by a day, as after sleep.
    fn wait(&mut self) {
        let ms = match self.dice.below(10) {
            0 => 86_400_000,
            1 | 2 => self.dice.next() % (4 * 3_600_000),
            _ => self.dice.next() % 600_000,
        };
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    /// What control does whenever it wakes: expire, end, revoke.
    fn run_jobs(&mut self) {
        for request in &mut self.kept.requests {
            let _ = request.expire(self.now);
        }
        for grant in &mut self.kept.grants {
            if self.now >= grant.until {
                let _ = grant.end(self.now, EndReason::GrantExpired);
            }
        }
        for index in 0..self.kept.sessions.len() {
            if self.kept.sessions[index].ended.is_some() {
                continue;
            }
            let question = &self.kept.sessions[index].permit.terms().question;
            let grant_id = &self.kept.sessions[index].permit.terms().grant_id;
            let grant = self
                .kept
                .grants
                .iter()
                .find(|grant| grant.id == *grant_id)
                .unwrap();
            let account = (0..ACCOUNTS)
                .find(|n| account_id(*n) == question.account.id)
                .unwrap();
            let person = self
                .people
                .iter()
                .position(|p| p.id == question.principal.id)
                .unwrap();
            let must_end = !grant.is_live(self.now) || self.is_stopped(person, account);
            if must_end {
                self.kept.sessions[index]
                    .ended
                    .get_or_insert(EndReason::GrantEnded);
            }
            if self.kept.sessions[index].ended.is_some() {
                let session_id = self.kept.sessions[index].id.clone();
                let leases = self.kept.leases.iter_mut();
                for lease in leases.filter(|lease| lease.session_id == session_id) {
                    lease.begin_revocation(self.now);
                }
            }
        }
    }
}

fn account_index(id: &sallyport_core::id::AccountId) -> usize {
    (0..ACCOUNTS).find(|n| account_id(*n) == *id).unwrap()
}
