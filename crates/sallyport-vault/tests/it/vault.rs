//! The barrier: its states, the keyring's rotation, and what is bound to where it belongs.

use std::sync::Arc;

use proptest::prelude::*;
use sallyport_core::{id::RecordingId, secret::Secret};
use sallyport_vault::{
    BarrierState, KeyringChange, MAX_SECRET_BYTES, SealedSecret, SecretError, SecretPath,
    ShareError, SystemEntropy, Vault, VaultError, seals::SealError,
};

use crate::fixture::{NOW, new_vault, unsealed_vault};

fn recording(byte: u8) -> RecordingId {
    RecordingId::new(NOW, [byte; 10])
}

fn texts(change: &KeyringChange) -> Vec<String> {
    change
        .shares
        .iter()
        .map(|share| share.to_text().expose_secret().clone())
        .collect()
}

/// Every function that needs a key.
fn all_uses(vault: &Vault) -> Vec<Result<(), VaultError>> {
    let donor = unsealed_vault();
    let path = SecretPath::permit_key();
    let key = || Secret::new(vec![1; 32]);
    let sealed = donor.seal_secret(&path, 1, &key()).unwrap();
    let wrapped = donor.wrap_recording_key(&recording(1), &key()).unwrap();
    vec![
        vault.seal_secret(&path, 1, &key()).map(|_| ()),
        vault.open_secret(&sealed).map(|_| ()),
        vault.wrap_recording_key(&recording(1), &key()).map(|_| ()),
        vault
            .unwrap_recording_key(&recording(1), &wrapped)
            .map(|_| ()),
        vault.rotate_keyring().map(|_| ()),
    ]
}

/// VA-1
#[test]
fn given_a_sealed_vault_when_anything_is_asked_then_the_answer_is_sealed() {
    let vault = unsealed_vault();
    vault.seal();
    for answer in all_uses(&vault) {
        assert!(matches!(answer, Err(VaultError::Sealed)), "{answer:?}");
    }
}

/// VA-1
#[test]
fn given_no_vault_when_anything_is_asked_then_the_answer_is_uninitialised() {
    let vault = new_vault();
    for answer in all_uses(&vault) {
        assert!(
            matches!(answer, Err(VaultError::Uninitialised)),
            "{answer:?}"
        );
    }
    assert!(matches!(
        vault.offer_share("sps1-"),
        Err(VaultError::Uninitialised)
    ));
    assert!(matches!(
        vault.unseal_key_file("/x".as_ref()),
        Err(VaultError::Uninitialised)
    ));
    vault.seal();
    assert_eq!(vault.status().state, BarrierState::Uninitialised);
}

/// VA-1
#[test]
fn given_five_shares_when_three_are_offered_then_progress_is_shown_and_the_third_unseals() {
    let vault = new_vault();
    let change = vault.initialise_shamir(5, 3).unwrap();
    let shares = texts(&change);
    vault.adopt(change).unwrap();
    vault.seal();

    for (offered, given) in [(4, 1), (4, 1), (1, 2)] {
        let status = vault.offer_share(&shares[offered]).unwrap().status;
        assert_eq!(status.state, BarrierState::Sealed);
        assert_eq!((status.shares_given, status.threshold), (given, 3));
    }
    let last = vault.offer_share(&shares[0]).unwrap();
    assert_eq!(last.status.state, BarrierState::Unsealed);
    assert!(last.has_opened);
    let late = vault.offer_share(&shares[2]).unwrap();
    assert_eq!(late.status.state, BarrierState::Unsealed);
    assert!(!late.has_opened, "it was open");
}

/// VA-1, and security class D2: a flood of wrong shares neither spoils nor blocks an unseal.
#[test]
fn given_an_unseal_in_progress_when_wrong_shares_flood_in_then_it_still_completes() {
    let vault = new_vault();
    let change = vault.initialise_shamir(3, 2).unwrap();
    let shares = texts(&change);
    vault.adopt(change).unwrap();
    vault.seal();
    let other = texts(&new_vault().initialise_shamir(3, 2).unwrap());

    vault.offer_share(&shares[0]).unwrap();
    for _ in 0..1_000 {
        assert!(matches!(
            vault.offer_share(&other[1]),
            Err(VaultError::Seal(SealError::Share(
                ShareError::OfAnotherVault { index: 2, .. }
            )))
        ));
        assert!(vault.offer_share("nonsense").is_err());
    }
    assert_eq!(vault.status().shares_given, 1);
    assert_eq!(
        vault.offer_share(&shares[1]).unwrap().status.state,
        BarrierState::Unsealed
    );
}

#[test]
fn given_taken_shares_when_discarded_or_sealed_then_unsealing_begins_again() {
    let vault = new_vault();
    let change = vault.initialise_shamir(2, 2).unwrap();
    let shares = texts(&change);
    vault.adopt(change).unwrap();
    for forget in [Vault::seal, Vault::discard_shares] {
        vault.seal();
        vault.offer_share(&shares[0]).unwrap();
        forget(&vault);
        assert_eq!(vault.status().shares_given, 0);
    }
}

