//! `distance`: bulk over 50 and 150 ms of added round trip, before the first hop and behind it.
//!
//! `near`: the client is far from everything, so a delaying proxy stands before each path's first hop.
//! `far`: the target is far, so it stands before the target; `direct` goes through it too.
//!
//! Distance is made by `delaying-proxy` of the testkit, because the kernels this is run on have no
//! delay to inject. It limits no bandwidth; what is lost over distance is lost by windows.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path as FilePath,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};

use super::{
    bulk::{Direction, Load, transfer},
    figures::{Figures, Row},
    options::Options,
    path::{Cipher, Route, in_turn},
    world::World,
};

/// Added to a round trip, ms.
const ADDED: [u16; 2] = [50, 150];

/// Takes the samples.
pub fn take(world: &mut World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let here = world.route(Cipher::Aes256Gcm)?.clone();
    let mib = (options.size_mib / 4).max(1);
    for added in ADDED {
        let binary = world.beside_binary("delaying-proxy");
        let near = [here.direct_port, here.relay_port, here.gateway_port]
            .map(|port| Proxy::start(&binary, port, added));
        let [direct, relay, gateway] = near;
        let (direct, relay, gateway) = (direct?, relay?, gateway?);
        let near = Route {
            direct_port: direct.port,
            relay_port: relay.port,
            gateway_port: gateway.port,
            ..here.clone()
        };
        let far = world.add_far_route(&here, &format!("far-{added}"), direct.port)?;
        for (place, route) in [("near", &near), ("far", &far)] {
            for (_, path) in in_turn(options.rounds.min(3)) {
                for (way, direction) in [("down", Direction::Down), ("up", Direction::Up)] {
                    let load = Load {
                        direction,
                        content: "random",
                        has_pty: false,
                        mib,
                    };
                    let row = Row::new(
                        format!("{place}.{added}ms.{way}"),
                        format!("{added} ms, {place}, {way}"),
                        "MiB/s",
                    );
                    match transfer(world, path, route, load) {
                        Ok(moved) => {
                            let rate = mib as f64 / moved.took.as_secs_f64();
                            figures.add(&row, Some(path), rate);
                        }
                        Err(error) => figures.fail(&row, Some(path), &error),
                    }
                }
            }
        }
    }
    Ok(())
}

/// A running `delaying-proxy`; it ends when its standard input does.
#[derive(Debug)]
struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    /// In front of a port of this machine; half of `added` each way.
    fn start(binary: &FilePath, port: u16, added: u16) -> anyhow::Result<Self> {
        ensure!(
            binary.exists(),
            "`{}` is missing: cargo build --release --workspace",
            binary.display()
        );
        let mut child = Command::new(binary)
            .arg(format!("127.0.0.1:{port}"))
            .arg((added / 2).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the proxy")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("hear the proxy")?;
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("hear the proxy")?;
        let address: SocketAddr = line.trim().parse().context("read the proxy's address")?;
        Ok(Self {
            child,
            port: address.port(),
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
