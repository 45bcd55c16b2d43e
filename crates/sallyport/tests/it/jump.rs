//! Jumping through the gateway with `ProxyJump`, as people are used to do with a bastion: who jumps is
//! stopped at the gateway's own door, which decides and records as ever.
//!
//! Not here: forwarding through a target, within a session.

use std::{path::PathBuf, process::Output};

use crate::{
    node::finished,
    ssh::{Ssh, said},
    waiting::{eventually, within},
    world::World,
};

/// The `ssh_config` that the documentation gives people who jump.
fn config(world: &World, ssh: &Ssh<'_>, gateway: &str) -> PathBuf {
    let port = world.node.ssh_port;
    ssh.config_with(&format!(
        "Host gw\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias sallyport\n{gateway}\n\
         Host web-* no-such\n  User root\n  Port 22\n  ProxyJump gw\n  HostKeyAlias sallyport\n"
    ))
}

fn world() -> World {
    let world = World::new();
    world.add_target("web-2", "medium");
    let account = ["account", "create", "root@web-2", "--engine", "ssh_ca"];
    world.olga.say(&account);
    world
}

fn run(ssh: &Ssh<'_>, config: &PathBuf, words: &[&str]) -> Output {
    let mut client = ssh.tool("ssh");
    client.arg("-F").arg(config).args(words);
    finished(client.spawn().unwrap())
}

/// GW-1, PO-3, RE-12: whoever names no target may jump to one; the session that is opened there is decided,
/// recorded and listed like any other, and the jump itself is none.
#[test]
fn given_a_client_that_names_no_target_when_it_jumps_to_one_then_one_session_is_decided_and_recorded()
 {
    let world = world();
    world.grant("root@web-2", "1h");
    // A key says whose it is, so the name at the gateway may be the local one or the person's.
    for gateway in ["", "  User alice", "  User somebody-locally"] {
        let ssh = world.ssh();
        let before = world.carol.list(&["session", "list"]).len();
        let config = config(&world, &ssh, gateway);
        let output = run(&ssh, &config, &["web-2", "echo jumped-$((40 + 2))"]);
        assert_eq!(
            said(&output.stdout),
            "jumped-42\n",
            "{}",
            said(&output.stderr)
        );
        let sessions = world.carol.list(&["session", "list"]);
        assert_eq!(sessions.len(), before + 1);
        assert_eq!(sessions[0]["target"], "web-2");
        assert_eq!(sessions[0]["ip"], "127.0.0.1");
        let id = sessions[0]["id"].as_str().unwrap();
        world.ended_session(id);
        assert_eq!(world.operation(id, "exec")["outcome"], "completed");
        let verified = world.carol.json(&["recording", "verify", id]);
        assert_eq!(verified["is_verified"], true, "{verified}");
    }
}

/// GW-1: somebody without a key types the password at the gateway, under their own name.
#[test]
fn given_a_person_who_signs_in_by_password_when_they_jump_then_their_name_is_the_user_name() {
    let world = world();
    world.grant("root@web-2", "1h");
    let ssh = world.ssh().with_code(world.alice.code());
    let gateway = "  User alice\n  PubkeyAuthentication no";
    let config = config(&world, &ssh, gateway);
    let output = run(&ssh, &config, &["web-2", "id -un"]);
    assert_eq!(said(&output.stdout), "root\n", "{}", said(&output.stderr));
    assert!(ssh.asked().contains("Password:"), "{}", ssh.asked());
}

/// PO-9, security A4: where a jump may not go it does not, and no byte leaves the gateway; a target that
/// does not exist and one that is not permitted look the same.
#[test]
fn given_a_jump_to_what_is_not_permitted_then_no_byte_leaves_the_gateway() {
    let world = world();
    world.add_target("web-3", "medium");
    let made = world.olga.json(&["person", "create", "erin"]);
    let code = made["code"].as_str().unwrap();
    let erin = crate::person::Person::enrol(&world.node, "erin", code);
    let key = erin.make_key("laptop");
    erin.register(&key);
    let ssh = Ssh::new(&world.node, &erin, &key);
    let config = config(&world, &ssh, "");
    let told = |target: &str| {
        let output = run(&ssh, &config, &[target, "id"]);
        assert!(!output.status.success());
        said(&output.stderr)
            .lines()
            .filter(|line| line.starts_with("sallyport:") && !line.contains("reference"))
            .map(|line| line.replace(target, "TARGET"))
            .collect::<Vec<_>>()
    };
    let forbidden = told("web-2");
    assert!(
        forbidden
            .iter()
            .any(|line| line.contains("(not-permitted)")),
        "{forbidden:?}"
    );
    assert_eq!(told("no-such"), forbidden);

    let sshd = world.sshd.address();
    for elsewhere in [
        sshd.to_string(),
        "web-2:2222".to_owned(),
        "[::1]:22".to_owned(),
    ] {
        let output = run(&ssh, &config, &["-W", &elsewhere, "gw"]);
        assert!(!output.status.success(), "{elsewhere}");
        let complaint = said(&output.stderr);
        assert!(
            complaint.contains("(jump-refused)"),
            "{elsewhere}: {complaint}"
        );
    }
    let shell = run(&ssh, &config, &["gw", "id"]);
    let complaint = said(&shell.stderr);
    assert!(complaint.contains("(selector-invalid)"), "{complaint}");
    assert_eq!(world.sshd.connections(), 0, "the target was reached");
}

/// AC-6: the connection that carries a jump takes it along when it ends.
#[test]
fn given_a_live_jump_when_the_connection_that_carries_it_ends_then_its_session_ends() {
    let world = world();
    world.grant("root@web-2", "1h");
    let ssh = world.ssh();
    let config = config(&world, &ssh, "");
    let socket = world.alice.folder.join("cm").display().to_string();
    let mut outer = ssh.tool("ssh");
    outer.arg("-F").arg(&config);
    let mut outer = outer
        .args(["-M", "-S", &socket, "-N", "gw"])
        .spawn()
        .unwrap();
    eventually("the outer connection is up", || {
        let up = run(&ssh, &config, &["-S", &socket, "-O", "check", "gw"]);
        up.status.success().then_some(())
    });
    let through = format!("ssh -F {} -S {socket} -W %h:%p gw", config.display());
    let mut inner = ssh.tool("ssh");
    inner.arg("-F").arg(&config);
    inner.args(["-o", &format!("ProxyCommand={through}")]);
    let mut inner = inner.args(["web-2", "sleep 600"]).spawn().unwrap();
    let session = world.live_session();
    let id = session["id"].as_str().unwrap();
    world.until_begun(id);

    outer.kill().unwrap();
    outer.wait().unwrap();
    within(
        std::time::Duration::from_secs(10),
        "the client is gone",
        || inner.try_wait().unwrap(),
    );
    assert_eq!(world.ended_session(id)["end_reason"], "client-closed");
    assert_eq!(world.operation(id, "exec")["outcome"], "interrupted");
}
