//! Reads the line that is about to be entered off the screen, and says how sure that is.
//!
//! A line is known when the screen shows behind a prompt what was typed, or, after keys whose effect only
//! the target knows, when the target answered the last of them and then rested. Elsewhere, with a program
//! that reads or a prompt that is not known, a line is known when every key of it was plain.
//!
//! INVARIANT: readings are added, never chosen between: where a prompt might end in several places, each
//! end gives a reading.
//!
//! Not here: what a reading means (`guard`, and policy).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sallyport_core::policy::Pattern;
use sallyport_evidence::recording::{ShellLine, ShellScreen};
use tokio::{sync::Notify, time::timeout};

use super::super::channel::Size;

/// How long a shell may take to show a prompt that is known.
const PROMPT_TIME: Duration = Duration::from_secs(20);
/// How long the target may take to show the keys of a line before the line is judged as it stands.
const ECHO_TIME: Duration = Duration::from_secs(3);
/// A target that answered and then sends nothing for this long has shown what it will show.
const QUIET_TIME: Duration = Duration::from_millis(250);
/// Most readings of one line; one with more cannot be read.
const READINGS_MAX: usize = 64;

/// What the screen of one terminal shows.
pub(super) struct Sight {
    prompts: Vec<Pattern>,
    screen: Mutex<ShellScreen>,
    shown: Notify,
}

/// Where the cursor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind a prompt that is known.
    Prompt,
    /// On a line of something else.
    Elsewhere,
    /// Within a program that has the whole screen.
    FullScreen,
}

/// What is seen of a line that is about to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The target has still to show it.
    Pending,
    /// The target shows something, and may show more.
    Answered,
    /// It is there.
    Settled,
}

impl Sight {
    /// Reads a terminal of this size; `None` when it cannot be followed.
    pub(super) fn new(prompts: Vec<Pattern>, size: Size) -> Option<Self> {
        Some(Self {
            prompts,
            screen: Mutex::new(ShellScreen::new(size.columns, size.rows)?),
            shown: Notify::new(),
        })
    }

    pub(super) fn screen(&self) -> MutexGuard<'_, ShellScreen> {
        // A panic while it was held leaves a screen that is still a screen.
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what the target sent.
    pub(super) fn output(&self, bytes: &[u8]) {
        self.screen().output(bytes);
        self.shown.notify_waiters();
    }

    /// Waits, a bounded time, until the shell shows a prompt that is known; says whether it does.
    pub(super) async fn prompt(&self) -> bool {
        let waiting = async {
            loop {
                let shown = self.shown.notified();
                if self.screen().has_marks() || self.place() == Place::Prompt {
                    return;
                }
                shown.await;
            }
        };
        timeout(PROMPT_TIME, waiting).await.is_ok()
    }

    pub(super) fn place(&self) -> Place {
        let line = self.screen().line();
        match line {
            None => Place::FullScreen,
            Some(line) if self.behind_prompt(&line).is_empty() => Place::Elsewhere,
            Some(_) => Place::Prompt,
        }
    }

    /// Whether it is known exactly what was typed since the last line.
    pub(super) fn is_exact(&self) -> bool {
        self.screen().line().is_some_and(|line| line.is_exact)
    }

    /// Takes a prompt with nothing behind it, on a new line, for the beginning of one.
    pub(super) fn look_for_blank_prompt(&self) {
        let mut screen = self.screen();
        if self.is_blank(&screen) {
            screen.is_at_blank_prompt();
        }
    }

    /// Whether the cursor stands behind a prompt with nothing behind it.
    fn is_blank(&self, screen: &ShellScreen) -> bool {
        let Some(line) = screen.line() else {
            return false;
        };
        let behind = self.behind_prompt(&line);
        match behind.is_empty() {
            true => screen.is_base(&line),
            false => behind.iter().all(|text| text.trim().is_empty()),
        }
    }

    /// Waits, a bounded time, until the target answered an interrupt: with a fresh prompt where it
    /// interrupted a line, else with anything, and rests.
    pub(super) async fn rest(&self) {
        let stage = |screen: &ShellScreen| match screen.is_torn() {
            true if screen.may_be_fresh() && self.is_blank(screen) => Stage::Settled,
            true => Stage::Pending,
            false => Stage::Answered,
        };
        self.until(stage).await;
    }

