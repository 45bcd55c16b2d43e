//! Where forwarded connections go, in one canonical spelling each: pure, so that each case is one line
//! of a test.
//!
//! The client's spelling is read here, once; policies are asked about what was read, and the target is
//! asked for exactly that.
//!
//! INVARIANT: two spellings of one destination that a target's resolver takes for the same address are
//! one here, and what cannot be read for certain is no destination at all.
//!
//! Not here: names. What a name resolves to is the target's affair, so a policy that names addresses
//! says nothing about names.

use std::net::{IpAddr, Ipv4Addr};

use sallyport_core::session::{Operation, OperationKind};

/// Longest name of DNS, in bytes.
const NAME_BYTES_MAX: usize = 253;
/// Longest label of a name, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Longest path of a socket, in bytes: as `sun_path` of Linux, its final NUL aside.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where a connection from the client's side goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A TCP port.
    Address {
        /// A name in lower case or a canonical address.
        host: String,
        port: u16,
    },
    /// A Unix socket, by an absolute path without detours.
    Socket(String),
}

impl Destination {
    /// Reads the destination of a `direct-tcpip` channel.
    pub(super) fn address(host: &str, port: u32) -> Option<Self> {
        Some(Self::Address {
            host: canonical_host(host)?,
            port: u16::try_from(port).ok().filter(|port| *port != 0)?,
        })
    }

    /// Reads the destination of a `direct-streamlocal@openssh.com` channel.
    pub(super) fn socket(path: &str) -> Option<Self> {
        canonical_path(path).map(Self::Socket)
    }

    /// The operation of connecting there.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Address { host, port } => Operation {
                kind: OperationKind::ForwardLocal,
                detail: shown(host, u32::from(*port)),
                facts: None,
            },
            Self::Socket(path) => Operation {
                kind: OperationKind::ForwardLocalSocket,
                detail: path.clone(),
                facts: None,
            },
        }
    }
}

/// Where a target is asked to listen for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListenPlace {
    /// A TCP port.
    Address {
        /// As the client spelled it, which is how it recognises what comes in.
        client_host: String,
        /// What the target is asked for; empty for every address.
        host: String,
        /// 0 leaves the choice to the target.
        port: u16,
    },
    /// A Unix socket.
    Socket {
        /// As the client spelled it.
        client_path: String,
        /// What the target is asked for.
        path: String,
    },
}

impl ListenPlace {
    /// Reads a `tcpip-forward` request.
    pub(super) fn address(host: &str, port: u32) -> Option<Self> {
        let canonical = match host {
            "" | "*" => String::new(),
            host => canonical_host(host)?,
        };
        Some(Self::Address {
            client_host: host.to_owned(),
            host: canonical,
            port: u16::try_from(port).ok()?,
        })
    }

    /// Reads a `streamlocal-forward@openssh.com` request.
    pub(super) fn socket(path: &str) -> Option<Self> {
        Some(Self::Socket {
            client_path: path.to_owned(),
            path: canonical_path(path)?,
        })
    }

    /// The port, unless the target chooses it; 0 for a socket.
    pub(super) fn known_port(&self) -> Option<u32> {
        match self {
            Self::Address { port: 0, .. } => None,
            Self::Address { port, .. } => Some(u32::from(*port)),
            Self::Socket { .. } => Some(0),
        }
    }

    /// The operation of listening there, and of each connection that comes in.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Address { host, port, .. } => Operation {
                kind: OperationKind::ForwardRemote,
                detail: match host.as_str() {
                    "" => format!("*:{port}"),
                    host => shown(host, u32::from(*port)),
                },
                facts: None,
            },
            Self::Socket { path, .. } => Operation {
                kind: OperationKind::ForwardRemoteSocket,
                detail: path.clone(),
                facts: None,
            },
        }
    }
}

/// Host and port as evidence shows them, whether they could be read or not.
pub(super) fn shown(host: &str, port: u32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// A host in its one spelling: an address as the standard library prints it, IPv4 in IPv6 as IPv4; a
/// name in lower case without the final dot.
fn canonical_host(host: &str) -> Option<String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    let last = name.rsplit('.').next()?;
    // Resolvers take `127.1`, `0x7f000001` and `2130706433` for addresses (`inet_aton`); a name never
    // ends in a number.
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return legacy_ipv4(&name).map(|address| address.to_string());
    }
    let is_name = name.len() <= NAME_BYTES_MAX
        && name.split('.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    is_name.then_some(name)
}

