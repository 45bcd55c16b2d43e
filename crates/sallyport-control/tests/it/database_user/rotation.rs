//! Stored passwords that are changed at their target.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use sallyport_api::gateway::Reply;
use sallyport_control::{inventory, secret, secret::rotation::RotationError};
use sallyport_core::{
    event::Actor,
    inventory::{Account, Target},
};
use sallyport_testkit::targets::postgres::Postgres;
use serde_json::json;

use super::{ROOT, Story};
use crate::support::chance::for_steps;

/// VA-2: the root account's password is changed in two phases; killed between any two steps, one of the
/// stored passwords opens it, sessions go on to open, and the next attempt finishes.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_rotation_that_is_killed_anywhere_then_a_stored_password_works_and_it_can_be_finished()
 {
    let mut story = Story::new().await;
    let mut has_finished = false;
    let mut were_cut_off = 0;
    for steps in (0..200).step_by(3) {
        let (account, target) = account(&story, "maker").await;
        let rotation = secret::rotation::rotate(
            &story.node.control,
            Actor::System,
            &account,
            &target,
            "test",
        );
        let rotated = for_steps(steps, rotation).await;
        let (serving, mut gateway, proof) = story.gateway().await;
        // Either as a user whom the account makes, or as the account itself, for which it is finished.
        let name = if steps % 2 == 0 { "r0" } else { "maker" };
        story.ask(name, 60).await;
        let opened = gateway.open_on(&proof, name, "orders", "postgres").await;
        assert!(
            matches!(opened, Reply::Opened(_)),
            "after {steps} steps: {opened:?}"
        );
        if let Some(rotated) = rotated {
            rotated.unwrap();
            has_finished = true;
            break;
        }
        were_cut_off += 1;
        story = story
            .restart(serving, gateway, Duration::from_secs(60))
            .await;
    }
    assert!(
        has_finished && were_cut_off >= 3,
        "{were_cut_off} were cut off"
    );
    let login = "SELECT rolpassword FROM pg_authid WHERE rolname = 'maker'";
    assert!(
        story
            .server
            .execute("postgres", login)
            .unwrap()
            .starts_with("SCRAM-SHA-256$")
    );
    let path = "/v1/accounts/maker@orders";
    let shown = story.node.ok(&story.owner, "GET", path, None).await;
    assert!(shown["rotated_at"].is_string(), "{shown}");
}

/// VA-2: a password is rotated when it is due, after a session where that is set, when somebody says so, and
/// for a whole target in an emergency; one that cannot be is tried again and says why.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_stored_password_then_it_is_rotated_on_schedule_after_use_on_demand_and_in_an_emergency()
 {
    let story = Story::new().await;
    let password = "canary-of-the-app-3t7h";
    let make = format!("CREATE ROLE app LOGIN PASSWORD '{password}'");
    story.server.execute("postgres", &make).unwrap();
    let app = json!({
        "target": "orders", "name": "app", "engine": "static",
        "settings": { "rotate_every_s": "3600", "rotate_after_use": "yes" },
    });
    story
        .node
        .ok(&story.owner, "POST", "/v1/accounts", Some(app))
        .await;
    let stored = json!({ "kind": "password", "value": password });
    let path = "/v1/accounts/app@orders/secret";
    story.node.ok(&story.owner, "PUT", path, Some(stored)).await;
    let verifier = || {
        let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'";
        story.server.execute("postgres", stored).unwrap()
    };
    let control = &story.node.control;
    let mut known = verifier();
    let mut changed = |what: &str| {
        let now = verifier();
        assert_ne!(now, known, "{what}");
        known = now;
    };

    secret::rotation::rotate_due(control).await.unwrap();
    story.node.clock.advance(Duration::from_secs(3_601));
    secret::rotation::rotate_due(control).await.unwrap();
    changed("on schedule");

    let path = "/v1/accounts/app@orders/rotate";
    story.node.ok(&story.owner, "POST", path, None).await;
    changed("on demand");

    let (serving, mut gateway, proof) = story.gateway().await;
    story.ask("app", 60).await;
    let opened = gateway.open_on(&proof, "app", "orders", "postgres").await;
    assert!(matches!(opened, Reply::Opened(_)), "{opened:?}");
    for _ in 0..70 {
        story.second().await;
    }
    secret::rotation::rotate_due(control).await.unwrap();
    changed("after use");

    for body in [
        json!({ "target": "orders" }),
        json!({ "person": "alice" }),
        json!({ "everything": true }),
    ] {
        let asked = Some(body.clone());
        let demanded = story
            .node
            .ok(&story.owner, "POST", "/v1/rotations", asked)
            .await;
        assert!(
            demanded["accounts"].as_u64().unwrap() >= 1,
            "{body} {demanded}"
        );
        secret::rotation::rotate_due(control).await.unwrap();
        changed(&body.to_string());
    }

    story
        .server
        .execute("postgres", "ALTER ROLE app PASSWORD 'changed by hand'")
        .unwrap();
    let path = "/v1/accounts/app@orders/rotate";
    let (status, problem) = story
        .node
        .call(&story.owner.token, "POST", path, None)
        .await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem.to_string().contains("28P01"), "{problem}");
    assert!(!problem.to_string().contains("canary"), "{problem}");
    serving.abort();
}

/// VA-2: a next password that the target took and does not know a moment later, as where another server answers that
/// has not heard of the change, does not become the password: the old one still opens sessions, and the next attempt
/// finishes.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_target_that_forgets_the_change_then_the_old_password_stays_until_a_login_with_the_next()
 {
    let (first, then) = (
        Postgres::start_as_target().unwrap(),
        Postgres::start_as_target().unwrap(),
    );
    let maker = format!("CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{ROOT}'");
    then.execute("postgres", &maker).unwrap();
    let authorities: Vec<String> = [&first, &then]
        .map(|server| std::fs::read_to_string(server.authority()).unwrap())
        .into();
    let address = failing_over(first.address(), then.address());
    let story = Story::at(first, &address).await;
    let both = json!({
        "name": "orders", "protocol": "postgres", "address": address, "sensitivity": "low",
        "host_keys": authorities,
    });
    let path = "/v1/targets/orders";
    story.node.ok(&story.owner, "PUT", path, Some(both)).await;
    let (account, target) = account(&story, "maker").await;
    let rotate = || {
        secret::rotation::rotate(
            &story.node.control,
            Actor::System,
            &account,
            &target,
            "test",
        )
    };
    let refused = rotate().await;
    assert!(
        matches!(refused, Err(RotationError::NotAccepted)),
        "{refused:?}"
    );
    let (serving, mut gateway, proof) = story.gateway().await;
    story.ask("r0", 60).await;
    let opened = gateway.open_on(&proof, "r0", "orders", "postgres").await;
    assert!(matches!(opened, Reply::Opened(_)), "{opened:?}");
    rotate().await.unwrap();
    serving.abort();
}

/// An address whose first connection goes to one server, and all others to another.
fn failing_over(first: SocketAddr, then: SocketAddr) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut to = first;
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(to).unwrap();
            to = then;
            for (mut from, mut into) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far, near),
            ] {
                std::thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    address
}

/// An account of the story's target, with that.
async fn account(story: &Story, name: &str) -> (Account, Target) {
    let mut reader = story.node.control.db().read().await.unwrap();
    let orders = "orders".parse().unwrap();
    let target = inventory::target_by_name(&mut reader, &orders);
    let target = target.await.unwrap().unwrap();
    let name = name.parse().unwrap();
    let account = inventory::account_by_name(&mut reader, &target.id, &name);
    (account.await.unwrap().unwrap(), target)
}
