//! Proofs that arrive through a gateway: SSH keys, certificates, passwords with codes.
//!
//! The gateway has seen the signature or the keystrokes; what they prove is decided here. The answers
//! for an unknown person, an unknown key and a wrong password are the same.
//!
//! INVARIANT: a password alone proves nobody; a proof that adds to another is about the same person, and
//! what it yields is at least as strong as either.

use sallyport_api::gateway::{
    AuthenticationAnswer, AuthenticationFacts, PassProof, PasswordProof, SshCertificateProof,
    SshKeyProof,
};
use sallyport_core::{
    authz::Reason,
    event::{Actor, Events},
    id::{AuthenticationId, GatewayId, PersonId},
    principal::{Authentication, AuthenticationStrength, Person},
};

use super::{
    authority,
    factor::{self, Attempt, Failure, Refusal, Typed},
    proof::Proof,
    source::Offence,
    ssh_key::PublicSshKey,
    store,
};
use crate::{
    directory,
    kernel::{control::Control, database::StoreError, ids},
};

const DOOR: &str = "gateway";

const REFUSED: AuthenticationAnswer = AuthenticationAnswer::Refused { reason: None };

/// The person and the authentication behind a proof, if it lives and was made on this connection of this
/// gateway. Asking keeps it alive.
#[must_use]
pub fn proof(
    control: &Control,
    gateway_id: &GatewayId,
    connection: u64,
    id: &AuthenticationId,
) -> Option<(PersonId, Authentication)> {
    control
        .doors()
        .proofs
        .find(gateway_id, connection, id, control.now())
        .map(|proof| (proof.person_id, proof.authentication))
}

/// A registered key signed on the connection.
///
/// # Errors
/// [`StoreError`]; nobody is proven then.
pub async fn prove_ssh_key(
    control: &Control,
    gateway_id: &GatewayId,
    proof: &SshKeyProof,
) -> Result<AuthenticationAnswer, StoreError> {
    let door = Doorway {
        control,
        gateway_id,
        facts: &proof.facts,
    };
    let Ok(key) = PublicSshKey::read(&proof.public_key) else {
        return door.refuse(None, "ssh_key", "unfit-key").await;
    };
    let mut reader = control.db().read().await?;
    let stored = store::key::ssh_key_by_fingerprint(&mut reader, key.fingerprint()).await?;
    // The whole key is compared, not only its fingerprint.
    let Some(stored) = stored.filter(|stored| stored.public_key == key.as_str()) else {
        return door.refuse(None, "ssh_key", "unknown-key").await;
    };
    let person = directory::person_by_id(&mut reader, &stored.person_id).await?;
    drop(reader);
    let Some(person) = person else {
        return door.refuse(None, "ssh_key", "unknown-key").await;
    };
    let authentication = Authentication {
        // A security key proves presence only if its signature says so, and the gateway cannot tell yet.
        strength: AuthenticationStrength::SingleFactor,
        at: control.now(),
        methods: vec!["ssh_key".to_owned()],
    };
    door.prove(person, authentication).await
}

/// A certificate of ours was shown, and its key signed on the connection.
///
/// # Errors
/// [`StoreError`]; nobody is proven then.
pub async fn prove_ssh_certificate(
    control: &Control,
    gateway_id: &GatewayId,
    proof: &SshCertificateProof,
) -> Result<AuthenticationAnswer, StoreError> {
    let door = Doorway {
        control,
        gateway_id,
        facts: &proof.facts,
    };
    let now = control.now();
    let verified = match authority::verify(control, &proof.certificate, now) {
        Some(Ok(verified)) => verified,
        Some(Err(error)) => {
            tracing::info!(%error, "a certificate was refused");
            return door
                .refuse(None, "ssh_certificate", "bad-certificate")
                .await;
        }
        None => return door.refuse(None, "ssh_certificate", "no-authority").await,
    };
    let mut reader = control.db().read().await?;
    let issued = store::key::ssh_certificate(&mut reader, verified.serial).await?;
    let issued = issued.filter(|issued| {
        issued.fingerprint == verified.fingerprint
            && issued.person_id.as_str() == verified.key_id
            && issued.expires_at > now
    });
    let Some(issued) = issued else {
        return door
            .refuse(None, "ssh_certificate", "not-issued-or-ended")
            .await;
    };
    let person = directory::person_by_id(&mut reader, &issued.person_id).await?;
    drop(reader);
    let Some(person) = person.filter(|person| person.name == verified.person) else {
        return door
            .refuse(None, "ssh_certificate", "not-issued-or-ended")
            .await;
    };
    let authentication = Authentication {
        strength: issued.strength,
        at: issued.authenticated_at,
        methods: vec!["ssh_certificate".to_owned()],
    };
    door.prove(person, authentication).await
}

