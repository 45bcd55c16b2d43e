//! Packets of logging in, from both sides: what a server greets with, what a client answers, and what each
//! can do.
//!
//! INVARIANT: what is offered to clients is what is followed here; a capability that is not offered is not
//! used, whatever a client claims.
//!
//! Not here: proofs of who somebody is (`handshake`, `upstream`).

use bytes::{BufMut as _, BytesMut};

use super::codec::{Body, CodecError, put_packet, put_string, put_text};

/// Bytes of the random challenge in a greeting.
pub(super) const CHALLENGE_BYTES: usize = 20;
/// The version that clients read. They ask `SELECT VERSION()` for the target's own.
const SERVER_VERSION: &str = "8.0.11-sallyport";
/// The set of characters of a greeting: `utf8mb4_general_ci`.
pub(super) const UTF8MB4: u8 = 45;
/// Most attributes that a client tells of itself.
const ATTRIBUTES_MAX: usize = 64;

/// What a client or a server can do, as bits.
pub(super) mod capability {
    /// A MySQL server or client; without it MariaDB's own bits mean something.
    pub(in super::super) const MYSQL: u32 = 1;
    pub(in super::super) const FOUND_ROWS: u32 = 1 << 1;
    pub(in super::super) const LONG_FLAG: u32 = 1 << 2;
    pub(in super::super) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(in super::super) const ODBC: u32 = 1 << 6;
    pub(in super::super) const LOCAL_FILES: u32 = 1 << 7;
    pub(in super::super) const IGNORE_SPACE: u32 = 1 << 8;
    pub(in super::super) const PROTOCOL_41: u32 = 1 << 9;
    pub(in super::super) const INTERACTIVE: u32 = 1 << 10;
    pub(in super::super) const TLS: u32 = 1 << 11;
    pub(in super::super) const TRANSACTIONS: u32 = 1 << 13;
    pub(in super::super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(in super::super) const MULTI_STATEMENTS: u32 = 1 << 16;
    pub(in super::super) const MULTI_RESULTS: u32 = 1 << 17;
    pub(in super::super) const PS_MULTI_RESULTS: u32 = 1 << 18;
    pub(in super::super) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(in super::super) const CONNECT_ATTRIBUTES: u32 = 1 << 20;
    pub(in super::super) const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    pub(in super::super) const SESSION_TRACK: u32 = 1 << 23;
    pub(in super::super) const DEPRECATE_EOF: u32 = 1 << 24;

    /// What a client may have the target do for it.
    pub(in super::super) const PASSED_ON: u32 = FOUND_ROWS
        | LONG_FLAG
        | LOCAL_FILES
        | IGNORE_SPACE
        | INTERACTIVE
        | TRANSACTIONS
        | MULTI_STATEMENTS
        | MULTI_RESULTS
        | PS_MULTI_RESULTS
        | SESSION_TRACK
        | DEPRECATE_EOF;
    /// What is offered to clients.
    pub(in super::super) const OFFERED: u32 = PASSED_ON
        | MYSQL
        | CONNECT_WITH_DB
        | ODBC
        | PROTOCOL_41
        | TLS
        | SECURE_CONNECTION
        | PLUGIN_AUTH
        | CONNECT_ATTRIBUTES
        | PLUGIN_AUTH_LENENC;
    /// Without these nobody is talked to.
    pub(in super::super) const NEEDED_OF_CLIENTS: u32 =
        PROTOCOL_41 | TLS | SECURE_CONNECTION | PLUGIN_AUTH;
    /// Without these a target is not used: MySQL has them all since 5.7.5, MariaDB since 10.2.
    pub(in super::super) const NEEDED_OF_TARGETS: u32 =
        PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | SESSION_TRACK | DEPRECATE_EOF;
}

/// What a server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) version: String,
    /// The server's number of this connection.
    pub(super) connection: u32,
    pub(super) challenge: Vec<u8>,
    pub(super) capabilities: u32,
    /// How it would like passwords to be proven.
    pub(super) plugin: String,
}

