//! Signing in with a password and a one-time code, and out again.
//!
//! INVARIANT: the token, the used code and their record commit together; a sign-in is always
//! multi-factor.

use std::net::IpAddr;

use sallyport_api::{rest::sign_in::SignIn, sensitive::Sensitive};
use sallyport_core::{
    authz::Reason,
    event::{Actor, Event, EventName, Events},
    principal::{Authentication, AuthenticationStrength, Person},
    time::Timestamp,
};
use sallyport_vault::CertificateError;

use super::{
    authority,
    bearer::TokenKind,
    factor::{self, Attempt, Refusal, Typed},
    ssh_key::{PublicSshKey, UnfitKey},
    store::{self, key::SshCertificate},
};
use crate::kernel::{
    caller::{Bearer, Caller},
    control::Control,
    database::StoreError,
    problem::{Fault, Faulty},
    transaction::Transaction,
};

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Name, password or code is wrong, or there is nobody of this name: one answer for all.
    #[error("sign in: name, password or code is wrong")]
    Wrong,
    /// Too many failures on this name, or from this address.
    #[error("sign in: the name or the address is locked")]
    Locked,
    /// Too many people at the door.
    #[error("find a place at the door: too many wait")]
    Busy,
    /// The SSH key cannot be certified.
    #[error("read the SSH key to certify")]
    Key(#[source] UnfitKey),
    /// The certificate could not be issued.
    #[error("issue an SSH certificate")]
    Certificate(#[source] CertificateError),
    /// Only sign-ins are signed out; an API token is revoked.
    #[error("sign out: the request was made with an API token")]
    NotASignIn,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl From<Refusal> for SignInError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wrong => Self::Wrong,
            Refusal::Locked => Self::Locked,
            Refusal::Busy => Self::Busy,
        }
    }
}

impl Faulty for SignInError {
    fn fault(&self) -> Fault {
        match self {
            Self::Wrong => Fault::Unproven,
            Self::Locked => Fault::refused(Reason::TooManyAttempts),
            Self::Busy => Fault::Busy,
            Self::Key(unfit) => Fault::field("ssh_public_key", unfit),
            Self::Certificate(_) => Fault::Bug,
            Self::NotASignIn => Fault::Conflict {
                title: "this is an API token, not a sign-in".to_owned(),
                remedy: "revoke it: `sallyport token revoke`",
            },
            Self::Store(error) => error.fault(),
        }
    }
}

/// Somebody signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// Who.
    pub person: Person,
    /// Bearer token.
    pub token: Sensitive,
    /// Its end.
    pub expires_at: Timestamp,
    /// Certificate over the key given; absent while the vault is sealed.
    pub ssh_certificate: Option<String>,
}

/// Signs somebody in.
///
/// # Errors
/// [`SignInError`].
pub async fn sign_in(
    control: &Control,
    ip: IpAddr,
    sign_in: &SignIn,
) -> Result<SignedIn, SignInError> {
    let key = sign_in
        .ssh_public_key
        .as_deref()
        .map(PublicSshKey::read)
        .transpose()
        .map_err(SignInError::Key)?;
    let attempt = Attempt {
        door: "sign-in",
        actor: Actor::Anonymous,
        ip,
        claimed: &sign_in.name,
        beside: None,
    };
    let typed = Typed {
        password: Some(sign_in.password.expose()),
        code: Some(sign_in.code.expose()),
    };
    let right = factor::check(control, &attempt, typed).await??;

    let now = control.now();
    let authentication = Authentication {
        strength: AuthenticationStrength::MultiFactor,
        at: now,
        methods: right.methods.clone(),
    };
    let expires_at = now.plus(control.config().sign_in.token_ttl);
    let (token, token_hash) = TokenKind::SignIn.generate();
    let person = right.person.clone();

    let mut tx = control.db().begin(Actor::Person(person.id.clone())).await?;
    if !right.consume(&mut tx).await? {
        drop(tx);
        right.record_used(control, &attempt).await?;
        return Err(SignInError::Wrong);
    }
    store::token::prune_sign_ins(&mut tx, &person.id, now).await?;
    store::token::put_sign_in(
        &mut tx,
        token_hash.clone(),
        &person.id,
        &authentication,
        expires_at,
    )
    .await?;
    let mut events = Events::one(factor::succeeded(&person.id, &authentication, &attempt));
    let mut ssh_certificate = None;
    if let Some(key) = key {
        let sign_in = NewSignIn {
            person: &person,
            token_hash,
            authentication: &authentication,
            expires_at,
        };
        if let Some((certificate, event)) = certify(control, &mut tx, &sign_in, &key).await? {
            ssh_certificate = Some(certificate);
            events = events.and(event);
        }
    }
    tx.commit(events).await?;

    Ok(SignedIn {
        person,
        token: Sensitive::new(token.expose_secret().clone()),
        expires_at,
        ssh_certificate,
    })
}

struct NewSignIn<'a> {
    person: &'a Person,
    token_hash: Vec<u8>,
    authentication: &'a Authentication,
    expires_at: Timestamp,
}

/// A certificate that lives as long as the sign-in, if the authority's key is at hand.
async fn certify(
    control: &Control,
    tx: &mut Transaction,
    sign_in: &NewSignIn<'_>,
    key: &PublicSshKey,
) -> Result<Option<(String, Event)>, SignInError> {
    let at = sign_in.authentication.at;
    let issued = authority::issue(control, sign_in.person, key, at, sign_in.expires_at)
        .map_err(SignInError::Certificate)?;
    let Some(issued) = issued else {
        return Ok(None);
    };
    let certificate = SshCertificate {
        serial: issued.serial,
        person_id: sign_in.person.id.clone(),
        fingerprint: issued.fingerprint.clone(),
        strength: sign_in.authentication.strength,
        authenticated_at: sign_in.authentication.at,
        expires_at: issued.expires_at,
    };
    store::key::put_ssh_certificate(tx, sign_in.token_hash.clone(), &certificate).await?;
    let event = Event::new(EventName::CertificateIssued, &sign_in.person.id)
        .with("serial", issued.serial.to_string())
        .with("fingerprint", issued.fingerprint)
        .with("expires_at", issued.expires_at);
    Ok(Some((issued.certificate, event)))
}

/// Ends the sign-in the request was made with, and its certificate.
///
/// # Errors
/// [`SignInError::NotASignIn`] for an API token.
pub async fn sign_out(control: &Control, caller: &Caller) -> Result<(), SignInError> {
    let Bearer::SignIn { token_hash } = &caller.bearer else {
        return Err(SignInError::NotASignIn);
    };
    let mut tx = control.db().begin(caller.actor()).await?;
    if store::token::end_sign_in(&mut tx, token_hash).await? {
        tx.commit(Events::one(Event::new(
            EventName::SignedOut,
            &caller.person.id,
        )))
        .await?;
    }
    control.doors().passes.forget_sign_in(token_hash);
    Ok(())
}

/// Ends every sign-in of a person and takes back their enrolment code, within the caller's transaction:
/// what disabling somebody does here.
pub(crate) async fn end_for_person(
    tx: &mut Transaction,
    person: &Person,
) -> Result<(), StoreError> {
    store::token::end_sign_ins(tx, &person.id).await?;
    store::code::delete_enrolment_codes(tx, &store::code::CodeOwner::Person(person.id.clone()))
        .await
}
