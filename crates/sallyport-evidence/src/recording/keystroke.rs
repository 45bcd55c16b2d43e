//! Keys from the bytes a client's terminal sends.
//!
//! Command capture asks only a few things of a key: does it enter the line, does it spell a
//! character, or must the screen be read. Sources: ECMA-48 for control sequences, xterm's
//! `ctlseqs` for what terminals answer, bracketed paste.
//!
//! INVARIANT: what a terminal sends by itself (answers to queries, focus, mouse) is no key, pasted
//! line breaks enter nothing, and memory held is a few bytes whatever arrives.
//!
//! Not here: what the far side makes of a key (`command` reads the screen).

use super::utf8::Utf8Decoder;

/// Longest parameter part of a control sequence that is told apart; longer ones are no key.
const MAX_PARAMETER_BYTES: usize = 32;

/// What a key does to a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Spells a character; a line feed if one was pasted.
    Character(char),
    /// Enters the line.
    Enter,
    /// Removes the character before the cursor.
    Backspace,
    /// Removes everything typed (`Ctrl-U`).
    EraseLine,
    /// Abandons the line (`Ctrl-C`, `Ctrl-Z`, `Ctrl-\`).
    Interrupt,
    /// Ends the input if nothing was typed (`Ctrl-D`).
    EndOfInput,
    /// Does something that only the screen shows: arrows, completion, history search.
    Other,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    /// After `ESC [`, with the parameters so far.
    Csi(String),
    /// After `ESC O`.
    Ss3,
    /// Within an answer that ends with BEL or `ESC \`.
    Text {
        escape_seen: bool,
    },
}

/// Decodes one channel's input.
#[derive(Debug, Default)]
pub(super) struct KeyDecoder {
    decoder: Utf8Decoder,
    state: State,
    is_pasting: bool,
}

impl KeyDecoder {
    /// Returns the keys that `bytes` complete.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Vec<Key> {
        let text = self.decoder.decode(bytes);
        text.chars()
            .filter_map(|character| self.step(character))
            .collect()
    }

    fn step(&mut self, character: char) -> Option<Key> {
        match std::mem::take(&mut self.state) {
            State::Ground => self.ground(character),
            State::Escape => self.escape(character),
            State::Csi(parameters) => self.csi(parameters, character),
            State::Ss3 => Some(if character == 'M' {
                Key::Enter
            } else {
                Key::Other
            }),
            State::Text { escape_seen } => {
                let is_over = character == '\u{7}' || (escape_seen && character == '\\');
                if !is_over {
                    self.state = State::Text {
                        escape_seen: character == '\u{1b}',
                    };
                }
                None
            }
        }
    }

    fn ground(&mut self, character: char) -> Option<Key> {
        Some(match character {
            '\u{1b}' => {
                self.state = State::Escape;
                return None;
            }
            '\r' | '\n' if self.is_pasting => Key::Character('\n'),
            '\r' | '\n' | '\u{f}' => Key::Enter,
            '\u{8}' | '\u{7f}' => Key::Backspace,
            '\u{3}' | '\u{1a}' | '\u{1c}' => Key::Interrupt,
            '\u{4}' => Key::EndOfInput,
            '\u{15}' => Key::EraseLine,
            control if control.is_control() => Key::Other,
            character => Key::Character(character),
        })
    }

    fn escape(&mut self, character: char) -> Option<Key> {
        match character {
            '[' => self.state = State::Csi(String::new()),
            'O' => self.state = State::Ss3,
            // DCS, OSC, SOS, PM, APC: only terminals send these, as answers.
            'P' | ']' | 'X' | '^' | '_' => self.state = State::Text { escape_seen: false },
            '\u{1b}' => self.state = State::Escape,
            _ => return Some(Key::Other),
        }
        None
    }

    fn csi(&mut self, mut parameters: String, character: char) -> Option<Key> {
        match character {
            '\u{20}'..='\u{3f}' => {
                if parameters.len() < MAX_PARAMETER_BYTES {
                    parameters.push(character);
                }
                self.state = State::Csi(parameters);
                None
            }
            '~' if parameters == "200" => {
                self.is_pasting = true;
                None
            }
            '~' if parameters == "201" => {
                self.is_pasting = false;
                None
            }
            // Cursor position, device attributes, status, mode and window reports; focus; mouse.
            'R' | 'c' | 'n' | 'y' | 't' | 'I' => None,
            'O' | 'M' | 'm' if parameters.is_empty() || parameters.starts_with('<') => None,
            // Enter as the kitty keyboard protocol spells it.
            'u' if parameters == "13" || parameters.starts_with("13;") => Some(Key::Enter),
            _ => Some(Key::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        // One byte at a time: packets may cut a sequence anywhere.
        let mut decoder = KeyDecoder::default();
        bytes
            .iter()
            .flat_map(|byte| decoder.decode(&[*byte]))
            .collect()
    }

    #[test]
    fn given_what_terminals_send_when_decoded_then_each_key_is_told_from_each_answer() {
        use Key::{Backspace, Character, EndOfInput, Enter, EraseLine, Interrupt, Other};
        let cases: [(&[u8], &[Key]); 14] = [
            (b"a\xc3\xa4", &[Character('a'), Character('ä')]),
            (b"\r", &[Enter]),
            (b"\x1bOM", &[Enter]),
            (b"\x1b[13u\x1b[13;1u", &[Enter, Enter]),
            (b"\x7f\x08", &[Backspace, Backspace]),
            (b"\x15", &[EraseLine]),
            (b"\x03\x1a\x1c", &[Interrupt, Interrupt, Interrupt]),
            (b"\x04", &[EndOfInput]),
            (
                b"\x1b[A\x1bOA\x1b[3~\x1bf\t",
                &[Other, Other, Other, Other, Other],
            ),
            (b"\x1b[24;80R\x1b[?62;4c\x1b[0n", &[]),
            (b"\x1b[I\x1b[O\x1b[<0;3;4M\x1b[<0;3;4m", &[]),
            (b"\x1b]11;rgb:1/2/3\x07\x1bP1$r0m\x1b\\", &[]),
            (
                b"\x1b[200~a\rb\x1b[201~\r",
                &[Character('a'), Character('\n'), Character('b'), Enter],
            ),
            (b"\x1b\x1b[A", &[Other]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                keys(bytes),
                expected,
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }
}
