//! What the person holds.

use std::fs;

use sallyport_testkit::targets::sshd::{Sshd, SshdSetup, make_key_pair};

use crate::{
    node::files_under,
    ssh::said,
    world::{ROOT, World},
};

/// GW-11, VA-3, security D3: nothing the person holds, and nothing the client prints at its most
/// talkative, contains the credential; neither do the node's logs.
#[test]
fn no_credential_of_the_target_reaches_the_person() {
    let mut world = World::new();
    let secret = make_key_pair(&world.olga.folder.join("target-key"), "ed25519", None).unwrap();
    let authority = world.olga.say(&["ssh-authority"]);
    world.sshd = Sshd::start(&SshdSetup {
        authorized_keys: vec![secret.public_key.clone()],
        user_authority: Some(authority),
        ..SshdSetup::default()
    })
    .unwrap();
    world.add_target("web-2", "low");
    for (account, engine) in [("root@web-2", "static"), ("daemon@web-2", "ssh_ca")] {
        world
            .olga
            .say(&["account", "create", account, "--engine", engine]);
    }
    let path = secret.private_path.display().to_string();
    world.olga.say(&[
        "account",
        "set-secret",
        "root@web-2",
        "--kind",
        "private_key",
        "--file",
        &path,
    ]);
    fs::remove_file(&secret.private_path).unwrap();
    world.grant("root@web-2", "1h");
    world.grant("root@web-1", "1h");

    // Lines of a PEM are the key itself, so any of them is a leak; but for the first, which says what
    // kind of key it is and is the same in all.
    let key_lines: Vec<&str> = secret
        .private_key
        .lines()
        .skip(2)
        .filter(|line| !line.contains("-----") && line.len() > 30)
        .collect();
    assert!(key_lines.len() >= 2);
    let leaks = |text: &str| {
        key_lines.iter().any(|line| text.contains(line))
            || text.contains("-cert-v01@openssh.com AAAA")
    };
    for on in ["root@web-2", ROOT] {
        let mut ssh = world.ssh().client("ssh");
        ssh.args(["-vvv", "-l", on, "127.0.0.1", "env; ls -la ~; ssh-add -L"]);
        let output = crate::node::finished(ssh.spawn().unwrap());
        let everything = said(&output.stdout) + &said(&output.stderr);
        assert!(everything.contains("debug3:"), "{everything}");
        if on == "root@web-2" {
            assert!(everything.contains("SSH_CONNECTION="), "{everything}");
        }
        assert!(!leaks(&everything), "{everything}");
    }
    for file in files_under(&world.alice.folder) {
        let content = fs::read(&file).unwrap();
        assert!(!leaks(&said(&content)), "{}", file.display());
    }
    assert!(!leaks(&world.node.log()));
    // At rest it is sealed: the store holds no line of it either.
    for file in files_under(&world.node.data()) {
        let content = fs::read(&file).unwrap();
        for line in &key_lines {
            let is_there = content
                .windows(line.len())
                .any(|part| part == line.as_bytes());
            assert!(!is_there, "{}", file.display());
        }
    }
    let shown = world
        .olga
        .attempt(&["account", "show", "root@web-2", "--output", "json"]);
    assert!(shown.stdout.contains("\"has_secret\": true") && !leaks(&shown.stdout));
}
