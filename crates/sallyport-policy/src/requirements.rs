//! The annotations of the require set: a closed registry, read once when a bundle is loaded.
//!
//! `bundle.rs` hands over each policy's annotations and gets a [`Demand`] back. Whatever is not in the
//! registry, or has an argument that is not exactly of its form, refuses the bundle: a demand that is
//! misspelt must not load as no demand.
//!
//! | annotation | meaning |
//! | --- | --- |
//! | `@mfa("multi_factor")`, `@mfa("phishing_resistant, max_age=15m")` | sign-in at least this strong, at most this old |
//! | `@approval("1")`, `@approval("2 from sre")` | votes of other people, optionally of one group |
//! | `@justification("min=10")` | a reason of at least this many characters |
//! | `@ticket("CHG-")` | a ticket that begins so |
//! | `@command_approval("1 from sre, within=10m: rm * \| shutdown*")` | votes on each command that matches, when it is about to run |
//! | `@shell_prompt("*$ \| *#")` | what prompts of shells look like |
//! | `@max_duration("1h")` | longest grant |
//! | `@idle_timeout("15m")` | a session in which nothing passes for this long ends |
//! | `@file_transfer("none")`, `up`, `down`, `both` | directions in which files may move |
//! | `@recording_content_limit("64MiB")` | bulk content recorded in full |
//! | `@recording_files("content")` | the content of transferred files is recorded, not only size and hash |
//! | `@watcher("required")`, `@watcher("required, wait=90s")` | nothing passes while nobody else watches; so long without one ends the session |
//! | `@keyboard("own")`, `@keyboard("shared")` | whether people who join may type |
//! | `@read_only("enforced")` | statements write nothing, and the target is told so |
//! | `@statement_rows("1000")`, `@statement_bytes("10MiB")`, `@statement_time("30s")` | what one statement may take |
//! | `@grant_rows("100000")`, `@grant_bytes("1GiB")` | what all statements under one grant may take |
//! | `@mask("shop.public.customers.email = token")` | how columns are shown; nothing is written then |
//! | `@redact("private_keys, tokens")` | what is kept out of the recording |
//!
//! INVARIANT: every number is bounded here, so that no bundle demands what can never be met.

use std::collections::{BTreeMap, BTreeSet};

use sallyport_core::{
    access::{HELD_WITHIN_S_MAX, REASON_CHARS_MAX},
    policy::{
        Budget, CommandRule, Constraint, Demand, MAX_DURATION_CEILING_S, Masks, Pattern,
        RedactionRule, Requirement,
    },
    principal::AuthenticationStrength,
};

use crate::{redaction::FAMILIES, schema::STRENGTHS};

/// The annotation that names a policy; the only one that both sets know.
pub(crate) const ID: &str = "id";

/// No policy asks for more votes than this.
const APPROVALS_MAX: u64 = 32;
/// No annotation lists more patterns than this.
const PATTERNS_MAX: usize = 64;
/// How long a command waits when policy does not say: ten minutes, in seconds.
const COMMAND_WITHIN_S: u64 = 600;
/// Most rows that a limit names.
const ROWS_MAX: u64 = 1_000_000_000_000;
/// Most bytes that a size names: 1 TiB.
const SIZE_MAX: u64 = 1 << 40;

/// How long a session that must be watched goes without a watcher when its policy does not say.
const WATCHER_WAIT_S: u64 = 60;

/// An annotation that is not in the registry or not of its form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AnnotationFault {
    /// Key of the annotation; absent when one is missing.
    pub(crate) key: Option<String>,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

enum Parsed {
    Requirement(Requirement),
    Constraint(Constraint),
}

type Parser = fn(&str) -> Option<Parsed>;

struct Annotation {
    key: &'static str,
    form: &'static str,
    parse: Parser,
}

