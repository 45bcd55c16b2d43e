//! What people who sign in pin, so that no SSH client has to believe the first gateway it meets: lines for
//! a `known_hosts` file (`sshd(8)`, "SSH_KNOWN_HOSTS FILE FORMAT").
//!
//! INVARIANT: a line holds a name that the operator set and a key that reads as one; nothing else that a
//! gateway says reaches a client's file.

use std::collections::BTreeSet;

use sallyport_api::gateway::Entrance;

use super::ssh_key::PublicSshKey;
use crate::kernel::control::Control;

/// The port that OpenSSH leaves out.
const DEFAULT_PORT: u16 = 22;

/// Lines for the gateways that are connected now.
pub(super) fn known_hosts(control: &Control) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend(control.config().listen.names.iter().cloned());
    lines(&names, &control.live().entrances("ssh"))
}

fn lines(names: &[String], entrances: &[Entrance]) -> Vec<String> {
    let mut lines = BTreeSet::new();
    for entrance in entrances {
        for identity in &entrance.identities {
            let Ok(key) = PublicSshKey::read(identity) else {
                tracing::warn!("a gateway names an identity that is no SSH key");
                continue;
            };
            for name in names {
                let place = match entrance.port {
                    DEFAULT_PORT => name.clone(),
                    port => format!("[{name}]:{port}"),
                };
                lines.insert(format!("{place} {}", key.as_str()));
            }
        }
    }
    lines.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+JMnqtCfS9bsDQQZXVLVGEpHD3cU0LZcr3yMHLxSYV";

    fn entrance(port: u16, identity: &str) -> Entrance {
        Entrance {
            protocol: "ssh".to_owned(),
            port,
            identities: vec![identity.to_owned()],
        }
    }

    /// GW-1
    #[test]
    fn given_a_gateway_then_its_key_is_pinned_under_each_name() {
        let names = ["localhost".to_owned(), "gw.example".to_owned()];
        assert_eq!(
            lines(&names, &[entrance(7022, KEY)]),
            [
                format!("[gw.example]:7022 {KEY}"),
                format!("[localhost]:7022 {KEY}")
            ]
        );
        assert_eq!(
            lines(&names[1..], &[entrance(22, KEY)]),
            [format!("gw.example {KEY}")]
        );
    }

    /// GW-1: a gateway that was taken over cannot pin anything else.
    #[test]
    fn given_anything_but_one_key_then_it_pins_nothing() {
        let names = ["gw.example".to_owned()];
        for identity in [
            String::new(),
            "ssh-ed25519 AAAA".to_owned(),
            format!("{KEY}\n* {KEY}"),
            format!("@cert-authority * {KEY}"),
        ] {
            assert!(
                lines(&names, &[entrance(22, &identity)]).is_empty(),
                "{identity}"
            );
        }
    }
}