impl Greeting {
    /// Appends the greeting of the gateway.
    pub(super) fn put(
        connection: u32,
        challenge: &[u8; CHALLENGE_BYTES],
        plugin: &str,
        out: &mut BytesMut,
    ) -> Result<(), CodecError> {
        const AUTOCOMMIT: u16 = 0x0002;
        let (first, second) = challenge.split_at(8);
        let [a, b, c, d] = capability::OFFERED.to_le_bytes();
        put_packet(out, 0, |body| {
            body.put_u8(10);
            put_text(body, SERVER_VERSION);
            body.put_u32_le(connection);
            body.put_slice(first);
            body.put_slice(&[0, a, b, UTF8MB4]);
            body.put_u16_le(AUTOCOMMIT);
            body.put_slice(&[c, d, 21]);
            body.put_bytes(0, 10);
            body.put_slice(second);
            body.put_u8(0);
            put_text(body, plugin);
        })
    }

    /// Reads the payload of a server's greeting.
    pub(super) fn read(payload: &[u8]) -> Result<Self, CodecError> {
        let mut body = Body::new(payload);
        if body.byte()? != 10 {
            return Err(CodecError::Body);
        }
        let version = String::from_utf8_lossy(body.text()?).into_owned();
        let connection = body.u32()?;
        let mut challenge = body.take(8)?.to_vec();
        body.byte()?;
        let low = body.u16()?;
        body.byte()?;
        body.u16()?;
        let high = body.u16()?;
        let capabilities = u32::from(low) | (u32::from(high) << 16);
        let challenge_bytes = usize::from(body.byte()?);
        body.take(10)?;
        if capabilities & capability::SECURE_CONNECTION != 0 {
            let rest = challenge_bytes.saturating_sub(8).max(13);
            let rest = body.take(rest)?;
            challenge.extend(rest.iter().take_while(|byte| **byte != 0));
        }
        let mut plugin = String::new();
        if capabilities & capability::PLUGIN_AUTH != 0 {
            // Some servers end it with the packet instead of a zero byte.
            let name = body.text().unwrap_or(body.rest());
            plugin = String::from_utf8_lossy(name).into_owned();
        }
        Ok(Self {
            version,
            connection,
            challenge,
            capabilities,
            plugin,
        })
    }

    /// Whether the server is a MariaDB.
    pub(super) fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }
}

/// What a client answers to a greeting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// What it can do, as far as that was offered.
    pub(super) capabilities: u32,
    /// Its set of characters, as a collation's number.
    pub(super) collation: u8,
    pub(super) user: String,
    /// What it proves itself by, in the way of `plugin`.
    pub(super) proof: Vec<u8>,
    pub(super) database: Option<String>,
    pub(super) plugin: String,
    /// What it tells of itself, in its order.
    pub(super) attributes: Vec<(String, String)>,
}

/// Reads the beginning that a request for TLS and an answer share: what the client can do, and its set of
/// characters.
fn read_beginning(body: &mut Body<'_>) -> Result<(u32, u8), CodecError> {
    let capabilities = body.u32()?;
    if capabilities & capability::PROTOCOL_41 == 0 {
        return Err(CodecError::Body);
    }
    body.u32()?;
    let collation = body.byte()?;
    body.take(23)?;
    Ok((capabilities, collation))
}

/// Whether the payload asks to begin TLS.
pub(super) fn asks_for_tls(payload: &[u8]) -> bool {
    let mut body = Body::new(payload);
    let beginning = read_beginning(&mut body);
    body.is_empty() && beginning.is_ok_and(|(known, _)| known & capability::TLS != 0)
}

