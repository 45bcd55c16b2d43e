//! Joins a live session from the person's terminal: shows it, and types in it where that was asked for.
//!
//! Called by `session join`. What is shown goes through the player's emulated screen; without a
//! terminal in the session it is lines of text.
//!
//! INVARIANT: nothing a target sent reaches the terminal but as the player paints it, or escaped
//! (security class K5); the person's own terminal is put right however this ends, short of being killed.
//!
//! Not here: painting (`player`), reading casts (`cast`).

use std::{
    io::{self, IsTerminal as _, Read as _},
    time::Duration,
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use sallyport_api::{
    rest::session::{Join, Typing, WATCHER_HEADER},
    sensitive::Sensitive,
};
use sallyport_evidence::recording::escape_controls;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    cast::{CastReader, LineSplitter},
    client::{Client, Streamed},
    context::Context,
    failure::Failure,
    output::write_out,
    player::{Painter, window},
};

/// How often the server hears that the person is still there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Most bytes typed in one request.
const PIECE_BYTES_MAX: usize = 4 * 1024;
/// Pieces read from the keyboard and not sent yet.
const PIECES_MAX: usize = 64;
/// Ctrl-], as telnet has it: leaves.
const LEAVE: u8 = 0x1d;

/// How to join.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Which session.
    pub session_id: &'a str,
    /// Whether to type as well.
    pub has_keyboard: bool,
    /// Channel; those that open, one after the other, when absent.
    pub channel: Option<u32>,
}

/// Joins a session until it ends or the person leaves.
pub async fn join(context: &Context, client: &Client, wish: Wish<'_>) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "standard output is no terminal to show the session in",
            "join from a terminal; afterwards there is `sallyport recording export`",
        ));
    }
    if wish.has_keyboard && !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "standard input is no keyboard",
            "join without `--keyboard`, or from a terminal",
        ));
    }
    let body = Join {
        keyboard: wish.has_keyboard,
        channel: wish.channel,
    };
    let path = ["sessions", wish.session_id, "join"];
    let mut content = client.stream_answer(&path, &body).await?;
    let watcher = content.header(WATCHER_HEADER)?;
    // Before anybody is told how to leave: until then a signal ends this process where it stands.
    let listen = |kind| signal(kind).map_err(|error| Failure::of_stream(&error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let how_to_leave = if wish.has_keyboard {
        "joined with the keyboard; Ctrl-] leaves"
    } else {
        "joined; Ctrl-C leaves"
    };
    context.output.note(how_to_leave)?;

    let keyboard = match wish.has_keyboard {
        true => Some(RawTerminal::enter().map_err(|error| Failure::of_stream(&error))?),
        false => None,
    };
    let (channel, typed_at) = watch::channel(None);
    let mut view = View::new(channel);
    let typing = Presence {
        client,
        session_id: wish.session_id,
        watcher,
        channel: typed_at,
    };
    let outcome = tokio::select! {
        outcome = view.show(&mut content) => outcome,
        outcome = typing.keep(keyboard.as_ref().map(|_| read_keyboard())) => outcome.map(|()| LEFT.to_owned()),
        _ = interrupt.recv() => Ok(LEFT.to_owned()),
        _ = terminate.recv() => Ok(LEFT.to_owned()),
        _ = hang_up.recv() => Ok(LEFT.to_owned()),
    };
    drop(keyboard);
    write_out(&view.end())?;
    context.output.note(&format!("detached: {}", outcome?))
}

/// Why the person is detached who left.
const LEFT: &str = "you left";

/// What is seen of the session.
struct View {
    lines: LineSplitter,
    shown: Shown,
    /// The channel whose terminal is shown.
    channel: watch::Sender<Option<u32>>,
}

enum Shown {
    Nothing,
    Terminal(Box<(CastReader, Painter)>),
    Text,
}

impl View {
    fn new(channel: watch::Sender<Option<u32>>) -> Self {
        Self {
            lines: LineSplitter::default(),
            shown: Shown::Nothing,
            channel,
        }
    }

    /// Shows the session to its end; returns why that came.
    async fn show(&mut self, content: &mut Streamed) -> Result<String, Failure> {
        while let Some(piece) = content.next().await? {
            for line in self.lines.push(&piece)? {
                if let Some(reason) = line.strip_prefix("# detached: ") {
                    return Ok(escape_controls(reason).into_owned());
                }
                write_out(&self.line(&line)?)?;
            }
        }
        Ok("the server closed the connection".to_owned())
    }

    /// What to write so that the person sees the line.
    fn line(&mut self, line: &str) -> Result<String, Failure> {
        if let Some(announced) = line.strip_prefix('#') {
            return Ok(self.turn_to(announced.trim()));
        }
        match &mut self.shown {
            Shown::Nothing => Ok(String::new()),
            Shown::Text => Ok(format!("{}\r\n", escape_controls(line))),
            Shown::Terminal(terminal) => {
                let (reader, painter) = terminal.as_mut();
                let steps = reader.push(format!("{line}\n").as_bytes())?;
                Ok(steps
                    .into_iter()
                    .map(|step| painter.step(step.what))
                    .collect())
            }
        }
    }

    fn turn_to(&mut self, announced: &str) -> String {
        if announced == "text" {
            let painted = self.end();
            self.shown = Shown::Text;
            self.channel.send_replace(None);
            return painted;
        }
        let channel = announced
            .strip_prefix("channel ")
            .and_then(|number| number.parse().ok());
        let Some(channel) = channel else {
            return String::new();
        };
        let painter = Painter::new(window());
        let painted = painter.begin().to_owned();
        self.shown = Shown::Terminal(Box::new((CastReader::default(), painter)));
        self.channel.send_replace(Some(channel));
        painted
    }

    /// Leaves the terminal as it was.
    fn end(&self) -> String {
        match &self.shown {
            Shown::Terminal(terminal) => format!("{}\r\n", terminal.1.end()),
            Shown::Nothing | Shown::Text => String::new(),
        }
    }
}

/// Being there, and typing.
struct Presence<'a> {
    client: &'a Client,
    session_id: &'a str,
    watcher: String,
    channel: watch::Receiver<Option<u32>>,
}

