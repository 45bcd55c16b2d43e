//! `sallyport login`: the token, an SSH certificate beside the person's key, and what stock SSH clients
//! need to know of the gateway.

use std::path::{Path, PathBuf};

use sallyport_api::rest::sign_in::{SignIn, SignedIn};
use sallyport_evidence::recording::escape_controls;
use serde::Serialize;

use crate::{
    context::Context,
    failure::Failure,
    files::{self, Readers},
    output::minute,
    prompt::Answers,
};

/// Keys that OpenSSH makes, in the order in which one is chosen.
const KEY_NAMES: [&str; 5] = [
    "id_ed25519",
    "id_ed25519_sk",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_rsa",
];

/// Sign in with password and one-time code; your SSH key gets a certificate that proves it is you
#[derive(Debug, clap::Args)]
pub struct Login {
    /// Sign-in name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// SSH key to certify; the first of ~/.ssh/id_* when left out
    #[arg(long, value_name = "FILE", conflicts_with = "no_ssh")]
    ssh_key: Option<PathBuf>,
    /// Ask for no SSH certificate
    #[arg(long)]
    no_ssh: bool,
    #[command(flatten)]
    answers: Answers,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    person: String,
    until: String,
    ssh_certificate: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    ssh_config: Option<PathBuf>,
}

impl Login {
    /// Asks for name, password and code, and keeps what the server answers.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.anonymous_client()?;
        let public_key = self.public_key(context)?;
        let name = match self.name {
            Some(name) => name,
            None => self.answers.plain("Name")?,
        };
        let body = SignIn {
            name,
            password: self.answers.secret("Password")?,
            code: self.answers.secret("One-time code")?,
            ssh_public_key: match &public_key {
                Some(path) => Some(files::read_text(path)?.trim().to_owned()),
                None => None,
            },
        };
        let signed_in: SignedIn = client.post(&["sign-in"], &body).await?;
        context.profile.keep_server()?;
        context.profile.keep_token(&signed_in.token)?;
        let written = keep_ssh(context, client.host(), public_key.as_deref(), &signed_in)?;

        let mut fields = vec![
            ("person", written.person.clone()),
            ("until", minute(signed_in.expires_at)),
        ];
        if let Some(path) = &written.ssh_certificate {
            fields.push(("certificate", path.display().to_string()));
        }
        if let Some(path) = &written.ssh_config {
            fields.push((
                "next",
                format!(
                    "for stock SSH clients add to ~/.ssh/config: Include {}",
                    path.display()
                ),
            ));
        }
        context.output.record(&written, &fields)
    }

    /// The public key to certify, when there is one.
    fn public_key(&self, context: &Context) -> Result<Option<PathBuf>, Failure> {
        if self.no_ssh {
            return Ok(None);
        }
        let key = match &self.ssh_key {
            Some(path) => Some(path.clone()),
            None => std::env::home_dir().and_then(|home| {
                KEY_NAMES
                    .iter()
                    .map(|name| home.join(".ssh").join(name))
                    .find(|path| public_of(path).is_file())
            }),
        };
        let Some(key) = key else { return Ok(None) };
        let public = public_of(&key);
        let certificate = certificate_of(&public);
        let is_ours = context.profile.ssh_certificate() == Some(certificate.as_path());
        if certificate.exists() && !is_ours {
            return Err(Failure::failed(
                format!(
                    "`{}` is a certificate of somebody else's",
                    certificate.display()
                ),
                "certify another key with `--ssh-key FILE`, or none with `--no-ssh`",
            ));
        }
        Ok(Some(public))
    }
}

/// `id_ed25519` and `id_ed25519.pub` both name the key pair.
fn public_of(key: &Path) -> PathBuf {
    if key.extension().is_some_and(|extension| extension == "pub") {
        return key.to_owned();
    }
    let mut public = key.as_os_str().to_owned();
    public.push(".pub");
    PathBuf::from(public)
}

