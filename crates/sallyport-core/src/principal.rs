//! Who acts, and how strongly that was proven.
//!
//! INVARIANT: two spellings of one person are one `PersonName`; every counter, lookup and comparison
//! uses the canonical form made here (security class A1).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{id::PersonId, time::Timestamp};

/// The kinds of principal. Each has its own elevation rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A human.
    Person,
    /// A program without a human behind each act.
    Workload,
    /// An AI agent, always with an accountable person.
    Agent,
}

/// A person's sign-in name in canonical form: lower-case ASCII letters, digits, `.`, `_`, `-`, one to
/// 64 characters, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonName(String);

/// Why a text is no person's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a person's name: use 1 to 64 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit"
)]
pub struct ParsePersonNameError {
    text: String,
}

impl FromStr for PersonName {
    type Err = ParsePersonNameError;

    /// Canonicalises (trims ASCII space, lowers ASCII letters), then checks.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = text
            .trim_matches(|c: char| c.is_ascii_whitespace())
            .to_ascii_lowercase();
        let is_valid = (1..=64).contains(&canonical.len())
            && canonical
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && canonical
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric());
        if is_valid {
            Ok(Self(canonical))
        } else {
            Err(ParsePersonNameError {
                text: text.chars().filter(|c| !c.is_control()).take(64).collect(),
            })
        }
    }
}

impl PersonName {
    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PersonName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PersonName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// An administrative role: what somebody may do to Sallyport itself. Never opens a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminRole {
    /// Everything, including giving roles.
    Owner,
    /// Policies, locks, reviews, vault; ends anything.
    Security,
    /// Votes on requests.
    Approver,
    /// Reads the audit log and recordings.
    Auditor,
    /// Asks for access and uses it. Everybody has it.
    Member,
}

impl AdminRole {
    /// Every role, strongest first.
    pub const ALL: [Self; 5] = [
        Self::Owner,
        Self::Security,
        Self::Approver,
        Self::Auditor,
        Self::Member,
    ];

    /// The role as stored and typed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Security => "security",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Member => "member",
        }
    }
}

impl fmt::Display for AdminRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A person as the rules see one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Stable id; names may change, this does not.
    pub id: PersonId,
    /// Canonical sign-in name.
    pub name: PersonName,
    /// Name for people; free text, at most 128 characters, never used in a decision.
    pub display_name: String,
    /// Canonical names of the groups the person is in.
    pub groups: Vec<String>,
    /// Administrative roles besides `member`.
    pub admin_roles: Vec<AdminRole>,
    /// False once disabled: nothing is opened and everything live ends.
    pub is_enabled: bool,
}

impl Person {
    /// Whether the person holds `role`; everybody enabled is a member.
    #[must_use]
    pub fn has_role(&self, role: AdminRole) -> bool {
        self.is_enabled && (role == AdminRole::Member || self.admin_roles.contains(&role))
    }
}

/// How strongly somebody proved who they are. Ordered: later is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticationStrength {
    /// One factor: a registered key without user presence, or an API token.
    SingleFactor,
    /// Two factors, such as a password or a key with a one-time code.
    MultiFactor,
    /// A FIDO2 authenticator with user presence checked.
    PhishingResistant,
}

impl AuthenticationStrength {
    /// As policies and the audit log spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SingleFactor => "single_factor",
            Self::MultiFactor => "multi_factor",
            Self::PhishingResistant => "phishing_resistant",
        }
    }
}

/// Proof of one person, as the decision sees it: the result of checking, never a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// How strong all factors together are.
    pub strength: AuthenticationStrength,
    /// When the strongest factor was checked.
    pub at: Timestamp,
    /// The factors used, for evidence: `ssh_key`, `ssh_certificate`, `password`, `totp`, `api_token`.
    pub methods: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ID-5
    #[test]
    fn every_spelling_of_a_name_is_one_person() {
        let alice: PersonName = "alice".parse().unwrap();
        for spelling in ["Alice", " alice", "ALICE\t", "aLiCe \n"] {
            assert_eq!(spelling.parse(), Ok(alice.clone()), "{spelling:?}");
        }
        for other in [
            "",
            " ",
            "al ice",
            "alíce",
            "аlice",
            "alice\0",
            "-alice",
            "alice@x",
            &"a".repeat(65),
        ] {
            assert!(other.parse::<PersonName>().is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_disabled_owner_has_no_role() {
        let person = Person {
            id: PersonId::new(Timestamp::EPOCH, [1; 10]),
            name: "eve".parse().unwrap(),
            display_name: String::new(),
            groups: vec![],
            admin_roles: vec![AdminRole::Owner],
            is_enabled: false,
        };
        assert!(!person.has_role(AdminRole::Owner));
        assert!(!person.has_role(AdminRole::Member));
    }
}
