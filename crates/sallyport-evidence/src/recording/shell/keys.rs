//! What the bytes that a person's terminal sends do to the line of a shell, told byte by byte and
//! before the shell has them.
//!
//! Two questions are answered: might this byte enter the line, and is it known what was typed since the
//! last line. Both err to the careful side. Shells in vi mode, a key that quotes the next one, or an
//! escape sequence that a shell does not know all give bytes another meaning than they seem to have; so
//! a line break enters the line wherever it stands, but in a paste that the shell itself asked to be put
//! in brackets and that began where every key before it was plain.
//!
//! Sources: readline(3), zshzle(1) and fish(1) for what enters a line; xterm's `ctlseqs` for sequences
//! and brackets; termios(3) for what the terminal itself makes of a byte.
//!
//! INVARIANT: no byte on which one of these shells runs its line is taken for an edit; memory held is
//! bounded whatever arrives.
//!
//! Not here: what the screen shows (`shell`), keys of a recording (`keystroke`).

use super::super::{command::Typed, keystroke::Key, utf8::Utf8Decoder};

/// Longest parameter part of a control sequence that is told apart.
const PARAMETER_BYTES_MAX: usize = 32;

/// What ends a paste in brackets, wherever it stands.
const PASTE_END: &[u8] = b"\x1b[201~";

/// What a byte from the person's terminal does to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// It changes the line, or nothing.
    Edits,
    /// It might enter the line.
    Enters,
    /// It might abandon the line, or what runs (Ctrl-C, Ctrl-Z, Ctrl-\).
    Interrupts,
    /// It might run something else than what the line shows: the line behind an editor, a macro, a line
    /// that was a comment.
    Hides,
}

/// When it is known again what is typed, after keys whose effect is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Renewal {
    /// With the line feed that answers the Enter of the line that they belong to.
    AtLineFeed,
    /// At a prompt with nothing behind it, on a line of its own.
    #[default]
    AtPrompt,
}

#[derive(Debug, Default)]
enum Sequence {
    #[default]
    None,
    /// After an escape.
    Escape,
    /// After `ESC [`, with the parameters so far.
    Csi(Vec<u8>),
    /// After `ESC O`.
    Ss3,
}

/// The keys of one terminal.
#[derive(Default)]
pub(super) struct Keys {
    utf8: Utf8Decoder,
    typed: Typed,
    sequence: Sequence,
    /// What was typed before the sequence that goes on, where it may turn out to begin a paste.
    before_paste: Option<Typed>,
    is_pasting: bool,
    /// How much of what ends a paste was seen.
    paste_end_seen: usize,
    /// Whether the target asks for pastes in brackets, and no line was entered since.
    takes_pastes: bool,
    /// A shell in vi mode may take letters for commands.
    is_escaped: bool,
    /// A key may have been quoted, so that a line that seems entered was not.
    is_quoting: bool,
    follows_ctrl_x: bool,
    /// A line was interrupted, and what became of it was not shown yet.
    is_torn: bool,
    renewal: Renewal,
}

impl Keys {
    /// What was typed since the last line; `None` when only the target knows.
    pub(super) fn typed(&self) -> Option<&str> {
        match &self.typed {
            Typed::Exactly(typed) => Some(typed),
            Typed::Unknown => None,
        }
    }

    /// The target asks for pastes in brackets, or no longer.
    pub(super) const fn take_pastes(&mut self, is_on: bool) {
        self.takes_pastes = is_on;
    }

    /// When it is known again what is typed; `None` while it is.
    pub(super) fn renewal(&self) -> Option<Renewal> {
        matches!(self.typed, Typed::Unknown).then_some(self.renewal)
    }

    /// Nothing was typed.
    pub(super) fn renew(&mut self) {
        *self = Self {
            takes_pastes: self.takes_pastes,
            typed: Typed::Exactly(String::new()),
            ..Self::default()
        };
    }

