//! What statements of a session do, remembered by their shape: programs run the same ones over and over, with
//! other numbers in them, and parsing costs far more than finding.
//!
//! INVARIANT: two statements of one shape are the same in all that their facts are made from: kinds of tokens,
//! words, names, texts and symbols in their order, and the place they are read at. What is kept is bounded, and
//! belongs to one session.
//!
//! Not here: what a shape is (`structure`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sallyport_core::session::StatementFacts;

use super::{Dialect, Place};

/// Statements that are remembered; with one more, all are forgotten.
const SHAPES_MAX: usize = 128;
/// Longest shape that is remembered.
const SHAPE_BYTES_MAX: usize = 2 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Shapes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Where all of them were read.
    place: Option<(Dialect, Option<String>)>,
    facts: HashMap<String, StatementFacts>,
}

impl Known {
    fn is_of(&self, place: Place<'_>) -> bool {
        self.place.as_ref().is_some_and(|(dialect, database)| {
            *dialect == place.dialect && database.as_deref() == place.database
        })
    }
}

impl Shapes {
    /// What statements of this shape do, if one was seen.
    pub(super) fn find(&self, shape: &str, place: Place<'_>) -> Option<StatementFacts> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = known.facts.get(shape).filter(|_| known.is_of(place));
        facts.cloned()
    }

    /// Remembers what they do.
    pub(super) fn keep(&self, shape: String, place: Place<'_>, facts: &StatementFacts) {
        if shape.len() > SHAPE_BYTES_MAX {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_of(place) || known.facts.len() >= SHAPES_MAX {
            known.place = Some((place.dialect, place.database.map(str::to_owned)));
            known.facts.clear();
        }
        known.facts.insert(shape, facts.clone());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.facts.len()
    }
}
