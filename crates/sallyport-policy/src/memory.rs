//! Answers about operations, remembered for the second they were given in.
//!
//! Programs run the same statement over and over, and translating a question costs far more than hashing it.
//!
//! INVARIANT: an answer is given again only for a question whose every fact is the same. Policies see time in
//! whole seconds (`time.unix_s`, `mfa.age_s`), so those stand in the key in place of the moment. The memory is
//! part of its bundle and gone with it; errors are never remembered; it holds a bounded number of answers.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sallyport_core::authz::{Evaluation, Question};
use sallyport_core::time::Timestamp;
use sha2::{Digest as _, Sha256};

/// Answers of one second; beyond, questions are answered anew.
const ANSWERS_MAX: usize = 1_024;

/// Names a question: SHA-256 over every fact that policies can see.
pub(crate) type Key = [u8; 32];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    unix_s: u64,
    answers: HashMap<Key, Evaluation>,
}

/// The key of a question about an operation; none for other questions, which are rare.
pub(crate) fn key(question: &Question) -> Option<Key> {
    question.operation.as_ref()?;
    let age_s = question.now.since(question.authentication.at).as_secs();
    let facts = (question.now.unix_s(), age_s);
    let still = Question {
        now: Timestamp::EPOCH,
        ..question.clone()
    };
    let bytes = serde_json::to_vec(&(facts, still)).ok()?;
    Some(Sha256::digest(bytes).into())
}

impl Memory {
    /// The answer that was given to this question within this second.
    pub(crate) fn recall(&self, question: &Question, key: &Key) -> Option<Evaluation> {
        let second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (second.unix_s == question.now.unix_s())
            .then(|| second.answers.get(key).cloned())
            .flatten()
    }

    /// Remembers an answer.
    pub(crate) fn keep(&self, question: &Question, key: Key, answer: &Evaluation) {
        let unix_s = question.now.unix_s();
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.unix_s != unix_s {
            second.unix_s = unix_s;
            second.answers.clear();
        }
        if second.answers.len() < ANSWERS_MAX {
            second.answers.insert(key, answer.clone());
        }
    }
}