const REGISTRY: [Annotation; 21] = [
    Annotation {
        key: "approval",
        form: "\"1\" to \"32\", or with a group: \"2 from sre\"",
        parse: parse_approval,
    },
    Annotation {
        key: "command_approval",
        form: "votes, options and patterns: \"1 from sre, within=10m: rm * | shutdown*\"; options are within= (10s to 1h), unknown_prompt= and full_screen=, each refuse or allow",
        parse: parse_command_approval,
    },
    Annotation {
        key: "file_transfer",
        form: "\"none\", \"up\", \"down\" or \"both\"",
        parse: parse_file_transfer,
    },
    Annotation {
        key: "grant_bytes",
        form: "a size such as \"1GiB\" (KiB, MiB, GiB), at most 1024GiB",
        parse: |argument| parse_bytes(argument, Budget::GrantBytes),
    },
    Annotation {
        key: "grant_rows",
        form: "a number of rows, at most 1000000000000",
        parse: |argument| parse_rows(argument, Budget::GrantRows),
    },
    Annotation {
        key: "idle_timeout",
        form: "a duration such as \"15m\", at least 10s and at most 7d",
        parse: parse_idle_timeout,
    },
    Annotation {
        key: "justification",
        form: "\"min=10\", between 1 and 1000 characters",
        parse: parse_justification,
    },
    Annotation {
        key: "keyboard",
        form: "\"own\" or \"shared\"",
        parse: parse_keyboard,
    },
    Annotation {
        key: "mask",
        form: "columns and \"partial\", \"token\" or \"null\": \"shop.public.customers.email = token | *.*.customers.iban = partial\"",
        parse: parse_mask,
    },
    Annotation {
        key: "max_duration",
        form: "a duration such as \"1h\", at least 1s and at most 7d",
        parse: parse_max_duration,
    },
    Annotation {
        key: "mfa",
        form: "\"single_factor\", \"multi_factor\" or \"phishing_resistant\", then optionally \", max_age=15m\"",
        parse: parse_mfa,
    },
    Annotation {
        key: "read_only",
        form: "\"enforced\"",
        parse: parse_read_only,
    },
    Annotation {
        key: "recording_content_limit",
        form: "a size such as \"64MiB\" (KiB, MiB, GiB), at most 1024GiB",
        parse: parse_recording_content_limit,
    },
    Annotation {
        key: "recording_files",
        form: "\"content\"",
        parse: parse_recording_files,
    },
    Annotation {
        key: "redact",
        form: "names with a comma and a space between: \"private_keys, tokens\", \"cards\", or of rules under redaction/",
        parse: parse_redact,
    },
    Annotation {
        key: "shell_prompt",
        form: "patterns of a prompt, its last blank left out: \"*$ | *#\"",
        parse: parse_shell_prompt,
    },
    Annotation {
        key: "statement_bytes",
        form: "a size such as \"10MiB\" (KiB, MiB, GiB), at most 1024GiB",
        parse: |argument| parse_bytes(argument, Budget::StatementBytes),
    },
    Annotation {
        key: "statement_rows",
        form: "a number of rows, at most 1000000000000",
        parse: |argument| parse_rows(argument, Budget::StatementRows),
    },
    Annotation {
        key: "statement_time",
        form: "a duration such as \"30s\"",
        parse: parse_statement_time,
    },
    Annotation {
        key: "ticket",
        form: "the letters before the number and a dash, such as \"CHG-\"",
        parse: parse_ticket,
    },
    Annotation {
        key: "watcher",
        form: "\"required\", then optionally \", wait=90s\", between 5s and 1h",
        parse: parse_watcher,
    },
];

/// Reads what a policy of the require set demands.
pub(crate) fn parse_demand<'a>(
    policy: &str,
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Demand, AnnotationFault> {
    let mut demand = Demand {
        policy: policy.to_owned(),
        requirements: Vec::new(),
        constraints: Vec::new(),
    };
    for (key, argument) in annotations.filter(|(key, _)| *key != ID) {
        let annotation = REGISTRY
            .iter()
            .find(|annotation| annotation.key == key)
            .ok_or_else(|| unknown(key))?;
        match (annotation.parse)(argument) {
            Some(Parsed::Requirement(requirement)) => demand.requirements.push(requirement),
            Some(Parsed::Constraint(constraint)) => demand.constraints.push(constraint),
            None => {
                return Err(AnnotationFault {
                    key: Some(key.to_owned()),
                    problem: format!("`@{key}` cannot have the argument `{argument}`"),
                    remedy: format!("write {}", annotation.form),
                });
            }
        }
    }
    if demand.requirements.is_empty() && demand.constraints.is_empty() {
        return Err(AnnotationFault {
            key: None,
            problem: String::from("the policy demands nothing"),
            remedy: format!("add one of {}, or delete it", known()),
        });
    }
    demand.requirements.sort();
    Ok(demand)
}

