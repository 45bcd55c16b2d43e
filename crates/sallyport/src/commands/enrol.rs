//! `sallyport enrol`.

use sallyport_api::rest::sign_in::{Enrol as Body, Enrolled};

use crate::{context::Context, failure::Failure, prompt::Answers};

/// Turn a one-time enrolment code into your account: choose a password, get a one-time-code secret
#[derive(Debug, clap::Args)]
pub struct Enrol {
    /// Sign-in name; only the first owner chooses one, later codes name the person
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    answers: Answers,
}

impl Enrol {
    /// Asks for the code and a new password; the server is kept in the profile once it said yes.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.anonymous_client()?;
        let body = Body {
            code: self.answers.secret("Enrolment code")?,
            password: self
                .answers
                .new_secret("New password (12 or more characters)")?,
            name: self.name,
        };
        let enrolled: Enrolled = client.post(&["enrol"], &body).await?;
        context.profile.keep_server()?;
        let name = &enrolled.person.name;
        context.output.record(
            &enrolled,
            &[
                ("person", name.clone()),
                ("one-time codes", enrolled.totp_uri.expose().to_owned()),
                (
                    "next",
                    format!(
                        "put the address above into your authenticator now, it is not shown again; \
                         then `sallyport login --name {name}`"
                    ),
                ),
            ],
        )
    }
}
