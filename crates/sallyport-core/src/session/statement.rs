//! What a statement of a database does, as policies and evidence speak of it.
//!
//! Protocols read it from the text of a client's message (`sallyport-gateway/src/statement/`); here it is
//! only named.
//!
//! INVARIANT: what is not known counts as more: a verb that is not understood is the gravest, a relation
//! that is not known may be any.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The class of a statement. Ordered: what is graver comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Asks, and changes nothing.
    Read,
    /// Concerns the session alone: transactions, harmless settings, cursors.
    Session,
    /// Changes rows, takes locks, or draws from a sequence.
    Write,
    /// Defines, changes or drops tables and their like.
    Ddl,
    /// Gives or takes rights, or changes who may sign in.
    Dcl,
    /// Runs or changes the server itself, or acts as somebody else.
    Admin,
    /// Not understood; to be treated as the gravest.
    Unknown,
}

impl Verb {
    /// Every verb, in their order.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Session,
        Self::Write,
        Self::Ddl,
        Self::Dcl,
        Self::Admin,
        Self::Unknown,
    ];

    /// As policies and the audit log spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Session => "session",
            Self::Write => "write",
            Self::Ddl => "ddl",
            Self::Dcl => "dcl",
            Self::Admin => "admin",
            Self::Unknown => "unknown",
        }
    }
}

/// Stands for a relation that is not known: it may be any.
pub const ANY_RELATION: &str = "*";

/// What all statements of one message do together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementFacts {
    /// They give a setting a value that they compute.
    #[serde(default, skip_serializing_if = "is_false")]
    pub computes_setting: bool,
    /// They fetch what another statement asked for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fetches: bool,
    /// A write among them has no WHERE.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_unfiltered: bool,
    /// They may run programs, or read or write files or connections, of the server.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reaches_server: bool,
    /// Relations they touch: `database.schema.relation`, with `*` for a part that is not written and
    /// depends on the session, or [`ANY_RELATION`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub relations: BTreeSet<String>,
    /// They set whether transactions may write, or might.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sets_access_mode: bool,
    /// What they are; nothing for a message without a statement.
    pub verbs: BTreeSet<Verb>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl StatementFacts {
    /// Of what is not understood: it may do anything.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            verbs: BTreeSet::from([Verb::Unknown]),
            relations: BTreeSet::from([ANY_RELATION.to_owned()]),
            is_unfiltered: true,
            reaches_server: true,
            sets_access_mode: true,
            computes_setting: true,
            fetches: true,
        }
    }

    /// The gravest of what they are. A message without a statement reads.
    #[must_use]
    pub fn verb(&self) -> Verb {
        self.verbs.last().copied().unwrap_or(Verb::Read)
    }

    /// Whether they can be let through where only reading is allowed.
    #[must_use]
    pub fn only_read(&self) -> bool {
        self.verb() <= Verb::Session && !self.sets_access_mode && !self.reaches_server
    }

    /// Adds what another statement of the same message does.
    pub fn add(&mut self, other: Self) {
        self.verbs.extend(other.verbs);
        self.relations.extend(other.relations);
        self.is_unfiltered |= other.is_unfiltered;
        self.reaches_server |= other.reaches_server;
        self.sets_access_mode |= other.sets_access_mode;
        self.computes_setting |= other.computes_setting;
        self.fetches |= other.fetches;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PO-3: a message is as grave as the gravest statement in it.
    #[test]
    fn given_several_statements_then_the_message_is_as_grave_as_the_gravest() {
        assert!(Verb::ALL.is_sorted());
        assert_eq!(Verb::ALL.last(), Some(&Verb::Unknown));
        let mut facts = StatementFacts {
            verbs: BTreeSet::from([Verb::Read]),
            ..StatementFacts::default()
        };
        assert_eq!(facts.verb(), Verb::Read);
        facts.add(StatementFacts::unknown());
        facts.add(StatementFacts {
            verbs: BTreeSet::from([Verb::Write]),
            ..StatementFacts::default()
        });
        assert_eq!(facts.verb(), Verb::Unknown);
        assert!(facts.is_unfiltered && facts.reaches_server && facts.sets_access_mode);
        assert!(facts.relations.contains(ANY_RELATION));
    }
}
