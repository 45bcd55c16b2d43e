//! One terminal with a shell behind it, followed while it is used: what stands on the line that is about
//! to be entered, and where the prompt ends.
//!
//! The gateway feeds it what the target sends and asks it about each key before the target gets it.
//! Prompts are known by the marks of shell integration (OSC 133, as FinalTerm introduced them: `A` the
//! prompt begins, `B` it ends, `C` the command's output begins); without marks the caller judges the line
//! by its text.
//!
//! This reads a screen that the target draws. It shows what a person who is not hiding anything is about
//! to run, and no more.
//!
//! INVARIANT: what is handed out as typed was shown: keys without echo, such as a password's, are judged
//! here and never leave. Memory and work are bounded by the emulator's limits and the bytes fed.
//!
//! Not here: what keys do to a line (`keys`), what a line means (the caller), commands after the fact
//! (`command`).

mod keys;

pub use keys::Press;

use avt::observer::{Observation, Observer};
use avt::{Operation, ScreenKind, Terminal};

use self::keys::{Keys, Renewal};
use super::command::{CursorLine, Prompt};
use super::emulator::Emulator;

/// How far back the first row of a long command may have scrolled.
const SCROLLBACK_ROWS: usize = 200;

/// Longest control sequence looked at; marks and modes are short.
const SEQUENCE_BYTES_MAX: usize = 64;

/// The line that the cursor is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShellLine {
    /// All of it, blanks at its end left out.
    pub text: String,
    /// What follows the prompt that a mark ended, several rows joined by line feeds; absent when no mark
    /// says where it ended.
    pub after_mark: Option<String>,
    /// What was typed since the last line, where it is known exactly and the screen shows it at the end of
    /// this line, or behind its prompt.
    pub typed: Option<String>,
    /// Whether it is known exactly what was typed since the last line.
    pub is_exact: bool,
    /// Whether it is, and this line or the one above shows it; so it is when nothing was typed.
    pub is_shown: bool,
}

/// A terminal with a shell behind it.
pub struct ShellScreen {
    emulator: Emulator,
    sequences: Sequences,
    keys: Keys,
    mark: Option<Prompt>,
    has_marks: bool,
    /// What stood on the cursor's line before the first key of the line: a program's own prompt.
    base: String,
    /// Whether the target sent something since the last keys were sent.
    is_answered: bool,
    /// Whether a line feed was among it.
    is_fed: bool,
}

impl std::fmt::Debug for ShellScreen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ShellScreen")
            .field("has_marks", &self.has_marks)
            .finish_non_exhaustive()
    }
}

impl ShellScreen {
    /// A terminal of this size; `None` if it cannot be followed.
    #[must_use]
    pub fn new(columns: u32, rows: u32) -> Option<Self> {
        let mut keys = Keys::default();
        keys.renew();
        Some(Self {
            emulator: Emulator::new(columns, rows, SCROLLBACK_ROWS)?,
            sequences: Sequences::default(),
            keys,
            mark: None,
            has_marks: false,
            base: String::new(),
            is_answered: false,
            is_fed: false,
        })
    }

    /// The terminal has another size.
    pub fn resize(&mut self, columns: u32, rows: u32) {
        self.emulator.resize(columns, rows);
    }

