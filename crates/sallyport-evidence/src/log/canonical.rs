//! Canonical JSON (RFC 8785), narrowed to what an audit entry may hold.
//!
//! [`encode`] writes it, [`Scanner`] reads it; [`super::entry`] is the caller of both. Numbers are
//! integers that every JSON reader represents exactly (RFC 7493 section 2.2), so the one hard part
//! of RFC 8785, printing floating point, never arises.
//!
//! INVARIANT: [`Scanner`] accepts exactly the bytes that [`encode`] can produce: one value has one
//! spelling, so a hash over the bytes is a hash over the value.
//!
//! Not here: which members an entry has ([`super::entry`]).

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// Deepest nesting of objects and arrays, the outermost one included.
pub const DEPTH_MAX: usize = 16;

/// Largest magnitude of an integer: 2^53 - 1 (RFC 7493 section 2.2).
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// Why a value has no canonical form here. Whoever made the value must change it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Fractions and exponents are not used in entries: write a string or a smaller unit.
    #[error("encode number `{number}`: not an integer of at most 53 bits")]
    Number {
        /// The number as it was given.
        number: String,
    },

    /// Arrays and objects nest deeper than [`DEPTH_MAX`].
    #[error("encode value: nested deeper than {DEPTH_MAX}")]
    Depth,
}

/// Where bytes stop being canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read canonical JSON at byte {offset}: {problem}")]
pub struct CanonicalError {
    /// Offset in bytes from the start of the text.
    pub offset: usize,
    /// What the text should have held there.
    pub problem: Problem,
}

/// What is wrong at one place of a text that should be canonical JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// Other bytes were due here; spaces between tokens end up here too.
    #[error("expected {0}")]
    Expected(&'static str),
    /// An escape that RFC 8785 spells in another way, or that JSON does not have.
    #[error("not the canonical escape")]
    Escape,
    /// A number that is not an integer of at most 53 bits in its shortest form.
    #[error("not a canonical integer")]
    Integer,
    /// A member name that repeats, or that should have come earlier.
    #[error("member names not in strictly ascending order")]
    Order,
    /// Deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX}")]
    Depth,
}

/// Appends the canonical form of `value` to `out`, as if inside `depth` enclosing containers.
///
/// # Errors
///
/// [`EncodeError`] for what entries may not hold; `out` then ends in a partial value.
pub fn encode(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => encode_number(number, out)?,
        Value::String(text) => encode_string(text, out),
        Value::Array(items) => {
            let depth = deeper(depth).ok_or(EncodeError::Depth)?;
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                encode(item, depth, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => encode_object(members, depth, out)?,
    }
    Ok(())
}

/// Appends the canonical form of an object, as if inside `depth` enclosing containers.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_object(
    members: &Map<String, Value>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let depth = deeper(depth).ok_or(EncodeError::Depth)?;
    let mut members: Vec<(&String, &Value)> = members.iter().collect();
    members.sort_by(|(left, _), (right, _)| compare_names(left, right));
    out.push(b'{');
    for (index, (name, member)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode_string(name, out);
        out.push(b':');
        encode(member, depth, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// Appends `text` as a JSON string with the escapes of RFC 8785 section 3.2.2.2.
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match short_escape(byte) {
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None if byte < 0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(hex::encode([byte]).as_bytes());
            }
            None => out.push(byte),
        }
    }
    out.push(b'"');
}

fn encode_number(number: &serde_json::Number, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match number.as_i64() {
        Some(integer) if integer.unsigned_abs() <= INTEGER_MAX.unsigned_abs() => {
            out.extend_from_slice(integer.to_string().as_bytes());
            Ok(())
        }
        Some(_) | None => Err(EncodeError::Number {
            number: number.to_string(),
        }),
    }
}

/// The letter after the backslash for characters that have a two-character escape.
fn short_escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        0x08 => Some(b'b'),
        b'\t' => Some(b't'),
        b'\n' => Some(b'n'),
        0x0c => Some(b'f'),
        b'\r' => Some(b'r'),
        _ => None,
    }
}

fn deeper(depth: usize) -> Option<usize> {
    depth.checked_add(1).filter(|depth| *depth <= DEPTH_MAX)
}

