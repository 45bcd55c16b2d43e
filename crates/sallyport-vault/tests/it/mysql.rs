//! The `mysql` engine at a real MariaDB: what it makes, and what is left of it.

use std::process::Command;

use sallyport_core::{lease::LeaseState, secret::Secret};
use sallyport_testkit::targets::mariadb::Mariadb;
use sallyport_vault::lease;
use serde_json::{Value, json};

use crate::{
    database::{self, root_secret, said},
    fixture::{NOW, after_s, printed},
};

type Story = database::Story<Mariadb>;

/// The password of the root account: looked for wherever it must not be.
const ROOT: &str = "canary-of-the-root-2m6q";

impl Story {
    fn new(settings: Value) -> Self {
        let server = Mariadb::start().unwrap();
        for sql in [
            format!("CREATE USER maker@'%' IDENTIFIED BY '{ROOT}' REQUIRE SSL").as_str(),
            "GRANT ALL PRIVILEGES ON *.* TO maker@'%' WITH GRANT OPTION",
            "CREATE DATABASE shop",
            "CREATE TABLE shop.item (id int)",
            "CREATE DATABASE ends",
            "SET GLOBAL event_scheduler = ON",
            "CREATE ROLE readonly",
            "GRANT SELECT ON shop.* TO readonly",
            "GRANT readonly TO maker@'%' WITH ADMIN OPTION",
        ] {
            server.execute(sql).unwrap();
        }
        let (address, authority) = (server.address().to_string(), server.authority());
        Self::at("mysql", server, &address, &authority, ROOT, &settings)
    }

    fn client(&self, user: &str, password: &str, sql: &str) -> Command {
        let mut command = Command::new("mariadb");
        command
            .args([
                "--no-defaults",
                "-N",
                "-B",
                "--protocol=tcp",
                "-h",
                "127.0.0.1",
                "--ssl",
            ])
            .args(["-P", &self.server.address().port().to_string()])
            .args(["-u", user, &format!("-p{password}"), "-e", sql]);
        command
    }

    fn query(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        said(&mut self.client(user, password, sql))
    }

    fn users(&self) -> String {
        let count = "SELECT COUNT(*) FROM mysql.global_priv WHERE User LIKE 'sp\\_%'";
        self.server.execute(count).unwrap().trim().to_owned()
    }
}

/// VA-3, VA-4, VA-6, D4: a user is made for one session with what its roles allow; revoked, its connection
/// ends, it cannot log in, and nothing of it is left. Twice is fine. The server sees no password.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_lease_when_issued_and_revoked_then_a_user_comes_and_goes_with_its_connections() {
    let story = Story::new(json!({
        "roles": "readonly",
        "creation": "GRANT INSERT ON {{database}}.item TO {{user}}",
    }));
    let (mut lease, user, password) = story.user(1).await;
    let password = password.as_str();
    let count = "SELECT COUNT(*) FROM shop.item";
    assert_eq!(
        story.query(&user, password, "INSERT INTO shop.item VALUES (1)"),
        Ok(String::new())
    );
    assert_eq!(story.query(&user, password, count), Ok("1".to_owned()));
    let in_clear = story
        .client(&user, password, count)
        .arg("--skip-ssl")
        .output()
        .unwrap();
    assert!(!in_clear.status.success(), "in clear: {in_clear:?}");
    assert!(
        story
            .query(&user, password, "DELETE FROM shop.item")
            .is_err()
    );

    let mut sleeping = story
        .client(&user, password, "SELECT SLEEP(600)")
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let sleeps =
        format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{user}'");
    while story.server.execute(&sleeps).unwrap().trim() == "0" {
        assert!(sleeping.try_wait().unwrap().is_none(), "it never slept");
    }
    lease.begin_revocation(NOW);
    lease::revoke(&mut lease, story.revocation()).await.unwrap();
    assert_eq!(lease.state, LeaseState::Revoked);
    assert!(
        !sleeping.wait().unwrap().success(),
        "its connection was ended"
    );
    assert_eq!(story.users(), "0");
    assert!(story.query(&user, password, "SELECT 1").is_err());
    story
        .engine()
        .revoke(&lease, story.revocation())
        .await
        .unwrap();

    let log = story.server.statements();
    assert!(log.contains("CREATE USER 'sp_"), "the log shows statements");
    assert!(!log.contains(password), "the server's log has the password");
}

