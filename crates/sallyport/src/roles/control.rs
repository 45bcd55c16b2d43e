//! `sallyport control`.

use sallyport_control::{Announcement, RunError};

use crate::{
    failure::{Failure, chain},
    output::write_out,
};

use super::{RoleFlags, block_on, stop::Stop, supervisor::Notice};

/// Run the control plane: decides, holds secrets and state, serves the API
#[derive(Debug, clap::Args)]
pub struct Control {
    #[command(flatten)]
    flags: RoleFlags,
}

impl Control {
    /// Runs until it is told to stop.
    pub fn run(self) -> Result<(), Failure> {
        let configuration = self.flags.begin()?;
        let is_supervised = self.flags.supervised;
        block_on(async move {
            let stop = Stop::listen(is_supervised)?;
            let announce = |announcement| tell(is_supervised, announcement);
            sallyport_control::run(configuration.control().clone(), stop.wait(), announce)
                .await
                .map_err(|error| Failure::failed(chain(&error), remedy(&error)))
        })
    }
}

fn tell(is_supervised: bool, announcement: Announcement) {
    let notice = match announcement {
        Announcement::FirstOwnerCode(code) => Notice::FirstOwnerCode(code.expose_secret().clone()),
        Announcement::Ready => Notice::Ready,
    };
    let line = if is_supervised {
        notice.to_line()
    } else {
        notice.to_text()
    };
    // A closed output changes nothing for the node; the code is made anew at the next start.
    if write_out(&line).is_err() {
        tracing::warn!("an announcement could not be written to standard output");
    }
}

const fn remedy(error: &RunError) -> &'static str {
    match error {
        RunError::Open(_) => {
            "mend what the message names; `docs/operations.md` has each message and its remedy"
        }
        RunError::Audit(_) => {
            "keep the store as it is and restore a backup; the log no longer matches what was signed"
        }
        RunError::Vault(_) => {
            "check `control.vault.key_file`; it must be the file the vault was made with"
        }
        RunError::Listen(_) => {
            "choose a free address under `control.listen`, or stop what holds it"
        }
        RunError::Rpc(_) => "check `control.gateway.socket` and the permissions of its folder",
        RunError::Store(_) => "check the disk or the database server, then start again",
    }
}
