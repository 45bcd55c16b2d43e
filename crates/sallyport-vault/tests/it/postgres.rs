//! The `postgres` engine at a real server: what it makes, and what is left of it.

use std::process::Command;

use sallyport_core::lease::LeaseState;
use sallyport_testkit::targets::postgres::Postgres;
use sallyport_vault::lease;
use serde_json::{Value, json};

use crate::{
    database::{self, far, root_secret, said},
    fixture::{NOW, printed},
};

type Story = database::Story<Postgres>;

/// The password of the root account: looked for wherever it must not be.
const ROOT: &str = "canary-of-the-root-6r2d";

impl Story {
    fn new(settings: Value) -> Self {
        let server = Postgres::start_as_target().unwrap();
        let maker = format!("CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{ROOT}'");
        server.execute("postgres", &maker).unwrap();
        server.create_database("shop").unwrap();
        let (address, authority) = (server.address().to_string(), server.authority());
        Self::at("postgres", server, &address, &authority, ROOT, &settings)
    }

    fn client(&self, user: &str, password: &str, sql: &str) -> Command {
        let mut command = Command::new("psql");
        command
            .env("PGPASSWORD", password)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(format!(
                "host=127.0.0.1 port={} user={user} dbname=shop sslmode=require",
                self.server.address().port()
            ));
        command
    }

    fn psql(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        said(&mut self.client(user, password, sql))
    }

    fn sql(&self, sql: &str) -> String {
        self.server.execute("shop", sql).unwrap()
    }

    fn users(&self) -> String {
        self.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sp\\_%'")
    }
}

/// VA-3, VA-4, VA-6, D4: a user is made for one session with what its roles allow and an end at the server
/// too; revoked, its connection ends, it cannot log in, and nothing of it is left. Twice is fine.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_lease_when_issued_and_revoked_then_a_user_comes_and_goes_with_its_connections() {
    let story = Story::new(json!({
        "roles": "readonly",
        "creation": "GRANT USAGE ON SCHEMA public TO {{user}}",
    }));
    story.sql("CREATE ROLE readonly; CREATE TABLE item (id int); GRANT SELECT ON item TO readonly");
    let (mut lease, user, password) = story.user(1).await;
    assert_eq!(
        story
            .psql(&user, &password, "SELECT count(*) FROM item")
            .unwrap(),
        "0"
    );
    assert!(story.psql(&user, &password, "DELETE FROM item").is_err());
    let until = story.sql(&format!(
        "SELECT rolvaliduntil = '{}'::timestamptz FROM pg_roles WHERE rolname = '{user}'",
        far()
    ));
    assert_eq!(until, "t");

    let mut sleeping = story
        .client(&user, &password, "SELECT pg_sleep(600)")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let sleeps = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
    while story.sql(&sleeps) == "0" {
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
    assert!(story.psql(&user, &password, "SELECT 1").is_err());
    story
        .engine()
        .revoke(&lease, story.revocation())
        .await
        .unwrap();

    let log = story.server.log();
    assert!(log.contains("SCRAM-SHA-256$"), "the log shows statements");
    assert!(
        !log.contains(&password),
        "the server's log has the password"
    );
    assert!(!log.contains(ROOT.trim_start_matches("canary")) || log.matches(ROOT).count() == 1);
}

/// VA-3, D9: what `creation` gives is read from the catalogue; a user that could do more than the settings
/// say is not made.
#[tokio::test(flavor = "multi_thread")]
async fn given_creation_that_gives_more_than_the_settings_allow_then_no_user_is_made() {
    let mut story = Story::new(json!({}));
    story.sql(
        "CREATE ROLE readonly; CREATE ROLE strong CREATEROLE; CREATE ROLE outer_role; \
         GRANT strong TO outer_role; GRANT pg_execute_server_program TO readonly WITH ADMIN OPTION; \
         CREATE ROLE plain; ALTER ROLE maker SUPERUSER",
    );
    for (allowed, creation, excess) in [
        ("", "GRANT plain TO {{user}}", "a member of `plain`"),
        (
            "plain",
            "GRANT plain TO {{user}} WITH ADMIN OPTION",
            "others members",
        ),
        ("", "ALTER ROLE {{user}} SUPERUSER", "`superuser`"),
        ("", "ALTER ROLE {{user}} REPLICATION", "`replication`"),
        ("", "ALTER ROLE {{user}} BYPASSRLS", "`bypassrls`"),
        ("outer_role", "GRANT outer_role TO {{user}}", "`createrole`"),
        (
            "readonly",
            "GRANT readonly TO {{user}}",
            "`server_programs`",
        ),
    ] {
        story.settings["allowed_roles"] = json!(allowed);
        story.settings["creation"] = json!(creation);
        let error = story.issue(&story.intent(1)).await.unwrap_err();
        assert!(
            printed(&error).contains(excess),
            "{creation}: {}",
            printed(&error)
        );
        assert_eq!(story.users(), "0", "{creation}");
    }
    story.settings["allowed_roles"] = json!("plain");
    story.settings["powers"] = json!("bypassrls");
    story.settings["creation"] = json!("GRANT plain TO {{user}}; ALTER ROLE {{user}} BYPASSRLS");
    story.user(1).await;
    assert_eq!(story.users(), "1");
}

