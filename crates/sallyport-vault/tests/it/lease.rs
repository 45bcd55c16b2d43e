//! The flow of a lease, with a crash at every step.

use std::time::Duration;

use sallyport_core::{
    id::{AccountId, GrantId, LeaseId, SessionId},
    lease::{Lease, LeaseState},
    time::Timestamp,
};
use sallyport_vault::{
    engines::{self, Issued},
    lease::{LeaseError, LeaseStep, intend, issue, next_step, record, revoke},
};
use serde_json::json;

use crate::fixture::{
    NOW, after_s, context, lease_id, permit, permit_for, revocation, stored_secrets, unsealed_vault,
};

async fn make(lease: &Lease, until: Timestamp) -> Result<Issued, LeaseError> {
    let vault = unsealed_vault();
    let secrets = stored_secrets(&vault, engines::by_kind("ssh_ca").unwrap());
    let settings = json!({});
    issue(lease, &permit(until), context(&vault, &settings, &secrets)).await
}

/// What control's job does with what is in the store, until nothing is left to do.
async fn sweep_to_the_end(
    lease: &mut Lease,
    mut now: Timestamp,
    is_session_over: bool,
) -> Timestamp {
    for _ in 0..100 {
        match next_step(lease, is_session_over, now) {
            LeaseStep::Done => return now,
            LeaseStep::Wait(until) => {
                assert!(until > now, "waiting must end");
                now = until;
            }
            LeaseStep::BeginRevocation => lease.begin_revocation(now),
            LeaseStep::Revoke => {
                let _ = revoke(lease, revocation(&unsealed_vault(), now)).await;
            }
        }
    }
    panic!("the sweep never ends: {lease:?}");
}

/// VA-3: a crash after each commit leaves a lease that the sweep ends in time.
#[tokio::test]
async fn given_a_crash_at_each_step_when_swept_then_no_lease_outlives_its_grant() {
    let until = after_s(600);
    // After the intent, credential made or not: the store cannot tell, so it is revoked.
    let mut intended = intend(lease_id(), &permit(until), "static", &unsealed_vault(), NOW);
    let ended = sweep_to_the_end(&mut intended, NOW, false).await;
    assert_eq!(intended.state, LeaseState::Revoked);
    assert!(
        ended <= after_s(60),
        "an intent that led nowhere is noticed within a minute"
    );

    // After the credential was recorded.
    let mut issued = intend(lease_id(), &permit(until), "ssh_ca", &unsealed_vault(), NOW);
    let made = make(&issued, until).await.unwrap();
    record(&mut issued, &made, NOW).unwrap();
    assert_eq!(
        (issued.state, &issued.handle),
        (LeaseState::Issued, &made.handle)
    );
    assert_eq!(issued.expires_at, made.expires_at);
    let ended = sweep_to_the_end(&mut issued.clone(), NOW, false).await;
    assert_eq!(ended, made.expires_at);
    assert!(ended <= until);
    assert_eq!(
        sweep_to_the_end(&mut issued.clone(), NOW, true).await,
        NOW,
        "session over"
    );

    // After revocation began.
    issued.begin_revocation(NOW);
    assert_eq!(sweep_to_the_end(&mut issued, NOW, false).await, NOW);
}

/// VA-3
#[tokio::test]
async fn given_an_engine_that_is_gone_when_revoked_then_it_is_tried_for_ever_with_back_off() {
    let mut lease = intend(
        lease_id(),
        &permit(after_s(600)),
        "gone",
        &unsealed_vault(),
        NOW,
    );
    lease.begin_revocation(NOW);
    let mut now = NOW;
    for attempt in 1..40 {
        assert_eq!(next_step(&lease, true, now), LeaseStep::Revoke);
        let failed = revoke(&mut lease, revocation(&unsealed_vault(), now)).await;
        assert!(matches!(failed, Err(LeaseError::UnknownEngine { .. })));
        assert_eq!(
            (lease.state, lease.revoke_attempts),
            (LeaseState::Revoking, attempt)
        );
        let LeaseStep::Wait(next) = next_step(&lease, true, now) else {
            panic!("no back-off")
        };
        assert!((1..=45).contains(&next.since(now).as_secs()));
        now = next;
    }
}

/// VA-3: a permit serves its own session, grant and account only.
#[tokio::test]
async fn given_a_permit_of_another_session_grant_or_account_when_issued_then_it_is_refused() {
    let until = after_s(600);
    let lease = intend(lease_id(), &permit(until), "ssh_ca", &unsealed_vault(), NOW);
    let vault = unsealed_vault();
    let secrets = stored_secrets(&vault, engines::by_kind("ssh_ca").unwrap());
    let others = [
        permit_for(until, |terms| {
            terms.session_id = SessionId::new(NOW, [0xdd; 10])
        }),
        permit_for(until, |terms| {
            terms.grant_id = GrantId::new(NOW, [0xdd; 10])
        }),
        permit_for(until, |terms| {
            terms.question.account.id = AccountId::new(NOW, [0xdd; 10])
        }),
    ];
    for other in others {
        let refused = issue(&lease, &other, context(&vault, &json!({}), &secrets)).await;
        assert!(matches!(refused, Err(LeaseError::OtherSession { .. })));
    }
}

/// VA-3: what was made while revocation began is not used, and revoking reaches it.
#[tokio::test]
async fn given_a_lease_whose_revocation_began_when_recorded_then_the_credential_is_dropped() {
    let until = after_s(600);
    let mut lease = intend(lease_id(), &permit(until), "ssh_ca", &unsealed_vault(), NOW);
    let made = make(&lease, until).await.unwrap();
    lease.begin_revocation(NOW);
    assert!(matches!(
        record(&mut lease, &made, NOW),
        Err(LeaseError::Step(_))
    ));
    assert_eq!(
        (lease.state, lease.handle),
        (LeaseState::Revoking, made.handle)
    );
}

#[tokio::test]
async fn given_a_failed_issue_when_swept_then_the_intent_ends() {
    let until = after_s(600);
    let lease = intend(lease_id(), &permit(until), "static", &unsealed_vault(), NOW);
    let vault = unsealed_vault();
    let refused = issue(&lease, &permit(until), context(&vault, &json!({}), &[])).await;
    assert!(matches!(refused, Err(LeaseError::Engine { .. })));
    assert_eq!(
        next_step(&lease, false, NOW.plus(Duration::from_secs(59))),
        LeaseStep::Wait(after_s(60))
    );
    assert_eq!(
        next_step(&lease, false, after_s(60)),
        LeaseStep::BeginRevocation
    );
}

#[test]
fn given_a_permit_when_intended_then_the_lease_is_bound_to_what_it_says() {
    let permit = permit(after_s(600));
    let terms = permit.terms();
    let lease = intend(
        LeaseId::new(NOW, [1; 10]),
        &permit,
        "ssh_ca",
        &unsealed_vault(),
        NOW,
    );
    assert_eq!(lease.grant_id, terms.grant_id);
    assert_eq!(lease.session_id, terms.session_id);
    assert_eq!(lease.account_id, terms.question.account.id);
    assert_eq!(lease.expires_at, terms.expires_at);
    assert_eq!((lease.state, lease.handle), (LeaseState::Intended, None));
}
