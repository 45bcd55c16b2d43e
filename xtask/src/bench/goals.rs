//! The figures to reach, each bound to what measures it.
//!
//! INVARIANT: whether a goal is reached follows from results only; one that was not measured is said
//! to be so, and is not reached.

use std::fmt::Write as _;

use super::{
    figures::{Results, Series, short},
    path::Path,
};

/// One figure to reach.
#[derive(Debug)]
struct Goal {
    what: &'static str,
    key: &'static str,
    /// A path's name, or `-`.
    path: &'static str,
    bound: Bound,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// Of the relay, which for databases is pgbouncer.
    OfRelayAtLeast(f64),
    AtLeast(f64, &'static str),
    AtMost(f64, &'static str),
}

const OURS: &str = Path::Sallyport.name();
const NONE: &str = "-";

const fn goal(what: &'static str, key: &'static str, path: &'static str, bound: Bound) -> Goal {
    Goal {
        what,
        key,
        path,
        bound,
    }
}

const GOALS: &[Goal] = &[
    goal(
        "bulk down, text, AES-256-GCM, one core",
        "bulk.down.aes256-gcm.text.rate.one-core",
        OURS,
        Bound::RatioAtLeast(0.60),
    ),
    goal(
        "bulk down, random, AES-256-GCM, one core",
        "bulk.down.aes256-gcm.random.rate.one-core",
        OURS,
        Bound::RatioAtLeast(0.60),
    ),
    goal(
        "bulk down, random, ChaCha20, one core",
        "bulk.down.chacha20.random.rate.one-core",
        OURS,
        Bound::RatioAtLeast(0.60),
    ),
    goal(
        "bulk up, text, AES-256-GCM, one core",
        "bulk.up.aes256-gcm.text.rate.one-core",
        OURS,
        Bound::RatioAtLeast(0.60),
    ),
    goal(
        "bulk up, random, AES-256-GCM, one core",
        "bulk.up.aes256-gcm.random.rate.one-core",
        OURS,
        Bound::RatioAtLeast(0.60),
    ),
    goal(
        "bulk up, random, ChaCha20, one core",
        "bulk.up.chacha20.random.rate.one-core",
        OURS,
        Bound::RatioAtLeast(0.60),
    ),
    goal(
        "gateway CPU down, text, AES-256-GCM",
        "bulk.down.aes256-gcm.text.middle-cpu.one-core",
        OURS,
        Bound::AtMost(2.8, "s/GiB"),
    ),
    goal(
        "gateway CPU down, random, AES-256-GCM",
        "bulk.down.aes256-gcm.random.middle-cpu.one-core",
        OURS,
        Bound::AtMost(2.8, "s/GiB"),
    ),
    goal(
        "gateway CPU up, text, AES-256-GCM",
        "bulk.up.aes256-gcm.text.middle-cpu.one-core",
        OURS,
        Bound::AtMost(2.8, "s/GiB"),
    ),
    goal(
        "gateway CPU up, random, AES-256-GCM",
        "bulk.up.aes256-gcm.random.middle-cpu.one-core",
        OURS,
        Bound::AtMost(2.8, "s/GiB"),
    ),
    goal(
        "transfers that stalled (of how many: below), one core",
        "stalls.stalled.one-core",
        OURS,
        Bound::AtMost(0.0, "runs"),
    ),
    goal(
        "transfers that stalled (of how many: below), all cores",
        "stalls.stalled.all-cores",
        OURS,
        Bound::AtMost(0.0, "runs"),
    ),
    goal(
        "50 ms before the gateway, down",
        "distance.near.50ms.down.all-cores",
        OURS,
        Bound::RatioAtLeast(0.9),
    ),
    goal(
        "50 ms before the gateway, up",
        "distance.near.50ms.up.all-cores",
        OURS,
        Bound::RatioAtLeast(0.9),
    ),
    goal(
        "50 ms behind the gateway, down",
        "distance.far.50ms.down.all-cores",
        OURS,
        Bound::RatioAtLeast(0.9),
    ),
    goal(
        "50 ms behind the gateway, up",
        "distance.far.50ms.up.all-cores",
        OURS,
        Bound::RatioAtLeast(0.9),
    ),
    goal(
        "echo p50, one core",
        "echo.p50.one-core",
        OURS,
        Bound::RatioAtMost(1.9),
    ),
    goal(
        "echo p99, one core",
        "echo.p99.one-core",
        OURS,
        Bound::RatioAtMost(2.5),
    ),
    goal(
        "connects per second, 16 at once, one core",
        "connect.at-16.rate.one-core",
        OURS,
        Bound::RatioAtLeast(0.75),
    ),
    goal(
        "connects per second, 16 at once, all cores",
        "connect.at-16.rate.all-cores",
        OURS,
        Bound::RatioAtLeast(0.75),
    ),
    goal(
        "gateway CPU per connect",
        "connect.at-16.middle-cpu.one-core",
        OURS,
        Bound::AtMost(15.0, "ms"),
    ),
    goal(
        "memory per idle recorded session",
        "memory.idle.pss.all-cores",
        OURS,
        Bound::AtMost(90.0, "KiB"),
    ),
    goal(
        "gateway CPU while they idle (below 0.5 is none)",
        "memory.idle.gateway-busy.all-cores",
        OURS,
        Bound::AtMost(0.5, "% of a core"),
    ),
    goal(
        "memory kept after they closed",
        "memory.closed.kept.all-cores",
        OURS,
        Bound::AtMost(20.0, "%"),
    ),
    goal(
        "memory for a target that does not read",
        "memory.stuck-target.growth.all-cores",
        OURS,
        Bound::AtMost(5.0, "MiB"),
    ),
    goal(
        "500 sessions typing, p99",
        "typing.p99.all-cores",
        OURS,
        Bound::AtMost(50.0, "ms"),
    ),
    goal(
        "decide at 2,000 policies, p99",
        "decide.policies-2000.p99",
        NONE,
        Bound::AtMost(200.0, "µs"),
    ),
    goal(
        "durable appends, 64 writers, SQLite",
        "audit.sqlite.writers-64",
        NONE,
        Bound::AtLeast(8_000.0, "per s"),
    ),
    goal(
        "lost of a burst of 20,000, SQLite",
        "audit.sqlite.burst-20000.lost",
        NONE,
        Bound::AtMost(0.0, "entries"),
    ),
    goal(
        "lost of a burst of 20,000, PostgreSQL",
        "audit.postgres.burst-20000.lost",
        NONE,
        Bound::AtMost(0.0, "entries"),
    ),
    goal(
        "verification of an export",
        "verify.export-of-100000",
        NONE,
        Bound::AtLeast(200_000.0, "entries per s"),
    ),
    goal(
        "start to ready",
        "startup.ready",
        NONE,
        Bound::AtMost(300.0, "ms"),
    ),
    goal(
        "revocation of 200 sessions to the last byte, p99",
        "revocation.last-byte.p99.all-cores",
        OURS,
        Bound::AtMost(1_000.0, "ms"),
    ),
    goal(
        "revocation of 200 sessions to the client's end, p99",
        "revocation.end.p99.all-cores",
        OURS,
        Bound::AtMost(1_000.0, "ms"),
    ),
    goal(
        "PostgreSQL, 8 clients, simple, one core",
        "database.simple.rate.one-core",
        OURS,
        Bound::OfRelayAtLeast(1.0),
    ),
    goal(
        "PostgreSQL, 8 clients, prepared, one core",
        "database.prepared.rate.one-core",
        OURS,
        Bound::OfRelayAtLeast(1.0),
    ),
    goal(
        "PostgreSQL, one client: added at p50, simple, all cores",
        "database.one.simple.added-p50.all-cores",
        OURS,
        Bound::AtMost(50.0, "µs"),
    ),
    goal(
        "PostgreSQL, one client: added at p99, simple, all cores",
        "database.one.simple.added-p99.all-cores",
        OURS,
        Bound::AtMost(150.0, "µs"),
    ),
    goal(
        "PostgreSQL, one client: added at p50, prepared, all cores",
        "database.one.prepared.added-p50.all-cores",
        OURS,
        Bound::AtMost(50.0, "µs"),
    ),
    goal(
        "PostgreSQL, one client: added at p99, prepared, all cores",
        "database.one.prepared.added-p99.all-cores",
        OURS,
        Bound::AtMost(150.0, "µs"),
    ),
    goal(
        "PostgreSQL, a connection for each statement, one core",
        "database.connect.rate.one-core",
        OURS,
        Bound::OfRelayAtLeast(0.9),
    ),
    goal(
        "PostgreSQL, a million rows copied out, one core",
        "database.copy-out.rate.one-core",
        OURS,
        Bound::OfRelayAtLeast(1.0),
    ),
    goal(
        "PostgreSQL, a million rows copied in, one core",
        "database.copy-in.rate.one-core",
        OURS,
        Bound::OfRelayAtLeast(1.0),
    ),
    goal(
        "PostgreSQL, gateway CPU of a copy out",
        "database.copy-out.middle-cpu.one-core",
        OURS,
        Bound::AtMost(3.5, "s/GB"),
    ),
    goal(
        "PostgreSQL, gateway CPU of a copy in",
        "database.copy-in.middle-cpu.one-core",
        OURS,
        Bound::AtMost(3.5, "s/GB"),
    ),
    goal(
        "PostgreSQL, 200 connections, 2,000 per s: added at p99, all cores",
        "database.crowd.added-p99.all-cores",
        OURS,
        Bound::AtMost(5_000.0, "µs"),
    ),
    goal(
        "PostgreSQL, idle connection",
        "database.idle.pss.all-cores",
        OURS,
        Bound::AtMost(80.0, "KiB"),
    ),
    goal(
        "PostgreSQL, cancel, all cores",
        "database.cancel.all-cores",
        OURS,
        Bound::AtMost(100.0, "ms"),
    ),
    goal(
        "MySQL, sysbench oltp_point_select, 8 clients, one core",
        "mysql.point-select.rate.one-core",
        OURS,
        Bound::RatioAtLeast(0.8),
    ),
    goal(
        "PostgreSQL, new sessions with a user of their own, all cores",
        "database.fresh.rate.all-cores",
        OURS,
        Bound::AtLeast(25.0, "per s"),
    ),
];

impl Bound {
    /// Whether it holds, and what it is compared with; none when that was not measured.
    fn judge(self, results: &Results, series: &Series) -> Option<(bool, f64)> {
        // A run that failed in part has not reached anything.
        if !series.failures.is_empty() {
            return None;
        }
        let value = match self {
            Self::RatioAtLeast(_) | Self::RatioAtMost(_) => results.ratio(series)?,
            Self::OfRelayAtLeast(_) => {
                let relay = results.get(&series.key, Path::Relay.name())?.median()?;
                (relay > 0.0).then_some(series.median()? / relay)?
            }
            Self::AtLeast(..) | Self::AtMost(..) => series.median()?,
        };
        let holds = match self {
            Self::RatioAtLeast(least) | Self::OfRelayAtLeast(least) | Self::AtLeast(least, _) => {
                value >= least
            }
            Self::RatioAtMost(most) | Self::AtMost(most, _) => value <= most,
        };
        Some((holds, value))
    }

    fn to_text(self) -> String {
        match self {
            Self::RatioAtLeast(bound) => format!("≥ {bound:.2} of direct"),
            Self::RatioAtMost(bound) => format!("≤ {bound:.2} of direct"),
            Self::OfRelayAtLeast(bound) => format!("≥ {bound:.2} of pgbouncer"),
            Self::AtLeast(bound, unit) => format!("≥ {} {unit}", short(bound)),
            Self::AtMost(bound, unit) => format!("≤ {} {unit}", short(bound)),
        }
    }
}

/// Those goals that were measured, for a terminal.
pub fn measured(results: &Results) -> String {
    GOALS
        .iter()
        .filter_map(|goal| {
            let series = results.get(goal.key, goal.path)?;
            let (holds, value) = goal.bound.judge(results, series)?;
            let verdict = if holds { "reached" } else { "not reached" };
            let (what, asked) = (goal.what, goal.bound.to_text());
            Some(format!("{what}: {} ({asked}): {verdict}\n", short(value)))
        })
        .collect()
}

/// All goals as a table, with what was measured.
pub fn to_markdown(results: &Results) -> String {
    let mut text =
        "| figure | to reach | measured | reached |\n| --- | --- | --- | --- |\n".to_owned();
    for goal in GOALS {
        let series = results.get(goal.key, goal.path);
        let judged = series.and_then(|series| goal.bound.judge(results, series));
        let (measured, verdict) = match judged {
            Some((holds, value)) => (short(value), if holds { "yes" } else { "**no**" }),
            None => ("not measured".to_owned(), "**no**"),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {measured} | {verdict} |",
            goal.what,
            goal.bound.to_text()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        MEASURES,
        cores::Cores,
        figures::{Figures, Row},
    };

    fn results(direct: f64, ours: f64) -> Results {
        let mut figures = Figures::new("now, here".to_owned());
        figures.begin("echo", Some(Cores::One(0)));
        let row = Row::new("p50", "p50", "µs");
        figures.add(&row, Some(Path::Direct), direct);
        figures.add(&row, Some(Path::Sallyport), ours);
        Results::of(&figures)
    }

    fn line(results: &Results, what: &str) -> String {
        to_markdown(results)
            .lines()
            .find(|line| line.contains(what))
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_goal_is_reached_exactly_when_its_bound_holds() {
        assert!(line(&results(100.0, 190.0), "echo p50").contains("| 1.90 | yes |"));
        assert!(line(&results(100.0, 200.0), "echo p50").contains("| 2.00 | **no** |"));
    }

    #[test]
    fn a_goal_that_was_not_measured_is_not_reached() {
        let line = line(&results(100.0, 100.0), "echo p99");
        assert!(line.contains("not measured | **no**"), "{line}");
    }

    #[test]
    fn every_goal_belongs_to_a_measure() {
        for goal in GOALS {
            let measure = goal.key.split('.').next().unwrap();
            assert!(
                MEASURES.iter().any(|known| known.name == measure),
                "{}",
                goal.key
            );
        }
    }
}
