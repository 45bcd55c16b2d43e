//! Checking a password and a one-time code, the same way at every door.
//!
//! The doors call [`check`], then consume what it returns in the transaction that lets the person in.
//!
//! INVARIANT: [`Right`] exists only after a check; its code counts once, because
//! [`Right::consume`] moves the person's last step forward in one conditional statement.

use std::net::IpAddr;

use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    id::PersonId,
    principal::{Person, PersonName},
    time::Timestamp,
};

use super::{
    password::{Password, Place},
    source::{Offence, Source},
    store::{self, factor::Factors},
    throttle::{self, Charge, NameKey},
    totp::OneTimeKey,
};
use crate::kernel::{control::Control, database::StoreError, transaction::Transaction};

/// One attempt to prove somebody.
#[derive(Clone, Debug)]
pub(super) struct Attempt<'a> {
    /// `sign-in` or `gateway`.
    pub(super) door: &'static str,
    /// Who reports it.
    pub(super) actor: Actor,
    /// The client's address.
    pub(super) ip: IpAddr,
    /// The name as claimed.
    pub(super) claimed: &'a str,
    /// Who is proven on this connection already, if what is typed adds to that.
    pub(super) beside: Option<&'a PersonName>,
}

impl Attempt<'_> {
    /// Whom it is charged to.
    fn key(&self) -> NameKey {
        self.beside
            .map_or_else(|| NameKey::of(self.claimed), NameKey::beside_proof)
    }

    /// The source that answers for it; `None` where an address stands for many people.
    pub(super) fn source(&self, control: &Control) -> Option<Source> {
        let exempt = &control.config().sign_in.penalties_exempt;
        let is_exempt = exempt.iter().any(|network| network.contains(self.ip));
        (!is_exempt).then(|| Source::of(self.ip))
    }

    /// Whether its source failed so much that it is refused unchecked. Who is proven already is not kept
    /// out by what others at the same address do.
    pub(super) fn is_barred(&self, control: &Control) -> bool {
        let penalties = &control.doors().penalties;
        self.beside.is_none()
            && self
                .source(control)
                .is_some_and(|source| penalties.is_barred(source, control.now()))
    }

    pub(super) fn penalise(&self, control: &Control, offence: Offence) {
        if let Some(source) = self.source(control) {
            control
                .doors()
                .penalties
                .add(source, offence, control.now());
        }
    }
}

/// What was typed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Typed<'a> {
    pub(super) password: Option<&'a str>,
    pub(super) code: Option<&'a str>,
}

impl Typed<'_> {
    fn methods(&self) -> Vec<String> {
        let mut methods = Vec::new();
        if self.password.is_some() {
            methods.push("password".to_owned());
        }
        if self.code.is_some() {
            methods.push("totp".to_owned());
        }
        methods
    }
}

/// Why nobody was proven; the client learns no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Name, password or code is wrong, or there is nobody of this name.
    Wrong,
    /// Too many attempts on this name, or from this address.
    Locked,
    /// Too many people at the door.
    Busy,
}

/// What was typed is right, and is not used up yet.
#[derive(Debug)]
pub(super) struct Right {
    pub(super) person: Person,
    pub(super) methods: Vec<String>,
    factors: Factors,
    step: Option<u64>,
    key: NameKey,
    locks_until: Option<Timestamp>,
}

/// An attempt that may be checked.
struct Admitted<'a> {
    place: Place<'a>,
    key: NameKey,
    locks_until: Option<Timestamp>,
}

/// Finds an attempt a place and charges it, unless its source or its name has failed too much.
async fn admit<'a>(
    control: &'a Control,
    attempt: &Attempt<'_>,
) -> Result<Result<Admitted<'a>, Refusal>, StoreError> {
    if attempt.is_barred(control) {
        metrics::counter!("sallyport_authentication_refused_source_total").increment(1);
        return Ok(Err(Refusal::Locked));
    }
    let source = attempt.source(control);
    let Ok(place) = control.doors().passwords.place(source) else {
        return Ok(Err(Refusal::Busy));
    };
    let key = attempt.key();
    match throttle::charge(control, &key).await? {
        Charge::Allowed { locks_until } => Ok(Ok(Admitted {
            place,
            key,
            locks_until,
        })),
        Charge::Locked => {
            // Not checked, so not recorded one by one: the lock is on record.
            metrics::counter!("sallyport_authentication_refused_locked_total").increment(1);
            attempt.penalise(control, Offence::Unchecked);
            Ok(Err(Refusal::Locked))
        }
    }
}

