//! Processes killed at random moments under load: nothing that was acknowledged is lost.

use std::{collections::HashMap, fs, time::Duration};

use sallyport_testkit::effort;
use serde_json::Value;

use crate::{
    ledger::Ledger,
    node::Role,
    waiting::{eventually, try_within},
    world::World,
};

/// R1, L5, AU-1, AU-6: control, gateway or both are killed at random moments while clients write. What
/// any client was told is in the log once; the numbers are dense and the log verifies.
#[test]
fn killing_control_and_gateway_at_random_loses_nothing_that_a_client_was_told() {
    let world = World::new();
    let ledger = Ledger::start(&world.node, &world.olga);
    let mut random = 0x5eed_u64;
    for round in 0..effort::rounds(4) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ledger.until_it_grows();
        // The moment is what is random here; nothing is waited for.
        let moment = Duration::from_millis(10 + (random >> 33) % 1_000);
        let _: Option<()> = try_within(moment, || None);
        match round % 3 {
            0 => world.node.kill(&[Role::Control]),
            1 => world.node.kill(&[Role::Control, Role::Gateway]),
            _ => world.node.kill(&[Role::Gateway]),
        }
    }
    ledger.until_it_grows();
    world
        .node
        .until_health_says(&world.node.health(), "ready", true);
    let acknowledged = ledger.finish();
    let log = fs::read_to_string(world.verified_export().join("entries.jsonl")).unwrap();
    let mut made: HashMap<String, usize> = HashMap::new();
    for (number, line) in log.lines().enumerate() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["seq"].as_u64(), u64::try_from(number).ok());
        if entry["event"] == "person.created" {
            let name = entry["data"]["name"].as_str().unwrap().to_owned();
            *made.entry(name).or_default() += 1;
        }
    }
    for name in &acknowledged {
        assert_eq!(made.get(name), Some(&1), "{name} was acknowledged");
    }
    assert!(acknowledged.len() >= 4, "{} changes", acknowledged.len());
    // And the store agrees with its log.
    for name in acknowledged.iter().step_by(acknowledged.len().div_ceil(40)) {
        let person = eventually("a person is shown", || {
            Some(world.olga.json(&["person", "show", name]))
        });
        assert_eq!(person["name"], name.as_str());
    }
}
