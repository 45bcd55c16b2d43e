//! What a policy bundle may demand and limit: the closed, typed registry behind the annotations of
//! the require set, and how several demands add up.
//!
//! INVARIANT: demands accumulate and the strictest wins; no demand can weaken another.
//!
//! Not here: Cedar text and annotations (`sallyport-policy`), which produce these values.

mod budget;
mod command;
mod mask;
mod restraint;

pub use budget::{Budget, Budgets};
pub use mask::{ColumnName, Mask, Masks, ParseColumnError};
pub use restraint::{Restraint, Restraints};

pub use command::{
    COMMAND_PATTERN_BYTES_MAX, CommandRule, ParsePatternError, Pattern, opens_shell,
};

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::principal::AuthenticationStrength;

/// SHA-256 over the canonical content of a bundle, in lower-case hex. Names one immutable version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BundleHash(pub String);

impl fmt::Display for BundleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that must be true before access is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Requirement {
    /// Authentication at least this strong, checked at most this long ago.
    Mfa {
        /// Least strength.
        strength: AuthenticationStrength,
        /// Greatest age, in seconds; absent means the age of the sign-in itself is enough.
        max_age_s: Option<u64>,
    },
    /// A reason in words.
    Justification {
        /// Least number of characters.
        min_chars: u64,
    },
    /// A change ticket.
    Ticket {
        /// Shape the ticket must have: letters, `-` and digits as in `CHG-1234`; the prefix.
        prefix: String,
    },
    /// Votes of other people.
    Approval {
        /// How many distinct people.
        count: u64,
        /// Group the voters must be in; absent means anybody with the approver role.
        from: Option<String>,
    },
    /// Votes of other people on single commands, each time one is about to run.
    CommandApproval(CommandRule),
}

/// What is kept out of a session's recording and of its commands in the audit log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedactionRule {
    /// A built-in family of patterns, such as `tokens`, or the name of a pattern of the bundle's own.
    pub name: String,
    /// The bundle's own pattern; absent for a built-in family. It stands here so that a permit says by
    /// itself what its session redacts, whichever bundle the gateway holds by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// A limit on what a permitted session may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Constraint {
    /// Longest grant, in seconds.
    MaxDuration {
        /// Seconds.
        seconds: u64,
    },
    /// Ends a session in which nothing passed for this long, in seconds.
    IdleTimeout {
        /// Seconds.
        seconds: u64,
    },
    /// Which directions files may move in.
    FileTransfer {
        /// Towards the target.
        up: bool,
        /// From the target.
        down: bool,
    },
    /// Most bytes of an exec channel's output and of forwarded data kept in the recording in full.
    RecordingContentLimit {
        /// Bytes.
        bytes: u64,
    },
    /// What moves in file transfers is kept in the recording, up to the content limit, and not only
    /// counted and hashed.
    RecordingFileContent,
    /// Nothing passes while nobody else watches.
    Watcher {
        /// How long nobody may be there before the session ends, in seconds.
        wait_s: u64,
    },
    /// Whether people who join a session may type in it.
    Keyboard {
        /// They may, if they have the right.
        shared: bool,
    },
    /// What is kept out of the recording.
    Redact {
        /// At least one.
        rules: BTreeSet<RedactionRule>,
    },
    /// Nothing is written by statements.
    ReadOnly,
    /// What statements may take before they are cut off.
    Budget {
        /// Of what.
        of: Budget,
        /// So much.
        most: u64,
    },
    /// Columns are not shown as they are, and nothing is written by statements: what is copied is not masked.
    Mask {
        /// At least one.
        columns: Masks,
    },
    /// What prompts of shells look like; commands typed behind them are known to be commands. Not a
    /// limit of its own: it lets single commands be held.
    ShellPrompt {
        /// Patterns of the line up to where a command begins.
        patterns: Vec<Pattern>,
    },
}

