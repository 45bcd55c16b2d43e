//! Sessions as users that are made for them.

use std::time::Duration;

use super::database::{SECRET, Shop};
use crate::waiting::within;

/// The account whose users are made for each session.
const READER: &str = "reader@orders";
/// The password of the account that makes them.
const ROOT: &str = "canary-of-the-maker-8w3k";
/// How long a user may be there after its session (R14).
const LATE: Duration = Duration::from_secs(5);

fn shop() -> Shop {
    let shop = Shop::new();
    shop.execute(
        "shop",
        &format!(
            "CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{ROOT}'; CREATE ROLE readonly; \
             GRANT SELECT ON item TO readonly"
        ),
    );
    let olga = &shop.world.olga;
    olga.say(&["account", "create", "maker@orders", "--engine", "static"]);
    let set = [
        "account",
        "set-secret",
        "maker@orders",
        "--kind",
        "password",
    ];
    let stored = olga.try_with(&set, &format!("{ROOT}\n"));
    assert_eq!(stored.code, 0, "{stored:?}");
    olga.say(&[
        "account",
        "create",
        READER,
        "--engine",
        "postgres",
        "--setting",
        "root=maker",
        "--setting",
        "roles=readonly",
        "--setting",
        "database=shop",
    ]);
    shop
}

fn users(shop: &Shop) -> String {
    shop.execute(
        "postgres",
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sp\\_%'",
    )
}

/// VA-3, VA-4, VA-6, GW-2, GW-11, R14: stock psql works as a user that exists for its session alone, with
/// the rights of its roles; the user is gone within five seconds of the session, and its password was
/// nowhere but in the gateway.
#[test]
fn given_an_account_whose_users_are_made_when_psql_ends_then_its_user_is_gone() {
    let shop = shop();
    shop.world.grant(READER, "1h");
    let pass = shop.pass(READER);
    let query = |sql: &str| {
        let mut psql = shop.command("psql", READER, &pass);
        psql.args(["-X", "-q", "-A", "-t", "-c", sql]);
        crate::node::finished(psql.spawn().unwrap())
    };
    let said = query("SELECT current_user, count(*) FROM item");
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(
        text.starts_with("sp_") && text.trim().ends_with("|3"),
        "{text}"
    );
    assert!(!query("DELETE FROM item").status.success());
    within(LATE, "its users are gone", || {
        (users(&shop) == "0").then_some(())
    });

    let leases = shop.world.olga.list(&["lease", "list"]);
    let ours: Vec<_> = leases
        .iter()
        .filter(|lease| lease["engine"] == "postgres")
        .collect();
    assert_eq!(ours.len(), 2, "{leases:#?}");
    let log = shop.world.node.log();
    assert!(
        !log.contains(SECRET) && !log.contains(ROOT),
        "a secret is in the log"
    );
}

/// VA-4, GW-12, R14: what ends the grant ends the user, whatever it is doing.
#[test]
fn given_a_session_as_a_made_user_when_the_grant_ends_then_the_user_is_gone() {
    let shop = shop();
    let grant = shop.world.grant(READER, "1h");
    let pass = shop.pass(READER);
    let mut psql = shop.command("psql", READER, &pass);
    psql.args(["-X", "-q", "-c", "SELECT pg_sleep(600)"]);
    let psql = psql.spawn().unwrap();
    within(Duration::from_secs(20), "the user works", || {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'sp\\_%' AND state = 'active'";
        (shop.execute("postgres", busy) == "1").then_some(())
    });
    shop.world
        .carol
        .say(&["grant", "end", &grant, "--reason", "enough"]);
    within(LATE, "its user is gone", || {
        (users(&shop) == "0").then_some(())
    });
    assert!(!crate::node::finished(psql).status.success());
}

/// VA-3: what an account with this engine needs is said when it is made.
#[test]
fn given_an_account_that_could_not_work_then_it_is_refused_with_what_is_missing() {
    let shop = shop();
    let olga = &shop.world.olga;
    let create = |on: &str, settings: &[&str]| {
        let mut words = vec!["account", "create", on, "--engine", "postgres"];
        for setting in settings {
            words.extend(["--setting", setting]);
        }
        let said = olga.try_with(&words, "");
        assert_ne!(said.code, 0, "{said:?}");
        format!("{said:?}")
    };
    assert!(create("a@orders", &[]).contains("`root` is missing"));
    assert!(create("a@orders", &["root=nobody"]).contains("make that first"));
    assert!(create("a@orders", &["root=reader"]).contains("engine `static`"));
    assert!(
        create(
            "a@orders",
            &["root=maker", "creation=GRANT x TO '{{user}}'"]
        )
        .contains("inside quotes")
    );
    assert!(create("a@web-1", &["root=root"]).contains("protocol `postgres`"));
}
