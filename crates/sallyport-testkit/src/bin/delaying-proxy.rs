//! `delaying-proxy ADDRESS MILLISECONDS`: a proxy in front of ADDRESS that adds as much to each
//! direction. Prints where it listens, and ends when its standard input does, so that none is left
//! behind by a program that dies.

#![expect(
    clippy::print_stdout,
    reason = "the address is what its caller waits for"
)]

use std::{io::Read as _, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use sallyport_testkit::proxy::{Link, Proxy};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, delay_ms] = words.as_slice() else {
        bail!("usage: delaying-proxy ADDRESS MILLISECONDS");
    };
    let address: SocketAddr = address.parse().context("read the address")?;
    let delay_ms: u64 = delay_ms.parse().context("read the milliseconds")?;
    let link = Link {
        delay: Duration::from_millis(delay_ms),
        bytes_per_s: None,
    };
    let proxy = Proxy::start(address, link)?;
    println!("{}", proxy.address());
    let mut ignored = Vec::new();
    std::io::stdin()
        .read_to_end(&mut ignored)
        .context("wait for the end")?;
    Ok(())
}