    /// The line was entered with `byte`, or might have been.
    pub(super) fn enter(&mut self, byte: u8) {
        let is_plain = matches!(self.typed, Typed::Exactly(_));
        let is_break = matches!(byte, b'\r' | b'\n');
        let renewal = match self.is_quoting || !is_break {
            true => Renewal::AtPrompt,
            false => Renewal::AtLineFeed,
        };
        let (is_quoting, is_torn) = (self.is_quoting, self.is_torn);
        self.renew();
        self.takes_pastes = false;
        if !is_plain || !is_break {
            self.is_torn = is_torn && renewal == Renewal::AtPrompt;
            self.typed = Typed::Unknown;
            self.renewal = renewal;
            self.is_quoting = is_quoting;
        }
    }

    /// An interrupt was sent; whether it abandoned the line, where there is one, is for the target to show.
    pub(super) fn interrupt(&mut self) {
        let has_line = self.typed() != Some("");
        self.renew();
        self.takes_pastes = false;
        if has_line {
            self.obscure();
            self.is_torn = true;
        }
    }

    /// Whether a line was interrupted and nothing shows yet that it is gone.
    pub(super) const fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Only the target knows what was typed.
    pub(super) fn obscure(&mut self) {
        self.typed = Typed::Unknown;
        self.renewal = Renewal::AtPrompt;
    }

    /// Takes one byte.
    pub(super) fn press(&mut self, byte: u8) -> Press {
        // Typed ahead of the answer to a line: what it belongs to is not known.
        self.renewal = Renewal::AtPrompt;
        if self.is_pasting {
            self.paste(byte);
            return Press::Edits;
        }
        let before_paste = self.before_paste.take();
        match std::mem::take(&mut self.sequence) {
            sequence if byte < 0x20 || byte == 0x7f => {
                self.is_escaped |= !matches!(sequence, Sequence::None);
                self.control(byte)
            }
            Sequence::None => self.ground(byte),
            Sequence::Escape => self.escape(byte, before_paste),
            Sequence::Csi(parameters) => self.csi(parameters, byte, before_paste),
            Sequence::Ss3 => self.ss3(byte),
        }
    }

    fn paste(&mut self, byte: u8) {
        let is_next = PASTE_END.get(self.paste_end_seen) == Some(&byte);
        if is_next {
            self.paste_end_seen = self.paste_end_seen.saturating_add(1);
            if self.paste_end_seen == PASTE_END.len() {
                (self.is_pasting, self.paste_end_seen) = (false, 0);
            }
            return;
        }
        if self.paste_end_seen > 0 {
            self.obscure();
        }
        self.paste_end_seen = usize::from(byte == 0x1b);
        match byte {
            0x1b => {}
            b'\r' | b'\n' => self.typed.press(&Key::Character('\n')),
            b'\t' => self.typed.press(&Key::Character('\t')),
            byte => self.spell(byte),
        }
    }

    fn spell(&mut self, byte: u8) {
        for character in self.utf8.decode(&[byte]).chars() {
            match character.is_control() {
                true => self.obscure(),
                false => self.typed.press(&Key::Character(character)),
            }
        }
    }

    fn control(&mut self, byte: u8) -> Press {
        let follows_ctrl_x = std::mem::take(&mut self.follows_ctrl_x);
        match byte {
            // The line is judged before it is known to be over: see `enter`.
            b'\r' | b'\n' => return Press::Enters,
            // Erasing is exact only where nothing else came before it.
            0x08 | 0x7f if !self.is_escaped => self.typed.press(&Key::Backspace),
            0x15 if !self.is_escaped => self.typed.press(&Key::EraseLine),
            // Hands a line over as it stands, where the terminal reads lines.
            0x04 if self.typed().is_some_and(str::is_empty) => {}
            0x04 => {
                self.obscure();
                return Press::Enters;
            }
            // Enters the line and shows the next of the history.
            0x0f => {
                self.obscure();
                return Press::Enters;
            }
            0x03 | 0x1a | 0x1c => return Press::Interrupts,
            0x05 if follows_ctrl_x => return Press::Hides,
            0x1b => {
                let typed = std::mem::take(&mut self.typed);
                let may_paste = self.takes_pastes && matches!(typed, Typed::Exactly(_));
                self.before_paste = may_paste.then_some(typed);
                self.sequence = Sequence::Escape;
                self.obscure();
            }
            other => {
                self.is_quoting |= matches!(other, 0x11 | 0x16);
                self.follows_ctrl_x = other == 0x18;
                self.obscure();
            }
        }
        Press::Edits
    }

