//! A minimal SSH transport that says whatever a test wants, at any moment, as client or as server.
//!
//! Used where a real library would refuse to misbehave: `messages`, `impersonation`, `hostile_target`.
//! One way through each negotiation: curve25519-sha256, ssh-ed25519, aes256-gcm@openssh.com (RFC 4253,
//! RFC 8731, RFC 5647, OpenSSH's `PROTOCOL` for the cipher's name and strict key exchange).
//!
//! INVARIANT: nothing is sent that the test did not ask for, except in [`Wire::exchange_keys`].
//!
//! Not here: who the peer is. A test that uses this knows both ends.

use std::net::SocketAddr;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Message numbers (RFC 4250 section 4.1, RFC 8308).
pub(crate) mod number {
    pub(crate) const DISCONNECT: u8 = 1;
    pub(crate) const IGNORE: u8 = 2;
    pub(crate) const UNIMPLEMENTED: u8 = 3;
    pub(crate) const SERVICE_REQUEST: u8 = 5;
    pub(crate) const SERVICE_ACCEPT: u8 = 6;
    pub(crate) const EXT_INFO: u8 = 7;
    pub(crate) const KEXINIT: u8 = 20;
    pub(crate) const NEWKEYS: u8 = 21;
    pub(crate) const ECDH_INIT: u8 = 30;
    pub(crate) const ECDH_REPLY: u8 = 31;
    pub(crate) const USERAUTH_REQUEST: u8 = 50;
    pub(crate) const USERAUTH_FAILURE: u8 = 51;
    pub(crate) const USERAUTH_SUCCESS: u8 = 52;
    pub(crate) const USERAUTH_PK_OK: u8 = 60;
    pub(crate) const INFO_RESPONSE: u8 = 61;
    pub(crate) const GLOBAL_REQUEST: u8 = 80;
    pub(crate) const REQUEST_FAILURE: u8 = 82;
    pub(crate) const CHANNEL_OPEN: u8 = 90;
    pub(crate) const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
    pub(crate) const CHANNEL_OPEN_FAILURE: u8 = 92;
    pub(crate) const WINDOW_ADJUST: u8 = 93;
    pub(crate) const CHANNEL_DATA: u8 = 94;
    pub(crate) const EXTENDED_DATA: u8 = 95;
    pub(crate) const CHANNEL_EOF: u8 = 96;
    pub(crate) const CHANNEL_CLOSE: u8 = 97;
    pub(crate) const CHANNEL_REQUEST: u8 = 98;
    pub(crate) const CHANNEL_SUCCESS: u8 = 99;
    pub(crate) const CHANNEL_FAILURE: u8 = 100;
}

/// Puts a message together.
#[derive(Clone, Debug)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    pub(crate) fn new(number: u8) -> Self {
        Self(vec![number])
    }

    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn text(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut message = self.number(u32::try_from(text.len()).unwrap());
        message.0.extend(text);
        message
    }

    /// [`Message::text`] for folds.
    pub(crate) fn text_ref(self, text: &&str) -> Self {
        self.text(*text)
    }

    /// A number of any size, in the form that hashes take.
    fn big(self, bytes: &[u8]) -> Self {
        let first = bytes.iter().position(|byte| *byte != 0);
        let mut digits = first.map_or(Vec::new(), |first| bytes[first..].to_vec());
        if digits.first().is_some_and(|byte| *byte >= 0x80) {
            digits.insert(0, 0);
        }
        self.text(digits)
    }
}

/// What has no number in front.
pub(crate) fn plain() -> Message {
    Message(Vec::new())
}

/// Takes the next string off a message; nothing where there is none.
pub(crate) fn take_text(message: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = message.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *message = rest;
    Some(text.to_vec())
}

/// An Ed25519 key of a person or a server.
#[derive(Debug)]
pub(crate) struct WireKey(Ed25519KeyPair);

impl WireKey {
    pub(crate) fn generate() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn blob(&self) -> Vec<u8> {
        plain()
            .text("ssh-ed25519")
            .text(self.0.public_key().as_ref())
            .0
    }

    /// As OpenSSH writes it in a line.
    pub(crate) fn line(&self) -> String {
        format!("ssh-ed25519 {}", BASE64_STANDARD.encode(self.blob()))
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        plain()
            .text("ssh-ed25519")
            .text(self.0.sign(bytes).as_ref())
            .0
    }
}

