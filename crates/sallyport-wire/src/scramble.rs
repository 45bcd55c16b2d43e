//! Proofs that somebody knows a password, as MySQL and MariaDB ask for them: pure.
//!
//! Followed: the pages on `mysql_native_password` and `caching_sha2_password` in MySQL's source documentation.
//!
//! Not here: whether a proof may be given on this connection.

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use zeroize::Zeroizing;

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut context = Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    Zeroizing::new(context.finish().as_ref().to_vec())
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(a, b)| a ^ b).collect()
}

/// `mysql_native_password`: SHA1(password) XOR SHA1(challenge, SHA1(SHA1(password))).
#[must_use]
pub fn native(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let algorithm = &SHA1_FOR_LEGACY_USE_ONLY;
    let once = hash(algorithm, &[password]);
    let twice = hash(algorithm, &[&once]);
    xor(&once, &hash(algorithm, &[challenge, &twice]))
}

/// `caching_sha2_password`: SHA256(password) XOR SHA256(SHA256(SHA256(password)), challenge).
#[must_use]
pub fn caching_sha2(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let once = hash(&SHA256, &[password]);
    let twice = hash(&SHA256, &[&once]);
    xor(&once, &hash(&SHA256, &[&twice, challenge]))
}

/// What a server stores for `mysql_native_password`, in the form in which it also takes it instead of a
/// password: `*` and SHA1(SHA1(password)) in hexadecimal.
#[must_use]
pub fn native_verifier(password: &[u8]) -> String {
    let algorithm = &SHA1_FOR_LEGACY_USE_ONLY;
    let twice = hash(algorithm, &[&hash(algorithm, &[password])]);
    twice
        .iter()
        .fold("*".to_owned(), |text, byte| format!("{text}{byte:02X}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `SELECT PASSWORD('mypass')` answers in MySQL's manual.
    #[test]
    fn given_a_password_then_its_verifier_is_what_a_server_would_store() {
        let known = "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4";
        assert_eq!(native_verifier(b"mypass"), known);
    }

    /// What a server checks: it keeps the password hashed twice, and finds it hashed once in the proof.
    #[test]
    fn given_a_proof_then_a_server_that_keeps_the_password_hashed_twice_can_check_it() {
        let (password, challenge) = (b"correct horse", b"01234567890123456789");
        for (algorithm, proof, first) in [
            (
                &SHA1_FOR_LEGACY_USE_ONLY,
                native(password, challenge),
                false,
            ),
            (&SHA256, caching_sha2(password, challenge), true),
        ] {
            let kept = hash(algorithm, &[&hash(algorithm, &[password])]);
            let mask = match first {
                true => hash(algorithm, &[&kept, challenge]),
                false => hash(algorithm, &[challenge, &kept]),
            };
            let once = xor(&proof, &mask);
            assert_eq!(hash(algorithm, &[&once]), kept);
        }
    }
}
