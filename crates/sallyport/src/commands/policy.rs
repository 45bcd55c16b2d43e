//! `sallyport policy …`: policies as files, checked and tested here, applied there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use sallyport_api::rest::policy::{BundleFiles, BundleView, Explain, Explanation, Rollback};
use sallyport_core::inventory::Selector;
use sallyport_policy::{BUNDLE_BYTES_MAX, Bundle, BundleError, default_files, schema_text};
use serde_json::json;

use crate::{
    client::NOTHING,
    context::Context,
    failure::{Exit, Failure, chain},
    files::{self, Readers},
    output::{Column, joined, minute},
};

use super::{Limit, account_on_target, print_listed};

/// The folders of a bundle, and the extension of the files in each.
const SETS: [(&str, &str); 3] = [
    ("authorise", "cedar"),
    ("require", "cedar"),
    ("tests", "json"),
];

/// Policies: who may ask for what, and what it takes
#[derive(Debug, clap::Args)]
pub struct Policy {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the default policies into a new folder, to be changed
    Init {
        /// Folder to make
        dir: PathBuf,
    },
    /// Check the policies of a folder: syntax, types, annotations
    Check {
        /// Folder with authorise/, require/ and tests/
        dir: PathBuf,
    },
    /// Run the tests of a folder of policies
    Test {
        /// Folder with authorise/, require/ and tests/
        dir: PathBuf,
    },
    /// Bring the policies of a folder into force, if they load and pass their tests
    Apply {
        /// Folder with authorise/, require/ and tests/
        dir: PathBuf,
    },
    /// List versions, newest first
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Print the policies in force, or write them into a new folder
    Show {
        /// Folder to make
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Print what policies can speak of, as a Cedar schema
    Schema,
    /// Bring an earlier version back into force
    Rollback {
        /// Version, as `policy list` prints it; the one before when left out
        #[arg(long)]
        version: Option<u64>,
    },
    /// Show what would be decided now, by which policies, and what would change it
    Explain(ExplainArgs),
}

#[derive(Debug, clap::Args)]
struct ExplainArgs {
    /// Who
    person: String,
    /// On what, such as root@web-1
    #[arg(value_name = "ACCOUNT@TARGET", value_parser = account_on_target)]
    on: Selector,
    /// `request.create` or `session.open`
    #[arg(long)]
    action: Option<String>,
    /// Reason that would be given
    #[arg(long, default_value = "")]
    reason: String,
    /// Ticket that would be given
    #[arg(long)]
    ticket: Option<String>,
}

impl Policy {
    /// Works on a folder, or calls `/v1/policies`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Init { dir } => init(context, &dir),
            Verb::Check { dir } => check(context, &dir),
            Verb::Test { dir } => test(context, &dir),
            Verb::Apply { dir } => apply(context, &dir).await,
            Verb::List { limit } => {
                let versions = context
                    .client()?
                    .list(&["policies"], &[], limit.limit)
                    .await?;
                print_listed(context.output, &versions, &COLUMNS)
            }
            Verb::Show { directory } => show(context, directory).await,
            Verb::Schema => context.output.text(&schema_text()),
            Verb::Rollback { version } => {
                let view: BundleView = context
                    .client()?
                    .post(&["policies", "rollback"], &Rollback { version })
                    .await?;
                context.output.done(&view, &in_force(&view))
            }
            Verb::Explain(args) => args.run(context).await,
        }
    }
}

fn init(context: &Context, dir: &Path) -> Result<(), Failure> {
    write_bundle(dir, &default_files())?;
    context.output.done(
        &json!({ "directory": dir }),
        &format!("wrote the default policies to `{}`", dir.display()),
    )
}

fn check(context: &Context, dir: &Path) -> Result<(), Failure> {
    let bundle = load(dir)?;
    context.output.done(
        &json!({ "bundle": bundle.hash().to_string(), "policies": bundle.policy_count() }),
        &format!(
            "{} policies, bundle {}",
            bundle.policy_count(),
            bundle.hash()
        ),
    )
}

fn test(context: &Context, dir: &Path) -> Result<(), Failure> {
    let bundle = load(dir)?;
    let report = bundle.test();
    let failed: Vec<_> = report
        .outcomes
        .iter()
        .filter(|outcome| !outcome.failures.is_empty())
        .collect();
    for outcome in &failed {
        context
            .output
            .note(&format!("failed: {}: {}", outcome.file, outcome.name))?;
        for failure in &outcome.failures {
            context.output.note(&format!("    {failure}"))?;
        }
    }
    let untested = report.untested(&bundle);
    for policy in &untested {
        context
            .output
            .note(&format!("no test reaches policy `{policy}`"))?;
    }
    let passed = report.outcomes.len().saturating_sub(failed.len());
    context.output.done(
        &json!({
            "passed": passed,
            "failed": failed
                .iter()
                .map(|outcome| json!({
                    "file": outcome.file,
                    "name": outcome.name,
                    "failures": outcome.failures,
                }))
                .collect::<Vec<_>>(),
            "untested": untested,
        }),
        &format!("{passed} passed, {} failed", failed.len()),
    )?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Unverified,
        "the policies do not answer as their tests say",
        "mend the policies or the tests; nothing was applied",
    ))
}

async fn apply(context: &Context, dir: &Path) -> Result<(), Failure> {
    let bundle = load(dir)?;
    let body = BundleFiles {
        files: bundle.files().clone(),
    };
    let view: BundleView = context.client()?.post(&["policies"], &body).await?;
    context.output.done(&view, &in_force(&view))
}

