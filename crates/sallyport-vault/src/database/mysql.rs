//! A MariaDB client for what engines need: log in over TLS, run one statement at a time, read small answers as
//! text.
//!
//! INVARIANT: a password leaves as a scramble of the server's challenge, or in clear to nobody; the server
//! may ask for no file (`LOCAL INFILE` is not announced, and its question ends the connection, class G8).
//!
//! Not here: which statements. Specification: MariaDB's client/server protocol, packets and connection phase.

use async_trait::async_trait;
use bytes::{Buf as _, BufMut as _, BytesMut};
use sallyport_core::{entropy::Entropy, secret::SecretString};
use sallyport_wire::{scramble, trust::Trust};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    Client, DatabaseError, Login, MESSAGE_BYTES_MAX, REACH_TIME, ROWS_MAX, Row, Rows,
    STATEMENT_TIME, Server, Stream, words,
};

/// Capabilities asked for: long password, long flag, protocol 4.1, transactions, secure connection, plugin
/// authentication, and a database where one is named. Not: LOCAL INFILE, compression, several statements.
const CAPABILITIES: u32 = 0x0008_0000 | 0x0000_8000 | 0x0000_2000 | 0x0000_0200 | 0x0000_0005;
const WITH_TLS: u32 = 0x0000_0800;
/// utf8mb4_general_ci.
const CHARACTER_SET: u8 = 45;
const PACKET_BYTES_MAX: u32 = 1024 * 1024;
const NATIVE: &str = "mysql_native_password";
const SCRAMBLE_BYTES: usize = 20;

/// A connection that is logged in.
pub(crate) struct Connection {
    channel: Channel,
    version: String,
}

impl Connection {
    /// What the server calls itself.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

#[async_trait]
impl Client for Connection {
    async fn open(
        server: &Server<'_>,
        login: Login<'_>,
        _entropy: &dyn Entropy,
    ) -> Result<Self, DatabaseError> {
        let tcp = server.dial().await?;
        timeout(REACH_TIME, async {
            let mut channel = Channel {
                stream: Box::new(tokio::io::empty()),
                address: server.address.to_owned(),
                buffer: BytesMut::new(),
                sequence: 0,
            };
            let version = channel.log_in(server, tcp, login).await?;
            Ok(Self { channel, version })
        })
        .await
        .map_err(|_| DatabaseError::TimedOut { what: "log in" })?
    }

    async fn run(&mut self, what: &'static str, sql: &str) -> Result<Rows, DatabaseError> {
        timeout(STATEMENT_TIME, self.channel.run(what, sql))
            .await
            .map_err(|_| DatabaseError::TimedOut { what })?
    }

    async fn close(mut self) {
        self.channel.sequence = 0;
        let _ = timeout(REACH_TIME, self.channel.send(&[1])).await;
    }
}

struct Channel {
    stream: Box<dyn Stream>,
    address: String,
    buffer: BytesMut,
    sequence: u8,
}

impl Channel {
    fn broken(&self, source: std::io::Error) -> DatabaseError {
        DatabaseError::Reach {
            address: self.address.clone(),
            source,
        }
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), DatabaseError> {
        let length = u32::try_from(payload.len()).map_err(|_| unexpected())?;
        if length >= PACKET_BYTES_MAX {
            return Err(unexpected());
        }
        let mut packet = BytesMut::with_capacity(payload.len().saturating_add(4));
        packet.put_uint_le(u64::from(length), 3);
        packet.put_u8(self.sequence);
        packet.put_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        let sent = async {
            self.stream.write_all(&packet).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|source| self.broken(source))
    }

