//! A real sshd on the certificates of the `ssh_ca` engine. It runs as a command of the client's, on its
//! standard input and output: no port, nothing left running.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sallyport_core::time::Timestamp;
use sallyport_vault::{
    SealedSecret, SshAuthority, Vault,
    engines::{self, CredentialMaterial},
};
use serde_json::json;

use crate::fixture::{context, permit_made, stored_secrets, unsealed_vault};

/// Real servers look at the real clock.
#[expect(
    clippy::disallowed_methods,
    reason = "sshd compares with the system's clock"
)]
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_ms(i64::try_from(since_epoch.as_millis()).unwrap())
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A target that trusts the authority of one vault.
struct Target {
    folder: tempfile::TempDir,
    vault: Vault,
    secrets: Vec<SealedSecret>,
    user: String,
}

impl Target {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let vault = unsealed_vault();
        let secrets = stored_secrets(&vault, engines::by_kind("ssh_ca").unwrap());
        let seed = vault.open_secret(&secrets[0]).unwrap();
        let authority = SshAuthority::from_secret(&seed)
            .unwrap()
            .public_key()
            .unwrap();
        write_private(&path("ca.pub"), &authority);
        let host_key = path("host_key");
        run(
            "ssh-keygen",
            &[
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                host_key.to_str().unwrap(),
            ],
        );
        let settings = format!(
            "HostKey {}\nTrustedUserCAKeys {}\nAuthorizedKeysFile none\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n\
             PermitRootLogin prohibit-password\nLogLevel VERBOSE\n",
            host_key.display(),
            path("ca.pub").display(),
        );
        std::fs::write(path("sshd_config"), settings).unwrap();
        let user = run("id", &["--user", "--name"]);
        if user == "root" {
            // Where sshd confines its unprivileged half; Debian makes it when the service starts.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        Self {
            folder,
            vault,
            secrets,
            user,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Logs in with a certificate for `principal`, issued at `at` for `ttl_s` seconds.
    async fn log_in(&self, principal: &str, at: Timestamp, ttl_s: u64) -> Output {
        let settings = json!({ "principal": principal, "ttl_s": ttl_s });
        let permit = permit_made(at, at.plus(Duration::from_secs(3_600)), |_| {});
        let mut context = context(&self.vault, &settings, &self.secrets);
        context.now = at;
        let issued = engines::by_kind("ssh_ca")
            .unwrap()
            .issue(&permit, context)
            .await
            .unwrap();
        let CredentialMaterial::PrivateKey {
            pem,
            certificate: Some(certificate),
        } = &issued.content
        else {
            panic!("{issued:?}");
        };
        write_private(&self.file("key"), pem.expose_secret());
        write_private(&self.file("key-cert.pub"), certificate);
        let proxy = format!(
            "ProxyCommand=/usr/sbin/sshd -i -e -f {}",
            self.file("sshd_config").display()
        );
        Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
            ])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "IdentitiesOnly=yes",
            ])
            .args(["-o", &proxy, "-i"])
            .arg(self.file("key"))
            .arg(format!("{}@target", self.user))
            .args(["echo", "in"])
            .env_remove("SSH_AUTH_SOCK")
            .output()
            .unwrap()
    }
}

/// VA-3: a stock sshd that trusts the authority lets the account in, and only the account.
#[tokio::test]
async fn given_a_real_sshd_when_logging_in_then_the_principal_is_let_in_and_nobody_else() {
    let target = Target::new();
    let output = target.log_in(&target.user, now(), 300).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "in\n", "{said}");
    assert!(
        said.contains("ID \"sallyport:ses_"),
        "sshd logs whose session it is: {said}"
    );
    assert!(said.contains(":alice\""), "{said}");

    let refused = target.log_in("somebody-else", now(), 300).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("Permission denied"),
        "{said}"
    );
}

/// VA-3: the certificate dies by itself.
#[tokio::test]
async fn given_a_real_sshd_when_the_certificate_has_ended_then_it_is_refused() {
    let target = Target::new();
    let a_minute_ago = now().minus(Duration::from_secs(60));
    let refused = target.log_in(&target.user, a_minute_ago, 30).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("Permission denied"),
        "{said}"
    );
    assert!(
        said.contains("expired"),
        "for this reason and no other: {said}"
    );
}