impl Answer {
    /// Reads the payload of a client's answer.
    pub(super) fn read(payload: &[u8]) -> Result<Self, CodecError> {
        let mut body = Body::new(payload);
        let (claimed, collation) = read_beginning(&mut body)?;
        let capabilities = claimed & capability::OFFERED;
        let has = |bit: u32| capabilities & bit != 0;
        if capabilities & capability::NEEDED_OF_CLIENTS != capability::NEEDED_OF_CLIENTS {
            return Err(CodecError::Body);
        }
        let user = utf8(body.text()?)?;
        let proof = match has(capability::PLUGIN_AUTH_LENENC) {
            true => body.string()?,
            false => {
                let length = usize::from(body.byte()?);
                body.take(length)?
            }
        };
        let proof = proof.to_vec();
        let mut database = None;
        if has(capability::CONNECT_WITH_DB) && !body.is_empty() {
            database = Some(utf8(body.text()?)?).filter(|name| !name.is_empty());
        }
        let plugin = match body.is_empty() {
            true => String::new(),
            false => utf8(body.text()?)?,
        };
        let mut attributes = Vec::new();
        if has(capability::CONNECT_ATTRIBUTES) && !body.is_empty() {
            let mut named = Body::new(body.string()?);
            while !named.is_empty() {
                if attributes.len() >= ATTRIBUTES_MAX {
                    return Err(CodecError::TooLong);
                }
                attributes.push((utf8(named.string()?)?, utf8(named.string()?)?));
            }
        }
        // What may follow belongs to capabilities that are not offered.
        Ok(Self {
            capabilities,
            collation,
            user,
            proof,
            database,
            plugin,
            attributes,
        })
    }

    /// What the client calls itself.
    pub(super) fn program(&self) -> Option<&str> {
        let found = self
            .attributes
            .iter()
            .find(|(name, _)| name == "program_name");
        found.map(|(_, value)| value.as_str())
    }

    /// Appends it, as the gateway answers a target.
    pub(super) fn put(&self, out: &mut BytesMut, sequence: u8) -> Result<(), CodecError> {
        put_packet(out, sequence, |body| {
            self.put_beginning(body);
            put_text(body, &self.user);
            put_string(body, &self.proof);
            if let Some(database) = &self.database {
                put_text(body, database);
            }
            put_text(body, &self.plugin);
            if self.capabilities & capability::CONNECT_ATTRIBUTES == 0 {
                return;
            }
            let mut named = BytesMut::new();
            for (name, value) in &self.attributes {
                put_string(&mut named, name.as_bytes());
                put_string(&mut named, value.as_bytes());
            }
            put_string(body, &named);
        })
    }

    /// Appends the request to begin TLS that comes before it.
    pub(super) fn put_tls_request(
        &self,
        out: &mut BytesMut,
        sequence: u8,
    ) -> Result<(), CodecError> {
        put_packet(out, sequence, |body| self.put_beginning(body))
    }

    fn put_beginning(&self, body: &mut BytesMut) {
        body.put_u32_le(self.capabilities);
        body.put_u32_le(1 << 24);
        body.put_u8(self.collation);
        body.put_bytes(0, 23);
    }
}

fn utf8(bytes: &[u8]) -> Result<String, CodecError> {
    let text = std::str::from_utf8(bytes).map_err(|_| CodecError::Body)?;
    Ok(text.to_owned())
}

/// Whether SQL in this collation's set of characters reads the same to everybody: no character but the
/// backslash itself ends with its byte.
pub(super) const fn is_plain_collation(collation: u8) -> bool {
    matches!(collation,
        // latin1, ascii, binary
        5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 | 11 | 65 | 63
        // utf8mb3
        | 33 | 76 | 83 | 192..=215 | 223
        // utf8mb4
        | 45 | 46 | 224..=247 | 255
    )
}

