//! Explaining an answer: what decided, what is missing, and what would change it.
//!
//! `sallyport policy explain` prints it, for people who may read policies: it names policies and
//! groups, which the person who was refused is not told.
//!
//! What would change the answer is not guessed from the policies' text: one fact at a time is changed
//! and the whole decision is made again.
//!
//! INVARIANT: every [`Change`] was decided, with the outcome it states.

use std::{collections::BTreeSet, time::Duration};

use sallyport_core::{
    authz::{Action, Decision, GrantFacts, Question, Reason, RequestFacts, Unmet, decide},
    id::GrantId,
    principal::AuthenticationStrength,
    time::Timestamp,
};

use crate::bundle::Bundle;

/// Groups tried, at most.
const GROUPS_TRIED_MAX: usize = 64;
/// Hours tried: a week.
const HOURS_TRIED: u64 = 7 * 24;

/// Why an answer is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `permit`, `challenge` or `deny`.
    pub outcome: &'static str,
    /// Reasons of a denial, in words with their codes.
    pub reasons: Vec<String>,
    /// What is missing, one sentence each.
    pub missing: Vec<String>,
    /// Policies of the authorise set that decided: the permits, or the forbids that overrode them.
    pub determining: Vec<PolicyShown>,
    /// Policies of the require set that were satisfied.
    pub demanding: Vec<PolicyShown>,
    /// Single changes after which the answer would be better.
    pub changes: Vec<Change>,
}

/// A policy and where to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyShown {
    /// Id.
    pub id: String,
    /// Path within the bundle.
    pub file: String,
    /// Line of the policy in that file.
    pub line: usize,
}

/// One change of the facts and the answer it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The change, in words.
    pub change: String,
    /// `permit` or `challenge`.
    pub outcome: &'static str,
    /// What would still be missing then.
    pub missing: Vec<String>,
}

impl Bundle {
    /// Decides `question` and explains the answer.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Explanation {
        let decision = decide(self, question);
        let trace = decision.trace();
        let reasons = match &decision {
            Decision::Deny { reasons, .. } => reasons
                .iter()
                .map(|reason| format!("{} ({})", reason.message(), reason.code()))
                .collect(),
            Decision::Permit(_) | Decision::Challenge { .. } => Vec::new(),
        };
        Explanation {
            outcome: decision.outcome(),
            reasons,
            missing: missing(&decision),
            determining: self.shown(&trace.determining),
            demanding: self.shown(&trace.demanding),
            changes: self.changes(question, &decision),
        }
    }

    fn shown(&self, ids: &[String]) -> Vec<PolicyShown> {
        let place = |id: &String| {
            let id = cedar_policy::PolicyId::new(id);
            self.inner.places.get(&id).cloned().unwrap_or_default()
        };
        ids.iter()
            .map(|id| {
                let (file, line) = place(id);
                PolicyShown {
                    id: id.clone(),
                    file,
                    line,
                }
            })
            .collect()
    }

    fn changes(&self, question: &Question, decision: &Decision) -> Vec<Change> {
        let before = progress(decision);
        let mut changes: Vec<Change> = self
            .variants(question, decision)
            .into_iter()
            .filter_map(|(change, variant)| {
                let decision = decide(self, &variant);
                (progress(&decision) > before).then(|| Change {
                    change,
                    outcome: decision.outcome(),
                    missing: missing(&decision),
                })
            })
            .collect();
        if let Some(change) = self.better_time(question, before) {
            changes.push(change);
        }
        changes
    }

    /// The question with one fact changed each.
    fn variants(&self, question: &Question, decision: &Decision) -> Vec<(String, Question)> {
        let mut variants = Vec::new();
        let mut vary = |change: String, edit: &dyn Fn(&mut Question)| {
            let mut variant = question.clone();
            edit(&mut variant);
            variants.push((change, variant));
        };
        if !question.principal.is_enabled {
            vary(String::from("enable the person"), &|q| {
                q.principal.is_enabled = true;
            });
        }
        for lock in &question.locks {
            vary(
                format!("remove lock `{}` ({})", lock.id, lock.reason),
                &|q| {
                    q.locks.retain(|other| other.id != lock.id);
                },
            );
        }
        if question.history.open_reviews > 0 {
            vary(String::from("close the person's open reviews"), &|q| {
                q.history.open_reviews = 0;
            });
        }
        if question.action != Action::RequestCreate {
            vary(String::from("have a live grant for this account"), &|q| {
                q.grant = Some(live_grant(q));
            });
        }
        for strength in [
            AuthenticationStrength::MultiFactor,
            AuthenticationStrength::PhishingResistant,
        ] {
            if question.authentication.strength < strength {
                vary(format!("sign in with {}", strength.as_str()), &|q| {
                    q.authentication.strength = strength;
                    q.authentication.at = q.now;
                });
            }
        }
        vary(String::from("sign in again now"), &|q| {
            q.authentication.at = q.now;
        });
        for group in self.groups_named() {
            if !question.principal.groups.contains(&group) {
                vary(format!("add the person to group `{group}`"), &|q| {
                    q.principal.groups.push(group.clone());
                });
            }
        }
        if let Some(request) = &question.request {
            for (change, request) in request_variants(request, decision) {
                vary(change, &|q| q.request = Some(request.clone()));
            }
        }
        variants
    }

    /// Groups that policies of the authorise set name.
    fn groups_named(&self) -> BTreeSet<String> {
        let policies = self.inner.authorise.policies().iter();
        policies
            .flat_map(cedar_policy::Policy::entity_literals)
            .filter(|uid| uid.type_name().basename() == "Group")
            .map(|uid| uid.id().unescaped().to_owned())
            .take(GROUPS_TRIED_MAX)
            .collect()
    }

    /// The first full hour within a week at which the answer would be better, all else as it is now.
    fn better_time(&self, question: &Question, before: Progress) -> Option<Change> {
        let hour_ms = 3_600_000_i64;
        let hour = Timestamp::from_unix_ms(question.now.unix_ms() / hour_ms * hour_ms);
        (1..=HOURS_TRIED).find_map(|hours| {
            let at = hour.plus(Duration::from_secs(hours.saturating_mul(3_600)));
            let waited = at.since(question.now);
            let mut variant = question.clone();
            variant.now = at;
            // Only the time of asking changes: the sign-in is as old as now, a grant as live as now.
            variant.authentication.at = question.authentication.at.plus(waited);
            if let Some(grant) = &mut variant.grant {
                grant.from = grant.from.plus(waited);
                grant.until = grant.until.plus(waited);
            }
            let decision = decide(self, &variant);
            (progress(&decision) > before).then(|| Change {
                change: format!("ask at {at}"),
                outcome: decision.outcome(),
                missing: missing(&decision),
            })
        })
    }
}

