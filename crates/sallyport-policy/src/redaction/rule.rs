//! One rule: a regular expression as a table, and what its matches begin with.
//!
//! Patterns are matched on bytes, with the ASCII meaning of classes, by an automaton that is built whole
//! when the rule is compiled: its size is bounded there, and a byte costs one look-up afterwards.
//!
//! INVARIANT: a match is the longest text from its start that the pattern and the check accept, up to
//! the rule's limit.

use std::{fmt, sync::Arc};

use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::{primitives::StateID, start, syntax},
};
use regex_syntax::hir::{Hir, literal::Extractor};

use super::{
    LITERAL_BYTES_MAX, MATCH_BYTES_MIN, OWN_MATCH_BYTES_MAX, PATTERN_BYTES_MAX, RedactionError,
};

/// Most memory of one automaton, in bytes; building it may take four times as much for a moment.
const AUTOMATON_BYTES_MAX: usize = 1024 * 1024;
/// Literals shorter than this are found by their first byte as quickly.
const LITERAL_BYTES_MIN: usize = 3;
/// With many more literals, looking for all of them is no quicker than looking at every byte.
const LITERALS_MAX: usize = 16;

/// Accepts a match that the pattern alone cannot tell, such as a number with a check digit.
pub(super) type Check = fn(&[u8]) -> bool;

/// One compiled rule.
pub(super) struct Rule {
    name: Arc<str>,
    automaton: dense::DFA<Vec<u32>>,
    match_bytes_max: usize,
    check: Option<Check>,
    literals: Option<Vec<Vec<u8>>>,
    first_bytes: Vec<bool>,
    second_bytes: Vec<bool>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What one byte came to.
pub(super) struct Step {
    /// Absent when nothing more can match.
    pub(super) state: Option<StateID>,
    /// Whether a match ends before the byte.
    pub(super) is_match: bool,
}

impl Rule {
    /// A pattern of a bundle's own.
    pub(super) fn own(name: &str, pattern: &str) -> Result<Self, RedactionError> {
        Self::compile(name, pattern, OWN_MATCH_BYTES_MAX, None)
    }

    pub(super) fn compile(
        name: &str,
        pattern: &str,
        match_bytes_max: usize,
        check: Option<Check>,
    ) -> Result<Self, RedactionError> {
        // Built-in patterns are ours; the limit is on what others write.
        if match_bytes_max == OWN_MATCH_BYTES_MAX && pattern.len() > PATTERN_BYTES_MAX {
            return Err(RedactionError::TooLong {
                name: name.to_owned(),
                bytes: pattern.len(),
            });
        }
        let flawed = |source: Box<dyn std::error::Error + Send + Sync>| RedactionError::Pattern {
            name: name.to_owned(),
            source,
        };
        let config = syntax::Config::new()
            .unicode(false)
            .utf8(false)
            .nest_limit(50);
        let hir = syntax::parse_with(pattern, &config).map_err(|error| flawed(error.into()))?;
        if hir.properties().minimum_len().unwrap_or(0) < MATCH_BYTES_MIN {
            return Err(RedactionError::TooShort {
                name: name.to_owned(),
            });
        }
        let automaton = automaton(&hir).map_err(flawed)?;
        let (first_bytes, second_bytes) = first_bytes(&automaton);
        Ok(Self {
            name: name.into(),
            automaton,
            match_bytes_max,
            check,
            literals: literals(&hir),
            first_bytes,
            second_bytes,
        })
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What every match begins with, when that is a few literals.
    pub(super) fn literals(&self) -> Option<Vec<&[u8]>> {
        let literals = self.literals.as_ref()?;
        Some(literals.iter().map(Vec::as_slice).collect())
    }

    /// For each byte, whether a match can begin with it.
    pub(super) fn first_bytes(&self) -> &[bool] {
        &self.first_bytes
    }

    /// For each byte, whether it can be the second of a match.
    pub(super) fn second_bytes(&self) -> &[bool] {
        &self.second_bytes
    }

    /// Length of the longest literal that matches begin with, when they begin with literals.
    pub(super) fn literal_bytes(&self) -> Option<usize> {
        self.literals.iter().flatten().map(Vec::len).max()
    }

    pub(super) const fn match_bytes_max(&self) -> usize {
        self.match_bytes_max
    }

    /// The state before a match that `before` stands before.
    pub(super) fn start(&self, before: Option<u8>) -> Option<StateID> {
        start_state(&self.automaton, before)
    }

    pub(super) fn step(&self, state: StateID, byte: u8) -> Step {
        let next = self.automaton.next_state(state, byte);
        if !self.automaton.is_special_state(next) {
            return Step {
                state: Some(next),
                is_match: false,
            };
        }
        let is_over = self.automaton.is_dead_state(next) || self.automaton.is_quit_state(next);
        Step {
            state: (!is_over).then_some(next),
            is_match: self.automaton.is_match_state(next),
        }
    }

    /// Whether any text that follows can still matter.
    pub(super) fn can_go_on(&self, state: StateID) -> bool {
        !self.automaton.is_match_state(state)
            || (0..=u8::MAX).any(|byte| {
                !self
                    .automaton
                    .is_dead_state(self.automaton.next_state(state, byte))
            })
    }

    /// Whether a match ends here, if nothing follows.
    pub(super) fn matches_at_end(&self, state: StateID) -> bool {
        let at_end = self.automaton.next_eoi_state(state);
        self.automaton.is_match_state(at_end)
    }

    /// Whether the check accepts what the pattern matched.
    pub(super) fn accepts(&self, matched: &[u8]) -> bool {
        self.check.is_none_or(|check| check(matched))
    }
}

fn automaton(hir: &Hir) -> Result<dense::DFA<Vec<u32>>, Box<dyn std::error::Error + Send + Sync>> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(AUTOMATON_BYTES_MAX)),
        )
        .build_from_hir(hir)?;
    let config = dense::Config::new()
        .accelerate(false)
        .start_kind(StartKind::Anchored)
        .match_kind(MatchKind::All)
        .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
        .determinize_size_limit(Some(4 * AUTOMATON_BYTES_MAX));
    Ok(dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)?)
}

