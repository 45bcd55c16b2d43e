//! SCRAM-SHA-256 as a client (RFC 5802, RFC 7677), with or without channel binding to the server's
//! certificate (RFC 5929, `tls-server-end-point`). Pure but for the nonce, which is given.
//!
//! INVARIANT: the rounds of hashing a server may ask for are bounded (security class G9); nobody is logged
//! in who did not prove that they know the password too.
//!
//! Passwords are used as they are: those outside ASCII must be stored in their normal form.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Most rounds a server may have a password hashed.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// With channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// Without.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// Longest message of a server.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Why the exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The server's message is none, or does not answer ours.
    #[error("read the server's message of the SCRAM exchange")]
    Message,
    /// It asks for more rounds of hashing than anybody should.
    #[error("hash a password {asked} times: at most {ITERATIONS_MAX} are done")]
    Iterations {
        /// Rounds asked for.
        asked: u32,
    },
    /// It does not know the password itself.
    #[error("believe a server that does not know the password")]
    Imposter,
    /// It says that the password is wrong.
    #[error("log in with a password that the server refuses")]
    Refused,
}

/// What the exchange is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// To the server's certificate, by this hash.
    EndPoint(Vec<u8>),
    /// To nothing, though we could: the server did not offer it.
    NotOffered,
    /// To nothing: there is nothing to bind to.
    Impossible,
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::EndPoint(_) => "p=tls-server-end-point,,",
            Self::NotOffered => "y,,",
            Self::Impossible => "n,,",
        }
    }

    fn mechanism(&self) -> &'static str {
        match self {
            Self::EndPoint(_) => MECHANISM_PLUS,
            Self::NotOffered | Self::Impossible => MECHANISM,
        }
    }
}

/// An exchange that has begun.
#[derive(Debug)]
pub struct Exchange {
    binding: Binding,
    client_nonce: String,
}

/// An exchange that waits for the server's proof.
#[derive(Debug)]
pub struct Unproven {
    server_signature: Vec<u8>,
}

impl Exchange {
    /// Begins; `nonce` is fresh randomness.
    #[must_use]
    pub fn new(binding: Binding, nonce: &[u8]) -> Self {
        Self {
            binding,
            client_nonce: STANDARD.encode(nonce),
        }
    }

    /// The mechanism to name.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        self.binding.mechanism()
    }

    /// The first message. The name in it is not used: the startup message has it.
    #[must_use]
    pub fn first(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.client_nonce)
    }

    /// Reads what the server asks for.
    ///
    /// # Errors
    /// [`ScramError::Message`], [`ScramError::Iterations`].
    pub fn challenge(&self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let text = text(server_first)?;
        let mut fields = text.split(',');
        let nonce = field(fields.next(), "r=")?;
        let salt = field(fields.next(), "s=")?;
        let iterations = field(fields.next(), "i=")?;
        let is_ours = nonce
            .strip_prefix(&self.client_nonce)
            .is_some_and(|rest| !rest.is_empty());
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Message)?;
        let is_number = iterations.bytes().all(|b| b.is_ascii_digit());
        if !is_ours || salt.is_empty() || !is_number || fields.next().is_some() {
            return Err(ScramError::Message);
        }
        let asked: u32 = iterations.parse().unwrap_or(u32::MAX);
        if asked > ITERATIONS_MAX {
            return Err(ScramError::Iterations { asked });
        }
        Ok(Challenge {
            iterations: NonZeroU32::new(asked).ok_or(ScramError::Message)?,
            salt,
            nonce: nonce.to_owned(),
            server_first: text.to_owned(),
        })
    }

    /// The final message, from the hashed password.
    #[must_use]
    pub fn answer(&self, challenge: &Challenge, salted: &Salted) -> (String, Unproven) {
        let client_key = mac(&salted.0[..], b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let mut bound = self.binding.header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = &self.binding {
            bound.extend(hash);
        }
        let without_proof = format!("c={},r={}", STANDARD.encode(bound), challenge.nonce);
        let signed = format!("{},{},{without_proof}", self.bare(), challenge.server_first);
        let signature = mac(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(key, mask)| key ^ mask)
            .collect();
        let server_key = mac(&salted.0[..], b"Server Key");
        let expected = mac(server_key.as_ref(), signed.as_bytes());
        (
            format!("{without_proof},p={}", STANDARD.encode(proof)),
            Unproven {
                server_signature: expected.as_ref().to_vec(),
            },
        )
    }
}

/// Rounds of hashing for a verifier made here: PostgreSQL's own number. The passwords hashed are random.
const VERIFIER_ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4_095);
/// Bytes of a verifier's salt.
pub const SALT_BYTES: usize = 16;