/// Checks what was typed. Failures are counted and recorded here.
///
/// # Errors
/// [`StoreError`]; then nobody is proven.
pub(super) async fn check(
    control: &Control,
    attempt: &Attempt<'_>,
    typed: Typed<'_>,
) -> Result<Result<Right, Refusal>, StoreError> {
    let Admitted {
        place,
        key,
        locks_until,
    } = match admit(control, attempt).await? {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let known = match attempt.claimed.parse::<PersonName>() {
        Ok(name) => {
            store::factor::person_with_factors(&mut control.db().read().await?, &name).await?
        }
        Err(_) => None,
    };
    let (person, factors) = known.map_or((None, Factors::default()), |(person, factors)| {
        (Some(person), factors)
    });

    // Every check is made whatever the others say, so that time tells nothing.
    let is_password_right = match typed.password {
        Some(password) => {
            let password = Password::read(password).ok();
            let stored = factors.password_hash.as_deref();
            control
                .doors()
                .passwords
                .is_right(&place, password, stored)
                .await
        }
        None => true,
    };
    let step = match typed.code {
        Some(code) => step_of(control, person.as_ref(), &factors, code),
        None => None,
    };

    let why = match &person {
        None => Some("unknown-name"),
        Some(person) if !person.is_enabled => Some("disabled"),
        Some(_) if factors.password_hash.is_none() => Some("not-enrolled"),
        Some(_) if !is_password_right => Some("wrong-password"),
        Some(_) if typed.code.is_some() && step.is_none() => Some("wrong-code"),
        Some(_) if step.is_some_and(|step| step <= factors.last_step) => Some("used-code"),
        Some(_) if typed.password.is_none() && typed.code.is_none() => Some("nothing-typed"),
        Some(_) => None,
    };
    match (why, person) {
        (None, Some(person)) => Ok(Ok(Right {
            person,
            methods: typed.methods(),
            factors,
            step,
            key,
            locks_until,
        })),
        (why, person) => {
            let failure = Failure {
                person: person.map(|person| (person.id, person.name)),
                claimed: NameKey::of(attempt.claimed).masked(),
                methods: typed.methods(),
                reason: why.unwrap_or("unknown-name"),
                locks_until,
            };
            failure.record_guess(control, attempt).await?;
            Ok(Err(Refusal::Wrong))
        }
    }
}

fn step_of(
    control: &Control,
    person: Option<&Person>,
    factors: &Factors,
    code: &str,
) -> Option<u64> {
    let key = match (person, &factors.totp_secret) {
        (Some(person), Some(stored)) => control
            .doors()
            .seal
            .open(&person.id, stored)
            .and_then(|secret| OneTimeKey::new(&secret, &person.name))
            .inspect_err(|error| {
                tracing::error!(person_id = %person.id, %error, "cannot check a one-time code");
            }),
        _ => OneTimeKey::of_nobody(),
    };
    key.ok()?.step_of(code, control.now())
}

impl Right {
    /// Uses up what was typed: moves the last step forward and takes the charge back. False when the
    /// code was used, or the person changed, in the meantime; the caller then drops the transaction and
    /// calls [`Self::record_used`].
    pub(super) async fn consume(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        let is_consumed =
            store::factor::consume_step(tx, &self.person.id, &self.factors, self.step).await?;
        if is_consumed {
            store::factor::clear_failure_count(tx, &self.key).await?;
        }
        Ok(is_consumed)
    }

    /// Records that the code was used by somebody else first.
    pub(super) async fn record_used(
        self,
        control: &Control,
        attempt: &Attempt<'_>,
    ) -> Result<(), StoreError> {
        let failure = Failure {
            claimed: NameKey::of(attempt.claimed).masked(),
            person: Some((self.person.id, self.person.name)),
            methods: self.methods,
            reason: "used-code",
            locks_until: self.locks_until,
        };
        failure.record_guess(control, attempt).await
    }
}

/// A failed attempt, for the record.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whom it was about, if there is such a person.
    pub(super) person: Option<(PersonId, PersonName)>,
    /// What stands for the name if there is not.
    pub(super) claimed: String,
    pub(super) methods: Vec<String>,
    /// For operators.
    pub(super) reason: &'static str,
    /// Set when this failure locks the name.
    pub(super) locks_until: Option<Timestamp>,
}

impl Failure {
    /// Records what may have been a guess: its source answers for it, and beside a proof the common
    /// counter of the name counts it too.
    pub(super) async fn record_guess(
        self,
        control: &Control,
        attempt: &Attempt<'_>,
    ) -> Result<(), StoreError> {
        attempt.penalise(control, Offence::WrongGuess);
        if let Some(name) = attempt.beside {
            throttle::charge(control, &NameKey::of_name(name)).await?;
        }
        self.record(control, attempt).await
    }

    pub(super) async fn record(
        self,
        control: &Control,
        attempt: &Attempt<'_>,
    ) -> Result<(), StoreError> {
        metrics::counter!("sallyport_authentications_total", "outcome" => "failed", "door" => attempt.door)
            .increment(1);
        let subject = self
            .person
            .as_ref()
            .map_or_else(|| "-".to_owned(), |(id, _)| id.to_string());
        let claimed = self
            .person
            .as_ref()
            .map_or(self.claimed, |(_, name)| name.to_string());
        let mut events = Events::one(
            Event::new(EventName::AuthenticationFailed, &subject)
                .with("claimed", &claimed)
                .with("method", self.methods.join("+"))
                .with("reason", self.reason)
                .with("ip", attempt.ip)
                .with("door", attempt.door),
        );
        if let Some(until) = self.locks_until {
            events = events.and(
                Event::new(EventName::AuthenticationLocked, &subject)
                    .with("claimed", &claimed)
                    .with("until", until),
            );
        }
        let tx = control.db().begin(attempt.actor.clone()).await?;
        tx.commit(events).await.map(drop)
    }
}

/// The record of a success.
pub(super) fn succeeded(
    person_id: &PersonId,
    authentication: &sallyport_core::principal::Authentication,
    attempt: &Attempt<'_>,
) -> Event {
    metrics::counter!("sallyport_authentications_total", "outcome" => "succeeded", "door" => attempt.door)
        .increment(1);
    Event::new(EventName::AuthenticationSucceeded, person_id)
        .with("methods", &authentication.methods)
        .with("strength", authentication.strength.as_str())
        .with("ip", attempt.ip)
        .with("door", attempt.door)
}