/// VA-4: a user whose connections cannot be ended is locked out all the same; its lease is tried again, and it is gone
/// once they can.
#[tokio::test(flavor = "multi_thread")]
async fn given_connections_that_cannot_be_ended_when_revoked_then_the_user_is_locked_out_until_they_can()
 {
    let story = Story::new(json!({ "roles": "readonly" }));
    let (mut lease, user, password) = story.user(1).await;
    let password = password.as_str();
    let mut sleeping = story
        .client(&user, password, "SELECT SLEEP(600)")
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let sleeps =
        format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{user}'");
    while story.server.execute(&sleeps).unwrap().trim() == "0" {
        assert!(sleeping.try_wait().unwrap().is_none(), "it never slept");
    }
    let right = "SUPER, CONNECTION ADMIN ON *.*";
    let change = |sql: String| story.server.execute(&sql).unwrap();
    change(format!("REVOKE {right} FROM maker@'%'"));
    lease.begin_revocation(NOW);
    let error = lease::revoke(&mut lease, story.revocation())
        .await
        .unwrap_err();
    assert!(
        printed(&error).contains("some are still there"),
        "{error:?}"
    );
    assert_eq!(lease.state, LeaseState::Revoking);
    assert!(story.query(&user, password, "SELECT 1").is_err());
    change(format!("GRANT {right} TO maker@'%'"));
    lease::revoke(&mut lease, story.revocation()).await.unwrap();
    assert!(!sleeping.wait().unwrap().success());
    assert_eq!(story.users(), "0");
}

/// VA-3, D9: what a user was given is read back; one that could do more than the settings say is dropped
/// before it was unlocked.
#[tokio::test(flavor = "multi_thread")]
async fn given_creation_that_gives_more_than_the_settings_allow_then_no_user_is_left() {
    let mut story = Story::new(json!({}));
    for sql in [
        "CREATE ROLE strong",
        "GRANT FILE ON *.* TO strong",
        "CREATE ROLE outer_role",
        "GRANT strong TO outer_role",
    ] {
        story.server.execute(sql).unwrap();
    }
    for role in ["strong", "outer_role"] {
        story
            .server
            .execute(&format!("GRANT {role} TO maker@'%' WITH ADMIN OPTION"))
            .unwrap();
    }
    for (allowed, creation, excess) in [
        ("", "GRANT readonly TO {{user}}", "the role `readonly`"),
        (
            "readonly",
            "GRANT readonly TO {{user}} WITH ADMIN OPTION",
            "give others",
        ),
        ("", "GRANT PROCESS ON *.* TO {{user}}", "`PROCESS`"),
        (
            "",
            "GRANT SELECT ON shop.* TO {{user}} WITH GRANT OPTION",
            "give others",
        ),
        ("", "GRANT SELECT ON mysql.* TO {{user}}", "`SELECT`"),
        ("", "GRANT SELECT ON `my%`.* TO {{user}}", "`SELECT`"),
        ("", "GRANT PROXY ON maker@'%' TO {{user}}", "another user"),
        ("outer_role", "GRANT outer_role TO {{user}}", "`FILE`"),
        ("", "GRANT no_such_role TO {{user}}", "creation"),
    ] {
        story.settings["allowed_roles"] = json!(allowed);
        story.settings["creation"] = json!(creation);
        let error = printed(&story.issue(&story.intent(1)).await.unwrap_err());
        assert!(error.contains(excess), "{creation}: {error}");
        assert_eq!(story.users(), "0", "{creation}");
    }
    story.settings["powers"] = json!("process");
    story.settings["creation"] = json!("GRANT PROCESS ON *.* TO {{user}}");
    story.issue(&story.intent(1)).await.unwrap();
    assert_eq!(story.users(), "1");
    let made = story.engine().made(story.revocation()).await.unwrap();
    assert_eq!(made, [story.intent(1).handle.unwrap()]);
    story
        .engine()
        .remove(&made[0], story.revocation())
        .await
        .unwrap();
    assert_eq!(story.users(), "0");
}

