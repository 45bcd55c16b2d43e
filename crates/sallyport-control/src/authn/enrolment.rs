//! Enrolment: a one-time code becomes an account with a password and a one-time-code secret.
//!
//! The code of the first owner is made at first start, when there are no people; owners make the others
//! through [`crate::directory`]. Enrolling again replaces everything that proved the person before, so
//! that an account that fell into wrong hands is clean afterwards.
//!
//! INVARIANT: a code is 140 random bits, stored as SHA-256, and gone in the transaction that uses it.

use std::net::IpAddr;

use sallyport_api::{rest::sign_in::Enrol, sensitive::Sensitive};
use sallyport_core::{
    authz::Reason,
    event::{Actor, Event, EventName, Events},
    id::PersonId,
    principal::{AdminRole, Person, PersonName},
    secret::SecretString,
    time::Timestamp,
};
use zeroize::Zeroizing;

use super::{
    bearer::hash,
    factor::{Attempt, Failure},
    password::{Password, UnfitPassword},
    store::{self, code::CodeOwner, factor::Factors},
    totp::{OneTimeKey, UnusableSecret},
};
use crate::{
    directory,
    kernel::{
        control::Control,
        database::StoreError,
        ids,
        problem::{Fault, Faulty},
        transaction::Transaction,
    },
};

/// Why an enrolment did not happen.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The password is unfit.
    #[error("set a password")]
    Password(#[source] UnfitPassword),
    /// The first owner's name is missing or malformed.
    #[error("read the name of the first owner: {problem}")]
    Name {
        /// What is wrong.
        problem: String,
    },
    /// The code is unknown, used or has run out: one answer for all.
    #[error("use an enrolment code: it is unknown, used, or has run out")]
    Code,
    /// Too many people at the door.
    #[error("find a place at the door: too many wait")]
    Busy,
    /// Too many failures from this address.
    #[error("enrol: the address is locked")]
    Locked,
    /// The password could not be hashed.
    #[error("hash a password")]
    Hash,
    /// The one-time-code secret could not be made.
    #[error("make a one-time-code secret")]
    Totp(#[from] UnusableSecret),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl Faulty for EnrolError {
    fn fault(&self) -> Fault {
        match self {
            Self::Password(unfit) => Fault::field("password", unfit),
            Self::Name { problem } => Fault::field("name", problem),
            Self::Code => Fault::field("code", "the code is unknown, used, or has run out"),
            Self::Busy => Fault::Busy,
            Self::Locked => Fault::refused(Reason::TooManyAttempts),
            Self::Hash | Self::Totp(_) => Fault::Bug,
            Self::Store(error) => error.fault(),
        }
    }
}

/// Letters that are not mistaken for one another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CODE_CHARS: usize = 28;
const GROUP_CHARS: usize = 4;

/// A fresh code as people read it, and the hash it is stored under.
fn generate() -> (SecretString, Vec<u8>) {
    let mut random = Zeroizing::new([0_u8; CODE_CHARS]);
    ids::fill(random.as_mut());
    let mut code = Zeroizing::new(String::with_capacity(CODE_CHARS * 2));
    for (position, byte) in random.iter().enumerate() {
        if position != 0 && position % GROUP_CHARS == 0 {
            code.push('-');
        }
        let letter = ALPHABET.get(usize::from(byte & 0x1f)).copied();
        code.push(char::from(letter.unwrap_or(b'0')));
    }
    let hash = hash(&canonical(&code));
    (SecretString::new(code.to_string()), hash)
}

/// The code as it was meant: without dashes and space, in lower case, look-alikes resolved.
fn canonical(typed: &str) -> Zeroizing<String> {
    let letters = typed
        .chars()
        .take(128)
        .filter(|c| !c.is_ascii_whitespace() && *c != '-')
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        });
    Zeroizing::new(letters.collect())
}

/// Issues a code within the caller's transaction; returns it with the event to commit. Earlier codes
/// for the same person stop working.
pub(crate) async fn issue(
    control: &Control,
    tx: &mut Transaction,
    person: &Person,
) -> Result<(Sensitive, Event), StoreError> {
    let owner = CodeOwner::Person(person.id.clone());
    let (code, event) = issue_to(control, tx, &owner, &person.admin_roles).await?;
    Ok((Sensitive::new(code.expose_secret().clone()), event))
}

