//! `sallyport target …`.

use std::{collections::BTreeMap, path::Path};

use clap::Subcommand;
use reqwest::Method;
use sallyport_api::rest::inventory::{TargetSpec, TargetView};
use serde_json::json;

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    files,
    output::{Column, joined},
};

use super::{Limit, pair, print_listed};

/// Targets: what sessions go to
#[derive(Debug, clap::Args)]
pub struct Target {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List targets by name
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a target
    Show {
        /// Name
        name: String,
    },
    /// Make a target
    Create(Create),
    /// Change a target; what is not named stays
    Edit(Edit),
    /// Remove a target with its accounts; live sessions on it end
    Remove {
        /// Name
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name: a-z, 0-9, `.`, `-`
    name: String,
    /// Where it is reached
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// Protocol: ssh, postgres or mysql
    #[arg(long, default_value = "ssh")]
    protocol: String,
    /// How much harm can be done there: low, medium, high, critical
    #[arg(long, value_name = "RANK")]
    sensitivity: String,
    #[command(flatten)]
    more: More,
}

#[derive(Debug, clap::Args)]
struct Edit {
    /// Name
    name: String,
    /// Where it is reached
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// How much harm can be done there: low, medium, high, critical
    #[arg(long, value_name = "RANK")]
    sensitivity: Option<String>,
    #[command(flatten)]
    more: More,
}

#[derive(Debug, clap::Args)]
struct More {
    /// Label that policies read; repeat for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Identity to accept; repeat for more. SSH: a host key, one line as OpenSSH writes it, or the file that
    /// holds some. PostgreSQL and MySQL: the file of an authority's certificate (PEM), `key-sha256:HEX` of the server's
    /// public key, or `plaintext` for a server without TLS
    #[arg(long = "host-key", value_name = "KEY|FILE")]
    host_keys: Vec<String>,
    /// Pin the first host key seen when none is given
    #[arg(long)]
    pins_first_host_key: bool,
}

impl Target {
    /// Calls `/v1/targets`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List { limit } => {
                let targets = client.list(&["targets"], &[], limit.limit).await?;
                print_listed(context.output, &targets, &COLUMNS)
            }
            Verb::Show { name } => {
                let target: TargetView = client.get(&["targets", &name], &NOTHING).await?;
                context.output.record(&target, &fields(&target))
            }
            Verb::Create(create) => {
                let body = create.into_spec()?;
                let target: TargetView = client.post(&["targets"], &body).await?;
                context.output.record(&target, &fields(&target))
            }
            Verb::Edit(edit) => {
                let path = ["targets", &edit.name];
                let now: TargetView = client.get(&path, &NOTHING).await?;
                let body = edit.applied_to(now.spec)?;
                let path = ["targets", &body.name];
                let target: TargetView = client.send(Method::PUT, &path, &body).await?;
                context.output.record(&target, &fields(&target))
            }
            Verb::Remove { name } => {
                client.order(Method::DELETE, &["targets", &name]).await?;
                context
                    .output
                    .done(&json!({ "name": name }), &format!("removed {name}"))
            }
        }
    }
}

impl Create {
    fn into_spec(self) -> Result<TargetSpec, Failure> {
        Ok(TargetSpec {
            name: self.name,
            protocol: self.protocol,
            address: self.address,
            labels: self.more.labels.into_iter().collect(),
            sensitivity: self.sensitivity,
            host_keys: host_keys(&self.more.host_keys)?,
            pins_first_host_key: self.more.pins_first_host_key,
        })
    }
}

impl Edit {
    fn applied_to(self, spec: TargetSpec) -> Result<TargetSpec, Failure> {
        let labels: BTreeMap<String, String> = self.more.labels.into_iter().collect();
        let keys = host_keys(&self.more.host_keys)?;
        Ok(TargetSpec {
            address: self.address.unwrap_or(spec.address),
            sensitivity: self.sensitivity.unwrap_or(spec.sensitivity),
            labels: if labels.is_empty() {
                spec.labels
            } else {
                labels
            },
            host_keys: if keys.is_empty() {
                spec.host_keys
            } else {
                keys
            },
            pins_first_host_key: self.more.pins_first_host_key || spec.pins_first_host_key,
            ..spec
        })
    }
}

/// How a certificate in PEM begins.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Keys as they were given, and those in the files that were named.
fn host_keys(given: &[String]) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for text in given {
        if text.contains(' ') || text.starts_with("key-sha256:") || text == "plaintext" {
            keys.push(text.trim().to_owned());
            continue;
        }
        let file = files::read_text(Path::new(text))?;
        if file.contains(CERTIFICATE) {
            keys.push(file);
            continue;
        }
        keys.extend(
            file.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
    }
    Ok(keys)
}

const COLUMNS: [Column<TargetView>; 4] = [
    Column::whole("NAME", |target: &TargetView| target.spec.name.clone()),
    Column::new("ADDRESS", |target| target.spec.address.clone()),
    Column::new("SENSITIVITY", |target| target.spec.sensitivity.clone()),
    Column::new("ACCOUNTS", |target| joined(&target.accounts)),
];

fn fields(target: &TargetView) -> Vec<(&'static str, String)> {
    let spec = &target.spec;
    let labels: Vec<String> = spec
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    vec![
        ("id", target.id.clone()),
        ("name", spec.name.clone()),
        ("protocol", spec.protocol.clone()),
        ("address", spec.address.clone()),
        ("sensitivity", spec.sensitivity.clone()),
        ("labels", joined(&labels)),
        ("accounts", joined(&target.accounts)),
        (
            "host keys",
            match (spec.host_keys.is_empty(), spec.pins_first_host_key) {
                (true, true) => "the first seen will be pinned".to_owned(),
                (true, false) => "none: no session can be opened".to_owned(),
                (false, _) => spec.host_keys.join("\n"),
            },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keys_are_given_on_the_line_or_by_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("ssh_host_ed25519_key.pub");
        std::fs::write(&file, "# comment\nssh-ed25519 AAAA root@web-1\n\n").unwrap();
        let given = ["ecdsa BBBB".to_owned(), file.display().to_string()];
        assert_eq!(
            host_keys(&given).unwrap(),
            ["ecdsa BBBB", "ssh-ed25519 AAAA root@web-1"]
        );
        assert!(host_keys(&["no-such-file".to_owned()]).is_err());
    }
}
