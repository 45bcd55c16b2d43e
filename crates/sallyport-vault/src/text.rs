//! How bytes are written as text: base 64 in stored records, base 32 where people type them.
//!
//! INVARIANT: one spelling each in stored records; what people type may differ in case, grouping
//! and look-alike characters.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// Crockford's base 32 in lower case: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Base 64 without padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Reads [`base64`]; `None` for any other text, other spellings of the same bytes included.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

/// Base 32, most significant bit first; the last character is filled up with zero bits.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let mut waiting: u32 = 0;
    let mut waiting_bits = 0;
    for byte in bytes {
        waiting = (waiting << 8) | u32::from(*byte);
        waiting_bits += 8;
        while waiting_bits >= 5 {
            waiting_bits -= 5;
            push_digit(&mut text, waiting >> waiting_bits);
        }
    }
    if waiting_bits > 0 {
        push_digit(&mut text, waiting << (5 - waiting_bits));
    }
    text
}

fn push_digit(text: &mut String, value: u32) {
    let digit = ALPHABET
        .get((value & 0x1f) as usize)
        .copied()
        .unwrap_or(b'0');
    text.push(char::from(digit));
}

/// Reads [`base32`] as people type it: any case, `o` for zero, `i` and `l` for one; hyphens and
/// white space are ignored. `None` for any other character, or bits left over that are not zero.
pub(crate) fn from_base32(typed: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(typed.len());
    let mut waiting: u32 = 0;
    let mut waiting_bits = 0;
    for character in typed.chars() {
        if character == '-' || character.is_ascii_whitespace() {
            continue;
        }
        let digit = match u8::try_from(character).ok()?.to_ascii_lowercase() {
            b'o' => b'0',
            b'i' | b'l' => b'1',
            digit => digit,
        };
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        waiting = ((waiting << 5) | u32::try_from(value).ok()?) & 0xfff;
        waiting_bits += 5;
        if waiting_bits >= 8 {
            waiting_bits -= 8;
            bytes.push(u8::try_from((waiting >> waiting_bits) & 0xff).ok()?);
        }
    }
    let left_over = waiting & ((1 << waiting_bits) - 1);
    (waiting_bits < 5 && left_over == 0).then_some(bytes)
}

/// Stored bytes in serde: base 64 text.
pub(crate) mod serde_base64 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::base64(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        super::from_base64(&text).ok_or_else(|| serde::de::Error::custom("text is not base 64"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn typed_text_may_differ_in_case_grouping_and_look_alikes() {
        let bytes = from_base32("0o1i-L abC").unwrap();
        assert_eq!(from_base32("00111ABC"), Some(bytes));
        for wrong in ["u0", "0!", "0", "01", "é0", "zz"] {
            assert_eq!(
                from_base32(wrong),
                (wrong == "00").then(Vec::new),
                "{wrong}"
            );
        }
    }

    proptest! {
        #[test]
        fn base32_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(from_base32(&base32(&bytes)), Some(bytes));
        }

        #[test]
        fn base32_never_panics(text in "\\PC{0,60}") {
            let _ = from_base32(&text);
        }
    }
}
