//! The story, step by step; each says what happens and why, and checks that it did.

use std::{
    cell::RefCell,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{
    actor::{Actor, REASON, text},
    database,
    postgres::Postgres,
    stage::{Stage, Target, until},
};

/// Everybody in the story, and the target, as long as it runs.
#[derive(Debug)]
pub struct Cast<'a> {
    pub alice: Actor<'a>,
    pub bob: Actor<'a>,
    pub carol: Actor<'a>,
    _target: Target,
    database: Option<Postgres>,
}

/// Tells it.
pub fn tell(stage: &Stage) -> anyhow::Result<Cast<'_>> {
    let mut cast = set_up(stage)?;
    let session_id = ask_and_work(stage, &cast)?;
    move_files(stage, &cast)?;
    cut_off(stage, &cast)?;
    look_back(&cast, &session_id)?;
    let server = database::tell(stage, &cast)?;
    cast.database = Some(server);
    verify(&cast)?;
    Ok(cast)
}

pub fn step(title: &str, why: &str) {
    println!("\n\u{2022} {title}\n  {why}");
}

pub fn shown(text: &str) {
    for line in text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
    {
        println!("    {line}");
    }
}

fn set_up(stage: &Stage) -> anyhow::Result<Cast<'_>> {
    step(
        "A node is up, and Olga is its first owner",
        "The code that makes the first owner was printed once, at the first start, and works once.",
    );
    let olga = Actor::enrol(stage, "olga", &stage.first_owner_code)?;
    shown(&olga.say(&["whoami"])?);

    step(
        "Olga makes people",
        "Alice may ask (group operators), Bob may approve, Carol reads the evidence.",
    );
    let person = |name: &'static str, words: &[&str]| -> anyhow::Result<Actor<'_>> {
        let made = olga.json(&[&["person", "create", name], words].concat())?;
        Actor::enrol(stage, name, text(&made, "code")?)
    };
    let alice = person("alice", &["--group", "operators"])?;
    let bob = person("bob", &["--group", "operators", "--role", "approver"])?;
    let carol = person("carol", &["--role", "security", "--role", "auditor"])?;
    alice.make_key()?;
    shown(&olga.say(&["person", "list"])?);

    step(
        "Olga adds the target web-1: a real OpenSSH server on this machine",
        "It trusts certificates of Sallyport's authority and nothing else: no key, no password.",
    );
    let authority = olga.say(&["ssh-authority"])?;
    let target = stage.target(&authority)?;
    let address = format!("127.0.0.1:{}", target.port);
    olga.say(&[
        "target",
        "create",
        "web-1",
        "--address",
        &address,
        "--sensitivity",
        "medium",
        "--host-key",
        &target.host_key,
    ])?;
    olga.say(&["account", "create", "root@web-1", "--engine", "ssh_ca"])?;
    shown(&olga.say(&["target", "list"])?);
    Ok(Cast {
        alice,
        bob,
        carol,
        _target: target,
        database: None,
    })
}

fn destination() -> String {
    "root@web-1@127.0.0.1".to_owned()
}

/// Alice connects with nothing but her key, is asked for a reason, waits, and is let in.
fn ask_and_work(stage: &Stage, cast: &Cast<'_>) -> anyhow::Result<String> {
    step(
        "Alice runs a stock ssh, with nothing but her key",
        &format!("$ ssh -p {} {}", stage.ssh_port, destination()),
    );
    let mut ssh = cast
        .alice
        .client("ssh")?
        .args(["-tt", &destination()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ssh")?;
    let mut keyboard = ssh.stdin.take().context("reach ssh's standard input")?;

    let request = until("a request of Alice's waits for approval", || {
        let waiting = cast.bob.json(&["request", "list", "--state", "pending"])?;
        Ok(waiting
            .as_array()
            .and_then(|requests| requests.first().cloned()))
    })?;
    ensure!(
        text(&request, "reason")? == REASON,
        "the reason typed is not the one on record"
    );
    step(
        "She is told what is missing, types a reason at the prompt, and waits on the same connection",
        "Nobody stands privileged: there is no grant yet. Bob sees what is asked:",
    );
    let id = text(&request, "id")?.to_owned();
    shown(&cast.bob.say(&["request", "show", &id])?);

    step(
        "Bob approves exactly this",
        "His vote is bound to the hash of the request's content.",
    );
    shown(
        &cast
            .bob
            .say(&["request", "approve", &id, "--yes", "--comment", "go ahead"])?,
    );

    keyboard
        .write_all(b"id -un\necho recorded-$((6*7))\nls -d /etc/ssh\nexit\n")
        .context("type at the prompt")?;
    let output = ssh.wait_with_output().context("wait for ssh")?;
    let screen = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() && screen.contains("recorded-42"),
        "ssh ended with {}: {screen}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    step(
        "Alice is in, and works",
        "The gateway logged in with a certificate made for this session; she never had it.",
    );
    shown(&screen);

    let held = fs::read_dir(cast.alice.file("."))
        .context("look at what Alice holds")?
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|content| content.contains("-cert-v01@openssh.com"));
    ensure!(!held, "Alice holds a certificate");
    let sessions = cast.carol.json(&["session", "list"])?;
    let session = sessions
        .as_array()
        .and_then(|list| list.first())
        .context("find her session")?;
    Ok(text(session, "id")?.to_owned())
}