/// What PostgreSQL stores instead of a password, in the form in which it also takes it: so the password
/// itself is in no statement. `salt` is fresh randomness.
#[must_use]
pub fn verifier(password: &str, salt: &[u8; SALT_BYTES]) -> String {
    let mut salted = Zeroizing::new([0_u8; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        VERIFIER_ITERATIONS,
        salt,
        password.as_bytes(),
        salted.as_mut(),
    );
    let client_key = mac(&salted[..], b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = mac(&salted[..], b"Server Key");
    format!(
        "SCRAM-SHA-256${VERIFIER_ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    )
}

/// What a server asks for.
#[derive(Debug)]
pub struct Challenge {
    /// Rounds of hashing.
    pub iterations: NonZeroU32,
    salt: Vec<u8>,
    nonce: String,
    server_first: String,
}

/// A hashed password.
#[allow(missing_debug_implementations, reason = "it holds a secret")]
pub struct Salted(Zeroizing<[u8; 32]>);

impl Challenge {
    /// Hashes a password as the server asks. Takes its time.
    #[must_use]
    pub fn hash(&self, password: &str) -> Salted {
        let mut out = Zeroizing::new([0_u8; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            self.iterations,
            &self.salt,
            password.as_bytes(),
            out.as_mut(),
        );
        Salted(out)
    }
}

impl Unproven {
    /// Checks that the server knows the password too.
    ///
    /// # Errors
    /// [`ScramError`].
    pub fn check(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = text(server_final)?;
        if text.starts_with("e=") {
            return Err(ScramError::Refused);
        }
        let signature = field(text.split(',').next(), "v=")?;
        let signature = STANDARD
            .decode(signature)
            .map_err(|_| ScramError::Message)?;
        constant_time::verify_slices_are_equal(&signature, &self.server_signature)
            .map_err(|_| ScramError::Imposter)
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::Message);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Message)
}

fn field<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    field
        .and_then(|field| field.strip_prefix(name))
        .ok_or(ScramError::Message)
}

fn mac(key: &[u8], bytes: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exchange() -> Exchange {
        // The nonce of the example in RFC 7677, whose base64 it is.
        Exchange {
            binding: Binding::Impossible,
            client_nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
        }
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// GW-2: against the example of RFC 7677 but for the name, which PostgreSQL leaves empty; the proof was
    /// computed by an independent implementation.
    #[test]
    fn given_the_servers_own_key_then_it_is_believed_and_nobody_else() {
        let exchange = exchange();
        assert_eq!(exchange.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = exchange.challenge(SERVER_FIRST.as_bytes()).unwrap();
        let salted = challenge.hash("pencil");
        let (last, unproven) = exchange.answer(&challenge, &salted);
        assert!(last.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="));
        let right = format!("v={}", STANDARD.encode(&unproven.server_signature));
        assert_eq!(unproven.check(right.as_bytes()), Ok(()));
        let wrong = format!("v={}", STANDARD.encode([0; 32]));
        assert_eq!(unproven.check(wrong.as_bytes()), Err(ScramError::Imposter));
        assert_eq!(unproven.check(b"e=invalid-proof"), Err(ScramError::Refused));
        assert_eq!(unproven.check(b"v="), Err(ScramError::Imposter));
    }

    /// G9
    #[test]
    fn given_a_server_that_asks_for_too_much_or_nonsense_then_nothing_is_hashed() {
        let exchange = exchange();
        let with = |tail: &str| {
            let text = format!("r=rOprNGfwEbeRWgbNEkqOx,{tail}");
            exchange.challenge(text.as_bytes()).err()
        };
        assert_eq!(with("s=AAAA,i=1000000"), None);
        for asked in [1_000_001, u32::MAX] {
            let refused = Some(ScramError::Iterations { asked });
            assert_eq!(with(&format!("s=AAAA,i={asked}")), refused);
        }
        for tail in [
            "s=AAAA,i=0",
            "s=AAAA,i=-1",
            "s=AAAA,i=+1",
            "s=,i=4096",
            "s=!,i=4096",
            "i=4096,s=AAAA",
            "s=AAAA,i=4096,m=x",
            "s=AAAA",
        ] {
            assert_eq!(with(tail), Some(ScramError::Message), "{tail}");
        }
        // A nonce that is not ours, or nothing but ours.
        for nonce in ["", "other", "rOprNGfwEbeRWgbNEkqO"] {
            let text = format!("r={nonce},s=AAAA,i=4096");
            assert!(exchange.challenge(text.as_bytes()).is_err(), "{nonce}");
        }
    }

    /// GW-2
    #[test]
    fn given_a_certificate_then_the_answer_is_bound_to_it() {
        let bound = |hash: &[u8]| Exchange::new(Binding::EndPoint(hash.to_vec()), &[1; 18]);
        let exchange = bound(&[7; 32]);
        assert_eq!(exchange.mechanism(), MECHANISM_PLUS);
        assert!(
            exchange
                .first()
                .starts_with("p=tls-server-end-point,,n=,r=")
        );
        let first = format!("r={}x,s=AAAA,i=1", STANDARD.encode([1; 18]));
        let challenge = exchange.challenge(first.as_bytes()).unwrap();
        let salted = challenge.hash("pencil");
        let (here, _) = exchange.answer(&challenge, &salted);
        let (elsewhere, _) = bound(&[8; 32]).answer(&challenge, &salted);
        assert_ne!(here, elsewhere);
    }

    /// VA-3: the verifier of the example of RFC 7677, as PostgreSQL computes it.
    #[test]
    fn given_a_password_then_its_verifier_is_what_a_server_would_store() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salt: [u8; SALT_BYTES] = salt.try_into().unwrap();
        assert_eq!(
            verifier("pencil", &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    proptest! {
        /// G9
        #[test]
        fn reading_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = exchange().challenge(&bytes);
            let _ = Unproven { server_signature: vec![1; 32] }.check(&bytes);
        }
    }
}