/// Constraints added up: what a permit carries and the gateway enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// Longest grant, in seconds.
    pub max_duration_s: u64,
    /// Idle limit, in seconds.
    pub idle_timeout_s: Option<u64>,
    /// Files may move to the target.
    pub upload: bool,
    /// Files may move from the target.
    pub download: bool,
    /// Bytes of bulk content recorded in full; beyond, size and running hash.
    pub recording_content_limit_bytes: u64,
    /// Whether file transfers are such content. Otherwise of a file only size and hash are kept.
    #[serde(default)]
    pub records_file_content: bool,
    /// Nothing passes while nobody else watches; so many seconds without a watcher end the session.
    /// Absent means that nobody need watch.
    #[serde(default)]
    pub watcher_wait_s: Option<u64>,
    /// People who join may type.
    #[serde(default = "is_shared")]
    pub shares_keyboard: bool,
    /// What is kept out of the recording.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub redact: BTreeSet<RedactionRule>,
    /// What prompts of shells look like, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shell_prompts: Vec<Pattern>,
    /// Statements write nothing, and the target's session is told so.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// What statements may take.
    #[serde(default, skip_serializing_if = "Budgets::is_none")]
    pub budgets: Budgets,
    /// Columns that are not shown as they are. Where there are any, statements write nothing.
    #[serde(default, skip_serializing_if = "Masks::is_empty")]
    pub masks: Masks,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What holds for constraints that were stored before there was this one.
const fn is_shared() -> bool {
    true
}

/// No policy may grant longer than this: seven days, in seconds.
pub const MAX_DURATION_CEILING_S: u64 = 7 * 24 * 3_600;
/// Content recorded in full when no policy says otherwise: 64 MiB.
pub const RECORDING_CONTENT_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

impl Default for Constraints {
    fn default() -> Self {
        Self {
            max_duration_s: MAX_DURATION_CEILING_S,
            idle_timeout_s: None,
            upload: true,
            download: true,
            recording_content_limit_bytes: RECORDING_CONTENT_LIMIT_BYTES,
            records_file_content: false,
            watcher_wait_s: None,
            shares_keyboard: true,
            redact: BTreeSet::new(),
            shell_prompts: Vec::new(),
            read_only: false,
            budgets: Budgets::default(),
            masks: Masks::new(),
        }
    }
}

impl Constraints {
    /// These constraints and those, whichever is stricter in each respect.
    #[must_use]
    pub fn strictest(self, other: &Self) -> Self {
        Self {
            max_duration_s: self.max_duration_s.min(other.max_duration_s),
            idle_timeout_s: match (self.idle_timeout_s, other.idle_timeout_s) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            upload: self.upload && other.upload,
            download: self.download && other.download,
            recording_content_limit_bytes: self
                .recording_content_limit_bytes
                .max(other.recording_content_limit_bytes),
            records_file_content: self.records_file_content || other.records_file_content,
            watcher_wait_s: match (self.watcher_wait_s, other.watcher_wait_s) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            shares_keyboard: self.shares_keyboard && other.shares_keyboard,
            redact: self.redact.union(&other.redact).cloned().collect(),
            shell_prompts: both(self.shell_prompts, &other.shell_prompts),
            read_only: self.read_only || other.read_only,
            budgets: self.budgets.strictest(&other.budgets),
            masks: {
                let mut masks = self.masks;
                mask::add(&mut masks, &other.masks);
                masks
            },
        }
    }

