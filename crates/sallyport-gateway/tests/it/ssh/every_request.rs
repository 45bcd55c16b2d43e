//! Every channel type and request of RFC 4254 and of OpenSSH's `PROTOCOL`, said by a raw client to a gateway
//! whose policies permit everything: what is never offered is refused, nothing of it reaches the target, and
//! the session goes on.
//!
//! What policies can permit is in `matrix`; signals, windows, ends and exit codes are in `feature`. Requests
//! to an agent, `session-bind@openssh.com` among them, are bytes of a channel that policy permits or not.

use sallyport_core::session::{OperationKind, OperationOutcome};

use super::{
    wire::{Message, Wire, WireKey, exec, number, plain},
    world::{World, within},
};
use crate::control::PATIENCE;

const EVERYTHING: &str = r#"@id("all") permit (principal, action, resource);
    @id("features") permit (principal, action == Action::"feature.use", resource);"#;

/// What a client says.
#[derive(Clone, Copy, Debug)]
enum Said {
    /// Opens a channel of this type.
    Open,
    /// A request to the connection.
    Global,
    /// A request to a session channel that has not launched anything.
    Channel,
}

/// One thing that is never offered.
struct Row {
    said: Said,
    name: &'static str,
    /// What follows its common part.
    rest: fn() -> Message,
    /// How it is on record; nothing where the SSH library does not show it.
    recorded: Option<&'static str>,
}

const fn row(
    said: Said,
    name: &'static str,
    rest: fn() -> Message,
    recorded: Option<&'static str>,
) -> Row {
    Row {
        said,
        name,
        rest,
        recorded,
    }
}

const ROWS: &[Row] = &[
    // RFC 4254 section 6.3.2
    row(
        Said::Open,
        "x11",
        || plain().text("127.0.0.1").number(6_000),
        Some("x11 127.0.0.1:6000"),
    ),
    // RFC 4254 section 7.2: a server's to open.
    row(
        Said::Open,
        "forwarded-tcpip",
        || {
            plain()
                .text("127.0.0.1")
                .number(80)
                .text("127.0.0.1")
                .number(9)
        },
        Some("forwarded-tcpip 127.0.0.1:80"),
    ),
    // PROTOCOL 2.2 to 2.4
    row(
        Said::Open,
        "tun@openssh.com",
        || plain().number(1).number(0),
        None,
    ),
    row(
        Said::Open,
        "forwarded-streamlocal@openssh.com",
        || plain().text("/run/a").text(""),
        None,
    ),
    row(Said::Open, "auth-agent@openssh.com", plain, None),
    row(
        Said::Open,
        "made-up@localhost",
        || plain().text("anything"),
        None,
    ),
    // PROTOCOL 2.5 and 2.6; `keepalive` wants no more than any answer.
    row(Said::Global, "keepalive@openssh.com", plain, None),
    row(Said::Global, "no-more-sessions@openssh.com", plain, None),
    row(
        Said::Global,
        "hostkeys-00@openssh.com",
        || plain().text("a key"),
        None,
    ),
    row(
        Said::Global,
        "hostkeys-prove-00@openssh.com",
        || plain().text("a key"),
        None,
    ),
    row(
        Said::Global,
        "made-up@localhost",
        || plain().text("anything"),
        None,
    ),
    // RFC 4254 section 6.3.1
    row(
        Said::Channel,
        "x11-req",
        || {
            plain()
                .byte(0)
                .text("MIT-MAGIC-COOKIE-1")
                .text("00")
                .number(0)
        },
        Some("x11-req"),
    ),
    // RFC 4254 sections 6.8 and 6.10: a server's to say.
    row(Said::Channel, "xon-xoff", || plain().byte(1), None),
    row(Said::Channel, "exit-status", || plain().number(0), None),
    row(
        Said::Channel,
        "exit-signal",
        || plain().text("KILL").byte(0).text("").text(""),
        None,
    ),
    // RFC 4335
    row(Said::Channel, "break", || plain().number(500), None),
    // PROTOCOL 2.1
    row(Said::Channel, "eow@openssh.com", plain, None),
    row(
        Said::Channel,
        "made-up@localhost",
        || plain().text("anything"),
        None,
    ),
];

impl Row {
    fn message(&self, channel: u32) -> Vec<u8> {
        let mut message = match self.said {
            Said::Open => Message::new(number::CHANNEL_OPEN)
                .text(self.name)
                .number(7)
                .number(2 * 1024 * 1024)
                .number(32 * 1024),
            Said::Global => Message::new(number::GLOBAL_REQUEST).text(self.name).byte(1),
            Said::Channel => Message::new(number::CHANNEL_REQUEST)
                .number(channel)
                .text(self.name)
                .byte(1),
        };
        message.0.extend((self.rest)().0);
        message.0
    }

    /// The refusal, and what an acceptance would be.
    const fn answers(&self) -> [u8; 2] {
        match self.said {
            Said::Open => [
                number::CHANNEL_OPEN_FAILURE,
                number::CHANNEL_OPEN_CONFIRMATION,
            ],
            // RFC 4254 section 4
            Said::Global => [number::REQUEST_FAILURE, number::REQUEST_FAILURE - 1],
            Said::Channel => [number::CHANNEL_FAILURE, number::CHANNEL_SUCCESS],
        }
    }
}

/// GW-1, F4: see the module.
#[tokio::test(flavor = "multi_thread")]
async fn given_policies_that_permit_everything_when_something_is_said_that_is_never_offered_then_it_is_refused()
 {
    let key = WireKey::generate();
    let world = World::with(|rules| {
        rules.bundle = EVERYTHING.to_owned();
        rules.keys.insert(key.line(), "alice".parse().unwrap());
    })
    .await;
    let mut wire = Wire::admitted(world.gateway, "root@web-1", &key)
        .await
        .unwrap();
    let channel = wire.open_channel().await.unwrap();
    for row in ROWS {
        let answers = row.answers();
        let message = row.message(channel);
        let asking = wire.ask(&message, &answers);
        let answer = within(PATIENCE, asking).await.unwrap();
        assert_eq!(answer, answers[0], "{:?} {}", row.said, row.name);
    }
    assert_eq!(world.sshd.connections(), 0, "something reached the target");

    let expected: Vec<&str> = ROWS.iter().filter_map(|row| row.recorded).collect();
    let kind = OperationKind::Unsupported;
    let records = world.operations(kind, expected.len()).await;
    let mut recorded: Vec<&str> = Vec::new();
    for record in &records {
        assert_eq!(record.outcome, OperationOutcome::Refused, "{record:?}");
        assert_eq!(record.reason.as_deref(), Some("feature-refused"));
        recorded.push(&record.operation.detail);
    }
    assert_eq!(recorded, expected);

    // And what is offered still is.
    let answers = [number::CHANNEL_SUCCESS, number::CHANNEL_FAILURE];
    let message = exec(channel, "exit 3");
    let asking = wire.ask(&message, &answers);
    let launched = within(PATIENCE, asking).await.unwrap();
    assert_eq!(launched, number::CHANNEL_SUCCESS);
    let exec = world.operations(OperationKind::Exec, 1).await;
    assert_eq!(exec[0].exit_status, Some(3), "{exec:?}");
}