/// A password and a code were typed, or one of them where a key has proven the person already.
///
/// # Errors
/// [`StoreError`]; nobody is proven then.
pub async fn prove_password(
    control: &Control,
    gateway_id: &GatewayId,
    proof: &PasswordProof,
) -> Result<AuthenticationAnswer, StoreError> {
    let door = Doorway {
        control,
        gateway_id,
        facts: &proof.facts,
    };
    let base = match door.base() {
        Base::Unknown => return Ok(REFUSED),
        Base::None => None,
        Base::Proof(base) => Some(base),
    };
    let typed = Typed {
        password: proof.password.as_ref().map(|text| text.expose()),
        code: proof.code.as_ref().map(|text| text.expose()),
    };
    let claimed = match (&base, &proof.facts.claimed) {
        (Some(base), _) => base.person.clone(),
        // Refused unchecked, so that it is no way to try passwords one factor at a time.
        (None, Some(claimed)) if typed.password.is_some() && typed.code.is_some() => {
            claimed.clone()
        }
        (None, _) => return Ok(REFUSED),
    };
    if typed.password.is_none() && typed.code.is_none() {
        return Ok(REFUSED);
    }
    let attempt = Attempt {
        door: DOOR,
        actor: Actor::Gateway(gateway_id.clone()),
        ip: proof.facts.ip,
        claimed: claimed.as_str(),
        beside: base.as_ref().map(|base| &base.person),
    };
    let right = match factor::check(control, &attempt, typed).await? {
        Ok(right) => right,
        Err(refusal) => {
            return Ok(AuthenticationAnswer::Refused {
                reason: match refusal {
                    Refusal::Wrong => None,
                    Refusal::Locked => Some(Reason::TooManyAttempts),
                    Refusal::Busy => Some(Reason::ControlUnavailable),
                },
            });
        }
    };
    let authentication = Authentication {
        strength: AuthenticationStrength::MultiFactor,
        at: control.now(),
        methods: right.methods.clone(),
    };
    let authentication = base.as_ref().map_or(authentication.clone(), |base| {
        joined(&base.authentication, &authentication)
    });
    let mut tx = control.db().begin(attempt.actor.clone()).await?;
    if !right.consume(&mut tx).await? {
        drop(tx);
        right.record_used(control, &attempt).await?;
        return Ok(REFUSED);
    }
    tx.commit(Events::one(factor::succeeded(
        &right.person.id,
        &authentication,
        &attempt,
    )))
    .await?;
    Ok(door.keep(right.person, authentication))
}

/// A pass was shown where a client sends a password.
///
/// # Errors
/// [`StoreError`]; nobody is proven then.
pub async fn prove_pass(
    control: &Control,
    gateway_id: &GatewayId,
    proof: &PassProof,
) -> Result<AuthenticationAnswer, StoreError> {
    let door = Doorway {
        control,
        gateway_id,
        facts: &proof.facts,
    };
    let attempt = door.attempt();
    // Nobody guesses a pass; a source that tries all the same is not let fill the log.
    if attempt.is_barred(control) {
        metrics::counter!("sallyport_authentication_refused_source_total").increment(1);
        return Ok(AuthenticationAnswer::Refused {
            reason: Some(Reason::TooManyAttempts),
        });
    }
    let shown = control.doors().passes.find(
        proof.pass.expose(),
        &proof.account,
        &proof.target,
        control.now(),
    );
    let Some(pass) = shown else {
        attempt.penalise(control, Offence::WrongGuess);
        return door.refuse(None, "pass", "unknown-pass").await;
    };
    let mut reader = control.db().read().await?;
    // A sign-in that has ended takes its passes with it, however it ended.
    let sign_in = store::token::sign_in_by_hash(&mut reader, pass.sign_in.clone()).await?;
    let person = directory::person_by_id(&mut reader, &pass.person_id).await?;
    drop(reader);
    let is_signed_in = sign_in.is_some_and(|sign_in| sign_in.person_id == pass.person_id);
    let Some(person) = person.filter(|_| is_signed_in) else {
        attempt.penalise(control, Offence::WrongGuess);
        return door.refuse(None, "pass", "ended-sign-in").await;
    };
    door.prove(person, pass.authentication).await
}

/// Two proofs of one person, as one.
fn joined(base: &Authentication, added: &Authentication) -> Authentication {
    let mut methods = base.methods.clone();
    for method in &added.methods {
        if !methods.contains(method) {
            methods.push(method.clone());
        }
    }
    let (strength, at) = if added.strength >= base.strength {
        (added.strength, added.at)
    } else {
        (base.strength, base.at)
    };
    Authentication {
        strength,
        at,
        methods,
    }
}

/// The proof that a new one adds to.
enum Base {
    None,
    Proof(Box<Proof>),
    /// One is named that does not exist on this connection.
    Unknown,
}

