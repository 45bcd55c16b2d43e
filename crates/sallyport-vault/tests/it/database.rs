//! What the stories of engines of database users share: a server with a root account, a vault that knows its password,
//! and an account whose users the engine makes there.
//!
//! `postgres` and `mysql` say which server, and hold what their engine promises.

use std::{
    path::Path,
    process::{Command, Output},
};

use sallyport_core::{id::LeaseId, lease::Lease, secret::Secret, time::Timestamp};
use sallyport_vault::{
    SealedSecret, SecretPath, Vault,
    engines::{self, CredentialMaterial, Engine, IssueContext, Issued, RevokeContext, Site},
    lease,
};
use serde_json::{Value, json};

use crate::fixture::{NOW, account_id, permit, unsealed_vault};

/// A server, an account on it, and a vault that knows the root account's password.
pub(crate) struct Story<S> {
    pub(crate) server: S,
    pub(crate) vault: Vault,
    pub(crate) site: Site,
    pub(crate) settings: Value,
    engine: &'static dyn Engine,
}

impl<S> Story<S> {
    /// The server at `address`, vouched for by `authority`, has the root account `maker` with this password.
    pub(crate) fn at(
        kind: &str,
        server: S,
        address: &str,
        authority: &Path,
        root: &str,
        settings: &Value,
    ) -> Self {
        let vault = unsealed_vault();
        let pem = std::fs::read_to_string(authority).unwrap();
        let lines = pem.lines().filter(|line| !line.starts_with("---"));
        let site = Site {
            address: address.to_owned(),
            identities: vec![format!("ca {}", lines.collect::<String>())],
            root: "maker".parse().unwrap(),
            root_secrets: vec![root_secret(&vault, root)],
        };
        let mut all = json!({ "root": "maker", "database": "shop" });
        for (name, value) in settings.as_object().unwrap() {
            all[name] = value.clone();
        }
        Self {
            server,
            vault,
            site,
            settings: all,
            engine: engines::by_kind(kind).unwrap(),
        }
    }

    pub(crate) fn engine(&self) -> &'static dyn Engine {
        self.engine
    }

    pub(crate) fn intent(&self, number: u8) -> Lease {
        let id = LeaseId::new(NOW, [number; 10]);
        let kind = self.engine.describe().kind;
        lease::intend(id, &permit(far()), &kind, &self.vault, NOW)
    }

    pub(crate) async fn issue(&self, lease: &Lease) -> Result<Issued, lease::LeaseError> {
        self.issue_until(lease, far()).await
    }

    pub(crate) async fn issue_until(
        &self,
        lease: &Lease,
        ends: Timestamp,
    ) -> Result<Issued, lease::LeaseError> {
        let context = IssueContext {
            vault: &self.vault,
            settings: &self.settings,
            secrets: &[],
            site: Some(&self.site),
            handle: lease.handle.as_deref(),
            now: NOW,
        };
        lease::issue(lease, &permit(ends), context).await
    }

    pub(crate) fn revocation(&self) -> RevokeContext<'_> {
        RevokeContext {
            vault: &self.vault,
            settings: &self.settings,
            site: Some(&self.site),
            now: NOW,
        }
    }

    /// A user and its password, and its lease as it is stored then.
    pub(crate) async fn user(&self, number: u8) -> (Lease, String, String) {
        self.user_until(number, far()).await
    }

    pub(crate) async fn user_until(&self, number: u8, ends: Timestamp) -> (Lease, String, String) {
        let mut lease = self.intent(number);
        let issued = self.issue_until(&lease, ends).await.unwrap();
        lease::record(&mut lease, &issued, NOW).unwrap();
        let CredentialMaterial::Password { user, password } = &issued.content else {
            panic!("a database takes passwords")
        };
        (
            lease,
            user.clone().unwrap(),
            password.expose_secret().clone(),
        )
    }

    /// Whether the server takes this password of the root account.
    pub(crate) async fn accepts(&self, password: &str) -> bool {
        let password = Secret::new(password.to_owned());
        let accepted = self.engine.accepts(&self.site, &self.vault, &password);
        accepted.await.unwrap()
    }
}

/// An end that no clock of a test machine has reached.
pub(crate) fn far() -> Timestamp {
    crate::fixture::after_s(3_600 * 24 * 365 * 20)
}

/// The root account's password, as its own `static` engine stores it.
pub(crate) fn root_secret(vault: &Vault, password: &str) -> SealedSecret {
    let engine = engines::by_kind("static").unwrap();
    let password = Secret::new(password.to_owned());
    let (path, secret) = engine
        .accept_secret(&account_id(), "password", &password)
        .unwrap();
    assert_eq!(path, SecretPath::account_credential(&account_id()));
    vault.seal_secret(&path, 1, &secret).unwrap()
}

/// What a client said, or complained.
pub(crate) fn said(command: &mut Command) -> Result<String, String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match status.success() {
        true => Ok(text(&stdout)),
        false => Err(text(&stderr)),
    }
}
