//! Answers about operations, remembered for the second they were given in.
//!
//! Programs run the same statements over and over, with other values in them, and translating a question costs
//! far more than hashing what policies can see of it.
//!
//! INVARIANT: an answer is given again only for a question that is the same in everything the policies asked
//! can see. Policies see time in whole seconds (`time.unix_s`, `mfa.age_s`), so those stand in the key in place
//! of the moment; the text of an operation stands in it unless no policy asked looks at it (`sight.rs`). The
//! memory is part of its bundle and gone with it; errors are never remembered; it holds a bounded number of
//! answers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sallyport_core::{
    authz::{Evaluation, SessionQuestion},
    session::Operation,
    time::Timestamp,
};
use sha2::{Digest as _, Sha256};

/// Answers of one second; beyond, questions are answered anew.
const ANSWERS_MAX: usize = 4_096;

/// Names what policies can see of a question.
type Key = [u8; 32];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    unix_s: u64,
    answers: HashMap<Key, Arc<Evaluation>>,
}

/// The names of one question about an operation.
pub(crate) struct Keys {
    unix_s: u64,
    /// For policies that do not look at the operation's text.
    any_text: Key,
    /// For those that do, while some policy of the bundle does.
    this_text: Option<Key>,
}

impl Keys {
    /// None if the question cannot be named: it is answered anew then. `reads_text` says whether any policy
    /// of the bundle looks at the text of such an operation.
    pub(crate) fn new(
        session: &SessionQuestion,
        operation: &Operation,
        now: Timestamp,
        reads_text: bool,
    ) -> Option<Self> {
        let age_s = now.since(session.authenticated_at()).as_secs();
        let seen = (operation.action(), operation.kind, &operation.facts, age_s);
        let mut all = Sha256::new();
        all.update(session.digest()?);
        all.update(serde_json::to_vec(&seen).ok()?);
        // What was hashed so far ends by itself, as JSON does: a text behind it is nothing else.
        let this_text = reads_text.then(|| {
            let with_text = all
                .clone()
                .chain_update(b"\n")
                .chain_update(&operation.detail);
            with_text.finalize().into()
        });
        Some(Self {
            unix_s: now.unix_s(),
            any_text: all.finalize().into(),
            this_text,
        })
    }
}

impl Memory {
    /// The answer that was given to this question within this second.
    pub(crate) fn recall(&self, keys: &Keys) -> Option<Arc<Evaluation>> {
        let second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.unix_s != keys.unix_s {
            return None;
        }
        // Whether the policies asked look at the text depends on the session and the kind of operation
        // alone, both in the key: an answer kept for any text was given by policies that do not.
        let known = second.answers.get(&keys.any_text);
        known
            .or_else(|| second.answers.get(keys.this_text.as_ref()?))
            .cloned()
    }

    /// Remembers an answer; `read_text` says whether a policy that was asked looks at the operation's text.
    pub(crate) fn keep(&self, keys: Keys, read_text: bool, answer: &Arc<Evaluation>) {
        let key = match read_text {
            true => keys.this_text,
            false => Some(keys.any_text),
        };
        let Some(key) = key else { return };
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.unix_s != keys.unix_s {
            second.unix_s = keys.unix_s;
            second.answers.clear();
        }
        if second.answers.len() < ANSWERS_MAX {
            second.answers.insert(key, Arc::clone(answer));
        }
    }
}