/// One proof at a gateway's door.
struct Doorway<'a> {
    control: &'a Control,
    gateway_id: &'a GatewayId,
    facts: &'a AuthenticationFacts,
}

impl Doorway<'_> {
    fn base(&self) -> Base {
        let Some(id) = &self.facts.adds_to else {
            return Base::None;
        };
        let found = self.control.doors().proofs.find(
            self.gateway_id,
            self.facts.connection,
            id,
            self.control.now(),
        );
        match found {
            Some(proof)
                if self
                    .facts
                    .claimed
                    .as_ref()
                    .is_none_or(|claimed| *claimed == proof.person) =>
            {
                Base::Proof(Box::new(proof))
            }
            _ => Base::Unknown,
        }
    }

    fn attempt(&self) -> Attempt<'_> {
        Attempt {
            door: DOOR,
            actor: Actor::Gateway(self.gateway_id.clone()),
            ip: self.facts.ip,
            claimed: self
                .facts
                .claimed
                .as_ref()
                .map_or("-", |claimed| claimed.as_str()),
            beside: None,
        }
    }

    /// Records a failure that no counter counts, because keys are not guessed.
    async fn refuse(
        &self,
        person: Option<Person>,
        method: &str,
        reason: &'static str,
    ) -> Result<AuthenticationAnswer, StoreError> {
        let attempt = self.attempt();
        let claimed = super::throttle::NameKey::of(attempt.claimed).masked();
        let failure = Failure {
            person: person.map(|person| (person.id, person.name)),
            claimed,
            methods: vec![method.to_owned()],
            reason,
            locks_until: None,
        };
        failure.record(self.control, &attempt).await?;
        Ok(REFUSED)
    }

    /// A key or certificate proved `person`: checks the claim and the person, records, keeps the proof.
    async fn prove(
        &self,
        person: Person,
        authentication: Authentication,
    ) -> Result<AuthenticationAnswer, StoreError> {
        let method = authentication.methods.concat();
        if !person.is_enabled {
            return self.refuse(Some(person), &method, "disabled").await;
        }
        if self
            .facts
            .claimed
            .as_ref()
            .is_some_and(|claimed| *claimed != person.name)
        {
            return self.refuse(Some(person), &method, "other-person").await;
        }
        let authentication = match self.base() {
            Base::None => authentication,
            Base::Proof(base) if base.person_id == person.id => {
                joined(&base.authentication, &authentication)
            }
            Base::Proof(_) | Base::Unknown => {
                return self.refuse(Some(person), &method, "other-person").await;
            }
        };
        let attempt = self.attempt();
        let tx = self.control.db().begin(attempt.actor.clone()).await?;
        tx.commit(Events::one(factor::succeeded(
            &person.id,
            &authentication,
            &attempt,
        )))
        .await?;
        Ok(self.keep(person, authentication))
    }

    fn keep(&self, person: Person, authentication: Authentication) -> AuthenticationAnswer {
        let now = self.control.now();
        let id = AuthenticationId::new(now, ids::entropy());
        let strength = authentication.strength;
        let proofs = &self.control.doors().proofs;
        let proof = Proof {
            gateway_id: self.gateway_id.clone(),
            connection: self.facts.connection,
            person_id: person.id,
            person: person.name.clone(),
            authentication,
        };
        if let Some(replaced) = &self.facts.adds_to {
            proofs.forget(replaced);
        }
        if !proofs.keep(id.clone(), proof, now) {
            return AuthenticationAnswer::Refused {
                reason: Some(Reason::TooManyAttempts),
            };
        }
        AuthenticationAnswer::Proven {
            authentication_id: id,
            person: person.name,
            strength,
        }
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::time::Timestamp;

    use super::*;

    fn proven(strength: AuthenticationStrength, at_ms: i64, method: &str) -> Authentication {
        Authentication {
            strength,
            at: Timestamp::from_unix_ms(at_ms),
            methods: vec![method.to_owned()],
        }
    }

    /// ID-5
    #[test]
    fn given_a_key_and_then_a_code_then_both_count_and_the_time_is_that_of_the_code() {
        use AuthenticationStrength::{MultiFactor, PhishingResistant, SingleFactor};
        let key = proven(SingleFactor, 1, "ssh_key");
        let code = proven(MultiFactor, 2, "totp");
        let both = joined(&key, &code);
        assert_eq!((both.strength, both.at.unix_ms()), (MultiFactor, 2));
        assert_eq!(both.methods, ["ssh_key", "totp"]);

        let presence = proven(PhishingResistant, 1, "ssh_key");
        let joined = joined(&presence, &code);
        assert_eq!(
            (joined.strength, joined.at.unix_ms()),
            (PhishingResistant, 1)
        );
    }
}
