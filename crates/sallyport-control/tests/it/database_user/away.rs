//! What cannot be ended yet, and what nobody remembers.

use std::time::Duration;

use sallyport_api::gateway::Reply;
use sallyport_control::broker;
use sallyport_testkit::{
    proxy::{Link, Proxy},
    targets::postgres::Postgres,
};
use serde_json::Value;

use super::{READERS, ROOT, Story};

/// R14, VA-4: a server that is away is asked seldom and by one lease; what could not be ended is on a list
/// with its cause, and gone within a minute of the server's return, or at once when somebody says so.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_server_that_is_away_then_users_end_when_it_is_back_and_operators_see_why() {
    let server = Postgres::start_as_target().unwrap();
    let proxy = Proxy::start(server.address(), Link::default()).unwrap();
    let address = format!("127.0.0.1:{}", proxy.address().port());
    let story = Story::at(server, &address).await;
    let (serving, mut gateway, proof) = story.gateway().await;
    for number in 0..READERS {
        let reader = format!("r{number}");
        story.ask(&reader, 60).await;
        for _ in 0..3 {
            let opened = gateway.open_on(&proof, &reader, "orders", "postgres").await;
            assert!(matches!(opened, Reply::Opened(_)), "{opened:?}");
        }
    }
    assert_eq!(story.users().len(), 12);
    proxy.cut();
    proxy.stall();
    story.node.clock.advance(Duration::from_secs(70));
    let before = proxy.connections();
    for _ in 0..2 {
        // Each waits in vain for the server.
        story.node.clock.advance(Duration::from_secs(40));
        story.second().await;
    }
    let asked = proxy.connections() - before;
    assert!((1..=12).contains(&asked), "asked {asked} times");
    let failed: Vec<Value> = story.leases("").await;
    let why = failed
        .iter()
        .find_map(|lease| lease["last_failure"].as_str());
    assert!(why.unwrap().contains("wait for the server"), "{failed:#?}");

    proxy.resume();
    for _ in 0..60 {
        story.second().await;
    }
    assert_eq!(story.users(), Vec::<String>::new());
    serving.abort();
}

/// VA-4: what cannot be revoked again and again is listed apart, and tried at once when an operator has put
/// right what kept it.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_root_account_that_lost_its_password_then_leases_are_stuck_until_it_is_right() {
    let story = Story::new().await;
    let (serving, mut gateway, proof) = story.gateway().await;
    story.ask("r0", 60).await;
    let opened = gateway.open_on(&proof, "r0", "orders", "postgres").await;
    assert!(matches!(opened, Reply::Opened(_)), "{opened:?}");
    let change = "ALTER ROLE maker PASSWORD 'another'";
    story.server.execute("postgres", change).unwrap();
    for _ in 0..200 {
        story.second().await;
    }
    let stuck = story.leases("&stuck=true").await;
    assert_eq!(stuck.len(), 1, "{stuck:#?}");
    let why = stuck[0]["last_failure"].as_str().unwrap();
    assert!(why.contains("28P01") && !why.contains(ROOT), "{why}");
    assert_eq!(story.users().len(), 1);

    let change = format!("ALTER ROLE maker PASSWORD '{ROOT}'");
    story.server.execute("postgres", &change).unwrap();
    let id = stuck[0]["id"].as_str().unwrap();
    let path = format!("/v1/leases/{id}/retry");
    story.node.ok(&story.owner, "POST", &path, None).await;
    broker::lease::revoke_due(&story.node.control)
        .await
        .unwrap();
    assert_eq!(story.users(), Vec::<String>::new());
    assert!(story.leases("&stuck=true").await.is_empty());
    serving.abort();
}

/// R12, VA-4: a user of ours that the store knows nothing of is found by its name and removed; those of live
/// sessions and of others stay.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_user_that_the_store_forgot_then_it_is_removed_and_no_other() {
    let story = Story::new().await;
    let (serving, mut gateway, proof) = story.gateway().await;
    story.ask("r0", 600).await;
    let opened = gateway.open_on(&proof, "r0", "orders", "postgres").await;
    assert!(matches!(opened, Reply::Opened(_)), "{opened:?}");
    let live = story.users().remove(0);
    let forgotten = format!("{}{}", &live[..10], "0".repeat(22));
    let foreign = format!("sp_000000_{}", "0".repeat(22));
    // It begins as ours do; somebody named it so.
    let named = format!("{}reports", &live[..10]);
    for user in [&forgotten, &foreign, &named] {
        // As the root account made them.
        let make = format!("SET ROLE maker; CREATE ROLE {user} LOGIN");
        story.server.execute("postgres", &make).unwrap();
    }
    broker::orphan::remove_all(&story.node.control)
        .await
        .unwrap();
    let mut left = vec![live, foreign, named];
    left.sort();
    assert_eq!(story.users(), left);
    serving.abort();
}
