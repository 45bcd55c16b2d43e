//! Commands that policy wants approved by other people: patterns, and whether a command matches one.
//!
//! A pattern is text in which `*` stands for any run of characters. It is held against several readings
//! of a command: the whole of it, each simple command that a shell would make of it, and those without
//! what only says how to run them (`sudo`, `env`, `sh -c`, a path before the name).
//!
//! This finds what people type. It is no sandbox: whoever may run anything can run it under another
//! name. To leave nothing out, hold everything (`*`).
//!
//! INVARIANT: readings are added, never taken away: whatever matches as a whole matches. Work is bounded
//! by the lengths of command and pattern.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::access::Quorum;

/// Longest pattern, in bytes.
pub const COMMAND_PATTERN_BYTES_MAX: usize = 256;

/// Text in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a pattern is 1 to {COMMAND_PATTERN_BYTES_MAX} bytes without control characters")]
pub struct ParsePatternError;

impl FromStr for Pattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = !text.trim().is_empty()
            && text.len() <= COMMAND_PATTERN_BYTES_MAX
            && !text.chars().any(char::is_control);
        is_valid
            .then(|| Self(text.to_owned()))
            .ok_or(ParsePatternError)
    }
}

impl Pattern {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` is of this form, from its first character to its last.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut seen) = (0_usize, 0_usize);
        // Where to go on when the last star has to swallow one character more.
        let mut retry: Option<(usize, usize)> = None;
        while seen < text.len() {
            match pattern.get(at) {
                Some('*') => {
                    retry = Some((at, seen));
                    at = at.saturating_add(1);
                }
                Some(wanted) if Some(wanted) == text.get(seen) => {
                    at = at.saturating_add(1);
                    seen = seen.saturating_add(1);
                }
                _ => match retry {
                    Some((star, from)) => {
                        let next = from.saturating_add(1);
                        retry = Some((star, next));
                        (at, seen) = (star.saturating_add(1), next);
                    }
                    None => return false,
                },
            }
        }
        pattern
            .get(at..)
            .is_none_or(|rest| rest.iter().all(|left| *left == '*'))
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Commands that run only after other people agreed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRule {
    /// How many distinct people.
    pub count: u64,
    /// Group they must be in; absent means anybody with the approver role.
    pub from: Option<String>,
    /// How long a command waits for them, in seconds.
    pub within_s: u64,
    /// Whether a shell whose prompt is not known may open all the same.
    pub allows_unknown_prompt: bool,
    /// Which commands; at least one pattern.
    pub patterns: Vec<Pattern>,
}

impl CommandRule {
    /// Whether `command` must wait.
    #[must_use]
    pub fn holds(&self, command: &str) -> bool {
        readings(command)
            .iter()
            .any(|reading| self.patterns.iter().any(|pattern| pattern.matches(reading)))
    }

    /// The votes it asks for.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        Quorum {
            count: self.count,
            from: self.from.clone(),
        }
    }
}

/// Words before a command that only say how to run it.
const WRAPPERS: &[&str] = &[
    "!", "bash", "builtin", "busybox", "chroot", "command", "dash", "do", "doas", "else", "env",
    "eval", "exec", "if", "ionice", "ksh", "nice", "nohup", "setsid", "sh", "stdbuf", "sudo",
    "then", "time", "timeout", "until", "watch", "while", "xargs", "zsh",
];

/// Most words looked at behind wrappers of one simple command.
const WRAPPED_WORDS_MAX: usize = 16;
/// Most simple commands looked at; a command of more is read as a whole too, like every other.
const PARTS_MAX: usize = 256;

/// Everything a pattern is held against.
fn readings(command: &str) -> Vec<String> {
    let mut readings = vec![command.to_owned(), words(command).join(" ")];
    let is_border = |c: char| {
        matches!(
            c,
            ';' | '&' | '|' | '(' | ')' | '{' | '}' | '`' | '\n' | '\r'
        )
    };
    let unquoted: String = command
        .chars()
        .filter(|c| !matches!(c, '"' | '\'' | '\\'))
        .collect();
    for part in unquoted.split(is_border).take(PARTS_MAX) {
        let words = words(part);
        let mut rest = words.as_slice();
        let mut is_wrapped = false;
        for _ in 0..WRAPPED_WORDS_MAX {
            let Some((first, after)) = rest.split_first() else {
                break;
            };
            let name = first.rsplit('/').next().unwrap_or(first);
            let is_assignment = first.split_once('=').is_some_and(|(name, _)| is_name(name));
            readings.push([&[name], after].concat().join(" "));
            is_wrapped |= WRAPPERS.contains(&name);
            if !is_assignment && !is_wrapped {
                break;
            }
            rest = after;
        }
    }
    readings
}

