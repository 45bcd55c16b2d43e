//! Others at a live session: joining it from a terminal, typing in it, speaking to its person, pausing
//! it, and sessions that must be watched.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    node::{BINARY, finished, send},
    person::Person,
    ssh::said,
    waiting::{eventually, within},
    world::{ROOT, World},
};

/// A command of ours in a terminal, with somebody at its keyboard.
struct Seat {
    script: Option<Child>,
    keyboard: ChildStdin,
    seen: Arc<Mutex<Vec<u8>>>,
    words: Vec<String>,
}

impl Seat {
    fn take(person: &Person, words: &[&str]) -> Self {
        let inner = person.command(words);
        let command = [&[BINARY], words].concat().join(" ");
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &format!("exec {command}"), "/dev/null"]);
        for (name, value) in inner.get_envs() {
            script.env(name, value.unwrap());
        }
        let mut script = script
            .env("TERM", "xterm")
            .current_dir(&person.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut screen = script.stdout.take().unwrap();
        let shown = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                shown.lock().unwrap().extend(&buffer[..read]);
            }
        });
        Self {
            keyboard: script.stdin.take().unwrap(),
            script: Some(script),
            seen,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn seen(&self) -> String {
        said(&self.seen.lock().unwrap())
    }

    fn until(&self, part: &str) {
        eventually(&format!("`{part}` is on the screen"), || {
            self.seen().contains(part).then_some(())
        });
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// The process that is joined, not the terminal around it.
    fn pid(&self) -> u32 {
        eventually("the command runs", || {
            fs::read_dir("/proc")
                .unwrap()
                .filter_map(|item| item.ok()?.file_name().to_str()?.parse::<u32>().ok())
                .find(|pid| {
                    // Others may sit at the same command.
                    let status = fs::read_to_string(format!("/proc/{pid}/status"));
                    let parent = format!("PPid:\t{}\n", self.script.as_ref().unwrap().id());
                    if !status.unwrap_or_default().contains(&parent) {
                        return false;
                    }
                    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    let line = said(&line);
                    let mut arguments = line.split('\0');
                    arguments.next() == Some(BINARY)
                        && arguments
                            .zip(&self.words)
                            .filter(|(had, wanted)| had == wanted)
                            .count()
                            == self.words.len()
                })
        })
    }

    /// Waits until the command has ended by itself.
    fn ended(&mut self) -> String {
        finished(self.script.take().unwrap());
        self.seen()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(mut script) = self.script.take() {
            let _ = script.kill();
            let _ = script.wait();
        }
    }
}

/// Who is joined to a session, as anybody who may see it reads.
fn joined(world: &World, id: &str) -> Vec<String> {
    let session = world.carol.json(&["session", "show", id]);
    let watchers = session["watchers"].as_array().unwrap().iter();
    watchers
        .map(|watcher| watcher["person"].as_str().unwrap().to_owned())
        .collect()
}

fn until_joined(world: &World, id: &str, people: &[&str]) {
    // A second is promised; a loaded test machine gets three.
    within(Duration::from_secs(3), "exactly they are joined", || {
        (joined(world, id) == people).then_some(())
    });
}

/// RE-13, RE-2, AC-6: joined with the keyboard, seen, typed, recorded under her name, told, on record;
/// and out when she leaves or may no longer.
#[test]
fn somebody_joins_with_the_keyboard_types_under_her_name_and_is_out_when_locked() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut live = world.ssh().start_with(&["-tt"], ROOT, "");
    live.type_line("echo early-$((1 + 1))");
    live.until_line("early-2");
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();

    let mut seat = Seat::take(&world.carol, &["session", "join", id, "--keyboard"]);
    seat.until("early-2");
    assert_eq!(joined(&world, id), ["carol"]);
    seat.press(b"echo typed-$((40 + 2))\r");
    live.until_line("typed-42");
    seat.until("typed-42");
    seat.press(b"\x1d");
    let screen = seat.ended();
    assert!(screen.contains("detached: you left"), "{screen:?}");
    until_joined(&world, id, &[]);

    let mut again = Seat::take(&world.carol, &["session", "join", id]);
    again.until("typed-42");
    let lock = ["lock", "add", "--person", "carol", "--reason", "incident 9"];
    world.olga.say(&lock);
    until_joined(&world, id, &[]);
    let screen = again.ended();
    assert!(screen.contains("detached: right-ended"), "{screen:?}");
    let refused = Seat::take(&world.carol, &["session", "join", id]).ended();
    assert!(refused.contains("(locked"), "{refused:?}");

    live.type_line("exit");
    let (_, complaint) = live.end();
    for line in [
        "sallyport: carol joined and can type",
        "sallyport: carol left",
        "sallyport: carol joined and watches",
    ] {
        assert!(complaint.contains(line), "no `{line}` in {complaint}");
    }
    world.ended_session(id);
    let transcript = world
        .carol
        .say(&["recording", "export", id, "--format", "transcript"]);
    assert!(
        transcript.contains("note: typed by carol: "),
        "{transcript}"
    );
    let joins = world.events("session.joined");
    assert_eq!(joins.len(), 2, "{joins:?}");
    eventually("both leavings are on record", || {
        (world.events("session.left").len() == 2).then_some(())
    });
}