impl Presence<'_> {
    /// Says that the person is there, and sends what they type, until they leave.
    async fn keep(&self, mut keyboard: Option<mpsc::Receiver<Vec<u8>>>) -> Result<(), Failure> {
        loop {
            let typed = match &mut keyboard {
                Some(keys) => timeout(SIGN_OF_LIFE, gather(keys)).await,
                None => timeout(SIGN_OF_LIFE, std::future::pending()).await,
            };
            match typed {
                Err(_) => self.send(None).await?,
                // The keyboard is gone; what is shown is still watched.
                Ok(None) => keyboard = None,
                Ok(Some(bytes)) => {
                    let kept = bytes.split(|byte| *byte == LEAVE).next();
                    let kept = kept.unwrap_or_default();
                    for piece in kept.chunks(PIECE_BYTES_MAX) {
                        self.send(Some(piece)).await?;
                    }
                    if kept.len() < bytes.len() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn send(&self, typed: Option<&[u8]>) -> Result<(), Failure> {
        // Typed before there is a terminal, it is for nobody.
        let channel = *self.channel.borrow();
        let (channel, input) = match (channel, typed) {
            (Some(channel), Some(bytes)) => {
                (Some(channel), Some(Sensitive::new(hex::encode(bytes))))
            }
            _ => (None, None),
        };
        let body = Typing {
            watcher: self.watcher.clone(),
            channel,
            input,
        };
        let path = ["sessions", self.session_id, "input"];
        self.client.deliver(&path, &body).await
    }
}

/// What is typed next, with all that has been typed meanwhile.
async fn gather(keys: &mut mpsc::Receiver<Vec<u8>>) -> Option<Vec<u8>> {
    let mut bytes = keys.recv().await?;
    while let Ok(more) = keys.try_recv() {
        bytes.extend(more);
    }
    Some(bytes)
}

/// Reads the keyboard on a thread that ends with the process: a read cannot be called off.
fn read_keyboard() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    std::thread::spawn(move || {
        let mut keyboard = io::stdin().lock();
        let mut buffer = [0_u8; 1024];
        while let Ok(read) = keyboard.read(&mut buffer) {
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() || sender.blocking_send(bytes.to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal in raw mode: every key is for the session. Dropping it puts the terminal right.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nobody is left to tell; `reset` is what people type then.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> (View, watch::Receiver<Option<u32>>) {
        let (channel, shown) = watch::channel(None);
        (View::new(channel), shown)
    }

    /// Security K5: text of channels without a terminal, and announcements.
    #[test]
    fn given_hostile_lines_then_no_control_character_reaches_the_terminal() {
        let (mut view, _) = view();
        view.line("# text").unwrap();
        let shown = view
            .line("00:00:01.000 0 > \x1b]52;c;ZXZpbA==\x07\u{202e}\u{9b}6n")
            .unwrap();
        let kept = shown.strip_suffix("\r\n").unwrap();
        assert!(!kept.contains(char::is_control), "{kept:?}");
        assert_eq!(view.line("# \x1b[6n").unwrap(), "");
    }

    /// RE-13: what is typed goes to the terminal that is seen, and nowhere else.
    #[test]
    fn given_another_channel_then_it_is_painted_anew_and_typed_at() {
        let (mut view, shown) = view();
        assert_eq!(*shown.borrow(), None);
        let header = r#"{"version":3,"term":{"cols":80,"rows":24}}"#;
        for (channel, text) in [(2, "first"), (5, "second")] {
            view.line(&format!("# channel {channel}")).unwrap();
            view.line(header).unwrap();
            let painted = view.line(&format!(r#"[0.1,"o","{text}"]"#)).unwrap();
            assert!(painted.contains(text), "{painted:?}");
            assert_eq!(*shown.borrow(), Some(channel));
        }
        view.line("# text").unwrap();
        assert_eq!(*shown.borrow(), None);
    }
}
