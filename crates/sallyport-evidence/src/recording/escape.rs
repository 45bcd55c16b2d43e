//! Making recorded bytes safe to print.
//!
//! Transcripts, cast markers and the command line pass everything a client or target sent through
//! here before a terminal or a log sees it.
//!
//! INVARIANT: the result holds no control character but what the caller adds, and no character
//! that changes the direction or order in which text is displayed.
//!
//! Not here: terminal emulation (`emulator`).

use std::borrow::Cow;

/// Returns `text` with every control and every direction-changing character written as an escape,
/// such as `\u{1b}`; tab, line feed and carriage return as `\t`, `\n`, `\r`.
#[must_use]
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len().saturating_add(16));
    for character in text.chars() {
        if is_unsafe(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// C0, DEL, C1 (all of Unicode's `Cc`), line and paragraph separators, and the invisible
/// formatting characters that reorder or hide text (Unicode Technical Report 36, section 2.3).
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Security K5
    #[test]
    fn given_controls_and_direction_marks_when_escaped_then_plain_text_is_left() {
        for (text, escaped) in [
            ("plain ä ✓ 界", "plain ä ✓ 界"),
            ("a\tb\r\nc", r"a\tb\r\nc"),
            ("\u{1b}[31mred\u{7f}", r"\u{1b}[31mred\u{7f}"),
            ("c1 \u{9b}2J", r"c1 \u{9b}2J"),
            (
                "evil\u{202e}txt.exe\u{2066}",
                r"evil\u{202e}txt.exe\u{2066}",
            ),
            ("zero\u{200b}width\u{feff}", r"zero\u{200b}width\u{feff}"),
        ] {
            assert_eq!(escape_controls(text), escaped);
        }
    }
}
