//! One audit entry: the envelope every entry has, its bytes, and its hash in the tree.
//!
//! The audit writer of `sallyport-control` encodes; [`super::verify`], sinks and the CLI read. The
//! bytes of an entry are fixed once and kept: nobody encodes an entry a second time.
//!
//! INVARIANT: [`EntryHeader::parse`] and [`check`] accept exactly what [`encode`] can write.
//!
//! Not here: which events exist and what their `data` holds (`sallyport-core::event`).

use serde_json::{Map, Value};

use super::canonical::{self, CanonicalError, EncodeError, INTEGER_MAX, Scanner};

/// Largest entry, in bytes of its canonical form.
pub const ENTRY_SIZE_MAX: usize = 1024 * 1024;

/// Longest `event`, in bytes.
pub const EVENT_SIZE_MAX: usize = 64;

/// Longest `actor` and longest `subject`, in bytes of UTF-8 after undoing JSON escapes.
pub const NAME_SIZE_MAX: usize = 512;

/// The only version of the envelope there is.
const VERSION: i64 = 1;

/// What every entry says, whatever its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeader {
    /// Position in the log, dense from 0; at most 2^53 - 1.
    pub seq: u64,
    /// When it happened: RFC 3339 in UTC with milliseconds, `2026-01-02T03:04:05.678Z`.
    pub at: String,
    /// What happened: words of `a-z 0-9 - _` joined by dots, such as `session.opened`.
    pub event: String,
    /// Who did it.
    pub actor: String,
    /// What it was done to.
    pub subject: String,
}

/// Why bytes or fields are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The writer put something into `data` that entries may not hold.
    #[error("encode entry `data`")]
    Encode {
        /// The part that has no canonical form.
        source: EncodeError,
    },

    /// The bytes are not canonical JSON with the members of an entry, in their order.
    #[error("read entry")]
    Canonical {
        /// Where and why.
        source: CanonicalError,
    },

    /// Larger than [`ENTRY_SIZE_MAX`].
    #[error("entry of {size_bytes} bytes is larger than {ENTRY_SIZE_MAX}")]
    Size {
        /// Size of the whole entry.
        size_bytes: usize,
    },

    /// Written by a newer Sallyport, or not an entry.
    #[error("entry version {version} is not {VERSION}")]
    Version {
        /// The version found.
        version: i64,
    },

    /// A member of the envelope whose text is not of the form its doc gives.
    #[error("entry `{member}` is malformed")]
    Member {
        /// Name of the member.
        member: &'static str,
    },
}

/// Returns the bytes of an entry: canonical JSON without a line end.
///
/// # Errors
///
/// [`EntryError`] when a header field or `data` is outside the bounds of the format.
pub fn encode(header: &EntryHeader, data: &Map<String, Value>) -> Result<Vec<u8>, EntryError> {
    check_texts(&header.at, &header.event, &header.actor, &header.subject)?;
    if header.seq > INTEGER_MAX.unsigned_abs() {
        return Err(EntryError::Member { member: "seq" });
    }
    let mut out = Vec::with_capacity(256);
    // The envelope is one container; `{` and the members in canonical order follow.
    for (prefix, text) in [("{\"actor\":", &header.actor), (",\"at\":", &header.at)] {
        out.extend_from_slice(prefix.as_bytes());
        canonical::encode_string(text, &mut out);
    }
    out.extend_from_slice(b",\"data\":");
    canonical::encode_object(data, ENVELOPE_DEPTH, &mut out)
        .map_err(|source| EntryError::Encode { source })?;
    out.extend_from_slice(b",\"event\":");
    canonical::encode_string(&header.event, &mut out);
    out.extend_from_slice(format!(",\"seq\":{},\"subject\":", header.seq).as_bytes());
    canonical::encode_string(&header.subject, &mut out);
    out.extend_from_slice(format!(",\"v\":{VERSION}}}").as_bytes());
    check_size(&out)?;
    Ok(out)
}

/// Checks the bytes of an entry and returns its `seq`, copying nothing.
///
/// # Errors
///
/// [`EntryError`] for anything that [`encode`] cannot have written.
pub fn check(bytes: &[u8]) -> Result<u64, EntryError> {
    scan(bytes).map(|raw| raw.seq)
}

