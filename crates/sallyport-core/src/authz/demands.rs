//! What policies demand of a question: demands add up, and what is missing of them is named.
//!
//! Called by [`decide`](super::decide), once nothing forbids.
//!
//! INVARIANT: one more demand makes no answer more generous, and their order means nothing.

use super::{Action, Unmet, decide::Asked};
use crate::{
    access::{HoldTerms, Quorum},
    policy::Requirement,
    session::OperationKind,
};

/// Adds requirements up: of each kind the strictest, approvals per group the largest count.
pub(super) fn strictest<'a>(
    requirements: impl Iterator<Item = &'a Requirement>,
) -> Vec<Requirement> {
    let mut sum: Vec<Requirement> = Vec::new();
    for new in requirements {
        let mut is_merged = false;
        for old in &mut sum {
            is_merged |= merge(old, new);
        }
        if !is_merged {
            sum.push(new.clone());
        }
    }
    sum.sort();
    sum
}

/// Makes `old` as strict as both when they speak of the same thing; says whether they do.
fn merge(old: &mut Requirement, new: &Requirement) -> bool {
    match (old, new) {
        (
            Requirement::Mfa {
                strength,
                max_age_s,
            },
            Requirement::Mfa {
                strength: new_strength,
                max_age_s: new_max_age_s,
            },
        ) => {
            *strength = (*strength).max(*new_strength);
            *max_age_s = match (*max_age_s, *new_max_age_s) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            true
        }
        (
            Requirement::Justification { min_chars },
            Requirement::Justification { min_chars: new },
        ) => {
            *min_chars = (*min_chars).max(*new);
            true
        }
        (
            Requirement::Approval { count, from },
            Requirement::Approval {
                count: new,
                from: new_from,
            },
        ) if from == new_from => {
            *count = (*count).max(*new);
            true
        }
        (Requirement::Ticket { prefix }, Requirement::Ticket { prefix: new }) => prefix == new,
        (Requirement::CommandApproval(rule), Requirement::CommandApproval(new)) => rule == new,
        _ => false,
    }
}

/// What a question does not meet of what is demanded.
pub(super) fn unmet(asked: Asked<'_>, requirements: &[Requirement]) -> Vec<Unmet> {
    let question = asked.question;
    let mut unmet = Vec::new();
    // A new request stands on its own: what an older grant was given for excuses nothing.
    let has_grant = question.grant.is_some() && asked.action != Action::RequestCreate;
    if asked.action == Action::SessionOpen && !has_grant {
        unmet.push(Unmet::Grant);
    }
    for requirement in requirements {
        match requirement {
            Requirement::Mfa {
                strength,
                max_age_s,
            } => {
                let age_s = asked.now.since(question.authentication.at).as_secs();
                let is_fresh = max_age_s.is_none_or(|max| age_s <= max);
                // An operation runs within a session whose sign-in was checked when it opened.
                let is_checked_here = !asked.action.is_within_session();
                if is_checked_here && (question.authentication.strength < *strength || !is_fresh) {
                    unmet.push(Unmet::Mfa {
                        strength: *strength,
                        max_age_s: *max_age_s,
                    });
                }
            }
            // Counted together below.
            Requirement::CommandApproval(_) => {}
            // A grant exists only because its request met these.
            _ if has_grant => {}
            Requirement::Justification { min_chars } => {
                let given = question
                    .request
                    .as_ref()
                    .map_or(0, |r| r.reason.trim().chars().count());
                if u64::try_from(given).unwrap_or(u64::MAX) < *min_chars {
                    unmet.push(Unmet::Justification {
                        min_chars: *min_chars,
                    });
                }
            }
            Requirement::Ticket { prefix } => {
                let ticket = question.request.as_ref().and_then(|r| r.ticket.as_deref());
                if !ticket.is_some_and(|ticket| is_ticket(ticket, prefix)) {
                    unmet.push(Unmet::Ticket {
                        prefix: prefix.clone(),
                    });
                }
            }
            // Votes come after the request exists; before a session they are simply missing.
            Requirement::Approval { count, from } if asked.action == Action::SessionOpen => {
                unmet.push(Unmet::Approval {
                    count: *count,
                    from: from.clone(),
                });
            }
            Requirement::Approval { .. } => {}
        }
    }
    unmet.extend(hold_terms(asked, requirements).map(Unmet::CommandApproval));
    unmet
}

/// What the command that is about to run has to wait for: of each group the largest count, of all times
/// the shortest.
fn hold_terms(asked: Asked<'_>, requirements: &[Requirement]) -> Option<HoldTerms> {
    let command = match (asked.action, asked.operation) {
        (Action::OperationRun, Some(operation)) => match operation.kind {
            OperationKind::Exec | OperationKind::TypedCommand | OperationKind::Statement => {
                &operation.detail
            }
            _ => return None,
        },
        _ => return None,
    };
    let mut quorums: Vec<Quorum> = Vec::new();
    let mut within_s = None;
    for requirement in requirements {
        let Requirement::CommandApproval(rule) = requirement else {
            continue;
        };
        if !rule.holds(command) {
            continue;
        }
        within_s = Some(within_s.map_or(rule.within_s, |s: u64| s.min(rule.within_s)));
        match quorums.iter_mut().find(|quorum| quorum.from == rule.from) {
            Some(quorum) => quorum.count = quorum.count.max(rule.count),
            None => quorums.push(rule.quorum()),
        }
    }
    within_s.map(|within_s| HoldTerms { quorums, within_s })
}

/// Whether `ticket` is `prefix` and then one to twelve digits.
fn is_ticket(ticket: &str, prefix: &str) -> bool {
    ticket.strip_prefix(prefix).is_some_and(|number| {
        (1..=12).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
    })
}