/// How far an answer is on the way to yes; more is better.
type Progress = (u8, usize);

fn progress(decision: &Decision) -> Progress {
    match decision {
        Decision::Deny { .. } => (0, 0),
        Decision::Challenge { unmet, .. } => (1, usize::MAX.saturating_sub(unmet.len())),
        Decision::Permit(_) => (2, 0),
    }
}

fn live_grant(question: &Question) -> GrantFacts {
    GrantFacts {
        id: GrantId::new(question.now, [0; 10]),
        person_id: question.principal.id.clone(),
        account_id: question.account.id.clone(),
        from: question.now,
        until: question.now.plus(Duration::from_secs(3_600)),
        is_open: true,
        is_break_glass: false,
    }
}

/// The request, changed in one thing each: what the decision misses, a shorter time, the other kind.
fn request_variants(request: &RequestFacts, decision: &Decision) -> Vec<(String, RequestFacts)> {
    let mut variants = Vec::new();
    if let Decision::Challenge { unmet, .. } = decision {
        for unmet in unmet {
            match unmet {
                Unmet::Justification { min_chars } => {
                    let chars = usize::try_from(*min_chars).unwrap_or(usize::MAX).min(1_000);
                    let reason = "x".repeat(chars);
                    let change = format!("give a reason of at least {min_chars} characters");
                    variants.push((
                        change,
                        RequestFacts {
                            reason,
                            ..request.clone()
                        },
                    ));
                }
                Unmet::Ticket { prefix } => {
                    let ticket = Some(format!("{prefix}1"));
                    let change = format!("name a ticket such as {prefix}1234");
                    variants.push((
                        change,
                        RequestFacts {
                            ticket,
                            ..request.clone()
                        },
                    ));
                }
                Unmet::Grant
                | Unmet::Mfa { .. }
                | Unmet::Approval { .. }
                | Unmet::CommandApproval(_) => {}
            }
        }
    }
    if let Decision::Deny { reasons, .. } = decision
        && reasons.contains(&Reason::DurationTooLong)
    {
        for hours in [24_u64, 8, 4, 2, 1] {
            let duration_s = hours.saturating_mul(3_600);
            let change = format!("ask for {hours} h");
            variants.push((
                change,
                RequestFacts {
                    duration_s,
                    ..request.clone()
                },
            ));
        }
    }
    let is_break_glass = !request.is_break_glass;
    let change = if is_break_glass {
        "ask as break-glass"
    } else {
        "ask as an ordinary request"
    };
    variants.push((
        change.to_owned(),
        RequestFacts {
            is_break_glass,
            ..request.clone()
        },
    ));
    variants
}

fn missing(decision: &Decision) -> Vec<String> {
    match decision {
        Decision::Challenge { unmet, .. } => unmet.iter().map(sentence).collect(),
        Decision::Permit(_) | Decision::Deny { .. } => Vec::new(),
    }
}

fn sentence(unmet: &Unmet) -> String {
    match unmet {
        Unmet::Grant => String::from("a live grant: access must be asked for"),
        Unmet::Mfa {
            strength,
            max_age_s: None,
        } => format!("a sign-in that is {} or stronger", strength.as_str()),
        Unmet::Mfa {
            strength,
            max_age_s: Some(max_age_s),
        } => format!(
            "a sign-in that is {} or stronger and at most {max_age_s} s old",
            strength.as_str()
        ),
        Unmet::Justification { min_chars } => {
            format!("a reason of at least {min_chars} characters")
        }
        Unmet::Ticket { prefix } => format!("a ticket such as {prefix}1234"),
        Unmet::Approval { count, from: None } => {
            format!("approval by {count} other people with the approver role")
        }
        Unmet::Approval {
            count,
            from: Some(group),
        } => format!("approval by {count} other people of group `{group}`"),
        Unmet::CommandApproval(terms) => {
            let votes: u64 = terms
                .quorums
                .iter()
                .map(|quorum| quorum.count)
                .fold(0, u64::saturating_add);
            format!(
                "approval of this command by {votes} other people within {} s",
                terms.within_s
            )
        }
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
