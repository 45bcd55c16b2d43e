//! When a stored password is changed at its target, and what the next one is.

use std::time::Duration;

use sallyport_core::{
    descriptor::Setting,
    entropy::Entropy,
    secret::{SecretBytes, SecretString},
};
use serde_json::Value;

use super::{
    super::{CredentialMaterial, Engine as _, EngineError, settings::Settings},
    KIND, SecretKind, Static, decode, encode,
};
use crate::database::name;

/// Bounds of `rotate_every_s`: a minute to a year.
const EVERY_S: std::ops::RangeInclusive<u64> = 60..=31_536_000;

/// When the password of an account is changed by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Time between two.
    pub every: Option<Duration>,
    /// After each session.
    pub is_after_use: bool,
}

pub(super) fn settings() -> Vec<Setting> {
    let setting = |name: &str, purpose: &str| Setting {
        name: name.to_owned(),
        purpose: purpose.to_owned(),
        is_required: false,
    };
    vec![
        setting(
            "rotate_after_use",
            "`yes`: the password is changed at the target after each session",
        ),
        setting(
            "rotate_every_s",
            "seconds after which the password is changed at the target, 60 to 31536000",
        ),
    ]
}

pub(super) fn read(settings: &Value) -> Result<Rotation, EngineError> {
    let settings = Settings::read(KIND, &Static.describe(), settings)?;
    let every = match settings.text("rotate_every_s") {
        None => None,
        Some(text) => Some(
            text.parse()
                .ok()
                .filter(|seconds| EVERY_S.contains(seconds))
                .map(Duration::from_secs)
                .ok_or_else(|| settings.refuse("rotate_every_s", "must be 60 to 31536000"))?,
        ),
    };
    let is_after_use = match settings.text("rotate_after_use") {
        None | Some("no") => false,
        Some("yes") => true,
        Some(_) => return Err(settings.refuse("rotate_after_use", "must be yes or no")),
    };
    Ok(Rotation {
        every,
        is_after_use,
    })
}

/// When the password of a `static` account with these settings is changed; never for settings that do not
/// read.
#[must_use]
pub fn rotation_of(settings: &Value) -> Rotation {
    read(settings).unwrap_or_default()
}

/// A fresh password in the form in which it is stored.
#[must_use]
pub fn new_password(entropy: &dyn Entropy) -> SecretBytes {
    encode(SecretKind::Password, &name::password(entropy))
}

/// The password in a stored secret.
///
/// # Errors
/// [`EngineError::Secret`] when it is of another kind.
pub fn password_of(secret: &SecretBytes) -> Result<SecretString, EngineError> {
    match decode(secret) {
        Some(CredentialMaterial::Password { password, .. }) => Ok(password),
        _ => Err(EngineError::Secret {
            kind: "password".to_owned(),
            problem: "another kind is stored",
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// VA-2
    #[test]
    fn given_settings_then_a_password_is_rotated_as_they_say_and_nonsense_is_refused() {
        assert_eq!(rotation_of(&json!({})), Rotation::default());
        let both = json!({ "rotate_every_s": 60, "rotate_after_use": "yes" });
        assert_eq!(
            read(&both).unwrap(),
            Rotation {
                every: Some(Duration::from_secs(60)),
                is_after_use: true
            }
        );
        for wrong in [
            json!({ "rotate_every_s": "59" }),
            json!({ "rotate_every_s": "31536001" }),
            json!({ "rotate_every_s": "daily" }),
            json!({ "rotate_after_use": "maybe" }),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