/// Gives each redaction rule that is not built in its pattern.
pub(crate) fn define_redaction(
    demand: &mut Demand,
    patterns: &BTreeMap<String, String>,
) -> Result<(), AnnotationFault> {
    for constraint in &mut demand.constraints {
        let Constraint::Redact { rules } = constraint else {
            continue;
        };
        *rules = std::mem::take(rules)
            .into_iter()
            .map(|rule| match patterns.get(&rule.name) {
                _ if FAMILIES.contains(&rule.name.as_str()) => Ok(rule),
                Some(pattern) => Ok(RedactionRule {
                    pattern: Some(pattern.clone()),
                    ..rule
                }),
                None => Err(AnnotationFault {
                    key: Some(String::from("redact")),
                    problem: format!("no redaction rule is named `{}`", rule.name),
                    remedy: format!(
                        "define it in a sound file under redaction/, or name one of {}",
                        FAMILIES.join(", ")
                    ),
                }),
            })
            .collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// Refuses every annotation but the id: a demand on a policy of the authorise set would be ignored.
pub(crate) fn check_authorise<'a>(
    mut annotations: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), AnnotationFault> {
    match annotations.find(|(key, _)| *key != ID) {
        None => Ok(()),
        Some((key, _)) if REGISTRY.iter().any(|annotation| annotation.key == key) => {
            Err(AnnotationFault {
                key: Some(key.to_owned()),
                problem: format!("`@{key}` has no effect in the authorise set"),
                remedy: String::from("move the demand to a policy under require/"),
            })
        }
        Some((key, _)) => Err(unknown(key)),
    }
}

fn unknown(key: &str) -> AnnotationFault {
    AnnotationFault {
        key: Some(key.to_owned()),
        problem: format!("`@{key}` is not a known annotation"),
        remedy: format!("known are @id and, under require/, {}", known()),
    }
}

fn known() -> String {
    REGISTRY
        .iter()
        .map(|annotation| format!("@{}", annotation.key))
        .collect::<Vec<_>>()
        .join(", ")
}

fn parse_mfa(argument: &str) -> Option<Parsed> {
    let (strength, max_age_s) = match argument.split_once(',') {
        None => (argument, None),
        Some((strength, rest)) => {
            let age = rest.trim_start().strip_prefix("max_age=")?;
            (strength, Some(parse_duration_s(age)?))
        }
    };
    Some(Parsed::Requirement(Requirement::Mfa {
        strength: parse_strength(strength)?,
        max_age_s,
    }))
}

/// The strength that policies and tests spell so.
pub(crate) fn parse_strength(word: &str) -> Option<AuthenticationStrength> {
    STRENGTHS
        .into_iter()
        .find(|strength| strength.as_str() == word)
}

fn parse_approval(argument: &str) -> Option<Parsed> {
    let (count, from) = parse_votes(argument)?;
    Some(Parsed::Requirement(Requirement::Approval { count, from }))
}

fn parse_votes(argument: &str) -> Option<(u64, Option<String>)> {
    let (count, from) = match argument.split_once(" from ") {
        None => (argument, None),
        Some((count, group)) if is_group_name(group) => (count, Some(group.to_owned())),
        Some(_) => return None,
    };
    let count = parse_number(count).filter(|count| (1..=APPROVALS_MAX).contains(count))?;
    Some((count, from))
}

/// `VOTES[, within=TIME][, unknown_prompt=WORD]: PATTERN[ | PATTERN]…`, options in this order or not.
fn parse_command_approval(argument: &str) -> Option<Parsed> {
    let (head, patterns) = argument.split_once(": ")?;
    let mut head = head.split(", ");
    let (count, from) = parse_votes(head.next()?)?;
    let mut within_s = None;
    let (mut allows_unknown_prompt, mut allows_full_screen) = (None, None);
    for option in head {
        if let Some(time) = option.strip_prefix("within=") {
            // Less than ten seconds, nobody could answer.
            let seconds = parse_duration_s(time)
                .filter(|seconds| (10..=HELD_WITHIN_S_MAX).contains(seconds))?;
            if within_s.replace(seconds).is_some() {
                return None;
            }
        } else {
            let (name, word) = option.split_once('=')?;
            let allows = match name {
                "unknown_prompt" => &mut allows_unknown_prompt,
                "full_screen" => &mut allows_full_screen,
                _ => return None,
            };
            let is_allowed = match word {
                "refuse" => false,
                "allow" => true,
                _ => return None,
            };
            if allows.replace(is_allowed).is_some() {
                return None;
            }
        }
    }
    Some(Parsed::Requirement(Requirement::CommandApproval(
        CommandRule {
            count,
            from,
            within_s: within_s.unwrap_or(COMMAND_WITHIN_S),
            allows_unknown_prompt: allows_unknown_prompt.unwrap_or(false),
            allows_full_screen: allows_full_screen.unwrap_or(false),
            patterns: parse_patterns(patterns)?,
        },
    )))
}

fn parse_shell_prompt(argument: &str) -> Option<Parsed> {
    // A prompt that any line is would make every answer to a program a command.
    let patterns = parse_patterns(argument)
        .filter(|patterns| patterns.iter().all(|pattern| !pattern.matches("")))?;
    Some(Parsed::Constraint(Constraint::ShellPrompt { patterns }))
}

/// One to 64 patterns with a bar between blanks in between.
fn parse_patterns(argument: &str) -> Option<Vec<Pattern>> {
    let patterns: Vec<Pattern> = argument
        .split(" | ")
        .map(|pattern| pattern.trim().parse().ok())
        .collect::<Option<_>>()?;
    (patterns.len() <= PATTERNS_MAX).then_some(patterns)
}

fn is_group_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
}