    fn ground(&mut self, byte: u8) -> Press {
        if std::mem::take(&mut self.follows_ctrl_x) && matches!(byte, b'e' | b'E') {
            return Press::Hides;
        }
        if self.is_escaped {
            match byte {
                b'v' | b'V' => return Press::Enters,
                b'#' => return Press::Hides,
                _ => {}
            }
        }
        self.spell(byte);
        Press::Edits
    }

    fn escape(&mut self, byte: u8, before_paste: Option<Typed>) -> Press {
        match byte {
            b'[' => {
                self.sequence = Sequence::Csi(Vec::new());
                self.before_paste = before_paste;
                return Press::Edits;
            }
            b'O' => {
                self.sequence = Sequence::Ss3;
                return Press::Edits;
            }
            _ => {}
        }
        self.is_escaped = true;
        match byte {
            b'a' | b'A' | b'v' | b'V' => Press::Enters,
            b'#' => Press::Hides,
            _ => Press::Edits,
        }
    }

    fn csi(&mut self, mut parameters: Vec<u8>, byte: u8, before_paste: Option<Typed>) -> Press {
        match byte {
            0x20..=0x3f => {
                if parameters.len() < PARAMETER_BYTES_MAX {
                    parameters.push(byte);
                }
                self.sequence = Sequence::Csi(parameters);
                self.before_paste = before_paste;
                Press::Edits
            }
            b'~' if parameters == b"200" => {
                if let Some(typed) = before_paste {
                    self.typed = typed;
                    self.is_pasting = true;
                }
                Press::Edits
            }
            // Arrows, home and end are known to every shell.
            b'A'..=b'D' | b'F' | b'H' => Press::Edits,
            // Keys as the kitty protocol spells them, and as xterm does when asked to.
            b'u' if !parameters.starts_with(b"?") => {
                self.is_escaped = true;
                Press::Enters
            }
            b'~' if parameters.starts_with(b"27;") => {
                self.is_escaped = true;
                Press::Enters
            }
            _ => {
                self.is_escaped = true;
                Press::Edits
            }
        }
    }

