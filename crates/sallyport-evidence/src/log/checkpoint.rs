//! Signed checkpoints: a size and a root that the log key vouches for (C2SP `tlog-checkpoint` in a
//! C2SP `signed-note`, Ed25519).
//!
//! The audit integrator signs with [`SigningKey`]; [`super::verify`], witnesses and the CLI read
//! with [`Checkpoint::open`].
//!
//! INVARIANT: [`Checkpoint::open`] returns only what the given key signed, under the log name that
//! belongs to that key; signatures by other keys neither help nor harm.
//!
//! Not here: when to sign, and where the seed of the key is kept (`sallyport-control`, vault).

use std::fmt;

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::tree::{HASH_SIZE, SIZE_MAX, TreeHash};

/// Largest signed checkpoint, in bytes.
pub const CHECKPOINT_SIZE_MAX: usize = 64 * 1024;

/// Most signatures under one checkpoint.
pub const SIGNATURES_MAX: usize = 16;

/// Longest log or key name, in bytes.
pub const NAME_SIZE_MAX: usize = 255;

/// Bytes of an Ed25519 seed and of an Ed25519 public key.
pub const KEY_SIZE: usize = 32;

/// Signature type of plain Ed25519 in the C2SP `signed-note` registry.
const TYPE_ED25519: u8 = 0x01;

/// Bytes of an Ed25519 signature.
const SIGNATURE_SIZE: usize = 64;

/// Em dash and space, which open a signature line.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why a checkpoint is not believed, or a key not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed checkpoint; the text says which part is not as it should be.
    #[error("read checkpoint: {part} is malformed")]
    Malformed {
        /// The first part found wanting.
        part: &'static str,
    },

    /// The checkpoint is of another log than the key.
    #[error("checkpoint is of log `{found}`, the key of `{expected}`")]
    Origin {
        /// Log named in the checkpoint.
        found: String,
        /// Log the key signs for.
        expected: String,
    },

    /// Nobody signed with the key: another log's checkpoint, or a changed signature line.
    #[error("checkpoint has no signature by `{name}`")]
    Unsigned {
        /// Name of the key.
        name: String,
    },

    /// The signature is not over this text.
    #[error("signature by `{name}` does not verify")]
    Signature {
        /// Name of the key.
        name: String,
    },

    /// Not a verifier key of the form `name+hash+base64`.
    #[error("read verifier key: {part} is malformed")]
    VerifierKey {
        /// The first part found wanting.
        part: &'static str,
    },

    /// The name may not be empty, longer than [`NAME_SIZE_MAX`], or hold spaces, controls or `+`.
    #[error("log name `{name}` is malformed")]
    Name {
        /// The name.
        name: String,
    },

    /// Neither an Ed25519 seed nor its PKCS#8 form. The bytes are not repeated here.
    #[error("read log signing key: not an Ed25519 private key")]
    SigningKey,

    /// The cryptographic library failed.
    #[error("sign checkpoint of size {size}")]
    Sign {
        /// Size in the checkpoint.
        size: u64,
    },
}

/// One state of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log, which is also the name of its key.
    pub origin: String,
    /// Number of entries, at most [`SIZE_MAX`].
    pub size: u64,
    /// Root of the tree over them.
    pub root: TreeHash,
}

/// A checkpoint that was believed, and who else claims to have signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the key signed.
    pub checkpoint: Checkpoint,
    /// Key names of the other signatures, which were not checked.
    pub unchecked: Vec<String>,
}

impl Checkpoint {
    /// Reads a signed checkpoint and checks the signature by `key`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] when the bytes are not of the strict form, or not signed by `key`.
    pub fn open(bytes: &[u8], key: &VerifierKey) -> Result<Opened, CheckpointError> {
        let note = Note::parse(bytes)?;
        let unchecked = note.check_signature(key)?;
        let checkpoint = Self::parse_text(note.text)?;
        if checkpoint.origin != key.name {
            let found = checkpoint.origin;
            return Err(CheckpointError::Origin {
                found,
                expected: key.name.clone(),
            });
        }
        Ok(Opened {
            checkpoint,
            unchecked,
        })
    }