impl EntryHeader {
    /// Reads the envelope of an entry, checking all of it.
    ///
    /// # Errors
    ///
    /// [`EntryError`] for anything that [`encode`] cannot have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        scan(bytes).map(|raw| Self {
            seq: raw.seq,
            at: raw.at.to_owned(),
            event: raw.event.to_owned(),
            actor: canonical::unescape(raw.actor),
            subject: canonical::unescape(raw.subject),
        })
    }
}

/// The envelope itself is the first of [`canonical::DEPTH_MAX`] levels.
const ENVELOPE_DEPTH: usize = 1;

/// The envelope as it stands in the text, escapes included.
struct RawHeader<'a> {
    seq: u64,
    at: &'a str,
    event: &'a str,
    actor: &'a str,
    subject: &'a str,
}

fn scan(bytes: &[u8]) -> Result<RawHeader<'_>, EntryError> {
    check_size(bytes)?;
    let (raw, version) = scan_members(bytes).map_err(|source| EntryError::Canonical { source })?;
    if version != VERSION {
        return Err(EntryError::Version { version });
    }
    if raw.actor.contains('\\') || raw.subject.contains('\\') {
        let (actor, subject) = (
            canonical::unescape(raw.actor),
            canonical::unescape(raw.subject),
        );
        check_texts(raw.at, raw.event, &actor, &subject)?;
    } else {
        check_texts(raw.at, raw.event, raw.actor, raw.subject)?;
    }
    Ok(raw)
}

fn scan_members(bytes: &[u8]) -> Result<(RawHeader<'_>, i64), CanonicalError> {
    let mut scanner = Scanner::new(bytes)?;
    scanner.token("{\"actor\":")?;
    let actor = scanner.string()?;
    scanner.token(",\"at\":")?;
    let at = scanner.string()?;
    scanner.token(",\"data\":")?;
    scanner.object(ENVELOPE_DEPTH)?;
    scanner.token(",\"event\":")?;
    let event = scanner.string()?;
    scanner.token(",\"seq\":")?;
    let seq = scanner.natural()?;
    scanner.token(",\"subject\":")?;
    let subject = scanner.string()?;
    scanner.token(",\"v\":")?;
    let version = scanner.integer()?;
    scanner.token("}")?;
    scanner.end()?;
    Ok((
        RawHeader {
            seq,
            at,
            event,
            actor,
            subject,
        },
        version,
    ))
}

fn check_size(bytes: &[u8]) -> Result<(), EntryError> {
    if bytes.len() > ENTRY_SIZE_MAX {
        return Err(EntryError::Size {
            size_bytes: bytes.len(),
        });
    }
    Ok(())
}

fn check_texts(at: &str, event: &str, actor: &str, subject: &str) -> Result<(), EntryError> {
    let named = |name: &str| (1..=NAME_SIZE_MAX).contains(&name.len());
    for (member, valid) in [
        ("at", is_timestamp(at.as_bytes())),
        ("event", is_event(event)),
        ("actor", named(actor)),
        ("subject", named(subject)),
    ] {
        if !valid {
            return Err(EntryError::Member { member });
        }
    }
    Ok(())
}

fn is_event(event: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    event.len() <= EVENT_SIZE_MAX && event.contains('.') && event.split('.').all(is_word)
}

/// Years 0001 to 9999, no leap seconds, exactly three digits of fraction.
fn is_timestamp(at: &[u8]) -> bool {
    let shape = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let shaped = at.len() == shape.len()
        && at.iter().zip(shape).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            literal => byte == literal,
        });
    if !shaped {
        return false;
    }
    let number = |range: std::ops::Range<usize>| {
        at.get(range)
            .unwrap_or_default()
            .iter()
            .fold(0_u32, |number, digit| {
                number * 10 + u32::from(digit.wrapping_sub(b'0'))
            })
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    year >= 1
        && (1..=days_in(year, month)).contains(&day)
        && number(11..13) < 24
        && number(14..16) < 60
        && number(17..19) < 60
}

