//! What servers of databases have in common: fresh files, a certificate of their own, a log, and an end with the test.
//!
//! Making the files takes seconds, so they are made once per machine and copied for each server.
//!
//! Called by a file for each kind of server, which says how its files are made and with which words it starts.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::account::{Log, as_account, give_to_account, make_identity, run, spawn_for_process};

/// A kind of server, as its Debian package has it.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name in the templates of this machine.
    pub(super) name: &'static str,
    /// The package that brings it.
    pub(super) package: &'static str,
    /// The account it runs as; servers refuse to run as root.
    pub(super) account: &'static str,
    /// What it writes when it can be used.
    pub(super) ready: &'static str,
    /// How long it may take until then.
    pub(super) start_max: Duration,
}

/// A server that runs.
#[derive(Debug)]
pub(super) struct Running {
    server: Child,
    home: TempDir,
    log: Log,
}

impl Kind {
    /// One of its programs, to be run as its account.
    pub(super) fn program(&self, program: &Path) -> Command {
        as_account(self.account, program)
    }

    /// A directory with fresh files in `data`. `make` makes them at a path, where this machine has none to copy.
    pub(super) fn home(
        &self,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<TempDir> {
        let template = self.template(make)?;
        let prefix = format!("sallyport-{}-", self.name);
        let home = TempDir::with_prefix(prefix).context("make a directory")?;
        give_to_account(self.account, self.package, home.path())?;
        let data = home.path().join("data");
        run(Command::new("cp").arg("-a").arg(&template).arg(&data))?;
        Ok(home)
    }

    /// Makes the key and certificate of a server that is a target.
    pub(super) fn make_identity(&self, home: &TempDir) -> anyhow::Result<()> {
        make_identity(self.account, self.package, home.path())
    }

    /// Starts a server over these files and waits until it can be used.
    pub(super) fn start(&self, mut command: Command, home: TempDir) -> anyhow::Result<Running> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let log = Log::default();
        let (server, is_ready) = spawn_for_process(command, self.ready, Arc::clone(&log))?;
        let mut running = Running { server, home, log };
        if !is_ready.recv_timeout(self.start_max).unwrap_or(false) {
            running.kill();
            anyhow::bail!("{} did not start: {}", self.name, running.log());
        }
        Ok(running)
    }

    fn template(&self, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
        let shelf = std::env::temp_dir().join("sallyport-testkit");
        fs::create_dir_all(&shelf).context("make the shelf of templates")?;
        let lock = shelf.join(format!("{}.lock", self.name));
        let lock = File::create(lock).context("open the template's lock")?;
        lock.lock().context("wait for the template")?;
        let template = shelf.join(self.name);
        if template.exists() {
            return Ok(template);
        }
        let making = TempDir::with_prefix_in("making-", &shelf).context("make a directory")?;
        give_to_account(self.account, self.package, making.path())?;
        let files = making.path().join("files");
        make(&files)?;
        fs::rename(&files, &template).context("put the template on its shelf")?;
        Ok(template)
    }
}

impl Running {
    /// Where its files are.
    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The certificate that vouches for it as a target.
    pub(super) fn authority(&self) -> PathBuf {
        self.home().join("server.crt")
    }

    /// What it has written about itself.
    pub(super) fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    /// Ends it at once; nothing of it is kept.
    pub(super) fn kill(&mut self) {
        let _ = self.server.kill();
        self.wait();
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) {
        let _ = self.server.wait();
    }
}

/// That a program is there.
pub(super) fn ensure_installed(program: &Path, package: &str) -> anyhow::Result<()> {
    ensure!(
        program.exists(),
        "`{}` is missing: apt-get install {package}",
        program.display()
    );
    Ok(())
}
