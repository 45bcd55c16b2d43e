//! The header of a recording: what it says about itself in clear, in exactly one spelling.
//!
//! The sealer writes it, the reader reads it, and every chunk is bound to its bytes.
//!
//! INVARIANT: a header that was read encodes to the bytes it was read from, so that no two files
//! with equal headers differ in them.
//!
//! Not here: reading from a source (`container`), what the wrapped key means (the vault).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

pub(super) const MAGIC: &[u8; 8] = b"SPREC\r\n\x1a";
pub(super) const VERSION: u16 = 1;
/// Magic, version and length.
pub(super) const PREFIX_BYTES: usize = 8 + 2 + 4;
pub(super) const MAX_HEADER_BYTES: usize = 16 * 1024;

const MAX_ID_BYTES: usize = 128;
const MAX_WRAPPED_KEY_BYTES: usize = 4 * 1024;

/// Largest integer that JSON carries exactly everywhere (RFC 8785 section 3.2.2.3).
const MAX_JSON_INTEGER: u64 = (1 << 53) - 1;

const FORMAT: &str = "sallyport-recording";
const CIPHER: &str = "aes-256-gcm";
const COMPRESSION: &str = "zstd";

/// What a recording says about itself in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The recording's id; 1 to 128 printable ASCII characters without space, `"` and `\`.
    pub recording_id: String,
    /// The session it belongs to; limits as above.
    pub session_id: String,
    /// When the session started: milliseconds since the Unix epoch, below 2^53.
    pub started_at_ms: u64,
    /// Which of the vault's keys wraps the recording's key; limits as for ids.
    pub key_id: String,
    /// The recording's key as the vault wrapped it; 1 to 4096 bytes, opaque here.
    pub wrapped_key: Vec<u8>,
}

/// The header as it is written: fields in the order of their names, as RFC 8785 wants them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderJson<'a> {
    cipher: &'a str,
    compression: &'a str,
    format: &'a str,
    key_id: &'a str,
    recording_id: &'a str,
    session_id: &'a str,
    started_at_ms: u64,
    wrapped_key: &'a str,
}

/// Why a header is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The text is not the JSON object that a header is.
    #[error("header is not the JSON object it must be")]
    Json(#[source] serde_json::Error),
    /// The same content can be written otherwise; only one spelling is valid.
    #[error("header is not in canonical form")]
    NotCanonical,
    /// A field breaks its limits or names something unknown.
    #[error("field `{name}` of header breaks its limits")]
    Field {
        /// The field.
        name: &'static str,
    },
}

impl Header {
    pub(super) fn encode(&self) -> Result<Vec<u8>, HeaderError> {
        self.check()?;
        let wrapped_key = BASE64.encode(&self.wrapped_key);
        let json = serde_json::to_vec(&HeaderJson {
            cipher: CIPHER,
            compression: COMPRESSION,
            format: FORMAT,
            key_id: &self.key_id,
            recording_id: &self.recording_id,
            session_id: &self.session_id,
            started_at_ms: self.started_at_ms,
            wrapped_key: &wrapped_key,
        })
        .map_err(HeaderError::Json)?;
        let length = u32::try_from(json.len()).map_err(|_| HeaderError::NotCanonical)?;
        Ok([
            &MAGIC[..],
            &VERSION.to_be_bytes(),
            &length.to_be_bytes(),
            &json,
        ]
        .concat())
    }

    fn check(&self) -> Result<(), HeaderError> {
        let ids = [
            ("recording_id", &self.recording_id),
            ("session_id", &self.session_id),
            ("key_id", &self.key_id),
        ];
        if let Some((name, _)) = ids.into_iter().find(|(_, id)| !is_id(id)) {
            return Err(HeaderError::Field { name });
        }
        if self.started_at_ms > MAX_JSON_INTEGER {
            return Err(HeaderError::Field {
                name: "started_at_ms",
            });
        }
        if self.wrapped_key.is_empty() || self.wrapped_key.len() > MAX_WRAPPED_KEY_BYTES {
            return Err(HeaderError::Field {
                name: "wrapped_key",
            });
        }
        Ok(())
    }

    /// `whole` is the header as it stands in the file, magic included; `json` its JSON part.
    pub(super) fn decode(whole: &[u8], json: &[u8]) -> Result<Self, HeaderError> {
        let fields: HeaderJson<'_> = serde_json::from_slice(json).map_err(HeaderError::Json)?;
        let fixed = [
            ("cipher", fields.cipher, CIPHER),
            ("compression", fields.compression, COMPRESSION),
            ("format", fields.format, FORMAT),
        ];
        if let Some((name, ..)) = fixed.into_iter().find(|(_, found, known)| found != known) {
            return Err(HeaderError::Field { name });
        }
        let header = Self {
            recording_id: fields.recording_id.to_owned(),
            session_id: fields.session_id.to_owned(),
            started_at_ms: fields.started_at_ms,
            key_id: fields.key_id.to_owned(),
            wrapped_key: BASE64
                .decode(fields.wrapped_key)
                .map_err(|_| HeaderError::Field {
                    name: "wrapped_key",
                })?,
        };
        if header.encode()? == whole {
            Ok(header)
        } else {
            Err(HeaderError::NotCanonical)
        }
    }
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
