//! A server as a program of its own, for callers that are no tests: those of `src/bin`.

#![expect(
    clippy::print_stdout,
    reason = "the address is what its caller waits for"
)]

use std::{io::Read as _, net::SocketAddr, path::Path};

use anyhow::{Context as _, bail};

use super::TargetSettings;

/// What the words of the command line ask for: one to be measured, for so many connections, that writes no
/// statements down.
///
/// # Errors
///
/// When they are not one number.
pub fn measured(name: &str) -> anyhow::Result<TargetSettings> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [connections_max] = words.as_slice() else {
        bail!("usage: {name} CONNECTIONS");
    };
    Ok(TargetSettings {
        logs_statements: false,
        connections_max: connections_max.parse().context("read the connections")?,
    })
}

/// Prints where a server is, as JSON, and waits for the end of standard input, so that none is left behind by a
/// program that dies.
///
/// # Errors
///
/// When standard input cannot be read.
pub fn offer(address: SocketAddr, socket: &Path, authority: &Path) -> anyhow::Result<()> {
    let place = serde_json::json!({
        "port": address.port(),
        "socket": socket,
        "authority": authority,
    });
    println!("{place}");
    let mut ignored = Vec::new();
    std::io::stdin()
        .read_to_end(&mut ignored)
        .map(drop)
        .context("wait for the end")
}
