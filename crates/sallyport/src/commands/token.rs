//! `sallyport token …`: one's own API tokens.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use sallyport_api::rest::{
    page::Page,
    sign_in::{ApiTokenView, CreateApiToken, CreatedApiToken},
};
use serde_json::json;

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    files::{self, Readers},
    output::{Column, joined, minute},
};

use super::seconds;

/// Your API tokens: for programs, limited and ending
#[derive(Debug, clap::Args)]
pub struct Token {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List your API tokens
    List,
    /// Make an API token; it is shown this once
    Create {
        /// What to call it
        #[arg(long)]
        label: String,
        /// An action it may do, such as `request.list`; repeat for more
        #[arg(long = "scope", required = true, value_name = "ACTION")]
        scopes: Vec<String>,
        /// How long it lives, such as 12h or 30d; at most 90d
        #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
        ttl_s: u64,
        /// Write the token to this file, for its owner only, instead of printing it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Revoke an API token
    Revoke {
        /// Token, as `token list` prints it
        #[arg(value_name = "TOKEN")]
        id: String,
    },
}

impl Token {
    /// Calls `/v1/self/tokens`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List => {
                let tokens: Page<ApiTokenView> = client.get(&["self", "tokens"], &NOTHING).await?;
                context.output.list(
                    &tokens.items,
                    &[
                        Column::whole("ID", |token| token.id.clone()),
                        Column::new("LABEL", |token| token.label.clone()),
                        Column::new("SCOPES", |token| joined(&token.scopes)),
                        Column::new("UNTIL", |token| {
                            if token.is_revoked {
                                "revoked".to_owned()
                            } else {
                                minute(token.expires_at)
                            }
                        }),
                    ],
                )
            }
            Verb::Create {
                label,
                scopes,
                ttl_s,
                file,
            } => {
                let body = CreateApiToken {
                    label,
                    scopes,
                    ttl_s,
                };
                let created: CreatedApiToken = client.post(&["self", "tokens"], &body).await?;
                let Some(path) = file else {
                    return context.output.done(&created, created.token.expose());
                };
                files::write(&path, created.token.expose().as_bytes(), Readers::Owner)?;
                let line = format!("wrote {} to `{}`", created.api_token.id, path.display());
                context.output.done(&created.api_token, &line)
            }
            Verb::Revoke { id } => {
                client
                    .order(Method::DELETE, &["self", "tokens", &id])
                    .await?;
                context
                    .output
                    .done(&json!({ "id": id }), &format!("revoked {id}"))
            }
        }
    }
}