    /// The text that is signed.
    fn to_text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            BASE64.encode(self.root.as_bytes())
        )
    }

    fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        let malformed = |part| CheckpointError::Malformed { part };
        let text = text
            .strip_suffix('\n')
            .ok_or(malformed("end of the text"))?;
        let mut lines = text.split('\n');
        let origin = lines
            .next()
            .filter(|name| is_name(name))
            .ok_or(malformed("origin"))?;
        let size = lines.next().and_then(parse_size).ok_or(malformed("size"))?;
        let root = lines
            .next()
            .and_then(|line| BASE64.decode(line).ok())
            .and_then(|bytes| TreeHash::from_slice(&bytes))
            .ok_or(malformed("root"))?;
        // Extension lines are signed, but mean nothing to us.
        if lines.any(str::is_empty) {
            return Err(malformed("extension line"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
        })
    }
}

/// The public key of a log, as auditors keep it.
///
/// Printed and parsed as the `vkey` of C2SP `signed-note`: `name+hash+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public_key: [u8; KEY_SIZE],
}

impl VerifierKey {
    /// Parses `name+hash+base64`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::VerifierKey`] for any other form, also when the hash is not that of the
    /// name and key.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let malformed = |part| CheckpointError::VerifierKey { part };
        // The key itself may hold further `+` signs.
        let mut parts = text.splitn(3, '+');
        let name = parts
            .next()
            .filter(|name| is_name(name))
            .ok_or(malformed("name"))?;
        let hash = parts.next().ok_or(malformed("hash"))?;
        let key = parts
            .next()
            .and_then(|key| BASE64.decode(key).ok())
            .ok_or(malformed("key"))?;
        let Some((&TYPE_ED25519, public_key)) = key.split_first() else {
            return Err(malformed("key type"));
        };
        let public_key = public_key.try_into().map_err(|_| malformed("key"))?;
        let key = Self {
            name: name.to_owned(),
            public_key,
        };
        if hash != hex::encode(key.id()) {
            return Err(malformed("hash"));
        }
        Ok(key)
    }

    /// Name of the key and of its log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 public key.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; KEY_SIZE] {
        &self.public_key
    }

    /// First four bytes of SHA-256(name || 0x0A || 0x01 || key): tells keys of one name apart.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let mut input = self.name.as_bytes().to_vec();
        input.extend_from_slice(&[b'\n', TYPE_ED25519]);
        input.extend_from_slice(&self.public_key);
        let hash = digest::digest(&SHA256, &input);
        hash.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[TYPE_ED25519][..], &self.public_key].concat();
        write!(
            formatter,
            "{}+{}+{}",
            self.name,
            hex::encode(self.id()),
            BASE64.encode(key)
        )
    }
}

/// The private key of a log. It cannot be printed, copied or exported; the cryptographic library
/// wipes it when it is dropped.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

/// Shows which key it is, never the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SigningKey")
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Takes a seed of [`KEY_SIZE`] random bytes, which is wiped here.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Name`] when `name` cannot name a log; [`CheckpointError::SigningKey`] when
    /// the library refuses the seed.
    pub fn from_seed(
        name: &str,
        seed: &Zeroizing<[u8; KEY_SIZE]>,
    ) -> Result<Self, CheckpointError> {
        Self::new(name, Ed25519KeyPair::from_seed_unchecked(seed.as_ref()))
    }

    /// Takes an Ed25519 private key in PKCS#8 (RFC 8410), with or without its public key.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Name`] when `name` cannot name a log; [`CheckpointError::SigningKey`] for
    /// any other bytes.
    pub fn from_pkcs8(name: &str, pkcs8: &Zeroizing<Vec<u8>>) -> Result<Self, CheckpointError> {
        Self::new(name, Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8))
    }

    fn new(
        name: &str,
        pair: Result<Ed25519KeyPair, aws_lc_rs::error::KeyRejected>,
    ) -> Result<Self, CheckpointError> {
        if !is_name(name) {
            return Err(CheckpointError::Name {
                name: name.to_owned(),
            });
        }
        // The library's reason is dropped on purpose: it describes private bytes.
        let pair = pair.map_err(|_| CheckpointError::SigningKey)?;
        let public_key = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| CheckpointError::SigningKey)?;
        Ok(Self {
            pair,
            verifier: VerifierKey {
                name: name.to_owned(),
                public_key,
            },
        })
    }

    /// The public key, to be given to auditors.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs the state of this key's log: the text of a complete signed checkpoint.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Sign`] when the library fails, or `size` is beyond [`SIZE_MAX`].
    pub fn sign(&self, size: u64, root: TreeHash) -> Result<String, CheckpointError> {
        if size > SIZE_MAX {
            return Err(CheckpointError::Sign { size });
        }
        let text = Checkpoint {
            origin: self.verifier.name.clone(),
            size,
            root,
        }
        .to_text();
        let signature = self
            .pair
            .try_sign(text.as_bytes())
            .map_err(|_| CheckpointError::Sign { size })?;
        let line = BASE64.encode([&self.verifier.id()[..], signature.as_ref()].concat());
        Ok(format!(
            "{text}\n{SIGNATURE_PREFIX}{} {line}\n",
            self.verifier.name
        ))
    }
}