fn parse_justification(argument: &str) -> Option<Parsed> {
    let longest = u64::try_from(REASON_CHARS_MAX).ok()?;
    let min_chars = parse_number(argument.strip_prefix("min=")?)
        .filter(|min_chars| (1..=longest).contains(min_chars))?;
    Some(Parsed::Requirement(Requirement::Justification {
        min_chars,
    }))
}

fn parse_ticket(argument: &str) -> Option<Parsed> {
    let letters = argument.strip_suffix('-')?;
    let is_prefix = (1..=16).contains(&letters.len())
        && letters.bytes().all(|b| b.is_ascii_alphanumeric())
        && letters
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic());
    is_prefix.then(|| {
        Parsed::Requirement(Requirement::Ticket {
            prefix: argument.to_owned(),
        })
    })
}

fn parse_max_duration(argument: &str) -> Option<Parsed> {
    let seconds = parse_duration_s(argument)?;
    Some(Parsed::Constraint(Constraint::MaxDuration { seconds }))
}

fn parse_idle_timeout(argument: &str) -> Option<Parsed> {
    // Shorter than ten seconds, nobody could type.
    let seconds = parse_duration_s(argument).filter(|seconds| *seconds >= 10)?;
    Some(Parsed::Constraint(Constraint::IdleTimeout { seconds }))
}

fn parse_file_transfer(argument: &str) -> Option<Parsed> {
    let (up, down) = match argument {
        "none" => (false, false),
        "up" => (true, false),
        "down" => (false, true),
        "both" => (true, true),
        _ => return None,
    };
    Some(Parsed::Constraint(Constraint::FileTransfer { up, down }))
}

fn parse_recording_content_limit(argument: &str) -> Option<Parsed> {
    let bytes = parse_size(argument)?;
    Some(Parsed::Constraint(Constraint::RecordingContentLimit {
        bytes,
    }))
}

/// Bytes of `64KiB`, `64MiB` or `1GiB`.
fn parse_size(argument: &str) -> Option<u64> {
    let units = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let bytes = units
        .iter()
        .find_map(|(unit, size)| parse_number(argument.strip_suffix(unit)?)?.checked_mul(*size))?;
    (bytes <= SIZE_MAX).then_some(bytes)
}

fn parse_read_only(argument: &str) -> Option<Parsed> {
    (argument == "enforced").then_some(Parsed::Constraint(Constraint::ReadOnly))
}

const fn budget(of: Budget, most: u64) -> Parsed {
    Parsed::Constraint(Constraint::Budget { of, most })
}

