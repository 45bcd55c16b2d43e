//! GUI tools and others that know neither passes nor our authority: `sallyport db listen`.

use std::process::{Command, Stdio};

use super::database::{APP, Live, Shop, complaint};
use crate::node::{finished, send};

/// A tool that is given an address and a password, as people fill in a form.
fn tool(shop: &Shop, port: &str, password: &str) -> Command {
    let mut command = shop.command("psql", "postgres", password);
    command
        .env("PGPORT", port)
        .env("PGSSLMODE", "prefer")
        .env_remove("PGSSLROOTCERT")
        .args(["-X", "-q", "-A", "-t"]);
    command
}

/// GW-2, GW-3: a client without TLS, with any user's name, works as the person who listens for it, statement
/// by statement in the evidence; it can cancel. Another password gets nowhere near the gateway.
#[test]
fn given_a_listener_when_a_plain_client_connects_then_it_is_the_persons_and_needs_her_password() {
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let words = ["db", "listen", APP];
    let mut listening = shop.world.alice.command(&words);
    listening
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut listening = Live::of(listening);
    let line = listening.until("password");
    let after = |mark: &str| {
        let rest = line.split(mark).nth(1).unwrap();
        rest.split([':', ';']).next().unwrap().to_owned()
    };
    let (at, password) = (after("127.0.0.1:"), after("password "));

    let stranger = tool(&shop, &at, "guess").args(["-c", "SELECT 1"]).spawn();
    let refused = finished(stranger.unwrap());
    assert!(!refused.status.success());
    assert!(
        complaint(&refused).contains("the one that `sallyport db listen` printed"),
        "{refused:?}"
    );
    listening.until("it sent another password");
    assert!(shop.world.carol.list(&["session", "list"]).is_empty());

    let query = tool(&shop, &at, &password)
        .args(["-c", "SELECT current_user, name FROM item WHERE id = 2"])
        .spawn();
    let answered = finished(query.unwrap());
    assert_eq!(
        String::from_utf8_lossy(&answered.stdout).trim(),
        "app|chair",
        "{answered:?}"
    );
    let id = shop.newest();
    let statements = shop.statements(&id);
    assert_eq!(statements.len(), 1, "{statements:#?}");
    assert_eq!(shop.world.ended_session(&id)["person"], "alice");

    let mut long = tool(&shop, &at, &password);
    long.stdin(Stdio::piped());
    let mut long = Live::of(long);
    long.type_line("SELECT 'ready';");
    long.until("ready");
    long.type_line("SELECT pg_sleep(600);");
    crate::waiting::eventually("the query runs", || {
        let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' \
                       AND state = 'active' AND usename = 'app'";
        (shop.execute("postgres", running).trim() == "1").then_some(())
    });
    send("-INT", long.pid());
    long.until("canceling statement due to user request");
    drop(long);

    send("-INT", listening.pid());
    assert_eq!(listening.end(), 0);
}

/// GW-2: an address that other machines reach is refused before anything is asked for.
#[test]
fn given_an_address_that_others_reach_when_listening_then_it_is_refused() {
    let shop = Shop::new();
    let refused = shop
        .world
        .alice
        .attempt(&["db", "listen", APP, "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("loopback"), "{refused:?}");
}