    /// These constraints and `constraint`, whichever is stricter. Recording more is stricter, so the
    /// content limit grows.
    #[must_use]
    pub fn tightened(mut self, constraint: &Constraint) -> Self {
        match constraint {
            Constraint::MaxDuration { seconds } => {
                self.max_duration_s = self.max_duration_s.min(*seconds)
            }
            Constraint::IdleTimeout { seconds } => {
                self.idle_timeout_s = Some(
                    self.idle_timeout_s
                        .map_or(*seconds, |now| now.min(*seconds)),
                );
            }
            Constraint::FileTransfer { up, down } => {
                self.upload &= up;
                self.download &= down;
            }
            Constraint::RecordingContentLimit { bytes } => {
                self.recording_content_limit_bytes = self.recording_content_limit_bytes.max(*bytes);
            }
            Constraint::RecordingFileContent => self.records_file_content = true,
            Constraint::Watcher { wait_s } => {
                self.watcher_wait_s =
                    Some(self.watcher_wait_s.map_or(*wait_s, |now| now.min(*wait_s)));
            }
            Constraint::Keyboard { shared } => self.shares_keyboard &= shared,
            Constraint::ReadOnly => self.read_only = true,
            Constraint::Budget { of, most } => self.budgets = self.budgets.with(*of, *most),
            Constraint::Mask { columns } => {
                self.read_only = true;
                mask::add(&mut self.masks, columns);
            }
            Constraint::Redact { rules } => self.redact.extend(rules.iter().cloned()),
            // More lines taken for prompts means more commands seen.
            Constraint::ShellPrompt { patterns } => {
                self.shell_prompts = both(self.shell_prompts, patterns);
            }
        }
        self
    }
}

fn both(mut some: Vec<Pattern>, more: &[Pattern]) -> Vec<Pattern> {
    some.extend_from_slice(more);
    some.sort();
    some.dedup();
    some
}

/// One satisfied policy of the require set and what it adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Id of the policy, as in its `@id` annotation.
    pub policy: String,
    /// What must be true first.
    pub requirements: Vec<Requirement>,
    /// What is limited then.
    pub constraints: Vec<Constraint>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn constraint() -> impl Strategy<Value = Constraint> {
        prop_oneof![
            (1_u64..100_000).prop_map(|seconds| Constraint::MaxDuration { seconds }),
            (1_u64..100_000).prop_map(|seconds| Constraint::IdleTimeout { seconds }),
            (any::<bool>(), any::<bool>())
                .prop_map(|(up, down)| Constraint::FileTransfer { up, down }),
            (0_u64..1 << 40).prop_map(|bytes| Constraint::RecordingContentLimit { bytes }),
            Just(Constraint::RecordingFileContent),
            (5_u64..4_000).prop_map(|wait_s| Constraint::Watcher { wait_s }),
            any::<bool>().prop_map(|shared| Constraint::Keyboard { shared }),
            Just(Constraint::ReadOnly),
            (
                prop::sample::select(vec![
                    Budget::StatementRows,
                    Budget::StatementBytes,
                    Budget::StatementSeconds,
                    Budget::GrantRows,
                    Budget::GrantBytes,
                ]),
                0_u64..1_000
            )
                .prop_map(|(of, most)| Constraint::Budget { of, most }),
            (
                prop::sample::select(vec!["*.*.a.b", "*.*.a.c"]),
                prop::sample::select(vec![Mask::Partial, Mask::Token, Mask::Null])
            )
                .prop_map(|(column, mask)| Constraint::Mask {
                    columns: Masks::from([(column.parse().unwrap(), mask)]),
                }),
            prop::collection::btree_set("[a-c]", 1..3).prop_map(|names| Constraint::Redact {
                rules: names
                    .into_iter()
                    .map(|name| RedactionRule {
                        name,
                        pattern: None
                    })
                    .collect()
            }),
            prop::collection::vec("[a-z*$# ]{1,6}", 0..3).prop_map(|texts| {
                let patterns = texts.iter().filter_map(|text| text.parse().ok()).collect();
                Constraint::ShellPrompt { patterns }
            }),
        ]
    }

    proptest! {
        /// PO-2
        #[test]
        fn constraints_add_up_in_any_order_and_never_loosen(mut all in prop::collection::vec(constraint(), 0..12)) {
            let forward = all.iter().fold(Constraints::default(), Constraints::tightened);
            all.reverse();
            let backward = all.iter().fold(Constraints::default(), Constraints::tightened);
            prop_assert_eq!(&forward, &backward);
            for one in &all {
                prop_assert_eq!(&forward.clone().tightened(one), &forward);
            }
        }
    }
}
