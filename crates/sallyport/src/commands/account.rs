//! `sallyport account …`.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use sallyport_api::{
    rest::{
        inventory::{AccountSpec, AccountView, TargetView},
        vault::{RotateMany, Rotated, RotationDemanded, SecretWritten, WriteSecret},
    },
    sensitive::Sensitive,
};
use sallyport_core::inventory::Selector;
use serde_json::json;

use crate::{
    client::{Client, NOTHING},
    context::Context,
    failure::Failure,
    files,
    output::{Column, joined, minute},
    prompt,
};

use super::{Limit, account_on_target, pair};

/// Accounts: identities on targets, and where their credentials come from
#[derive(Debug, clap::Args)]
pub struct Account {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List accounts by target
    List {
        /// Only those on this target
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show an account
    Show {
        /// Account on a target, such as root@web-1
        #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
        on: Selector,
    },
    /// Make an account
    Create {
        /// Account on a target, such as root@web-1
        #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
        on: Selector,
        /// Where its credential comes from: `ssh_ca` (a certificate made for each session), `postgres`
        /// (a database user made for each session) or `static` (a stored password or private key)
        #[arg(long)]
        engine: String,
        /// Setting of the engine; repeat for more
        #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = pair)]
        settings: Vec<(String, String)>,
    },
    /// Change where an account's credential comes from
    Edit {
        /// Account on a target, such as root@web-1
        #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
        on: Selector,
        /// Engine; stays when left out
        #[arg(long)]
        engine: Option<String>,
        /// Setting of the engine; all of them, repeated; stay when left out
        #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = pair)]
        settings: Vec<(String, String)>,
    },
    /// Remove an account; live sessions on it end
    Remove {
        /// Account on a target, such as root@web-1
        #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
        on: Selector,
    },
    /// Change stored passwords at their targets
    Rotate {
        /// Account on a target, such as app@orders: now
        #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
        on: Option<Selector>,
        /// In an emergency: those of all accounts on this target
        #[arg(long, value_name = "NAME", conflicts_with = "on")]
        target: Option<String>,
        /// In an emergency: those of every account this person had a session on
        #[arg(long, value_name = "NAME", conflicts_with_all = ["on", "target"])]
        person: Option<String>,
        /// In an emergency: all
        #[arg(long, conflicts_with_all = ["on", "target", "person"], required_unless_present_any = ["on", "target", "person"])]
        all: bool,
    },
    /// Store the credential of a `static` account; it can never be read back
    SetSecret(SetSecret),
}

#[derive(Debug, clap::Args)]
struct SetSecret {
    /// Account on a target, such as root@web-1
    #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
    on: Selector,
    /// What it is: password or private_key
    #[arg(long, value_name = "KIND")]
    kind: String,
    /// Read it from this file; from standard input, or at the keyboard, when left out
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Account {
    /// Calls `/v1/accounts`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List { target, limit } => list(context, &client, target, limit).await,
            Verb::Show { on } => {
                let account: AccountView =
                    client.get(&["accounts", &on.to_string()], &NOTHING).await?;
                context.output.record(&account, &fields(&account))
            }
            Verb::Create {
                on,
                engine,
                settings,
            } => {
                let body = AccountSpec {
                    target: on.target.to_string(),
                    name: on.account.to_string(),
                    engine,
                    settings: settings.into_iter().collect(),
                };
                let account: AccountView = client.post(&["accounts"], &body).await?;
                context.output.record(&account, &fields(&account))
            }
            Verb::Edit {
                on,
                engine,
                settings,
            } => {
                let selector = on.to_string();
                let now: AccountView = client.get(&["accounts", &selector], &NOTHING).await?;
                let body = AccountSpec {
                    engine: engine.unwrap_or(now.spec.engine),
                    settings: if settings.is_empty() {
                        now.spec.settings
                    } else {
                        settings.into_iter().collect()
                    },
                    ..now.spec
                };
                let account: AccountView = client
                    .send(Method::PUT, &["accounts", &selector], &body)
                    .await?;
                context.output.record(&account, &fields(&account))
            }
            Verb::Remove { on } => {
                let selector = on.to_string();
                client
                    .order(Method::DELETE, &["accounts", &selector])
                    .await?;
                context.output.done(
                    &json!({ "account": selector }),
                    &format!("removed {selector}"),
                )
            }
            Verb::Rotate { on: Some(on), .. } => {
                let selector = on.to_string();
                let rotated: Rotated = client.act(&["accounts", &selector, "rotate"]).await?;
                let line = format!("{selector} has version {} now", rotated.version);
                context.output.done(&rotated, &line)
            }
            Verb::Rotate {
                on: None,
                target,
                person,
                all,
            } => {
                let body = RotateMany {
                    target,
                    person,
                    everything: all,
                };
                let demanded: RotationDemanded = client.post(&["rotations"], &body).await?;
                let line = format!("{} passwords are rotated now", demanded.accounts);
                context.output.done(&demanded, &line)
            }
            Verb::SetSecret(secret) => secret.run(context, &client).await,
        }
    }
}