/// As [`is_plain_collation`], by the name of a set of characters.
pub(super) fn is_plain_character_set(name: &[u8]) -> bool {
    let known: [&[u8]; 6] = [
        b"utf8mb4", b"utf8mb3", b"utf8", b"latin1", b"ascii", b"binary",
    ];
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocols::mysql::codec::HEADER_BYTES;

    fn answer() -> Answer {
        Answer {
            capabilities: capability::OFFERED,
            collation: UTF8MB4,
            user: "app@orders".to_owned(),
            proof: vec![7; 32],
            database: Some("shop".to_owned()),
            plugin: "caching_sha2_password".to_owned(),
            attributes: vec![("program_name".to_owned(), "mysql".to_owned())],
        }
    }

    /// GW-2
    #[test]
    fn given_what_the_gateway_says_then_the_other_side_reads_the_same() {
        let mut out = BytesMut::new();
        Greeting::put(7, &[9; CHALLENGE_BYTES], "caching_sha2_password", &mut out).unwrap();
        let greeting = Greeting::read(&out[HEADER_BYTES..]).unwrap();
        assert_eq!(greeting.connection, 7);
        assert_eq!(greeting.challenge, [9; CHALLENGE_BYTES]);
        assert_eq!(greeting.capabilities, capability::OFFERED);
        assert_eq!(greeting.plugin, "caching_sha2_password");

        let mut out = BytesMut::new();
        answer().put(&mut out, 2).unwrap();
        assert_eq!(Answer::read(&out[HEADER_BYTES..]).as_ref(), Ok(&answer()));
        assert!(
            !asks_for_tls(&out[HEADER_BYTES..]),
            "an answer is no request"
        );
        let mut out = BytesMut::new();
        answer().put_tls_request(&mut out, 1).unwrap();
        assert!(asks_for_tls(&out[HEADER_BYTES..]));
    }

    /// G8: what was not offered is not used, whatever a client claims.
    #[test]
    fn given_capabilities_that_were_not_offered_then_they_are_not_taken() {
        const COMPRESS: u32 = 1 << 5;
        const QUERY_ATTRIBUTES: u32 = 1 << 27;
        let claimed = Answer {
            capabilities: u32::MAX,
            ..answer()
        };
        let mut out = BytesMut::new();
        claimed.put(&mut out, 2).unwrap();
        let read = Answer::read(&out[HEADER_BYTES..]).unwrap();
        assert_eq!(read.capabilities, capability::OFFERED);
        assert_eq!(read.capabilities & (COMPRESS | QUERY_ATTRIBUTES), 0);
        let without_tls = Answer {
            capabilities: capability::OFFERED & !capability::TLS,
            ..answer()
        };
        let mut out = BytesMut::new();
        without_tls.put(&mut out, 2).unwrap();
        assert!(Answer::read(&out[HEADER_BYTES..]).is_err());
    }

    /// G4: where a backslash may be half of another character, nothing says where a string ends.
    #[test]
    fn given_sets_of_characters_that_hide_a_backslash_then_they_are_not_plain() {
        // big5, cp932, sjis, gbk, gb18030
        for collation in [1, 84, 95, 96, 13, 88, 28, 87, 248, 249, 250] {
            assert!(!is_plain_collation(collation), "{collation}");
        }
        for name in ["big5", "cp932", "sjis", "gbk", "gb18030", "GBK", "", "swe7"] {
            assert!(!is_plain_character_set(name.as_bytes()), "{name}");
        }
        assert!(is_plain_collation(UTF8MB4) && is_plain_character_set(b"utf8mb4"));
    }

    proptest! {
        /// G3
        #[test]
        fn reading_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Greeting::read(&bytes);
            let _ = Answer::read(&bytes);
            let _ = asks_for_tls(&bytes);
        }

        /// G3: however an answer is cut or changed, it is refused or read, and never panics.
        #[test]
        fn reading_an_answer_that_was_changed_never_panics(at in 0_usize..150, byte: u8, end in 0_usize..150) {
            let mut out = BytesMut::new();
            answer().put(&mut out, 2).unwrap();
            let mut bytes = out[HEADER_BYTES..].to_vec();
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
            bytes.truncate(end);
            let _ = Answer::read(&bytes);
        }
    }
}
