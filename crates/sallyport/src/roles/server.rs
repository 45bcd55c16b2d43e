//! `sallyport server`.

use crate::{failure::Failure, output::write_out};

use super::{
    RoleFlags, block_on,
    stop::Stop,
    supervisor::{Notice, Supervisor},
};

/// Run a node: control and gateway as two child processes, restarted when they die
#[derive(Debug, clap::Args)]
pub struct Server {
    #[command(flatten)]
    flags: RoleFlags,
}

impl Server {
    /// Runs until it is told to stop.
    pub fn run(self) -> Result<(), Failure> {
        // Read here too, so that a mistake in the file is told once and plainly.
        self.flags.begin()?;
        let supervisor = Supervisor::new(&self.flags.config, self.flags.log.clone())?;
        block_on(async move {
            let stop = Stop::listen(self.flags.supervised)?;
            supervisor
                .run(stop.wait(), |_, notice| {
                    if notice != Notice::Ready && write_out(&notice.to_text()).is_err() {
                        tracing::warn!("an announcement could not be written to standard output");
                    }
                })
                .await
        })
    }
}
