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
    /// Whether lines go to a program that has the whole screen, though nothing can be read there.
    pub allows_full_screen: bool,
    /// Which commands; at least one pattern.
    pub patterns: Vec<Pattern>,
}

impl CommandRule {
    /// Whether `command` must wait. One that is too much to read waits.
    #[must_use]
    pub fn holds(&self, command: &str) -> bool {
        readings(command).is_none_or(|readings| {
            readings
                .iter()
                .any(|reading| self.patterns.iter().any(|pattern| pattern.matches(reading)))
        })
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

/// Shells: without a command of their own they run what they read.
const SHELLS: &[&str] = &[
    "ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "rbash", "sh", "tcsh", "zsh",
];

/// Most bytes of all readings of one command: a megabyte.
const READINGS_BYTES_MAX: usize = 1024 * 1024;

/// Everything a pattern is held against; `None` when that is too much.
fn readings(command: &str) -> Option<Vec<String>> {
    let mut readings = vec![command.to_owned(), words(command).join(" ")];
    let mut bytes = 0_usize;
    for part in parts(command) {
        // What braces make of it: `{rm,x}`.
        for part in [part.clone(), part.replace(',', " ")] {
            for reading in simple_readings(&part) {
                bytes = bytes.saturating_add(reading.len()).saturating_add(1);
                if bytes > READINGS_BYTES_MAX {
                    return None;
                }
                readings.push(reading);
            }
        }
    }
    Some(readings)
}

/// The simple commands that a shell would make of a command, without quotes and backslashes.
fn parts(command: &str) -> Vec<String> {
    let is_border = |c: char| {
        matches!(
            c,
            ';' | '&' | '|' | '(' | ')' | '{' | '}' | '`' | '\n' | '\r'
        )
    };
    let joined = command
        .replace("\\\n", "")
        .replace("${IFS}", " ")
        .replace("$IFS", " ")
        .replace(">&", ">")
        .replace("<&", "<")
        .replace(">|", ">");
    let unquoted: String = joined
        .chars()
        .filter(|c| !matches!(c, '"' | '\'' | '\\'))
        .collect();
    unquoted
        .split(is_border)
        .map(|part| part.replace(['<', '>'], " > "))
        .collect()
}

/// A simple command, and what is left of it behind what only says how to run it.
fn simple_readings(part: &str) -> impl Iterator<Item = String> {
    let words = words(part);
    let mut rest = words.as_slice();
    let mut readings = Vec::new();
    let mut is_wrapped = false;
    let mut bytes = 0_usize;
    while let Some((first, after)) = rest.split_first() {
        // A redirection may stand before the command, with the number of what it redirects.
        let skipped = match (*first, after) {
            (">", [">", ..]) => Some(0),
            (">", _) => Some(1),
            (number, [">", ..]) if number.bytes().all(|byte| byte.is_ascii_digit()) => Some(0),
            _ => None,
        };
        if let Some(skipped) = skipped {
            rest = after.get(skipped..).unwrap_or_default();
            continue;
        }
        let name = first.rsplit('/').next().unwrap_or(first);
        let is_assignment = first.split_once('=').is_some_and(|(name, _)| is_name(name));
        let reading = [&[name], after].concat().join(" ");
        bytes = bytes.saturating_add(reading.len());
        readings.push(reading);
        is_wrapped |= WRAPPERS.contains(&name);
        if (!is_assignment && !is_wrapped) || bytes > READINGS_BYTES_MAX {
            break;
        }
        rest = after;
    }
    readings.into_iter()
}

/// Whether `command` starts a shell that runs what it reads, as far as its words say so. One that is too
/// much to read might.
#[must_use]
pub fn opens_shell(command: &str) -> bool {
    readings(command).is_none_or(|readings| readings.iter().any(|reading| is_open_shell(reading)))
}

fn is_open_shell(reading: &str) -> bool {
    let words = words(reading);
    let Some((name, arguments)) = words.split_first() else {
        return false;
    };
    let name = name.rsplit('/').next().unwrap_or(name);
    let has_flag = |flag: char| {
        let mut short = arguments.iter().filter(|word| !word.starts_with("--"));
        short.any(|word| {
            word.strip_prefix('-')
                .is_some_and(|flags| flags.contains(flag))
        })
    };
    let has_operand = arguments
        .iter()
        .take_while(|word| **word != ">")
        .any(|word| !word.starts_with(['-', '+']));
    match name.trim_start_matches('-') {
        "su" => !has_flag('c') && !arguments.iter().any(|word| word.starts_with("--command")),
        "sudo" | "doas" => has_flag('i') || has_flag('s'),
        shell if SHELLS.contains(&shell) => !has_flag('c') && (!has_operand || has_flag('s')),
        _ => false,
    }
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
            allows_full_screen: false,
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
            "r\\\nm x",
            ">/dev/null rm x",
            "2>&1 rm x",
            "&>/tmp/o rm x",
            "rm>/dev/null -rf x",
            "<<<x rm y",
            "rm${IFS}-rf${IFS}x",
            "{rm,-rf,x}",
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

    /// K4, E2: what is too long to read is not let through for it.
    #[test]
    fn a_command_hides_behind_no_number_of_others() {
        let rule = rule(&["rm *"]);
        assert!(rule.holds(&format!("{}rm x", "ls;".repeat(5_000))));
        assert!(rule.holds(&format!("env {}rm x", "a=b ".repeat(100))));
        assert!(rule.holds(&format!("env {}rm x", "a=b ".repeat(8_000))));
        assert!(!rule.holds(&format!("sudo apt install {}", "package ".repeat(100))));
    }

    /// K4: a script on standard input is no command that can be shown.
    #[test]
    fn a_shell_that_reads_its_commands_is_told_from_one_that_is_given_one() {
        for command in [
            "bash",
            "sh -",
            "/bin/bash -il",
            "exec zsh",
            "sudo su - root",
            "sudo -i",
            "sudo -u bob -s",
            "cat | sh",
            "bash -s x",
            "env A=b dash",
            "bash < f",
            "su",
        ] {
            assert!(opens_shell(command), "{command}");
        }
        for command in [
            "bash -c 'ls'",
            "sh script.sh",
            "sudo ls",
            "su -c ls bob",
            "ls",
            "rsync --server . x",
            "/bin/sh -c 'python3 && sleep 0'",
            "echo bash",
        ] {
            assert!(!opens_shell(command), "{command}");
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
