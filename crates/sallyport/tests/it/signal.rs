//! What machines see.

use crate::{
    node::get,
    world::{ROOT, World},
};

/// MO-2: metrics and health of both processes, on loopback, as Prometheus reads them.
#[test]
fn both_processes_offer_metrics_and_health() {
    let world = World::new();
    world.grant(ROOT, "1h");
    assert!(world.ssh().run(ROOT, "true").status.success());
    world.ended_session(world.newest_session()["id"].as_str().unwrap());

    for address in [world.node.health(), world.node.gateway_health()] {
        let health = get(&address, "/healthz").unwrap();
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    }
    let ready = get(&world.node.health(), "/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let control = get(&world.node.health(), "/metrics").unwrap();
    let gateway = get(&world.node.gateway_health(), "/metrics").unwrap();
    for name in [
        "sallyport_audit_lag_seconds",
        "sallyport_gateways_connected 1",
    ] {
        assert!(control.contains(name), "no {name}: {control}");
    }
    assert!(
        gateway.contains("sallyport_unrecorded_sessions_total 0"),
        "{gateway}"
    );
    for text in [control, gateway] {
        assert!(!text.contains("alice") && !text.contains("web-1"), "{text}");
    }
}

/// VA-1, MO-2: a node that cannot do its work says so.
#[test]
fn a_sealed_vault_is_not_ready() {
    let world = World::new();
    world.olga.say(&["operator", "seal"]);
    let answer = get(&world.node.health(), "/readyz").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("sealed"),
        "{answer}"
    );
}