#[test]
fn given_a_seal_of_the_other_sort_when_unsealing_then_the_error_says_what_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.key");
    let by_file = new_vault();
    by_file
        .adopt(by_file.initialise_key_file(&path).unwrap())
        .unwrap();
    by_file.seal();
    let by_people = unsealed_vault();
    by_people.seal();

    let refused = by_file.offer_share("sps1-x").unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("`key_file`, which takes no shares"),
        "{refused}"
    );
    let refused = by_people.unseal_key_file(&path).unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("`shamir`, which takes shares"),
        "{refused}"
    );
}

/// VA-1
#[test]
fn given_a_vault_when_initialised_again_then_it_is_refused_and_nothing_changes() {
    let vault = new_vault();
    let first = vault.initialise_shamir(1, 1).unwrap();
    let second = vault.initialise_shamir(1, 1).unwrap();
    let id = first.record.id().clone();
    vault.adopt(first).unwrap();
    assert!(matches!(
        vault.adopt(second),
        Err(VaultError::Superseded { .. })
    ));
    assert!(matches!(
        vault.initialise_shamir(1, 1),
        Err(VaultError::AlreadyInitialised { keyring_id }) if keyring_id == id
    ));
    assert_eq!(vault.status().state, BarrierState::Unsealed);
}

/// VA-1
#[test]
fn given_a_rotated_keyring_when_used_then_new_secrets_use_the_new_key_and_old_ones_still_open() {
    let vault = new_vault();
    let change = vault.initialise_shamir(1, 1).unwrap();
    let share = texts(&change).remove(0);
    vault.adopt(change).unwrap();
    let path = SecretPath::permit_key();
    let seal = |version| {
        vault
            .seal_secret(&path, version, &b"x".to_vec().into())
            .unwrap()
    };
    let old = seal(1);
    let old_recording = vault
        .wrap_recording_key(&recording(1), &vec![1; 32].into())
        .unwrap();

    let change = vault.rotate_keyring().unwrap();
    let record = change.record.clone();
    vault.adopt(change).unwrap();
    let new = seal(2);
    assert_eq!((old.key_id(), new.key_id(), record.generation()), (1, 2, 2));

    let restarted = Vault::new(Arc::new(SystemEntropy), Some(record));
    restarted.offer_share(&share).unwrap();
    for vault in [&vault, &restarted] {
        assert!(vault.open_secret(&old).is_ok() && vault.open_secret(&new).is_ok());
        assert!(
            vault
                .unwrap_recording_key(&recording(1), &old_recording)
                .is_ok()
        );
    }
}

/// VA-1
#[test]
fn given_two_rotations_at_once_when_adopted_then_the_second_is_refused() {
    let vault = unsealed_vault();
    let [first, second] = [
        vault.rotate_keyring().unwrap(),
        vault.rotate_keyring().unwrap(),
    ];
    vault.adopt(first).unwrap();
    assert!(matches!(
        vault.adopt(second),
        Err(VaultError::Superseded { .. })
    ));
}

/// VA-1
#[test]
fn given_a_vault_sealed_during_a_rotation_when_adopted_then_it_stays_sealed() {
    let vault = unsealed_vault();
    let change = vault.rotate_keyring().unwrap();
    vault.seal();
    vault.adopt(change).unwrap();
    assert_eq!(vault.status().state, BarrierState::Sealed);
}

/// VA-1
#[test]
fn given_an_older_keyring_record_when_restored_then_newer_secrets_are_refused_by_key() {
    let vault = new_vault();
    let change = vault.initialise_shamir(1, 1).unwrap();
    let (share, old_record) = (texts(&change).remove(0), change.record.clone());
    vault.adopt(change).unwrap();
    vault.adopt(vault.rotate_keyring().unwrap()).unwrap();
    let sealed = vault
        .seal_secret(&SecretPath::permit_key(), 1, &vec![1].into())
        .unwrap();

    let restored = Vault::new(Arc::new(SystemEntropy), Some(old_record));
    restored.offer_share(&share).unwrap();
    assert!(matches!(
        restored.open_secret(&sealed),
        Err(VaultError::Secret(SecretError::UnknownKey {
            key_id: 2,
            ..
        }))
    ));
}

/// VA-1: every stored byte is authenticated.
#[test]
fn given_a_stored_secret_with_any_one_byte_changed_when_opened_then_it_is_refused() {
    let vault = unsealed_vault();
    let path: SecretPath = "account/x/credential".parse().unwrap();
    let sealed = vault
        .seal_secret(&path, 7, &b"canary".to_vec().into())
        .unwrap();
    let stored = sealed.to_stored();
    assert_eq!(SealedSecret::from_stored(&stored).unwrap(), sealed);
    assert!(!stored.contains("canary"));
    for at in 0..stored.len() {
        for bit in 0..7 {
            let mut bytes = stored.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            if let Ok(changed) = SealedSecret::from_stored(&changed) {
                assert!(
                    vault.open_secret(&changed).is_err(),
                    "byte {at} of {stored}"
                );
            }
        }
    }
}

