//! Drivers that speak the protocol by themselves, or use all of it.

use std::{path::Path, time::Duration};

use super::database::{APP, Shop};
use crate::node::finished_within;

/// GW-2: prepared statements, pipelines, portals, COPY, notifications, cancelling, large values and pools work
/// with the drivers that programs use; an ORM does, and what tools with windows ask the catalogue.
#[test]
fn given_programs_with_their_drivers_then_everything_they_use_of_the_protocol_works() {
    let python = crate::clients::venv("python");
    let shop = Shop::new();
    shop.world.grant(APP, "1h");
    let pass = shop.pass(APP);
    for script in ["psycopg.py", "asyncpg.py", "sqlalchemy_orm.py"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/postgres");
        let mut program = shop.command(&python, APP, &pass);
        program.arg("-P").arg(path.join(script));
        let output = finished_within(Duration::from_secs(120), program.spawn().unwrap());
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.ends_with("done\n"),
            "{script}: {said} {} {}",
            String::from_utf8_lossy(&output.stderr),
            shop.world.node.log()
        );
        shop.execute("shop", "DROP TABLE work");
    }
}
