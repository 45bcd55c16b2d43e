//! Names of groups, canonical like names of people, because policies and quorums compare them.

use std::{fmt, str::FromStr};

use sallyport_core::principal::PersonName;

/// A group's name in canonical form; the rules are those of [`PersonName`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(PersonName);

/// Why a text is no group's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a group's name: use 1 to 64 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit"
)]
pub struct ParseGroupNameError {
    text: String,
}

impl FromStr for GroupName {
    type Err = ParseGroupNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseGroupNameError {
            text: text.chars().filter(|c| !c.is_control()).take(64).collect(),
        })
    }
}

impl GroupName {
    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
