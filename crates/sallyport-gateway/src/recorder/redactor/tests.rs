//! What leaves the redactor, for any way in which the same content can arrive.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sallyport_core::policy::RedactionRule;
use sallyport_evidence::recording::{Direction, FrameKind, Pty};

use super::*;

fn rules(own: &[(&str, &str)]) -> Arc<RuleSet> {
    let families = ["cards", "private_keys", "tokens"].map(|name| (name, None));
    let own = own
        .iter()
        .map(|(name, pattern)| (*name, Some((*pattern).to_owned())));
    let wanted: BTreeSet<_> = families
        .into_iter()
        .chain(own)
        .map(|(name, pattern)| RedactionRule {
            name: name.to_owned(),
            pattern,
        })
        .collect();
    Arc::new(RuleSet::compile(&wanted).unwrap())
}

/// What came out: kept bytes of one stream joined, redactions in their places.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Kept(u32, u8, Vec<u8>),
    Redacted(u32, u8, String, u64),
    Other(String),
}

#[derive(Default)]
struct Stored(Vec<Piece>);

impl Stored {
    fn take(&mut self, frame: &Frame<'_>) {
        let channel = frame.channel;
        let kept = |stream, bytes: &[u8]| Piece::Kept(channel, stream, bytes.to_vec());
        let piece = match frame.kind {
            FrameKind::Input(bytes) => kept(0, bytes),
            FrameKind::Output(bytes) => kept(1, bytes),
            FrameKind::ErrorOutput(bytes) => kept(2, bytes),
            FrameKind::Redacted {
                direction,
                rule,
                bytes,
                ..
            } => {
                let stream = match direction {
                    Direction::Input => 0,
                    Direction::Output => 1,
                    Direction::ErrorOutput => 2,
                };
                Piece::Redacted(channel, stream, rule.to_owned(), bytes)
            }
            other => Piece::Other(format!("{other:?}")),
        };
        match (self.0.last_mut(), piece) {
            (Some(Piece::Kept(channel, stream, bytes)), Piece::Kept(c, s, more))
                if *channel == c && *stream == s =>
            {
                bytes.extend(more);
            }
            (_, piece) => self.0.push(piece),
        }
    }

    /// The pieces of one stream, kept ones joined over what came between.
    fn of(&self, channel: u32, stream: u8) -> Vec<Piece> {
        let mut joined = Self::default();
        for piece in &self.0 {
            match piece {
                Piece::Kept(c, s, bytes) if (*c, *s) == (channel, stream) => {
                    if let Some(Piece::Kept(_, _, before)) = joined.0.last_mut() {
                        before.extend(bytes);
                    } else {
                        joined.0.push(piece.clone());
                    }
                }
                Piece::Redacted(c, s, ..) if (*c, *s) == (channel, stream) => {
                    joined.0.push(piece.clone());
                }
                _ => {}
            }
        }
        joined.0
    }

    fn text(&self) -> String {
        let texts = self.0.iter().map(|piece| match piece {
            Piece::Kept(_, _, bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Piece::Redacted(_, _, rule, bytes) => format!("<{rule} {bytes}>"),
            Piece::Other(text) => format!("{{{text}}}"),
        });
        texts.collect()
    }
}

/// How long the writer waits for frames.
const ROUND: Duration = Duration::from_millis(500);

/// A redactor and what it stored.
struct Bench {
    redactor: Redactor,
    stored: Stored,
    typed: Vec<String>,
}

impl Bench {
    fn new(rules: Arc<RuleSet>) -> Self {
        Self {
            redactor: Redactor::new(rules).unwrap(),
            stored: Stored::default(),
            typed: Vec::new(),
        }
    }

    fn push(&mut self, at_ms: u64, channel: u32, kind: FrameKind<'_>) {
        let frame = Frame {
            at_us: at_ms * 1_000,
            channel,
            kind,
        };
        let stored = &mut self.stored;
        let mut store = |frame: &Frame<'_>| {
            stored.take(frame);
            Ok(())
        };
        self.redactor.push(&frame, &mut store).unwrap();
    }

    fn settle(&mut self, is_last: bool) {
        let stored = &mut self.stored;
        let mut store = |frame: &Frame<'_>| {
            stored.take(frame);
            Ok(())
        };
        let typed = self.redactor.settle(ROUND, is_last, &mut store).unwrap();
        self.typed
            .extend(typed.into_iter().map(|command| command.text));
        assert!(!is_last || !self.redactor.holds());
    }

    fn open_terminal(&mut self) {
        let pty = Some(Pty {
            term: "xterm",
            columns: 80,
            rows: 24,
        });
        let kind = FrameKind::ChannelOpened {
            kind: "shell",
            pty,
            command: None,
        };
        self.push(0, 0, kind);
        self.stored.0.clear();
    }

    /// Keys, each echoed a moment later.
    fn type_echoed(&mut self, at_ms: u64, text: &str) {
        for byte in text.bytes() {
            self.push(at_ms, 0, FrameKind::Input(&[byte]));
            self.push(at_ms, 0, FrameKind::Output(&[byte]));
        }
    }
}

