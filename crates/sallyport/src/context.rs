//! What every command works with: the flags of all commands, the profile they choose, and the output.

use std::path::PathBuf;

use crate::{
    client::Client,
    failure::{Exit, Failure},
    output::{Format, Output},
    profile::Profile,
};

/// Flags of all commands.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Print tables for people or JSON for programs
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// Profile to use: a name for a server and who one is there
    #[arg(
        long,
        global = true,
        env = "SALLYPORT_PROFILE",
        default_value = "default",
        value_name = "NAME"
    )]
    pub profile: String,
    /// Server, such as https://gw.example:7443; kept by `login` and `enrol`
    #[arg(long, global = true, env = "SALLYPORT_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// Certificate of the authority that vouches for the server, PEM; kept by `login` and `enrol`
    #[arg(long, global = true, env = "SALLYPORT_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File that holds the token to use, instead of the profile's
    #[arg(long, global = true, env = "SALLYPORT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Folder of profiles
    #[arg(
        long,
        global = true,
        env = "SALLYPORT_CONFIG_DIRECTORY",
        value_name = "DIR",
        hide = true
    )]
    pub config_directory: Option<PathBuf>,
    /// Where the XDG base directory specification puts configuration
    #[arg(long, global = true, env = "XDG_CONFIG_HOME", hide = true)]
    pub xdg_config_home: Option<PathBuf>,
}

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    /// Where it prints.
    pub output: Output,
    /// Whom it speaks for, and to whom.
    pub profile: Profile,
}

impl Context {
    /// Opens the profile that the flags choose; nothing is contacted.
    pub fn new(flags: &Flags) -> Result<Self, Failure> {
        Ok(Self {
            output: Output::new(flags.output),
            profile: Profile::open(flags)?,
        })
    }

    /// A client that is signed in.
    pub fn client(&self) -> Result<Client, Failure> {
        let token = self.profile.token()?.ok_or_else(|| {
            Failure::new(
                Exit::NotSignedIn,
                format!("nobody is signed in with profile `{}`", self.profile.name()),
                "sign in: `sallyport login`",
            )
        })?;
        Client::new(&self.profile, Some(token))
    }

    /// A client that says nothing of who it is.
    pub fn anonymous_client(&self) -> Result<Client, Failure> {
        Client::new(&self.profile, None)
    }
}
