//! What the tests need on the machine: real servers and clients, a Python to check ours against,
//! and the test runner.
//!
//! Called by every command that runs tests. Each thing is looked for first, so a machine that has
//! all of it is left alone and needs neither network nor rights.
//!
//! INVARIANT: nothing that is installed here starts by itself, and afterwards the machine has no
//! file from us outside `~/.cache/sallyport`, `~/.cargo` and the packages.

use crate::process;
use anyhow::{Context as _, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Debian package and the programs it is wanted for. Found by program, so that another
/// distribution's package does as well.
struct Wanted {
    package: &'static str,
    programs: &'static [&'static str],
}

const WANTED: &[Wanted] = &[
    Wanted {
        package: "asciinema",
        programs: &["asciinema"],
    },
    Wanted {
        package: "faketime",
        programs: &["faketime"],
    },
    Wanted {
        package: "git",
        programs: &["git"],
    },
    Wanted {
        package: "mariadb-client",
        programs: &["mariadb", "mariadb-dump"],
    },
    Wanted {
        package: "mariadb-server",
        programs: &["/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db"],
    },
    Wanted {
        package: "openssh-client",
        programs: &["ssh", "scp", "sftp", "ssh-keygen"],
    },
    Wanted {
        package: "openssh-server",
        programs: &["/usr/sbin/sshd"],
    },
    Wanted {
        package: "postgresql-15",
        programs: &[
            "/usr/lib/postgresql/15/bin/initdb",
            "/usr/lib/postgresql/15/bin/postgres",
        ],
    },
    Wanted {
        package: "strace",
        programs: &["strace"],
    },
    Wanted {
        package: "sysbench",
        programs: &["sysbench"],
    },
    Wanted {
        package: "rsync",
        programs: &["rsync"],
    },
];

/// Exact, so that a new release of theirs cannot change what our tests say.
const PYTHON_PACKAGES: &[&str] = &[
    "ansible-core==2.19.14",
    "asyncpg==0.32.0",
    "asyncssh==2.24.1",
    "cryptography==50.0.2",
    "mysql-connector-python==26.10.0",
    "paramiko==4.0.0",
    "psycopg==3.3.9",
    "pymysql==1.2.4",
    "sqlalchemy==2.1.9",
    "ssh-audit==3.9.0",
];

const NEXTEST_VERSION: &str = "0.9.143";

/// What a prepared machine offers to tests.
#[derive(Debug)]
pub struct Prepared {
    venv: PathBuf,
}

impl Prepared {
    /// Tells a test run where things are: `SALLYPORT_TEST_PYTHON`, a Python with `cryptography`,
    /// and `SALLYPORT_TEST_VENV_BIN`, the folder with it, `ansible-playbook` and `ssh-audit`.
    pub fn tell(&self, command: &mut Command) {
        let bin = self.venv.join("bin");
        command.env("SALLYPORT_TEST_PYTHON", bin.join("python"));
        command.env("SALLYPORT_TEST_VENV_BIN", bin);
    }
}

/// Makes sure of everything, installing only what is missing.
///
/// # Errors
///
/// Something is missing and cannot be installed; the message says what to install by hand.
pub fn prepare() -> anyhow::Result<Prepared> {
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).with_context(|| format!("create `{}`", cache.display()))?;
    // Two runs at once would install the same things into each other; the lock ends with the file.
    let lock_path = cache.join("prepare.lock");
    let lock = File::create(&lock_path).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.with_context(|| format!("lock `{}`", lock_path.display()))?;

    let missing = missing_packages();
    if !missing.is_empty() {
        install_packages(&missing)?;
    }
    let venv = cache.join("venv");
    prepare_venv(&venv)?;
    prepare_nextest()?;
    Ok(Prepared { venv })
}

fn cache_folder() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("HOME").context("find the home folder: `HOME` is not set")?;
    Ok(PathBuf::from(home).join(".cache/sallyport"))
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> = WANTED
        .iter()
        .filter(|wanted| !wanted.programs.iter().all(|program| is_here(program)))
        .map(|wanted| wanted.package)
        .collect();
    // Debian cuts `ensurepip` out of Python itself.
    if !process::succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        missing.push("python3-venv");
    }
    missing
}

fn is_here(program: &str) -> bool {
    if program.starts_with('/') {
        Path::new(program).is_file()
    } else {
        process::on_path(program).is_some()
    }
}

fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    if process::on_path("apt-get").is_none() {
        bail!("install these by hand, there is no apt-get here: {list}");
    }
    println!("installing {list}");
    let _guard = NoDaemons::place()?;
    // The lists may be older than the packages the mirror still has.
    process::run(privileged("apt-get")?.args(["update", "--quiet=2"]))
        .with_context(|| format!("fetch package lists, to install {list}"))?;
    process::run(
        privileged("apt-get")?
            .args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
            .args(["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"])
            .args(packages),
    )
    .with_context(|| format!("install {list}"))?;

    let still_missing = missing_packages();
    if !still_missing.is_empty() {
        bail!(
            "installed, but still without its programs: {}",
            still_missing.join(" ")
        );
    }
    Ok(())
}

/// `program` with the rights to change the system.
fn privileged(program: &str) -> anyhow::Result<Command> {
    let user = process::output(Command::new("id").arg("-u"))?;
    let mut command = if user.trim() == "0" {
        Command::new("env")
    } else if process::on_path("sudo").is_some() {
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    } else {
        bail!("install packages: neither root nor sudo");
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", program]);
    Ok(command)
}

/// While it lives, packages do not start their daemons as they are installed: `policy-rc.d` is
/// what Debian's maintainer scripts ask before they start one. A file of somebody else's is left
/// as it is.
struct NoDaemons {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# Placed by `cargo xtask` while it installs packages; safe to remove.\nexit 101\n";

impl NoDaemons {
    fn place() -> anyhow::Result<Self> {
        match fs::read_to_string(POLICY) {
            // Left by a run that was killed.
            Ok(text) if text == POLICY_TEXT => return Ok(Self { ours: true }),
            Ok(_) => return Ok(Self { ours: false }),
            Err(_) => {}
        }
        let draft = cache_folder()?.join("policy-rc.d");
        fs::write(&draft, POLICY_TEXT).with_context(|| format!("write `{}`", draft.display()))?;
        process::run(
            privileged("install")?
                .args(["-m", "755"])
                .arg(&draft)
                .arg(POLICY),
        )?;
        fs::remove_file(&draft).with_context(|| format!("remove `{}`", draft.display()))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        let removed = privileged("rm").and_then(|mut rm| process::run(rm.arg(POLICY)));
        if let Err(error) = removed {
            eprintln!("warning: remove `{POLICY}` by hand: {error:#}");
        }
    }
}

/// A virtual environment with exactly [`PYTHON_PACKAGES`]; its stamp says which it was made for.
fn prepare_venv(venv: &Path) -> anyhow::Result<()> {
    let stamp = venv.join("sallyport-packages");
    let wanted = PYTHON_PACKAGES.join("\n");
    let python = venv.join("bin/python");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted)
        && process::succeeds(Command::new(&python).args(["-c", "import cryptography"]))
    {
        return Ok(());
    }
    println!(
        "installing into `{}`: {}",
        venv.display(),
        PYTHON_PACKAGES.join(" ")
    );
    process::run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    process::run(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(PYTHON_PACKAGES),
    )?;
    fs::write(&stamp, wanted).with_context(|| format!("write `{}`", stamp.display()))
}

fn prepare_nextest() -> anyhow::Result<()> {
    if process::succeeds(&mut process::cargo(["nextest", "--version"])) {
        return Ok(());
    }
    println!("installing cargo-nextest {NEXTEST_VERSION} (some minutes, once)");
    let args = [
        "install",
        "cargo-nextest",
        "--locked",
        "--version",
        NEXTEST_VERSION,
    ];
    // Built aside: it shares nothing with the workspace's target folder.
    process::run(process::cargo(args).env_remove("CARGO_TARGET_DIR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_path_or_by_name_and_a_folder_is_none() {
        assert!(is_here("/bin/sh") && is_here("sh"));
        assert!(!is_here("/bin") && !is_here("no-such-program-here"));
    }

    #[test]
    fn tests_are_told_where_python_is() {
        let mut command = Command::new("true");
        Prepared {
            venv: PathBuf::from("/v"),
        }
        .tell(&mut command);
        let told: Vec<String> = command
            .get_envs()
            .map(|(name, value)| format!("{name:?}={value:?}"))
            .collect();
        assert_eq!(
            told,
            [
                r#""SALLYPORT_TEST_PYTHON"=Some("/v/bin/python")"#,
                r#""SALLYPORT_TEST_VENV_BIN"=Some("/v/bin")"#
            ]
        );
    }
}
