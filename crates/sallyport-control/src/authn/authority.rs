//! The authority whose certificates prove a person to our own gateways, while the vault lends its key.
//!
//! [`crate::secret`] hands the key over when the vault is unsealed and takes it back when it is sealed.
//!
//! INVARIANT: without the key nothing is issued; checking needs the public key only, and that stays when
//! the vault is sealed.

use std::sync::{Arc, PoisonError, RwLock};

use sallyport_core::{principal::Person, time::Timestamp};
use sallyport_vault::{
    CertificateError, SshAuthority,
    authority::{
        IssuedUserCertificate, UserCertificate, VerifiedUserCertificate, VerifyError,
        verify_user_certificate,
    },
};

use super::ssh_key::PublicSshKey;
use crate::kernel::control::Control;

/// The authority, as far as it is at hand.
#[derive(Debug, Default)]
pub(super) struct UserAuthority(RwLock<Held>);

#[derive(Debug, Default)]
struct Held {
    signer: Option<Arc<SshAuthority>>,
    public_key: Option<String>,
}

impl UserAuthority {
    fn held<T>(&self, read: impl FnOnce(&Held) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A certificate for `person` over `key`; `None` while the authority's key is not at hand.
pub(super) fn issue(
    control: &Control,
    person: &Person,
    key: &PublicSshKey,
    now: Timestamp,
    valid_until: Timestamp,
) -> Result<Option<IssuedUserCertificate>, CertificateError> {
    let signer = control.doors().authority.held(|held| held.signer.clone());
    let Some(signer) = signer else {
        return Ok(None);
    };
    let wanted = UserCertificate {
        person: person.name.clone(),
        key_id: person.id.to_string(),
        public_key: key.as_str().to_owned(),
        now,
        valid_until,
    };
    signer
        .issue_user_certificate(&wanted, control.vault().entropy())
        .map(Some)
}

/// What a certificate says, if this authority signed it; `None` while its public key is unknown.
pub(super) fn verify(
    control: &Control,
    certificate: &str,
    now: Timestamp,
) -> Option<Result<VerifiedUserCertificate, VerifyError>> {
    let public_key = control
        .doors()
        .authority
        .held(|held| held.public_key.clone())?;
    Some(verify_user_certificate(certificate, &public_key, now))
}

/// Hands the authority over, after the vault was unsealed.
///
/// # Errors
/// [`CertificateError`] when its public key cannot be written.
pub fn adopt_user_authority(
    control: &Control,
    authority: SshAuthority,
) -> Result<(), CertificateError> {
    let public_key = authority.public_key()?;
    control.doors().authority.change(|held| {
        held.signer = Some(Arc::new(authority));
        held.public_key = Some(public_key);
    });
    Ok(())
}

/// Makes the authority's public key known while the vault is sealed, so that certificates issued before
/// still prove somebody.
pub fn trust_user_authority(control: &Control, public_key: String) {
    control
        .doors()
        .authority
        .change(|held| held.public_key = Some(public_key));
}

/// Lets go of the authority's key, when the vault is sealed.
pub fn release_user_authority(control: &Control) {
    control.doors().authority.change(|held| held.signer = None);
}

/// Public keys of the authorities whose certificates prove a person, OpenSSH one-line form.
#[must_use]
pub fn user_authorities(control: &Control) -> Vec<String> {
    control
        .doors()
        .authority
        .held(|held| held.public_key.iter().cloned().collect())
}
