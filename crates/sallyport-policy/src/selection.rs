//! Which policies of a set can apply to a question, found by their scope before any is evaluated.
//!
//! Cedar looks at every policy of the set it is given, so a question would cost the more the larger
//! the bundle is. A policy whose scope names another action, person, group, account or target cannot
//! be satisfied: it is left out here, and Cedar gets the rest.
//!
//! INVARIANT: what is left out could not have changed the answer. A scope is only ever widened when in
//! doubt (`is Type` counts as anything), and Cedar tests a scope before a condition, so a policy left
//! out could not have failed either.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint,
};

/// How many selections are kept made. When there are more, all are forgotten at once: simple, and
/// rare, because people of the same groups on targets under the same policies share one.
const SELECTIONS_KEPT: usize = 1_024;

/// What a question is about: the action, and each entity with everything it is in.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) action: EntityUid,
    /// The principal and its groups.
    pub(crate) principals: Vec<EntityUid>,
    /// The account and its target.
    pub(crate) resources: Vec<EntityUid>,
}

/// One set of a bundle, indexed by scope.
#[derive(Debug)]
pub(crate) struct PolicyIndex {
    policies: Vec<Policy>,
    /// Places in `policies`, by what the scope names; `None` where it names nothing.
    by_scope: HashMap<ScopeKey, Vec<usize>>,
    /// Selections made before, by exactly which policies they hold.
    kept: Mutex<HashMap<Vec<usize>, Arc<PolicySet>>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ScopeKey {
    action: Option<EntityUid>,
    principal: Option<EntityUid>,
    resource: Option<EntityUid>,
}

impl PolicyIndex {
    /// Indexes policies whose ids are unique.
    pub(crate) fn new(policies: Vec<Policy>) -> Self {
        let mut by_scope: HashMap<ScopeKey, Vec<usize>> = HashMap::new();
        for (place, policy) in policies.iter().enumerate() {
            let principal = match policy.principal_constraint() {
                PrincipalConstraint::Eq(uid)
                | PrincipalConstraint::In(uid)
                | PrincipalConstraint::IsIn(_, uid) => Some(uid),
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            };
            let resource = match policy.resource_constraint() {
                ResourceConstraint::Eq(uid)
                | ResourceConstraint::In(uid)
                | ResourceConstraint::IsIn(_, uid) => Some(uid),
                ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
            };
            let actions = match policy.action_constraint() {
                ActionConstraint::Any => vec![None],
                ActionConstraint::Eq(uid) => vec![Some(uid)],
                ActionConstraint::In(uids) => uids.into_iter().map(Some).collect(),
            };
            for action in actions {
                let key = ScopeKey {
                    action,
                    principal: principal.clone(),
                    resource: resource.clone(),
                };
                by_scope.entry(key).or_default().push(place);
            }
        }
        Self {
            policies,
            by_scope,
            kept: Mutex::default(),
        }
    }

    /// Every policy, in the order of the files.
    pub(crate) fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The policies that can apply.
    pub(crate) fn select(&self, scope: &Scope) -> Result<Arc<PolicySet>, String> {
        let places = self.candidates(scope);
        // A thread that panicked while holding the lock left a whole map behind: inserting is the only
        // thing done under it.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = kept.get(&places) {
            return Ok(Arc::clone(set));
        }
        let policies = places.iter().filter_map(|place| self.policies.get(*place));
        let set = Arc::new(
            PolicySet::from_policies(policies.cloned()).map_err(|error| error.to_string())?,
        );
        if kept.len() >= SELECTIONS_KEPT {
            kept.clear();
        }
        kept.insert(places, Arc::clone(&set));
        Ok(set)
    }

    fn candidates(&self, scope: &Scope) -> Vec<usize> {
        let named = |uids: &[EntityUid]| -> Vec<Option<EntityUid>> {
            std::iter::once(None)
                .chain(uids.iter().cloned().map(Some))
                .collect()
        };
        let actions = [None, Some(scope.action.clone())];
        let principals = named(&scope.principals);
        let resources = named(&scope.resources);
        let mut places = Vec::new();
        for action in &actions {
            for principal in &principals {
                for resource in &resources {
                    let key = ScopeKey {
                        action: action.clone(),
                        principal: principal.clone(),
                        resource: resource.clone(),
                    };
                    places.extend(self.by_scope.get(&key).into_iter().flatten());
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}