/// RE-13, MO-6, security K5: a message and a pause reach the person; paused, nothing passes, resumed,
/// all of it does.
#[test]
fn a_session_is_paused_and_resumed_and_its_person_is_spoken_to() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let command = "echo started; while read line; do echo got-$line; done";
    let mut live = world.ssh().start(ROOT, command);
    live.until_line("started");
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();
    let message = "please stop\u{1b}[2J now";
    world.bob.say(&["session", "message", id, message]);
    world.bob.say(&["session", "pause", id]);
    let paused = world.bob.json(&["session", "show", id]);
    assert_eq!(paused["paused_by"], "bob");
    live.type_line("one");
    // The gateway is told of the pause before the command returns, and what it is told last comes last.
    world.bob.say(&["session", "message", id, "still paused"]);
    world.bob.say(&["session", "resume", id]);
    live.until_line("got-one");
    let (_, complaint) = live.end();
    let expected = [
        "sallyport: bob says: please stop\\u{1b}[2J now",
        "sallyport: bob paused the session",
        "sallyport: bob says: still paused",
        "sallyport: the session is no longer paused",
    ];
    let mut rest = complaint.as_str();
    for line in expected {
        let (_, after) = rest
            .split_once(line)
            .unwrap_or_else(|| panic!("no `{line}` in its place in {complaint}"));
        rest = after;
    }
    for event in ["session.messaged", "session.paused", "session.resumed"] {
        assert!(!world.events(event).is_empty(), "no {event}");
    }
}

/// RE-13: where policy demands a watcher, nothing runs before somebody else joined; it stops when their
/// client is killed, and ends when nobody comes back. One's own eyes do not count.
#[test]
fn a_session_that_must_be_watched_runs_only_while_somebody_else_watches() {
    let world = World::new();
    let dir = world.carol.folder.join("policies");
    let path = dir.display().to_string();
    world.carol.say(&["policy", "init", &path]);
    // They name every demand of the default bundle, and this one adds another.
    fs::remove_dir_all(dir.join("tests")).unwrap();
    fs::write(
        dir.join("require/watched.cedar"),
        "@id(\"watched\")\n@watcher(\"required, wait=15s\")\npermit (principal, action, resource);\n",
    )
    .unwrap();
    world.carol.say(&["policy", "apply", &path]);
    world
        .olga
        .say(&["person", "edit", "alice", "--role", "auditor"]);
    world.grant(ROOT, "1h");

    let marker = world.sshd.directory().join("ran");
    let command = format!(
        "touch {}; while true; do echo tick; sleep 0.1; done",
        marker.display()
    );
    let live = world.ssh().start(ROOT, &command);
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();
    let own = Seat::take(&world.alice, &["session", "join", id]);
    until_joined_eventually(&world, id, &["alice"]);
    assert!(!marker.exists(), "it ran before anybody else watched");

    let seat = Seat::take(&world.carol, &["session", "join", id]);
    live.until_line("tick");
    seat.until("tick");
    send("-KILL", seat.pid());
    until_joined(&world, id, &["alice"]);
    let (_, complaint) = live.ended_within(Duration::from_secs(40));
    assert!(complaint.contains("waiting for them"), "{complaint}");
    assert!(complaint.contains("somebody watches"), "{complaint}");
    assert!(complaint.contains("(unwatched)"), "{complaint}");
    let ended = world.ended_session(id);
    assert_eq!(ended["end_reason"], "unwatched");
    drop(own);
}

fn until_joined_eventually(world: &World, id: &str, people: &[&str]) {
    eventually("they are joined", || {
        (joined(world, id) == people).then_some(())
    });
}

/// RE-13, ID-1: who may not is told the same of a session that is there and of one that is not.
#[test]
fn nobody_without_the_right_learns_whether_there_is_such_a_session() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let live = world.ssh().start(ROOT, "echo started; sleep 600");
    live.until_line("started");
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();
    let unknown = "ses_00000000000000000000000000";
    let dora = world
        .olga
        .json(&["person", "create", "dora", "--role", "auditor"]);
    let dora = Person::enrol(&world.node, "dora", dora["code"].as_str().unwrap());
    let said = |person: &Person, words: &[&str], id: &str| {
        let words: Vec<&str> = words
            .iter()
            .map(|word| if *word == "ID" { id } else { *word })
            .collect();
        let mut seat = Seat::take(person, &words);
        seat.ended().replace(id, "ID")
    };
    for (person, words) in [
        (&dora, ["session", "join", "ID", "--keyboard"].as_slice()),
        (&dora, &["session", "pause", "ID"]),
        (&dora, &["session", "message", "ID", "hello"]),
        (&world.bob, &["session", "join", "ID"]),
        (&world.alice, &["session", "join", "ID"]),
        (&world.alice, &["session", "resume", "ID"]),
    ] {
        let answer = said(person, words, id);
        assert!(answer.contains("missing-right"), "{words:?}: {answer}");
        assert_eq!(answer, said(person, words, unknown), "{words:?}");
    }
    assert_eq!(joined(&world, id), [""; 0]);
    let mut seen = Seat::take(&dora, &["session", "join", id]);
    seen.until("started");
    seen.keyboard.flush().unwrap();
    drop(seen);
    drop(live);
}
