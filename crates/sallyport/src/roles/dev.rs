//! `sallyport dev`: a node for trying things out.
//!
//! It is `server` with a configuration written for it: loopback addresses, and a vault that unseals
//! itself with a key beside the data. That key is why it is not for production.

use std::{
    cell::RefCell,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    configuration::Configuration,
    failure::Failure,
    files::{self, Readers},
    logging::LogFlags,
    output::write_out,
};

use super::{
    block_on,
    stop::Stop,
    supervisor::{Notice, Role, Supervisor},
};

/// Run a node on loopback for trying things out; prints what to try
#[derive(Debug, clap::Args)]
pub struct Dev {
    /// Folder for everything it keeps; made when missing
    #[arg(long, value_name = "DIR", default_value = "sallyport-dev")]
    data: PathBuf,
    /// Address of the API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    api: SocketAddr,
    /// Address for SSH clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7022")]
    ssh: SocketAddr,
    /// Address for PostgreSQL clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7432")]
    postgres: SocketAddr,
    /// Address for MySQL and MariaDB clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7306")]
    mysql: SocketAddr,
    /// Address of control's metrics and health
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7442")]
    health: SocketAddr,
    /// Address of the gateway's metrics and health
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7021")]
    gateway_health: SocketAddr,
    #[command(flatten)]
    log: LogFlags,
}

impl Dev {
    /// Writes the configuration, runs the node, and says what to try once it is up.
    pub fn run(self) -> Result<(), Failure> {
        self.log.install()?;
        for (flag, address) in [
            ("--api", self.api),
            ("--ssh", self.ssh),
            ("--postgres", self.postgres),
            ("--mysql", self.mysql),
        ] {
            if !address.ip().is_loopback() {
                return Err(Failure::usage(
                    format!("`{flag} {address}` is no loopback address"),
                    "`dev` is for this machine only; write a configuration and run `sallyport server`",
                ));
            }
        }
        let data = std::path::absolute(&self.data)
            .map_err(|error| Failure::of(&error, "name the folder by its whole path"))?;
        let config = data.join("sallyport.toml");
        let text = self.configuration(&data)?;
        files::write(&config, text.as_bytes(), Readers::Owner)?;
        Configuration::read(&config)?;
        let supervisor = Supervisor::new(&config, self.log.clone())?.for_trying_out();
        let heard = RefCell::new(Heard::default());
        block_on(async {
            let stop = Stop::listen(false)?;
            supervisor
                .run(stop.wait(), |role, notice| {
                    let is_up = heard.borrow_mut().hear(role, notice);
                    if is_up && write_out(&self.welcome(&data, &heard.borrow())).is_err() {
                        tracing::warn!("standard output is gone");
                    }
                })
                .await
        })
    }

    /// A configuration for this machine only.
    fn configuration(&self, data: &Path) -> Result<String, Failure> {
        let quoted = |path: PathBuf| -> Result<String, Failure> {
            path.to_str()
                .map(|text| toml::Value::from(text).to_string())
                .ok_or_else(|| {
                    Failure::usage(
                        format!("`{}` is not UTF-8", path.display()),
                        "name another folder",
                    )
                })
        };
        Ok(format!(
            "# Written by `sallyport dev` at each start. For trying out only: whoever reads \
             vault.key opens every secret.\n\
             gateway_health = \"{gateway_health}\"\n\n\
             [control.listen]\napi = \"{api}\"\nhealth = \"{health}\"\n\n\
             [control.store]\ndata_directory = {data}\n\n\
             [control.vault]\nkey_file = {key}\n\n\
             [gateway]\nssh_listen = \"{ssh}\"\npostgres_listen = \"{postgres}\"\n\
             mysql_listen = \"{mysql}\"\n",
            gateway_health = self.gateway_health,
            api = self.api,
            health = self.health,
            ssh = self.ssh,
            postgres = self.postgres,
            mysql = self.mysql,
            data = quoted(data.to_owned())?,
            key = quoted(data.join("vault.key"))?,
        ))
    }

    fn welcome(&self, data: &Path, heard: &Heard) -> String {
        let mut text = format!(
            "\nSallyport is up, for trying out only.\n\n  API      https://{}\n  SSH      {}\n  databases  {} (PostgreSQL), {} (MySQL)\n  metrics  \
             http://{}/metrics\n  data     {}\n\nIn another terminal:\n\n  export \
             SALLYPORT_SERVER=https://{} SALLYPORT_CA={}\n",
            self.api,
            self.ssh,
            self.postgres,
            self.mysql,
            self.health,
            data.display(),
            self.api,
            data.join("ca.pem").display(),
        );
        if let Some(code) = &heard.code {
            text.push_str(&format!(
                "  sallyport enrol --name alice       # the code for the first owner, once: {code}\n"
            ));
        }
        text.push_str(&format!(
            "  sallyport login --name alice\n  sallyport target create web-1 --address HOST:22 \
             --sensitivity medium --pins-first-host-key\n  sallyport account create root@web-1 --engine \
             ssh_ca    # its sshd trusts: sallyport ssh-authority\n  ssh -p {} \
             root@web-1@{}\n\nCtrl-C stops it; the data stays.\n",
            self.ssh.port(),
            self.ssh.ip(),
        ));
        text
    }
}

/// What the roles announced so far.
#[derive(Default)]
struct Heard {
    code: Option<String>,
    is_control_up: bool,
    is_gateway_up: bool,
    is_welcomed: bool,
}

impl Heard {
    /// Takes a notice; true once, when both are up.
    fn hear(&mut self, role: Role, notice: Notice) -> bool {
        match (role, notice) {
            (_, Notice::FirstOwnerCode(code)) => self.code = Some(code),
            (Role::Control, Notice::Ready) => self.is_control_up = true,
            (Role::Gateway, Notice::Ready) => self.is_gateway_up = true,
        }
        let is_up = self.is_control_up && self.is_gateway_up && !self.is_welcomed;
        self.is_welcomed |= is_up;
        is_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_is_said_once_when_both_roles_are_up() {
        let mut heard = Heard::default();
        assert!(!heard.hear(Role::Gateway, Notice::Ready));
        assert!(!heard.hear(Role::Control, Notice::FirstOwnerCode("X".to_owned())));
        assert!(heard.hear(Role::Control, Notice::Ready));
        assert!(!heard.hear(Role::Control, Notice::Ready), "after a restart");
    }
}
