//! A target as the way to a second host: `ProxyJump` over a session with the first. The inner connection is
//! one that the first target forwards, so policy must permit it, and the recording has every byte of it. It is
//! encrypted between the client and the second host; what is inside is seen only where the second host is a
//! target as well and is reached through the gateway.
//!
//! Not here: a jump that ends at the gateway (`jump`).

use std::{path::PathBuf, process::Output};

use sallyport_testkit::targets::sshd::{Sshd, SshdSetup};

use crate::{forwarding::Tap, node::finished, ssh::said, waiting::eventually, world::World};

/// A node, two targets of it, and a host that is none.
struct Hops {
    world: World,
    second: Sshd,
    /// Every byte that reaches the second host, and that it says.
    tap: Tap,
}

impl Hops {
    fn new() -> Self {
        let world = World::new();
        world.add_target("web-2", "medium");
        let words = ["account", "create", "root@web-2", "--engine", "ssh_ca"];
        world.olga.say(&words);
        world.grant("root@web-1", "1h");
        world.grant("root@web-2", "1h");
        let key = std::fs::read_to_string(world.key.with_extension("pub")).unwrap();
        let second = Sshd::start(&SshdSetup {
            authorized_keys: vec![key.trim().to_owned()],
            ..SshdSetup::default()
        })
        .unwrap();
        let tap = Tap::before(second.address());
        Self { world, second, tap }
    }

    /// Jumps with the settings that people would have.
    fn jump(&self, through: &str, to: &str) -> Output {
        let ssh = self.world.ssh();
        let gateway = self.world.node.ssh_port;
        let config: PathBuf = ssh.config_with(&format!(
            "Host gw\n  HostName 127.0.0.1\n  Port {gateway}\n  HostKeyAlias sallyport\n\
             Host direct-1\n  HostName 127.0.0.1\n  User root@web-1\n  HostKeyAlias sallyport\n\
             Host web-1\n  User root\n  Port 22\n  ProxyJump gw\n  HostKeyAlias sallyport\n\
             Host web-2\n  HostName 127.0.0.1\n  Port {gateway}\n  User root@web-2\n  HostKeyAlias sallyport\n\
             Host second\n  HostName 127.0.0.1\n  Port {}\n  User root\n  HostKeyAlias second\n",
            self.tap.address.port()
        ));
        let mut client = ssh.tool("ssh");
        client.arg("-F").arg(&config);
        client.args(["-J", through, to, "echo arrived-$((40 + 2))"]);
        finished(client.spawn().unwrap())
    }

    /// Sessions with a target, each ended and its recording verified.
    fn sessions(&self, target: &str) -> Vec<serde_json::Value> {
        let all = self.world.carol.list(&["session", "list", "--all"]);
        let ids = all
            .iter()
            .filter(|session| session["target"] == target)
            .map(|session| session["id"].as_str().unwrap());
        ids.map(|id| {
            let ended = self.world.ended_session(id);
            let verified = self.world.carol.json(&["recording", "verify", id]);
            assert_eq!(verified["is_verified"], true, "{verified}");
            ended
        })
        .collect()
    }
}

/// GW-1, PO-3, R23: over a target that was named in the selector, and over one that was itself jumped to at
/// the gateway. One session, decided and recorded, and in it one forwarded connection, decided and recorded
/// with as many bytes as the second host got and said (of the client's goodbye, perhaps more).
#[test]
fn given_forwarding_is_permitted_when_a_target_is_jumped_through_then_the_hop_is_decided_and_recorded()
 {
    for through in ["direct-1", "gw,web-1"] {
        let hops = Hops::new();
        let to = hops.tap.address.to_string();
        hops.world.permit_forwarding("forward_local", &to);
        let output = hops.jump(through, "second");
        let complaint = said(&output.stderr);
        assert_eq!(
            said(&output.stdout),
            "arrived-42\n",
            "{through}: {complaint}"
        );
        assert_eq!(hops.second.connections(), 1);

        let sessions = hops.sessions("web-1");
        assert_eq!(sessions.len(), 1, "{through}: {sessions:?}");
        let id = sessions[0]["id"].as_str().unwrap();
        let forwarded = hops.world.operation(id, "forward_local");
        assert_eq!(forwarded["detail"], to.as_str(), "{forwarded}");
        assert!(is_over(&forwarded), "{forwarded}");
        let (got, answered) = hops.tap.passed();
        let sent = usize::try_from(sessions[0]["bytes_up"].as_u64().unwrap()).unwrap();
        let (got_at_least, got_at_most) = (sent.saturating_sub(GOODBYE_BYTES_MAX), sent);
        assert!(
            (got_at_least..=got_at_most).contains(&got),
            "{got} bytes arrived: {}",
            sessions[0]
        );
        assert_eq!(sessions[0]["bytes_down"], answered, "{}", sessions[0]);
        let words = ["recording", "export", id, "--format", "transcript"];
        let transcript = hops.world.carol.say(&words);
        let banners = transcript.matches("SSH-2.0-OpenSSH").count();
        assert_eq!(banners, 2, "both sides' first line: {transcript}");
    }
}