/// Where OpenSSH looks for the certificate of a key by itself.
fn certificate_of(public: &Path) -> PathBuf {
    let mut certificate = public.with_extension("").into_os_string();
    certificate.push("-cert.pub");
    PathBuf::from(certificate)
}

fn keep_ssh(
    context: &Context,
    host: &str,
    public_key: Option<&Path>,
    signed_in: &SignedIn,
) -> Result<Written, Failure> {
    let mut written = Written {
        person: signed_in.person.name.clone(),
        until: signed_in.expires_at.to_string(),
        ssh_certificate: None,
        known_hosts: None,
        ssh_config: None,
    };
    if let (Some(public), Some(certificate)) = (public_key, &signed_in.ssh_certificate) {
        let path = certificate_of(public);
        // Noted first: a certificate that is ours must never look like somebody else's.
        context.profile.keep_ssh_certificate(&path)?;
        let line = format!("{}\n", certificate.trim());
        files::write(&path, line.as_bytes(), Readers::Everybody)?;
        written.ssh_certificate = Some(path);
    }
    if !signed_in.known_hosts.is_empty() {
        let known_hosts = context.profile.file("known_hosts");
        // One line each, whatever the server sent: a line more would pin something else.
        let lines: String = signed_in
            .known_hosts
            .iter()
            .map(|line| format!("{}\n", escape_controls(line)))
            .collect();
        files::write(&known_hosts, lines.as_bytes(), Readers::Everybody)?;
        let config = context.profile.file("ssh_config");
        let text = ssh_config(host, &signed_in.known_hosts, &known_hosts, public_key);
        files::write(&config, text.as_bytes(), Readers::Everybody)?;
        written.known_hosts = Some(known_hosts);
        written.ssh_config = Some(config);
    }
    Ok(written)
}

/// What `ssh_config(5)` needs so that `ssh root@web-1@HOST` reaches the gateway and checks its key.
fn ssh_config(
    host: &str,
    known_hosts_lines: &[String],
    known_hosts: &Path,
    public_key: Option<&Path>,
) -> String {
    let mut text = String::from("# Written by `sallyport login`; replaced at the next one.\n");
    let port = known_hosts_lines
        .iter()
        .find_map(|line| gateway_port(line))
        .unwrap_or(7022);
    text.push_str(&format!(
        "Host {host}\n  Port {port}\n  UserKnownHostsFile \"{}\"\n  StrictHostKeyChecking yes\n",
        known_hosts.display()
    ));
    if let Some(public) = public_key {
        text.push_str(&format!(
            "  IdentityFile \"{}\"\n  CertificateFile \"{}\"\n",
            public.with_extension("").display(),
            certificate_of(public).display()
        ));
    }
    text
}

/// The port in a line such as `[gw.example]:7022 ssh-ed25519 …`.
fn gateway_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("]:")?;
    rest.split([' ', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_private_or_its_public_half() {
        for name in ["/h/.ssh/id_ed25519", "/h/.ssh/id_ed25519.pub"] {
            let public = public_of(Path::new(name));
            assert_eq!(public, Path::new("/h/.ssh/id_ed25519.pub"));
            assert_eq!(
                certificate_of(&public),
                Path::new("/h/.ssh/id_ed25519-cert.pub")
            );
        }
    }

    #[test]
    fn stock_clients_are_told_port_keys_and_pins_of_the_gateway() {
        let lines = ["[gw.example]:8022 ssh-ed25519 AAAA".to_owned()];
        let text = ssh_config(
            "gw.example",
            &lines,
            Path::new("/p/known_hosts"),
            Some(Path::new("/h/k.pub")),
        );
        for expected in [
            "Host gw.example\n",
            "Port 8022\n",
            "UserKnownHostsFile \"/p/known_hosts\"\n",
            "StrictHostKeyChecking yes\n",
            "IdentityFile \"/h/k\"\n",
            "CertificateFile \"/h/k-cert.pub\"\n",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }
}
