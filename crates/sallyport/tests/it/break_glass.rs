//! Emergencies.

use crate::{
    person::Person,
    world::{ROOT, World},
};

/// AC-7: at once, noticed, and blocked until the last use was reviewed.
#[test]
fn broken_glass_opens_at_once_and_must_be_reviewed_before_the_next_time() {
    let world = World::new();
    let made = world
        .olga
        .json(&["person", "create", "frank", "--group", "break-glass"]);
    let frank = Person::enrol(&world.node, "frank", made["code"].as_str().unwrap());
    let key = frank.make_key("laptop");
    let written = frank.sign_in(&["--ssh-key", &key.display().to_string()]);
    assert!(written["ssh_certificate"].is_string(), "{written}");
    let ssh = crate::ssh::Ssh::new(&world.node, &frank, &key);

    let taken = frank.json(&[
        "break-glass",
        ROOT,
        "--reason",
        "the shop is down",
        "--for",
        "30m",
    ]);
    assert_eq!(taken["state"], "granted");
    assert_eq!(taken["is_break_glass"], true);
    let output = ssh.run(ROOT, "id -un");
    assert_eq!(crate::ssh::said(&output.stdout), "root\n");
    assert_eq!(world.events("break_glass.used").len(), 1);

    let again = frank.attempt(&["break-glass", ROOT, "--reason", "the shop is down again"]);
    assert_eq!(again.code, 1);
    assert!(
        again.stderr.contains("review-outstanding"),
        "{}",
        again.stderr
    );
    frank.say(&[
        "grant",
        "end",
        taken["grant_id"].as_str().unwrap(),
        "--reason",
        "fixed",
    ]);
    let reviews = world.carol.list(&["review", "list"]);
    assert_eq!(reviews[0]["person"], "frank");
    let id = reviews[0]["id"].as_str().unwrap();
    let own = frank.attempt(&["review", "close", id, "--finding", "all was well, trust me"]);
    assert_eq!(own.code, 1, "he closed his own review");
    world.carol.say(&[
        "review",
        "close",
        id,
        "--finding",
        "disk was full; alert added",
    ]);
    frank.say(&["break-glass", ROOT, "--reason", "the shop is down again"]);

    let ordinary = world
        .alice
        .attempt(&["break-glass", ROOT, "--reason", "I am in a hurry"]);
    assert_eq!(ordinary.code, 1, "anybody can break the glass");
    assert!(
        ordinary.stderr.contains("not-permitted"),
        "{}",
        ordinary.stderr
    );
}