    fn ss3(&mut self, byte: u8) -> Press {
        match byte {
            b'M' => Press::Enters,
            b'A'..=b'D' | b'F' | b'H' => Press::Edits,
            _ => {
                self.is_escaped = true;
                Press::Edits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Keys {
        let mut keys = Keys::default();
        keys.renew();
        keys
    }

    fn last(keys: &mut Keys, bytes: &[u8]) -> Press {
        bytes.iter().fold(Press::Edits, |_, byte| keys.press(*byte))
    }

    /// K4: whatever a shell in any of its modes may run a line on is taken for it.
    #[test]
    fn whatever_might_enter_a_line_is_taken_for_an_enter() {
        for bytes in [
            &b"x\r"[..],
            b"x\n",
            b"x\x0f",
            b"x\x04",
            b"x\x1b\r",
            b"x\x1b[\r",
            b"x\x1b[1;\r",
            b"x\x1b]rm\r",
            b"x\x1bPq\r",
            b"x\x16\r",
            b"x\x18\r",
            b"x\x1bOM",
            b"x\x1b[13u",
            b"x\x1b[109;5u",
            b"x\x1b[27;5;13~",
            b"x\x1ba",
            b"x\x1bv",
            b"x\x1b0v",
            b"x\x1b[200~y\r",
            b"\xf0\x9f\r",
        ] {
            let shown = bytes.escape_ascii().to_string();
            assert_eq!(last(&mut fresh(), bytes), Press::Enters, "{shown}");
        }
        for bytes in [&b"x\x18\x05"[..], b"x\x18e", b"x\x1b#", b"x\x1b1\x1b#"] {
            let shown = bytes.escape_ascii().to_string();
            assert_eq!(last(&mut fresh(), bytes), Press::Hides, "{shown}");
        }
        for bytes in [&b"x\x03"[..], b"x\x1a", b"\x1c", b"\x1b[\x03"] {
            assert_eq!(last(&mut fresh(), bytes), Press::Interrupts);
        }
    }

    /// K4: only a paste that certainly is one to the shell keeps its line breaks from entering.
    #[test]
    fn a_line_break_enters_but_in_a_paste_that_the_shell_asked_for_and_certainly_sees() {
        let pasted = b"\x1b[200~rm x\nls";
        let asking = || {
            let mut keys = fresh();
            keys.take_pastes(true);
            keys
        };
        let mut keys = asking();
        assert!(pasted.iter().all(|byte| keys.press(*byte) == Press::Edits));
        last(&mut keys, b"\x1b[201~ -l");
        assert_eq!(keys.typed(), Some("rm x\nls -l"));
        assert_eq!(keys.press(b'\r'), Press::Enters);

        for before in [&b"\x16"[..], b"\x1b", b"\x1b[A", b"\x18", b"\x12"] {
            let mut keys = asking();
            last(&mut keys, before);
            let shown = before.escape_ascii().to_string();
            let presses: Vec<_> = pasted.iter().map(|byte| keys.press(*byte)).collect();
            assert!(presses.contains(&Press::Enters), "{shown}");
        }
        // Its end is found as a shell finds it.
        for ended in [
            &b"\x1b[200~a\x1b[201~\r"[..],
            b"\x1b[200~a\x1b[200\x1b[201~\r",
            b"\x1b[200~a\x1b\x1b[201~\r",
        ] {
            let shown = ended.escape_ascii().to_string();
            assert_eq!(last(&mut asking(), ended), Press::Enters, "{shown}");
        }
        // The next line is read by who knows what.
        let mut keys = asking();
        keys.enter(b'\r');
        assert_eq!(last(&mut keys, b"\x1b[200~a\r"), Press::Enters);
    }

    #[test]
    fn what_was_typed_is_known_exactly_or_not_at_all() {
        for (bytes, typed) in [
            (&b"rm x"[..], Some("rm x")),
            (b"rmm\x7f x", Some("rm x")),
            (b"x\x15rm", Some("rm")),
            ("é\u{7f}rm".as_bytes(), Some("rm")),
            (b"r\t", None),
            (b"r\x1b[D", None),
            (b"r\x1b]0;m\x07", None),
            (b"r\x17", None),
            (b"r\xc2\x9b", None),
        ] {
            let mut keys = fresh();
            last(&mut keys, bytes);
            let shown = bytes.escape_ascii().to_string();
            assert_eq!(keys.typed(), typed, "{shown}");
        }
    }

    /// K4: an Enter that was quoted enters nothing, so what follows it is a part of the same line.
    #[test]
    fn it_is_known_again_what_is_typed_when_a_line_was_certainly_entered() {
        for (bytes, renewal) in [
            (&b"x"[..], None),
            (b"x\t", Some(Renewal::AtLineFeed)),
            (b"x\x16", Some(Renewal::AtPrompt)),
            (b"x\x11", Some(Renewal::AtPrompt)),
        ] {
            let mut keys = fresh();
            last(&mut keys, bytes);
            keys.enter(b'\r');
            assert_eq!(keys.renewal(), renewal);
        }
        let mut keys = fresh();
        last(&mut keys, b"x\t");
        keys.enter(b'\r');
        keys.press(b'y');
        assert_eq!(keys.renewal(), Some(Renewal::AtPrompt), "typed ahead");
    }
}