fn words(text: &str) -> Vec<&str> {
    text.split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(patterns: &[&str]) -> CommandRule {
        CommandRule {
            count: 1,
            from: None,
            within_s: 600,
            allows_unknown_prompt: false,
            patterns: patterns.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    /// PO-2
    #[test]
    fn a_star_stands_for_any_run_of_characters_and_nothing_else_is_special() {
        for (pattern, text, expected) in [
            ("rm *", "rm -rf /", true),
            ("rm *", "rm", false),
            ("rm*", "rm", true),
            ("*", "", true),
            ("*mkfs*", "x && mkfs.ext4 /dev/sda", true),
            ("a*b*c", "a--b--b--c", true),
            ("a*b*c", "a--b--b--d", false),
            ("rm [a-z]", "rm x", false),
            ("rm ?", "rm x", false),
            ("RM *", "rm x", false),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(text), expected, "{pattern:?} on {text:?}");
        }
    }

    /// K4: the usual ways of writing a command are all seen; that is detection, not prevention.
    #[test]
    fn a_command_is_seen_behind_what_only_says_how_to_run_it() {
        let rule = rule(&["rm *"]);
        for command in [
            "rm -rf /srv",
            "  rm   -rf /srv",
            "rm\t-rf /srv",
            "ls; rm -rf /srv",
            "ls&&rm -rf /srv",
            "ls | rm x",
            "true || rm x",
            "(rm x)",
            "{ rm x; }",
            "$(rm x)",
            "`rm x`",
            "ls\nrm x",
            "sudo rm x",
            "sudo -u root rm x",
            "env A=b rm x",
            "A=b C=d rm x",
            "nohup rm x &",
            "timeout 5 rm x",
            "/bin/rm x",
            "sudo /usr/bin/rm x",
            "command rm x",
            "\\rm x",
            "'rm' x",
            "r''m x",
            "r\\m x",
            "\"rm\" x",
            "sh -c 'rm x'",
            "bash -lc \"rm x\"",
            "eval rm x",
            "exec rm x",
            "if true; then rm x; fi",
            "while true; do rm x; done",
            "! rm x",
            "find . | xargs rm -f",
            "find . | xargs -0 -n 1 rm -f",
            "busybox rm x",
            "time rm x",
            "nice -n 10 rm x",
            "ls & rm x",
            "setsid rm x",
        ] {
            assert!(rule.holds(command), "{command:?}");
        }
        for command in [
            "ls",
            "git rm x",
            "echo rm x",
            "grep rm x",
            "rmdir x",
            "farm x",
        ] {
            assert!(!rule.holds(command), "{command:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "  ", "a\nb", "\u{1b}", &"x".repeat(257)] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }

    proptest! {
        /// K4, E2: what is held as it stands is held whatever is put around it as another command.
        #[test]
        fn adding_commands_never_hides_one(
            before in "[a-z ]{0,8}", arguments in "[a-z/-]{1,12}", after in "[a-z ]{0,8}"
        ) {
            let rule = rule(&["rm *"]);
            let command = format!("rm {arguments}");
            prop_assert!(rule.holds(&command));
            let surrounded = format!("{before};{command};{after}");
            prop_assert!(rule.holds(&surrounded), "{}", surrounded);
        }

        #[test]
        fn everything_is_held_by_a_star_and_matching_never_panics(command in "\\PC{0,64}", pattern in "[*a-c ;]{1,12}") {
            prop_assert!(rule(&["*"]).holds(&command));
            if let Ok(pattern) = pattern.parse::<Pattern>() {
                let _ = pattern.matches(&command);
            }
        }
    }
}