/// Order of member names: by UTF-16 code units (RFC 8785 section 3.2.3), which differs from the
/// order of UTF-8 bytes where a surrogate pair meets U+E000 to U+FFFF.
fn compare_names(left: &str, right: &str) -> Ordering {
    left.encode_utf16().cmp(right.encode_utf16())
}

/// A one-pass reader that accepts canonical JSON only and keeps nothing but its position.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the first byte of `bytes`.
    ///
    /// # Errors
    ///
    /// [`Problem::Encoding`] when `bytes` is not UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Self, CanonicalError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, offset: 0 }),
            Err(error) => Err(CanonicalError {
                offset: error.valid_up_to(),
                problem: Problem::Encoding,
            }),
        }
    }

    /// Steps over `token`.
    ///
    /// # Errors
    ///
    /// [`Problem::Expected`] when something else stands here.
    pub fn token(&mut self, token: &'static str) -> Result<(), CanonicalError> {
        if !self.rest().starts_with(token.as_bytes()) {
            return Err(self.fail(Problem::Expected(token)));
        }
        self.offset += token.len();
        Ok(())
    }

    /// Requires that nothing is left.
    ///
    /// # Errors
    ///
    /// [`Problem::Expected`] when there are more bytes.
    pub fn end(&self) -> Result<(), CanonicalError> {
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.fail(Problem::Expected("the end")))
        }
    }

    /// Steps over a string and returns what stands between its quotes, escapes included.
    ///
    /// # Errors
    ///
    /// [`Problem::Expected`] or [`Problem::Escape`] when no canonical string stands here.
    pub fn string(&mut self) -> Result<&'a str, CanonicalError> {
        self.token("\"")?;
        let start = self.offset;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.offset += 1,
                Some(_) | None => return Err(self.fail(Problem::Expected("a string character"))),
            }
        }
        let inner = self.text.get(start..self.offset).unwrap_or_default();
        self.offset += 1;
        Ok(inner)
    }

    /// Steps over an integer and returns it.
    ///
    /// # Errors
    ///
    /// [`Problem::Integer`] when no canonical integer of at most 53 bits stands here.
    pub fn integer(&mut self) -> Result<i64, CanonicalError> {
        let start = self.offset;
        let negative = self.peek() == Some(b'-');
        if negative {
            self.offset += 1;
        }
        let digits_start = self.offset;
        let mut magnitude: i64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            // Saturation lands far above `INTEGER_MAX`, so an endless number is refused below.
            magnitude = magnitude
                .saturating_mul(10)
                .saturating_add(i64::from(digit - b'0'));
            self.offset += 1;
        }
        let digits = self.offset - digits_start;
        let leading_zero = self.text.as_bytes().get(digits_start) == Some(&b'0');
        let shortest = !(leading_zero && (digits > 1 || negative));
        if digits == 0 || !shortest || magnitude > INTEGER_MAX {
            return Err(CanonicalError {
                offset: start,
                problem: Problem::Integer,
            });
        }
        Ok(if negative { -magnitude } else { magnitude })
    }

    /// Steps over an integer that is not negative and returns it.
    ///
    /// # Errors
    ///
    /// As [`Scanner::integer`], and for a negative integer.
    pub fn natural(&mut self) -> Result<u64, CanonicalError> {
        let offset = self.offset;
        u64::try_from(self.integer()?).map_err(|_| CanonicalError {
            offset,
            problem: Problem::Integer,
        })
    }

    /// Steps over any value that has `depth` containers around it.
    ///
    /// # Errors
    ///
    /// Any [`Problem`], at the byte where the value stops being canonical.
    pub fn value(&mut self, depth: usize) -> Result<(), CanonicalError> {
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.integer().map(|_| ()),
            Some(b't') => self.token("true"),
            Some(b'f') => self.token("false"),
            Some(b'n') => self.token("null"),
            Some(_) | None => Err(self.fail(Problem::Expected("a value"))),
        }
    }

    /// Steps over an object that has `depth` containers around it.
    ///
    /// # Errors
    ///
    /// As [`Scanner::value`].
    pub fn object(&mut self, depth: usize) -> Result<(), CanonicalError> {
        let depth = self.enter(depth)?;
        self.token("{")?;
        if self.skip(b'}') {
            return Ok(());
        }
        let mut previous: Option<&str> = None;
        loop {
            let name_offset = self.offset;
            let name = self.string()?;
            if previous.is_some_and(|previous| !is_before(previous, name)) {
                return Err(CanonicalError {
                    offset: name_offset,
                    problem: Problem::Order,
                });
            }
            previous = Some(name);
            self.token(":")?;
            self.value(depth)?;
            if !self.skip(b',') {
                return self.token("}");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), CanonicalError> {
        let depth = self.enter(depth)?;
        self.token("[")?;
        if self.skip(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            if !self.skip(b',') {
                return self.token("]");
            }
        }
    }

    fn escape(&mut self) -> Result<(), CanonicalError> {
        let rest = self.rest();
        let length = match rest.get(1) {
            Some(b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r') => 2,
            Some(b'u') if rest.get(..6).is_some_and(is_control_escape) => 6,
            Some(_) | None => return Err(self.fail(Problem::Escape)),
        };
        self.offset += length;
        Ok(())
    }

    fn enter(&self, depth: usize) -> Result<usize, CanonicalError> {
        deeper(depth).ok_or_else(|| self.fail(Problem::Depth))
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.offset += 1;
        }
        found
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.offset..).unwrap_or_default()
    }

    fn fail(&self, problem: Problem) -> CanonicalError {
        CanonicalError {
            offset: self.offset,
            problem,
        }
    }
}