async fn issue_to(
    control: &Control,
    tx: &mut Transaction,
    owner: &CodeOwner,
    roles: &[AdminRole],
) -> Result<(SecretString, Event), StoreError> {
    let (code, code_hash) = generate();
    let expires_at = control.now().plus(control.config().sign_in.enrolment_ttl);
    store::code::put_enrolment_code(tx, code_hash, owner, expires_at).await?;
    let subject = match owner {
        CodeOwner::Person(id) => id.to_string(),
        CodeOwner::FirstOwner => "-".to_owned(),
    };
    let event = Event::new(EventName::EnrolmentIssued, subject)
        .with("expires_at", expires_at)
        .with("roles", roles);
    Ok((code, event))
}

/// At start: the code for the first owner while there are no people, else nothing. Earlier codes for the
/// first owner stop working, so what the last start printed is the one that counts.
///
/// # Errors
/// [`StoreError`].
pub async fn first_owner_code(control: &Control) -> Result<Option<SecretString>, StoreError> {
    let mut tx = control.db().begin(Actor::System).await?;
    if directory::has_people(&mut tx).await? {
        return Ok(None);
    }
    let (code, event) = issue_to(
        control,
        &mut tx,
        &CodeOwner::FirstOwner,
        &[AdminRole::Owner],
    )
    .await?;
    tx.commit(Events::one(event)).await?;
    Ok(Some(code))
}

/// Somebody enrolled.
#[derive(Debug)]
pub struct Enrolled {
    /// Who.
    pub person: Person,
    /// `otpauth://` URI of the one-time-code secret.
    pub totp_uri: Sensitive,
}

/// Uses a code.
///
/// # Errors
/// [`EnrolError`]; the code still works then, unless it was the code that failed.
pub async fn enrol(control: &Control, ip: IpAddr, enrol: &Enrol) -> Result<Enrolled, EnrolError> {
    let password = Password::read(enrol.password.expose()).map_err(EnrolError::Password)?;
    let code_hash = hash(&canonical(enrol.code.expose()));
    let attempt = Attempt {
        door: "enrolment",
        actor: Actor::Anonymous,
        ip,
        claimed: "-",
        beside: None,
    };
    if attempt.is_barred(control) {
        return Err(EnrolError::Locked);
    }
    let Ok(place) = control.doors().passwords.place(attempt.source(control)) else {
        return Err(EnrolError::Busy);
    };
    // Hashed before the code is looked at: a wrong code costs what a right one does, and the write
    // connection is not held while hashing.
    let password_hash = control.doors().passwords.hash(&place, password).await;
    let password_hash = password_hash.ok_or(EnrolError::Hash)?;

    let now = control.now();
    let owner = {
        let mut reader = control.db().read().await?;
        store::code::enrolment_code(&mut reader, &code_hash, now).await?
    };
    let enrolled = match owner {
        Some(CodeOwner::Person(id)) => {
            enrol_person(control, &code_hash, &id, password_hash, now).await?
        }
        Some(CodeOwner::FirstOwner) => {
            let name = first_owner_name(enrol.name.as_deref())?;
            enrol_first_owner(control, &code_hash, name, password_hash, now).await?
        }
        None => None,
    };
    match enrolled {
        Some(enrolled) => Ok(enrolled),
        None => {
            record_refusal(control, &attempt).await?;
            Err(EnrolError::Code)
        }
    }
}

fn first_owner_name(name: Option<&str>) -> Result<PersonName, EnrolError> {
    let name = name.ok_or_else(|| EnrolError::Name {
        problem: "choose the name of the first owner".to_owned(),
    })?;
    name.parse()
        .map_err(
            |error: sallyport_core::principal::ParsePersonNameError| EnrolError::Name {
                problem: error.to_string(),
            },
        )
}

