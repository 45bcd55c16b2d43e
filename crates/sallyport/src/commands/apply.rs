//! `sallyport apply -f DIR`: everything as files.
//!
//! The folder holds `targets/`, `accounts/` and `people/` with one TOML or JSON file for each thing, and
//! `policies/` as `policy init` writes it; each may be missing. What is listed is made so in one
//! transaction; what is not listed stays.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sallyport_api::rest::{
    apply::{Applied, ApplyQuery, Wanted},
    policy::BundleFiles,
};
use serde::de::DeserializeOwned;

use crate::{context::Context, failure::Failure, files};

use super::policy::read_bundle;

/// Most files in one folder.
const FILES_MAX: usize = 10_000;

/// Make targets, accounts, people and policies as files say, and print what changes
#[derive(Debug, clap::Args)]
pub struct Apply {
    /// Folder with targets/, accounts/, people/ and policies/
    #[arg(short = 'f', long = "folder", value_name = "DIR")]
    folder: PathBuf,
    /// Only print what would change
    #[arg(long)]
    dry_run: bool,
}

impl Apply {
    /// Calls `/v1/apply`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let wanted = read_wanted(&self.folder)?;
        let query = ApplyQuery {
            dry_run: self.dry_run,
        };
        let client = context.client()?;
        let applied: Applied = client.post_with(&["apply"], &query, &wanted).await?;
        print(context, &applied)
    }
}

fn print(context: &Context, applied: &Applied) -> Result<(), Failure> {
    let mut text = String::new();
    for change in &applied.changes {
        let sign = match change.verb.as_str() {
            "create" => '+',
            "change" => '~',
            _ => continue,
        };
        text.push_str(&format!("{sign} {} {}\n", change.noun, change.name));
        for difference in &change.differences {
            text.push_str(&format!("    {difference}\n"));
        }
    }
    let count = text.lines().filter(|line| !line.starts_with(' ')).count();
    text.push_str(&match (count, applied.is_applied) {
        (0, _) => "nothing changes".to_owned(),
        (count, true) => format!("{count} changed"),
        (count, false) => format!("{count} would change"),
    });
    match context.output.format() {
        crate::output::Format::Table => context.output.text(&text),
        crate::output::Format::Json => context.output.done(applied, ""),
    }
}

fn read_wanted(folder: &Path) -> Result<Wanted, Failure> {
    if !folder.is_dir() {
        return Err(Failure::failed(
            format!("`{}` is no folder", folder.display()),
            "name the folder that holds targets/, accounts/, people/ or policies/",
        ));
    }
    let policies = folder.join("policies");
    let wanted = Wanted {
        targets: read_specs(&folder.join("targets"))?,
        accounts: read_specs(&folder.join("accounts"))?,
        people: read_specs(&folder.join("people"))?,
        policies: if policies.is_dir() {
            Some(BundleFiles {
                files: read_bundle(&policies)?,
            })
        } else {
            None
        },
    };
    if wanted == Wanted::default() {
        return Err(Failure::failed(
            format!("`{}` holds nothing to apply", folder.display()),
            "put files under targets/, accounts/, people/ or policies/",
        ));
    }
    Ok(wanted)
}

/// The things in the `.toml` and `.json` files of a folder, by file name; none when there is no folder.
fn read_specs<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>, Failure> {
    let mut specs = Vec::new();
    for path in files_of(folder)? {
        let text = files::read_text(&path)?;
        let spec = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => toml::from_str(&text).map_err(|error| error.to_string()),
            Some("json") => serde_json::from_str(&text).map_err(|error| error.to_string()),
            _ => Err("its name ends neither in .toml nor in .json".to_owned()),
        };
        specs.push(spec.map_err(|problem| {
            Failure::failed(
                format!("read `{}`: {problem}", path.display()),
                "mend the file; nothing was applied",
            )
        })?);
    }
    Ok(specs)
}

/// The files of a folder in the order of their names, hidden ones left out.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for item in fs::read_dir(folder)?.take(FILES_MAX) {
            let item = item?;
            if !item.file_name().to_string_lossy().starts_with('.') {
                paths.push(item.path());
            }
        }
        paths.sort();
        Ok(paths)
    };
    read().map_err(|error| {
        Failure::failed(
            format!("read `{}`: {error}", folder.display()),
            "check the folder's permissions",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        home
    }

    #[test]
    fn a_folder_of_files_is_read_as_what_is_wanted() {
        let home = folder(&[
            (
                "targets/web-1.toml",
                "name = \"web-1\"\nprotocol = \"ssh\"\naddress = \"10.0.0.1:22\"\nsensitivity = \"medium\"\n",
            ),
            (
                "accounts/root.json",
                r#"{"target": "web-1", "name": "root", "engine": "ssh_ca"}"#,
            ),
            ("accounts/.swp", "of an editor"),
            ("policies/authorise/a.cedar", "// none"),
        ]);
        let wanted = read_wanted(home.path()).unwrap();
        assert_eq!(wanted.targets[0].name, "web-1");
        assert_eq!(wanted.accounts[0].engine, "ssh_ca");
        assert!(wanted.people.is_empty());
        assert!(
            wanted
                .policies
                .unwrap()
                .files
                .contains_key("authorise/a.cedar")
        );
    }

    #[test]
    fn a_field_that_does_not_exist_is_named_with_its_file() {
        let home = folder(&[("people/bob.toml", "name = \"bob\"\nrole = \"owner\"\n")]);
        let mut told = Vec::new();
        read_wanted(home.path())
            .unwrap_err()
            .print(crate::output::Format::Table, &mut told)
            .unwrap();
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains("bob.toml") && told.contains("role"), "{told}");
    }

    #[test]
    fn an_empty_folder_is_a_mistake() {
        assert!(read_wanted(folder(&[]).path()).is_err());
    }
}