    /// Shows what the target sent.
    pub fn output(&mut self, bytes: &[u8]) {
        let mut shown = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let Some(sequence) = self.sequences.step(*byte) else {
                continue;
            };
            let end = at.saturating_add(1);
            self.show(bytes.get(shown..end).unwrap_or_default());
            shown = end;
            match sequence {
                Sequence::PromptEnds => {
                    self.has_marks = true;
                    self.mark = Prompt::at_cursor(self.emulator.terminal_mut());
                }
                Sequence::PromptBegins | Sequence::CommandRuns => self.mark = None,
                Sequence::Pastes(is_on) => self.keys.take_pastes(is_on),
            }
        }
        self.show(bytes.get(shown..).unwrap_or_default());
        self.is_answered |= !bytes.is_empty();
        if bytes.contains(&b'\n') {
            self.is_fed = true;
            if self.keys.renewal() == Some(Renewal::AtLineFeed) {
                self.keys.renew();
            }
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.emulator.feed(bytes, &mut Nobody);
        }
    }

    /// Takes one byte that the person sent, before the target gets it.
    pub fn press(&mut self, byte: u8) -> Press {
        if self.keys.typed() == Some("") {
            self.base = self.line().map(|line| line.text).unwrap_or_default();
        }
        let press = self.keys.press(byte);
        self.forget_on_full_screen();
        press
    }

    /// A program that has the screen takes keys one by one: what is left of them belongs to no line.
    fn forget_on_full_screen(&mut self) {
        if self.emulator.terminal().active_screen_kind() == ScreenKind::Alternate {
            self.keys.obscure();
        }
    }

    /// The line goes to the target with this byte.
    pub fn enter(&mut self, byte: u8) {
        self.keys.enter(byte);
        self.forget_on_full_screen();
    }

    /// An interrupt goes to the target.
    pub fn interrupt(&mut self) {
        self.keys.interrupt();
    }

    /// Whether a line was interrupted, and the screen does not show yet that it is gone. What a shell has of
    /// it then may be another line than the one on the screen.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        self.keys.is_torn()
    }

    /// Keys go to the target now: what it sends from here on answers them.
    pub fn send(&mut self) {
        (self.is_answered, self.is_fed) = (false, false);
    }

    /// A prompt stands on the cursor's line with nothing behind it: if it came since keys were sent, nothing
    /// has been typed.
    pub fn is_at_blank_prompt(&mut self) {
        if self.may_be_fresh() {
            self.keys.renew();
        }
    }

    /// Whether a line came since keys were sent, on which a prompt with nothing behind it is a fresh one.
    #[must_use]
    pub fn may_be_fresh(&self) -> bool {
        self.is_fed && self.keys.renewal() == Some(Renewal::AtPrompt)
    }

    /// Whether this line shows what it did before anything was typed, which is then known again to be
    /// nothing if the line came since keys were sent: a program that was interrupted asks anew.
    #[must_use]
    pub fn is_base(&self, line: &ShellLine) -> bool {
        !self.base.is_empty() && line.text == self.base
    }

    /// Whether the target sent something since the last keys were sent.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Asks `judge` about what was typed since the last line, shown or not; `false` when only the target
    /// knows. Nothing is handed out.
    pub fn is_typed(&self, judge: impl FnOnce(&str) -> bool) -> bool {
        let typed = self.keys.typed().map(str::trim);
        typed.is_some_and(|typed| !typed.is_empty() && judge(typed))
    }

    /// Whether a mark ever said where a prompt ends.
    #[must_use]
    pub const fn has_marks(&self) -> bool {
        self.has_marks
    }

    /// The line that the cursor is on; `None` while a program has the whole screen for itself.
    #[must_use]
    pub fn line(&self) -> Option<ShellLine> {
        let terminal = self.emulator.terminal();
        let line = CursorLine::read(terminal)?;
        let text = line.text.trim_end().to_owned();
        let after_mark = self
            .mark
            .as_ref()
            .and_then(|mark| mark.text_after(&line, terminal));
        let typed = self.keys.typed().map(str::trim);
        let behind = after_mark.as_deref().unwrap_or_default().trim();
        // Of several pasted lines the last stands on the cursor's line, or above it.
        let is_pasted = |tail: &str| recent_text(terminal).contains(tail);
        let is_shown = typed.is_some_and(|typed| match typed.rsplit_once('\n') {
            Some((_, tail)) => is_pasted(tail.trim()),
            None => typed.is_empty() || text.ends_with(typed) || behind.starts_with(typed),
        });
        Some(ShellLine {
            is_exact: typed.is_some(),
            typed: typed
                .filter(|typed| is_shown && !typed.is_empty())
                .map(str::to_owned),
            is_shown,
            after_mark,
            text,
        })
    }
}

/// Rows above the cursor that a paste may have been shown on.
const PASTE_ROWS: usize = 20;

/// The cursor's row and those right above it.
fn recent_text(terminal: &Terminal) -> String {
    let rows: Vec<&avt::Line> = terminal.primary_screen().all_lines().collect();
    let top = rows.len().saturating_sub(terminal.size().1);
    let at = top.saturating_add(terminal.cursor().row);
    let recent = rows.get(at.saturating_sub(PASTE_ROWS)..=at);
    let texts = recent.unwrap_or_default().iter().map(|row| row.text());
    texts.collect::<Vec<_>>().join("\n")
}

/// Nobody watches single steps.
struct Nobody;

impl Observer for Nobody {
    type Output = ();