    /// Waits, a bounded time, until the screen shows the keys of the line; says whether it does. What need
    /// not be shown, such as a password, is not waited for.
    pub(super) async fn settle(
        &self,
        must_wait: impl Fn(&str) -> bool,
        ends_wait: impl Fn(&str) -> bool,
    ) -> bool {
        self.until(|screen| self.stage(screen, &must_wait, &ends_wait))
            .await
    }

    async fn until(&self, stage: impl Fn(&ShellScreen) -> Stage) -> bool {
        let waiting = async {
            loop {
                let shown = self.shown.notified();
                let stage = {
                    let screen = self.screen();
                    match stage(&screen) {
                        Stage::Answered if !screen.is_answered() => Stage::Pending,
                        stage => stage,
                    }
                };
                match stage {
                    Stage::Settled => return,
                    Stage::Pending => shown.await,
                    Stage::Answered if timeout(QUIET_TIME, shown).await.is_err() => return,
                    Stage::Answered => {}
                }
            }
        };
        timeout(ECHO_TIME, waiting).await.is_ok()
    }

    fn stage(
        &self,
        screen: &ShellScreen,
        must_wait: impl Fn(&str) -> bool,
        ends_wait: impl Fn(&str) -> bool,
    ) -> Stage {
        let Some(line) = screen.line() else {
            return Stage::Answered;
        };
        if !line.is_exact {
            return Stage::Answered;
        }
        let behind = self.behind_prompt(&line);
        if behind.is_empty() {
            let must_wait = screen.is_typed(|text| must_wait(text));
            return match (line.is_shown, must_wait) {
                (true, true) => Stage::Settled,
                (false, true) => Stage::Pending,
                // It may be typed ahead: then what of it a shell will get is seen when it does.
                _ if screen.is_typed(|text| recalls(text) || any_end(text, &ends_wait)) => {
                    Stage::Answered
                }
                _ => Stage::Settled,
            };
        }
        let is_shown = behind
            .iter()
            .any(|text| screen_starts_with(screen, text.trim()));
        match is_shown {
            true => Stage::Settled,
            false => Stage::Answered,
        }
    }

    /// What the line may be a command of, behind what was entered of it before: the text behind the
    /// prompt, and what was typed and shown, wherever that was. Blank ones say nothing. `None` when it may
    /// be too much.
    pub(super) fn readings(&self, carried: &str) -> Option<Vec<String>> {
        let Some(line) = self.screen().line() else {
            return Some(Vec::new());
        };
        let behind = self.behind_prompt(&line);
        let mut readings = Vec::new();
        for text in behind.into_iter().chain(line.typed) {
            let text = format!("{carried}{}", text.trim());
            if !text.trim().is_empty() && !readings.contains(&text) {
                readings.push(text);
            }
        }
        (readings.len() <= READINGS_MAX).then_some(readings)
    }

    /// What stands behind the prompt, for every place where it may end; nothing where there is none.
    fn behind_prompt(&self, line: &ShellLine) -> Vec<String> {
        if let Some(text) = &line.after_mark {
            return vec![text.clone()];
        }
        if let Some(found) = search_result(&line.text) {
            return found;
        }
        let text = &line.text;
        let ends = text
            .char_indices()
            .map(|(at, character)| at.saturating_add(character.len_utf8()));
        ends.filter_map(|end| text.split_at_checked(end))
            .filter(|(beginning, _)| {
                // Blanks at the end of a prompt are none of the pattern's business.
                !beginning.ends_with(' ')
                    && self
                        .prompts
                        .iter()
                        .any(|pattern| pattern.matches(beginning))
            })
            .map(|(_, rest)| rest.to_owned())
            .take(READINGS_MAX.saturating_add(1))
            .collect()
    }
}

fn screen_starts_with(screen: &ShellScreen, behind: &str) -> bool {
    screen.is_typed(|typed| behind.starts_with(typed)) || !screen.is_typed(|_| true)
}