/// VA-3, VA-4: where an owner has named a place for it, the server locks a user out and ends its connections
/// by its own clock, whatever becomes of control; revoking it later still removes what is left.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_place_for_ends_when_nobody_revokes_then_the_server_locks_the_user_out() {
    let mut story = Story::new(json!({ "expiry_database": "ends" }));
    let (mut lease, user, password) = story.user_until(1, after_s(2)).await;
    let password = password.as_str();
    // On a machine that is slow, it may be over before it began; either way it ends.
    let _ = story
        .query(&user, password, "SELECT SLEEP(600)")
        .unwrap_err();
    // Each attempt is a process and a login: minutes on any machine.
    let is_locked = (0..5_000).any(|_| {
        let refused = story.query(&user, password, "SELECT 1").unwrap_err();
        refused.contains("locked")
    });
    assert!(is_locked, "the user is refused for another reason");
    assert_eq!(story.users(), "1");
    lease.begin_revocation(NOW);
    lease::revoke(&mut lease, story.revocation()).await.unwrap();
    assert_eq!(story.users(), "0");

    // Servers take no end of an event that is decades away.
    let soon = after_s(600);
    story.issue_until(&story.intent(2), soon).await.unwrap();
    let events = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'ends'";
    assert_eq!(story.server.execute(events).unwrap().trim(), "1");
    let made = story.intent(2).handle.unwrap();
    story
        .engine()
        .remove(&made, story.revocation())
        .await
        .unwrap();
    assert_eq!(story.server.execute(events).unwrap().trim(), "0");

    story
        .server
        .execute("SET GLOBAL event_scheduler = OFF")
        .unwrap();
    story.settings["roles"] = json!("readonly");
    let error = printed(&story.issue(&story.intent(3)).await.unwrap_err());
    assert!(error.contains("event scheduler is off"), "{error}");
    assert_eq!(story.users(), "0");
}

/// VA-2, VA-3, D3: a wrong password, another certificate, a server that is away: each is an error that says
/// so and holds no secret; a root account's own password is changed and tried.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_root_account_then_its_password_can_be_changed_and_what_is_wrong_is_told_without_it()
 {
    let mut story = Story::new(json!({}));
    let lease = story.intent(1);
    let next = Secret::new("canary-of-the-next-4h9p".to_owned());
    assert!(story.accepts(ROOT).await);
    let set = story
        .engine()
        .set_password(&story.site, &story.vault, &next);
    set.await.unwrap();
    assert!(!story.accepts(ROOT).await);
    assert!(story.accepts("canary-of-the-next-4h9p").await);
    let log = story.server.statements();
    assert!(
        !log.contains(next.expose_secret()),
        "the server's log has the password"
    );

    let error = printed(&story.issue(&lease).await.unwrap_err());
    assert!(error.contains("28000") && !error.contains(ROOT), "{error}");
    // While it is being rotated, one of two is right.
    story
        .site
        .root_secrets
        .push(root_secret(&story.vault, next.expose_secret()));
    story.issue(&lease).await.unwrap();
    story
        .engine()
        .revoke(&lease, story.revocation())
        .await
        .unwrap();

    let identities = std::mem::take(&mut story.site.identities);
    story.site.identities = vec![format!("key-sha256:{}", "ab".repeat(32))];
    let error = printed(&story.issue(&lease).await.unwrap_err());
    assert!(error.contains("TLS"), "{error}");
    story.site.identities = identities;
    story.site.address = "127.0.0.1:1".to_owned();
    assert!(story.issue(&lease).await.unwrap_err().is_unreachable());
    assert_eq!(story.users(), "0");
}
