//! What is kept out of recordings and of commands in the audit log: patterns, and finding them in a
//! stream that arrives in pieces.
//!
//! The loader checks a bundle's own patterns with [`check_pattern`]; the gateway's recorder compiles what
//! a permit names into a [`RuleSet`] and asks it about a window of a stream.
//!
//! INVARIANT: what [`RuleSet::scan`] answers depends on the bytes alone, not on how they arrived: as long
//! as more bytes could change an answer, the answer is [`Found::Open`]. Every step costs one table look-up
//! for each rule that can still match; no pattern can make it backtrack or grow.
//!
//! Not here: holding bytes back and what stands in their place (`sallyport-gateway::recorder`), the
//! annotation that demands redaction (`requirements.rs`).

mod builtin;
mod follower;
mod place;
mod rule;

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use regex_automata::{MatchKind, Span, util::prefilter::Prefilter};
use sallyport_core::policy::RedactionRule;
use serde::Deserialize;

pub(crate) use builtin::FAMILIES;
use follower::Follower;
pub use place::Place;
use rule::Rule;

/// Most patterns of its own that a bundle defines.
pub(crate) const OWN_RULES_MAX: usize = 32;
/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1_024;
/// No match is shorter: a pattern that matches a letter would redact everything.
const MATCH_BYTES_MIN: usize = 4;
/// Longest match of a bundle's own pattern; a longer run of text is two matches.
const OWN_MATCH_BYTES_MAX: usize = 4 * 1_024;
/// Longest match of any rule: what a stream holds back at most.
pub const MATCH_BYTES_MAX: usize = 32 * 1_024;
/// Literals that begin matches are looked for in this length at most.
const LITERAL_BYTES_MAX: usize = 32;
/// Rules are bits of a word.
const RULES_MAX: usize = 64;

/// Why there are no rules to redact by. There must be no session then.
#[derive(Debug, thiserror::Error)]
pub enum RedactionError {
    /// Neither a built-in family nor a pattern of its own.
    #[error("redact by the unknown rule `{name}`")]
    Unknown {
        /// As named.
        name: String,
    },
    /// The pattern is longer than allowed.
    #[error(
        "compile the redaction pattern `{name}` of {bytes} bytes: the limit is {PATTERN_BYTES_MAX}"
    )]
    TooLong {
        /// The rule.
        name: String,
        /// The pattern's length.
        bytes: usize,
    },
    /// The pattern is no regular expression, or its automaton is too large.
    #[error("compile the redaction pattern `{name}`")]
    Pattern {
        /// The rule.
        name: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pattern would match next to anything.
    #[error(
        "compile the redaction pattern `{name}`: it matches fewer than {MATCH_BYTES_MIN} bytes"
    )]
    TooShort {
        /// The rule.
        name: String,
    },
    /// More rules than a session can have.
    #[error("redact by {count} rules: the limit is {RULES_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// A bundle's file `redaction/NAME.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedactionFile {
    pub(crate) rules: Vec<OwnRule>,
}

/// A pattern of a bundle's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnRule {
    pub(crate) name: String,
    pub(crate) pattern: String,
}

/// Checks a pattern of a bundle's own.
pub(crate) fn check_pattern(name: &str, pattern: &str) -> Result<(), RedactionError> {
    Rule::own(name, pattern).map(drop)
}

/// Whether a bundle may give one of its patterns this name: 1 to 64 of `a-z`, `0-9`, `-`.
pub(crate) fn is_own_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !FAMILIES.contains(&name)
        && !builtin::is_rule_name(name)
}

/// How the text ends that is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextEnd {
    /// More may come.
    Open,
    /// More may come, but it cannot be waited for: what has begun counts as a match.
    Cut,
    /// This is all.
    Whole,
}

/// What a scan came to, in offsets of its text.
#[derive(Debug)]
pub enum Found {
    /// Nothing of the text is, or can become, part of a match.
    Nothing,
    /// The first match.
    Match {
        /// Its first byte.
        start: usize,
        /// The byte after its last.
        end: usize,
        /// Its rule's name.
        rule: Arc<str>,
    },
    /// Before `start` nothing matches; from there, only more text tells. If the text was cut, it has
    /// begun in earnest and is to be redacted to its end.
    Open {
        /// Where it begins.
        start: usize,
        /// What has begun there.
        begun: Begun,
    },
}

