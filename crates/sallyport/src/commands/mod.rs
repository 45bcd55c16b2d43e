//! One file for each noun of the command line. Help texts are the doc comments; what a command does is
//! one or a few calls of the API and one thing printed.

use sallyport_core::inventory::Selector;

use crate::{
    client::Listed,
    failure::Failure,
    output::{Column, Output},
};

pub mod account;
pub mod apply;
pub mod audit;
pub mod break_glass;
pub mod completion;
pub mod config;
pub mod db;
pub mod enrol;
pub mod grant;
pub mod key;
pub mod lease;
pub mod lock;
pub mod login;
pub mod logout;
pub mod operation;
pub mod operator;
pub mod person;
pub mod policy;
pub mod recording;
pub mod request;
pub mod review;
pub mod session;
pub mod ssh_authority;
pub mod status;
pub mod target;
pub mod token;
pub mod whoami;

/// How much of a list to print.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Limit {
    /// Print at most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    limit: u32,
}

/// Prints a list, and says so when there is more of it.
fn print_listed<T: serde::Serialize>(
    output: Output,
    listed: &Listed<T>,
    columns: &[Column<T>],
) -> Result<(), Failure> {
    output.list(&listed.items, columns)?;
    if listed.has_more {
        output.note("there are more: raise `--limit`")?;
    }
    Ok(())
}

/// An account on a target, as people type it: `root@web-1`.
fn account_on_target(text: &str) -> Result<Selector, String> {
    let selector: Selector = text
        .parse()
        .map_err(|error| crate::failure::chain(&error))?;
    if selector.person.is_some() {
        return Err("name no person here: write account@target".to_owned());
    }
    Ok(selector)
}

/// A length of time in seconds, as people type it: `30m`, `1h30m`, `2d`.
fn seconds(text: &str) -> Result<u64, String> {
    let duration: jiff::SignedDuration = match text.strip_suffix('d') {
        Some(days) => days
            .parse()
            .ok()
            .and_then(|days: i64| days.checked_mul(24))
            .map(jiff::SignedDuration::from_hours),
        None => text.parse().ok(),
    }
    .ok_or_else(|| format!("`{text}` is not a length of time such as 30m, 1h30m or 2d"))?;
    u64::try_from(duration.as_secs())
        .ok()
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "it must be at least a second".to_owned())
}

/// `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// Seconds as people read them.
fn span(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds % 86_400 / 3_600, "h"),
        (seconds % 3_600 / 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: String = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_and_printed_as_people_write_them() {
        for (text, expected) in [
            ("30m", 1_800),
            ("1h30m", 5_400),
            ("90s", 90),
            ("2d", 172_800),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "0s", "-1h", "1", "soon", "99999999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(span(5_400), "1h30m");
        assert_eq!(span(90_061), "1d1h1m1s");
    }

    #[test]
    fn an_account_is_named_with_its_target_and_no_person() {
        assert!(account_on_target("root@web-1").is_ok());
        assert!(account_on_target("alice:root@web-1").is_err());
        assert!(account_on_target("root").is_err());
    }
}
