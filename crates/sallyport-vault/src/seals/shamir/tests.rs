//! The `shamir` seal as its callers see it: who unseals, which share is refused, what a share looks like.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{SystemEntropy, keyring::KeyringId};

fn id(byte: u8) -> KeyringId {
    KeyringId::from_bytes([byte; 10])
}

fn wrap(keyring_id: &KeyringId, shares: u8, threshold: u8) -> (RootKey, Wrapped) {
    let root_key = RootKey::generate(&SystemEntropy);
    let settings = json!({ "shares": shares, "threshold": threshold });
    let sealing = Sealing {
        keyring_id,
        settings: &settings,
        entropy: &SystemEntropy,
    };
    let wrapped = Shamir.wrap(&root_key, &sealing).unwrap();
    (root_key, wrapped)
}

fn unwrap(
    keyring_id: &KeyringId,
    sealed: &SealedRootKey,
    shares: &[&Share],
) -> Result<RootKey, SealError> {
    let settings = json!({});
    Shamir.unwrap(
        sealed,
        &Unsealing {
            keyring_id,
            settings: &settings,
            shares,
        },
    )
}

/// VA-1
#[test]
fn given_every_subset_of_five_shares_when_unsealing_with_three_needed_then_only_three_or_more_do() {
    let (root_key, wrapped) = wrap(&id(1), 5, 3);
    for subset in 0_u8..32 {
        let shares: Vec<&Share> = wrapped
            .shares
            .iter()
            .filter(|share| subset >> (share.index() - 1) & 1 == 1)
            .collect();
        let unwrapped = unwrap(&id(1), &wrapped.sealed, &shares);
        if shares.len() >= 3 {
            let unwrapped = unwrapped.unwrap();
            assert_eq!(
                unwrapped.0.expose_secret(),
                root_key.0.expose_secret(),
                "{subset:b}"
            );
        } else {
            let given = shares.len();
            assert!(
                matches!(unwrapped, Err(SealError::TooFewShares { given: found, threshold: 3 }) if found == given),
            );
        }
    }
}

/// VA-1
#[test]
fn given_one_share_three_times_when_unsealing_then_it_counts_once() {
    let (_, wrapped) = wrap(&id(1), 5, 3);
    let share = &wrapped.shares[0];
    assert!(matches!(
        unwrap(&id(1), &wrapped.sealed, &[share, share, share]),
        Err(SealError::TooFewShares { given: 1, .. })
    ));
}

/// VA-1
#[test]
fn given_a_share_of_another_vault_or_an_older_set_when_offered_then_it_is_named() {
    let (_, ours) = wrap(&id(1), 5, 3);
    let (_, older) = wrap(&id(1), 5, 3);
    let (_, foreign) = wrap(&id(2), 5, 3);
    assert!(matches!(
        unwrap(&id(1), &ours.sealed, &[&foreign.shares[1]]),
        Err(SealError::Share(ShareError::OfAnotherVault {
            index: 2,
            ..
        }))
    ));
    assert!(matches!(
        unwrap(&id(1), &ours.sealed, &[&ours.shares[0], &older.shares[3]]),
        Err(SealError::Share(ShareError::NotOfThisSet { index: 4 }))
    ));
}

#[test]
fn given_counts_that_make_no_sense_when_sealing_then_they_are_refused() {
    let root_key = RootKey::generate(&SystemEntropy);
    for settings in [
        json!({ "shares": 0, "threshold": 0 }),
        json!({ "shares": 3, "threshold": 0 }),
        json!({ "shares": 3, "threshold": 4 }),
        json!({ "shares": 17, "threshold": 2 }),
        json!({ "shares": 3 }),
        json!({ "shares": 3, "threshold": 2, "extra": 1 }),
    ] {
        let sealing = Sealing {
            keyring_id: &id(1),
            settings: &settings,
            entropy: &SystemEntropy,
        };
        let refused = Shamir.wrap(&root_key, &sealing);
        assert!(
            matches!(refused, Err(SealError::Settings { kind: "shamir", .. })),
            "{settings}"
        );
    }
}

/// VA-1
#[test]
fn given_a_share_as_text_when_typed_differently_then_it_reads_back() {
    let (_, wrapped) = wrap(&id(0xa5), 2, 2);
    let text = wrapped.shares[1].to_text();
    let text = text.expose_secret();
    assert!(text.starts_with("sps1-"));
    assert_eq!(text.len(), "sps1-".len() + 10 * 8 + 9);
    for typed in [
        text.clone(),
        text.to_uppercase(),
        format!("  {}\n", text.replace('-', "").replace("sps1", "sps1-")),
        text.replace('0', "O")
            .replace('1', "l")
            .replace("spsl-", "sps1-"),
    ] {
        let share = Share::from_text(&typed).unwrap();
        assert_eq!((share.index(), share.threshold()), (2, 2));
        assert_eq!(share.keyring_id(), &id(0xa5));
        assert_eq!(share.to_text().expose_secret(), text);
    }
}

/// VA-1
#[test]
fn given_a_share_with_any_one_character_wrong_when_typed_then_it_is_refused() {
    let (_, wrapped) = wrap(&id(7), 5, 3);
    let text = wrapped.shares[2].to_text();
    let text = text.expose_secret();
    for place in PREFIX_CHARS..text.len() {
        for wrong in "0123456789abcdefghjkmnpqrstvwxyzu!".chars() {
            let mut typed = text.clone();
            typed.replace_range(place..=place, &wrong.to_string());
            if typed == *text {
                continue;
            }
            let refused = Share::from_text(&typed).map(|_| ()).unwrap_err();
            assert!(
                matches!(refused, ShareError::Mistyped { .. } | ShareError::NotAShare),
                "{typed}"
            );
        }
    }
    for end in 0..text.len() {
        let cut: String = text.chars().take(end).collect();
        assert!(Share::from_text(&cut).is_err(), "cut at {end}");
    }
    let mut mistyped = text.clone();
    let last = if text.ends_with('0') { "1" } else { "0" };
    mistyped.replace_range(text.len() - 1.., last);
    assert_eq!(
        Share::from_text(&mistyped).map(|_| ()),
        Err(ShareError::Mistyped { index: 3 }),
        "a mistyped share is named by its number"
    );
}

const PREFIX_CHARS: usize = 5;

/// VA-1
#[test]
fn given_a_share_when_debug_printed_then_its_secret_is_not_there() {
    let (_, wrapped) = wrap(&id(7), 1, 1);
    let printed = format!("{:?}", wrapped.shares[0]);
    assert_eq!(
        printed,
        format!("Share {{ keyring_id: {:?}, index: 1, .. }}", id(7))
    );
}

proptest! {
    #[test]
    fn reading_a_share_never_panics(text in "(sps1-)?\\PC{0,120}") {
        prop_assert!(Share::from_text(&text).is_err());
    }
}
