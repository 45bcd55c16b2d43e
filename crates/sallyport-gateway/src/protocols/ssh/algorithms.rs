//! The algorithms offered and accepted, towards clients and targets alike.
//!
//! INVARIANT: nothing here is weak by today's measure: no SHA-1, no CBC, no MAC that is not
//! encrypt-then-MAC, no key exchange without forward secrecy, no DSA, no RSA below 3072 bits.
//!
//! Not here: which keys belong to whom (`sallyport-control`).

use std::borrow::Cow;

use russh::{
    Preferred, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey},
    mac,
};

use crate::config::SshKeyExchange;

/// Key exchange, most preferred first: hybrid post-quantum, then X25519 by both of its names.
const KEY_EXCHANGE: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
];

/// Named among the key exchanges, these switch on strict key exchange (the answer to Terrapin,
/// CVE-2023-48795) and extension negotiation (RFC 8308).
const EXTENSIONS: &[kex::Name] = &[
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Authenticated ciphers only. AES first: with hardware support it costs a third of `ChaCha20`.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
];

/// Never used with the ciphers above, but a name must be agreed on.
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// What a target's host key may be, most preferred first.
const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];

/// Sizes of RSA keys in bits; above, checking one signature is an attack by itself.
const RSA_BITS: std::ops::RangeInclusive<u32> = 3_072..=8_192;

fn preferred(choice: SshKeyExchange, keys: Cow<'static, [Algorithm]>) -> Preferred {
    let exchanges = match choice {
        SshKeyExchange::Compatible => KEY_EXCHANGE,
        SshKeyExchange::PostQuantum => &[kex::MLKEM768X25519_SHA256],
    };
    Preferred {
        kex: [exchanges, EXTENSIONS].concat().into(),
        key: keys,
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// Towards clients. The gateway shows the one host key it has, which is Ed25519; the other names tell
/// clients what they may sign with (`server-sig-algs`, RFC 8308 section 3.1).
pub(super) fn towards_clients(choice: SshKeyExchange) -> Preferred {
    preferred(
        choice,
        HOST_KEYS
            .iter()
            .cloned()
            .chain([Algorithm::SkEd25519, Algorithm::SkEcdsaSha2NistP256])
            .collect(),
    )
}

/// Towards a target whose accepted host keys are `pinned`: it must show one of those, so no other
/// kind is asked for. Without any, every kind that is strong enough.
pub(super) fn towards_target(pinned: &[PublicKey]) -> Preferred {
    let choice = SshKeyExchange::Compatible;
    if pinned.is_empty() {
        return preferred(choice, Cow::Borrowed(HOST_KEYS));
    }
    let is_pinned = |algorithm: &&Algorithm| {
        pinned.iter().any(|key| match (key.algorithm(), algorithm) {
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
            (pinned, algorithm) => pinned == **algorithm,
        })
    };
    preferred(
        choice,
        HOST_KEYS.iter().filter(is_pinned).cloned().collect(),
    )
}

/// Whether `key`, signing with `algorithm`, may prove a person. A function of the key alone, never of
/// whether it is known: the answer to an offer must tell nothing (security class A7).
pub(super) fn accepts_user_key(key: &PublicKey, algorithm: &Algorithm) -> bool {
    match algorithm {
        Algorithm::Ed25519
        | Algorithm::Ecdsa { .. }
        | Algorithm::SkEd25519
        | Algorithm::SkEcdsaSha2NistP256 => true,
        Algorithm::Rsa { hash: Some(_) } => key
            .key_data()
            .rsa()
            .is_some_and(|rsa| RSA_BITS.contains(&rsa.key_size())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `ssh-keygen -t rsa -b 2048` and `ssh-keygen -t ed25519`, public halves.
    const RSA_2048: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDTB9PxaD8U9dzmW4ORBfTJEpI9rV8BIWYLw4Vnh1eo/Zpf8Vo1ZwSP2XFCIeFXKoCpMb9Qj1MFkMfdyCWrjbYzGAQrZJ7cZ8nqXJc7ZIfFYhyNEuZLRB5PGVWB0yRCfSsO9nTt1bXvfr7UsbvMSCr1CzYJqVxUAoQ8KHNqdL8bkLwJNGf4sZWXRe2GFAFJKXOjxVShPV5sPjzKqdQaO8B8rbuqXoJ+9l3jTN2Sh5GyJn8LoQmXgL7k8C0lIWVGCx4cMJGMjzJvnQ0jlnxBKEV/8w0nFd8jtP/RZsuHGzkKT1KMLkqSKTsI3bUOZjNgk4CxNfYjoUkM7vv/oOZBdBtl";
    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGz6fh1D4lqHm5YxgVv0W0ZV8nXcS3Zr6W3o4fJ4cQ2t";

    #[test]
    fn short_rsa_keys_and_sha_1_prove_nobody() {
        let rsa = PublicKey::from_openssh(RSA_2048).unwrap();
        for hash in [None, Some(HashAlg::Sha256), Some(HashAlg::Sha512)] {
            assert!(!accepts_user_key(&rsa, &Algorithm::Rsa { hash }));
        }
        let ed25519 = PublicKey::from_openssh(ED25519).unwrap();
        assert!(accepts_user_key(&ed25519, &Algorithm::Ed25519));
        assert!(!accepts_user_key(&ed25519, &Algorithm::Dsa));
    }

    #[test]
    fn a_target_is_asked_for_the_kind_of_key_that_is_pinned() {
        let pinned = [PublicKey::from_openssh(RSA_2048).unwrap()];
        let asked: Vec<_> = towards_target(&pinned).key.iter().cloned().collect();
        assert!(!asked.is_empty());
        assert!(
            asked
                .iter()
                .all(|algorithm| matches!(algorithm, Algorithm::Rsa { hash: Some(_) }))
        );
        assert_eq!(towards_target(&[]).key.len(), HOST_KEYS.len());
    }
}
