//! A PostgreSQL client (protocol 3.0) for what engines need: log in by SCRAM-SHA-256, run one statement at
//! a time, read small answers as text.
//!
//! INVARIANT: every statement goes by the extended protocol, where a server takes one and no more; names
//! without a schema are those of `pg_catalog`, so nothing that somebody put into another schema is called
//! with the power of a root account.
//!
//! Not here: which statements. Specification: PostgreSQL 15 manual, chapter 55.

use async_trait::async_trait;
use bytes::{Buf as _, BufMut as _, BytesMut};
use sallyport_core::{entropy::Entropy, secret::SecretString};
use sallyport_wire::{
    scram::{self, Binding, Exchange},
    trust::{self, Trust},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{
    Client, DatabaseError, Login, MESSAGE_BYTES_MAX, REACH_TIME, ROWS_MAX, Row, Rows,
    STATEMENT_TIME, Server, Stream, words,
};

/// Most messages a server may say before it is ready.
const MESSAGES_MAX: usize = 1_000;
/// Settings of every connection. `search_path`: see the module.
const SETTINGS: [(&str, &str); 6] = [
    ("application_name", "sallyport"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("search_path", "pg_catalog"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "12s"),
];
/// SSLRequest (chapter 55.7).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A connection that is logged in.
pub(crate) struct Connection {
    channel: Channel,
}

impl Connection {
    /// Runs one statement with parameters, which are texts. `what` says for errors what it is for.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn ask(
        &mut self,
        what: &'static str,
        sql: &str,
        parameters: &[&str],
    ) -> Result<Rows, DatabaseError> {
        timeout(STATEMENT_TIME, self.channel.run(what, sql, parameters))
            .await
            .map_err(|_| DatabaseError::TimedOut { what })?
    }
}

#[async_trait]
impl Client for Connection {
    async fn open(
        server: &Server<'_>,
        login: Login<'_>,
        entropy: &dyn Entropy,
    ) -> Result<Self, DatabaseError> {
        let mut nonce = [0_u8; 18];
        entropy.fill(&mut nonce);
        let tcp = server.dial().await?;
        timeout(REACH_TIME, async {
            let mut channel = Channel::open(server, tcp).await?;
            channel.log_in(login, &nonce).await?;
            Ok(Self { channel })
        })
        .await
        .map_err(|_| DatabaseError::TimedOut { what: "log in" })?
    }

    async fn run(&mut self, what: &'static str, sql: &str) -> Result<Rows, DatabaseError> {
        self.ask(what, sql, &[]).await
    }

    async fn close(mut self) {
        let _ = timeout(REACH_TIME, self.channel.send(&[b'X', 0, 0, 0, 4])).await;
    }
}

struct Channel {
    stream: Box<dyn Stream>,
    address: String,
    /// The hash of the server's certificate, to which a login is bound.
    end_point: Option<Vec<u8>>,
    buffer: BytesMut,
}

impl Channel {
    async fn open(
        server: &Server<'_>,
        mut tcp: tokio::net::TcpStream,
    ) -> Result<Self, DatabaseError> {
        let (stream, end_point): (Box<dyn Stream>, _) = match server.trust(&[b"postgresql"])? {
            Trust::Plaintext => (Box::new(tcp), None),
            Trust::Tls(tls) => {
                let asked = async {
                    tcp.write_all(&SSL_REQUEST).await?;
                    // One byte and no more: what else came in clear would be taken for TLS, and fail.
                    tcp.read_u8().await
                };
                if asked.await.map_err(|source| server.broken(source))? != b'S' {
                    return Err(DatabaseError::TlsRefused);
                }
                let stream = server.encrypt(tcp, &tls).await?;
                let end_point = end_point(&stream);
                (Box::new(stream), end_point)
            }
        };
        Ok(Self {
            stream,
            address: server.address.to_owned(),
            end_point,
            buffer: BytesMut::new(),
        })
    }

    fn broken(&self, source: std::io::Error) -> DatabaseError {
        DatabaseError::Reach {
            address: self.address.clone(),
            source,
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), DatabaseError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|source| self.broken(source))
    }

    /// The kind and the body of the next message.
    async fn next(&mut self) -> Result<(u8, Body), DatabaseError> {
        loop {
            if let Some((kind, length)) = header(&self.buffer) {
                let bad = |problem| DatabaseError::Message { problem };
                let body = length.checked_sub(4).ok_or_else(|| bad("its length"))?;
                if body > MESSAGE_BYTES_MAX {
                    return Err(bad("it is too long"));
                }
                let whole = body.saturating_add(5);
                if self.buffer.len() >= whole {
                    let mut message = self.buffer.split_to(whole);
                    message.advance(5);
                    return Ok((kind, Body(message)));
                }
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(|source| self.broken(source))? == 0 {
                return Err(self.broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    async fn log_in(&mut self, login: Login<'_>, nonce: &[u8]) -> Result<(), DatabaseError> {
        let mut startup = BytesMut::new();
        startup.put_i32(0);
        startup.put_i32(196_608);
        let who = [("user", login.user), ("database", login.database)];
        for (name, value) in who.into_iter().chain(SETTINGS) {
            put_text(&mut startup, name)?;
            put_text(&mut startup, value)?;
        }
        startup.put_u8(0);
        set_length(&mut startup, 0)?;
        self.send(&startup).await?;
        let refused = |body: Body| {
            let (code, words) = body.error();
            DatabaseError::LoginRefused {
                user: login.user.to_owned(),
                code,
                words,
            }
        };
        let mut is_proven = false;
        for _ in 0..MESSAGES_MAX {
            let (kind, mut body) = self.next().await?;
            match kind {
                b'R' => match body.i32()? {
                    // A server that asks for no proof is as its owner wants it.
                    0 => is_proven = true,
                    10 => {
                        let answered = self.prove(login.password, &mut body, nonce).await?;
                        if let Some(no) = answered {
                            return Err(refused(no));
                        }
                    }
                    method => {
                        return Err(DatabaseError::Method {
                            method: method.to_string(),
                        });
                    }
                },
                b'E' => return Err(refused(body)),
                b'Z' if is_proven => return Ok(()),
                b'S' | b'K' | b'N' | b'v' => {}
                _ => return Err(unexpected()),
            }
        }
        Err(unexpected())
    }

    /// Proves a password, and demands the server's own proof. The body of its refusal, if it refuses.
    async fn prove(
        &mut self,
        password: &SecretString,
        offered: &mut Body,
        nonce: &[u8],
    ) -> Result<Option<Body>, DatabaseError> {
        let mut mechanisms = Vec::new();
        loop {
            match offered.text()? {
                end if end.is_empty() => break,
                mechanism => mechanisms.push(mechanism),
            }
        }
        let offers = |name: &str| mechanisms.iter().any(|offered| offered == name);
        let binding = match &self.end_point {
            Some(hash) if offers(scram::MECHANISM_PLUS) => Binding::EndPoint(hash.clone()),
            // A server that could bind and one in the middle that hides it look alike but for this.
            Some(_) => Binding::NotOffered,
            None => Binding::Impossible,
        };
        let exchange = Exchange::new(binding, nonce);
        if !offers(exchange.mechanism()) {
            return Err(DatabaseError::Method {
                method: words(&mechanisms.join(" ")),
            });
        }
        let first = exchange.first();
        let mut message = begin(b'p');
        put_text(&mut message, exchange.mechanism())?;
        put_length(&mut message, first.len())?;
        message.put_slice(first.as_bytes());
        set_length(&mut message, 1)?;
        self.send(&message).await?;
        let asked = match self.sasl(11).await? {
            Ok(asked) => asked,
            Err(no) => return Ok(Some(no)),
        };
        let challenge = exchange.challenge(&asked).map_err(DatabaseError::Scram)?;
        let salted = challenge.hash(password.expose_secret());
        let (last, unproven) = exchange.answer(&challenge, &salted);
        let mut message = begin(b'p');
        message.put_slice(last.as_bytes());
        set_length(&mut message, 1)?;
        self.send(&message).await?;
        match self.sasl(12).await? {
            Ok(proof) => unproven.check(&proof).map_err(DatabaseError::Scram)?,
            Err(no) => return Ok(Some(no)),
        }
        Ok(None)
    }

    /// The server's next message of the exchange, or its refusal.
    async fn sasl(&mut self, expected: i32) -> Result<Result<Vec<u8>, Body>, DatabaseError> {
        let (kind, mut body) = self.next().await?;
        match kind {
            b'E' => Ok(Err(body)),
            b'R' if body.i32()? == expected => Ok(Ok(body.0.to_vec())),
            _ => Err(unexpected()),
        }
    }

    async fn run(
        &mut self,
        what: &'static str,
        sql: &str,
        parameters: &[&str],
    ) -> Result<Rows, DatabaseError> {
        let request = request(sql, parameters)?;
        self.send(&request).await?;
        let mut rows = Rows::new();
        let mut refused = None;
        let mut messages = 0_usize;
        loop {
            let (kind, mut body) = self.next().await?;
            messages = messages.saturating_add(1);
            match kind {
                b'D' if rows.len() < ROWS_MAX => rows.push(body.row()?),
                b'E' => {
                    let (code, words) = body.error();
                    refused = Some(DatabaseError::Refused { what, code, words });
                }
                b'Z' => return refused.map_or(Ok(rows), Err),
                // Parsed, bound, complete, empty; notices and settings.
                b'1' | b'2' | b'C' | b'I' | b'N' | b'S' | b'A' | b'n' | b's'
                    if messages < ROWS_MAX.saturating_add(MESSAGES_MAX) => {}
                _ => return Err(unexpected()),
            }
        }
    }
}

fn end_point(stream: &TlsStream<tokio::net::TcpStream>) -> Option<Vec<u8>> {
    let (_, connection) = stream.get_ref();
    trust::end_point(connection.peer_certificates()?.first()?)
}

/// Parse, Bind, Execute and Sync of one statement.
fn request(sql: &str, parameters: &[&str]) -> Result<BytesMut, DatabaseError> {
    let count = i16::try_from(parameters.len()).map_err(|_| unexpected())?;
    let mut all = begin(b'P');
    put_text(&mut all, "")?;
    put_text(&mut all, sql)?;
    all.put_i16(0);
    set_length(&mut all, 1)?;
    let mut bind = begin(b'B');
    put_text(&mut bind, "")?;
    put_text(&mut bind, "")?;
    bind.put_i16(0);
    bind.put_i16(count);
    for parameter in parameters {
        put_length(&mut bind, parameter.len())?;
        bind.put_slice(parameter.as_bytes());
    }
    bind.put_i16(0);
    set_length(&mut bind, 1)?;
    all.extend_from_slice(&bind);
    all.extend_from_slice(&[b'E', 0, 0, 0, 9, 0, 0, 0, 0, 0]);
    all.extend_from_slice(&[b'S', 0, 0, 0, 4]);
    Ok(all)
}

fn begin(kind: u8) -> BytesMut {
    let mut message = BytesMut::new();
    message.put_u8(kind);
    message.put_i32(0);
    message
}

/// Writes the length of a message that begins at `at` with it.
fn set_length(message: &mut BytesMut, at: usize) -> Result<(), DatabaseError> {
    let length = message.len().saturating_sub(at);
    let length = i32::try_from(length).map_err(|_| unexpected())?;
    let end = at.saturating_add(4);
    message
        .get_mut(at..end)
        .ok_or_else(unexpected)?
        .copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn put_length(message: &mut BytesMut, length: usize) -> Result<(), DatabaseError> {
    message.put_i32(i32::try_from(length).map_err(|_| unexpected())?);
    Ok(())
}

fn put_text(message: &mut BytesMut, text: &str) -> Result<(), DatabaseError> {
    if text.contains('\0') {
        return Err(DatabaseError::Message {
            problem: "ours would hold a NUL",
        });
    }
    message.put_slice(text.as_bytes());
    message.put_u8(0);
    Ok(())
}

fn header(buffer: &[u8]) -> Option<(u8, usize)> {
    let (kind, rest) = buffer.split_first()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    Some((*kind, usize::try_from(u32::from_be_bytes(*length)).ok()?))
}

fn unexpected() -> DatabaseError {
    DatabaseError::Message {
        problem: "it has no place here",
    }
}

/// The body of a message, read from its front.
struct Body(BytesMut);

impl Body {
    fn i32(&mut self) -> Result<i32, DatabaseError> {
        self.0.try_get_i32().map_err(|_| unexpected())
    }

    fn text(&mut self) -> Result<String, DatabaseError> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(unexpected)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| unexpected())
    }

    fn row(&mut self) -> Result<Row, DatabaseError> {
        let columns = self.0.try_get_i16().map_err(|_| unexpected())?;
        let mut row = Vec::new();
        for _ in 0..columns {
            let length = self.i32()?;
            if length == -1 {
                row.push(None);
                continue;
            }
            let length = usize::try_from(length).map_err(|_| unexpected())?;
            if length > self.0.len() {
                return Err(unexpected());
            }
            let column = self.0.split_to(length).to_vec();
            row.push(Some(String::from_utf8(column).map_err(|_| unexpected())?));
        }
        Ok(Row(row))
    }

    /// The SQLSTATE and the words of an error.
    fn error(mut self) -> (String, String) {
        let (mut code, mut message) = (String::new(), String::new());
        while let Ok(field) = self.0.try_get_u8() {
            let Ok(text) = self.text() else { break };
            match field {
                b'C' => code = words(&text),
                b'M' => message = words(&text),
                _ => {}
            }
        }
        (code, message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// G3: lengths of a row are compared with what is there.
    #[test]
    fn given_a_row_that_lies_about_its_lengths_then_it_is_refused() {
        let row = |bytes: &[u8]| Body(BytesMut::from(bytes)).row();
        assert_eq!(
            row(&[0, 1, 0, 0, 0, 1, b'a']).unwrap(),
            Row(vec![Some("a".to_owned())])
        );
        assert_eq!(row(&[0, 1, 255, 255, 255, 255]).unwrap(), Row(vec![None]));
        assert!(row(&[0, 1, 0, 0, 0, 2, b'a']).is_err());
        assert!(row(&[0, 1, 127, 255, 255, 255, b'a']).is_err());
        assert!(row(&[0, 1, 255, 255, 255, 254]).is_err());
        assert!(row(&[0, 2, 0, 0, 0, 0]).is_err());
        assert!(row(&[0, 1, 0, 0, 0, 1, 0xff]).is_err());
    }

    proptest! {
        /// G3
        #[test]
        fn reading_any_message_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = || Body(BytesMut::from(&bytes[..]));
            let _ = header(&bytes);
            let _ = body().row();
            let _ = body().error();
            let _ = body().text();
        }
    }
}
