//! Reading the files of a bundle and checking all of them, so that its author learns of every fault
//! at once, each with its line.
//!
//! `bundle.rs` calls [`check`] and keeps what comes back.
//!
//! INVARIANT: what is not understood is a fault; nothing is skipped.
//!
//! Not here: what an annotation means (`requirements.rs`), the form of a test (`check.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{
    Effect, Policy, PolicyId, PolicySet, ValidationMode, Validator, ffi::DetailedError,
};
use sallyport_core::policy::Demand;

use crate::{
    bundle::{BundleError, POLICIES_MAX},
    check::{TestCase, TestFile},
    fault::{Fault, line_at},
    redaction::{OWN_RULES_MAX, RedactionFile, check_pattern, is_own_name},
    requirements::{self, AnnotationFault},
    schema::schema,
};

/// Beyond this many faults the rest is not worth listing.
const FAULTS_MAX: usize = 100;
/// Advice where neither Cedar nor we know better.
const CORRECT_IT: &str = "correct it; `sallyport policy schema` prints what policies may read";

#[derive(Clone, Copy, PartialEq, Eq)]
enum SetKind {
    Authorise,
    Require,
}

/// The content of the files, checked.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) authorise: Vec<Policy>,
    pub(crate) require: Vec<Policy>,
    /// What each policy of the require set adds.
    pub(crate) demands: HashMap<PolicyId, Demand>,
    /// Where each policy stands: path and line.
    pub(crate) places: HashMap<PolicyId, (String, usize)>,
    /// The bundle's own redaction patterns, by name.
    redaction: BTreeMap<String, String>,
    /// Tests by file.
    pub(crate) tests: BTreeMap<String, Vec<TestCase>>,
}

/// Reads and checks every file; the error lists everything that is wrong, up to a bound.
pub(crate) fn check(files: &BTreeMap<String, String>) -> Result<Checked, BundleError> {
    let mut loader = Loader::default();
    for (path, content) in files {
        loader.read_file(path, content);
    }
    let count = loader
        .checked
        .authorise
        .len()
        .saturating_add(loader.checked.require.len());
    if count > POLICIES_MAX {
        return Err(BundleError::TooManyPolicies { count });
    }
    loader.validate(files)?;
    if loader.faults.is_empty() {
        return Ok(loader.checked);
    }
    loader.faults.truncate(FAULTS_MAX);
    Err(BundleError::Faulty {
        faults: loader.faults,
    })
}

/// What has been read so far, and what was wrong with it.
#[derive(Default)]
struct Loader {
    checked: Checked,
    faults: Vec<Fault>,
}

impl Loader {
    fn read_file(&mut self, path: &str, content: &str) {
        match path_parts(path) {
            Some(("authorise", "cedar")) => self.read_policies(path, content, SetKind::Authorise),
            Some(("require", "cedar")) => self.read_policies(path, content, SetKind::Require),
            // Read before the require set, which names what they define: paths come in order.
            Some(("redaction", "json")) => self.read_redaction(path, content),
            Some(("tests", "json")) => match serde_json::from_str::<TestFile>(content) {
                Ok(file) => {
                    self.checked.tests.insert(path.to_owned(), file.tests);
                }
                Err(error) => self.faults.push(Fault {
                    line: Some(error.line().max(1)),
                    ..Fault::of_file(
                        path,
                        format!("not a file of policy tests: {error}"),
                        "see the tests of the default bundle for the form",
                    )
                }),
            },
            _ => self.faults.push(Fault::of_file(
                path,
                "not a file of a policy bundle",
                "a bundle has authorise/NAME.cedar, redaction/NAME.json, require/NAME.cedar and tests/NAME.json, NAME of a-z, 0-9, `-`, `_`",
            )),
        }
    }