/// What a search of readline's history has found, for every place where it may begin.
fn search_result(line: &str) -> Option<Vec<String>> {
    let is_search = ["(reverse-i-search)`", "(i-search)`", "(failed "]
        .iter()
        .any(|beginning| line.starts_with(beginning));
    if !is_search {
        return None;
    }
    let found = line.match_indices("': ");
    let rests: Vec<_> = found
        .filter_map(|(at, quote)| line.get(at.saturating_add(quote.len())..))
        .map(str::to_owned)
        .take(READINGS_MAX.saturating_add(1))
        .collect();
    (!rests.is_empty()).then_some(rests)
}

/// Whether `judge` says so of any end of what was typed: a program may have taken what comes before it.
pub(super) fn any_end(text: &str, judge: impl Fn(&str) -> bool) -> bool {
    let mut ends = text
        .char_indices()
        .filter_map(|(at, _)| text.get(at..))
        .map(str::trim);
    ends.any(judge)
}

/// Whether a shell might put something from its history into this line.
pub(super) fn recalls(text: &str) -> bool {
    let text = text.trim();
    if text.starts_with('^') {
        return true;
    }
    let first = text.split_whitespace().next();
    if first == Some("fc") && !text.contains(" -l") {
        return true;
    }
    let (mut before, mut is_quoted, mut is_double) = (None, false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if !is_quoted => is_double = !is_double,
            '\'' if !is_double => is_quoted = !is_quoted,
            '\\' if !is_quoted => drop(characters.next()),
            // As bash has it: not before these, and not as the last background process.
            '!' if !is_quoted && !matches!(before, Some('$' | '{')) => {
                let is_plain = characters
                    .peek()
                    .is_none_or(|next| matches!(next, ' ' | '\t' | '\n' | '=' | '(' | '"'));
                if !is_plain {
                    return true;
                }
            }
            _ => {}
        }
        before = Some(character);
    }
    false
}

/// The line without its last backslash, when it goes on with the next one.
pub(super) fn goes_on(text: &str) -> Option<&str> {
    let backslashes = text.bytes().rev().take_while(|byte| *byte == b'\\').count();
    (backslashes % 2 == 1)
        .then(|| text.strip_suffix('\\'))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(prompts: &[&str]) -> Sight {
        let prompts = prompts.iter().map(|text| text.parse().unwrap()).collect();
        let size = Size {
            columns: 80,
            rows: 24,
            width_pixels: 0,
            height_pixels: 0,
        };
        Sight::new(prompts, size).unwrap()
    }

    /// K4: a place whose name looks like a prompt hides nothing.
    #[test]
    fn a_prompt_that_may_end_in_several_places_gives_a_reading_for_each() {
        let sight = sight(&["*#"]);
        sight.output(b"root@web:/tmp/a#b# rm x");
        let readings = sight.readings("").unwrap();
        assert!(readings.contains(&"rm x".to_owned()), "{readings:?}");
        assert!(readings.contains(&"b# rm x".to_owned()), "{readings:?}");
        sight.output("#".repeat(70).as_bytes());
        assert_eq!(sight.readings(""), None, "too many to tell");
    }

    /// K4: what a search of the history found is about to run.
    #[test]
    fn a_search_of_the_history_is_read() {
        let sight = sight(&["*$"]);
        sight.output(b"(reverse-i-search)`m': rm x");
        assert_eq!(sight.place(), Place::Prompt);
        assert_eq!(sight.readings("").unwrap(), ["rm x"]);
    }

    /// K4
    #[test]
    fn what_is_taken_from_the_history_is_no_line_that_can_be_read() {
        for text in [
            "!!",
            "sudo !!",
            "!rm",
            "!-2",
            "!?rm",
            "^ls^rm",
            "a;!r",
            "fc -s",
            "\"!r\"",
            "echo \"'\"; !r",
        ] {
            assert!(recalls(text), "{text}");
        }
        for text in [
            "[ ! -f x ]",
            "a != b",
            "kill $!",
            "echo 'a!b'",
            "echo hi!",
            "! ls",
            "${!x}",
            "\\!x",
            "fc -l",
            "echo \"hi!\"",
        ] {
            assert!(!recalls(text), "{text}");
        }
    }

    #[test]
    fn a_line_goes_on_behind_an_odd_number_of_backslashes() {
        assert_eq!(goes_on("r\\"), Some("r"));
        assert_eq!(goes_on("r\\\\"), None);
        assert_eq!(goes_on("r"), None);
    }
}