/// VA-4, D5: objects that a user owns are refused, dropped or handed on, in every database, whatever they
/// and their heirs are called; refused, the user is locked out all the same.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_user_that_owns_objects_when_revoked_then_it_is_as_configured_and_it_is_locked_out()
{
    let heir = format!("he\"ir; DROP ROLE maker; -- {}", "ü".repeat(18));
    assert_eq!(heir.len(), 63);
    let quoted = heir.replace('"', "\"\"");
    let mut story = Story::new(json!({}));
    story.sql(&format!(
        "CREATE ROLE \"{quoted}\"; GRANT \"{quoted}\" TO maker"
    ));
    story.sql("CREATE DATABASE \"o'th\"\"er\"");
    for database in ["shop", "o'th\"er"] {
        let grant = "GRANT ALL ON SCHEMA public TO PUBLIC";
        story.server.execute(database, grant).unwrap();
    }
    let own = |user: &str| {
        for database in ["shop", "o'th\"er"] {
            let make = format!("SET ROLE \"{user}\"; CREATE TABLE \"ta\"\"ble;\" (id int)");
            story.server.execute(database, &make).unwrap();
        }
    };
    let (mut lease, user, password) = story.user(1).await;
    own(&user);
    lease.begin_revocation(NOW);
    let error = lease::revoke(&mut lease, story.revocation())
        .await
        .unwrap_err();
    assert!(
        printed(&error).contains("it owns 1 objects"),
        "{}",
        printed(&error)
    );
    assert!(
        lease
            .last_failure
            .as_ref()
            .unwrap()
            .contains("owned_objects")
    );
    assert!(
        story.psql(&user, &password, "SELECT 1").is_err(),
        "locked out"
    );

    story.settings["owned_objects"] = json!("reassign");
    story.settings["reassign_to"] = json!(format!("\"{quoted}\""));
    lease::revoke(&mut lease, story.revocation()).await.unwrap();
    assert_eq!(story.users(), "0");
    for database in ["shop", "o'th\"er"] {
        let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'ta\"ble;'";
        assert_eq!(story.server.execute(database, owner).unwrap(), heir);
        story
            .server
            .execute(database, "DROP TABLE \"ta\"\"ble;\"")
            .unwrap();
    }

    story.settings["owned_objects"] = json!("drop");
    story
        .settings
        .as_object_mut()
        .unwrap()
        .remove("reassign_to");
    let (mut lease, user, _) = story.user(2).await;
    own(&user);
    lease.begin_revocation(NOW);
    lease::revoke(&mut lease, story.revocation()).await.unwrap();
    assert_eq!(
        story.sql("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'ta%'"),
        "0"
    );
}

/// VA-4: whoever forgot a user finds it by its name, and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn given_users_that_nobody_remembers_then_they_are_found_by_name_and_no_others() {
    let story = Story::new(json!({}));
    let (first, user, _) = story.user(1).await;
    let (_, second, _) = story.user(2).await;
    story.sql("CREATE ROLE sp_another_installation; CREATE ROLE spx");
    let mut found = story.engine().made(story.revocation()).await.unwrap();
    found.sort();
    let mut expected = vec![user, second];
    expected.sort();
    assert_eq!(found, expected);
    for user in &found {
        story
            .engine()
            .remove(user, story.revocation())
            .await
            .unwrap();
    }
    assert!(
        story
            .engine()
            .made(story.revocation())
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        story.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sp%'"),
        "2"
    );
    assert_eq!(
        first.handle.as_ref(),
        story.intent(1).handle.as_ref(),
        "known before it was made"
    );
}

/// VA-3, D3: a wrong password, a server that shows another certificate, one that is away: each is an error
/// that says so, nothing is made, and no secret is in it.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_root_account_or_server_that_is_not_right_then_nothing_is_made_and_nothing_is_told()
{
    let mut story = Story::new(json!({}));
    let lease = story.intent(1);
    let wrong = "canary-of-a-wrong-password";
    story.site.root_secrets = vec![root_secret(&story.vault, wrong)];
    let error = printed(&story.issue(&lease).await.unwrap_err());
    assert!(error.contains("28P01") && !error.contains(wrong), "{error}");

    // While it is being rotated, one of two is right.
    story
        .site
        .root_secrets
        .push(root_secret(&story.vault, ROOT));
    story.issue(&lease).await.unwrap();
    story
        .engine()
        .revoke(&lease, story.revocation())
        .await
        .unwrap();

    let identities = std::mem::take(&mut story.site.identities);
    let error = printed(&story.issue(&lease).await.unwrap_err());
    assert!(error.contains("no certificate or key"), "{error}");
    story.site.identities = vec![format!("key-sha256:{}", "ab".repeat(32))];
    let error = printed(&story.issue(&lease).await.unwrap_err());
    assert!(error.contains("TLS") && !error.contains(ROOT), "{error}");
    story.site.identities = identities;

    let address = std::mem::replace(&mut story.site.address, "127.0.0.1:1".to_owned());
    let error = story.issue(&lease).await.unwrap_err();
    assert!(
        error.is_unreachable() && !printed(&error).contains(ROOT),
        "{}",
        printed(&error)
    );
    story.site.address = address;
    assert_eq!(story.users(), "0");
}
