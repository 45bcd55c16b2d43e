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
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint,
};

use crate::sight::TextReaders;

/// How many policies the kept selections of one set may hold together, about 20 MB of them. When one
/// more would not fit, all are forgotten at once: simple, and rare, because people of the same groups
/// on targets under the same policies share one.
const POLICIES_KEPT: usize = 20_000;

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
    /// Of each policy, at its place.
    text_readers: Vec<TextReaders>,
    /// Of all of them.
    any_text_readers: TextReaders,
    /// Places in `policies`, by what the scope names; `None` where it names nothing.
    by_scope: HashMap<ScopeKey, Vec<usize>>,
    /// Ids of those whose scope leaves the action open.
    actionless: HashSet<String>,
    kept: Mutex<Kept>,
}

/// Selections made before, by exactly which policies they hold.
#[derive(Debug, Default)]
struct Kept {
    sets: HashMap<Vec<usize>, Arc<PolicySet>>,
    policies: usize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ScopeKey {
    action: Option<EntityUid>,
    principal: Option<EntityUid>,
    resource: Option<EntityUid>,
}

fn union<'a>(readers: impl IntoIterator<Item = &'a TextReaders>) -> TextReaders {
    readers
        .into_iter()
        .fold(TextReaders::default(), |all, one| all.or(*one))
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
        let actionless = policies
            .iter()
            .filter(|policy| matches!(policy.action_constraint(), ActionConstraint::Any))
            .map(|policy| policy.id().to_string())
            .collect();
        let text_readers: Vec<_> = policies.iter().map(TextReaders::of).collect();
        Self {
            policies,
            any_text_readers: union(&text_readers),
            text_readers,
            by_scope,
            actionless,
            kept: Mutex::default(),
        }
    }

    /// Whether a policy's scope leaves the action open.
    pub(crate) fn is_for_every_action(&self, id: &str) -> bool {
        self.actionless.contains(id)
    }

    /// Operations whose text some policy may look at.
    pub(crate) const fn text_readers(&self) -> TextReaders {
        self.any_text_readers
    }

    /// Operations whose text a policy may look at that can apply.
    pub(crate) fn text_readers_of(&self, scope: &Scope) -> TextReaders {
        let places = self.candidates(scope);
        union(
            places
                .iter()
                .filter_map(|place| self.text_readers.get(*place)),
        )
    }

    /// Every policy, in the order of the files.
    pub(crate) fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The policies that can apply.
    pub(crate) fn select(&self, scope: &Scope) -> Result<Arc<PolicySet>, String> {
        let places = self.candidates(scope);
        if let Some(set) = self.kept().sets.get(&places) {
            return Ok(Arc::clone(set));
        }
        let policies = places.iter().filter_map(|place| self.policies.get(*place));
        let set = PolicySet::from_policies(policies.cloned()).map_err(|error| error.to_string())?;
        let set = Arc::new(set);
        let mut kept = self.kept();
        if kept.policies.saturating_add(places.len()) > POLICIES_KEPT {
            *kept = Kept::default();
        }
        kept.policies = kept.policies.saturating_add(places.len());
        kept.sets.insert(places, Arc::clone(&set));
        Ok(set)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A thread that panicked while holding the lock left at worst a set that is counted and not
        // kept: nothing that could change an answer.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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