fn key() -> String {
    let line = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
    format!(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{line}\n{line}\nQyNTUxOQ==\n-----END OPENSSH PRIVATE KEY-----"
    )
}

/// Content with matches, near misses and beginnings of matches.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[ -~\r\n]{0,12}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..12),
        Just(key().into_bytes()),
        Just(key().into_bytes()[..90].to_vec()),
        Just(b"acme-123456".to_vec()),
        Just(b"acme-12345".to_vec()),
        Just(b" 4111111111111111 ".to_vec()),
        Just(b" AKIAIOSFODNN7EXAMPLE".to_vec()),
        Just(b"ghp_aaaaaaaaaabbbbbbbbbbccccccccccdddddd".to_vec()),
        Just(b"\x1b[1mac\x1b[0mme-12 \r3456".to_vec()),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// Where the content of one stream is cut into frames, and after which frames a batch ends.
fn cuts() -> impl Strategy<Value = Vec<(prop::sample::Index, bool)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..12)
}

fn pieces<'a>(content: &'a [u8], cuts: &[(prop::sample::Index, bool)]) -> Vec<(&'a [u8], bool)> {
    let mut places: Vec<_> = cuts
        .iter()
        .map(|(cut, settles)| (cut.index(content.len() + 1), *settles))
        .collect();
    places.sort_unstable();
    let mut from = 0;
    let mut pieces = Vec::new();
    for (place, settles) in places {
        pieces.push((&content[from..place], settles));
        from = place;
    }
    pieces.push((&content[from..], false));
    pieces.retain(|(piece, _)| !piece.is_empty());
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// RE-8, RE-14: what is stored depends on what passed and not on how it was cut into frames, chunks
    /// and batches; nothing of a match survives, nothing else is changed, lost, repeated or moved.
    #[test]
    fn any_split_stores_what_the_whole_does_and_nothing_of_a_match(
        content in content(), cuts in cuts(), other in content(),
    ) {
        let rules = rules(&[("acme", "acme-[0-9]{6}")]);
        let mut whole = Bench::new(Arc::clone(&rules));
        for piece in [&content[..]].iter().filter(|piece| !piece.is_empty()) {
            whole.push(0, 1, FrameKind::Output(piece));
        }
        whole.settle(true);

        let mut split = Bench::new(Arc::clone(&rules));
        for (piece, settles) in pieces(&content, &cuts) {
            split.push(0, 1, FrameKind::Output(piece));
            split.push(0, 2, FrameKind::ErrorOutput(&other));
            split.push(0, 2, FrameKind::ExitStatus(7));
            if settles {
                split.settle(false);
            }
        }
        split.settle(true);
        prop_assert_eq!(split.stored.of(1, 1), whole.stored.of(1, 1));

        let mut at = 0_usize;
        let mut is_kept = vec![false; content.len()];
        for piece in whole.stored.of(1, 1) {
            match piece {
                Piece::Kept(_, _, bytes) => {
                    prop_assert_eq!(&content[at..at + bytes.len()], &bytes[..]);
                    is_kept[at..at + bytes.len()].fill(true);
                    at += bytes.len();
                }
                Piece::Redacted(_, _, _, bytes) => at += usize::try_from(bytes).unwrap(),
                Piece::Other(_) => prop_assert!(false),
            }
        }
        prop_assert_eq!(at, content.len());
        for (range, rule) in rules.find_all(&content) {
            prop_assert!(!is_kept[range].contains(&true), "{}", rule);
        }
    }

    /// RE-14: frames of other channels and kinds keep their places among what waits.
    #[test]
    fn frames_leave_in_the_order_in_which_they_came(
        content in content(), cuts in cuts(),
    ) {
        let mut bench = Bench::new(rules(&[]));
        let mut number = 0;
        for (piece, settles) in pieces(&content, &cuts) {
            bench.push(0, 1, FrameKind::Output(piece));
            bench.push(0, 1, FrameKind::ExitStatus(number));
            number += 1;
            if settles {
                bench.settle(false);
            }
        }
        bench.settle(true);
        let statuses: Vec<_> = bench
            .stored
            .0
            .iter()
            .filter(|piece| matches!(piece, Piece::Other(_)))
            .cloned()
            .collect();
        let expected: Vec<_> = (0..number)
            .map(|number| Piece::Other(format!("ExitStatus({number})")))
            .collect();
        prop_assert_eq!(statuses, expected);
    }
}

