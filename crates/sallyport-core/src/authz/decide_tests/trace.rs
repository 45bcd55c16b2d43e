//! What an answer says of itself: the bundle, the policies, the hash of the facts.

use super::*;

/// PO-9
#[test]
fn every_answer_names_the_bundle_the_policies_and_the_facts() {
    let policies = Policies::requiring(vec![approval(1, None)]);
    let asked = question(Action::RequestCreate);
    let decision = decide(&policies, &asked);
    let trace = decision.trace();
    assert_eq!(trace.bundle, Some(crate::fixture::bundle()));
    assert_eq!(trace.determining, ["permit"]);
    assert_eq!(trace.demanding, ["r0"]);
    assert_eq!(trace.facts_hash, asked.facts_hash());
    assert_eq!(decision.outcome(), "permit");

    let mut disabled = asked.clone();
    disabled.principal.is_enabled = false;
    let decision = decide(&policies, &disabled);
    assert_eq!(decision.outcome(), "deny");
    assert_eq!(decision.trace().bundle, None);
    assert_eq!(decision.trace().facts_hash, disabled.facts_hash());
    assert_ne!(decision.trace().facts_hash, asked.facts_hash());
}

/// PO-9: two questions that differ in any fact have different hashes.
#[test]
fn the_hash_of_the_facts_changes_with_every_fact() {
    let edits: [fn(&mut Question); 13] = [
        |_| {},
        |q| q.action = Action::RequestCreate,
        |q| q.now = at(1),
        |q| q.principal.groups.push("sre".into()),
        |q| q.principal.name = "bob".parse().unwrap(),
        |q| q.authentication.strength = AuthenticationStrength::SingleFactor,
        |q| q.network.ip = "192.0.2.11".parse().unwrap(),
        |q| drop(q.target.labels.insert("env".into(), "prod".into())),
        |q| q.account.name = "app".parse().unwrap(),
        |q| q.grant = None,
        |q| q.operation.as_mut().unwrap().detail = "id -u".into(),
        |q| q.locks.push(lock(LockScope::Everything)),
        |q| q.history.open_reviews = 1,
    ];
    let mut hashes: Vec<String> = edits
        .iter()
        .map(|edit| {
            let mut question = question(Action::OperationRun);
            edit(&mut question);
            question.facts_hash()
        })
        .collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), edits.len());
}