/// Reads an IPv4 address in the forms that `inet_aton` takes: one to four numbers, decimal, octal or
/// hexadecimal, the last one filling what is left.
fn legacy_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut parts: Vec<u32> = Vec::with_capacity(4);
    for part in text.split('.') {
        let (digits, radix) = match part.strip_prefix("0x") {
            Some(hex) => (hex, 16),
            None if part.len() > 1 && part.starts_with('0') => (part, 8),
            None => (part, 10),
        };
        // `from_str_radix` would take a sign.
        if parts.len() == 4 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        parts.push(u32::from_str_radix(digits, radix).ok()?);
    }
    let (last, leading) = parts.split_last()?;
    let mut address = 0_u32;
    for part in leading {
        address = address
            .checked_mul(256)?
            .checked_add(u32::from(u8::try_from(*part).ok()?))?;
    }
    let free_bits = 32_usize.checked_sub(leading.len().checked_mul(8)?)?;
    let fits = u64::from(*last) < 1_u64.checked_shl(u32::try_from(free_bits).ok()?)?;
    let shifted = u64::from(address).checked_shl(u32::try_from(free_bits).ok()?)?;
    let whole = u32::try_from(shifted.checked_add(u64::from(*last))?).ok()?;
    fits.then(|| Ipv4Addr::from(whole))
}

/// An absolute path without empty parts, `.` or `..`: what it names does not depend on where somebody
/// stands. Links in it are the target's affair.
fn canonical_path(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains(char::is_control) {
        return None;
    }
    let mut canonical = String::with_capacity(path.len());
    for part in path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        if part == ".." {
            return None;
        }
        canonical.push('/');
        canonical.push_str(part);
    }
    (1..=SOCKET_PATH_BYTES_MAX)
        .contains(&canonical.len())
        .then_some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(host: &str, port: u32) -> Option<String> {
        Destination::address(host, port).map(|destination| destination.operation().detail)
    }

    /// GW-1, PO-3: a policy that names a destination means it however it is spelled.
    #[test]
    fn every_spelling_of_an_address_is_one_destination() {
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0X7F.1",
            "0177.0.0.1",
            "::ffff:127.0.0.1",
            "[::ffff:7f00:1]",
            "127.0.0.1.",
        ] {
            assert_eq!(detail(host, 22).as_deref(), Some("127.0.0.1:22"), "{host}");
        }
        for host in ["::1", "[::1]", "0:0:0:0:0:0:0:1", "0::0001"] {
            assert_eq!(detail(host, 22).as_deref(), Some("[::1]:22"), "{host}");
        }
        for host in ["DB-1.Internal", "db-1.internal."] {
            let expected = Some("db-1.internal:5432");
            assert_eq!(detail(host, 5_432).as_deref(), expected, "{host}");
        }
    }

    /// PO-3
    #[test]
    fn what_cannot_be_read_for_certain_is_no_destination() {
        let long = "a".repeat(64);
        for host in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "*",
            "a@b",
            "db-1:22",
            "fe80::1%eth0",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.2.3.256",
            "4294967296",
            "08.1",
            "0x",
            "0x1g",
            "+1",
            "1.-2",
            "b\u{fc}cher",
            "a\0b",
            "[::1",
            &long,
        ] {
            assert_eq!(detail(host, 22), None, "{host:?}");
        }
        for port in [0, 65_536, u32::MAX] {
            assert_eq!(detail("db-1", port), None, "{port}");
        }
    }

    #[test]
    fn a_socket_is_named_by_an_absolute_path_without_detours() {
        let socket = |path: &str| Destination::socket(path).map(|one| one.operation().detail);
        assert_eq!(socket("/run//./app.sock").as_deref(), Some("/run/app.sock"));
        for path in [
            "",
            "/",
            "run/app.sock",
            "/run/../etc/app.sock",
            "/run/app.sock/",
            "/run/a\nb",
            "/a\0b",
            "@abstract",
        ] {
            assert_eq!(socket(path), None, "{path:?}");
        }
        assert_eq!(socket(&format!("/{}", "a".repeat(107))), None);
    }

    #[test]
    fn listening_everywhere_is_said_so_and_the_client_keeps_its_own_spelling() {
        for host in ["", "*"] {
            let place = ListenPlace::address(host, 8_080).unwrap();
            assert_eq!(place.operation().detail, "*:8080");
            assert_eq!(
                place,
                ListenPlace::Address {
                    client_host: host.to_owned(),
                    host: String::new(),
                    port: 8_080
                }
            );
        }
        let place = ListenPlace::address("LOCALHOST", 0).unwrap();
        assert_eq!(place.operation().detail, "localhost:0");
        assert_eq!(ListenPlace::address("localhost", 65_536), None);
    }
}
