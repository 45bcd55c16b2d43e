//! By what a target is recognised, in its protocol's own text form, each in one canonical spelling.
//!
//! INVARIANT: what is stored here is what a gateway compares with, so two spellings of one identity are
//! one here; that a target needs no proof of its identity is never learnt from the target.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// Reads an identity; nothing when the text is none.
type Read = fn(&str) -> Option<String>;

/// SHA-256, in hex.
const FINGERPRINT_CHARS: usize = 64;
/// Longest certificate of an authority, in bytes.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// What reads identities of targets of this protocol; nothing when no gateway speaks it.
pub(super) fn reader(protocol: &str) -> Option<Read> {
    match protocol {
        "ssh" => Some(ssh_key),
        "mysql" | "postgres" => Some(tls_identity),
        _ => None,
    }
}

/// What an identity looks like, for whoever wrote something else.
pub(super) fn form(protocol: &str) -> &'static str {
    match protocol {
        "mysql" | "postgres" => {
            "each is the certificate of an authority (PEM), `key-sha256:` and the hash of the server's public \
             key in hex, or `plaintext` where the server speaks no TLS"
        }
        _ => {
            "each is one line of the target's /etc/ssh/ssh_host_*_key.pub, such as `ssh-ed25519 AAAA…`"
        }
    }
}

/// Reads what a gateway saw of a target, to be pinned.
pub(super) fn pinned(protocol: &str, seen: &str) -> Option<String> {
    let identity = reader(protocol)?(seen)?;
    // Only an owner says that a target needs no proof, or whom to believe about it.
    let is_its_own = protocol == "ssh" || identity.starts_with("key-sha256:");
    is_its_own.then_some(identity)
}

/// A host key as `algorithm base64`, without options or comment.
fn ssh_key(text: &str) -> Option<String> {
    let key = russh::keys::ssh_key::PublicKey::from_openssh(text.trim()).ok()?;
    let line = key.to_openssh().ok()?;
    let mut words = line.split_ascii_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// `ca ` and the base64 of a certificate, `key-sha256:` and 64 hex digits, or `plaintext`.
fn tls_identity(text: &str) -> Option<String> {
    let text = text.trim();
    if text == "plaintext" {
        return Some(text.to_owned());
    }
    if let Some(fingerprint) = text.strip_prefix("key-sha256:") {
        let is_hash = fingerprint.len() == FINGERPRINT_CHARS
            && fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
        return is_hash.then(|| format!("key-sha256:{}", fingerprint.to_ascii_lowercase()));
    }
    let certificate = match text.strip_prefix("ca ") {
        Some(base64) => CertificateDer::from(STANDARD.decode(base64.trim()).ok()?),
        None => CertificateDer::from_pem_slice(text.as_bytes()).ok()?,
    };
    let is_certificate = certificate.len() <= CERTIFICATE_BYTES_MAX
        && rustls::server::ParsedCertificate::try_from(&certificate).is_ok();
    is_certificate.then(|| format!("ca {}", STANDARD.encode(&certificate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GW-2
    #[test]
    fn given_a_database_then_its_identity_has_one_spelling_and_a_gateway_pins_only_keys() {
        let key = format!("key-sha256:{}", "aB".repeat(32));
        let read = reader("postgres").unwrap();
        assert_eq!(reader("mysql").unwrap()(&key), read(&key));
        assert_eq!(pinned("mysql", "plaintext"), None);
        assert_eq!(read(&key), Some(format!("key-sha256:{}", "ab".repeat(32))));
        assert_eq!(pinned("postgres", &key), read(&key));
        assert_eq!(read(" plaintext "), Some("plaintext".to_owned()));
        assert_eq!(pinned("postgres", "plaintext"), None);
        for text in [
            "",
            "key-sha256:",
            "key-sha256:zz",
            "ca ",
            "ca AAAA",
            "PLAINTEXT",
            "ssh-ed25519 AAAA",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    /// GW-2
    #[test]
    fn given_an_authority_as_pem_then_it_is_kept_as_one_line_that_reads_the_same() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["db-1".to_owned()]).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let read = reader("postgres").unwrap();
        let line = read(&pem).unwrap();
        assert!(line.starts_with("ca ") && !line.contains('\n'), "{line}");
        assert_eq!(read(&line), Some(line.clone()));
        assert_eq!(pinned("postgres", &line), None);
    }
}