/// The grant is live, so scp and sftp need no asking; every file is on record with its hash.
fn move_files(stage: &Stage, cast: &Cast<'_>) -> anyhow::Result<()> {
    step(
        "The grant lasts an hour, so scp and sftp just work",
        "Every file is evidence: direction, size, SHA-256.",
    );
    let up = cast.alice.file("upload.bin");
    let content: Vec<u8> = (0..300_000_u32)
        .map(|n| n.to_le_bytes().first().copied().unwrap_or(0))
        .collect();
    fs::write(&up, &content).context("make a file")?;
    let there = stage.folder.join("on-target.bin");
    let back = cast.alice.file("download.bin");
    let scp = cast
        .alice
        .client("scp")?
        .arg("-q")
        .arg(&up)
        .arg(format!("{}:{}", destination(), there.display()))
        .output()
        .context("run scp")?;
    ensure!(
        scp.status.success(),
        "scp: {}",
        String::from_utf8_lossy(&scp.stderr)
    );
    let mut sftp = cast
        .alice
        .client("sftp")?
        .args(["-q", "-b", "-", &destination()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start sftp")?;
    let mut batch = sftp.stdin.take().context("reach sftp's standard input")?;
    writeln!(batch, "get {} {}", there.display(), back.display()).context("give sftp its batch")?;
    drop(batch);
    let sftp = sftp.wait_with_output().context("wait for sftp")?;
    ensure!(
        sftp.status.success(),
        "sftp: {}",
        String::from_utf8_lossy(&sftp.stderr)
    );
    ensure!(
        fs::read(&back).context("read the file back")? == content,
        "the file came back changed"
    );

    let expected = crate::process::output(std::process::Command::new("sha256sum").arg(&up))?;
    let expected = expected
        .split_ascii_whitespace()
        .next()
        .context("read sha256sum")?;
    for kind in ["file_upload", "file_download"] {
        let found = until(&format!("a {kind} on record"), || operation(cast, kind))?;
        ensure!(
            text(&found, "sha256")? == expected,
            "{kind} has another hash on record"
        );
        println!(
            "    {kind}  {} bytes  sha256 {expected}",
            found.get("size_bytes").unwrap_or(&Value::Null)
        );
    }
    Ok(())
}

/// The newest operation of this kind in any session.
fn operation(cast: &Cast<'_>, kind: &str) -> anyhow::Result<Option<Value>> {
    let sessions = cast.carol.json(&["session", "list"])?;
    for session in sessions.as_array().into_iter().flatten() {
        let operations = cast
            .carol
            .json(&["session", "operations", text(session, "id")?])?;
        let found = operations
            .as_array()
            .into_iter()
            .flatten()
            .find(|operation| operation.get("kind").and_then(Value::as_str) == Some(kind));
        if let Some(found) = found {
            return Ok(Some(found.clone()));
        }
    }
    Ok(None)
}

/// A session is ended in the middle of a command, from the outside.
fn cut_off(_: &Stage, cast: &Cast<'_>) -> anyhow::Result<()> {
    step(
        "Alice starts something long, and Bob ends the session",
        "Ending reaches what is live: the command, the channel, the credential.",
    );
    let mut ssh = cast
        .alice
        .client("ssh")?
        .args([&destination(), "echo started; sleep 600"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ssh")?;
    let mut line = String::new();
    BufReader::new(ssh.stdout.take().context("hear ssh")?)
        .read_line(&mut line)
        .context("hear ssh")?;
    ensure!(line.trim() == "started", "ssh said `{line}`");
    let live = cast.bob.json(&["session", "list", "--live"])?;
    let session = live
        .as_array()
        .and_then(|list| list.first())
        .context("find the live session")?;
    let start = Instant::now();
    cast.bob.say(&[
        "session",
        "end",
        text(session, "id")?,
        "--reason",
        "maintenance window is over",
    ])?;
    let status = loop {
        if let Some(status) = ssh.try_wait().context("wait for ssh")? {
            break status;
        }
        if start.elapsed() > Duration::from_secs(10) {
            bail!("the session still runs ten seconds after it was ended");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = start.elapsed();
    let mut said = String::new();
    ssh.stderr
        .take()
        .context("hear ssh")?
        .read_to_string(&mut said)
        .context("hear ssh")?;
    ensure!(!status.success(), "ssh ended as if nothing had happened");
    shown(&said);
    println!(
        "    gone {} ms after `session end` was typed",
        took.as_millis()
    );
    Ok(())
}

/// The evidence, for somebody who may see it.
fn look_back(cast: &Cast<'_>, session_id: &str) -> anyhow::Result<()> {
    step(
        "Carol reads what Alice did",
        "The recording is sealed with a key of its own; reading it is on record.",
    );
    let complaint = RefCell::new(String::new());
    let transcript = until("the recording can be read", || {
        let (is_done, transcript, stderr) = cast.carol.attempt(
            &["recording", "export", session_id, "--format", "transcript"],
            "",
        )?;
        complaint.replace(stderr);
        Ok(Some(transcript).filter(|text| is_done && text.contains("recorded-42")))
    })
    .with_context(|| complaint.borrow().clone())?;
    shown(&transcript);
    step(
        "The recording is checked against the audit log",
        "Its chain was anchored there while the session ran.",
    );
    shown(&cast.carol.say(&["recording", "verify", session_id])?);
    Ok(())
}

/// The log, verified by somebody who trusts nothing but its public key.
fn verify(cast: &Cast<'_>) -> anyhow::Result<()> {
    step(
        "Carol takes the log away and verifies it offline",
        "Nothing is needed but the log's public key.",
    );
    let folder = cast.carol.file("export");
    let folder = folder.display().to_string();
    cast.carol.say(&["audit", "export", &folder])?;
    shown(&cast.carol.say(&["audit", "verify", &folder])?);

    step(
        "One byte is changed, and the place is found",
        "Here: the reason of Alice's request.",
    );
    let entries = format!("{folder}/entries.jsonl");
    let log = fs::read_to_string(&entries).context("read the export")?;
    let forged = log.replacen("restart the web server", "restart the web server!", 1);
    ensure!(forged != log, "the reason is not in the log");
    fs::write(&entries, &forged).context("forge the export")?;
    let (is_verified, _, fault) = cast.carol.attempt(&["audit", "verify", &folder], "")?;
    ensure!(!is_verified, "a forged log was verified");
    shown(&fault);
    fs::write(&entries, &log).context("restore the export")?;
    let (is_verified, _, fault) = cast.carol.attempt(&["audit", "verify", &folder], "")?;
    ensure!(is_verified, "the restored log was not verified: {fault}");
    println!("\nverified");
    Ok(())
}

/// What to try next, on the node that keeps running.
pub fn leave_running(stage: &Stage, cast: &Cast<'_>) {
    println!(
        "\nThe node keeps running until Ctrl-C. In another terminal:\n\n  export SALLYPORT_SERVER={} \
         SALLYPORT_CA={} SALLYPORT_CONFIG_DIRECTORY={}\n  {} session list\n  ssh -p {} -i {} -o \
         UserKnownHostsFile={} {}\n",
        stage.api,
        stage.ca().display(),
        cast.carol.file("profile").display(),
        stage.binary.display(),
        stage.ssh_port,
        cast.alice.file("key").display(),
        cast.alice.file("known_hosts").display(),
        destination(),
    );
}
