//! What the command line remembers between calls: which server, the authority that vouches for it, and
//! the token of who is signed in.
//!
//! A profile is a folder: `profile.toml`, `ca.pem` (a copy, so that trust does not follow a file that
//! somebody else may change), `token` (0600), `known_hosts` and `ssh_config` for stock SSH clients, and
//! `log.vkey`, the audit log's public key.
//!
//! INVARIANT: no authority but the profile's, or the one named by flag, vouches for the server; the
//! system's are not asked.

use std::path::{Path, PathBuf};

use sallyport_api::sensitive::Sensitive;
use serde::{Deserialize, Serialize};

use crate::{
    context::Flags,
    failure::Failure,
    files::{self, Readers},
};

/// A profile on disk, with what the flags of this call put in its place.
#[derive(Debug)]
pub struct Profile {
    name: String,
    folder: PathBuf,
    token_file: Option<PathBuf>,
    server: Option<String>,
    ca: Option<Ca>,
    /// The SSH certificate that `login` wrote, so that no certificate of somebody else's is replaced.
    ssh_certificate: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Ca {
    path: PathBuf,
    pem: String,
}

/// `profile.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    server: Option<String>,
    ssh_certificate: Option<PathBuf>,
}

impl Profile {
    /// Reads the profile that the flags choose; one that does not exist yet is empty.
    pub fn open(flags: &Flags) -> Result<Self, Failure> {
        let is_plain = !flags.profile.is_empty()
            && flags.profile.len() <= 64
            && flags
                .profile
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !is_plain {
            return Err(Failure::usage(
                format!("`{}` is no name of a profile", flags.profile),
                "use 1 to 64 letters, digits, `-` and `_`",
            ));
        }
        let folder = configuration_folder(flags)?.join(&flags.profile);
        let stored: Stored = match files::read_text_if_any(&folder.join("profile.toml"))? {
            None => Stored::default(),
            Some(text) => toml::from_str(&text).map_err(|error| {
                Failure::failed(
                    format!("read `{}`: {error}", folder.join("profile.toml").display()),
                    "mend the file, or remove it and sign in again",
                )
            })?,
        };
        let ca = match &flags.ca {
            Some(path) => Some(Ca {
                path: path.clone(),
                pem: files::read_text(path)?,
            }),
            None => {
                let path = folder.join("ca.pem");
                files::read_text_if_any(&path)?.map(|pem| Ca { path, pem })
            }
        };
        Ok(Self {
            name: flags.profile.clone(),
            token_file: flags.token_file.clone(),
            server: flags.server.clone().or(stored.server),
            ca,
            ssh_certificate: stored.ssh_certificate,
            folder,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's URL.
    pub fn server(&self) -> Result<&str, Failure> {
        self.server.as_deref().ok_or_else(|| {
            Failure::usage(
                format!("profile `{}` names no server", self.name),
                "pass `--server https://HOST:7443 --ca FILE`; `sallyport login` keeps both",
            )
        })
    }

    /// The authority that vouches for the server: where its certificate was read, and the PEM text.
    pub fn ca(&self) -> Result<(&Path, &str), Failure> {
        match &self.ca {
            Some(ca) => Ok((&ca.path, &ca.pem)),
            None => Err(Failure::usage(
                format!(
                    "profile `{}` has no authority that vouches for the server",
                    self.name
                ),
                "pass `--ca FILE` with the server's `ca.pem`, from somebody you trust",
            )),
        }
    }

    /// Keeps server and authority for later calls.
    pub fn keep_server(&self) -> Result<(), Failure> {
        let (_, pem) = self.ca()?;
        files::write(&self.file("ca.pem"), pem.as_bytes(), Readers::Everybody)?;
        self.keep(self.ssh_certificate.clone())
    }

    /// Remembers which SSH certificate is ours.
    pub fn keep_ssh_certificate(&self, path: &Path) -> Result<(), Failure> {
        self.keep(Some(path.to_owned()))
    }

    fn keep(&self, ssh_certificate: Option<PathBuf>) -> Result<(), Failure> {
        let stored = Stored {
            server: self.server.clone(),
            ssh_certificate,
        };
        let text = toml::to_string(&stored)
            .map_err(|error| Failure::of(&error, "use another server URL"))?;
        files::write(
            &self.file("profile.toml"),
            text.as_bytes(),
            Readers::Everybody,
        )
    }

    /// The SSH certificate that an earlier sign-in wrote.
    pub fn ssh_certificate(&self) -> Option<&Path> {
        self.ssh_certificate.as_deref()
    }

    /// The token, if there is one.
    pub fn token(&self) -> Result<Option<Sensitive>, Failure> {
        let text = match &self.token_file {
            Some(path) => Some(files::read_text(path)?),
            None => files::read_text_if_any(&self.file("token"))?,
        };
        Ok(text
            .map(|text| text.trim().to_owned())
            .filter(|token| !token.is_empty())
            .map(Sensitive::new))
    }

    /// Keeps the token of a sign-in.
    pub fn keep_token(&self, token: &Sensitive) -> Result<(), Failure> {
        files::write(
            &self.file("token"),
            token.expose().as_bytes(),
            Readers::Owner,
        )
    }

    /// Forgets the token.
    pub fn forget_token(&self) -> Result<(), Failure> {
        files::remove_if_any(&self.file("token"))
    }

    /// A file of the profile.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn configuration_folder(flags: &Flags) -> Result<PathBuf, Failure> {
    if let Some(folder) = &flags.config_directory {
        return Ok(folder.clone());
    }
    // The specification: a relative path is to be ignored.
    if let Some(home) = flags
        .xdg_config_home
        .as_ref()
        .filter(|path| path.is_absolute())
    {
        return Ok(home.join("sallyport"));
    }
    std::env::home_dir()
        .filter(|home| home.is_absolute())
        .map(|home| home.join(".config/sallyport"))
        .ok_or_else(|| {
            Failure::usage(
                "there is no home folder to keep a profile in",
                "set `SALLYPORT_CONFIG_DIRECTORY`",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    fn flags(folder: &Path) -> Flags {
        Flags {
            output: Format::Table,
            profile: "alice".to_owned(),
            server: None,
            ca: None,
            token_file: None,
            config_directory: Some(folder.to_owned()),
            xdg_config_home: None,
        }
    }

    #[test]
    fn given_a_server_that_was_kept_then_later_calls_use_it_and_its_copied_authority() {
        let home = tempfile::tempdir().unwrap();
        let ca = home.path().join("given.pem");
        std::fs::write(&ca, "PEM").unwrap();
        let first = Flags {
            server: Some("https://localhost:7443".to_owned()),
            ca: Some(ca.clone()),
            ..flags(home.path())
        };
        Profile::open(&first).unwrap().keep_server().unwrap();
        std::fs::write(&ca, "changed by somebody").unwrap();

        let later = Profile::open(&flags(home.path())).unwrap();
        assert_eq!(later.server().unwrap(), "https://localhost:7443");
        assert_eq!(later.ca().unwrap().1, "PEM");
        assert_eq!(later.token().unwrap(), None);
    }

    #[test]
    fn given_a_profile_name_that_is_a_path_then_it_is_refused() {
        let home = tempfile::tempdir().unwrap();
        for name in ["", "../bob", "a/b", ".", "a b"] {
            let flags = Flags {
                profile: name.to_owned(),
                ..flags(home.path())
            };
            assert!(Profile::open(&flags).is_err(), "{name}");
        }
    }
}
