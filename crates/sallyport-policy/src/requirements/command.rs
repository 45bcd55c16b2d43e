//! Annotations about what is typed and executed: commands that wait for votes, and what a prompt looks like.
//!
//! Called by the registry. INVARIANT: no prompt that an empty line is, and no wait in which nobody could answer.
//!
//! Not here: which commands a pattern matches (`sallyport-core`), what a screen shows (`sallyport-gateway`).

use sallyport_core::{
    access::HELD_WITHIN_S_MAX,
    policy::{CommandRule, Constraint, Pattern, Requirement},
};

use super::{PATTERNS_MAX, Parsed, access::votes, measure::duration_s};

/// How long a command waits when policy does not say: ten minutes, in seconds.
const COMMAND_WITHIN_S: u64 = 600;

/// `VOTES[, within=TIME][, unknown_prompt=WORD]: PATTERN[ | PATTERN]…`, options in this order or not.
pub(super) fn command_approval(argument: &str) -> Option<Parsed> {
    let (head, patterns) = argument.split_once(": ")?;
    let mut head = head.split(", ");
    let (count, from) = votes(head.next()?)?;
    let mut within_s = None;
    let (mut allows_unknown_prompt, mut allows_full_screen) = (None, None);
    for option in head {
        if let Some(time) = option.strip_prefix("within=") {
            // Less than ten seconds, nobody could answer.
            let seconds =
                duration_s(time).filter(|seconds| (10..=HELD_WITHIN_S_MAX).contains(seconds))?;
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
            patterns: pattern_list(patterns)?,
        },
    )))
}

pub(super) fn shell_prompt(argument: &str) -> Option<Parsed> {
    // A prompt that any line is would make every answer to a program a command.
    let patterns = pattern_list(argument)
        .filter(|patterns| patterns.iter().all(|pattern| !pattern.matches("")))?;
    Some(Parsed::Constraint(Constraint::ShellPrompt { patterns }))
}

/// One to 64 patterns with a bar between blanks in between.
fn pattern_list(argument: &str) -> Option<Vec<Pattern>> {
    let patterns: Vec<Pattern> = argument
        .split(" | ")
        .map(|pattern| pattern.trim().parse().ok())
        .collect::<Option<_>>()?;
    (patterns.len() <= PATTERNS_MAX).then_some(patterns)
}
