//! Commands and files in a recording, listed in their order.

use super::*;

/// RE-2
#[tokio::test]
async fn given_commands_stated_and_typed_then_they_are_listed_in_order_with_their_times() {
    let mut story = story().await;
    let mut tape = story.tape();
    let exec = FrameKind::ChannelOpened {
        kind: "session",
        pty: None,
        command: Some("id\x1b[2J"),
    };
    tape.chunk(&[
        exec,
        FrameKind::Output(b"uid=0\n"),
        FrameKind::ChannelClosed,
    ]);
    for frames in terminal_session() {
        tape.chunk(&frames);
    }
    let last = tape.finish();
    story.close(last).await;

    let lines = story.text("?format=commands").await;
    let commands: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let texts: Vec<&str> = commands
        .iter()
        .map(|command| command["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 3, "{lines}");
    assert!(
        texts[0].starts_with("id") && !texts[0].contains('\x1b'),
        "{lines}"
    );
    assert_eq!(texts[1..], ["uptime", "sudo -i"]);
    assert!(commands.iter().all(|command| command["kind"] == "command"));
    assert_eq!(commands[0]["confidence"], "stated");
    assert_eq!(commands[1]["confidence"], "seen");
    assert_eq!(commands[0]["time"], "2026-11-22T13:44:00.100Z");
}

/// RE-2, RE-14: files stand beside commands, each with direction, size and hash, refused ones too.
#[tokio::test]
async fn given_files_moved_refused_and_changed_then_they_are_listed_with_direction_size_and_hash() {
    let mut story = story().await;
    let mut tape = story.tape();
    let record = |kind: &str, detail: &str, end: Value| {
        let mut record = json!({
            "id": "opn_01m82fcnp44h99x89hmg56csp3",
            "channel": 0,
            "operation": { "kind": kind, "detail": detail },
            "started_at": "2026-11-22T13:44:00.000Z",
            "ended_at": "2026-11-22T13:44:01.000Z",
            "outcome": "completed",
            "reason": null,
            "exit_status": null,
            "size_bytes": null,
            "sha256": null,
        });
        for (name, value) in end.as_object().unwrap() {
            record[name] = value.clone();
        }
        serde_json::to_vec(&record).unwrap()
    };
    let hash = "ab".repeat(32);
    let moved = record(
        "file_upload",
        "/srv/a\u{1b}b",
        json!({ "size_bytes": 5, "sha256": hash }),
    );
    let refused = record(
        "file_download",
        "/etc/shadow",
        json!({ "outcome": "refused", "reason": "forbidden" }),
    );
    let changed = record("file_change", "remove /srv/a", json!({}));
    let elsewhere = record("forward_local", "10.0.0.7:22", json!({}));
    let opened = FrameKind::ChannelOpened {
        kind: "sftp",
        pty: None,
        command: None,
    };
    tape.chunk(&[
        opened,
        FrameKind::Operation(&moved),
        FrameKind::Operation(&refused),
        FrameKind::Operation(&changed),
        FrameKind::Operation(&elsewhere),
        FrameKind::Operation(b"{}"),
        FrameKind::ChannelClosed,
    ]);
    let last = tape.finish();
    story.close(last).await;

    let lines = story.text("?format=commands").await;
    let files: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = |kind: &str, text: &str, outcome: &str, end: [Value; 3]| {
        let [reason, size, sha256] = end;
        json!({
            "time": "2026-11-22T13:44:00.000Z", "channel": 0, "kind": kind, "text": text,
            "outcome": outcome, "reason": reason, "size_bytes": size, "sha256": sha256,
        })
    };
    let expected = [
        line(
            "file_upload",
            "/srv/a\\u{1b}b",
            "completed",
            [Value::Null, json!(5), json!(hash)],
        ),
        line(
            "file_download",
            "/etc/shadow",
            "refused",
            [json!("forbidden"), Value::Null, Value::Null],
        ),
        line(
            "file_change",
            "remove /srv/a",
            "completed",
            [Value::Null, Value::Null, Value::Null],
        ),
    ];
    assert_eq!(files, expected);
}
