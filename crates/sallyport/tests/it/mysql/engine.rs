//! Sessions as users that are made for them, on MariaDB.

use std::time::Duration;

use super::database::{SECRET, Shop};
use crate::waiting::within;

/// The account whose users are made for each session.
const READER: &str = "reader@shop";
/// The password of the account that makes them.
const ROOT: &str = "canary-of-the-maker-6d2r";
/// How long a user may be there after its session. The goal is five seconds, by the clock of a machine that is not
/// busy with other tests (R14 is held by those of control).
const LATE: Duration = Duration::from_secs(30);

fn shop() -> Shop {
    let shop = Shop::new();
    // What the engine's page says that a root account needs, and no more.
    shop.execute(&format!(
        "CREATE USER maker@'%' IDENTIFIED BY '{ROOT}' REQUIRE SSL; \
         GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO maker@'%'; \
         GRANT SELECT, UPDATE ON mysql.* TO maker@'%'; CREATE ROLE readonly; \
         GRANT SELECT ON shop.* TO readonly; GRANT readonly TO maker@'%' WITH ADMIN OPTION"
    ));
    shop.add_account("maker@shop", ROOT);
    shop.world.olga.say(&[
        "account",
        "create",
        READER,
        "--engine",
        "mysql",
        "--setting",
        "root=maker",
        "--setting",
        "roles=readonly",
    ]);
    shop
}

fn users(shop: &Shop) -> String {
    let count = "SELECT count(*) FROM mysql.global_priv WHERE User LIKE 'sp\\_%'";
    shop.execute(count).trim().to_owned()
}

/// VA-2, VA-3, VA-4, VA-6, GW-3, GW-11: the stock client works as a user that exists for its session alone,
/// with the rights of its role, also after the root account's password was rotated; the user is gone after the
/// session, and its password was nowhere but in the gateway.
#[test]
fn given_an_account_whose_users_are_made_when_mariadb_ends_then_its_user_is_gone() {
    let shop = shop();
    shop.world.grant(READER, "1h");
    let pass = shop.pass(READER);
    let query = |sql: &str| {
        let mut mariadb = shop.command("mariadb", READER, &pass);
        mariadb.args([
            "--batch",
            "--skip-column-names",
            "--database=shop",
            "-e",
            sql,
        ]);
        crate::node::finished(mariadb.spawn().unwrap())
    };
    for _ in 0..2 {
        let said = query("SELECT current_user(), count(*) FROM item");
        assert!(said.status.success(), "{said:?}");
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(
            text.starts_with("sp_") && text.trim().ends_with("@%\t3"),
            "{text}"
        );
        shop.world.olga.say(&["account", "rotate", "maker@shop"]);
    }
    assert!(!query("DELETE FROM item").status.success());
    within(LATE, "its users are gone", || {
        (users(&shop) == "0").then_some(())
    });

    let leases = shop.world.olga.list(&["lease", "list"]);
    let ours: Vec<_> = leases
        .iter()
        .filter(|lease| lease["engine"] == "mysql")
        .collect();
    assert_eq!(ours.len(), 3, "{leases:#?}");
    let log = shop.world.node.log();
    assert!(
        !log.contains(SECRET) && !log.contains(ROOT),
        "a secret is in the log"
    );
}

/// VA-4, GW-12: what ends the grant ends the user, whatever it is doing.
#[test]
fn given_a_session_as_a_made_mariadb_user_when_the_grant_ends_then_the_user_is_gone() {
    let shop = shop();
    let grant = shop.world.grant(READER, "1h");
    let pass = shop.pass(READER);
    let mut mariadb = shop.command("mariadb", READER, &pass);
    mariadb.args(["-e", "SELECT SLEEP(600)"]);
    let mariadb = mariadb.spawn().unwrap();
    within(Duration::from_secs(30), "the user works", || {
        let busy = "SELECT count(*) FROM information_schema.processlist \
                    WHERE user LIKE 'sp\\_%' AND state = 'User sleep'";
        (shop.execute(busy).trim() == "1").then_some(())
    });
    shop.world
        .carol
        .say(&["grant", "end", &grant, "--reason", "enough"]);
    within(LATE, "its user is gone", || {
        (users(&shop) == "0").then_some(())
    });
    assert!(!crate::node::finished(mariadb).status.success());
}