    async fn next(&mut self) -> Result<Packet, DatabaseError> {
        loop {
            if let Some((header, _)) = self.buffer.split_first_chunk::<4>() {
                let [low, middle, high, sequence] = *header;
                let length = u32::from_le_bytes([low, middle, high, 0]);
                let length = usize::try_from(length).map_err(|_| unexpected())?;
                if length > MESSAGE_BYTES_MAX {
                    return Err(DatabaseError::Message {
                        problem: "it is too long",
                    });
                }
                let whole = length.saturating_add(4);
                if self.buffer.len() >= whole {
                    let mut packet = self.buffer.split_to(whole);
                    packet.advance(4);
                    self.sequence = sequence.wrapping_add(1);
                    return Ok(Packet(packet));
                }
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(|source| self.broken(source))? == 0 {
                return Err(self.broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    async fn log_in(
        &mut self,
        server: &Server<'_>,
        tcp: tokio::net::TcpStream,
        login: Login<'_>,
    ) -> Result<String, DatabaseError> {
        let trust = server.trust(&[])?;
        // The greeting is read byte for byte: what follows it belongs to TLS.
        let mut tcp = tcp;
        let greeting = Greeting::read(&mut self.greet(&mut tcp).await?)?;
        self.stream = match trust {
            Trust::Plaintext => Box::new(tcp),
            Trust::Tls(tls) => {
                if greeting.capabilities & WITH_TLS == 0 {
                    return Err(DatabaseError::TlsRefused);
                }
                let mut packet = BytesMut::new();
                packet.put_slice(&[32, 0, 0, self.sequence]);
                packet.put_slice(&head(CAPABILITIES | WITH_TLS));
                self.sequence = self.sequence.wrapping_add(1);
                let asked = tcp.write_all(&packet).await;
                asked.map_err(|source| server.broken(source))?;
                Box::new(server.encrypt(tcp, &tls).await?)
            }
        };
        let mut response = BytesMut::new();
        let capabilities = match self.sequence {
            2 => CAPABILITIES | WITH_TLS,
            _ => CAPABILITIES,
        };
        response.put_slice(&head(capabilities));
        put_text(&mut response, login.user)?;
        // Whatever the server's first choice is, this is the answer to its challenge for the one spoken here;
        // it asks again when the account has another.
        let first = proof(login.password, &greeting.challenge);
        response.put_u8(u8::try_from(first.len()).map_err(|_| unexpected())?);
        response.put_slice(&first);
        put_text(&mut response, NATIVE)?;
        self.send(&response).await?;
        let refused = |packet: Packet| {
            let (code, words) = packet.error();
            DatabaseError::LoginRefused {
                user: login.user.to_owned(),
                code,
                words,
            }
        };
        for _ in 0..2 {
            let mut packet = self.next().await?;
            match packet.kind() {
                Some(0x00) => return Ok(greeting.version),
                Some(0xff) => return Err(refused(packet)),
                Some(0xfe) => {
                    packet.0.advance(1);
                    let method = packet.text()?;
                    if method != NATIVE {
                        return Err(DatabaseError::Method {
                            method: words(&method),
                        });
                    }
                    let challenge = challenge(&packet.0)?;
                    self.send(&proof(login.password, &challenge)).await?;
                }
                _ => return Err(unexpected()),
            }
        }
        Err(unexpected())
    }

    async fn greet(&mut self, tcp: &mut tokio::net::TcpStream) -> Result<Packet, DatabaseError> {
        let mut header = [0_u8; 4];
        let read = tcp.read_exact(&mut header).await;
        read.map_err(|source| self.broken(source))?;
        let [low, middle, high, sequence] = header;
        let length = usize::try_from(u32::from_le_bytes([low, middle, high, 0]))
            .map_err(|_| unexpected())?;
        if length > 1_024 {
            return Err(unexpected());
        }
        let mut body = vec![0_u8; length];
        let read = tcp.read_exact(&mut body).await;
        read.map_err(|source| self.broken(source))?;
        self.sequence = sequence.wrapping_add(1);
        Ok(Packet(BytesMut::from(&body[..])))
    }

    async fn run(&mut self, what: &'static str, sql: &str) -> Result<Rows, DatabaseError> {
        let mut query = BytesMut::with_capacity(sql.len().saturating_add(1));
        query.put_u8(3);
        query.put_slice(sql.as_bytes());
        self.sequence = 0;
        self.send(&query).await?;
        let mut first = self.next().await?;
        let columns = match first.kind() {
            Some(0x00) => return Ok(Rows::new()),
            Some(0xff) => return Err(refused(what, first)),
            // It asks for a file.
            Some(0xfb) | None => return Err(unexpected()),
            Some(_) => first.length()?.ok_or_else(unexpected)?,
        };
        if columns > 64 {
            return Err(unexpected());
        }
        for _ in 0..columns {
            self.next().await?;
        }
        if !self.next().await?.is_end() {
            return Err(unexpected());
        }
        let mut rows = Rows::new();
        loop {
            let mut packet = self.next().await?;
            if packet.is_end() {
                return Ok(rows);
            }
            if packet.kind() == Some(0xff) {
                return Err(refused(what, packet));
            }
            if rows.len() >= ROWS_MAX {
                return Err(unexpected());
            }
            let mut row = Vec::new();
            for _ in 0..columns {
                row.push(packet.column()?);
            }
            rows.push(Row(row));
        }
    }
}

fn refused(what: &'static str, packet: Packet) -> DatabaseError {
    let (code, words) = packet.error();
    DatabaseError::Refused { what, code, words }
}

/// What a server says first.
struct Greeting {
    version: String,
    capabilities: u32,
    challenge: [u8; SCRAMBLE_BYTES],
}

impl Greeting {
    fn read(packet: &mut Packet) -> Result<Self, DatabaseError> {
        if packet.kind() == Some(0xff) {
            let (code, words) = std::mem::replace(packet, Packet(BytesMut::new())).error();
            return Err(DatabaseError::LoginRefused {
                user: String::new(),
                code,
                words,
            });
        }
        let gone = |_| unexpected();
        let body = &mut packet.0;
        if body.try_get_u8().map_err(gone)? != 10 {
            return Err(unexpected());
        }
        let version = Packet::text_of(body)?;
        body.try_get_u32_le().map_err(gone)?;
        let mut seed = Vec::with_capacity(SCRAMBLE_BYTES);
        seed.extend_from_slice(body.get(..8).ok_or_else(unexpected)?);
        body.advance(8);
        body.try_get_u8().map_err(gone)?;
        let low = body.try_get_u16_le().map_err(gone)?;
        body.try_get_u8().map_err(gone)?;
        body.try_get_u16_le().map_err(gone)?;
        let high = body.try_get_u16_le().map_err(gone)?;
        // Length of the challenge, and ten bytes that say nothing here.
        seed.extend_from_slice(body.get(11..23).ok_or_else(unexpected)?);
        Ok(Self {
            version: words(&version),
            capabilities: u32::from(low) | (u32::from(high) << 16),
            challenge: challenge(&seed)?,
        })
    }
}

fn challenge(bytes: &[u8]) -> Result<[u8; SCRAMBLE_BYTES], DatabaseError> {
    let (challenge, _) = bytes
        .split_first_chunk::<SCRAMBLE_BYTES>()
        .ok_or_else(unexpected)?;
    Ok(*challenge)
}

/// The front of an answer to a greeting.
fn head(capabilities: u32) -> [u8; 32] {
    let mut head = [0_u8; 32];
    let mut rest = &mut head[..];
    rest.put_u32_le(capabilities);
    rest.put_u32_le(PACKET_BYTES_MAX);
    rest.put_u8(CHARACTER_SET);
    head
}

fn proof(password: &SecretString, challenge: &[u8]) -> Vec<u8> {
    scramble::native(password.expose_secret().as_bytes(), challenge)
}

fn put_text(to: &mut BytesMut, text: &str) -> Result<(), DatabaseError> {
    if text.contains('\0') {
        return Err(DatabaseError::Message {
            problem: "ours would hold a NUL",
        });
    }
    to.put_slice(text.as_bytes());
    to.put_u8(0);
    Ok(())
}

fn unexpected() -> DatabaseError {
    DatabaseError::Message {
        problem: "it has no place here",
    }
}

/// A packet's payload, read from its front.
struct Packet(BytesMut);

impl Packet {
    fn kind(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn is_end(&self) -> bool {
        self.kind() == Some(0xfe) && self.0.len() < 9
    }

    fn text(&mut self) -> Result<String, DatabaseError> {
        Self::text_of(&mut self.0)
    }

    fn text_of(bytes: &mut BytesMut) -> Result<String, DatabaseError> {
        let end = bytes.iter().position(|b| *b == 0).ok_or_else(unexpected)?;
        let text = bytes.split_to(end);
        bytes.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| unexpected())
    }

    /// A length-encoded number; nothing for NULL.
    fn length(&mut self) -> Result<Option<usize>, DatabaseError> {
        let gone = |_| unexpected();
        let wide = match self.0.try_get_u8().map_err(gone)? {
            0xfb => return Ok(None),
            0xfc => u64::from(self.0.try_get_u16_le().map_err(gone)?),
            0xfd => self.0.try_get_uint_le(3).map_err(gone)?,
            0xfe => self.0.try_get_u64_le().map_err(gone)?,
            0xff => return Err(unexpected()),
            short => u64::from(short),
        };
        usize::try_from(wide).map(Some).map_err(|_| unexpected())
    }

    fn column(&mut self) -> Result<Option<String>, DatabaseError> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        if length > self.0.len() {
            return Err(unexpected());
        }
        let text = self.0.split_to(length).to_vec();
        String::from_utf8(text).map(Some).map_err(|_| unexpected())
    }

    /// The SQLSTATE and the words of an error.
    fn error(mut self) -> (String, String) {
        if self.0.len() < 3 {
            return (String::new(), String::new());
        }
        self.0.advance(3);
        let code = match self.0.first() {
            Some(b'#') if self.0.len() >= 6 => {
                self.0.advance(1);
                String::from_utf8_lossy(&self.0.split_to(5)).into_owned()
            }
            _ => String::new(),
        };
        (words(&code), words(&String::from_utf8_lossy(&self.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// G3
        #[test]
        fn reading_any_packet_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let packet = || Packet(BytesMut::from(&bytes[..]));
            let _ = Greeting::read(&mut packet());
            let _ = packet().column();
            let _ = packet().error();
            let _ = packet().text();
            let _ = packet().is_end();
        }
    }
}