    fn read_redaction(&mut self, path: &str, content: &str) {
        let file: RedactionFile = match serde_json::from_str(content) {
            Ok(file) => file,
            Err(error) => {
                self.faults.push(Fault {
                    line: Some(error.line().max(1)),
                    ..Fault::of_file(
                        path,
                        format!("not a file of redaction rules: {error}"),
                        "write {\"rules\": [{\"name\": \"acme-token\", \"pattern\": \"acme_[0-9a-z]{32}\"}]}",
                    )
                });
                return;
            }
        };
        for rule in file.rules {
            let fault = if !is_own_name(&rule.name) {
                Some((
                    format!("a redaction rule cannot have the name `{}`", rule.name),
                    String::from("use 1 to 64 of a-z, 0-9, `-`, and no name that is built in"),
                ))
            } else if self.checked.redaction.contains_key(&rule.name) {
                Some((
                    format!("the redaction rule `{}` is defined twice", rule.name),
                    String::from("give each rule of the bundle a name of its own"),
                ))
            } else if self.checked.redaction.len() >= OWN_RULES_MAX {
                Some((
                    format!("the redaction rule `{}` is one too many", rule.name),
                    format!("define at most {OWN_RULES_MAX} rules in a bundle"),
                ))
            } else {
                check_pattern(&rule.name, &rule.pattern).err().map(|error| {
                    let why = std::error::Error::source(&error);
                    let why = why.map_or(String::new(), |source| format!(": {source}"));
                    (
                        format!("{error}{why}"),
                        String::from(
                            "write a regular expression over bytes, without look-around and \
                             back-references, that matches 4 bytes or more",
                        ),
                    )
                })
            };
            match fault {
                Some((problem, remedy)) => {
                    self.faults.push(Fault::of_file(path, problem, remedy));
                }
                None => {
                    self.checked.redaction.insert(rule.name, rule.pattern);
                }
            }
        }
    }

    fn read_policies(&mut self, path: &str, content: &str, kind: SetKind) {
        let set: PolicySet = match content.parse() {
            Ok(set) => set,
            Err(error) => {
                let detail = DetailedError::from(&error);
                self.faults
                    .push(fault_of_cedar(path, content, &detail, CORRECT_IT));
                return;
            }
        };
        if let Some(template) = set.templates().next() {
            let text = template.to_cedar();
            self.faults.push(Fault {
                line: content.find(&text).map(|offset| line_at(content, offset)),
                ..Fault::of_file(
                    path,
                    "templates (`?principal`, `?resource`) are not supported",
                    "name the principal or resource in the policy",
                )
            });
        }
        // The parser numbers policies in the order of the text and gives each its text back.
        let mut numbered: Vec<(usize, &Policy)> = set
            .policies()
            .filter_map(|policy| {
                let id = policy.id().to_string();
                let number = id.strip_prefix("policy")?;
                Some((number.parse().ok()?, policy))
            })
            .collect();
        numbered.sort_by_key(|(number, _)| *number);
        let mut offset = 0_usize;
        for (_, policy) in numbered {
            let text = policy.to_cedar().unwrap_or_default();
            let rest = content.get(offset..).unwrap_or_default();
            let start = rest.find(&text).unwrap_or(0).saturating_add(offset);
            offset = start.saturating_add(text.len());
            let policy_text = PolicyText {
                path,
                text: &text,
                line: line_at(content, start),
            };
            self.read_policy(policy, &policy_text, kind);
        }
    }

    fn read_policy(&mut self, policy: &Policy, text: &PolicyText<'_>, kind: SetKind) {
        let Some(id) = policy
            .annotation(requirements::ID)
            .filter(|id| is_policy_id(id))
        else {
            self.faults.push(text.fault(
                None,
                None,
                "the policy has no usable id",
                "begin it with @id(\"some-name\"), 1 to 64 of a-z, 0-9, `-`, `_`",
            ));
            return;
        };
        let named = policy.new_id(PolicyId::new(id));
        if let Some((file, line)) = self.checked.places.get(named.id()) {
            let problem = format!("the id is taken by the policy at {file}:{line}");
            let remedy = "give each policy of the bundle an id of its own";
            self.faults
                .push(text.fault(Some(id), Some(requirements::ID), &problem, remedy));
            return;
        }
        self.checked
            .places
            .insert(named.id().clone(), (text.path.to_owned(), text.line));
        let checked = match kind {
            SetKind::Authorise => requirements::check_authorise(policy.annotations()),
            SetKind::Require if policy.effect() == Effect::Forbid => Err(AnnotationFault {
                key: None,
                problem: String::from("a forbid policy has no effect in the require set"),
                remedy: String::from("write permit, or move the policy to a file under authorise/"),
            }),
            SetKind::Require => {
                requirements::parse_demand(id, policy.annotations()).and_then(|mut demand| {
                    requirements::define_redaction(&mut demand, &self.checked.redaction)?;
                    self.checked.demands.insert(named.id().clone(), demand);
                    Ok(())
                })
            }
        };
        if let Err(fault) = checked {
            let key = fault.key.as_deref();
            self.faults
                .push(text.fault(Some(id), key, &fault.problem, &fault.remedy));
        }
        match kind {
            SetKind::Authorise => self.checked.authorise.push(named),
            SetKind::Require => self.checked.require.push(named),
        }
    }