impl SetSecret {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let value = match &self.file {
            Some(path) => Sensitive::new(files::read_text(path)?),
            None if std::io::IsTerminal::is_terminal(&std::io::stdin()) => Sensitive::new(
                rpassword::prompt_password("Secret: ")
                    .map_err(|error| Failure::of_stream(&error))?,
            ),
            None => prompt::secret_from_stdin()?,
        };
        let value = if self.kind == "password" {
            // `echo` and editors end a line; passwords have no line ends.
            Sensitive::new(value.expose().trim_end_matches(['\r', '\n']).to_owned())
        } else {
            value
        };
        let body = WriteSecret {
            kind: self.kind,
            value,
        };
        let selector = self.on.to_string();
        let written: SecretWritten = client
            .send(Method::PUT, &["accounts", &selector, "secret"], &body)
            .await?;
        let line = format!("stored version {} for {selector}", written.version);
        context.output.done(&written, &line)
    }
}

/// Accounts are listed with their targets.
async fn list(
    context: &Context,
    client: &Client,
    target: Option<String>,
    limit: Limit,
) -> Result<(), Failure> {
    let targets: Vec<TargetView> = match target {
        Some(name) => vec![client.get(&["targets", &name], &NOTHING).await?],
        None => client.list(&["targets"], &[], limit.limit).await?.items,
    };
    let mut accounts: Vec<AccountView> = Vec::new();
    for target in &targets {
        for name in &target.accounts {
            let selector = format!("{name}@{}", target.spec.name);
            accounts.push(client.get(&["accounts", &selector], &NOTHING).await?);
        }
    }
    context.output.list(&accounts, &COLUMNS)
}

const COLUMNS: [Column<AccountView>; 4] = [
    Column::whole("ACCOUNT", |account: &AccountView| selector(account)),
    Column::new("ENGINE", |account| account.spec.engine.clone()),
    Column::new("SETTINGS", |account| joined(&settings(account))),
    Column::new("SECRET", secret),
];

fn selector(account: &AccountView) -> String {
    format!("{}@{}", account.spec.name, account.spec.target)
}

fn settings(account: &AccountView) -> Vec<String> {
    account
        .spec
        .settings
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

fn secret(account: &AccountView) -> String {
    if account.has_secret { "stored" } else { "none" }.to_owned()
}

fn fields(account: &AccountView) -> [(&'static str, String); 8] {
    [
        ("id", account.id.clone()),
        ("account", selector(account)),
        ("engine", account.spec.engine.clone()),
        ("settings", joined(&settings(account))),
        ("secret", secret(account)),
        (
            "rotated",
            account.rotated_at.map(minute).unwrap_or_default(),
        ),
        (
            "next rotation",
            account.next_rotation_at.map(minute).unwrap_or_default(),
        ),
        (
            "rotation failure",
            account.rotation_failure.clone().unwrap_or_default(),
        ),
    ]
}
