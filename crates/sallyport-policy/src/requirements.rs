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
//! Each annotation is read in the file of its feature: `access`, `session`, `command`, `statement`.
//!
//! INVARIANT: every number is bounded here, so that no bundle demands what can never be met.

mod access;
mod command;
mod measure;
mod session;
mod statement;

use std::collections::BTreeMap;

use sallyport_core::policy::{Budget, Constraint, Demand, RedactionRule, Requirement};

pub(crate) use self::measure::duration_s;
use crate::redaction::FAMILIES;

/// The annotation that names a policy; the only one that both sets know.
pub(crate) const ID: &str = "id";

/// No annotation lists more patterns than this.
const PATTERNS_MAX: usize = 64;

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
        parse: access::approval,
    },
    Annotation {
        key: "command_approval",
        form: "votes, options and patterns: \"1 from sre, within=10m: rm * | shutdown*\"; options are within= (10s to 1h), unknown_prompt= and full_screen=, each refuse or allow",
        parse: command::command_approval,
    },
    Annotation {
        key: "file_transfer",
        form: "\"none\", \"up\", \"down\" or \"both\"",
        parse: session::file_transfer,
    },
    Annotation {
        key: "grant_bytes",
        form: "a size such as \"1GiB\" (KiB, MiB, GiB), at most 1024GiB",
        parse: |argument| statement::bytes(argument, Budget::GrantBytes),
    },
    Annotation {
        key: "grant_rows",
        form: "a number of rows, at most 1000000000000",
        parse: |argument| statement::rows(argument, Budget::GrantRows),
    },
    Annotation {
        key: "idle_timeout",
        form: "a duration such as \"15m\", at least 10s and at most 7d",
        parse: session::idle_timeout,
    },
    Annotation {
        key: "justification",
        form: "\"min=10\", between 1 and 1000 characters",
        parse: access::justification,
    },
    Annotation {
        key: "keyboard",
        form: "\"own\" or \"shared\"",
        parse: session::keyboard,
    },
    Annotation {
        key: "mask",
        form: "columns and \"partial\", \"token\" or \"null\": \"shop.public.customers.email = token | *.*.customers.iban = partial\"",
        parse: statement::mask,
    },
    Annotation {
        key: "max_duration",
        form: "a duration such as \"1h\", at least 1s and at most 7d",
        parse: access::max_duration,
    },
    Annotation {
        key: "mfa",
        form: "\"single_factor\", \"multi_factor\" or \"phishing_resistant\", then optionally \", max_age=15m\"",
        parse: access::mfa,
    },
    Annotation {
        key: "read_only",
        form: "\"enforced\"",
        parse: statement::read_only,
    },
    Annotation {
        key: "recording_content_limit",
        form: "a size such as \"64MiB\" (KiB, MiB, GiB), at most 1024GiB",
        parse: session::recording_content_limit,
    },
    Annotation {
        key: "recording_files",
        form: "\"content\"",
        parse: session::recording_files,
    },
    Annotation {
        key: "redact",
        form: "names with a comma and a space between: \"private_keys, tokens\", \"cards\", or of rules under redaction/",
        parse: session::redact,
    },
    Annotation {
        key: "shell_prompt",
        form: "patterns of a prompt, its last blank left out: \"*$ | *#\"",
        parse: command::shell_prompt,
    },
    Annotation {
        key: "statement_bytes",
        form: "a size such as \"10MiB\" (KiB, MiB, GiB), at most 1024GiB",
        parse: |argument| statement::bytes(argument, Budget::StatementBytes),
    },
    Annotation {
        key: "statement_rows",
        form: "a number of rows, at most 1000000000000",
        parse: |argument| statement::rows(argument, Budget::StatementRows),
    },
    Annotation {
        key: "statement_time",
        form: "a duration such as \"30s\"",
        parse: statement::statement_time,
    },
    Annotation {
        key: "ticket",
        form: "the letters before the number and a dash, such as \"CHG-\"",
        parse: access::ticket,
    },
    Annotation {
        key: "watcher",
        form: "\"required\", then optionally \", wait=90s\", between 5s and 1h",
        parse: session::watcher,
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

#[cfg(test)]
#[path = "requirements_tests.rs"]
mod tests;