    /// Checks every policy against the schema. A policy that can never apply is refused as well: it is
    /// a misspelling, and a demand that never holds protects nothing.
    fn validate(&mut self, files: &BTreeMap<String, String>) -> Result<(), BundleError> {
        let schema = schema().map_err(|message| BundleError::Schema { message })?;
        let validator = Validator::new(schema.clone());
        let all = self
            .checked
            .authorise
            .iter()
            .chain(&self.checked.require)
            .cloned();
        let set = match PolicySet::from_policies(all) {
            Ok(set) => set,
            Err(error) => {
                // Ids were checked to be unique, so this is not reached; refusing is right regardless.
                let remedy = "give each policy of the bundle an id of its own";
                self.faults
                    .push(Fault::of_file("bundle", error.to_string(), remedy));
                return Ok(());
            }
        };
        let result = validator.validate(&set, ValidationMode::Strict);
        let mut found = Vec::new();
        let mut wrong: HashSet<&PolicyId> = HashSet::new();
        for error in result.validation_errors() {
            wrong.insert(error.policy_id());
            let detail = DetailedError::from(error);
            found.push(self.fault_of_policy(files, error.policy_id(), &detail, CORRECT_IT));
        }
        // A policy with an error is usually one that can never apply as well: once is enough.
        for warning in result.validation_warnings() {
            if !wrong.contains(warning.policy_id()) {
                let detail = DetailedError::from(warning);
                let remedy = "correct it or delete it: people act on accounts";
                found.push(self.fault_of_policy(files, warning.policy_id(), &detail, remedy));
            }
        }
        found.sort_by(|a, b| (&a.file, a.line, &a.problem).cmp(&(&b.file, b.line, &b.problem)));
        found.dedup();
        self.faults.extend(found);
        Ok(())
    }

    fn fault_of_policy(
        &self,
        files: &BTreeMap<String, String>,
        policy: &PolicyId,
        detail: &DetailedError,
        remedy: &str,
    ) -> Fault {
        let (path, line) = self.checked.places.get(policy).cloned().unwrap_or_default();
        let content = files.get(&path).map_or("", String::as_str);
        let fault = fault_of_cedar(&path, content, detail, remedy);
        let problem = fault
            .problem
            .strip_prefix(&format!("for policy `{policy}`"));
        Fault {
            line: fault.line.or(Some(line)),
            policy: Some(policy.to_string()),
            problem: problem.map_or(fault.problem.clone(), |problem| {
                problem.trim_start_matches([',', ':', ' ']).to_owned()
            }),
            ..fault
        }
    }
}

/// One policy's text and where it stands.
struct PolicyText<'a> {
    path: &'a str,
    text: &'a str,
    line: usize,
}

impl PolicyText<'_> {
    /// A fault of this policy, at the line of the annotation `key` when one is named.
    fn fault(&self, id: Option<&str>, key: Option<&str>, problem: &str, remedy: &str) -> Fault {
        let lines_before_key = key
            .and_then(|key| self.text.find(&format!("@{key}")))
            .map_or(0, |offset| line_at(self.text, offset).saturating_sub(1));
        Fault {
            file: self.path.to_owned(),
            line: Some(self.line.saturating_add(lines_before_key)),
            policy: id.map(str::to_owned),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

/// What Cedar says, at the line it says it of; its own advice before `remedy`.
fn fault_of_cedar(path: &str, content: &str, detail: &DetailedError, remedy: &str) -> Fault {
    let label = detail.source_locations.first();
    Fault {
        line: label.map(|label| line_at(content, label.loc.start)),
        ..Fault::of_file(
            path,
            detail.message.clone(),
            detail.help.clone().unwrap_or_else(|| remedy.to_owned()),
        )
    }
}

/// Folder and extension of a path that has exactly one of each around a plain name.
fn path_parts(path: &str) -> Option<(&str, &str)> {
    let (folder, file) = path.split_once('/')?;
    let (name, extension) = file.rsplit_once('.')?;
    let is_plain = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    is_plain.then_some((folder, extension))
}

fn is_policy_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}
