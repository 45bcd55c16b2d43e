//! A bundle: one immutable version of all policies, checked whole when it is loaded.
//!
//! Its files are `authorise/NAME.cedar` (permit and forbid policies), `require/NAME.cedar` (permit
//! policies whose annotations demand) and `tests/NAME.json`. Control loads what is applied, the
//! gateway what control sends it, the CLI what a directory holds.
//!
//! INVARIANT: a loaded bundle has no policy that is unnamed, ill-typed, never applicable or
//! misspelt; its hash names exactly its files.
//!
//! Not here: what an annotation means (`requirements.rs`), evaluating (`engine.rs`), running tests
//! (`check.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cedar_policy::{
    Effect, Policy, PolicyId, PolicySet, ValidationMode, Validator, ffi::DetailedError,
};
use sallyport_core::policy::{BundleHash, Demand};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    check::{TestCase, TestFile},
    fault::{Fault, line_at},
    requirements::{self, AnnotationFault},
    schema::schema,
    selection::PolicyIndex,
};

/// Most policies in one bundle, both sets together.
pub const POLICIES_MAX: usize = 5_000;
/// Most bytes in one bundle: paths and contents of all files.
pub const BUNDLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of a bundle's text form, where escapes may lengthen contents up to sixfold.
const TEXT_BYTES_MAX: usize = 7 * BUNDLE_BYTES_MAX;
/// Version of the text form.
const TEXT_VERSION: u32 = 1;
/// Beyond this many faults the rest is not worth listing.
const FAULTS_MAX: usize = 100;

/// One immutable version of all policies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) hash: BundleHash,
    pub(crate) authorise: PolicyIndex,
    pub(crate) require: PolicyIndex,
    /// What each policy of the require set adds.
    pub(crate) demands: HashMap<PolicyId, Demand>,
    /// Where each policy stands: path and line.
    pub(crate) places: HashMap<PolicyId, (String, usize)>,
    /// Tests by file.
    pub(crate) tests: BTreeMap<String, Vec<TestCase>>,
}

/// Why a bundle was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The author must make it smaller.
    #[error("load a policy bundle of {bytes} bytes: the limit is {BUNDLE_BYTES_MAX}")]
    TooLarge {
        /// Size of its files and paths.
        bytes: usize,
    },
    /// The author must merge or drop policies.
    #[error("load a policy bundle of {count} policies: the limit is {POLICIES_MAX}")]
    TooManyPolicies {
        /// How many there are.
        count: usize,
    },
    /// The author must mend what the faults name.
    #[error("load a policy bundle: {}", list(.faults))]
    Faulty {
        /// At least one, at most a hundred.
        faults: Vec<Fault>,
    },
    /// The text form was damaged, or written by another version.
    #[error("read the text form of a policy bundle")]
    Text(#[source] serde_json::Error),
    /// The text form is of a version this program does not know.
    #[error("read the text form of a policy bundle: version {version} is not {TEXT_VERSION}")]
    TextVersion {
        /// The version it claims.
        version: u32,
    },
    /// A fault of this program: the generated schema does not parse.
    #[error("parse the generated schema: {message}")]
    Schema {
        /// What Cedar said.
        message: &'static str,
    },
}

fn list(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(Fault::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SetKind {
    Authorise,
    Require,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleText {
    version: u32,
    files: BTreeMap<String, String>,
}

impl Bundle {
    /// Checks the files, by path within the bundle, and makes them a bundle.
    ///
    /// # Errors
    /// A [`BundleError`] that lists what to mend.
    pub fn load(files: &BTreeMap<String, String>) -> Result<Self, BundleError> {
        let bytes = files
            .iter()
            .map(|(path, content)| path.len().saturating_add(content.len()))
            .fold(0_usize, usize::saturating_add);
        if bytes > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge { bytes });
        }
        let mut loader = Loader::default();
        for (path, content) in files {
            loader.read_file(path, content);
        }
        let count = loader.authorise.len().saturating_add(loader.require.len());
        if count > POLICIES_MAX {
            return Err(BundleError::TooManyPolicies { count });
        }
        loader.validate(files)?;
        if !loader.faults.is_empty() {
            loader.faults.truncate(FAULTS_MAX);
            return Err(BundleError::Faulty {
                faults: loader.faults,
            });
        }
        Ok(Self {
            inner: Arc::new(Inner {
                files: files.clone(),
                hash: hash(files),
                authorise: PolicyIndex::new(loader.authorise),
                require: PolicyIndex::new(loader.require),
                demands: loader.demands,
                places: loader.places,
                tests: loader.tests,
            }),
        })
    }

    /// The hash that names this version: SHA-256 over its files, lower-case hex.
    #[must_use]
    pub fn hash(&self) -> &BundleHash {
        &self.inner.hash
    }

    /// Its files by path.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, String> {
        &self.inner.files
    }

    /// How many policies it has, both sets together.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        let authorise = self.inner.authorise.policies().len();
        authorise.saturating_add(self.inner.require.policies().len())
    }

    /// The bundle as one text, for storing it and for sending it to a gateway.
    #[must_use]
    pub fn to_text(&self) -> String {
        let text = BundleText {
            version: TEXT_VERSION,
            files: self.inner.files.clone(),
        };
        // A number and a map of strings always encode.
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// Loads a bundle from its text form, checking it whole again.
    ///
    /// # Errors
    /// A [`BundleError`].
    pub fn from_text(text: &str) -> Result<Self, BundleError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(BundleError::TooLarge { bytes: text.len() });
        }
        let text: BundleText = serde_json::from_str(text).map_err(BundleError::Text)?;
        if text.version != TEXT_VERSION {
            return Err(BundleError::TextVersion {
                version: text.version,
            });
        }
        Self::load(&text.files)
    }
}

