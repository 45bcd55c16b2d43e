//! A bundle: one immutable version of all policies, checked whole when it is loaded.
//!
//! Its files are `authorise/NAME.cedar` (permit and forbid policies), `require/NAME.cedar` (permit
//! policies whose annotations demand), `redaction/NAME.json` (patterns) and `tests/NAME.json`. Control loads what is applied, the
//! gateway what control sends it, the CLI what a directory holds.
//!
//! INVARIANT: a loaded bundle has no policy that is unnamed, ill-typed, never applicable or
//! misspelt; its hash names exactly its files.
//!
//! Not here: reading and checking the files (`loader.rs`), evaluating (`engine.rs`), running tests
//! (`check.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cedar_policy::PolicyId;
use sallyport_core::policy::{BundleHash, Demand};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{check::TestCase, fault::Fault, loader, memory::Memory, selection::PolicyIndex};

/// Most policies in one bundle, both sets together.
pub const POLICIES_MAX: usize = 5_000;
/// Most bytes in one bundle: paths and contents of all files.
pub const BUNDLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of a bundle's text form, where escapes may lengthen contents up to sixfold.
const TEXT_BYTES_MAX: usize = 7 * BUNDLE_BYTES_MAX;
/// Version of the text form.
const TEXT_VERSION: u32 = 1;

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
    pub(crate) memory: Memory,
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
        let checked = loader::check(files)?;
        Ok(Self {
            inner: Arc::new(Inner {
                files: files.clone(),
                hash: hash(files),
                authorise: PolicyIndex::new(checked.authorise),
                require: PolicyIndex::new(checked.require),
                demands: checked.demands,
                places: checked.places,
                tests: checked.tests,
                memory: Memory::default(),
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

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