    fn before(&mut self, _: &mut Observation<'_>, _: &Operation) {}

    fn end(&mut self, _: &mut Observation<'_>) -> Self::Output {}
}

/// A control sequence that says something about the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    PromptBegins,
    PromptEnds,
    CommandRuns,
    /// Whether pastes are wanted in brackets (xterm's mode 2004).
    Pastes(bool),
}

/// Finds such sequences in what a target sends, however it is cut into pieces.
#[derive(Debug, Default)]
struct Sequences {
    state: SequenceState,
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SequenceState {
    #[default]
    Ground,
    Escape,
    Csi,
    Osc,
    /// An escape within an OSC: a backslash ends it.
    OscEscape,
}

impl Sequences {
    fn step(&mut self, byte: u8) -> Option<Sequence> {
        use SequenceState::{Csi, Escape, Ground, Osc, OscEscape};
        match (self.state, byte) {
            (Osc, 0x07) | (OscEscape, b'\\') => {
                self.state = Ground;
                return self.osc();
            }
            (Osc, 0x1b) => self.state = OscEscape,
            (Csi, 0x40..=0x7e) => {
                self.state = Ground;
                return self.csi(byte);
            }
            (_, 0x1b) => self.begin(Escape),
            (Escape, b'[') => self.begin(Csi),
            (Escape, b']') => self.begin(Osc),
            (Csi | Osc, _) if self.held.len() < SEQUENCE_BYTES_MAX => self.held.push(byte),
            // Longer than anything looked for: followed to its end, and forgotten.
            (Csi | Osc, _) => {}
            (Ground | Escape | OscEscape, _) => self.state = Ground,
        }
        None
    }

    fn begin(&mut self, state: SequenceState) {
        self.state = state;
        self.held.clear();
    }

    fn osc(&self) -> Option<Sequence> {
        let mut parts = self.held.split(|byte| *byte == b';');
        match (parts.next(), parts.next()) {
            (Some(b"133"), Some(b"A")) => Some(Sequence::PromptBegins),
            (Some(b"133"), Some(b"B")) => Some(Sequence::PromptEnds),
            (Some(b"133"), Some(b"C")) => Some(Sequence::CommandRuns),
            _ => None,
        }
    }