/// SHA-256 over every path and content in order, each with its length before it, so that no two
/// different bundles are the same bytes.
fn hash(files: &BTreeMap<String, String>) -> BundleHash {
    let mut hasher = Sha256::new();
    hasher.update(b"sallyport policy bundle v1");
    for part in files.iter().flat_map(|(path, content)| [path, content]) {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    BundleHash(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What has been read so far, and what was wrong with it.
#[derive(Default)]
struct Loader {
    authorise: Vec<Policy>,
    require: Vec<Policy>,
    demands: HashMap<PolicyId, Demand>,
    places: HashMap<PolicyId, (String, usize)>,
    tests: BTreeMap<String, Vec<TestCase>>,
    faults: Vec<Fault>,
}

impl Loader {
    fn read_file(&mut self, path: &str, content: &str) {
        match path_parts(path) {
            Some(("authorise", "cedar")) => self.read_policies(path, content, SetKind::Authorise),
            Some(("require", "cedar")) => self.read_policies(path, content, SetKind::Require),
            Some(("tests", "json")) => match serde_json::from_str::<TestFile>(content) {
                Ok(file) => {
                    self.tests.insert(path.to_owned(), file.tests);
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
                "a bundle has authorise/NAME.cedar, require/NAME.cedar and tests/NAME.json, NAME of a-z, 0-9, `-`, `_`",
            )),
        }
    }

    fn read_policies(&mut self, path: &str, content: &str, kind: SetKind) {
        let set: PolicySet = match content.parse() {
            Ok(set) => set,
            Err(error) => {
                let detail = DetailedError::from(&error);
                self.faults
                    .push(fault_of_cedar(path, content, None, &detail));
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
        if let Some((file, line)) = self.places.get(named.id()) {
            let problem = format!("the id is taken by the policy at {file}:{line}");
            let remedy = "give each policy of the bundle an id of its own";
            self.faults
                .push(text.fault(Some(id), Some(requirements::ID), &problem, remedy));
            return;
        }
        self.places
            .insert(named.id().clone(), (text.path.to_owned(), text.line));
        let checked = match kind {
            SetKind::Authorise => requirements::check_authorise(policy.annotations()),
            SetKind::Require if policy.effect() == Effect::Forbid => Err(AnnotationFault {
                key: None,
                problem: String::from("a forbid policy has no effect in the require set"),
                remedy: String::from("write permit, or move the policy to a file under authorise/"),
            }),
            SetKind::Require => {
                requirements::parse_demand(id, policy.annotations()).map(|demand| {
                    self.demands.insert(named.id().clone(), demand);
                })
            }
        };
        if let Err(fault) = checked {
            let key = fault.key.as_deref();
            self.faults
                .push(text.fault(Some(id), key, &fault.problem, &fault.remedy));
        }
        match kind {
            SetKind::Authorise => self.authorise.push(named),
            SetKind::Require => self.require.push(named),
        }
    }

    /// Checks every policy against the schema. A policy that can never apply is refused as well: it is
    /// a misspelling, and a demand that never holds protects nothing.
    fn validate(&mut self, files: &BTreeMap<String, String>) -> Result<(), BundleError> {
        let schema = schema().map_err(|message| BundleError::Schema { message })?;
        let validator = Validator::new(schema.clone());
        let all = self.authorise.iter().chain(&self.require).cloned();
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
        let errors = result
            .validation_errors()
            .map(|error| (error.policy_id(), DetailedError::from(error)));
        let warnings = result
            .validation_warnings()
            .map(|warning| (warning.policy_id(), DetailedError::from(warning)));
        let mut found: Vec<Fault> = errors
            .chain(warnings)
            .map(|(policy, detail)| {
                let (path, line) = self.places.get(policy).cloned().unwrap_or_default();
                let content = files.get(&path).map_or("", String::as_str);
                let fault = fault_of_cedar(&path, content, Some(policy), &detail);
                Fault {
                    line: fault.line.or(Some(line)),
                    ..fault
                }
            })
            .collect();
        found.sort_by(|a, b| (&a.file, a.line, &a.problem).cmp(&(&b.file, b.line, &b.problem)));
        found.dedup();
        self.faults.extend(found);
        Ok(())
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

fn fault_of_cedar(
    path: &str,
    content: &str,
    policy: Option<&PolicyId>,
    detail: &DetailedError,
) -> Fault {
    let prefix = policy.map(|id| format!("for policy `{id}`, "));
    let problem = prefix
        .as_deref()
        .and_then(|prefix| detail.message.strip_prefix(prefix))
        .unwrap_or(&detail.message);
    Fault {
        file: path.to_owned(),
        line: detail
            .source_locations
            .first()
            .map(|label| line_at(content, label.loc.start)),
        policy: policy.map(ToString::to_string),
        problem: problem.to_owned(),
        remedy: detail.help.clone().unwrap_or_else(|| {
            String::from("`sallyport policy schema` prints what policies may read")
        }),
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

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
