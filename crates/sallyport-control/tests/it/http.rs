//! What the HTTP layer does around every route: panics, time limits, clients that hang up.

use std::{sync::LazyLock, time::Duration};

use axum::extract::State;
use sallyport_control::kernel::{
    caller::Caller,
    control::Control,
    http::{Access, Routes},
};
use sallyport_core::event::{Actor, Event, EventName, Events};
use tokio::sync::Notify;
use utoipa_axum::routes;

use crate::support::node::Node;

const ANYBODY: Access = Access::Anonymous("a route of a test");

/// Lets the slow route go on; one test uses it.
static GO_ON: LazyLock<Notify> = LazyLock::new(Notify::new);

#[utoipa::path(get, path = "/test/panic", responses((status = 204)))]
async fn panics() {
    panic!("a detail that stays here");
}

#[utoipa::path(get, path = "/test/caller", responses((status = 204)))]
async fn wants_caller(_: Caller) {}

#[utoipa::path(get, path = "/test/slow", responses((status = 204)))]
async fn slow(State(control): State<Control>) {
    GO_ON.notified().await;
    let tx = control.db().begin(Actor::System).await.unwrap();
    let event = Event::new(EventName::ControlStarted, "slow");
    tx.commit(Events::one(event)).await.unwrap();
}

async fn node() -> Node {
    let mut node = Node::start_with(|config| {
        config.listen.request_timeout = Duration::from_secs(1);
    })
    .await;
    node.router = Routes::new()
        .route(ANYBODY, routes!(panics))
        .route(ANYBODY, routes!(wants_caller))
        .route(ANYBODY, routes!(slow))
        .into_router(node.control.clone());
    node
}

async fn grown_beyond(node: &Node, size: u64) {
    let mut log_size = node.control.db().log_size();
    tokio::time::timeout(
        Duration::from_secs(10),
        log_size.wait_for(|now| *now > size),
    )
    .await
    .unwrap()
    .unwrap();
}

/// OP-1: a panic ends one request; its text stays in the log, and the client gets a name for it.
#[tokio::test]
async fn given_a_route_that_panics_then_the_client_learns_nothing_but_a_reference() {
    let node = node().await;
    for _ in 0..2 {
        let (status, problem) = node.call("", "GET", "/test/panic", None).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (500, Some("internal")),
            "{problem}"
        );
        assert!(problem["reference"].is_string());
        assert!(!problem.to_string().contains("detail"), "{problem}");
    }
}

/// ID-1: an anonymous route has no caller, and asking for one is a fault of ours, not a way in.
#[tokio::test]
async fn given_an_anonymous_route_that_wants_its_caller_then_it_gets_none() {
    let node = node().await;
    let owner_like = format!("spt_{}", "A".repeat(43));
    for token in ["", owner_like.as_str()] {
        assert_eq!(node.call(token, "GET", "/test/caller", None).await.0, 500);
    }
}

/// AU-6: whether the client waits, hangs up, or is told that it takes too long: what was begun is
/// finished, with its record.
#[tokio::test]
async fn given_a_client_that_hangs_up_or_waits_too_long_then_the_change_is_finished() {
    let node = node().await;

    let before = *node.control.db().log_size().borrow();
    let hung_up = node.call("", "GET", "/test/slow", None);
    let gone = tokio::time::timeout(Duration::from_millis(100), hung_up).await;
    assert!(gone.is_err(), "the client left first");
    GO_ON.notify_one();
    grown_beyond(&node, before).await;

    let before = *node.control.db().log_size().borrow();
    let (status, problem) = node.call("", "GET", "/test/slow", None).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (503, Some("unavailable")),
        "{problem}"
    );
    GO_ON.notify_one();
    grown_beyond(&node, before).await;
}