/// RE-8, RE-14: a token that trickles in does not hold the recording up, and is redacted all the same.
#[test]
fn given_a_key_line_by_line_every_second_then_each_line_is_redacted_as_it_comes() {
    let mut bench = Bench::new(rules(&[]));
    let text = format!("before\n{}\nafter\n", key());
    for (second, line) in text.split_inclusive('\n').enumerate() {
        bench.push(second as u64 * 1_000, 1, FrameKind::Output(line.as_bytes()));
        bench.settle(false);
        bench.settle(false);
        bench.settle(false);
        assert!(!bench.redactor.holds(), "{line}");
    }
    bench.settle(true);
    let text = bench.stored.text();
    assert!(text.starts_with("before\n<pem-private-key"), "{text}");
    assert!(text.ends_with(">\nafter\n"), "{text}");
    assert!(
        !text.contains("b3BlbnNz") && !text.contains("QyNTUx"),
        "{text}"
    );
}

/// RE-8: what looks like the beginning of a match, and is none, comes out.
#[test]
fn given_a_beginning_that_goes_no_further_then_it_is_stored_within_two_rounds() {
    let mut bench = Bench::new(rules(&[]));
    for text in ["total: 4", "gh", "-----BEG", "AKI"] {
        bench.push(0, 1, FrameKind::Output(text.as_bytes()));
        bench.settle(false);
        bench.settle(false);
        bench.settle(false);
        assert!(!bench.redactor.holds(), "{text}");
        assert!(
            bench.stored.text().ends_with(text),
            "{}",
            bench.stored.text()
        );
    }
}

/// RE-8, K6: what waits behind an unfinished match is bounded.
#[test]
fn given_a_flood_behind_an_unfinished_match_then_it_does_not_pile_up() {
    let mut bench = Bench::new(rules(&[]));
    let start = format!("acme ghp_{}", "a".repeat(20));
    bench.push(0, 1, FrameKind::Output(start.as_bytes()));
    let flood = vec![b'\n'; 256 * 1024];
    for _ in 0..6 {
        bench.push(0, 2, FrameKind::Output(&flood));
        bench.settle(false);
    }
    assert!(!bench.redactor.holds());
    assert!(bench.stored.text().starts_with("acme <github-token 24>\n"));
    let rest = format!("{} cccc", "b".repeat(20));
    bench.push(0, 1, FrameKind::Output(rest.as_bytes()));
    bench.settle(true);
    assert!(bench.stored.text().ends_with("<github-token 20> cccc"));
}

/// RE-8: a token of which the recording keeps only the beginning, because of its content limit or
/// because the channel closed, is redacted too.
#[test]
fn given_content_that_ends_within_a_token_then_what_there_is_of_it_is_redacted() {
    let mut bench = Bench::new(rules(&[]));
    bench.push(0, 1, FrameKind::Output(b"T=ghp_aaaabbbb"));
    bench.push(0, 1, FrameKind::ChannelClosed);
    bench.settle(false);
    assert_eq!(bench.stored.text(), "T=<github-token 12>{ChannelClosed}");
}

/// RE-8, R15: commands, notes and the words of the target hold no match either.
#[test]
fn texts_of_other_frames_are_redacted_in_place() {
    let mut bench = Bench::new(rules(&[]));
    let command = "deploy --key AKIAIOSFODNN7EXAMPLE --now";
    bench.push(
        0,
        1,
        FrameKind::ChannelOpened {
            kind: "exec",
            pty: None,
            command: Some(command),
        },
    );
    bench.push(0, 1, FrameKind::Note("AKIAIOSFODNN7EXAMPLE"));
    bench.settle(true);
    let text = bench.stored.text();
    assert!(!text.contains("AKIAIO"), "{text}");
    let marked = "deploy --key [redacted aws-access-key-id: 20 bytes] --now";
    assert!(text.contains(marked), "{text}");
}

/// K6: a password at a prompt is not stored, however it is entered.
#[test]
fn given_a_prompt_without_echo_then_what_is_typed_is_masked() {
    for entered in [
        &[&b"h"[..], b"u", b"n", b"t", b"2\r"][..],
        &[b"hunt2\r"],
        &[b"hunt2", b"\r"],
    ] {
        let mut bench = Bench::new(rules(&[]));
        bench.open_terminal();
        bench.push(0, 0, FrameKind::Output(b"Password: "));
        for (number, keys) in entered.iter().enumerate() {
            bench.push(100 * number as u64, 0, FrameKind::Input(keys));
        }
        // The answer holds the same letters.
        bench.push(500, 0, FrameKind::Output(b"\r\nhunt hunt 2 2\r\n$ "));
        bench.settle(false);
        bench.settle(true);
        let text = bench.stored.text();
        let typed = bench.stored.of(0, 0);
        let is_kept = |piece: &Piece| matches!(piece, Piece::Kept(_, _, bytes) if bytes != b"\r");
        assert!(!typed.iter().any(is_kept), "{text}");
        let masked: u64 = typed
            .iter()
            .map(|piece| match piece {
                Piece::Redacted(_, _, rule, bytes) if rule == "not-echoed" => *bytes,
                _ => 0,
            })
            .sum();
        assert_eq!(masked, 5, "{text}");
        assert!(text.ends_with("\r\nhunt hunt 2 2\r\n$ "), "{text}");
        assert_eq!(bench.typed, Vec::<String>::new());
    }
}