async fn show(context: &Context, directory: Option<PathBuf>) -> Result<(), Failure> {
    let bundle: BundleFiles = context
        .client()?
        .get(&["policies", "current"], &NOTHING)
        .await?;
    if let Some(dir) = directory {
        write_bundle(&dir, &bundle.files)?;
        let line = format!("wrote {} files to `{}`", bundle.files.len(), dir.display());
        return context.output.done(&json!({ "directory": dir }), &line);
    }
    if context.output.format() == crate::output::Format::Json {
        return context.output.done(&bundle, "");
    }
    for (path, content) in &bundle.files {
        context.output.text(&format!("// {path}\n{content}"))?;
    }
    Ok(())
}

impl ExplainArgs {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let body = Explain {
            person: self.person,
            account: self.on.account.to_string(),
            target: self.on.target.to_string(),
            action: self.action,
            reason: self.reason,
            ticket: self.ticket,
        };
        let explanation: Explanation = context
            .client()?
            .post(&["policies", "explain"], &body)
            .await?;
        context.output.record(
            &explanation,
            &[
                ("outcome", explanation.outcome.clone()),
                ("reasons", joined(&explanation.reasons)),
                ("missing", lines(&explanation.unmet)),
                ("would change it", lines(&explanation.remedies)),
                ("decided by", lines(&explanation.determining)),
                ("demanded by", lines(&explanation.demanding)),
                ("bundle", explanation.bundle.clone().unwrap_or_default()),
            ],
        )
    }
}

fn lines(items: &[String]) -> String {
    if items.is_empty() {
        "-".to_owned()
    } else {
        items.join("\n")
    }
}

fn in_force(view: &BundleView) -> String {
    format!("version {} is in force: {}", view.version, view.bundle)
}

const COLUMNS: [Column<BundleView>; 5] = [
    Column::whole("VERSION", |view: &BundleView| view.version.to_string()),
    Column::new("", |view| {
        if view.is_current { "in force" } else { "" }.to_owned()
    }),
    Column::new("BY", |view| view.applied_by.clone()),
    Column::new("WHEN", |view| minute(view.applied_at)),
    Column::new("BUNDLE", |view| view.bundle.chars().take(20).collect()),
];

fn load(dir: &Path) -> Result<Bundle, Failure> {
    Bundle::load(&read_bundle(dir)?).map_err(|error| match &error {
        BundleError::Faulty { faults } => Failure::new(
            Exit::Unverified,
            format!(
                "the policies in `{}` have {} fault(s):\n{}",
                dir.display(),
                faults.len(),
                faults
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
            "mend what each line names",
        ),
        _ => Failure::new(Exit::Unverified, chain(&error), "mend the policies"),
    })
}

/// The files of a bundle in a folder, by path within it.
pub(super) fn read_bundle(dir: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut bundle = BTreeMap::new();
    let mut bytes = 0_usize;
    for (set, extension) in SETS {
        let folder = dir.join(set);
        if !folder.is_dir() {
            continue;
        }
        let unreadable = |error: std::io::Error| {
            Failure::failed(
                format!("read `{}`: {error}", folder.display()),
                "check the folder's permissions",
            )
        };
        for item in fs::read_dir(&folder).map_err(unreadable)? {
            let path = item.map_err(unreadable)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if path.extension().is_none_or(|found| found != extension) || name.starts_with('.') {
                continue;
            }
            let content = files::read_text(&path)?;
            bytes = bytes.saturating_add(content.len());
            if bytes > BUNDLE_BYTES_MAX {
                return Err(Failure::failed(
                    format!("the policies in `{}` are larger than 4 MiB", dir.display()),
                    "merge or drop some",
                ));
            }
            bundle.insert(format!("{set}/{name}"), content);
        }
    }
    if bundle.is_empty() {
        return Err(Failure::failed(
            format!("there are no policies in `{}`", dir.display()),
            "start with `sallyport policy init DIR`",
        ));
    }
    Ok(bundle)
}

/// Writes a bundle into a folder that is new or empty.
fn write_bundle(dir: &Path, bundle: &BTreeMap<String, String>) -> Result<(), Failure> {
    let is_taken = fs::read_dir(dir).is_ok_and(|mut items| items.next().is_some());
    if is_taken {
        return Err(Failure::failed(
            format!("`{}` is not empty", dir.display()),
            "name a new folder; nothing was overwritten",
        ));
    }
    for (path, content) in bundle {
        // Paths come from a server: only the ones that bundles have may be written.
        let is_known = path.split_once('/').is_some_and(|(set, name)| {
            SETS.iter().any(|(known, _)| *known == set)
                && !name.contains('/')
                && !name.starts_with('.')
        });
        if !is_known {
            return Err(Failure::failed(
                format!("the bundle has a file `{path}`, which no bundle has"),
                "check that the server is Sallyport and of the same version",
            ));
        }
        files::write(&dir.join(path), content.as_bytes(), Readers::Everybody)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PO-4
    #[test]
    fn what_init_writes_is_read_back_as_the_default_bundle() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("policies");
        write_bundle(&dir, &default_files()).unwrap();
        assert_eq!(read_bundle(&dir).unwrap(), default_files());
        assert!(load(&dir).unwrap().test().failed() == 0);
        assert!(write_bundle(&dir, &default_files()).is_err(), "overwritten");
    }

    #[test]
    fn a_server_cannot_write_outside_the_folder() {
        let home = tempfile::tempdir().unwrap();
        for path in [
            "../evil",
            "authorise/../../evil",
            "/etc/evil",
            "authorise/.bashrc",
            "x/y",
        ] {
            let bundle = BTreeMap::from([(path.to_owned(), String::new())]);
            assert!(
                write_bundle(&home.path().join("dir"), &bundle).is_err(),
                "{path}"
            );
        }
    }
}
