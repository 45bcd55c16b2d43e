//! Who is not let in, and what they are told.

use std::fs;

use sallyport_testkit::targets::sshd::{Sshd, SshdSetup, make_key_pair};

use crate::{
    node::{Node, Setup},
    person::Person,
    ssh::{Ssh, said},
    waiting::eventually,
    world::{ROOT, World},
};

/// AC-1, PO-9: an approver's no reaches the person in band, with its code, the remark and the request.
#[test]
fn a_denied_person_learns_reason_code_remark_and_request() {
    let world = World::new();
    let live = world.ssh().start(ROOT, "id");
    let request = world.pending();
    let id = request["id"].as_str().unwrap();
    world.bob.say(&[
        "request",
        "deny",
        id,
        "--yes",
        "--comment",
        "not in the freeze",
    ]);
    let (status, complaint) = live.end();
    assert!(!status.success());
    for part in ["(request-denied)", "not in the freeze", id] {
        assert!(complaint.contains(part), "no `{part}`: {complaint}");
    }
    assert_eq!(world.sshd.connections(), 0);
    assert!(world.carol.list(&["session", "list"]).is_empty());
}

/// AC-1: leaving while waiting takes the request back.
#[test]
fn a_person_who_leaves_while_waiting_takes_the_request_back() {
    let world = World::new();
    let live = world.ssh().start(ROOT, "id");
    let request = world.pending();
    drop(live);
    let id = request["id"].as_str().unwrap();
    let cancelled = eventually("the request is taken back", || {
        Some(world.bob.json(&["request", "show", id])).filter(|seen| seen["state"] != "pending")
    });
    assert_eq!(cancelled["state"], "cancelled");
}

/// PO-9, security A4: what does not exist and what is not permitted look the same.
#[test]
fn unknown_and_forbidden_targets_are_refused_in_the_same_words() {
    let world = World::new();
    let made = world.olga.json(&["person", "create", "erin"]);
    let erin = Person::enrol(&world.node, "erin", made["code"].as_str().unwrap());
    let key = erin.make_key("laptop");
    erin.register(&key);
    let ssh = Ssh::new(&world.node, &erin, &key);
    let told = |on: &str| {
        let output = ssh.run(on, "id");
        assert!(!output.status.success());
        let (account, target) = on.split_once('@').unwrap();
        said(&output.stderr)
            .lines()
            // The reference is of this refusal alone; the name is what was typed.
            .filter(|line| line.starts_with("sallyport:") && !line.contains("reference"))
            .map(|line| line.replace(&format!("{account}@{target}"), "ACCOUNT"))
            .collect::<Vec<_>>()
    };
    let forbidden = told(ROOT);
    assert!(
        forbidden
            .iter()
            .any(|line| line.contains("(not-permitted)")),
        "{forbidden:?}"
    );
    assert_eq!(told("root@no-such-target"), forbidden);
    assert_eq!(told("nobody@web-1"), forbidden);
}

/// GW-1: what cannot be a selector is refused before anything is looked up.
#[test]
fn a_selector_that_makes_no_sense_is_explained() {
    let world = World::new();
    for name in ["root", "a:b:root@web-1", "root@web-1@web-2"] {
        let output = world.ssh().run(name, "id");
        assert!(!output.status.success());
        let complaint = said(&output.stderr);
        assert!(
            complaint.contains("(selector-invalid)"),
            "{name}: {complaint}"
        );
    }
    assert_eq!(world.sshd.connections(), 0);
}

/// GW-11, security A17: keys and certificates of strangers prove nobody.
#[test]
fn strange_keys_and_certificates_prove_nobody() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let stranger = world.alice.make_key("stranger");
    let output = Ssh::new(&world.node, &world.alice, &stranger).run(ROOT, "id");
    assert_eq!(output.status.code(), Some(255), "{}", said(&output.stderr));

    // A certificate for alice by an authority that is not ours, and one that ran out.
    let foreign = make_key_pair(&world.alice.folder.join("foreign-ca"), "ed25519", None).unwrap();
    let sign = |validity: &str| {
        let status = std::process::Command::new("ssh-keygen")
            .args(["-q", "-s"])
            .arg(&foreign.private_path)
            .args(["-I", "alice", "-n", "alice", "-V", validity])
            .arg(stranger.with_extension("pub"))
            .status()
            .unwrap();
        assert!(status.success());
    };
    for validity in ["+1h", "20200101:20200102"] {
        sign(validity);
        let output = Ssh::new(&world.node, &world.alice, &stranger).run(ROOT, "id");
        assert_eq!(output.status.code(), Some(255), "{}", said(&output.stderr));
    }
    assert_eq!(world.sshd.connections(), 0);
}

