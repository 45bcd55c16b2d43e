//! The Cedar schema: which facts a policy may read and what type each has.
//!
//! It is generated from the lists in `sallyport-core`, so a new kind of operation or a new sensitivity
//! is known to policies without an edit here. `engine.rs` builds the values; Cedar refuses a question
//! whose values do not fit.
//!
//! Closed sets of words (kinds of operation, sensitivities, strengths) are enumerated entities, not
//! strings: `OperationKind::"exce"` is refused when the bundle is loaded, where `"exce"` would load
//! and never match. Those with an order have a rank beside them, for comparisons. Labels, whose names
//! are not known here, are tags of the target: `resource.target.hasTag("env") &&
//! resource.target.getTag("env") == "prod"`.
//!
//! INVARIANT: one action's context holds exactly the facts that can exist when it is asked.

use std::{fmt::Write as _, str::FromStr, sync::OnceLock};

use cedar_policy::Schema;
use sallyport_core::{
    authz::Action,
    inventory::Sensitivity,
    principal::AuthenticationStrength,
    session::{OperationKind, Verb},
};

/// Every strength, weakest first: the rank is the place in this list, from 1.
pub(crate) const STRENGTHS: [AuthenticationStrength; 3] = [
    AuthenticationStrength::SingleFactor,
    AuthenticationStrength::MultiFactor,
    AuthenticationStrength::PhishingResistant,
];

/// Every sensitivity, least first: the rank is the place in this list, from 1.
pub(crate) const SENSITIVITIES: [Sensitivity; 4] = [
    Sensitivity::Low,
    Sensitivity::Medium,
    Sensitivity::High,
    Sensitivity::Critical,
];

/// What operations that are no statement have for a verb.
pub(crate) const NO_VERB: &str = "none";

/// Every action a policy may name.
pub(crate) const ACTIONS: [Action; 4] = [
    Action::RequestCreate,
    Action::SessionOpen,
    Action::OperationRun,
    Action::FeatureUse,
];

/// The place of `item` in `list`, counted from 1: what policies compare. Zero, which is weaker than
/// everything, for something that is not in the list.
pub(crate) fn rank<T: PartialEq>(list: &[T], item: &T) -> i64 {
    list.iter()
        .position(|other| other == item)
        .and_then(|index| i64::try_from(index.saturating_add(1)).ok())
        .unwrap_or(0)
}

/// The schema in Cedar's own notation: what policies are checked against, for people and editors.
#[must_use]
pub fn schema_text() -> String {
    let mut text = String::from(FIXED_PART);
    let enumerations = [
        (
            "AuthenticationStrength",
            STRENGTHS.map(AuthenticationStrength::as_str).to_vec(),
        ),
        (
            "OperationKind",
            OperationKind::ALL.map(OperationKind::as_str).to_vec(),
        ),
        (
            "Sensitivity",
            SENSITIVITIES.map(Sensitivity::as_str).to_vec(),
        ),
        (
            "Verb",
            std::iter::once(NO_VERB)
                .chain(Verb::ALL.map(Verb::as_str))
                .collect(),
        ),
    ];
    for (name, words) in enumerations {
        let words = words
            .iter()
            .map(|word| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(", ");
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "\nentity {name} enum [{words}];");
    }
    for action in ACTIONS {
        let _ = writeln!(
            text,
            "\naction \"{}\" appliesTo {{\n  principal: [Person],\n  resource: [Account],\n  context: {{{}\n  }},\n}};",
            action.as_str(),
            context_fields(action)
        );
    }
    text
}

fn context_fields(action: Action) -> String {
    let always = "
    mfa: Mfa,
    network: Network,
    time: Time,
    history: History,";
    let own = match action {
        Action::RequestCreate => {
            "
    request: Request,
    grant?: Grant,"
        }
        Action::SessionOpen => {
            "
    request?: Request,
    grant?: Grant,"
        }
        Action::OperationRun | Action::FeatureUse => {
            "
    request?: Request,
    grant: Grant,
    operation: Operation,"
        }
    };
    format!("{always}{own}")
}

const FIXED_PART: &str = r#"// What policies may read. Generated; `sallyport policy schema` prints it.

// A group of people, by its name.
entity Group;

// Who asks, by sign-in name. Workloads and agents are reserved: no action takes them yet.
entity Person in [Group] = { name: String };
entity Workload in [Group] = { name: String };
entity Agent in [Group] = { name: String };

// What is acted on, by its name. Tags are the target's labels.
entity Target = {
  name: String,
  protocol: String,
  sensitivity: Sensitivity,
  sensitivity_rank: Long, // 1 low, 2 medium, 3 high, 4 critical
} tags String;

// As whom: `Account::"root@web-1"` is in `Target::"web-1"`.
entity Account in [Target] = { name: String, target: Target };

type Mfa = {
  strength: AuthenticationStrength,
  strength_rank: Long, // 1 single_factor, 2 multi_factor, 3 phishing_resistant
  age_s: Long, // seconds since the strongest factor was checked
};

// The client's address as the listener saw it; an IPv4 address in IPv6 form is the IPv4 address.
type Network = { ip: ipaddr };

type Time = {
  unix_s: Long,
  hour: Long, // 0 to 23, UTC
  weekday: Long, // 0 Monday to 6 Sunday, UTC
};

type History = { open_reviews: Long };

type Request = {
  reason: String,
  has_ticket: Bool,
  ticket?: String,
  duration_s: Long,
  is_break_glass: Bool,
};

type Grant = { is_break_glass: Bool };

type Operation = {
  kind: OperationKind,
  detail: String, // command line, path, subsystem, NAME=value, destination or SQL
  // What SQL does. A message with several statements is as grave as the gravest of them.
  verb: Verb,
  verb_rank: Long, // 0 none, 1 read, 2 session, 3 write, 4 ddl, 5 dcl, 6 admin, 7 unknown
  verbs: Set<Verb>,
  relations: Set<String>, // "database.schema.relation"; "*" for a part that is not known, or alone for any
  is_unfiltered: Bool, // a write among them has no WHERE
  reaches_server: Bool, // may run programs, or read or write files or connections, of the server
};
"#;

/// The schema, parsed once.
///
/// # Errors
/// Only when the generated text is at fault, which a test rules out; the caller then loads no bundle.
pub(crate) fn schema() -> Result<&'static Schema, &'static str> {
    static PARSED: OnceLock<Result<Schema, String>> = OnceLock::new();
    PARSED
        .get_or_init(|| Schema::from_str(&schema_text()).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(String::as_str)
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    /// PO-1: what policies may read is a contract; a change to it is seen in review.
    #[test]
    fn the_schema_is_the_one_that_was_reviewed() {
        schema().expect("the generated schema parses");
        expect_file!["../testdata/schema.cedarschema"].assert_eq(&schema_text());
    }

    #[test]
    fn ranks_follow_the_order_of_the_values_themselves() {
        assert!(STRENGTHS.is_sorted() && SENSITIVITIES.is_sorted());
        assert_eq!(rank(&SENSITIVITIES, &Sensitivity::Low), 1);
        assert_eq!(rank(&Verb::ALL, &Verb::Read), 1);
        assert_eq!(rank(&Verb::ALL, &Verb::Unknown), 7);
        assert_eq!(
            rank(&STRENGTHS, &AuthenticationStrength::PhishingResistant),
            3
        );
    }

    #[test]
    fn every_operation_kind_can_be_named_by_a_policy() {
        for kind in OperationKind::ALL {
            assert!(
                schema_text().contains(&format!("\"{}\"", kind.as_str())),
                "{kind:?}"
            );
        }
    }
}
