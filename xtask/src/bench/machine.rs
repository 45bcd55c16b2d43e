//! What a run was made on: figures of two machines, or of two days, are not compared by accident.

use std::{fs, path::Path as FilePath, process::Command};

use anyhow::Context as _;

use crate::process;

/// One line: date, source, machine, and how busy it was with other things.
pub fn describe(is_binary_given: bool) -> anyhow::Result<String> {
    let date = process::output(Command::new("date").args(["-u", "+%F"]))?;
    let source = process::output(
        Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .current_dir(process::root()),
    )
    // As in a source archive.
    .unwrap_or_else(|_| "unknown".to_owned());
    let openssh = Command::new("ssh")
        .arg("-V")
        .output()
        .context("ask ssh for its version")?;
    let openssh = String::from_utf8_lossy(&openssh.stderr).into_owned();
    let cores = std::thread::available_parallelism().context("count cores")?;
    Ok(format!(
        "{}, commit {}{}; {cores} cores of {}, {:.0} GiB, Linux {}, {}; load {} before",
        date.trim(),
        source.trim(),
        if is_binary_given {
            " (binary given)"
        } else {
            ""
        },
        field("/proc/cpuinfo", "model name")?,
        memory_gib()?,
        read("/proc/sys/kernel/osrelease")?.trim(),
        openssh.split(',').next().unwrap_or_default().trim(),
        read("/proc/loadavg")?.split(' ').next().unwrap_or_default(),
    ))
}

fn memory_gib() -> anyhow::Result<f64> {
    let text = field("/proc/meminfo", "MemTotal")?;
    let kib: f64 = text
        .trim_end_matches(" kB")
        .parse()
        .with_context(|| format!("read `{text}`"))?;
    Ok(kib / 1024.0 / 1024.0)
}

/// What stands behind `name` and a colon.
fn field(path: &str, name: &str) -> anyhow::Result<String> {
    read(path)?
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .with_context(|| format!("find `{name}` in `{path}`"))
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(FilePath::new(path)).with_context(|| format!("read `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_named_by_what_the_figures_depend_on() {
        let text = describe(true).unwrap();
        for part in [
            "commit ",
            "(binary given)",
            "cores of",
            "GiB",
            "Linux",
            "OpenSSH_",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