/// Returns the text that canonical escapes in `inner` (between the quotes) stand for.
pub(crate) fn unescape(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match rest.next() {
            Some('b') => text.push('\u{8}'),
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('f') => text.push('\u{c}'),
            Some('r') => text.push('\r'),
            Some('u') => {
                let code = rest.by_ref().take(4).fold(0, |code, digit| {
                    code * 16 + digit.to_digit(16).unwrap_or_default()
                });
                text.extend(char::from_u32(code));
            }
            Some(itself) => text.push(itself),
            None => {}
        }
    }
    text
}

/// `\u00` and two lower-case digits, for a control character that has no shorter escape.
fn is_control_escape(escape: &[u8]) -> bool {
    let Some((b"\\u00", digits)) = escape.split_at_checked(4) else {
        return false;
    };
    let mut byte = [0_u8];
    hex::decode_to_slice(digits, &mut byte).is_ok()
        && !digits.iter().any(u8::is_ascii_uppercase)
        && byte
            .iter()
            .all(|byte| *byte < 0x20 && short_escape(*byte).is_none())
}

/// Compares member names as they stand between quotes, decoding only when that can matter.
fn is_before(left: &str, right: &str) -> bool {
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii() && byte != b'\\');
    if plain(left) && plain(right) {
        return left < right;
    }
    compare_names(&unescape(left), &unescape(right)) == Ordering::Less
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn canonical(value: &Value) -> Result<String, EncodeError> {
        let mut out = Vec::new();
        encode(value, 0, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn check(text: &str) -> Result<(), Problem> {
        let mut scanner = Scanner::new(text.as_bytes()).unwrap();
        scanner
            .value(0)
            .and_then(|()| scanner.end())
            .map_err(|error| error.problem)
    }

    /// The member order example of RFC 8785 section 3.2.3.
    #[test]
    fn given_names_beyond_the_basic_plane_when_encoded_then_they_sort_by_utf16() {
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis"
        });

        let text = canonical(&value).unwrap();

        let order: Vec<&str> = [
            "\"\\r\"",
            "\"1\"",
            "\"\u{80}\"",
            "\"\u{f6}\"",
            "\"\u{20ac}\"",
            "\"\u{1f600}\"",
            "\"\u{fb33}\"",
        ]
        .to_vec();
        let found: Vec<usize> = order.iter().map(|name| text.find(name).unwrap()).collect();
        assert!(found.is_sorted(), "{text}");
        assert_eq!(check(&text), Ok(()));
    }

    #[test]
    fn given_every_control_character_when_encoded_then_the_escape_is_the_short_or_lower_case_one() {
        assert_eq!(
            canonical(&json!(
                "\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}\u{2028}é"
            ))
            .unwrap(),
            "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\u{2028}é\""
        );
    }

    #[test]
    fn given_a_number_that_readers_would_round_when_encoded_then_it_is_refused() {
        for number in [
            json!(1.5),
            json!(1.0),
            json!(-0.0),
            json!(9_007_199_254_740_992_i64),
            json!(u64::MAX),
        ] {
            assert!(
                matches!(canonical(&number), Err(EncodeError::Number { .. })),
                "{number}"
            );
        }
        assert_eq!(
            canonical(&json!(-9_007_199_254_740_991_i64)).unwrap(),
            "-9007199254740991"
        );
    }

    #[test]
    fn given_another_spelling_of_a_value_when_read_then_the_problem_is_named() {
        for (text, problem) in [
            ("{\"a\":1,\"a\":2}", Problem::Order),
            ("{\"b\":1,\"a\":2}", Problem::Order),
            ("{\"\u{fb33}\":1,\"\u{1f600}\":2}", Problem::Order),
            ("{\"a\": 1}", Problem::Expected("a value")),
            ("[1,2 ]", Problem::Expected("]")),
            ("[1,]", Problem::Expected("a value")),
            ("01", Problem::Integer),
            ("-0", Problem::Integer),
            ("-", Problem::Integer),
            ("9007199254740992", Problem::Integer),
            ("99999999999999999999999999", Problem::Integer),
            ("1.0", Problem::Expected("the end")),
            ("1e3", Problem::Expected("the end")),
            ("\"\\u0041\"", Problem::Escape),
            ("\"\\u000A\"", Problem::Escape),
            ("\"\\u000a\"", Problem::Escape),
            ("\"\\u001F\"", Problem::Escape),
            ("\"\\u+01f\"", Problem::Escape),
            ("\"\\/\"", Problem::Escape),
            ("\"\\ud83d\\ude00\"", Problem::Escape),
            ("\"\\", Problem::Escape),
            ("\"\t\"", Problem::Expected("a string character")),
            ("\"", Problem::Expected("a string character")),
            ("nul", Problem::Expected("null")),
            ("", Problem::Expected("a value")),
            ("1\n", Problem::Expected("the end")),
        ] {
            assert_eq!(check(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn given_nesting_when_deeper_than_the_limit_then_neither_side_accepts_it() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let value = |depth| serde_json::from_str::<Value>(&nested(depth)).unwrap();

        assert_eq!(check(&nested(DEPTH_MAX)), Ok(()));
        assert_eq!(canonical(&value(DEPTH_MAX)).unwrap(), nested(DEPTH_MAX));
        assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(Problem::Depth));
        assert_eq!(canonical(&value(DEPTH_MAX + 1)), Err(EncodeError::Depth));
        assert_eq!(check(&nested(100_000)), Err(Problem::Depth));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-INTEGER_MAX..=INTEGER_MAX).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            "[\\x00-\\x22\\\\]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(
                    "[\\x00-\\x7f\u{e000}-\u{e010}😀é\"\\\\]{0,3}",
                    inner,
                    0..5
                )
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_is_read_back_as_the_same_value_and_as_canonical(value in any_value()) {
            let text = canonical(&value).unwrap();
            prop_assert_eq!(check(&text), Ok(()));
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }

        #[test]
        fn a_text_is_accepted_exactly_when_encoding_it_again_changes_nothing(
            value in any_value(), position in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = canonical(&value).unwrap().into_bytes();
            let position = position.index(bytes.len());
            bytes[position] = byte;
            let again = serde_json::from_slice::<Value>(&bytes)
                .ok()
                .and_then(|value| canonical(&value).ok());
            let accepted = std::str::from_utf8(&bytes).is_ok_and(|text| check(text).is_ok());
            prop_assert_eq!(accepted, again.is_some_and(|again| again.as_bytes() == bytes));
        }

        #[test]
        fn unescaping_undoes_escaping(text in "[\\x00-\\x22\\\\é😀]{0,16}") {
            let mut out = Vec::new();
            encode_string(&text, &mut out);
            let inner = std::str::from_utf8(&out[1..out.len() - 1]).unwrap();
            prop_assert_eq!(unescape(inner), text);
        }
    }
}