/// VA-1: bound to path and version.
#[test]
fn given_the_bytes_of_one_secret_when_put_in_the_place_of_another_then_they_do_not_open() {
    let vault = unsealed_vault();
    let seal = |path: &SecretPath, version| {
        vault
            .seal_secret(path, version, &b"x".to_vec().into())
            .unwrap()
            .to_stored()
    };
    let ours = seal(&SecretPath::ssh_authority(), 2);
    for (from, to) in [
        ("ssh/authority", "ssh/user-authority"),
        ("\"version\":2", "\"version\":1"),
    ] {
        let moved = SealedSecret::from_stored(&ours.replace(from, to)).unwrap();
        assert!(matches!(
            vault.open_secret(&moved),
            Err(VaultError::Secret(SecretError::Damaged { .. }))
        ));
    }
    let of_another_vault = unsealed_vault();
    assert!(
        of_another_vault
            .open_secret(&SealedSecret::from_stored(&ours).unwrap())
            .is_err()
    );
}

/// RE-11
#[test]
fn given_a_wrapped_recording_key_when_unwrapped_for_another_recording_or_changed_then_it_is_refused()
 {
    let vault = unsealed_vault();
    let key = Secret::new((0..32).collect::<Vec<u8>>());
    let wrapped = vault.wrap_recording_key(&recording(1), &key).unwrap();
    let unwrapped = vault.unwrap_recording_key(&recording(1), &wrapped).unwrap();
    assert_eq!(unwrapped.expose_secret(), key.expose_secret());
    assert!(vault.unwrap_recording_key(&recording(2), &wrapped).is_err());
    for at in 0..wrapped.len() {
        let mut bytes = wrapped.clone().into_bytes();
        bytes[at] ^= 1;
        let changed = String::from_utf8(bytes).unwrap();
        assert!(
            vault.unwrap_recording_key(&recording(1), &changed).is_err(),
            "{changed}"
        );
    }
    assert!(
        vault
            .wrap_recording_key(&recording(1), &vec![0; 31].into())
            .is_err()
    );
}

#[test]
fn given_a_secret_beyond_the_limit_or_without_a_version_when_sealed_then_it_is_refused() {
    let vault = unsealed_vault();
    let path = SecretPath::permit_key();
    let largest = vault
        .seal_secret(&path, 1, &vec![7; MAX_SECRET_BYTES].into())
        .unwrap();
    assert!(SealedSecret::from_stored(&largest.to_stored()).is_ok());
    assert!(vault.open_secret(&largest).is_ok());
    assert!(matches!(
        vault.seal_secret(&path, 1, &vec![7; MAX_SECRET_BYTES + 1].into()),
        Err(VaultError::Secret(SecretError::TooLong { .. }))
    ));
    assert!(matches!(
        vault.seal_secret(&path, 0, &vec![7].into()),
        Err(VaultError::Secret(SecretError::NoVersion { .. }))
    ));
}

#[test]
fn given_many_threads_when_the_vault_is_sealed_under_them_then_each_answer_is_right_or_sealed() {
    let vault = unsealed_vault();
    let path = SecretPath::permit_key();
    let sealed = vault.seal_secret(&path, 1, &b"x".to_vec().into()).unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // Bounded, so that a vault that stays open fails the test instead of hanging it.
                    (0..100_000).find_map(|_| match vault.open_secret(&sealed) {
                        Ok(secret) => {
                            assert_eq!(secret.expose_secret(), b"x");
                            None
                        }
                        Err(error) => Some(error),
                    })
                })
            })
            .collect();
        vault.seal();
        for reader in readers {
            assert!(matches!(reader.join().unwrap(), Some(VaultError::Sealed)));
        }
    });
}

#[test]
fn given_texts_that_are_no_path_when_parsed_then_they_are_refused() {
    for text in [
        "", "/", "a/", "/a", "a//b", "../a", "a/..", "A", "a b", "a\0", "a%2f", "ä",
    ] {
        assert!(text.parse::<SecretPath>().is_err(), "{text:?}");
    }
    assert!(["a"; 9].join("/").parse::<SecretPath>().is_err());
    assert!("a".repeat(65).parse::<SecretPath>().is_err());
    for path in [SecretPath::permit_key(), SecretPath::ssh_authority()] {
        assert_eq!(path.as_str().parse(), Ok(path));
    }
}

proptest! {
    #[test]
    fn reading_a_stored_secret_or_keyring_never_panics(text in "\\PC{0,200}") {
        prop_assert!(SealedSecret::from_stored(&text).is_err());
        prop_assert!(sallyport_vault::KeyringRecord::from_stored(&text).is_err());
    }

    /// VA-1
    #[test]
    fn any_secret_seals_and_opens_at_its_place(
        secret in prop::collection::vec(any::<u8>(), 0..300), version in 1_u64..
    ) {
        let vault = unsealed_vault();
        let sealed = vault.seal_secret(&SecretPath::permit_key(), version, &secret.clone().into());
        let opened = vault.open_secret(&sealed.unwrap()).unwrap();
        prop_assert_eq!(opened.expose_secret(), &secret);
    }
}
