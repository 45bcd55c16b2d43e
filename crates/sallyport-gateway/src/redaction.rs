//! The rules that sessions redact by, compiled once for all sessions that have the same.
//!
//! INVARIANT: a session whose rules do not compile does not begin.
//!
//! Not here: which rules those are (the permit says), applying them (`recorder`).

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use sallyport_core::policy::RedactionRule;
use sallyport_policy::{RedactionError, RuleSet};

/// Sets that are kept; policies lead to few different ones.
const SETS_MAX: usize = 16;

/// Sets of rules that are kept.
type Kept = VecDeque<(BTreeSet<RedactionRule>, Arc<RuleSet>)>;

/// The rules used last, compiled.
#[derive(Debug, Default)]
pub(crate) struct RuleShelf(Mutex<Kept>);

impl RuleShelf {
    /// `wanted`, compiled.
    pub(crate) fn rules(
        &self,
        wanted: &BTreeSet<RedactionRule>,
    ) -> Result<Arc<RuleSet>, RedactionError> {
        let kept = |kept: &Kept| {
            let found = kept.iter().find(|(rules, _)| rules == wanted);
            found.map(|(_, compiled)| Arc::clone(compiled))
        };
        if let Some(rules) = kept(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(rules);
        }
        // Compiling takes milliseconds, so nobody waits for it but this session.
        let rules = Arc::new(RuleSet::compile(wanted)?);
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.len() >= SETS_MAX {
            shelf.pop_front();
        }
        shelf.push_back((wanted.clone(), Arc::clone(&rules)));
        Ok(rules)
    }
}
