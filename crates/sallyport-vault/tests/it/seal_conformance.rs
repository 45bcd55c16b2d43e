//! What every seal promises, checked for each one in the registry.

use std::{path::Path, sync::Arc};

use sallyport_vault::{
    BarrierState, KeyringRecord, SecretPath, Share, SystemEntropy, Vault, VaultError, seals,
};
use serde_json::{Value, json};

use crate::fixture::{new_vault, printed, seal_settings};

/// A vault of a kind, sealed as after a restart, and what opens it.
struct Sealed {
    kind: String,
    settings: Value,
    shares: Vec<Share>,
    record: KeyringRecord,
    secret: sallyport_vault::SealedSecret,
}

impl Sealed {
    fn make(kind: &str, folder: &Path) -> Self {
        let settings = seal_settings(kind, folder);
        let vault = new_vault();
        let change = vault.initialise(kind, &settings).unwrap();
        let path = SecretPath::permit_key();
        let canary = b"canary".to_vec().into();
        let secret = change
            .keyring
            .seal_secret(&path, 1, &canary, &SystemEntropy)
            .unwrap();
        Self {
            kind: kind.to_owned(),
            settings,
            shares: change.shares,
            record: change.record,
            secret,
        }
    }

    fn restarted(&self) -> Vault {
        Vault::new(Arc::new(SystemEntropy), Some(self.record.clone()))
    }

    fn unseal(&self, vault: &Vault) -> Result<(), VaultError> {
        if self.shares.is_empty() {
            return vault.unseal(&self.settings);
        }
        for share in &self.shares {
            vault.offer_share(share.to_text().expose_secret())?;
        }
        Ok(())
    }
}

fn for_each_kind(check: impl Fn(&str, &Sealed)) {
    for seal in seals::all() {
        let kind = seal.describe().kind;
        let folder = tempfile::tempdir().unwrap();
        check(&kind, &Sealed::make(&kind, folder.path()));
    }
}

/// VA-1
#[test]
fn given_a_restart_when_unsealed_then_what_was_sealed_opens() {
    for_each_kind(|kind, sealed| {
        let vault = sealed.restarted();
        assert_eq!(vault.status().state, BarrierState::Sealed);
        assert_eq!(vault.status().seal.as_deref(), Some(kind));
        assert!(matches!(
            vault.open_secret(&sealed.secret),
            Err(VaultError::Sealed)
        ));

        sealed.unseal(&vault).unwrap();
        assert_eq!(vault.status().state, BarrierState::Unsealed, "{kind}");
        assert_eq!(
            vault.open_secret(&sealed.secret).unwrap().expose_secret(),
            b"canary"
        );
    });
}

/// VA-1
#[test]
fn given_what_opens_another_vault_when_unsealing_then_it_is_refused_and_stays_sealed() {
    for_each_kind(|kind, sealed| {
        let folder = tempfile::tempdir().unwrap();
        let other = Sealed::make(kind, folder.path());
        let vault = sealed.restarted();
        let refused = other.unseal(&vault).unwrap_err();
        assert!(matches!(refused, VaultError::Seal(_)), "{kind}: {refused}");
        assert!(printed(&refused).contains("another vault") || printed(&refused).contains("is of"));
        assert_eq!(vault.status().state, BarrierState::Sealed);
    });
}

/// VA-1: every byte of the stored record is authenticated.
#[test]
fn given_a_record_with_any_one_byte_changed_when_unsealing_then_it_is_refused() {
    for_each_kind(|kind, sealed| {
        let stored = sealed.record.to_stored();
        assert_eq!(KeyringRecord::from_stored(&stored).unwrap(), sealed.record);
        for at in 0..stored.len() {
            for flip in [0x01, 0x20] {
                let mut bytes = stored.clone().into_bytes();
                bytes[at] ^= flip;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                let Ok(record) = KeyringRecord::from_stored(&changed) else {
                    continue;
                };
                let vault = Vault::new(Arc::new(SystemEntropy), Some(record));
                let refused = sealed.unseal(&vault);
                assert!(refused.is_err(), "{kind}: byte {at} of {stored}");
                assert_eq!(vault.status().state, BarrierState::Sealed);
            }
        }
        for end in 0..stored.len() {
            let cut: String = stored.chars().take(end).collect();
            assert!(
                KeyringRecord::from_stored(&cut).is_err(),
                "{kind}: cut at {end}"
            );
        }
    });
}

/// VA-1
#[test]
fn given_the_store_when_read_by_a_stranger_then_nothing_in_it_unseals() {
    for_each_kind(|kind, sealed| {
        let stored = sealed.record.to_stored();
        for share in &sealed.shares {
            let text = share.to_text();
            // The groups after the vault's id and the counts are the secret.
            for group in text.expose_secret().split('-').skip(4) {
                assert!(!stored.contains(group), "{kind}");
            }
        }
        assert!(!format!("{:?}", sealed.restarted()).contains("canary"));
    });
}

/// VA-1
#[test]
fn given_settings_a_seal_does_not_describe_when_initialising_then_they_are_refused() {
    for_each_kind(|kind, sealed| {
        let mut settings = sealed.settings.clone();
        settings["extra"] = json!("x");
        for refused in [settings, json!({}), json!(null), json!("text")] {
            let error = new_vault().initialise(kind, &refused).unwrap_err();
            assert!(
                matches!(error, VaultError::Seal(seals::SealError::Settings { .. })),
                "{kind}"
            );
        }
    });
}

#[test]
fn given_a_seal_when_described_then_its_settings_are_the_ones_it_takes_and_it_has_a_page() {
    for_each_kind(|kind, sealed| {
        let described = seals::by_kind(kind).unwrap().describe();
        let mut names: Vec<_> = described.settings.into_iter().map(|it| it.name).collect();
        names.sort();
        let mut taken: Vec<_> = sealed
            .settings
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        taken.sort();
        assert_eq!(names, taken);
        let page = format!(
            "{}/../../docs/plugins/seal/{kind}.md",
            env!("CARGO_MANIFEST_DIR")
        );
        let page = std::fs::read_to_string(page).unwrap();
        assert!(
            names.iter().all(|name| page.contains(&format!("`{name}`"))),
            "{kind}"
        );
        assert_eq!(sealed.kind, kind);
    });
}
