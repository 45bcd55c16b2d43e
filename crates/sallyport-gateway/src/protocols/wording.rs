//! What the gateway says to the person, whatever the protocol carries it in: a few lines, each with its
//! stable code, and what to do.
//!
//! INVARIANT: nothing from outside reaches a terminal unescaped (security class K5).

use sallyport_api::gateway::{ChallengeAnswer, HeldProgress, Refused, RequestProgress};
use sallyport_core::{
    authz::{Reason, Unmet},
    id::{OperationId, RequestId},
    inventory::Selector,
    principal::PersonName,
};
use sallyport_evidence::recording::escape_controls;

use crate::session::End;

/// What a person reads who is not let in.
pub(super) fn denial(selector: Option<&Selector>, refused: &Refused) -> String {
    let mut text = match selector {
        Some(selector) => format!(
            "sallyport: {}@{} is refused\n",
            selector.account, selector.target
        ),
        None => String::new(),
    };
    for reason in &refused.reasons {
        text.push_str(&reason_lines(*reason));
    }
    if refused.reasons.is_empty() {
        text.push_str(&reason_lines(Reason::ControlUnavailable));
    }
    if !refused.reference.is_empty() {
        text.push_str(&format!(
            "sallyport: reference: {}\n",
            escape_controls(&refused.reference)
        ));
    }
    text
}

/// One reason and its remedy.
pub(super) fn reason_lines(reason: Reason) -> String {
    format!(
        "sallyport: {} ({})\nsallyport: what you can do: {}\n",
        reason.message(),
        reason.code(),
        reason.remedy()
    )
}

/// One reason and its remedy, where there is room for one line.
pub(super) fn reason_line(reason: Reason) -> String {
    format!(
        "sallyport: {} ({}); {}",
        reason.message(),
        reason.code(),
        reason.remedy()
    )
}

/// Why one operation was refused, on one line.
pub(super) fn refusal(what: &str, reason: Reason) -> String {
    format!(
        "sallyport: {} refused: {} ({}); {}",
        escape_controls(what),
        reason.message(),
        reason.code(),
        reason.remedy()
    )
}

/// What a held command waits for, and how to give it up.
pub(super) fn held(id: &OperationId, progress: &HeldProgress) -> String {
    match progress {
        HeldProgress::Waiting {
            approvals_missing,
            approved_by,
            expires_at,
        } => format!(
            "sallyport: this command waits for {}{} until {expires_at}: somebody else runs \
             `sallyport operation approve {id}`; Ctrl-C gives up",
            approvals(*approvals_missing),
            so_far(approved_by)
        ),
        HeldProgress::Released { approved_by } => {
            format!("sallyport: approved{}", by(approved_by))
        }
        HeldProgress::Refused { reason, comment } => held_refusal(*reason, comment),
    }
}

/// Why a held command does not run.
pub(super) fn held_refusal(reason: Reason, comment: &str) -> String {
    let comment = match comment {
        "" => String::new(),
        comment => format!(": {}", escape_controls(comment)),
    };
    format!(
        "sallyport: {} ({}){comment}; {}",
        reason.message(),
        reason.code(),
        reason.remedy()
    )
}

fn approvals(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} approval{plural}")
}

fn so_far(approved_by: &[PersonName]) -> String {
    match by(approved_by).as_str() {
        "" => String::new(),
        by => format!(", approved{by}"),
    }
}

fn by(people: &[PersonName]) -> String {
    let names: Vec<_> = people.iter().map(PersonName::as_str).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" by {}", names.join(", ")),
    }
}

/// Why the session is over.
pub(super) fn end(end: &End) -> String {
    let code = end.reason.as_str();
    match end.comment.as_str() {
        "" => format!("sallyport: {} ({code})", end.reason.message()),
        comment => format!(
            "sallyport: {} ({code}): {}",
            end.reason.message(),
            escape_controls(comment)
        ),
    }
}

/// Lines for a terminal: in raw mode a line feed alone does not return to the first column.
pub(super) fn for_terminal(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// What is missing, before the prompts that ask for it.
pub(super) fn challenge(selector: &Selector, answer: &ChallengeAnswer) -> String {
    let mut missing: Vec<String> = Vec::new();
    for unmet in &answer.unmet {
        match unmet {
            Unmet::Grant => {}
            Unmet::Mfa { .. } => missing.push("a one-time code".to_owned()),
            Unmet::Justification { min_chars } => {
                missing.push(format!("a reason of at least {min_chars} characters"));
            }
            Unmet::Ticket { prefix } => {
                missing.push(format!("a ticket ({}...)", escape_controls(prefix)));
            }
            Unmet::Approval { count: 1, from } => {
                missing.push(format!("1 approval{}", of_group(from.as_deref())));
            }
            Unmet::Approval { count, from } => {
                missing.push(format!("{count} approvals{}", of_group(from.as_deref())));
            }
            // Asked when the command is about to run.
            Unmet::CommandApproval(_) => {}
        }
    }
    let what = match missing.is_empty() {
        true => "a grant".to_owned(),
        false => missing.join(", "),
    };
    format!(
        "sallyport: {}@{} needs {what}",
        selector.account, selector.target
    )
}

fn of_group(from: Option<&str>) -> String {
    from.map(|group| format!(" from {}", escape_controls(group)))
        .unwrap_or_default()
}

/// Where a request stands, on one line.
pub(super) fn progress(request_id: &RequestId, progress: &RequestProgress) -> String {
    match progress {
        RequestProgress::Waiting {
            approvals_missing,
            approved_by,
            expires_at,
        } => {
            format!(
                "sallyport: request {request_id} is waiting for {}{} (ends {expires_at})",
                approvals(*approvals_missing),
                so_far(approved_by)
            )
        }
        RequestProgress::Granted { until, .. } => {
            format!("sallyport: request {request_id} is granted until {until}")
        }
        RequestProgress::Ended { reason, comment } => {
            let comment = match comment.as_str() {
                "" => String::new(),
                comment => format!(": {}", escape_controls(comment)),
            };
            format!(
                "sallyport: request {request_id}: {} ({}){comment}\nsallyport: what you can do: {}",
                reason.message(),
                reason.code(),
                reason.remedy()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::session::EndReason;

    use super::*;

    #[test]
    fn a_denial_names_code_remedy_and_reference() {
        let selector = "root@web-1".parse().unwrap();
        let text = denial(
            Some(&selector),
            &Refused {
                reasons: vec![Reason::NotPermitted],
                reference: "req_1\u{1b}[2J".to_owned(),
            },
        );
        assert!(text.contains("root@web-1"));
        assert!(text.contains("(not-permitted)"));
        assert!(text.contains(Reason::NotPermitted.remedy()));
        assert!(text.contains("req_1"));
        assert!(!text.contains('\u{1b}'));
    }

    /// K5: an operator's comment is text, never terminal control.
    #[test]
    fn a_comment_cannot_control_the_terminal() {
        let text = end(&End {
            reason: EndReason::EndedByOperator,
            comment: "\u{1b}]0;owned\u{7}".to_owned(),
        });
        assert!(text.contains("(ended-by-operator)"));
        assert!(!text.contains(['\u{1b}', '\u{7}']));
    }

    #[test]
    fn terminals_get_carriage_returns_once() {
        assert_eq!(for_terminal("a\nb\r\nc"), "a\r\nb\r\nc");
    }
}