    fn csi(&self, last: u8) -> Option<Sequence> {
        let modes = self.held.strip_prefix(b"?")?;
        let is_paste = modes
            .split(|byte| *byte == b';')
            .any(|mode| mode == b"2004");
        match (is_paste, last) {
            (true, b'h') => Some(Sequence::Pastes(true)),
            (true, b'l') => Some(Sequence::Pastes(false)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn screen() -> ShellScreen {
        ShellScreen::new(40, 10).unwrap()
    }

    fn type_in(screen: &mut ShellScreen, text: &str) -> Vec<Press> {
        text.bytes().map(|byte| screen.press(byte)).collect()
    }

    #[test]
    fn a_mark_says_where_the_prompt_ends_however_the_output_is_cut() {
        let output = b"\x1b]133;A\x07user@host:~$ \x1b]133;B\x07rm -rf x";
        for cut in 0..output.len() {
            let mut screen = screen();
            screen.output(&output[..cut]);
            screen.output(&output[cut..]);
            assert!(screen.has_marks(), "cut at {cut}");
            let line = screen.line().unwrap();
            assert_eq!(line.after_mark.as_deref(), Some("rm -rf x"), "cut at {cut}");
            assert_eq!(line.text, "user@host:~$ rm -rf x");
        }
    }

    #[test]
    fn a_running_command_has_no_prompt() {
        let mut screen = screen();
        screen.output(b"\x1b]133;A\x1b\\$ \x1b]133;B\x1b\\cat\r\n\x1b]133;C\x1b\\");
        assert_eq!(screen.line().unwrap().after_mark, None);
    }

    /// K4: completion and history happen at the target; the screen shows what came of them.
    #[test]
    fn what_the_target_made_of_the_keys_is_read_off_the_screen() {
        let mut screen = screen();
        screen.output(b"$ \x1b]133;B\x07");
        assert_eq!(type_in(&mut screen, "rm -r /sr\t"), [Press::Edits; 10]);
        screen.output(b"rm -r /srv/");
        let line = screen.line().unwrap();
        assert_eq!(line.after_mark.as_deref(), Some("rm -r /srv/"));
        assert_eq!(line.typed, None);
        assert!(!line.is_exact);
    }

    #[test]
    fn a_long_command_is_read_over_its_rows() {
        let mut screen = screen();
        screen.output(b"$ \x1b]133;B\x07");
        let command = format!("rm {}", "abcdefgh/".repeat(12));
        screen.output(command.as_bytes());
        assert_eq!(screen.line().unwrap().after_mark, Some(command));
    }

    /// K4: a password typed without echo is nobody's to see.
    #[test]
    fn keys_that_are_not_shown_are_not_handed_out() {
        let mut screen = screen();
        screen.output(b"[sudo] password for alice: ");
        type_in(&mut screen, "rm secret");
        let line = screen.line().unwrap();
        assert_eq!(line.typed, None);
        assert!(line.is_exact && !line.is_shown);
        screen.output(b"rm secret");
        assert_eq!(screen.line().unwrap().typed.as_deref(), Some("rm secret"));
    }

    /// K4: an interrupt may be ignored, and then the line is still there.
    #[test]
    fn nothing_is_known_after_an_interrupt_until_a_prompt_shows_a_line_of_its_own() {
        let mut screen = screen();
        screen.output(b"$ x");
        type_in(&mut screen, "x");
        assert_eq!(screen.press(3), Press::Interrupts);
        screen.interrupt();
        screen.send();
        assert!(!screen.is_answered());
        screen.is_at_blank_prompt();
        assert!(!screen.line().unwrap().is_exact && screen.is_torn());
        screen.output(b"^C\r\n$ ");
        assert!(screen.is_answered());
        screen.is_at_blank_prompt();
        assert!(screen.line().unwrap().is_exact && !screen.is_torn());
        // Where there was no line, none is torn.
        screen.press(3);
        screen.interrupt();
        assert!(!screen.is_torn());
    }

    /// A program with a prompt of its own is no trap.
    #[test]
    fn a_program_that_asks_anew_after_an_interrupt_is_known_to_have_no_line() {
        let mut screen = screen();
        screen.output(b">>> ");
        type_in(&mut screen, "\u{1b}[A");
        screen.output(b"print(1)");
        screen.interrupt();
        screen.send();
        screen.output(b"\r\nKeyboardInterrupt\r\n>>> x");
        assert!(!screen.is_base(&screen.line().unwrap()));
        screen.output(b"\x08 \x08");
        assert!(screen.is_base(&screen.line().unwrap()));
        screen.is_at_blank_prompt();
        assert!(screen.line().unwrap().is_exact && !screen.is_torn());
    }

    /// A password that is asked for by a command whose name was completed is known again.
    #[test]
    fn the_line_feed_that_answers_an_enter_begins_a_line() {
        let mut screen = screen();
        screen.output(b"$ ");
        type_in(&mut screen, "su\t");
        screen.press(b'\r');
        screen.enter(b'\r');
        assert!(!screen.line().unwrap().is_exact);
        screen.output(b"\r\nPassword: ");
        type_in(&mut screen, "secret");
        assert!(screen.is_typed(|typed| typed == "secret"));
    }

    /// K4: brackets that the target did not ask for are no paste to it.
    #[test]
    fn a_line_break_in_brackets_enters_unless_the_target_asked_for_them() {
        let pasted = "\u{1b}[200~rm x\nls\u{1b}[201~";
        let mut screen = screen();
        assert!(type_in(&mut screen, pasted).contains(&Press::Enters));
        let mut asking = self::screen();
        asking.output(b"\x1b[?2004h$ ");
        assert!(!type_in(&mut asking, pasted).contains(&Press::Enters));
        asking.output(b"\x1b[?2004l");
        assert!(type_in(&mut asking, pasted).contains(&Press::Enters));
    }

    /// K4: the first line of a paste is as much a command as the last.
    #[test]
    fn a_paste_of_several_lines_is_read_whole() {
        let mut screen = screen();
        screen.output(b"\x1b[?2004h$ ");
        type_in(&mut screen, "\u{1b}[200~rm x\nls\u{1b}[201~");
        assert!(!screen.line().unwrap().is_shown);
        screen.output(b"rm x\r\n> ls");
        let line = screen.line().unwrap();
        assert_eq!(line.typed.as_deref(), Some("rm x\nls"));
        assert!(line.is_shown && line.is_exact);
    }

    #[test]
    fn a_program_that_has_the_whole_screen_is_left_alone() {
        let mut screen = screen();
        screen.output(b"$ \x1b[?1049hfile");
        assert_eq!(screen.line(), None);
        screen.output(b"\x1b[?1049l");
        assert!(screen.line().is_some());
    }

    proptest! {
        #[test]
        fn nothing_that_a_target_or_a_person_sends_stops_it(
            steps in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(prop_oneof![
                    Just(0x1b_u8), Just(b']'), Just(b'['), Just(7), Just(b';'), any::<u8>()
                ], 0..40)), 0..20)
        ) {
            let mut screen = screen();
            for (is_output, bytes) in steps {
                if is_output {
                    screen.output(&bytes);
                } else {
                    for byte in bytes {
                        screen.press(byte);
                    }
                }
                let _ = screen.line();
            }
            prop_assert!(screen.sequences.held.len() <= SEQUENCE_BYTES_MAX);
        }
    }
}