fn start_state(automaton: &dense::DFA<Vec<u32>>, before: Option<u8>) -> Option<StateID> {
    let config = start::Config::new()
        .anchored(Anchored::Yes)
        .look_behind(before);
    automaton.start_state(&config).ok()
}

/// For each byte, whether a match can begin with it, and whether it can come second.
fn first_bytes(automaton: &dense::DFA<Vec<u32>>) -> (Vec<bool>, Vec<bool>) {
    // One byte of each kind that look-behind tells apart.
    let starts: Vec<StateID> = [None, Some(b'a'), Some(b' '), Some(b'\n'), Some(b'\r')]
        .into_iter()
        .filter_map(|before| start_state(automaton, before))
        .collect();
    let alive = |states: &[StateID], byte| -> Vec<StateID> {
        states
            .iter()
            .map(|state| automaton.next_state(*state, byte))
            .filter(|state| !automaton.is_dead_state(*state))
            .collect()
    };
    let mut first = Vec::with_capacity(256);
    let mut after_first = Vec::new();
    for byte in 0..=u8::MAX {
        let states = alive(&starts, byte);
        first.push(!states.is_empty());
        after_first.extend(states);
    }
    after_first.sort_unstable();
    after_first.dedup();
    let second = (0..=u8::MAX)
        .map(|byte| !alive(&after_first, byte).is_empty())
        .collect();
    (first, second)
}

fn literals(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    // Small classes are spelled out, as in `gh[pousr]_`; digits end a literal.
    let mut prefixes = Extractor::new()
        .limit_class(8)
        .limit_total(LITERALS_MAX)
        .limit_literal_len(LITERAL_BYTES_MAX)
        .extract(hir);
    prefixes.minimize_by_preference();
    let literals = prefixes.literals()?;
    let is_useful = (1..=LITERALS_MAX).contains(&literals.len())
        && literals
            .iter()
            .all(|literal| (LITERAL_BYTES_MIN..=LITERAL_BYTES_MAX).contains(&literal.len()));
    is_useful.then(|| {
        literals
            .iter()
            .map(|literal| literal.as_bytes().to_vec())
            .collect()
    })
}
