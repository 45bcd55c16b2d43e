//! Reading a wanted state: every fault of it at once, each with its place (`targets[3].address`).

use std::collections::{BTreeMap, BTreeSet};

use sallyport_api::rest::{apply::Wanted, directory::CreatePerson};
use sallyport_core::{
    id::{AccountId, TargetId},
    inventory::{Account, Target, TargetName},
    time::Timestamp,
};
use sallyport_policy::Bundle;

use crate::{
    directory::{self, DirectoryError, WantedPerson},
    inventory::workflow::{InventoryError, parse_account, parse_target},
    kernel::ids,
    policy,
};

/// A wanted state, read and checked as far as it can be without the store.
#[derive(Debug)]
pub(super) struct Document {
    /// Targets; their ids are fresh and used for new ones only.
    pub(super) targets: Vec<Target>,
    /// Accounts with their target's name; their ids are fresh and used for new ones only.
    pub(super) accounts: Vec<(TargetName, Account)>,
    /// People.
    pub(super) people: Vec<WantedPerson>,
    /// Policies, when given.
    pub(super) policies: Option<WantedPolicies>,
}

/// A bundle that loads and passes its own tests, and the files it was read from.
#[derive(Debug)]
pub(super) struct WantedPolicies {
    pub(super) bundle: Bundle,
    pub(super) files: BTreeMap<String, String>,
}

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFault {
    /// Where: `targets[3].address`.
    pub field: String,
    /// What, and what is accepted.
    pub problem: String,
}

#[derive(Default)]
struct Faults(Vec<DocumentFault>);

impl Faults {
    fn push(&mut self, list: &str, index: usize, field: &str, problem: impl ToString) {
        self.0.push(DocumentFault {
            field: format!("{list}[{index}].{field}"),
            problem: problem.to_string(),
        });
    }
}

/// Reads a document.
///
/// # Errors
/// Every fault of it, in order.
pub(super) fn read(wanted: &Wanted, now: Timestamp) -> Result<Document, Vec<DocumentFault>> {
    let mut faults = Faults::default();
    let document = Document {
        targets: targets(wanted, now, &mut faults),
        accounts: accounts(wanted, now, &mut faults),
        people: people(&wanted.people, &mut faults),
        policies: policies(wanted, &mut faults),
    };
    if faults.0.is_empty() {
        Ok(document)
    } else {
        Err(faults.0)
    }
}

const TWICE: &str = "is listed twice";

fn targets(wanted: &Wanted, now: Timestamp, faults: &mut Faults) -> Vec<Target> {
    let mut names = BTreeSet::new();
    let mut targets = Vec::with_capacity(wanted.targets.len());
    for (index, spec) in wanted.targets.iter().enumerate() {
        match parse_target(spec, TargetId::new(now, ids::entropy())) {
            Ok(target) if !names.insert(target.name.to_string()) => {
                faults.push("targets", index, "name", TWICE);
            }
            Ok(target) => targets.push(target),
            Err(error) => inventory_fault(faults, "targets", index, &error),
        }
    }
    targets
}

fn accounts(wanted: &Wanted, now: Timestamp, faults: &mut Faults) -> Vec<(TargetName, Account)> {
    let mut names = BTreeSet::new();
    let mut accounts = Vec::with_capacity(wanted.accounts.len());
    for (index, spec) in wanted.accounts.iter().enumerate() {
        let target: TargetName = match spec.target.parse() {
            Ok(target) => target,
            Err(error) => {
                faults.push("accounts", index, "target", error);
                continue;
            }
        };
        // Which target this name is of is found with the store.
        let nowhere = TargetId::new(now, ids::entropy());
        match parse_account(spec, AccountId::new(now, ids::entropy()), nowhere) {
            Ok(account) if !names.insert((target.to_string(), account.name.to_string())) => {
                faults.push("accounts", index, "name", TWICE);
            }
            Ok(account) => accounts.push((target, account)),
            Err(error) => inventory_fault(faults, "accounts", index, &error),
        }
    }
    accounts
}

fn inventory_fault(faults: &mut Faults, list: &str, index: usize, error: &InventoryError) {
    match error {
        InventoryError::BadField { field, problem } => faults.push(list, index, field, problem),
        other => faults.push(list, index, "name", other),
    }
}

fn people(wanted: &[CreatePerson], faults: &mut Faults) -> Vec<WantedPerson> {
    let mut names = BTreeSet::new();
    let mut people = Vec::with_capacity(wanted.len());
    for (index, spec) in wanted.iter().enumerate() {
        match directory::read_wanted(spec) {
            Ok(person) if !names.insert(person.name.to_string()) => {
                faults.push("people", index, "name", TWICE);
            }
            Ok(person) => people.push(person),
            Err(DirectoryError::BadField { field, problem }) => {
                faults.push("people", index, field, problem);
            }
            Err(other) => faults.push("people", index, "name", other),
        }
    }
    people
}

fn policies(wanted: &Wanted, faults: &mut Faults) -> Option<WantedPolicies> {
    let files = wanted.policies.as_ref()?.files.clone();
    match policy::workflow::check(&files) {
        Ok(bundle) => Some(WantedPolicies { bundle, files }),
        Err(error) => {
            faults.0.push(DocumentFault {
                field: "policies.files".to_owned(),
                problem: error.to_string(),
            });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_json(wanted: serde_json::Value) -> Result<Document, Vec<DocumentFault>> {
        let wanted: Wanted = serde_json::from_value(wanted).unwrap();
        read(&wanted, Timestamp::from_unix_ms(1_800_000_000_000))
    }

    fn target(name: &str, address: &str) -> serde_json::Value {
        json!({ "name": name, "protocol": "ssh", "address": address, "sensitivity": "high" })
    }

    #[test]
    fn given_several_faults_then_each_is_reported_with_its_place() {
        let faults = read_json(json!({
            "targets": [
                target("web-1", "10.0.0.1:22"),
                target("web-2", "no port"),
                target("web-1", "10.0.0.3:22"),
            ],
            "accounts": [
                { "target": "web-1", "name": "root", "engine": "nonesuch" },
                { "target": "/", "name": "root", "engine": "static" },
            ],
            "people": [
                { "name": "alice" },
                { "name": "ALICE" },
                { "name": "bob", "admin_roles": ["emperor"] },
            ],
            "policies": { "files": { "authorise/a.cedar": "permit (" } },
        }))
        .unwrap_err();
        let places: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            places,
            [
                "targets[1].address",
                "targets[2].name",
                "accounts[0].engine",
                "accounts[1].target",
                "people[1].name",
                "people[2].admin_roles",
                "policies.files",
            ]
        );
    }

    #[test]
    fn given_nothing_then_nothing_is_wanted_and_nothing_is_wrong() {
        let document = read_json(json!({})).unwrap();
        assert!(document.targets.is_empty() && document.policies.is_none());
    }
}