/// The keys of one direction.
struct Sealing {
    key: LessSafeKey,
    nonce: [u8; 12],
}

impl Sealing {
    fn next_nonce(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let (_, counter) = self.nonce.split_at_mut(4);
        let next = u64::from_be_bytes((&*counter).try_into().unwrap()).wrapping_add(1);
        counter.copy_from_slice(&next.to_be_bytes());
        nonce
    }
}

/// Which end of a connection a test plays.
#[derive(Debug)]
pub(crate) enum Side {
    Client,
    Server(WireKey),
}

/// The connection is closed, or says what is not SSH.
#[derive(Debug)]
pub(crate) struct Closed;

/// One connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    side: Side,
    received: BytesMut,
    sends: Option<Sealing>,
    receives: Option<Sealing>,
    session_id: Option<Vec<u8>>,
    our_version: String,
    their_version: String,
    /// What the peer proposed last.
    their_proposal: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), Side::Client)
    }

    pub(crate) fn over(stream: TcpStream, side: Side) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            side,
            received: BytesMut::new(),
            sends: None,
            receives: None,
            session_id: None,
            our_version: "SSH-2.0-Wire".to_owned(),
            their_version: String::new(),
            their_proposal: Vec::new(),
        }
    }

    /// A client whose keys are exchanged.
    pub(crate) async fn keyed(address: SocketAddr) -> Result<Self, Closed> {
        let mut wire = Self::connect(address).await;
        wire.exchange_versions().await?;
        wire.exchange_keys().await?;
        Ok(wire)
    }

    /// A client that was let in with a key.
    pub(crate) async fn admitted(
        address: SocketAddr,
        user: &str,
        key: &WireKey,
    ) -> Result<Self, Closed> {
        let mut wire = Self::keyed(address).await?;
        wire.begin_authentication().await?;
        let proof = wire.key_proof(user, key, key);
        wire.send(&proof).await?;
        match wire.receive_any_of(&[number::USERAUTH_SUCCESS]).await {
            Ok(_) => Ok(wire),
            Err(closed) => Err(closed),
        }
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.stream.write_all(bytes).await.map_err(|_| Closed)
    }

    /// Sends no more.
    pub(crate) async fn finish(&mut self) {
        // The peer may have closed it already.
        let _ = self.stream.shutdown().await;
    }

    async fn more(&mut self) -> Result<(), Closed> {
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) | Err(_) => Err(Closed),
            Ok(_) => Ok(()),
        }
    }

    pub(crate) async fn send_version(&mut self) -> Result<(), Closed> {
        let line = format!("{}\r\n", self.our_version);
        self.send_raw(line.as_bytes()).await
    }

    pub(crate) async fn receive_version(&mut self) -> Result<(), Closed> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line = self.received.split_to(end + 1);
                self.their_version = String::from_utf8_lossy(&line).trim_end().to_owned();
                return Ok(());
            }
            self.more().await?;
        }
    }

    pub(crate) async fn exchange_versions(&mut self) -> Result<(), Closed> {
        self.send_version().await?;
        self.receive_version().await
    }

    /// A packet, sealed once keys were exchanged.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), Closed> {
        let packet = self.packet(message);
        self.send_raw(&packet).await
    }

    pub(crate) fn packet(&mut self, message: &[u8]) -> Vec<u8> {
        // The length is outside what is sealed, and inside what is aligned otherwise (RFC 5647).
        let (block, outside) = if self.sends.is_some() {
            (16, 0)
        } else {
            (8, 4)
        };
        let mut padding = block - (outside + 1 + message.len()) % block;
        if padding < 4 {
            padding += block;
        }
        let length = u32::try_from(1 + message.len() + padding).unwrap();
        let mut packet = length.to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend(message);
        packet.resize(packet.len() + padding, 0);
        if let Some(sealing) = &mut self.sends {
            let (length, inner) = packet.split_at_mut(4);
            let nonce = sealing.next_nonce();
            let tag = sealing
                .key
                .seal_in_place_separate_tag(nonce, Aad::from(&*length), inner)
                .unwrap();
            packet.extend(tag.as_ref());
        }
        packet
    }

    /// The next packet's message.
    pub(crate) async fn receive(&mut self) -> Result<Vec<u8>, Closed> {
        let tag_length = if self.receives.is_some() { 16 } else { 0 };
        while self.received.len() < 4 {
            self.more().await?;
        }
        let length = u32::from_be_bytes(self.received[..4].try_into().unwrap()) as usize;
        if length > 300 * 1024 {
            return Err(Closed);
        }
        while self.received.len() < 4 + length + tag_length {
            self.more().await?;
        }
        let head = self.received.split_to(4);
        let mut body = self.received.split_to(length + tag_length);
        if let Some(sealing) = &mut self.receives {
            let nonce = sealing.next_nonce();
            sealing
                .key
                .open_in_place(nonce, Aad::from(&head[..]), &mut body)
                .map_err(|_| Closed)?;
            body.truncate(length);
        }
        let padding = usize::from(*body.first().ok_or(Closed)?);
        let message = body.get(1..length.checked_sub(padding).ok_or(Closed)?);
        Ok(message.ok_or(Closed)?.to_vec())
    }

    /// Reads until a message with one of these numbers comes.
    pub(crate) async fn receive_any_of(&mut self, numbers: &[u8]) -> Result<Vec<u8>, Closed> {
        loop {
            let message = self.receive().await?;
            if message.first().is_some_and(|first| numbers.contains(first)) {
                return Ok(message);
            }
        }
    }

    /// What this end proposes, with strict key exchange.
    pub(crate) fn proposal(&self) -> Vec<u8> {
        let kex = match self.side {
            Side::Client => "curve25519-sha256,kex-strict-c-v00@openssh.com",
            Side::Server(_) => "curve25519-sha256,kex-strict-s-v00@openssh.com",
        };
        let cipher = "aes256-gcm@openssh.com";
        let mac = "hmac-sha2-256-etm@openssh.com";
        let mut message = Message::new(number::KEXINIT);
        message.0.extend([7; 16]);
        let lists = [kex, "ssh-ed25519", cipher, cipher, mac, mac, "none", "none"];
        let named = lists.into_iter().fold(message, Message::text);
        named.text("").text("").byte(0).number(0).0
    }

    /// One key exchange, from whatever keys there are.
    pub(crate) async fn exchange_keys(&mut self) -> Result<(), Closed> {
        let ours = self.proposal();
        self.send(&ours).await?;
        self.receive_proposal().await?;
        self.agree(ours).await
    }

    pub(crate) async fn receive_proposal(&mut self) -> Result<(), Closed> {
        self.their_proposal = self.receive_any_of(&[number::KEXINIT]).await?;
        Ok(())
    }

    /// What follows the proposals.
    pub(crate) async fn agree(&mut self, ours: Vec<u8>) -> Result<(), Closed> {
        let secret = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let our_point = secret.compute_public_key().unwrap().as_ref().to_vec();
        let (host_key, client_point, server_point, their_point);
        if matches!(self.side, Side::Client) {
            let init = Message::new(number::ECDH_INIT).text(&our_point).0;
            self.send(&init).await?;
            let reply = self.receive_any_of(&[number::ECDH_REPLY]).await?;
            let mut rest = &reply[1..];
            host_key = take_text(&mut rest).ok_or(Closed)?;
            their_point = take_text(&mut rest).ok_or(Closed)?;
            (client_point, server_point) = (our_point, their_point.clone());
        } else {
            let init = self.receive_any_of(&[number::ECDH_INIT]).await?;
            their_point = take_text(&mut &init[1..]).ok_or(Closed)?;
            let Side::Server(key) = &self.side else {
                return Err(Closed);
            };
            host_key = key.blob();
            (client_point, server_point) = (their_point.clone(), our_point);
        }
        let peer = UnparsedPublicKey::new(&X25519, &their_point);
        let shared = agree_ephemeral(secret, peer, Closed, |shared| Ok(shared.to_vec()))?;
        let theirs = self.their_proposal.clone();
        let versions = [self.our_version.clone(), self.their_version.clone()];
        let is_client = matches!(self.side, Side::Client);
        let ordered = |ours: Vec<u8>, theirs: Vec<u8>| match is_client {
            true => plain().text(ours).text(theirs),
            false => plain().text(theirs).text(ours),
        };
        let [our_version, their_version] = versions.map(String::into_bytes);
        let mut hashed = ordered(our_version, their_version);
        hashed.0.extend(ordered(ours, theirs).0);
        let hashed = hashed.text(&host_key).text(client_point);
        let hashed = hashed.text(&server_point).big(&shared);
        let hash = digest(&SHA256, &hashed.0).as_ref().to_vec();
        if let Side::Server(key) = &self.side {
            let signature = key.sign(&hash);
            let reply = Message::new(number::ECDH_REPLY).text(host_key);
            let reply = reply.text(server_point).text(signature).0;
            self.send(&reply).await?;
        }
        self.send(&[number::NEWKEYS]).await?;
        self.receive_any_of(&[number::NEWKEYS]).await?;
        let session_id = self.session_id.get_or_insert_with(|| hash.clone()).clone();
        let derive = |letter: u8| {
            let mut from = plain().big(&shared).0;
            from.extend(&hash);
            from.push(letter);
            from.extend(&session_id);
            digest(&SHA256, &from).as_ref().to_vec()
        };
        let sealing = |nonce, key| Sealing {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derive(key)).unwrap()),
            nonce: derive(nonce)[..12].try_into().unwrap(),
        };
        let (by_client, by_server) = (sealing(b'A', b'C'), sealing(b'B', b'D'));
        (self.sends, self.receives) = match is_client {
            true => (Some(by_client), Some(by_server)),
            false => (Some(by_server), Some(by_client)),
        };
        Ok(())
    }

    pub(crate) async fn begin_authentication(&mut self) -> Result<(), Closed> {
        let request = Message::new(number::SERVICE_REQUEST).text("ssh-userauth").0;
        self.send(&request).await?;
        self.receive_any_of(&[number::SERVICE_ACCEPT]).await?;
        Ok(())
    }

    /// A proof that offers one key and signs with another; honest ones use one key twice.
    pub(crate) fn key_proof(&self, user: &str, offered: &WireKey, signer: &WireKey) -> Vec<u8> {
        let request = key_request(user, 1, "ssh-ed25519", &offered.blob());
        self.signed(request, signer)
    }

    /// A request with a signature over it.
    pub(crate) fn signed(&self, request: Message, signer: &WireKey) -> Vec<u8> {
        let mut signed = plain().text(self.session_id());
        signed.0.extend(&request.0);
        let signature = signer.sign(&signed.0);
        request.text(signature).0
    }

    /// Says a message and returns the number of the first answer that is one of `numbers`.
    pub(crate) async fn ask(&mut self, message: &[u8], numbers: &[u8]) -> Result<u8, Closed> {
        self.send(message).await?;
        let answer = self.receive_any_of(numbers).await?;
        Ok(answer[0])
    }

    /// Opens a session channel; the peer's number of it.
    pub(crate) async fn open_channel(&mut self) -> Result<u32, Closed> {
        self.send(&open_session()).await?;
        let confirmation = [number::CHANNEL_OPEN_CONFIRMATION];
        Ok(confirmed(&self.receive_any_of(&confirmation).await?))
    }

    /// What signatures on this connection are over first.
    pub(crate) fn session_id(&self) -> Vec<u8> {
        self.session_id.clone().unwrap()
    }
}

/// An authentication request by key, as far as its signature.
pub(crate) fn key_request(user: &str, has_signature: u8, algorithm: &str, blob: &[u8]) -> Message {
    Message::new(number::USERAUTH_REQUEST)
        .text(user)
        .text("ssh-connection")
        .text("publickey")
        .byte(has_signature)
        .text(algorithm)
        .text(blob)
}

/// The peer's number of a channel that it confirmed.
fn confirmed(confirmation: &[u8]) -> u32 {
    u32::from_be_bytes(confirmation[5..9].try_into().unwrap())
}

/// Opens a session channel with the number 0 of this end.
pub(crate) fn open_session() -> Vec<u8> {
    Message::new(number::CHANNEL_OPEN)
        .text("session")
        .number(0)
        .number(2 * 1024 * 1024)
        .number(32 * 1024)
        .0
}

/// Asks a channel to run a command, with an answer.
pub(crate) fn exec(channel: u32, command: &str) -> Vec<u8> {
    Message::new(number::CHANNEL_REQUEST)
        .number(channel)
        .text("exec")
        .byte(1)
        .text(command)
        .0
}
