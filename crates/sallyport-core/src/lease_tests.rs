//! The life of a lease, step by step and in any order.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use proptest::prelude::*;

use super::*;
use crate::fixture::{account_id, at, grant};

fn lease() -> Lease {
    Lease {
        id: LeaseId::new(at(0), [1; 10]),
        grant_id: grant(at(0), at(1)).id,
        session_id: SessionId::new(at(0), [2; 10]),
        account_id: account_id(),
        engine: "ssh_ca".into(),
        state: LeaseState::Intended,
        expires_at: at(300),
        handle: None,
        revoke_attempts: 0,
        next_attempt_at: at(0),
        last_failure: None,
    }
}

/// VA-3
#[test]
fn a_lease_is_intended_issued_revoked() {
    let mut lease = lease();
    lease.issued(Some("serial 7".into())).unwrap();
    assert_eq!(lease.state, LeaseState::Issued);
    assert_eq!(lease.handle.as_deref(), Some("serial 7"));
    lease.begin_revocation(at(50));
    assert_eq!(
        (lease.state, lease.next_attempt_at),
        (LeaseState::Revoking, at(50))
    );
    lease.revoked().unwrap();
    assert_eq!(lease.state, LeaseState::Revoked);
}

/// VA-3, AC-6: the session was ended while its credential was being made.
#[test]
fn a_credential_made_after_revocation_began_is_not_put_to_use() {
    let mut lease = lease();
    lease.begin_revocation(at(1));
    let refused = lease.issued(Some("serial 7".into())).unwrap_err();
    assert_eq!(
        refused,
        LeaseStepError::WrongState {
            lease: lease.id.clone(),
            state: LeaseState::Revoking,
            step: "issued"
        }
    );
    assert_eq!(lease.handle, None);
}

/// VA-3: a crash between intent and issue leaves an intent, which is swept like any lease.
#[test]
fn an_intent_without_a_credential_is_revoked_like_a_lease() {
    let mut lease = lease();
    lease.begin_revocation(at(1));
    lease.revoked().unwrap();
    assert_eq!(lease.state, LeaseState::Revoked);
}

#[test]
fn nothing_is_revoked_that_was_not_being_revoked() {
    let mut intended = lease();
    assert!(intended.revoked().is_err());
    intended.issued(None).unwrap();
    assert!(intended.revoked().is_err());
    assert_eq!(intended.state, LeaseState::Issued);
}

/// VA-3: revocation is tried for ever, at most five minutes apart.
#[test]
fn failed_revocations_double_their_delay_from_one_second_to_half_a_minute_and_jitter() {
    let mut lease = lease();
    lease.begin_revocation(at(0));
    let delays: Vec<u64> = (0..12)
        .map(|_| {
            lease.revocation_failed(at(100), "no answer", 0);
            lease.next_attempt_at.since(at(100)).as_secs()
        })
        .collect();
    assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30]);
    lease.revoke_attempts = u32::MAX;
    lease.revocation_failed(at(100), &"x".repeat(501), 255);
    let late = lease.next_attempt_at.since(at(130));
    assert!(
        late > Duration::from_secs(14) && late < Duration::from_secs(15),
        "{late:?}"
    );
    assert_eq!(lease.last_failure.as_ref().unwrap().len(), 500);
    assert!(lease.is_stuck());
    lease.retry(at(7));
    assert_eq!(lease.next_attempt_at, at(7));
    assert_eq!(lease.state, LeaseState::Revoking);
}

/// AC-5, VA-3
#[test]
fn a_credential_never_outlives_its_grant() {
    let minute = Duration::from_secs(60);
    assert_eq!(expiry(at(0), minute, at(600)), at(60));
    assert_eq!(expiry(at(0), minute, at(30)), at(30));
    assert_eq!(expiry(at(0), Duration::MAX, at(30)), at(30));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Issue,
    BeginRevocation,
    Revoke,
    FailRevocation,
}

/// How far along a life a state is.
fn age(state: LeaseState) -> u8 {
    match state {
        LeaseState::Intended => 0,
        LeaseState::Issued => 1,
        LeaseState::Revoking => 2,
        LeaseState::Revoked => 3,
    }
}

proptest! {
    /// VA-3: in any order of steps a lease only grows older, a refused step changes nothing, revoked
    /// is reached only through revoking, and the way there is always open.
    #[test]
    fn a_lease_never_goes_back(steps in prop::collection::vec(
        prop::sample::select(vec![Step::Issue, Step::BeginRevocation, Step::Revoke, Step::FailRevocation]),
        0..16,
    )) {
        let mut lease = lease();
        for (n, step) in steps.into_iter().enumerate() {
            let before = lease.clone();
            let now = at(u64::try_from(n).unwrap());
            let result = match step {
                Step::Issue => lease.issued(Some(format!("handle {n}"))),
                Step::BeginRevocation => {
                    lease.begin_revocation(now);
                    Ok(())
                }
                Step::Revoke => lease.revoked(),
                Step::FailRevocation => {
                    lease.revocation_failed(now, "no answer", 7);
                    Ok(())
                }
            };
            prop_assert!(age(lease.state) >= age(before.state));
            if result.is_err() {
                prop_assert_eq!(&lease, &before);
            }
            if lease.state == LeaseState::Revoked {
                prop_assert!(age(before.state) >= age(LeaseState::Revoking));
            }
            if before.handle.is_some() {
                prop_assert_eq!(&lease.handle, &before.handle, "the handle needed to revoke is never lost");
            }
            prop_assert_eq!(lease.expires_at, before.expires_at);
        }
        lease.begin_revocation(at(99));
        prop_assert!(lease.state == LeaseState::Revoked || lease.revoked().is_ok());
    }
}
