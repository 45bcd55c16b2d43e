//! `sallyport operator …`: the vault's seal.

use std::path::PathBuf;

use clap::Subcommand;
use sallyport_api::{
    rest::vault::{InitialiseVault, InitialisedVault, Unseal, VaultStatus},
    sensitive::Sensitive,
};

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    files::{self, Readers},
    prompt::Answers,
};

/// The vault: make it once, unseal it after every start, seal it in an emergency
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