async fn enrol_first_owner(
    control: &Control,
    code_hash: &[u8],
    name: PersonName,
    password_hash: String,
    now: Timestamp,
) -> Result<Option<Enrolled>, EnrolError> {
    let person = Person {
        id: PersonId::new(now, ids::entropy()),
        display_name: name.to_string(),
        name,
        groups: Vec::new(),
        admin_roles: vec![AdminRole::Owner],
        is_enabled: true,
    };
    let (factors, totp_uri) = fresh_factors(control, &person, password_hash)?;
    let mut tx = control.db().begin(Actor::Person(person.id.clone())).await?;
    let is_consumed = store::code::consume_enrolment_code(&mut tx, code_hash, now).await?;
    if !is_consumed || directory::has_people(&mut tx).await? {
        return Ok(None);
    }
    let created = directory::create_person(&mut tx, &person, now).await?;
    store::factor::put_factors(&mut tx, &person.id, &factors).await?;
    let events = Events::one(Event::new(EventName::EnrolmentUsed, &person.id))
        .and(created)
        .and(Event::new(EventName::PasswordSet, &person.id))
        .and(Event::new(EventName::TotpSet, &person.id));
    tx.commit(events).await?;
    Ok(Some(Enrolled { person, totp_uri }))
}

async fn enrol_person(
    control: &Control,
    code_hash: &[u8],
    id: &PersonId,
    password_hash: String,
    now: Timestamp,
) -> Result<Option<Enrolled>, EnrolError> {
    let mut tx = control.db().begin(Actor::Person(id.clone())).await?;
    let Some(person) = directory::person_by_id(&mut tx, id).await? else {
        return Ok(None);
    };
    let (factors, totp_uri) = fresh_factors(control, &person, password_hash)?;
    let is_consumed = store::code::consume_enrolment_code(&mut tx, code_hash, now).await?;
    // Setting the factors fails for a disabled person.
    if !is_consumed || !store::factor::put_factors(&mut tx, &person.id, &factors).await? {
        return Ok(None);
    }
    let removed = remove_proofs(&mut tx, &person.id, now).await?;
    let events = Events::one(Event::new(EventName::EnrolmentUsed, &person.id))
        .and_all(removed)
        .and(Event::new(EventName::PasswordSet, &person.id))
        .and(Event::new(EventName::TotpSet, &person.id));
    tx.commit(events).await?;
    control.doors().proofs.forget_person(&person.id);
    control.doors().passes.forget_person(&person.id);
    Ok(Some(Enrolled { person, totp_uri }))
}

fn fresh_factors(
    control: &Control,
    person: &Person,
    password_hash: String,
) -> Result<(Factors, Sensitive), UnusableSecret> {
    let (secret, sealed) = control.doors().seal.generate(&person.id)?;
    let uri = OneTimeKey::new(&secret, &person.name)?.uri()?;
    let factors = Factors {
        password_hash: Some(password_hash),
        totp_secret: Some(sealed),
        last_step: 0,
    };
    Ok((factors, uri))
}

/// Ends every sign-in, revokes every API token and removes every SSH key of a person.
async fn remove_proofs(
    tx: &mut Transaction,
    id: &PersonId,
    now: Timestamp,
) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    store::token::end_sign_ins(tx, id).await?;
    for key in store::key::ssh_keys(tx, id, "", u32::MAX).await? {
        store::key::delete_ssh_key(tx, &key.id).await?;
        events.push(super::ssh_key::removed(&key));
    }
    for token in store::token::api_tokens(tx, id, "", u32::MAX).await? {
        if token.expires_at > now && store::token::revoke_api_token(tx, id, &token.id).await? {
            events.push(Event::new(EventName::ApiTokenRevoked, &token.id));
        }
    }
    Ok(events)
}

async fn record_refusal(control: &Control, attempt: &Attempt<'_>) -> Result<(), StoreError> {
    let failure = Failure {
        person: None,
        claimed: "-".to_owned(),
        methods: vec!["enrolment_code".to_owned()],
        reason: "unknown-code",
        locks_until: None,
    };
    failure.record_guess(control, attempt).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_code_as_people_type_it_then_it_is_the_same_code() {
        let (code, code_hash) = generate();
        let code = code.expose_secret();
        assert_eq!(
            code.len(),
            CODE_CHARS + CODE_CHARS / GROUP_CHARS - 1,
            "{code}"
        );
        for spelling in [
            code.to_uppercase(),
            code.replace('-', ""),
            code.replace('-', " "),
            code.replace('1', "l").replace('0', "O"),
            format!("  {code}\n"),
        ] {
            assert_eq!(hash(&canonical(&spelling)), code_hash, "{spelling}");
        }
        assert_ne!(generate().1, code_hash);
    }
}