/// What a client sends after all else, encrypted: that it disconnects. `ssh` ends its hop by SIGHUP at that
/// moment, and the first target's server then drops what it has not yet passed on.
const GOODBYE_BYTES_MAX: usize = 128;

/// Whether a forward ended as it may when its client leaves: `ssh` ends the one of its hop by SIGHUP, and that
/// closes the channel or only the connection, as it happens.
fn is_over(forwarded: &serde_json::Value) -> bool {
    ["completed", "interrupted"].contains(&forwarded["outcome"].as_str().unwrap())
}

/// GW-1, PO-3, RE-2: where the second host is a target too, the inner connection comes to the gateway again,
/// from the first target: two sessions, each decided and recorded, the second with what was run there.
#[test]
fn given_two_targets_when_one_is_jumped_through_to_the_other_then_each_hop_is_a_session() {
    let hops = Hops::new();
    let gateway = format!("127.0.0.1:{}", hops.world.node.ssh_port);
    hops.world.permit_forwarding("forward_local", &gateway);
    let output = hops.jump("direct-1", "web-2");
    let complaint = said(&output.stderr);
    assert_eq!(said(&output.stdout), "arrived-42\n", "{complaint}");

    let (first, second) = (hops.sessions("web-1"), hops.sessions("web-2"));
    assert_eq!((first.len(), second.len()), (1, 1));
    let id = |of: &[serde_json::Value]| of[0]["id"].as_str().unwrap().to_owned();
    let forwarded = hops.world.operation(&id(&first), "forward_local");
    assert_eq!(forwarded["detail"], gateway.as_str(), "{forwarded}");
    assert!(is_over(&forwarded), "{forwarded}");
    let run = hops.world.operation(&id(&second), "exec");
    assert_eq!(run["detail"], "echo arrived-$((40 + 2))", "{run}");
    assert_eq!(run["outcome"], "completed", "{run}");
}

/// F4, PO-9: without a policy that names it no target is a way to anywhere. The attempt is on record, and the
/// person reads why.
#[test]
fn given_forwarding_is_not_permitted_when_a_target_is_jumped_through_then_nothing_passes() {
    let hops = Hops::new();
    // Another place is no permission for this one.
    hops.world.permit_forwarding("forward_local", "127.0.0.1:1");
    for (attempt, (through, to)) in [
        ("direct-1", "second"),
        ("gw,web-1", "second"),
        ("direct-1", "web-2"),
    ]
    .into_iter()
    .enumerate()
    {
        let output = hops.jump(through, to);
        assert!(!output.status.success(), "{through}, {to}");
        let complaint = said(&output.stderr);
        assert!(complaint.contains("(not-permitted)"), "{complaint}");
        let sessions = hops.sessions("web-1");
        assert_eq!(sessions.len(), attempt + 1);
        let id = sessions[0]["id"].as_str().unwrap();
        let refused = eventually("the refusal is on record", || {
            let operations = hops.world.carol.list(&["session", "operations", id]);
            operations
                .into_iter()
                .find(|one| one["kind"] == "forward_local")
        });
        assert_eq!(refused["outcome"], "refused", "{refused}");
        assert_eq!(refused["reason"], "not-permitted", "{refused}");
    }
    assert_eq!(hops.second.connections(), 0);
    assert_eq!(hops.world.sshd.connections(), 0, "a target was reached");
    assert_eq!(hops.sessions("web-2").len(), 0);
}
