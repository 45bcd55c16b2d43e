//! What is acted on: targets, the accounts on them, and the selector people type.
//!
//! INVARIANT: a name that parses here holds no character that means something to SSH certificate
//! principals, shells, SQL or terminals (security classes A17, F7).

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    id::{AccountId, TargetId},
    principal::PersonName,
};

/// Why a name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a valid {noun}: use 1 to 63 of {allowed}, beginning with a letter, a digit or (accounts) `_`"
)]
pub struct ParseNameError {
    text: String,
    noun: &'static str,
    allowed: &'static str,
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $allowed:literal, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let first: fn(u8) -> bool = $first;
                let rest: fn(u8) -> bool = $rest;
                let is_valid = (1..=63).contains(&text.len())
                    && text.bytes().next().is_some_and(first)
                    && text.bytes().all(rest);
                if is_valid {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().filter(|c| !c.is_control()).take(64).collect();
                    Err(ParseNameError { text, noun: $noun, allowed: $allowed })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

checked_name!(
    /// A target's name: lower-case letters, digits, `.`, `-`. Exactly one spelling.
    TargetName, "target name", "a-z, 0-9, `.`, `-`",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b)
);
checked_name!(
    /// An account's name, exactly as the target spells it (case matters there).
    AccountName, "account name", "A-Z, a-z, 0-9, `.`, `_`, `-`",
    |b| b.is_ascii_alphanumeric() || b == b'_',
    |b| b.is_ascii_alphanumeric() || b"._-".contains(&b)
);

/// How much harm an account on this target can do. Ordered: later is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Test machines.
    Low,
    /// Ordinary internal systems.
    Medium,
    /// Production.
    High,
    /// Systems whose loss ends the business day.
    Critical,
}

impl Sensitivity {
    /// As policies spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A system that sessions go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Stable id.
    pub id: TargetId,
    /// Unique name.
    pub name: TargetName,
    /// Protocol kind, as in its descriptor: `ssh`.
    pub protocol: String,
    /// `host:port` to dial; a host name or an IP address.
    pub address: String,
    /// Free labels that policies read; at most 32, keys and values at most 63 characters.
    pub labels: BTreeMap<String, String>,
    /// How much harm can be done.
    pub sensitivity: Sensitivity,
    /// Server identities accepted, in the protocol's own text form (`ssh-ed25519 AAAA…`).
    pub host_keys: Vec<String>,
    /// Whether the first identity seen may be pinned when none is known yet; the pin is audited.
    pub pins_first_host_key: bool,
}

/// An identity on a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Stable id.
    pub id: AccountId,
    /// The target it is on.
    pub target_id: TargetId,
    /// Name, as the target spells it.
    pub name: AccountName,
    /// Secrets engine kind that makes its credential: `static`, `ssh_ca`.
    pub engine: String,
    /// Engine settings, checked against the engine's descriptor.
    pub settings: serde_json::Value,
}

/// What a stock client is told to connect to: `[person:]account@target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Who claims to connect; absent where a key or certificate already says it.
    pub person: Option<PersonName>,
    /// Account on the target.
    pub account: AccountName,
    /// Target.
    pub target: TargetName,
}

/// Why a selector was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseSelectorError {
    /// There is no `@`.
    #[error("`{text}` names no target; write account@target, for example root@web-1")]
    NoTarget {
        /// What was typed, shortened.
        text: String,
    },
    /// More than one `@` or `:`.
    #[error(
        "`{text}` is ambiguous; write [person:]account@target with one `@` and at most one `:`"
    )]
    Ambiguous {
        /// What was typed, shortened.
        text: String,
    },
    /// The part before `:` is no person's name.
    #[error("read the person in the selector")]
    Person(#[source] crate::principal::ParsePersonNameError),
    /// A part is no valid name.
    #[error("read the account or target in the selector")]
    Name(#[source] ParseNameError),
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || {
            text.chars()
                .filter(|c| !c.is_control())
                .take(64)
                .collect::<String>()
        };
        let (left, target) = text
            .split_once('@')
            .ok_or_else(|| ParseSelectorError::NoTarget { text: shown() })?;
        let (person, account) = match left.split_once(':') {
            Some((person, account)) => (Some(person), account),
            None => (None, left),
        };
        if target.contains('@') || target.contains(':') || account.contains(':') {
            return Err(ParseSelectorError::Ambiguous { text: shown() });
        }
        Ok(Self {
            person: person
                .map(str::parse)
                .transpose()
                .map_err(ParseSelectorError::Person)?,
            account: account.parse().map_err(ParseSelectorError::Name)?,
            target: target.parse().map_err(ParseSelectorError::Name)?,
        })
    }
}

impl Selector {
    /// Reads what a client says once the way it came has named the target: `[person:]account`, or a
    /// whole selector that names the same target.
    ///
    /// # Errors
    /// [`ParseSelectorError`]; [`ParseSelectorError::Ambiguous`] when it names another target.
    pub fn towards(target: &TargetName, text: &str) -> Result<Self, ParseSelectorError> {
        if !text.contains('@') {
            return format!("{text}@{target}").parse();
        }
        let selector: Self = text.parse()?;
        if selector.target != *target {
            return Err(ParseSelectorError::Ambiguous {
                text: selector.to_string(),
            });
        }
        Ok(selector)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(person) = &self.person {
            write!(f, "{person}:")?;
        }
        write!(f, "{}@{}", self.account, self.target)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// GW-1
    #[test]
    fn a_selector_names_person_account_and_target() {
        let selector: Selector = "Alice:root@web-1".parse().unwrap();
        assert_eq!(selector.person.unwrap().as_str(), "alice");
        assert_eq!(selector.account.as_str(), "root");
        assert_eq!(selector.target.as_str(), "web-1");
        assert_eq!("root@web-1".parse::<Selector>().unwrap().person, None);
    }

    /// GW-1
    #[test]
    fn given_the_way_names_the_target_then_the_account_is_enough_and_no_other_target_is_taken() {
        let target: TargetName = "web-2".parse().unwrap();
        let towards = |text| Selector::towards(&target, text).map(|one| one.to_string());
        assert_eq!(towards("root").unwrap(), "root@web-2");
        assert_eq!(towards("alice:root").unwrap(), "alice:root@web-2");
        assert_eq!(towards("root@web-2").unwrap(), "root@web-2");
        for text in [
            "root@web-1",
            "",
            "a:b:root",
            "root@",
            "ro ot",
            "root@web-2@web-2",
        ] {
            assert!(towards(text).is_err(), "{text:?}");
        }
    }

    /// GW-1
    #[test]
    fn ambiguous_or_dangerous_selectors_are_refused() {
        for text in [
            "root",
            "@",
            "root@",
            "@web",
            "a@b@c",
            "a:b:c@d",
            "root@web:22",
            "-oProxy@web",
            "root@-web",
            "ro ot@web",
            "root,admin@web",
            "root*@web",
            "root/x@web",
            "root\0@web",
            "root@WEB",
            ":root@web",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_a_selector_never_panics_and_round_trips(text in "\\PC{0,80}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
            }
        }
    }
}
