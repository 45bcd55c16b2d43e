//! `sallyport db listen`: PostgreSQL clients that cannot be given a pass of minutes or an authority, such
//! as GUI tools, connect here without TLS; each connection goes on to the gateway over TLS, with a pass of
//! its own (PostgreSQL 18, chapter 54 "Frontend/Backend Protocol").
//!
//! INVARIANT: it listens on loopback only, and nothing reaches the gateway before the client has shown the
//! password of this run: other people's processes on the same machine can connect to a port.
//!
//! Not here: what happens after the login; those bytes pass unread, and the gateway decides them.

use std::{
    io::{Write as _, stderr},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use sallyport_api::{
    rest::sign_in::{CreatePass, CreatedPass},
    sensitive::Sensitive,
};
use sallyport_core::inventory::Selector;
use sallyport_evidence::recording::escape_controls;
use sallyport_vault::SystemEntropy;
use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    client::Client,
    context::Context,
    failure::{Failure, chain},
};

/// Connections at one time.
const CONNECTIONS_MAX: usize = 64;
/// What a client may take to say who it is, and the network to reach the gateway. Decisions may take longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// PostgreSQL's own bound on a startup packet.
const STARTUP_BYTES_MAX: usize = 10_000;
/// Longest message of the gateway before somebody is in, and longest password of a client.
const MESSAGE_BYTES_MAX: usize = 65_536;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const AUTHENTICATION: u8 = b'R';
const ASK_PASSWORD: [u8; 9] = [AUTHENTICATION, 0, 0, 0, 8, 0, 0, 0, 3];
const PASSWORD: u8 = b'p';

/// How to reach the gateway for one account.
struct Entrance {
    client: Client,
    on: Selector,
    database: Option<String>,
    port: u16,
    connector: TlsConnector,
    name: ServerName<'static>,
    /// What clients of this run send.
    password: Sensitive,
}

/// Parameters of a session: names and values, neither of them text for sure.
type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

/// What a client begins with.
enum Beginning {
    /// A whole packet that names what to cancel.
    Cancel(Vec<u8>),
    /// A session: the protocol's version and its parameters but `user`.
    Session(u32, Parameters),
}

/// Why a connection ended before it was somebody's.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("talk to the client or to the gateway")]
    Io(#[from] io::Error),
    #[error("the client did not speak PostgreSQL's protocol: {0}")]
    Client(&'static str),
    #[error("the gateway answered what PostgreSQL does not: {0}")]
    Gateway(&'static str),
    #[error("{0}")]
    Pass(String),
}

/// Takes clients until Ctrl-C.
pub async fn run(
    context: &Context,
    on: Selector,
    listen: SocketAddr,
    database: Option<String>,
) -> Result<(), Failure> {
    if !listen.ip().is_loopback() {
        return Err(Failure::usage(
            format!("`--listen {listen}` is reachable from other machines"),
            "name an address of this machine's loopback, such as 127.0.0.1:15432",
        ));
    }
    let entrance = Arc::new(enter(context, on, database).await?);
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::failed(
            format!("listen on {listen}: {error}"),
            "name another port with `--listen`; port 0 takes any that is free",
        )
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::of_stream(&error))?;
    // One for the whole run, from before anybody can know of it: one made anew for each connection misses a
    // Ctrl-C that arrives between two of them.
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|error| Failure::of_stream(&error))?;
    announce(context, &entrance, address)?;
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => {
                // One that failed to arrive is the client's to repeat.
                if let Ok((stream, _)) = accepted {
                    let entrance = Arc::clone(&entrance);
                    open.spawn(async move { entrance.serve(stream).await });
                }
            }
            Some(ended) = open.join_next() => {
                if let Ok(Err(ended)) = ended {
                    // Whoever started this may have closed its terminal; connections go on.
                    let _ = writeln!(stderr(), "a connection ended: {}", escape_controls(&chain(&ended)));
                }
            }
            _ = interrupts.recv() => return Ok(()),
        }
    }
}