/// A match whose end is not known yet.
#[derive(Debug)]
pub struct Begun {
    rule: Arc<str>,
    runs: Vec<(usize, Follower)>,
}

impl Begun {
    /// Name of the rule, or of one of them.
    #[must_use]
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }
}

/// A set of rules for each byte.
type ByteTable = Box<[u64; 256]>;

fn table(
    rules: &[Arc<Rule>],
    bytes: impl Fn(&Rule) -> &[bool],
    is_meant: impl Fn(&Rule) -> bool,
) -> ByteTable {
    let mut table = Box::new([0_u64; 256]);
    for (index, rule) in rules.iter().enumerate() {
        if is_meant(rule) {
            for (slot, has_byte) in table.iter_mut().zip(bytes(rule)) {
                *slot |= u64::from(*has_byte) << index;
            }
        }
    }
    table
}

/// The rules of one session, compiled.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
    /// Finds the literals that matches of some rules begin with.
    literals: Option<Prefilter>,
    /// For each byte, which rules' matches begin with it.
    starts: ByteTable,
    /// The same, for the rules that [`RuleSet::literals`] does not cover.
    starts_without_literal: ByteTable,
    has_others: bool,
    /// For each byte, which rules' matches can have it second.
    seconds: ByteTable,
}

impl RuleSet {
    /// Compiles rules. Built-in ones are compiled once for the process.
    ///
    /// # Errors
    /// [`RedactionError`].
    pub fn compile(wanted: &BTreeSet<RedactionRule>) -> Result<Self, RedactionError> {
        let mut rules: Vec<Arc<Rule>> = Vec::new();
        for RedactionRule { name, pattern } in wanted {
            match pattern {
                Some(pattern) => rules.push(Arc::new(Rule::own(name, pattern)?)),
                None => rules.extend(builtin::family(name)?),
            }
        }
        if rules.len() > RULES_MAX {
            return Err(RedactionError::TooMany { count: rules.len() });
        }
        let with_literals: Vec<_> = rules.iter().filter_map(|rule| rule.literals()).collect();
        let literals = Prefilter::new(MatchKind::LeftmostFirst, &with_literals.concat());
        let starts = table(&rules, Rule::first_bytes, |_| true);
        let starts_without_literal = table(&rules, Rule::first_bytes, |rule| {
            literals.is_none() || rule.literals().is_none()
        });
        let seconds = table(&rules, Rule::second_bytes, |_| true);
        Ok(Self {
            rules,
            literals,
            starts,
            has_others: starts_without_literal.iter().any(|rules| *rules != 0),
            starts_without_literal,
            seconds,
        })
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Finds the first match in `text`, which stands at `place` of its stream. Of several matches that
    /// begin at one byte the longest counts.
    #[must_use]
    pub fn scan(&self, text: &[u8], mut place: Place, end: TextEnd) -> Found {
        // Sequences in the middle of a literal would hide it.
        let literals = self.literals.as_ref().filter(|_| !place.may_skip(text));
        let mut literal = None;
        let mut at = 0;
        while let Some(start) = self.next_start(text, at, literals, &mut literal) {
            place.pass(text.get(at..start).unwrap_or_default());
            if place.is_text()
                && let Some(found) = self.try_at(text, start, place, end)
            {
                return found;
            }
            at = start.saturating_add(1);
            place.pass(text.get(start..at).unwrap_or_default());
        }
        Found::Nothing
    }

    /// Follows what has begun into the text after it. How many of the text's bytes belong to it, and
    /// whether that is settled.
    pub fn resume(&self, begun: &mut Begun, text: &[u8]) -> (usize, bool) {
        let mut matched = 0;
        begun.runs.retain_mut(|(index, follower)| {
            let Some(rule) = self.rules.get(*index) else {
                return false;
            };
            if let Some(end) = follower.resume(rule, text) {
                matched = matched.max(end);
            }
            follower.is_alive()
        });
        if begun.runs.is_empty() {
            (matched, true)
        } else {
            (text.len(), false)
        }
    }

    /// Everything that matches in a text that is whole.
    #[must_use]
    pub fn find_all(&self, text: &[u8]) -> Vec<(Range<usize>, Arc<str>)> {
        let mut found = Vec::new();
        let mut place = Place::of_bytes();
        let mut from = 0_usize;
        while let Some(rest) = text.get(from..)
            && let Found::Match { start, end, rule } = self.scan(rest, place, TextEnd::Whole)
        {
            place.pass(rest.get(..end).unwrap_or_default());
            found.push((from.saturating_add(start)..from.saturating_add(end), rule));
            from = from.saturating_add(end);
        }
        found
    }

    /// Where the next match can begin.
    fn next_start(
        &self,
        text: &[u8],
        at: usize,
        literals: Option<&Prefilter>,
        known: &mut Option<usize>,
    ) -> Option<usize> {
        let Some(literals) = literals else {
            return self.first_of(&self.starts, text, at, text.len());
        };
        let literal = match known.filter(|known| *known >= at) {
            Some(known) => Some(known),
            None => {
                let span = Span {
                    start: at.min(text.len()),
                    end: text.len(),
                };
                let whole = literals.find(text, span).map(|span| span.start);
                // One that the end of the text cuts is found by its first byte alone.
                let tail = text.len().saturating_sub(LITERAL_BYTES_MAX).max(at);
                let cut = self.first_of(&self.starts, text, tail, text.len());
                whole.into_iter().chain(cut).min()
            }
        };
        *known = literal;
        // Every byte is looked at only if a rule needs it.
        if self.has_others {
            let until = literal.unwrap_or(text.len());
            self.first_of(&self.starts_without_literal, text, at, until)
                .or(literal)
        } else {
            literal
        }
    }

    /// The first byte from `at`, before `until`, that a match of some rule of `table` can begin with.
    fn first_of(&self, table: &ByteTable, text: &[u8], at: usize, until: usize) -> Option<usize> {
        let rules_of = |table: &ByteTable, byte: u8| table.get(usize::from(byte)).copied();
        let begins = |byte: u8, next: Option<u8>| {
            let rules = rules_of(table, byte).unwrap_or(0);
            rules != 0
                && match next {
                    // More text, or the bytes that a terminal's match leaves out, may hide the second.
                    None | Some(b' ' | 0x1b) => true,
                    Some(next) => rules & rules_of(&self.seconds, next).unwrap_or(0) != 0,
                }
        };
        let bytes = text.get(at..until)?;
        let next = text.get(at..)?.iter().skip(1).map(|byte| Some(*byte));
        bytes
            .iter()
            .zip(next.chain([None]))
            .position(|(byte, next)| begins(*byte, next))
            .map(|found| at.saturating_add(found))
    }

    fn try_at(&self, text: &[u8], start: usize, place: Place, end: TextEnd) -> Option<Found> {
        let first = text.get(start).copied()?;
        let mut candidates = self.starts.get(usize::from(first)).copied()?;
        if let Some(second) = text.get(start.saturating_add(1))
            && !matches!(second, b' ' | 0x1b)
        {
            candidates &= self.seconds.get(usize::from(*second)).copied()?;
        }
        let mut best: Option<(usize, Arc<str>)> = None;
        let mut open: Option<Begun> = None;
        while candidates != 0 {
            let index = usize::try_from(candidates.trailing_zeros()).unwrap_or(RULES_MAX);
            candidates &= candidates.wrapping_sub(1);
            let Some(rule) = self.rules.get(index) else {
                continue;
            };
            let Some(mut follower) = Follower::new(rule, place) else {
                continue;
            };
            let mut matched = follower.follow(rule, text, start);
            if follower.is_alive() {
                let is_open = match end {
                    TextEnd::Open => true,
                    TextEnd::Cut => follower.has_begun(rule),
                    TextEnd::Whole => false,
                };
                if is_open {
                    let begun = open.get_or_insert_with(|| Begun {
                        rule: Arc::clone(rule.name()),
                        runs: Vec::new(),
                    });
                    begun.runs.push((index, follower));
                } else {
                    matched = follower.finish(rule, text, start).or(matched);
                }
            }
            if let Some(matched) = matched
                && best.as_ref().is_none_or(|(longest, _)| matched > *longest)
            {
                best = Some((matched, Arc::clone(rule.name())));
            }
        }
        match (open, best) {
            (Some(begun), _) => Some(Found::Open { start, begun }),
            (None, Some((end, rule))) => Some(Found::Match { start, end, rule }),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests;