/// Days of a month of the Gregorian calendar; 0 for a month that does not exist.
fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn header() -> EntryHeader {
        EntryHeader {
            seq: 7,
            at: "2026-01-02T03:04:05.678Z".into(),
            event: "session.opened".into(),
            actor: "per_alice".into(),
            subject: "ses_01".into(),
        }
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn given_a_header_and_data_when_encoded_then_the_bytes_are_canonical_and_read_back() {
        let bytes = encode(
            &header(),
            &object(json!({"target": "web-1", "account": "root"})),
        )
        .unwrap();

        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"actor":"per_alice","at":"2026-01-02T03:04:05.678Z","data":{"account":"root","target":"web-1"},"event":"session.opened","seq":7,"subject":"ses_01","v":1}"#
        );
        assert_eq!(EntryHeader::parse(&bytes), Ok(header()));
        assert_eq!(check(&bytes), Ok(7));
    }

    #[test]
    fn given_a_member_out_of_form_when_encoded_then_it_is_refused_by_name() {
        type Spoil = fn(&mut EntryHeader);
        let cases: [(&str, Spoil); 12] = [
            ("seq", |header| header.seq = 1 << 53),
            ("at", |header| header.at = "2026-02-29T00:00:00.000Z".into()),
            ("at", |header| header.at = "2026-01-02T24:00:00.000Z".into()),
            ("at", |header| header.at = "2026-01-02T03:04:05Z".into()),
            ("at", |header| header.at = "2026-01-02T03:04:60.000Z".into()),
            ("at", |header| header.at = "0000-01-02T03:04:05.678Z".into()),
            ("event", |header| header.event = "session".into()),
            ("event", |header| header.event = "session..opened".into()),
            ("event", |header| header.event = "Session.opened".into()),
            ("event", |header| {
                header.event = "a.".to_owned() + &"b".repeat(EVENT_SIZE_MAX)
            }),
            ("actor", |header| header.actor = String::new()),
            ("subject", |header| {
                header.subject = "s".repeat(NAME_SIZE_MAX + 1)
            }),
        ];
        for (member, spoil) in cases {
            let mut header = header();
            spoil(&mut header);
            assert_eq!(
                encode(&header, &Map::new()),
                Err(EntryError::Member { member })
            );
        }
    }

    #[test]
    fn given_bytes_that_encode_cannot_write_when_read_then_they_are_refused() {
        let good = String::from_utf8(encode(&header(), &Map::new()).unwrap()).unwrap();
        for (from, to) in [
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":1,\"w\":1"),
            ("\"data\":{}", "\"data\":[]"),
            ("\"data\":{},", ""),
            ("\"seq\":7", "\"seq\":-7"),
            ("\"seq\":7", "\"seq\":7.0"),
            ("\"seq\":7", "\"seq\":\"7\""),
            ("{\"actor\"", "{ \"actor\""),
            ("2026-01-02", "2026-13-02"),
            ("session.opened", "session\\u002eopened"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_an_entry_of_just_over_a_mebibyte_when_encoded_or_read_then_it_is_refused() {
        let with = |length: usize| encode(&header(), &object(json!({"t": "x".repeat(length)})));
        let empty = with(0).unwrap().len();
        let largest = with(ENTRY_SIZE_MAX - empty).unwrap();

        assert_eq!(largest.len(), ENTRY_SIZE_MAX);
        assert_eq!(check(&largest), Ok(7));
        let size_bytes = ENTRY_SIZE_MAX + 1;
        assert_eq!(
            with(ENTRY_SIZE_MAX - empty + 1),
            Err(EntryError::Size { size_bytes })
        );
        let too_large = String::from_utf8(largest)
            .unwrap()
            .replacen("\"x", "\"xx", 1);
        assert_eq!(
            check(too_large.as_bytes()),
            Err(EntryError::Size { size_bytes })
        );
    }

    #[test]
    fn given_data_nested_to_the_limit_when_encoded_then_the_envelope_counts_as_one_level() {
        let nested = |depth: usize| {
            let inner = "[".repeat(depth - 1) + &"]".repeat(depth - 1);
            object(serde_json::from_str(&format!("{{\"d\":{inner}}}")).unwrap())
        };
        let deepest = encode(&header(), &nested(15)).unwrap();

        assert_eq!(check(&deepest), Ok(7));
        assert_eq!(
            encode(&header(), &nested(16)),
            Err(EntryError::Encode {
                source: EncodeError::Depth
            })
        );
    }

    proptest! {
        #[test]
        fn any_names_survive_the_round_trip(actor in ".{1,40}", subject in "[\\x00-\\x7f]{1,40}") {
            let header = EntryHeader { actor, subject, ..header() };
            let bytes = encode(&header, &Map::new()).unwrap();
            prop_assert_eq!(EntryHeader::parse(&bytes), Ok(header));
        }

        /// The parser never panics, whatever it is given.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(check(&bytes).is_err());
        }
    }
}
