//! Ports of the loopback interface for servers that must be told theirs.
//!
//! A port that the system gave for `bind(0)` and got back may be anybody's a moment later: with many
//! tests at once, some outgoing connection or some other server takes it. These ports lie below those the
//! system hands out, and each is locked for this process until it ends.

use std::{
    fs::{self, File, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::Mutex,
};

use anyhow::{Context as _, Result, bail};

/// Below the ephemeral ports of Linux (32768 and up), above what services are commonly given.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Locks are kept to the end of the process: a stopped server's port stays unused.
static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody listens on now, and that no other caller in any process gets while this one runs.
///
/// # Errors
/// When the folder of locks cannot be made, or every port is taken.
pub fn reserve() -> Result<u16> {
    let folder = std::env::temp_dir().join("sallyport-ports");
    fs::create_dir_all(&folder).with_context(|| format!("make `{}`", folder.display()))?;
    let mut locks = LOCKS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    // Processes begin at different places, so that they seldom meet each other's locks.
    let begin = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let begin = u16::try_from(begin)?;
    for step in 0..COUNT {
        let port = FIRST + (begin + step) % COUNT;
        if let Some(lock) = lock(&folder, port)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            locks.push(lock);
            return Ok(port);
        }
    }
    bail!("every port from {FIRST} on is taken; are tests left running?")
}

/// As [`reserve`], for several ports.
///
/// # Errors
/// As [`reserve`].
pub fn reserve_many<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = reserve()?;
    }
    Ok(ports)
}

/// The lock of this port, unless somebody else has it.
fn lock(folder: &Path, port: u16) -> Option<File> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(port.to_string()))
        .ok()?;
    lock.try_lock().is_ok().then_some(lock)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::{FIRST, reserve, reserve_many};

    #[test]
    fn given_a_port_that_is_reserved_or_in_use_then_it_is_not_given_again() {
        let first = reserve().unwrap();
        assert!(first >= FIRST);
        let more = reserve_many::<3>().unwrap();
        assert!(!more.contains(&first), "{first} again: {more:?}");
        let next = more[2] + 1;
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, next));
        assert_ne!(reserve().unwrap(), next);
    }
}