/// Asks for a first pass: whoever may not have one is told so before any client connects.
async fn enter(
    context: &Context,
    on: Selector,
    database: Option<String>,
) -> Result<Entrance, Failure> {
    let client = context.client()?;
    let created = pass(&client, &on).await?;
    if created
        .protocol
        .as_deref()
        .is_some_and(|protocol| protocol != "postgres")
    {
        return Err(Failure::usage(
            format!("`{on}` is not PostgreSQL; only its clients can be listened for"),
            "make a pass with `sallyport db token`, and give the tool the gateway's `ca.pem`",
        ));
    }
    let entrance = created.entrances.iter().find(|e| e.protocol == "postgres");
    let port = entrance.map(|entrance| entrance.port).ok_or_else(|| {
        Failure::failed(
            "no gateway takes postgres clients",
            "an operator sets `gateway.postgres_listen`",
        )
    })?;
    let (path, pem) = context.profile.ca()?;
    let unusable = |problem: String| {
        Failure::failed(
            format!("read certificates in `{}`: {problem}", path.display()),
            "pass `--ca FILE` with the server's `ca.pem`",
        )
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(chain(&error)))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(chain(&error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(client.host().to_owned())
        .map_err(|error| unusable(format!("`{}`: {error}", client.host())))?;
    let entropy: &dyn sallyport_core::entropy::Entropy = &SystemEntropy;
    Ok(Entrance {
        client,
        on,
        database,
        port,
        connector: TlsConnector::from(Arc::new(config)),
        name,
        password: Sensitive::new(hex::encode(entropy.draw::<16>())),
    })
}

fn announce(context: &Context, entrance: &Entrance, address: SocketAddr) -> Result<(), Failure> {
    let (on, password) = (&entrance.on, entrance.password.expose());
    let item = serde_json::json!({
        "on": on.to_string(), "host": address.ip(), "port": address.port(), "password": password,
    });
    let line =
        format!("{on} is at {address}: TLS off, any user, password {password}; Ctrl-C ends it");
    context.output.done(&item, &line)
}

async fn pass(client: &Client, on: &Selector) -> Result<CreatedPass, Failure> {
    let body = CreatePass {
        on: on.to_string(),
        ttl_s: None,
    };
    client.post(&["self", "passes"], &body).await
}

impl Entrance {
    /// One connection, to its end.
    async fn serve(&self, mut near: TcpStream) -> Result<(), Ended> {
        near.set_nodelay(true)?;
        let begun = timeout(PATIENCE, self.begin(&mut near)).await;
        let far = match begun.map_err(|_| Ended::Client("it said nothing"))?? {
            Beginning::Cancel(packet) => {
                let mut far = timed(self.reach()).await?;
                far.write_all(&packet).await?;
                return far.shutdown().await.map_err(Ended::Io);
            }
            Beginning::Session(version, parameters) => {
                self.log_in(&mut near, version, &parameters).await
            }
        };
        match far {
            Ok(Some(mut far)) => {
                // Whichever side goes, the other is told by the end of its stream.
                io::copy_bidirectional(&mut near, &mut far).await?;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(ended) => {
                // The client may be gone; the person at the terminal reads it in any case.
                let _ = near.write_all(&error("08006", &chain(&ended))).await;
                Err(ended)
            }
        }
    }

    /// Reads what the client begins with, and its password.
    async fn begin(&self, near: &mut TcpStream) -> Result<Beginning, Ended> {
        let beginning = read_beginning(near).await?;
        if matches!(beginning, Beginning::Session(..)) {
            near.write_all(&ASK_PASSWORD).await?;
            let (kind, body) = read_message(near).await?;
            let shown = body.strip_suffix(&[0]).unwrap_or_default();
            if kind != PASSWORD || !is_same(shown, self.password.expose().as_bytes()) {
                let text = "the password is the one that `sallyport db listen` printed";
                near.write_all(&error("28P01", text)).await?;
                return Err(Ended::Client("it sent another password"));
            }
        }
        Ok(beginning)
    }

    /// Logs in at the gateway, passing on what that says meanwhile. `None`: it refused, and said why.
    async fn log_in(
        &self,
        near: &mut TcpStream,
        version: u32,
        parameters: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Option<TlsStream<TcpStream>>, Ended> {
        let created = pass(&self.client, &self.on).await;
        let created = created.map_err(|failure| Ended::Pass(said(&failure)))?;
        let mut far = timed(self.reach()).await?;
        far.write_all(&self.startup(version, parameters)).await?;
        loop {
            let (kind, body) = read_message(&mut far).await?;
            if kind == AUTHENTICATION && body == [0, 0, 0, 3] {
                let mut answer = created.pass.expose().as_bytes().to_vec();
                answer.push(0);
                far.write_all(&message(PASSWORD, &answer)).await?;
                continue;
            }
            near.write_all(&message(kind, &body)).await?;
            match (kind, body.as_slice()) {
                (AUTHENTICATION, [0, 0, 0, 0]) => return Ok(Some(far)),
                (AUTHENTICATION, _) => return Err(Ended::Gateway("another way to log in")),
                (b'E', _) => return Ok(None),
                // Notices, and the versions it speaks.
                (b'N' | b'v', _) => {}
                _ => return Err(Ended::Gateway("a message before the login")),
            }
        }
    }

    fn startup(&self, version: u32, parameters: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        let mut put = |name: &[u8], value: &[u8]| {
            for text in [name, value] {
                body.extend_from_slice(text);
                body.push(0);
            }
        };
        put(b"user", self.on.to_string().as_bytes());
        if let Some(database) = &self.database {
            put(b"database", database.as_bytes());
        } else if !parameters.iter().any(|(name, _)| name == b"database") {
            put(b"database", self.on.account.as_str().as_bytes());
        }
        for (name, value) in parameters {
            if name != b"database" || self.database.is_none() {
                put(name, value);
            }
        }
        body.push(0);
        let mut packet = length(body.len()).to_vec();
        packet.extend_from_slice(&body);
        packet
    }

    async fn reach(&self) -> Result<TlsStream<TcpStream>, Ended> {
        let mut far = TcpStream::connect((self.client.host(), self.port)).await?;
        far.set_nodelay(true)?;
        far.write_all(&[length(4), SSL_REQUEST.to_be_bytes()].concat())
            .await?;
        if far.read_u8().await? != b'S' {
            return Err(Ended::Gateway("it speaks no TLS"));
        }
        Ok(self.connector.connect(self.name.clone(), far).await?)
    }
}

async fn timed<T>(doing: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    let done = timeout(PATIENCE, doing).await;
    done.map_err(|_| Ended::Gateway("nothing within 30 s"))?
}

async fn read_beginning(near: &mut TcpStream) -> Result<Beginning, Ended> {
    // Each request for encryption is made once.
    for _ in 0..3 {
        let whole = near.read_u32().await?;
        let bytes = usize::try_from(whole).unwrap_or(usize::MAX);
        if !(8..=STARTUP_BYTES_MAX).contains(&bytes) {
            return Err(Ended::Client("its first packet is of no such length"));
        }
        let code = near.read_u32().await?;
        let mut rest = vec![0; bytes - 8];
        near.read_exact(&mut rest).await?;
        match code {
            SSL_REQUEST | GSS_REQUEST => near.write_all(b"N").await?,
            CANCEL_REQUEST => {
                let packet = [&whole.to_be_bytes()[..], &code.to_be_bytes(), &rest].concat();
                return Ok(Beginning::Cancel(packet));
            }
            version => return read_parameters(&rest).map(|all| Beginning::Session(version, all)),
        }
    }
    Err(Ended::Client("it asks for encryption again and again"))
}

/// Pairs of texts that end with a zero byte, then one more zero byte; all but the user.
fn read_parameters(rest: &[u8]) -> Result<Parameters, Ended> {
    let wrong = Ended::Client("its parameters are not pairs of texts");
    let Some(texts) = rest.strip_suffix(&[0, 0]) else {
        return if rest == [0] {
            Ok(Vec::new())
        } else {
            Err(wrong)
        };
    };
    let texts: Vec<&[u8]> = texts.split(|byte| *byte == 0).collect();
    if !texts.len().is_multiple_of(2) {
        return Err(wrong);
    }
    let pairs = texts.chunks_exact(2).filter_map(|pair| match pair {
        [name, value] if *name != b"user" => Some((name.to_vec(), value.to_vec())),
        _ => None,
    });
    Ok(pairs.collect())
}

async fn read_message(from: &mut (impl io::AsyncRead + Unpin)) -> Result<(u8, Vec<u8>), Ended> {
    let kind = from.read_u8().await?;
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(Ended::Client("a message is of no such length"));
    }
    let mut body = vec![0; length - 4];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

/// The length field before a body of so many bytes. All bodies are bounded far below its range.
fn length(body: usize) -> [u8; 4] {
    u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &length(body.len())[..], body].concat()
}

/// An error that ends the connection.
fn error(code: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', text)] {
        body.push(field);
        body.extend(value.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    message(b'E', &body)
}

/// Compares without telling by time where they differ.
fn is_same(shown: &[u8], wanted: &[u8]) -> bool {
    let pairs = shown.iter().zip(wanted);
    shown.len() == wanted.len() && pairs.fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// A failure as one text, for a client that shows no more.
fn said(failure: &Failure) -> String {
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = failure.print(crate::output::Format::Table, &mut text);
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rest: &[u8]) -> Option<Vec<String>> {
        let read = read_parameters(rest).ok()?;
        Some(
            read.into_iter()
                .map(|(name, _)| String::from_utf8(name).unwrap())
                .collect(),
        )
    }

    /// GW-2: whatever a client calls itself, it is the account that the command was given.
    #[test]
    fn given_a_startup_packet_then_all_but_the_user_is_passed_on() {
        let rest = b"user\0postgres\0database\0shop\0application_name\0tool\0\0";
        assert_eq!(
            names(rest),
            Some(vec!["database".to_owned(), "application_name".to_owned()])
        );
        assert_eq!(names(b"\0"), Some(vec![]));
        // An empty value is one.
        assert_eq!(names(b"options\0\0\0").map(|all| all.len()), Some(1));
        for wrong in [&b""[..], b"user", b"user\0", b"user\0\0", b"user\0a\0b\0\0"] {
            assert_eq!(names(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn given_another_password_then_it_is_not_the_same() {
        assert!(is_same(b"0123", b"0123"));
        for other in [&b"0124"[..], b"012", b"01234", b""] {
            assert!(!is_same(other, b"0123"));
        }
    }
}
