//! What is stored, against `docs/formats/vault.md`: read by a second implementation written from that
//! document, and what earlier versions stored still opens.

use std::{path::Path, process::Command, sync::Arc};

use sallyport_core::id::RecordingId;
use sallyport_vault::{KeyringRecord, SealedSecret, SecretPath, SystemEntropy, Vault};
use serde_json::{Value, json};

use crate::fixture::{NOW, new_vault};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything a vault stores, and what it opens to: secrets before and after a rotation.
fn specimen(folder: &Path, by_people: bool) -> Value {
    let key_file = folder.join("seal.key");
    let vault = new_vault();
    let change = if by_people {
        vault.initialise_shamir(3, 2)
    } else {
        vault.initialise_key_file(&key_file)
    };
    let change = change.unwrap();
    // All but the first, so that the weights of recovery are not the simplest ones.
    let shares: Vec<String> = change
        .shares
        .iter()
        .skip(1)
        .map(|share| share.to_text().expose_secret().clone())
        .collect();
    vault.adopt(change).unwrap();

    let mut secrets = Vec::new();
    let mut recordings = Vec::new();
    let mut expected = json!({ "secrets": [], "recordings": [] });
    let mut record = None;
    for version in 1..=2_u8 {
        let secret = vec![version; usize::from(version) * 20];
        let path: SecretPath = "account/acc_1/credential".parse().unwrap();
        let sealed = vault
            .seal_secret(&path, version.into(), &secret.clone().into())
            .unwrap();
        secrets.push(sealed.to_stored());
        expected["secrets"]
            .as_array_mut()
            .unwrap()
            .push(hex(&secret).into());

        let recording_id = RecordingId::new(NOW, [version; 10]);
        let key = vec![0xf0 | version; 32];
        let wrapped = vault
            .wrap_recording_key(&recording_id, &key.clone().into())
            .unwrap();
        recordings.push(json!([recording_id, wrapped]));
        expected["recordings"]
            .as_array_mut()
            .unwrap()
            .push(hex(&key).into());

        let rotation = vault.rotate_keyring().unwrap();
        record = Some(rotation.record.to_stored());
        vault.adopt(rotation).unwrap();
    }
    let key_file = std::fs::read(key_file).map(|key| hex(&key)).ok();
    json!({
        "keyring": record, "shares": shares, "key_file": key_file, "secrets": secrets,
        "recordings": recordings, "expected": expected,
    })
}

/// A Python with `cryptography`, as `cargo xtask test` prepares it.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told where its tools are"
)]
fn python() -> std::ffi::OsString {
    std::env::var_os("SALLYPORT_TEST_PYTHON").unwrap_or_else(|| "python3".into())
}

/// VA-1
#[test]
fn given_a_stored_vault_when_read_by_a_second_implementation_then_it_opens_to_the_same() {
    for by_people in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let specimen = specimen(folder.path(), by_people);
        let file = folder.path().join("stored.json");
        std::fs::write(&file, specimen.to_string()).unwrap();
        let reader =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/second_reader/open_vault.py");
        let output = Command::new(python())
            .arg(reader)
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let opened: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(opened, specimen["expected"]);
    }
}

/// VA-1: the files in `testdata/` were stored by the first version and are never made anew.
#[test]
fn given_what_the_first_version_stored_when_opened_then_it_opens_to_the_same() {
    for name in ["shamir-v1.json", "key-file-v1.json"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(name);
        let stored: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let vault = restart(&stored);
        let texts = |field: &str| stored[field].as_array().unwrap().clone();
        let secrets: Vec<String> = texts("secrets")
            .iter()
            .map(|text| SealedSecret::from_stored(text.as_str().unwrap()).unwrap())
            .map(|sealed| hex(vault.open_secret(&sealed).unwrap().expose_secret()))
            .collect();
        let recordings: Vec<String> = texts("recordings")
            .iter()
            .map(|pair| {
                let recording_id = pair[0].as_str().unwrap().parse().unwrap();
                let wrapped = pair[1].as_str().unwrap();
                let key = vault.unwrap_recording_key(&recording_id, wrapped).unwrap();
                hex(key.expose_secret())
            })
            .collect();
        assert_eq!(
            json!({ "secrets": secrets, "recordings": recordings }),
            stored["expected"]
        );
    }
}

fn restart(stored: &Value) -> Vault {
    use std::os::unix::fs::PermissionsExt;

    let record = KeyringRecord::from_stored(stored["keyring"].as_str().unwrap()).unwrap();
    let vault = Vault::new(Arc::new(SystemEntropy), Some(record));
    if let Some(key) = stored["key_file"].as_str() {
        let digits: Vec<u8> = key
            .chars()
            .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
            .collect();
        let key: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        vault.unseal_key_file(&path).unwrap();
    }
    for share in stored["shares"].as_array().unwrap() {
        vault.offer_share(share.as_str().unwrap()).unwrap();
    }
    vault
}
