//! `sallyport review …`.

use clap::Subcommand;
use sallyport_api::rest::access::{CloseReview, ReviewView};

use crate::{
    context::Context,
    failure::Failure,
    output::{Column, minute, or_dash},
};

use super::{Limit, print_listed};

/// Reviews: the look that must follow a break-glass before the next one
#[derive(Debug, clap::Args)]
pub struct Review {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List reviews, newest first
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Close a review: its person may break the glass again
    Close {
        /// Review, as `review list` prints it
        #[arg(value_name = "REVIEW")]
        id: String,
        /// What was found, 10 to 1,000 characters
        #[arg(long)]
        finding: String,
    },
}

impl Review {
    /// Calls `/v1/reviews`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List { limit } => {
                let reviews = client.list(&["reviews"], &[], limit.limit).await?;
                print_listed::<ReviewView>(
                    context.output,
                    &reviews,
                    &[
                        Column::whole("ID", |review| review.id.clone()),
                        Column::new("PERSON", |review| review.person.clone()),
                        Column::new("OPENED", |review| minute(review.opened_at)),
                        Column::new("STATE", |review| review.state.clone()),
                        Column::new("BY", |review| or_dash(review.closed_by.as_deref())),
                    ],
                )
            }
            Verb::Close { id, finding } => {
                let body = CloseReview { finding };
                let review: ReviewView = client.post(&["reviews", &id, "close"], &body).await?;
                context.output.done(&review, &format!("closed {id}"))
            }
        }
    }
}
