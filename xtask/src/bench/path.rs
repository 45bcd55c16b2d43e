//! The ways to a target that are compared, and where each begins.

use std::fmt;

/// A way to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// A client talks to the target.
    Direct,
    /// Through an OpenSSH server whose sessions are `ssh` to the target.
    Relay,
    /// Through a node of ours, recorded.
    Sallyport,
}

impl Path {
    /// In the order of the tables.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Relay, Self::Sallyport];

    /// In keys and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Sallyport => "sallyport",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All paths in turn, `rounds` times, beginning with another one each round so that none is always
/// the first after a pause.
pub fn in_turn(rounds: usize) -> impl Iterator<Item = (usize, Path)> {
    (0..rounds).flat_map(|round| {
        let mut paths = Path::ALL;
        paths.rotate_left(round % Path::ALL.len());
        paths.into_iter().map(move |path| (round, path))
    })
}

/// The cipher of every leg of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cipher {
    Aes256Gcm,
    ChaCha20,
}

impl Cipher {
    /// In keys, and as the name of the target that speaks nothing else.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes256-gcm",
            Self::ChaCha20 => "chacha20",
        }
    }

    /// As OpenSSH calls it.
    pub const fn openssh(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20 => "chacha20-poly1305@openssh.com",
        }
    }
}

/// The key exchange of every leg of every path.
pub const KEX: &str = "curve25519-sha256";

/// How the three paths reach one target: a port for each path's first hop.
#[derive(Clone, Debug)]
pub struct Route {
    pub cipher: Cipher,
    pub direct_port: u16,
    pub relay_port: u16,
    pub gateway_port: u16,
    /// The target's name at the node.
    pub target: String,
}

impl Route {
    /// Where a client of `path` connects, and the user name it gives.
    pub fn first_hop(&self, path: Path) -> (u16, String) {
        match path {
            Path::Direct => (self.direct_port, "root".to_owned()),
            Path::Relay => (self.relay_port, "root".to_owned()),
            Path::Sallyport => (self.gateway_port, format!("root@{}", self.target)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_path_and_begins_with_another() {
        let turns: Vec<(usize, Path)> = in_turn(3).collect();
        for round in 0..3 {
            for path in Path::ALL {
                assert!(turns.contains(&(round, path)));
            }
        }
        let firsts: Vec<Path> = turns.iter().step_by(3).map(|(_, path)| *path).collect();
        assert_eq!(firsts, Path::ALL);
    }
}
