//! What must hold after every step, found by counting.

use sallyport_core::{
    access::{AccessRequest, Grant, RequestState, ReviewState, Vote, VoteKind},
    authz::{Action, decide},
    lease::LeaseState,
};

use super::{
    policies::{ACCOUNTS, MAX_DURATION_S, PEOPLE, account_id, quorums},
    world::{Kept, World},
};

impl World {
    /// Checks every promise against what was kept `before` the step.
    pub(super) fn check(&mut self, before: &Kept) {
        self.check_new_grants(before);
        self.check_what_is_over(before);
        self.check_leases();
        self.check_locks_win();
    }

    /// No grant without a quorum of distinct people, none of them the requester, each for exactly what
    /// was asked; its clock from the approval; never longer than asked or allowed; one per request.
    /// Checked when the grant is new: what is granted never changes, which is checked below.
    fn check_new_grants(&self, before: &Kept) {
        for grant in &self.kept.grants[before.grants.len()..] {
            let requests: Vec<&AccessRequest> = self
                .kept
                .requests
                .iter()
                .filter(|request| request.id == grant.request_id)
                .collect();
            let [request] = requests.as_slice() else {
                panic!("a grant of {} requests", requests.len());
            };
            let state = RequestState::Granted {
                grant_id: grant.id.clone(),
            };
            assert_eq!(request.state, state, "a grant of another or no request");
            assert_eq!(grant.person_id, request.asked.requester_id);
            assert_eq!(grant.account_id, request.asked.account_id);
            assert_eq!(
                grant.from, self.begun[&grant.id],
                "the clock starts at the approval"
            );
            let duration_s = grant.until.since(grant.from).as_secs();
            assert!(duration_s <= MAX_DURATION_S && duration_s <= request.asked.duration_s);

            let hash = request.asked.content_hash();
            let votes: Vec<&Vote> = request
                .ballot
                .votes
                .iter()
                .filter(|vote| vote.content_hash == hash && vote.kind == VoteKind::Approve)
                .collect();
            for vote in &votes {
                assert_ne!(
                    vote.voter_id, request.asked.requester_id,
                    "voted for oneself"
                );
                let same = votes.iter().filter(|other| other.voter_id == vote.voter_id);
                assert_eq!(same.count(), 1, "voted twice");
            }
            let account = (0..ACCOUNTS)
                .find(|n| account_id(*n) == grant.account_id)
                .unwrap();
            let seats: Vec<Option<&str>> = quorums(account)
                .into_iter()
                .flat_map(|(count, from)| (0..count).map(move |_| from))
                .collect();
            assert!(
                grant.is_break_glass || can_seat(&seats, &votes),
                "granted without a quorum: {request:?}"
            );
        }
        let granted = self
            .kept
            .requests
            .iter()
            .filter(|request| matches!(request.state, RequestState::Granted { .. }));
        assert_eq!(
            granted.count(),
            self.kept.grants.len(),
            "each grant is kept once"
        );
    }

    /// What ended stays ended, exactly as it ended; nothing is lost.
    fn check_what_is_over(&self, before: &Kept) {
        let kept = &self.kept;
        for (old, new) in pairs(&before.requests, &kept.requests) {
            assert!(
                old.state == RequestState::Pending || old == new,
                "{old:?} became {new:?}"
            );
        }
        for (old, new) in pairs(&before.grants, &kept.grants) {
            assert!(old.ended.is_none() || old == new, "{old:?} became {new:?}");
            let is_back = new.ended.is_some() && (new.is_live(self.now) || new.is_live(new.from));
            assert!(!is_back, "{new:?} is live");
            assert_eq!(
                (old.from, old.until),
                (new.from, new.until),
                "a grant was prolonged"
            );
        }
        for (old, new) in pairs(&before.reviews, &kept.reviews) {
            assert!(
                old.state == ReviewState::Open || old == new,
                "{old:?} became {new:?}"
            );
        }
        for (old, new) in pairs(&before.leases, &kept.leases) {
            assert!(
                old.state != LeaseState::Revoked || old == new,
                "{old:?} became {new:?}"
            );
        }
        for (old, new) in pairs(&before.sessions, &kept.sessions) {
            assert!(
                old.ended.is_none() || old.ended == new.ended,
                "a session came back"
            );
        }
    }

    /// No credential outlives its grant, and none is in use without a live session.
    fn check_leases(&self) {
        for lease in &self.kept.leases {
            let grant = self
                .kept
                .grants
                .iter()
                .find(|grant| grant.id == lease.grant_id)
                .unwrap();
            assert!(
                lease.expires_at <= grant.until,
                "a lease outlives its grant"
            );
            let is_usable = matches!(lease.state, LeaseState::Issued | LeaseState::Intended);
            assert!(
                !is_usable || grant.is_live(self.now),
                "a credential without a live grant"
            );
        }
        for session in self
            .kept
            .sessions
            .iter()
            .filter(|session| session.ended.is_none())
        {
            let grant_id = &session.permit.terms().grant_id;
            let grant = self
                .kept
                .grants
                .iter()
                .find(|grant| grant.id == *grant_id)
                .unwrap();
            assert!(grant.is_live(self.now), "a session without a live grant");
        }
    }

    /// Whoever is stopped gets no yes to anything, grant or not.
    fn check_locks_win(&mut self) {
        let actions = [
            Action::RequestCreate,
            Action::SessionOpen,
            Action::OperationRun,
            Action::FeatureUse,
        ];
        let action = actions[self.dice.below(actions.len())];
        let account = self.dice.below(ACCOUNTS);
        for person in 0..PEOPLE {
            if !self.is_stopped(person, account) {
                continue;
            }
            let mut question = self.question(action, person, account);
            let grant = self.kept.grants.iter().rfind(|grant| {
                grant.person_id == question.principal.id && grant.account_id == question.account.id
            });
            question.grant = grant.map(Grant::facts);
            assert_eq!(decide(&self.policies, &question).outcome(), "deny");
        }
    }
}

/// What was there before, each with what became of it.
fn pairs<'a, T>(before: &'a [T], after: &'a [T]) -> impl Iterator<Item = (&'a T, &'a T)> {
    assert!(before.len() <= after.len(), "something was lost");
    before.iter().zip(after)
}

/// Whether distinct voters can take all seats: every way is tried.
fn can_seat(seats: &[Option<&str>], votes: &[&Vote]) -> bool {
    let Some((seat, rest)) = seats.split_first() else {
        return true;
    };
    (0..votes.len()).any(|index| {
        let groups = &votes[index].voter_groups;
        let is_fit = seat.is_none_or(|group| groups.iter().any(|other| other == group));
        let mut others = votes.to_vec();
        others.remove(index);
        is_fit && can_seat(rest, &others)
    })
}