/// A signed note, taken apart and not yet believed.
struct Note<'a> {
    /// What is signed, its line end included.
    text: &'a str,
    signatures: Vec<NoteSignature<'a>>,
}

struct NoteSignature<'a> {
    name: &'a str,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, CheckpointError> {
        let malformed = |part| CheckpointError::Malformed { part };
        if bytes.len() > CHECKPOINT_SIZE_MAX {
            return Err(malformed("length"));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| malformed("encoding"))?;
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(malformed("control character"));
        }
        // The last empty line ends the text: the text may hold empty lines, the signatures not.
        let (text, lines) = note
            .rsplit_once("\n\n")
            .ok_or(malformed("signature block"))?;
        let text = note.get(..=text.len()).unwrap_or_default();
        let lines = lines
            .strip_suffix('\n')
            .ok_or(malformed("end of the signature block"))?;
        let signatures: Vec<_> = lines
            .split('\n')
            .take(SIGNATURES_MAX + 1)
            .map(|line| NoteSignature::parse(line).ok_or(malformed("signature line")))
            .collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(malformed("number of signatures"));
        }
        Ok(Self { text, signatures })
    }

    /// Requires a signature by `key` and returns the key names of all other signatures.
    fn check_signature(&self, key: &VerifierKey) -> Result<Vec<String>, CheckpointError> {
        let id = key.id();
        let (ours, others): (Vec<_>, Vec<_>) = self
            .signatures
            .iter()
            .partition(|signature| signature.name == key.name && signature.key_id == id);
        if ours.is_empty() {
            return Err(CheckpointError::Unsigned {
                name: key.name.clone(),
            });
        }
        let public_key = UnparsedPublicKey::new(&ED25519, key.public_key);
        let genuine = |signature: &&NoteSignature<'_>| {
            signature.bytes.len() == SIGNATURE_SIZE
                && public_key
                    .verify(self.text.as_bytes(), &signature.bytes)
                    .is_ok()
        };
        if !ours.iter().all(genuine) {
            return Err(CheckpointError::Signature {
                name: key.name.clone(),
            });
        }
        Ok(others
            .into_iter()
            .map(|signature| signature.name.to_owned())
            .collect())
    }
}

impl<'a> NoteSignature<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        let decoded = BASE64.decode(encoded).ok()?;
        let (key_id, bytes) = decoded.split_first_chunk::<4>()?;
        let complete = is_name(name) && !bytes.is_empty();
        complete.then(|| Self {
            name,
            key_id: *key_id,
            bytes: bytes.to_vec(),
        })
    }
}

/// The rule of C2SP `signed-note` for key names, with a bound; we hold log names to it too.
fn is_name(name: &str) -> bool {
    let is_allowed =
        |character: char| !character.is_whitespace() && !character.is_control() && character != '+';
    (1..=NAME_SIZE_MAX).contains(&name.len()) && name.chars().all(is_allowed)
}

