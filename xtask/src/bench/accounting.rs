//! What processes spent and hold, as the kernel accounts for it in `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};

/// Linux reports CPU in hundredths of a second whatever it counts in (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process, and of those of its children that ended and were waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub own: Duration,
    pub ended_children: Duration,
}

impl Cpu {
    /// Reads it now.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
        Self::parse(&text).with_context(|| format!("read `{path}`: `{text}`"))
    }

    /// The 14th to 17th fields of `proc(5)`; the second, a name, may hold anything but ends with the
    /// last bracket.
    fn parse(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(") ")?;
        let mut ticks = after_name
            .split(' ')
            .skip(11)
            .map(|field| field.parse::<u32>().ok());
        let mut next = || Some(TICK * ticks.next()??);
        Some(Self {
            own: next()? + next()?,
            ended_children: next()? + next()?,
        })
    }

    /// Both together.
    pub fn total(self) -> Duration {
        self.own + self.ended_children
    }
}

/// Memory of a process, KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub rss_kib: u64,
    /// Its share: pages used by several processes are divided among them.
    pub pss_kib: u64,
    /// What only it has.
    pub private_kib: u64,
}

impl Memory {
    /// Reads it now.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
        Self::parse(&text).with_context(|| format!("read `{path}`"))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        };
        Some(Self {
            rss_kib: field("Rss")?,
            pss_kib: field("Pss")?,
            private_kib: field("Private_Clean")? + field("Private_Dirty")?,
        })
    }
}

/// Children of a process that run.
pub fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
    text.split_whitespace()
        .map(|word| word.parse().with_context(|| format!("read `{path}`")))
        .collect()
}

/// The child of `parent` whose first argument is `word`.
pub fn child_called(parent: u32, word: &str) -> anyhow::Result<u32> {
    for pid in children(parent)? {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).nth(1) == Some(word.as_bytes()) {
            return Ok(pid);
        }
    }
    bail!("process {parent} has no child `{word}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 50 25 300 100 20 0 1 0 5 6 7";
        let cpu = Cpu::parse(line).unwrap();
        assert_eq!(cpu.own, Duration::from_millis(750));
        assert_eq!(cpu.ended_children, Duration::from_secs(4));
    }

    #[test]
    fn memory_is_the_sum_of_what_only_the_process_has() {
        let text = "0-1 ---p 0 0 0 [rollup]\nRss: 900 kB\nPss: 700 kB\nPss_Dirty: 1 kB\n\
                    Private_Clean: 100 kB\nPrivate_Dirty: 500 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!(
            (memory.rss_kib, memory.pss_kib, memory.private_kib),
            (900, 700, 600)
        );
    }

    #[test]
    fn this_process_can_be_read() {
        assert!(Memory::of(std::process::id()).unwrap().rss_kib > 0);
        assert!(Cpu::of(std::process::id()).is_ok());
    }
}
