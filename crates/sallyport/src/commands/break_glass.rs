//! `sallyport break-glass`.

use sallyport_api::rest::access::{CreateRequest, RequestView};
use sallyport_core::inventory::Selector;

use crate::{context::Context, failure::Failure};

use super::{account_on_target, request, seconds};

/// Take access at once in an emergency: security is told at once, and a review must follow
#[derive(Debug, clap::Args)]
pub struct BreakGlass {
    /// Account on a target, such as root@db-1
    #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
    on: Selector,
    /// What the emergency is
    #[arg(long)]
    reason: String,
    /// Change or incident ticket
    #[arg(long)]
    ticket: Option<String>,
    /// For how long, such as 30m
    #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
    duration_s: Option<u64>,
}

impl BreakGlass {
    /// Calls `/v1/break-glass`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let body = CreateRequest {
            account: self.on.account.to_string(),
            target: self.on.target.to_string(),
            reason: self.reason,
            ticket: self.ticket,
            duration_s: self.duration_s,
        };
        let made: RequestView = context.client()?.post(&["break-glass"], &body).await?;
        request::print(context, &made)
    }
}