/// Decimal digits without a leading zero or sign, at most [`SIZE_MAX`].
fn parse_size(text: &str) -> Option<u64> {
    let shortest = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|size| shortest && digits && *size <= SIZE_MAX)
}

const _: () = assert!(HASH_SIZE == 32, "a root is 44 characters of base64");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::from_seed(name, &Zeroizing::new([seed; KEY_SIZE])).unwrap()
    }

    fn signed(size: u64) -> String {
        key("log.example/audit", 1)
            .sign(size, TreeHash::of_nothing())
            .unwrap()
    }

    fn open(note: &str) -> Result<Opened, CheckpointError> {
        Checkpoint::open(note.as_bytes(), key("log.example/audit", 1).verifier())
    }

    /// The key and note of the documentation of Go's `golang.org/x/mod/sumdb/note`.
    #[test]
    fn given_the_verifier_key_of_go_sumdb_note_then_its_hash_is_ours() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(VerifierKey::parse(text).unwrap().to_string(), text);

        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(
            note.check_signature(&VerifierKey::parse(text).unwrap()),
            Ok(vec![])
        );
    }

    #[test]
    fn given_a_signed_checkpoint_when_opened_then_it_is_what_was_signed() {
        let opened = open(&signed(42)).unwrap();
        assert_eq!(
            (opened.checkpoint.size, opened.checkpoint.root),
            (42, TreeHash::of_nothing())
        );
        assert_eq!(opened.checkpoint.origin, "log.example/audit");
        assert_eq!(opened.unchecked, Vec::<String>::new());
    }

    #[test]
    fn given_a_cosignature_by_an_unknown_key_when_opened_then_it_neither_helps_nor_harms() {
        let witness = format!(
            "{SIGNATURE_PREFIX}witness.example {}\n",
            BASE64.encode([9; 76])
        );
        let both = signed(3) + &witness;
        assert_eq!(open(&both).unwrap().unchecked, ["witness.example"]);

        let (text, _) = both.split_once("\n\n").unwrap();
        assert_eq!(
            open(&format!("{text}\n\n{witness}")),
            Err(CheckpointError::Unsigned {
                name: "log.example/audit".into()
            })
        );
    }

    #[test]
    fn given_a_good_and_a_bad_signature_by_our_key_when_opened_then_it_is_refused() {
        let (_, first) = signed(3)
            .rsplit_once("\n\n")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let note = signed(4) + &first;
        assert_eq!(
            open(&note),
            Err(CheckpointError::Signature {
                name: "log.example/audit".into()
            })
        );
    }

    #[test]
    fn given_the_same_key_under_another_log_name_when_opened_then_it_is_refused() {
        let other = key("log.example/other", 1)
            .sign(1, TreeHash::of_nothing())
            .unwrap();
        assert!(matches!(
            open(&other),
            Err(CheckpointError::Unsigned { .. })
        ));
        let text = "log.example/other\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        let ours = key("log.example/audit", 1);
        let signature = ours.pair.sign(text.as_bytes());
        let line = BASE64.encode([&ours.verifier.id()[..], signature.as_ref()].concat());
        assert!(matches!(
            open(&format!(
                "{text}\n{SIGNATURE_PREFIX}log.example/audit {line}\n"
            )),
            Err(CheckpointError::Origin { .. })
        ));
    }

    #[test]
    fn given_a_text_out_of_form_when_opened_then_the_part_is_named_even_if_signed() {
        let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let ours = key("log.example/audit", 1);
        for (text, part) in [
            (format!("log.example/audit\n01\n{root}\n"), "size"),
            (format!("log.example/audit\n+1\n{root}\n"), "size"),
            (format!("log.example/audit\n\n{root}\n"), "size"),
            (
                format!("log.example/audit\n9007199254740993\n{root}\n"),
                "size",
            ),
            (
                format!("log.example/audit\n1\n{}\n", root.replace('U', "V")),
                "root",
            ),
            (
                format!("log.example/audit\n1\n{}\n", root.trim_end_matches('=')),
                "root",
            ),
            ("log.example/audit\n1\n".to_owned(), "root"),
            (format!("log.example/ audit\n1\n{root}\n"), "origin"),
            (
                format!("log.example/audit\n1\n{root}\n\nextension\n"),
                "extension line",
            ),
        ] {
            let signature = ours.pair.sign(text.as_bytes());
            let line = BASE64.encode([&ours.verifier.id()[..], signature.as_ref()].concat());
            let note = format!("{text}\n{SIGNATURE_PREFIX}log.example/audit {line}\n");
            assert_eq!(
                open(&note),
                Err(CheckpointError::Malformed { part }),
                "{text}"
            );
        }
    }

    #[test]
    fn given_a_note_out_of_form_when_opened_then_the_part_is_named() {
        let good = signed(1);
        let many =
            good.clone() + &format!("{SIGNATURE_PREFIX}w {}\n", BASE64.encode([9; 76])).repeat(16);
        for (note, part) in [
            (good.trim_end().to_owned(), "end of the signature block"),
            (good.replacen('\n', "\r\n", 1), "control character"),
            (good.replace("\n\n", "\n"), "signature block"),
            (good.replace('\u{2014}', "-"), "signature line"),
            (good.clone() + "x\n", "signature line"),
            (good.clone() + "\n", "end of the signature block"),
            (good.clone() + &"x".repeat(CHECKPOINT_SIZE_MAX), "length"),
            (many, "number of signatures"),
            (String::new(), "signature block"),
        ] {
            assert_eq!(
                open(&note),
                Err(CheckpointError::Malformed { part }),
                "{note}"
            );
        }
    }

    #[test]
    fn given_a_verifier_key_out_of_form_when_parsed_then_the_part_is_named() {
        let good = key("log.example/audit", 1).verifier().to_string();
        let hash = hex::encode(key("log.example/audit", 1).verifier().id());
        for (text, part) in [
            (good.replace("log", "lag"), "hash"),
            (
                good.replace(&hash, &hash.to_uppercase().replace('0', "1")),
                "hash",
            ),
            (good.replace("+A", "+B"), "key type"),
            (good.clone() + "=", "key"),
            (format!("+{hash}+AA=="), "name"),
            ("name".to_owned(), "hash"),
        ] {
            assert_eq!(
                VerifierKey::parse(&text),
                Err(CheckpointError::VerifierKey { part }),
                "{text}"
            );
        }
    }

    #[test]
    fn given_a_signing_key_when_printed_for_debugging_then_only_the_public_part_shows() {
        let printed = format!("{:?}", key("log.example/audit", 0xab));
        assert!(printed.contains("log.example/audit"));
        assert!(!printed.contains("171, 171, 171, 171"), "{printed}");
    }

    #[test]
    fn given_pkcs8_of_the_seed_when_read_then_it_is_the_same_key() {
        // RFC 8410: the 16 bytes before the seed of an Ed25519 private key without public key.
        let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap();
        pkcs8.extend_from_slice(&[1; KEY_SIZE]);
        let read = SigningKey::from_pkcs8("log.example/audit", &Zeroizing::new(pkcs8)).unwrap();
        assert_eq!(read.verifier(), key("log.example/audit", 1).verifier());

        let refused = SigningKey::from_pkcs8("log.example/audit", &Zeroizing::new(vec![0; 48]));
        assert!(matches!(refused, Err(CheckpointError::SigningKey)));
        let unnamed = SigningKey::from_seed("two words", &Zeroizing::new([1; KEY_SIZE]));
        assert!(matches!(unnamed, Err(CheckpointError::Name { .. })));
    }

    proptest! {
        #[test]
        fn any_changed_byte_of_a_signed_checkpoint_is_noticed(
            position in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut note = signed(123_456).into_bytes();
            let position = position.index(note.len());
            prop_assume!(note[position] != byte);
            note[position] = byte;
            let key = key("log.example/audit", 1);
            prop_assert!(Checkpoint::open(&note, key.verifier()).is_err());
        }

        #[test]
        fn any_bytes_are_opened_or_refused_without_a_panic(note in "\\PC{0,40}(\n{1,2}[\u{2014} a+=]{0,9}){0,4}\n?") {
            prop_assert!(open(&note).is_err());
        }
    }
}
