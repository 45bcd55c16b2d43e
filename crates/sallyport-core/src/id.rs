//! Typed identifiers, printed with a prefix that says what they name (`ses_…`, `grt_…`).
//!
//! The body is 26 characters of Crockford base 32: 48 bits of milliseconds, then 80 random bits, so
//! ids sort by creation and cannot be guessed. Time and randomness are arguments.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Timestamp;

/// Ten random bytes, drawn by the shell that makes an id.
pub type IdEntropy = [u8; 10];

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BODY_CHARS: usize = 26;

fn encode(at: Timestamp, entropy: IdEntropy) -> String {
    let mut value: u128 = u128::from(at.unix_ms().unsigned_abs() & 0xffff_ffff_ffff);
    for byte in entropy {
        value = (value << 8) | u128::from(byte);
    }
    let mut body = String::with_capacity(BODY_CHARS);
    for position in (0..BODY_CHARS).rev() {
        let digit = usize::try_from((value >> (position * 5)) & 0x1f).unwrap_or(0);
        body.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'0')));
    }
    body
}

/// Why a text is not an id of the expected kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a {noun} id; one looks like `{prefix}_01kb2v…` (26 characters after the underscore)"
)]
pub struct ParseIdError {
    text: String,
    noun: &'static str,
    prefix: &'static str,
}

fn parse(text: &str, prefix: &'static str, noun: &'static str) -> Result<String, ParseIdError> {
    let refuse = || ParseIdError {
        text: text.chars().take(64).collect(),
        noun,
        prefix,
    };
    let body = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .ok_or_else(refuse)?;
    if body.len() == BODY_CHARS && body.bytes().all(|byte| ALPHABET.contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(refuse())
    }
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Makes a new id from the time and fresh randomness.
            #[must_use]
            pub fn new(at: Timestamp, entropy: IdEntropy) -> Self {
                Self(format!(concat!($prefix, "_{}"), encode(at, entropy)))
            }

            /// The id as it is printed, prefix included.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text, $prefix, $noun).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

typed_id!(/// A person.
    PersonId, "per", "person");
typed_id!(/// A group of people.
    GroupId, "grp", "group");
typed_id!(/// A registered SSH key.
    KeyId, "key", "SSH key");
typed_id!(/// An API token.
    ApiTokenId, "tok", "API token");
typed_id!(/// One proof of who somebody is, made at sign-in; short-lived.
    AuthenticationId, "aun", "authentication");
typed_id!(/// A target.
    TargetId, "tgt", "target");
typed_id!(/// An account on a target.
    AccountId, "acc", "account");
typed_id!(/// An access request.
    RequestId, "req", "request");
typed_id!(/// A grant.
    GrantId, "grt", "grant");
typed_id!(/// A signed proof of one decision.
    PermitId, "pmt", "permit");
typed_id!(/// A credential with a lifetime.
    LeaseId, "lea", "lease");
typed_id!(/// One proxied connection.
    SessionId, "ses", "session");
typed_id!(/// One command, file transfer or channel within a session.
    OperationId, "opn", "operation");
typed_id!(/// What passed in a session.
    RecordingId, "rec", "recording");
typed_id!(/// A stop on a person, account, target or everything.
    LockId, "lck", "lock");
typed_id!(/// The mandatory look after break-glass.
    ReviewId, "rev", "review");
typed_id!(/// One joining of a live session by somebody else.
    WatcherId, "wat", "watcher");
typed_id!(/// A gateway process.
    GatewayId, "gwy", "gateway");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_creation_and_parse_back() {
        let early = SessionId::new(Timestamp::from_unix_ms(1_000), [0xff; 10]);
        let late = SessionId::new(Timestamp::from_unix_ms(1_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.as_str().parse(), Ok(early.clone()));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let grant = GrantId::new(Timestamp::EPOCH, [7; 10]);
        assert!(grant.as_str().parse::<SessionId>().is_err());
        assert!("ses_short".parse::<SessionId>().is_err());
        assert!(format!("{}x", grant.as_str()).parse::<GrantId>().is_err());
    }
}
