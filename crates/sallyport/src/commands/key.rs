//! `sallyport key …`: one's own SSH keys.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use sallyport_api::rest::{
    page::Page,
    sign_in::{AddKey, KeyView},
};
use serde_json::json;

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    files,
    output::{Column, minute},
};

/// Your SSH keys: what a stock client proves you with
#[derive(Debug, clap::Args)]
pub struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List your keys
    List,
    /// Register a key: ed25519, ecdsa, a security key, or rsa of at least 3072 bits
    Add {
        /// Public key, one line as OpenSSH writes it
        #[arg(value_name = "FILE.pub")]
        file: PathBuf,
        /// What to call it; its comment, or the file's name, when left out
        #[arg(long)]
        label: Option<String>,
    },
    /// Remove a key; it proves nobody from now on
    Remove {
        /// Key, as `key list` prints it
        #[arg(value_name = "KEY")]
        id: String,
    },
}

impl Key {
    /// Calls `/v1/self/keys`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List => {
                let keys: Page<KeyView> = client.get(&["self", "keys"], &NOTHING).await?;
                context.output.list(
                    &keys.items,
                    &[
                        Column::whole("ID", |key| key.id.clone()),
                        Column::new("LABEL", |key| key.label.clone()),
                        Column::new("ALGORITHM", |key| key.algorithm.clone()),
                        Column::new("ADDED", |key| minute(key.added_at)),
                    ],
                )
            }
            Verb::Add { file, label } => {
                let public_key = files::read_text(&file)?.trim().to_owned();
                let comment = public_key.splitn(3, ' ').nth(2).map(str::to_owned);
                let body = AddKey {
                    label: label
                        .or(comment)
                        .or_else(|| {
                            file.file_stem()
                                .map(|name| name.to_string_lossy().into_owned())
                        })
                        .unwrap_or_default(),
                    public_key,
                };
                let key: KeyView = client.post(&["self", "keys"], &body).await?;
                let line = format!("registered {} {}", key.id, key.fingerprint);
                context.output.done(&key, &line)
            }
            Verb::Remove { id } => {
                client.order(Method::DELETE, &["self", "keys", &id]).await?;
                context
                    .output
                    .done(&json!({ "id": id }), &format!("removed {id}"))
            }
        }
    }
}