/// VA-1: while the vault is sealed nobody gets a credential, and everybody reads why; shares open it.
#[test]
fn a_sealed_vault_lets_nobody_in_until_enough_shares_are_given() {
    let node = Node::with(Setup {
        is_sealed: true,
        ..Setup::default()
    });
    let olga = Person::enrol(&node, "olga", &node.first_owner_code());
    let operator = Person::stranger(&node, "operator");
    let made = olga.json(&["operator", "init", "--shares", "3", "--threshold", "2"]);
    let shares: Vec<&str> = made["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|share| share.as_str().unwrap())
        .collect();
    let unseal =
        |share: &str| operator.json_with(&["operator", "unseal", "--stdin"], &format!("{share}\n"));
    if operator.json(&["operator", "status"])["is_sealed"] == true {
        unseal(shares[0]);
        unseal(shares[1]);
    }
    let made = olga.json(&["person", "create", "alice", "--group", "operators"]);
    let alice = Person::enrol(&node, "alice", made["code"].as_str().unwrap());
    let key = alice.make_key("laptop");
    alice.register(&key);
    let sshd = Sshd::start(&SshdSetup {
        user_authority: Some(olga.say(&["ssh-authority"])),
        ..SshdSetup::default()
    })
    .unwrap();
    let address = sshd.address().to_string();
    olga.say(&[
        "target",
        "create",
        "test-1",
        "--address",
        &address,
        "--sensitivity",
        "low",
        "--host-key",
        sshd.host_key(),
    ]);
    olga.say(&["account", "create", "root@test-1", "--engine", "ssh_ca"]);
    alice.say(&[
        "request",
        "create",
        "root@test-1",
        "--reason",
        "try the new kernel",
    ]);
    let ssh = Ssh::new(&node, &alice, &key);
    assert!(ssh.run("root@test-1", "true").status.success());

    olga.say(&["operator", "seal"]);
    let refused = ssh.run("root@test-1", "true");
    let complaint = said(&refused.stderr);
    assert!(
        !refused.status.success() && complaint.contains("(vault-sealed)"),
        "{complaint}"
    );
    assert_eq!(
        olga.attempt(&["whoami"]).code,
        0,
        "sealing signed people out"
    );

    let wrong = operator.try_with(&["operator", "unseal", "--stdin"], "not a share\n");
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert_eq!(unseal(shares[2])["is_sealed"], true);
    assert_eq!(unseal(shares[0])["is_sealed"], false);
    assert!(ssh.run("root@test-1", "true").status.success());
}

/// GW-1: a target that is down is named as such, and leaves nothing behind.
#[test]
fn an_unreachable_target_is_named_and_leaves_nothing_behind() {
    let mut world = World::new();
    world.grant(ROOT, "1h");
    // Nobody listens where the old one was: its port is reserved.
    world.sshd = Sshd::start(&SshdSetup::default()).unwrap();
    let refused = world.ssh().run(ROOT, "true");
    let complaint = said(&refused.stderr);
    assert!(
        !refused.status.success() && complaint.contains("(target-unreachable)"),
        "{complaint}"
    );
    let session = world.newest_session();
    let ended = world.ended_session(session["id"].as_str().unwrap());
    assert_eq!(ended["end_reason"], "target-unreachable");
    world.until_no_lease();
}

/// Security A16: a target that shows another host key gets no credential.
#[test]
fn a_changed_host_key_stops_the_session_before_any_credential_is_used() {
    let mut world = World::new();
    world.grant(ROOT, "1h");
    assert!(world.ssh().run(ROOT, "true").status.success());
    world.sshd.change_host_key().unwrap();
    let refused = world.ssh().run(ROOT, "true");
    let complaint = said(&refused.stderr);
    assert!(
        !refused.status.success() && complaint.contains("(host-key-changed)"),
        "{complaint}"
    );
    let log = world.sshd.log().unwrap();
    let after = log.rsplit("Connection from").next().unwrap();
    assert!(
        !after.contains("Accepted"),
        "a credential was used: {after}"
    );
    assert_eq!(world.events("target.host_key_mismatched").len(), 1);
}

/// GW-1: features that are not offered say so, and nothing is opened behind the person's back.
#[test]
fn forwarding_is_refused_with_a_reason() {
    let world = World::new();
    world.grant(ROOT, "1h");
    let mut ssh = world.ssh().client("ssh");
    ssh.args(["-W", "127.0.0.1:22", "-l", ROOT, "127.0.0.1"]);
    let output = crate::node::finished(ssh.spawn().unwrap());
    assert!(!output.status.success());
    let id = world.newest_session()["id"].as_str().unwrap().to_owned();
    let operations = eventually("the refusal is on record", || {
        Some(world.carol.list(&["session", "operations", &id])).filter(|list| !list.is_empty())
    });
    assert!(
        operations
            .iter()
            .all(|operation| operation["outcome"] == "refused"),
        "{operations:?}"
    );
    let known_hosts = world.alice.folder.join("known_hosts");
    assert!(
        fs::read_to_string(known_hosts)
            .unwrap()
            .contains("ssh-ed25519")
    );
}