/// RE-2, RE-14: what was shown stays, and commands are read as before.
#[test]
fn given_an_echo_then_typing_is_stored_key_by_key_and_its_command_is_seen() {
    let mut bench = Bench::new(rules(&[]));
    bench.open_terminal();
    bench.push(0, 0, FrameKind::Output(b"$ "));
    bench.type_echoed(10, "ls -l");
    bench.push(20, 0, FrameKind::Input(b"\r"));
    bench.push(30, 0, FrameKind::Output(b"\r\ntotal 0\r\n$ "));
    // Typed ahead and pasted: shown a line at a time, later.
    bench.push(40, 0, FrameKind::Input(b"pwd\rid\r"));
    bench.push(
        60,
        0,
        FrameKind::Output(b"pwd\r\n/root\r\n$ id\r\nuid=0\r\n$ "),
    );
    bench.settle(true);
    assert!(
        !bench.stored.text().contains("not-echoed"),
        "{}",
        bench.stored.text()
    );
    let input: Vec<u8> = bench
        .stored
        .of(0, 0)
        .into_iter()
        .flat_map(|piece| match piece {
            Piece::Kept(_, _, bytes) => bytes,
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(input, b"ls -l\rpwd\rid\r");
    assert_eq!(bench.typed, ["ls -l", "pwd", "id"]);
}

/// RE-14: keys that are no text are stored whatever is shown, and an echo that comes late costs the
/// keys and not the command.
#[test]
fn given_arrows_or_a_slow_echo_then_keys_stay_or_only_text_is_masked() {
    let mut bench = Bench::new(rules(&[]));
    bench.open_terminal();
    let keys = b"\x1b[A\x1bOB\x03\t\x7f";
    bench.push(0, 0, FrameKind::Input(keys));
    bench.settle(false);
    assert_eq!(bench.stored.text().as_bytes(), keys);

    let mut bench = Bench::new(rules(&[]));
    bench.open_terminal();
    bench.push(0, 0, FrameKind::Output(b"$ "));
    bench.push(10, 0, FrameKind::Input(b"id"));
    bench.settle(false);
    bench.settle(false);
    bench.push(2_000, 0, FrameKind::Output(b"id"));
    bench.push(2_000, 0, FrameKind::Input(b"\r"));
    bench.push(2_010, 0, FrameKind::Output(b"\r\nuid=0\r\n$ "));
    bench.settle(true);
    assert!(
        bench.stored.text().starts_with("$ <not-echoed 2>id"),
        "{}",
        bench.stored.text()
    );
    assert_eq!(bench.typed, ["id"]);
}

/// RE-8, R15: a key pasted at a prompt is many lines, and each would be a command of its own.
#[test]
fn given_a_key_pasted_at_a_prompt_then_no_command_holds_a_line_of_it() {
    let mut bench = Bench::new(rules(&[]));
    bench.open_terminal();
    bench.push(0, 0, FrameKind::Output(b"$ "));
    bench.push(
        10,
        0,
        FrameKind::Input(key().replace('\n', "\r").as_bytes()),
    );
    bench.push(10, 0, FrameKind::Input(b"\r"));
    bench.push(
        20,
        0,
        FrameKind::Output(key().replace('\n', "\r\n").as_bytes()),
    );
    bench.push(30, 0, FrameKind::Output(b"\r\nsh: not found\r\n$ "));
    bench.settle(true);
    let all = format!("{} {:?}", bench.stored.text(), bench.typed);
    assert!(
        !all.contains("b3BlbnNz") && !all.contains("QyNTUx"),
        "{all}"
    );
}

/// K6: fingerprints tell equal from different, and nothing to those who guess.
#[test]
fn fingerprints_of_one_recording_compare_and_those_of_two_do_not() {
    let (one, two) = (Digests::new().unwrap(), Digests::new().unwrap());
    assert_eq!(one.of("jwt", b"a"), one.of("jwt", b"a"));
    assert_ne!(one.of("jwt", b"a"), one.of("jwt", b"b"));
    assert_ne!(one.of("jwt", b"a"), one.of("jw", b"ta"));
    assert_ne!(one.of("jwt", b"a"), two.of("jwt", b"a"));
}
