//! The configuration file of a node: one TOML file for both roles.
//!
//! `[control]` and `[gateway]` are the roles' own structures; here is only what joins them: paths that
//! both must agree on follow from the data directory unless they are set.
//!
//! INVARIANT: an unknown key is refused, with its name and place.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use sallyport_control::config::ControlConfig;
use sallyport_gateway::config::GatewayConfig;
use serde::Deserialize;

use crate::{
    failure::{Failure, chain},
    files,
};

/// A node's configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    control: ControlConfig,
    gateway: GatewayConfig,
    gateway_health: SocketAddr,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    control: ControlConfig,
    gateway: toml::Table,
    /// Where the gateway serves `/metrics` and `/healthz`, plain HTTP.
    gateway_health: SocketAddr,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            control: ControlConfig::default(),
            gateway: toml::Table::new(),
            gateway_health: SocketAddr::from(([127, 0, 0, 1], 7021)),
        }
    }
}

impl Configuration {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read_text(path)?;
        Self::parse(&text).map_err(|problem| {
            Failure::failed(
                format!("configuration `{}`: {problem}", path.display()),
                "mend the file; `sallyport config check FILE` checks it without starting anything",
            )
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut control = written.control;
        control
            .check()
            .map_err(|error| format!("[control] {}", chain(&error)))?;
        let data = control.store.data_directory.clone();
        let socket = control
            .gateway
            .socket
            .get_or_insert_with(|| data.join("gateway.sock"))
            .clone();

        let mut table = written.gateway;
        for (key, default) in [
            ("data_directory", data.join("gateway")),
            ("control_socket", socket),
        ] {
            let text = default
                .to_str()
                .ok_or_else(|| format!("`{}` is not UTF-8", default.display()))?;
            table.entry(key).or_insert_with(|| toml::Value::from(text));
        }
        let gateway: GatewayConfig = table
            .try_into()
            .map_err(|error: toml::de::Error| format!("in [gateway]: {}", error.message()))?;
        control
            .gateway
            .recordings
            .get_or_insert_with(|| gateway.data_directory.join("recordings"));
        if !written.gateway_health.ip().is_loopback() {
            return Err(format!(
                "setting `gateway_health` is {}; it must be a loopback address, because it asks \
                 nobody who they are",
                written.gateway_health
            ));
        }
        Ok(Self {
            control,
            gateway,
            gateway_health: written.gateway_health,
        })
    }

    /// Refuses what is for trying out only: a vault that opens itself with a key beside the data, which
    /// whoever copies the data has as well.
    pub fn check_for_production(&self) -> Result<(), Failure> {
        let data = &self.control.store.data_directory;
        match &self.control.vault.key_file {
            Some(key_file) if resolved(key_file).starts_with(resolved(data)) => {
                Err(Failure::failed(
                    format!(
                        "setting `control.vault.key_file` is `{}`, beside the data that it opens",
                        key_file.display()
                    ),
                    "keep the key on another disk or in a credential store, or leave it out and unseal \
                     with shares; `sallyport dev` is for trying things out",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Settings of the control plane.
    pub const fn control(&self) -> &ControlConfig {
        &self.control
    }

    /// Settings of the gateway.
    pub const fn gateway(&self) -> &GatewayConfig {
        &self.gateway
    }

    /// Where the gateway serves metrics and health.
    pub const fn gateway_health(&self) -> SocketAddr {
        self.gateway_health
    }
}

/// A path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(whole), _, _) => whole,
        (Err(_), Some(folder), Some(name)) if !folder.as_os_str().is_empty() => {
            resolved(folder).join(name)
        }
        (Err(_), _, _) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OP-1
    #[test]
    fn given_an_empty_file_then_both_roles_agree_on_paths() {
        let read = Configuration::parse("").unwrap();
        let data = Path::new("/var/lib/sallyport");
        assert_eq!(read.control().store.data_directory, data);
        assert_eq!(
            Some(&read.gateway().control_socket),
            read.control().gateway.socket.as_ref()
        );
        assert_eq!(
            read.control().gateway.recordings,
            Some(data.join("gateway/recordings"))
        );
    }

    /// OP-1: an unknown key is a mistake that would otherwise go unnoticed.
    #[test]
    fn given_an_unknown_key_then_it_is_named() {
        for (text, key) in [
            ("colour = 1", "colour"),
            ("[control]\ncolour = 1", "colour"),
            ("[control.listen]\nport = 1", "port"),
            ("[gateway]\nspeed = 1", "speed"),
            ("[gateway.limits]\nrecording = false", "recording"),
        ] {
            let problem = Configuration::parse(text).unwrap_err();
            assert!(problem.contains(key), "{text}: {problem}");
        }
    }

    /// VA-1
    #[test]
    fn given_an_unseal_key_beside_the_data_then_it_is_for_trying_out_only() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, home.path().join("link")).unwrap();
        let check = |key_file: PathBuf| {
            let text = format!(
                "[control.store]\ndata_directory = {:?}\n[control.vault]\nkey_file = {key_file:?}\n",
                data
            );
            Configuration::parse(&text).unwrap().check_for_production()
        };
        assert!(check(data.join("vault.key")).is_err());
        assert!(check(home.path().join("link/vault.key")).is_err());
        assert!(check(home.path().join("elsewhere/vault.key")).is_ok());
        assert!(
            Configuration::parse("")
                .unwrap()
                .check_for_production()
                .is_ok()
        );
    }

    #[test]
    fn given_health_for_everybody_then_it_is_refused() {
        for text in [
            "gateway_health = \"0.0.0.0:7021\"",
            "[control.listen]\nhealth = \"0.0.0.0:7442\"",
        ] {
            assert!(Configuration::parse(text).unwrap_err().contains("loopback"));
        }
    }
}