fn parse_bytes(argument: &str, of: Budget) -> Option<Parsed> {
    Some(budget(of, parse_size(argument)?))
}

/// One to 64 columns with how each is shown, with a bar between blanks in between.
fn parse_mask(argument: &str) -> Option<Parsed> {
    let mut columns = Masks::new();
    for rule in argument.split(" | ") {
        let (column, mask) = rule.split_once(" = ")?;
        let is_new = columns
            .insert(column.trim().parse().ok()?, mask.trim().parse().ok()?)
            .is_none();
        if !is_new || columns.len() > PATTERNS_MAX {
            return None;
        }
    }
    Some(Parsed::Constraint(Constraint::Mask { columns }))
}

fn parse_rows(argument: &str, of: Budget) -> Option<Parsed> {
    let rows = parse_number(argument).filter(|rows| *rows <= ROWS_MAX)?;
    Some(budget(of, rows))
}

fn parse_statement_time(argument: &str) -> Option<Parsed> {
    Some(budget(
        Budget::StatementSeconds,
        parse_duration_s(argument)?,
    ))
}

fn parse_recording_files(argument: &str) -> Option<Parsed> {
    (argument == "content").then_some(Parsed::Constraint(Constraint::RecordingFileContent))
}

fn parse_watcher(argument: &str) -> Option<Parsed> {
    let wait_s = match argument.strip_prefix("required")? {
        "" => WATCHER_WAIT_S,
        // Shorter, and nobody could take over from somebody else; longer, and an open session waits for
        // nobody.
        rest => parse_duration_s(rest.strip_prefix(", wait=")?)
            .filter(|wait_s| (5..=3_600).contains(wait_s))?,
    };
    Some(Parsed::Constraint(Constraint::Watcher { wait_s }))
}

fn parse_keyboard(argument: &str) -> Option<Parsed> {
    let shared = match argument {
        "own" => false,
        "shared" => true,
        _ => return None,
    };
    Some(Parsed::Constraint(Constraint::Keyboard { shared }))
}

fn parse_redact(argument: &str) -> Option<Parsed> {
    let mut rules = BTreeSet::new();
    for name in argument.split(", ") {
        let is_name = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        let rule = RedactionRule {
            name: name.to_owned(),
            pattern: None,
        };
        if !is_name || !rules.insert(rule) {
            return None;
        }
    }
    Some(Parsed::Constraint(Constraint::Redact { rules }))
}

