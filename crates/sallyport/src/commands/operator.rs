//! `sallyport operator …`: the vault's seal, and the word of whoever restored a backup.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Subcommand;
use sallyport_api::{
    rest::vault::{InitialiseVault, InitialisedVault, Unseal, VaultStatus},
    sensitive::Sensitive,
};
use sallyport_control::{
    audit,
    kernel::{clock::SystemClock, control::Control},
};
use sallyport_core::time::Timestamp;
use serde_json::json;

use crate::{
    client::NOTHING,
    configuration::Configuration,
    context::Context,
    failure::{Failure, chain},
    files::{self, Readers},
    prompt::Answers,
};

/// The vault: make it once, unseal it after every start, seal it in an emergency; and restores
#[derive(Debug, clap::Args)]
pub struct Operator {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the vault, once; an owner does it, signed in
    Init {
        /// Shares to make, each for another person
        #[arg(long, default_value_t = 5)]
        shares: u8,
        /// Shares needed to unseal
        #[arg(long, default_value_t = 3)]
        threshold: u8,
        /// Write each share to a file of its own in this folder instead of printing them
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Give one share; with the last one needed the vault opens
    Unseal {
        /// Read the share from this file
        #[arg(long, value_name = "FILE", conflicts_with = "from_stdin")]
        file: Option<PathBuf>,
        #[command(flatten)]
        answers: Answers,
    },
    /// Seal the vault: no credential can be made until it is unsealed
    Seal,
    /// Show whether the vault is made and open
    Status,
    /// Accept a store that is older than what this node signed, after restoring a backup on purpose; run it
    /// on the node, while control is stopped. Everything is locked and the reason recorded
    AcceptRestore {
        /// Configuration file of the node
        #[arg(
            long,
            value_name = "FILE",
            default_value = "/etc/sallyport/sallyport.toml"
        )]
        config: PathBuf,
        /// Why, in a few words; kept in the audit log
        #[arg(long)]
        reason: String,
    },
}

impl Operator {
    /// Calls `/v1/vault`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Init {
                shares,
                threshold,
                directory,
            } => {
                let body = InitialiseVault { shares, threshold };
                let made: InitialisedVault = context
                    .client()?
                    .post(&["vault", "initialise"], &body)
                    .await?;
                print_shares(context, &made, threshold, directory)
            }
            Verb::Unseal { file, answers } => {
                let share = match file {
                    Some(path) => Sensitive::new(files::read_text(&path)?.trim().to_owned()),
                    None => answers.secret("Share")?,
                };
                let status: VaultStatus = context
                    .anonymous_client()?
                    .post(&["vault", "unseal"], &Unseal { share })
                    .await?;
                context.output.done(&status, &vault_in_words(&status))
            }
            Verb::Seal => {
                let status: VaultStatus = context.client()?.act(&["vault", "seal"]).await?;
                context.output.done(&status, &vault_in_words(&status))
            }
            Verb::AcceptRestore { config, reason } => {
                accept_restore(context, &config, &reason).await
            }
            Verb::Status => {
                let status: VaultStatus = context
                    .anonymous_client()?
                    .get(&["vault"], &NOTHING)
                    .await?;
                context.output.done(&status, &vault_in_words(&status))
            }
        }
    }
}

async fn accept_restore(context: &Context, config: &Path, reason: &str) -> Result<(), Failure> {
    let configuration = Configuration::read(config)?;
    let clock = Arc::new(SystemClock::not_before(Timestamp::EPOCH));
    let control = Control::open(configuration.control().clone(), clock)
        .await
        .map_err(|error| {
            Failure::failed(
                chain(&error),
                "stop control first, and mend what the message names; `docs/operations.md` has each \
                 message and its remedy",
            )
        })?;
    let accepted = audit::accept_restore(&control, reason)
        .await
        .map_err(|error| {
            Failure::failed(
                chain(&error),
                "`docs/operations.md` says how a backup is restored",
            )
        })?;
    control
        .db()
        .close()
        .await
        .map_err(|error| Failure::of(&error, "check the disk or the database server"))?;
    context.output.done(
        &json!({ "entries": accepted.entries }),
        &format!(
            "accepted a log of {} signed entries; everything is locked until `sallyport lock remove`",
            accepted.entries
        ),
    )
}

fn print_shares(
    context: &Context,
    made: &InitialisedVault,
    threshold: u8,
    directory: Option<PathBuf>,
) -> Result<(), Failure> {
    let Some(directory) = directory else {
        let mut fields: Vec<(&str, String)> = made
            .shares
            .iter()
            .map(|share| ("share", share.expose().to_owned()))
            .collect();
        fields.push((
            "next",
            format!(
                "give each share to another person; they are not shown again, and any {threshold} of \
                 them open the vault"
            ),
        ));
        return context.output.record(made, &fields);
    };
    let mut paths = Vec::new();
    for (number, share) in (1_usize..).zip(&made.shares) {
        let path = directory.join(format!("share-{number}"));
        files::write(&path, share.expose().as_bytes(), Readers::Owner)?;
        paths.push(path);
    }
    let line = format!("wrote {} shares to `{}`", paths.len(), directory.display());
    context.output.done(&paths, &line)
}

/// The vault's state in words.
pub(super) fn vault_in_words(status: &VaultStatus) -> String {
    if !status.is_initialised {
        return "not made yet: `sallyport operator init`".to_owned();
    }
    let seal = status.seal.as_deref().unwrap_or("unknown");
    if !status.is_sealed {
        return format!("open (seal: {seal})");
    }
    format!(
        "sealed: {} of {} shares given; `sallyport operator unseal`",
        status.shares_given, status.threshold
    )
}
