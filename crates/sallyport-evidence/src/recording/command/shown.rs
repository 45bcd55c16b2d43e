//! Whether a line on the screen is one that was entered: what it shows behind its prompt against what was typed.

use std::collections::VecDeque;

use avt::{
    Operation, Terminal,
    observer::{Observation, Observer},
    parser::Function,
};

use super::{Confidence, Entered, EnteredLine, Typed, prompt::CursorLine, prompt::Prompt};

/// Reads the cursor's line each time output is about to leave it, while entered lines wait.
pub(super) struct LineFeeds<'a> {
    pub(super) waiting: &'a mut VecDeque<Entered>,
    pub(super) line_feeds_left: &'a mut u32,
    pub(super) shown: &'a mut Vec<EnteredLine>,
}

impl Observer for LineFeeds<'_> {
    type Output = ();

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let leaves_line = matches!(operation, Operation::Function(Function::Lf | Function::Nel));
        if leaves_line && !self.waiting.is_empty() {
            self.read_line(context.terminal());
            *self.line_feeds_left = self.line_feeds_left.saturating_sub(1);
            if *self.line_feeds_left == 0 {
                self.waiting.clear();
            }
        }
    }

    fn end(&mut self, _: &mut Observation<'_>) -> Self::Output {}
}

/// What a line on the screen means for the entered line that waits.
enum Verdict {
    /// It is that line.
    Is(String, Confidence),
    /// It is where that line would be, and shows nothing of it.
    ShowsNothing,
    /// It is some other line.
    IsAnother,
}

impl LineFeeds<'_> {
    pub(super) fn read_line(&mut self, terminal: &Terminal) {
        let Some(line) = CursorLine::read(terminal) else {
            return;
        };
        let mut shows_nothing = false;
        let mut is_next = true;
        let mut found = None;
        for (place, entered) in self.waiting.iter().enumerate() {
            match entered.compare(&line, terminal) {
                // Lines are shown in the order they were entered: if a later one is certainly
                // here, those before it were never shown. Uncertain, it has to wait its turn.
                Verdict::Is(text, confidence) if is_next || confidence == Confidence::Seen => {
                    found = Some((
                        place,
                        EnteredLine {
                            at_us: entered.at_us,
                            text,
                            confidence,
                        },
                    ));
                    break;
                }
                Verdict::ShowsNothing if place == 0 => shows_nothing = true,
                Verdict::Is(..) | Verdict::ShowsNothing | Verdict::IsAnother => {}
            }
            is_next &= entered.is_passed;
        }
        if let Some((place, shown)) = found {
            self.waiting.drain(..=place);
            self.shown.push(shown);
        } else if shows_nothing {
            self.waiting.pop_front();
        }
    }
}

impl Entered {
    fn compare(&self, line: &CursorLine, terminal: &Terminal) -> Verdict {
        if let Some(shown) = self.shown_on(line, terminal) {
            return self.compare_after_prompt(shown.trim());
        }
        let block = self.shown_above(line, terminal);
        match &self.typed {
            Typed::Exactly(typed) => {
                let typed = typed.trim();
                let is_shown = block.as_deref() == Some(typed)
                    || (!typed.is_empty() && line.text.trim_end().ends_with(typed));
                if is_shown {
                    Verdict::Is(typed.to_owned(), Confidence::Seen)
                } else if let Some(block) = block.filter(|block| is_as_long(block, typed)) {
                    Verdict::Is(block, Confidence::Partial)
                } else if self.is_on(line, terminal) && !self.is_ahead_of_prompt() {
                    // The prompt was overwritten, and with it what was typed, if it was shown.
                    Verdict::ShowsNothing
                } else {
                    Verdict::IsAnother
                }
            }
            Typed::Unknown => {
                let shown = block.unwrap_or_else(|| line.text.trim().to_owned());
                if shown.is_empty() {
                    Verdict::IsAnother
                } else {
                    Verdict::Is(shown, Confidence::Partial)
                }
            }
        }
    }

    fn is_ahead_of_prompt(&self) -> bool {
        self.prompt.as_ref().is_none_or(Prompt::is_blank)
    }

    fn is_on(&self, line: &CursorLine, terminal: &Terminal) -> bool {
        self.prompt
            .as_ref()
            .and_then(|prompt| terminal.resolve(&prompt.row))
            .is_some_and(|at| (line.first_row..=line.last_row).contains(&at.row))
    }

    /// What the line shows after the prompt, if it is the line that typing began on, or one that
    /// begins with the same prompt because the screen was cleared or typing ran ahead.
    fn shown_on<'a>(&self, line: &'a CursorLine, terminal: &Terminal) -> Option<&'a str> {
        let prompt = self.prompt.as_ref()?;
        let shown = line.text.strip_prefix(prompt.text.as_str())?;
        (!self.is_ahead_of_prompt() || self.is_on(line, terminal)).then_some(shown)
    }

    fn compare_after_prompt(&self, shown: &str) -> Verdict {
        if shown.is_empty() || shown.chars().all(|mark| matches!(mark, '*' | '•' | '●')) {
            return Verdict::ShowsNothing;
        }
        let Typed::Exactly(typed) = &self.typed else {
            return Verdict::Is(shown.to_owned(), Confidence::Seen);
        };
        let typed = typed.trim();
        match shown.strip_prefix(typed) {
            Some("") => Verdict::Is(shown.to_owned(), Confidence::Seen),
            // The first of several pasted lines: the others follow.
            None if typed.contains('\n') && typed.starts_with(shown) => Verdict::IsAnother,
            // A right-hand prompt stands apart from what was typed.
            Some(rest) if rest.starts_with("  ") && !typed.is_empty() => {
                Verdict::Is(typed.to_owned(), Confidence::Seen)
            }
            Some(_) | None if self.is_ahead_of_prompt() => {
                if !typed.is_empty() && shown.ends_with(typed) {
                    Verdict::Is(typed.to_owned(), Confidence::Seen)
                } else {
                    Verdict::IsAnother
                }
            }
            Some(_) | None => Verdict::Is(shown.to_owned(), Confidence::Partial),
        }
    }

    /// What the rows show from the prompt, if that is above, down to the end of `line`: a command
    /// of several lines, or one that other output ran into.
    fn shown_above(&self, line: &CursorLine, terminal: &Terminal) -> Option<String> {
        let prompt = self.prompt.as_ref()?;
        if terminal.resolve(&prompt.row)?.row >= line.first_row {
            return None;
        }
        Some(prompt.text_after(line, terminal)?.trim().to_owned())
    }
}

/// Whether `shown` has room for all lines of a pasted command.
fn is_as_long(shown: &str, typed: &str) -> bool {
    typed.contains('\n') && shown.lines().count() >= typed.lines().count()
}
