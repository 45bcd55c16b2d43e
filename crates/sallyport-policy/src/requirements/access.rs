//! Annotations about getting in: sign-in, votes, a reason, a ticket, for how long.
//!
//! Called by the registry. INVARIANT: counts and lengths are those that somebody can meet.
//!
//! Not here: whether a question meets them (`sallyport-core`).

use sallyport_core::{
    access::REASON_CHARS_MAX,
    policy::{Constraint, Requirement},
    principal::AuthenticationStrength,
};

use super::{
    Parsed,
    measure::{duration_s, number},
};
use crate::schema::STRENGTHS;

/// No policy asks for more votes than this.
pub(super) const APPROVALS_MAX: u64 = 32;

pub(super) fn mfa(argument: &str) -> Option<Parsed> {
    let (strength, max_age_s) = match argument.split_once(',') {
        None => (argument, None),
        Some((strength, rest)) => {
            let age = rest.trim_start().strip_prefix("max_age=")?;
            (strength, Some(duration_s(age)?))
        }
    };
    Some(Parsed::Requirement(Requirement::Mfa {
        strength: strength_of(strength)?,
        max_age_s,
    }))
}

fn strength_of(word: &str) -> Option<AuthenticationStrength> {
    STRENGTHS
        .into_iter()
        .find(|strength| strength.as_str() == word)
}

pub(super) fn approval(argument: &str) -> Option<Parsed> {
    let (count, from) = votes(argument)?;
    Some(Parsed::Requirement(Requirement::Approval { count, from }))
}

pub(super) fn votes(argument: &str) -> Option<(u64, Option<String>)> {
    let (count, from) = match argument.split_once(" from ") {
        None => (argument, None),
        Some((count, group)) if is_group_name(group) => (count, Some(group.to_owned())),
        Some(_) => return None,
    };
    let count = number(count).filter(|count| (1..=APPROVALS_MAX).contains(count))?;
    Some((count, from))
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

pub(super) fn justification(argument: &str) -> Option<Parsed> {
    let longest = u64::try_from(REASON_CHARS_MAX).ok()?;
    let min_chars = number(argument.strip_prefix("min=")?)
        .filter(|min_chars| (1..=longest).contains(min_chars))?;
    Some(Parsed::Requirement(Requirement::Justification {
        min_chars,
    }))
}

pub(super) fn ticket(argument: &str) -> Option<Parsed> {
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

pub(super) fn max_duration(argument: &str) -> Option<Parsed> {
    let seconds = duration_s(argument)?;
    Some(Parsed::Constraint(Constraint::MaxDuration { seconds }))
}