/// Seconds of `90s`, `15m`, `8h` or `7d`: from one second to seven days.
pub(crate) fn parse_duration_s(text: &str) -> Option<u64> {
    let units = [('s', 1_u64), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let seconds = units
        .iter()
        .find_map(|(unit, size)| parse_number(text.strip_suffix(*unit)?)?.checked_mul(*size))?;
    (1..=MAX_DURATION_CEILING_S)
        .contains(&seconds)
        .then_some(seconds)
}

/// A whole number in its one spelling: no sign, no space, no leading zero.
fn parse_number(text: &str) -> Option<u64> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use sallyport_core::policy::Mask;

    use super::*;

    fn demand_of(key: &str, argument: &str) -> Result<Demand, AnnotationFault> {
        parse_demand("p", [(ID, "p"), (key, argument)].into_iter())
    }

    /// PO-2
    #[test]
    fn each_annotation_demands_exactly_what_it_says() {
        let requirement = |key, argument| demand_of(key, argument).unwrap().requirements.remove(0);
        let constraint = |key, argument| demand_of(key, argument).unwrap().constraints.remove(0);
        assert_eq!(
            requirement("mfa", "phishing_resistant, max_age=15m"),
            Requirement::Mfa {
                strength: AuthenticationStrength::PhishingResistant,
                max_age_s: Some(900)
            }
        );
        assert_eq!(
            requirement("mfa", "multi_factor"),
            Requirement::Mfa {
                strength: AuthenticationStrength::MultiFactor,
                max_age_s: None
            }
        );
        assert_eq!(
            requirement("approval", "2 from sre"),
            Requirement::Approval {
                count: 2,
                from: Some("sre".into())
            }
        );
        assert_eq!(
            requirement("approval", "1"),
            Requirement::Approval {
                count: 1,
                from: None
            }
        );
        assert_eq!(
            requirement("justification", "min=10"),
            Requirement::Justification { min_chars: 10 }
        );
        assert_eq!(
            requirement("ticket", "CHG-"),
            Requirement::Ticket {
                prefix: "CHG-".into()
            }
        );
        assert_eq!(
            constraint("max_duration", "1h"),
            Constraint::MaxDuration { seconds: 3_600 }
        );
        assert_eq!(
            constraint("idle_timeout", "15m"),
            Constraint::IdleTimeout { seconds: 900 }
        );
        let patterns = |texts: &[&str]| -> Vec<Pattern> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(
            requirement(
                "command_approval",
                "2 from sre, within=5m, unknown_prompt=allow, full_screen=allow: rm * | a: b"
            ),
            Requirement::CommandApproval(CommandRule {
                count: 2,
                from: Some("sre".into()),
                within_s: 300,
                allows_unknown_prompt: true,
                allows_full_screen: true,
                patterns: patterns(&["rm *", "a: b"]),
            })
        );
        assert_eq!(
            requirement("command_approval", "1: *"),
            Requirement::CommandApproval(CommandRule {
                count: 1,
                from: None,
                within_s: 600,
                allows_unknown_prompt: false,
                allows_full_screen: false,
                patterns: patterns(&["*"]),
            })
        );
        assert_eq!(
            constraint("shell_prompt", "*$ | *#"),
            Constraint::ShellPrompt {
                patterns: patterns(&["*$", "*#"])
            }
        );
        for (word, up, down) in [
            ("none", false, false),
            ("up", true, false),
            ("down", false, true),
            ("both", true, true),
        ] {
            assert_eq!(
                constraint("file_transfer", word),
                Constraint::FileTransfer { up, down }
            );
        }
        assert_eq!(
            constraint("recording_content_limit", "64MiB"),
            Constraint::RecordingContentLimit { bytes: 64 << 20 }
        );
        assert_eq!(
            constraint("statement_rows", "1000"),
            Constraint::Budget {
                of: Budget::StatementRows,
                most: 1_000
            }
        );
        assert_eq!(
            constraint("grant_bytes", "1GiB"),
            Constraint::Budget {
                of: Budget::GrantBytes,
                most: 1 << 30
            }
        );
        assert_eq!(
            constraint("statement_time", "30s"),
            Constraint::Budget {
                of: Budget::StatementSeconds,
                most: 30
            }
        );
        assert_eq!(constraint("read_only", "enforced"), Constraint::ReadOnly);
        assert_eq!(
            constraint(
                "mask",
                "shop.public.customers.email = token | *.*.customers.iban = null"
            ),
            Constraint::Mask {
                columns: Masks::from([
                    ("shop.public.customers.email".parse().unwrap(), Mask::Token),
                    ("*.*.customers.iban".parse().unwrap(), Mask::Null),
                ])
            }
        );
        assert_eq!(
            constraint("watcher", "required"),
            Constraint::Watcher { wait_s: 60 }
        );
        assert_eq!(
            constraint("watcher", "required, wait=5m"),
            Constraint::Watcher { wait_s: 300 }
        );
        for (word, shared) in [("own", false), ("shared", true)] {
            assert_eq!(
                constraint("keyboard", word),
                Constraint::Keyboard { shared }
            );
        }
        let Constraint::Redact { rules } = constraint("redact", "cards, acme-token") else {
            panic!("not a redaction");
        };
        let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["acme-token", "cards"]);
    }

    /// PO-2: what is misspelt must not load as no demand.
    #[test]
    fn an_argument_that_is_not_of_its_form_is_refused() {
        for (key, argument) in [
            ("mfa", ""),
            ("mfa", "two_factor"),
            ("mfa", "multi_factor,"),
            ("mfa", "multi_factor, max_age=0s"),
            ("mfa", "multi_factor, max_age=15"),
            ("mfa", "multi_factor, max_age=15m, x=1"),
            ("mfa", " multi_factor"),
            ("approval", ""),
            ("approval", "0"),
            ("approval", "33"),
            ("approval", "-1"),
            ("approval", "1 from "),
            ("approval", "1 from SRE"),
            ("approval", "1 from a b"),
            ("approval", "one"),
            ("justification", "10"),
            ("justification", "min=0"),
            ("justification", "min=1001"),
            ("justification", "min=+5"),
            ("ticket", ""),
            ("ticket", "-"),
            ("ticket", "CHG"),
            ("ticket", "1CHG-"),
            ("ticket", "CHG--"),
            ("max_duration", "0s"),
            ("max_duration", "8d"),
            ("max_duration", "1 h"),
            ("max_duration", "99999999999999999999d"),
            ("idle_timeout", "9s"),
            ("command_approval", ""),
            ("command_approval", "1"),
            ("command_approval", "1: "),
            ("command_approval", "0: rm *"),
            ("command_approval", "33: rm *"),
            ("command_approval", "1 from SRE: rm *"),
            ("command_approval", "1, within=9s: rm *"),
            ("command_approval", "1, within=61m: rm *"),
            ("command_approval", "1, within=1m, within=2m: rm *"),
            ("command_approval", "1, unknown_prompt=yes: rm *"),
            ("command_approval", "1, prompt=allow: rm *"),
            ("command_approval", "1: rm * |  | ls"),
            ("shell_prompt", ""),
            ("shell_prompt", "*"),
            ("file_transfer", "upload"),
            ("file_transfer", ""),
            ("recording_files", ""),
            ("recording_files", "none"),
            ("redact", ""),
            ("redact", "cards,tokens"),
            ("redact", "cards, "),
            ("redact", "cards, cards"),
            ("redact", "Cards"),
            ("recording_content_limit", "64"),
            ("recording_content_limit", "64MB"),
            ("recording_content_limit", "1025GiB"),
            ("recording_content_limit", "99999999999GiB"),
            ("watcher", ""),
            ("read_only", "true"),
            ("mask", ""),
            ("mask", "customers.email = token"),
            ("mask", "*.*.*.email = token"),
            ("mask", "*.*.customers.email = hash"),
            ("mask", "*.*.customers.email=token"),
            (
                "mask",
                "*.*.customers.email = token | *.*.customers.email = null",
            ),
            ("statement_rows", "1e3"),
            ("statement_rows", "-1"),
            ("grant_rows", "1000000000001"),
            ("statement_bytes", "10"),
            ("statement_time", "0s"),
            ("watcher", "optional"),
            ("watcher", "required,"),
            ("watcher", "required, wait=4s"),
            ("watcher", "required, wait=2h"),
            ("watcher", "required wait=60s"),
            ("keyboard", ""),
            ("keyboard", "none"),
        ] {
            let fault = demand_of(key, argument).expect_err(&format!("@{key}(\"{argument}\")"));
            assert_eq!(fault.key.as_deref(), Some(key));
        }
    }

    /// PO-2
    #[test]
    fn an_unknown_annotation_and_a_policy_without_demands_are_refused() {
        assert_eq!(
            demand_of("aproval", "1").unwrap_err().key.as_deref(),
            Some("aproval")
        );
        let nothing = parse_demand("p", [(ID, "p")].into_iter()).unwrap_err();
        assert_eq!(nothing.problem, "the policy demands nothing");
    }

    /// PO-2
    #[test]
    fn a_demand_in_the_authorise_set_is_refused_because_it_would_be_ignored() {
        let fault = check_authorise([(ID, "p"), ("approval", "1")].into_iter()).unwrap_err();
        assert!(fault.remedy.contains("require/"), "{fault:?}");
        assert!(check_authorise([(ID, "p")].into_iter()).is_ok());
    }

    proptest! {
        #[test]
        fn no_argument_makes_the_registry_panic_or_demand_the_unmeetable(
            which in 0..REGISTRY.len(), argument in "\\PC{0,24}|[0-9]{1,22}[smhd]|[0-9]{1,3}( from [a-z]{0,4})?"
        ) {
            if let Ok(demand) = demand_of(REGISTRY[which].key, &argument) {
                for requirement in demand.requirements {
                    if let Requirement::Approval { count, .. } = requirement {
                        prop_assert!((1..=APPROVALS_MAX).contains(&count));
                    }
                }
                for constraint in demand.constraints {
                    if let Constraint::MaxDuration { seconds } = constraint {
                        prop_assert!((1..=MAX_DURATION_CEILING_S).contains(&seconds));
                    }
                }
            }
        }
    }
}
