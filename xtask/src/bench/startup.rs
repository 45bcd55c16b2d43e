//! `startup`: from the start of a node on its own data to `/readyz`, and to the SSH banner.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path as FilePath,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    figures::{Figures, Row},
    options::Options,
};
use crate::demo::stage::{Running, free_ports};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Takes the samples; the first start makes the data and does not count.
pub fn take(binary: &FilePath, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("sallyport-startup-{}", std::process::id()));
    fs::create_dir_all(&folder).context("make a folder")?;
    let ready = Row::new("ready", "start to /readyz", "ms");
    let banner = Row::new("banner", "start to SSH banner", "ms");
    let mut result = start(binary, &folder);
    for _ in 0..options.count(10, 2) {
        result = result.and_then(|_| start(binary, &folder));
        if let Ok((to_ready, to_banner)) = &result {
            figures.add(&ready, None, to_ready.as_secs_f64() * 1e3);
            figures.add(&banner, None, to_banner.as_secs_f64() * 1e3);
        }
    }
    fs::remove_dir_all(&folder).context("remove the folder")?;
    result.map(drop)
}

/// Starts a node, waits for both, stops it.
fn start(binary: &FilePath, folder: &FilePath) -> anyhow::Result<(Duration, Duration)> {
    let [api, ssh, postgres, mysql, health, gateway_health] = free_ports()?;
    let address = |port: u16| format!("127.0.0.1:{port}");
    let log = fs::File::create(folder.join("node.log")).context("make the node's log")?;
    let start = Instant::now();
    let child = Command::new(binary)
        .arg("dev")
        .arg("--data")
        .arg(folder.join("node"))
        .args(["--api", &address(api), "--ssh", &address(ssh)])
        .args(["--postgres", &address(postgres)])
        .args(["--mysql", &address(mysql)])
        .args(["--health", &address(health)])
        .args(["--gateway-health", &address(gateway_health)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("start the node")?;
    let _node = Running(child);
    let (mut to_ready, mut to_banner) = (None, None);
    while start.elapsed() < PATIENCE {
        if to_banner.is_none() && has_banner(ssh) {
            to_banner = Some(start.elapsed());
        }
        if to_ready.is_none() && is_ready(health) {
            to_ready = Some(start.elapsed());
        }
        if let (Some(ready), Some(banner)) = (to_ready, to_banner) {
            return Ok((ready, banner));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    bail!("the node was not ready after {} s", PATIENCE.as_secs())
}

fn has_banner(port: u16) -> bool {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let mut begin = vec![0; 4];
        stream.read_exact(&mut begin)?;
        Ok(begin)
    };
    read().is_ok_and(|begin| begin == b"SSH-")
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    ask().is_ok_and(|line| line.contains(" 200 "))
}
