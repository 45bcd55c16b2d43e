//! One attempt to match one rule from one byte on.
//!
//! INVARIANT: following a text in pieces comes to the same as following it whole.

use regex_automata::util::primitives::StateID;

use super::{
    place::{Place, Sequence},
    rule::{Rule, Step},
};

/// How much was seen of the break that a line editor draws at the right edge: a space and a carriage
/// return, then something that is no line feed. With the space's offset in the text being followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    None,
    Space(usize),
    Return(usize),
}

/// One attempt to match one rule from one byte on.
#[derive(Debug)]
pub(super) struct Follower {
    /// Absent once nothing more can match.
    state: Option<StateID>,
    /// Bytes since the match began, whatever they are.
    bytes: usize,
    /// Bytes of text among them.
    text_bytes: usize,
    sequence: Option<Sequence>,
    edge: Edge,
}

impl Follower {
    /// An attempt that begins at `place`.
    pub(super) fn new(rule: &Rule, place: Place) -> Option<Self> {
        Some(Self {
            state: Some(rule.start(place.before)?),
            bytes: 0,
            text_bytes: 0,
            sequence: place.sequence,
            edge: Edge::None,
        })
    }

    pub(super) const fn is_alive(&self) -> bool {
        self.state.is_some()
    }

    /// Whether so much of it says already that it is a match: its literal is complete.
    pub(super) fn has_begun(&self, rule: &Rule) -> bool {
        rule.literal_bytes()
            .is_some_and(|literal| self.text_bytes > literal)
    }

    /// Follows the text after the one it was begun in; the byte after the longest match.
    pub(super) fn resume(&mut self, rule: &Rule, text: &[u8]) -> Option<usize> {
        self.edge = match self.edge {
            Edge::None => Edge::None,
            Edge::Space(_) => Edge::Space(0),
            Edge::Return(_) => Edge::Return(0),
        };
        self.follow(rule, text, 0)
    }

    /// Follows `text` from `from` on; the byte after the longest match that ends in it.
    pub(super) fn follow(&mut self, rule: &Rule, text: &[u8], from: usize) -> Option<usize> {
        let mut matched = None;
        for (at, byte) in text.iter().enumerate().skip(from) {
            let ended = if self.is_text(*byte) {
                self.take(rule, *byte, at, |end| {
                    rule.accepts(text.get(from..end).unwrap_or_default())
                })
            } else {
                None
            };
            matched = ended.or(matched);
            self.bytes = self.bytes.saturating_add(1);
            if self.bytes > rule.match_bytes_max() {
                self.state = None;
            }
            if self.state.is_none() {
                break;
            }
        }
        // What has matched and cannot grow need not wait for the byte after it.
        self.state = self.state.filter(|state| rule.can_go_on(*state));
        matched
    }

    fn is_text(&mut self, byte: u8) -> bool {
        self.sequence
            .as_mut()
            .is_none_or(|sequence| sequence.pass(byte))
    }

    /// Takes a byte of text in; where a match ended before it.
    fn take(
        &mut self,
        rule: &Rule,
        byte: u8,
        at: usize,
        accepts: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut matched = None;
        let mut feed = |byte, at| {
            let Some(before) = self.state else {
                return;
            };
            let Step { state, is_match } = rule.step(before, byte);
            // A match shows one byte late, so that the byte after it can count.
            if is_match && accepts(at) {
                matched = Some(at);
            }
            self.text_bytes = self.text_bytes.saturating_add(1);
            self.state = state;
        };
        let waits = self.sequence.is_some() && byte == b' ';
        self.edge = match (self.edge, byte) {
            (Edge::Return(space), b'\n') => {
                // An ordinary end of a line after all.
                feed(b' ', space);
                feed(b'\r', space.saturating_add(1));
                feed(byte, at);
                Edge::None
            }
            (Edge::None | Edge::Return(_), _) if waits => Edge::Space(at),
            (Edge::None | Edge::Return(_), _) => {
                feed(byte, at);
                Edge::None
            }
            (Edge::Space(space), b'\r') => Edge::Return(space),
            (Edge::Space(space), _) => {
                feed(b' ', space);
                if waits {
                    Edge::Space(at)
                } else {
                    feed(byte, at);
                    Edge::None
                }
            }
        };
        matched
    }

    /// The byte after a match that ends with the text, if nothing follows.
    pub(super) fn finish(&self, rule: &Rule, text: &[u8], from: usize) -> Option<usize> {
        let end = match self.edge {
            Edge::None => text.len(),
            Edge::Space(space) | Edge::Return(space) => space,
        };
        let matched = text.get(from..end).unwrap_or_default();
        (rule.matches_at_end(self.state?) && rule.accepts(matched)).then_some(end)
    }
}
