//! Nothing this crate prints holds what it drew as a key.

use std::{
    fmt::{self, Debug, Formatter},
    sync::{Arc, Mutex},
};

use sallyport_core::{entropy::Entropy, id::RecordingId, secret::Secret};
use sallyport_vault::{SecretPath, SigningKey, SystemEntropy, Vault, engines};
use serde_json::json;

use crate::fixture::{CANARY, NOW, after_s, context, permit, printed, stored_secrets};

/// Remembers everything drawn that is as long as a key.
#[derive(Default)]
struct Remembering(Mutex<Vec<Vec<u8>>>);

impl Debug for Remembering {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Remembering")
    }
}

impl Entropy for Remembering {
    fn fill(&self, destination: &mut [u8]) {
        SystemEntropy.fill(destination);
        if destination.len() >= 32 {
            self.0.lock().unwrap().push(destination.to_vec());
        }
    }
}

/// The forms in which bytes slip into texts: a list of numbers, hex, base 64 without its uneven ends.
fn forms(bytes: &[u8]) -> Vec<String> {
    let list = format!("{bytes:?}");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        list.trim_matches(['[', ']']).to_owned(),
        hex.to_uppercase(),
        hex,
    ]
}

/// VA-1, GW-11
#[tokio::test]
async fn given_a_vault_at_work_when_everything_it_returns_is_printed_then_no_key_is_there() {
    let entropy = Arc::new(Remembering::default());
    let vault = Vault::new(entropy.clone(), None);
    let mut output = Vec::new();
    let mut print = |value: &dyn Debug| output.push(format!("{value:?} {value:#?}"));

    let change = vault.initialise_shamir(3, 2).unwrap();
    let shares: Vec<_> = change.shares.iter().map(|share| share.to_text()).collect();
    print(&change);
    vault.adopt(change).unwrap();
    let rotation = vault.rotate_keyring().unwrap();
    print(&rotation);
    vault.adopt(rotation).unwrap();
    print(&vault);

    let seed = SigningKey::new_seed(&*entropy);
    print(&SigningKey::from_seed(&seed).unwrap());
    print(
        &vault
            .seal_secret(&SecretPath::permit_key(), 1, &seed)
            .unwrap(),
    );
    let canary = Secret::new(CANARY.as_bytes().to_vec());
    let sealed = vault
        .seal_secret(&SecretPath::permit_key(), 2, &canary)
        .unwrap();
    print(&sealed);
    let recording_id = RecordingId::new(NOW, [1; 10]);
    print(&vault.wrap_recording_key(&recording_id, &seed).unwrap());

    let mut handles = Vec::new();
    for engine in engines::all().iter().filter(|one| one.protocol().is_none()) {
        let secrets = stored_secrets(&vault, *engine);
        let settings = json!({});
        let issued = engine
            .issue(&permit(after_s(60)), context(&vault, &settings, &secrets))
            .await;
        let issued = issued.unwrap();
        print(&issued);
        handles.extend(issued.handle);
    }
    vault.seal();
    for share in &shares {
        let mistyped = share.expose_secret().replace(['2', '3'], "4");
        let errors = [
            vault.offer_share(&mistyped).map(|_| ()),
            vault
                .offer_share(&format!("{}x", share.expose_secret()))
                .map(|_| ()),
            vault.open_secret(&sealed).map(|_| ()),
        ];
        for error in errors.into_iter().filter_map(Result::err) {
            print(&printed(&error));
        }
    }
    print(&vault);
    output.extend(handles);

    let output = output.join("\n");
    let drawn = entropy.0.lock().unwrap();
    assert!(
        drawn.len() > 10,
        "the keys of this test went by: {}",
        drawn.len()
    );
    for form in drawn.iter().flat_map(|bytes| forms(bytes)) {
        let found = output.lines().find(|line| line.contains(&form));
        assert!(found.is_none(), "{form} in {found:?}");
    }
    for form in forms(CANARY.as_bytes())
        .into_iter()
        .chain([CANARY.to_owned()])
    {
        assert!(!output.contains(&form));
    }
    for share in &shares {
        for group in share.expose_secret().split('-').skip(4) {
            assert!(!output.contains(group));
        }
    }
}
