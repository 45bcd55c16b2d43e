//! UTF-8 from a stream whose pieces end anywhere.
//!
//! Casts, transcripts and the terminal emulator decode each direction of a channel with one
//! [`Utf8Decoder`], because a network packet may end in the middle of a character.
//!
//! INVARIANT: the text is the same however the bytes were cut into pieces, each maximal invalid
//! sequence becomes one U+FFFD, and at most three bytes are held back.

/// Decodes one stream of bytes to text.
#[derive(Debug, Default)]
pub(super) struct Utf8Decoder {
    carry: Vec<u8>,
}

impl Utf8Decoder {
    /// Returns the text that is certain after `bytes`.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> String {
        let joined;
        let mut rest = if self.carry.is_empty() {
            bytes
        } else {
            joined = [&std::mem::take(&mut self.carry)[..], bytes].concat();
            &joined[..]
        };
        let mut text = String::with_capacity(rest.len());
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => error,
            };
            let (valid, after) = rest
                .split_at_checked(error.valid_up_to())
                .unwrap_or((rest, &[]));
            text.push_str(&String::from_utf8_lossy(valid));
            let Some(invalid_bytes) = error.error_len() else {
                self.carry.extend_from_slice(after);
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = after.get(invalid_bytes..).unwrap_or_default();
        }
    }

    /// Ends the stream: returns U+FFFD if it ends within a character, else nothing.
    pub(super) fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.carry).is_empty() {
            ""
        } else {
            "\u{fffd}"
        }
    }
}
