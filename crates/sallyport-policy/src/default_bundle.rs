//! The bundle that a new installation starts with: safe without a single edit, and small enough to be
//! read in five minutes.
//!
//! Its files are under `default_bundle/` of this crate. Control applies them when no other bundle has
//! ever been applied.

use std::collections::BTreeMap;

use crate::bundle::{Bundle, BundleError};

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        [$(($path, include_str!(concat!("../default_bundle/", $path)))),+]
    };
}

const FILES: [(&str, &str); 7] = files![
    "authorise/access.cedar",
    "authorise/guardrails.cedar",
    "require/break_glass.cedar",
    "require/sessions.cedar",
    "tests/break_glass.json",
    "tests/operations.json",
    "tests/operators.json",
];

/// The files of the default bundle, by path.
#[must_use]
pub fn default_files() -> BTreeMap<String, String> {
    FILES
        .into_iter()
        .map(|(path, content)| (path.to_owned(), content.to_owned()))
        .collect()
}

/// The default bundle.
///
/// # Errors
/// None in a program that passed its tests: they load it.
pub fn default_bundle() -> Result<Bundle, BundleError> {
    Bundle::load(&default_files())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PO-1, PO-2, PO-3: every answer of the default bundle that its tests describe.
    #[test]
    fn the_default_bundle_loads_and_passes_its_own_tests() {
        let report = default_bundle().unwrap().test();
        let failed: Vec<_> = report
            .outcomes
            .iter()
            .filter(|outcome| !outcome.failures.is_empty())
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert!(report.outcomes.len() >= 25, "{}", report.outcomes.len());
    }

    #[test]
    fn no_policy_of_the_default_bundle_is_untested() {
        let bundle = default_bundle().unwrap();
        assert_eq!(bundle.test().untested(&bundle), Vec::<String>::new());
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_bundle() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/default_bundle");
        let mut found = Vec::new();
        for set in std::fs::read_dir(folder).unwrap() {
            let set = set.unwrap();
            for file in std::fs::read_dir(set.path()).unwrap() {
                let names = [set.file_name(), file.unwrap().file_name()];
                found.push(names.map(|name| name.into_string().unwrap()).join("/"));
            }
        }
        found.sort();
        let embedded: Vec<String> = default_files().into_keys().collect();
        assert_eq!(found, embedded);
    }
}
