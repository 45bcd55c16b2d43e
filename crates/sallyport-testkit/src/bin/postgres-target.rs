//! `postgres-target CONNECTIONS`: a PostgreSQL server to be measured, for so many connections, that writes no
//! statements down. Prints where it is, as JSON, and ends when its standard input does, so that none is left
//! behind by a program that dies.

#![expect(
    clippy::print_stdout,
    reason = "the address is what its caller waits for"
)]

use std::io::Read as _;

use anyhow::{Context as _, bail};
use sallyport_testkit::targets::{TargetSettings, postgres::Postgres};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [connections_max] = words.as_slice() else {
        bail!("usage: postgres-target CONNECTIONS");
    };
    let server = Postgres::start_as_target_with(TargetSettings {
        logs_statements: false,
        connections_max: connections_max.parse().context("read the connections")?,
    })?;
    let place = serde_json::json!({
        "port": server.address().port(),
        "socket": server.socket(),
        "authority": server.authority(),
    });
    println!("{place}");
    let mut ignored = Vec::new();
    std::io::stdin()
        .read_to_end(&mut ignored)
        .context("wait for the end")?;
    Ok(())
}
