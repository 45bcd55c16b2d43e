//! Messages of the PostgreSQL frontend/backend protocol as bytes: pure, total on any input.
//!
//! Followed: the chapter "Frontend/Backend Protocol" of PostgreSQL's documentation, versions 3.0 and 3.2.
//! After login nothing is decoded that is only passed on: a message is found by its header, and read only
//! where a control needs to know what it says.
//!
//! INVARIANT: a length is compared with its limit before a byte of its body is waited for; arithmetic on
//! lengths saturates or fails (security class G3). What is forwarded are the bytes that were read here.

use bytes::{BufMut, BytesMut};

/// Bytes of a message's header: its kind and its length.
pub(super) const HEADER_BYTES: usize = 5;
/// Longest message that the protocol's own lengths allow.
const MESSAGE_BYTES_MAX: usize = 0x7fff_ffff;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    /// A length that cannot be.
    #[error("read a message whose length is impossible")]
    Length,
    /// Longer than allowed here.
    #[error("read a message that is longer than allowed")]
    TooLong,
    /// Its body is not what its kind says.
    #[error("read the body of a message")]
    Body,
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What kind of message, as the protocol's letter.
    pub(super) kind: u8,
    /// Bytes of the whole message, header included.
    pub(super) bytes: usize,
}

/// Reads the header at the front of `bytes`; nothing while it is incomplete.
pub(super) fn header(bytes: &[u8]) -> Result<Option<Header>, CodecError> {
    let Some(([kind], rest)) = bytes.split_first_chunk::<1>() else {
        return Ok(None);
    };
    let Some(length) = rest.first_chunk::<4>() else {
        return Ok(None);
    };
    // The length counts itself, but not the kind.
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CodecError::Length)?;
    if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(CodecError::Length);
    }
    Ok(Some(Header {
        kind: *kind,
        bytes: length.checked_add(1).ok_or(CodecError::Length)?,
    }))
}

/// Reads a body from its front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    /// The body of a whole message.
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message.get(HEADER_BYTES..).unwrap_or_default())
    }

    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CodecError::Body)?;
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError::Body)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(u8::from_be_bytes(self.chunk()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(u16::from_be_bytes(self.chunk()?))
    }

    pub(super) fn i16(&mut self) -> Result<i16, CodecError> {
        Ok(i16::from_be_bytes(self.chunk()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_be_bytes(self.chunk()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, CodecError> {
        Ok(i32::from_be_bytes(self.chunk()?))
    }

    /// A string that ends with a zero byte, without it.
    pub(super) fn text(&mut self) -> Result<&'a [u8], CodecError> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or(CodecError::Body)?)?;
        self.byte()?;
        Ok(text)
    }

    /// As [`Body::text`], of UTF-8.
    pub(super) fn utf8(&mut self) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.text()?).map_err(|_| CodecError::Body)
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Code of a first message that asks for TLS.
const SSL_REQUEST: u32 = 80_877_103;
/// Code of a first message that asks for GSSAPI encryption.
const GSS_REQUEST: u32 = 80_877_104;
/// Code of a first message that asks for a cancellation.
const CANCEL_REQUEST: u32 = 80_877_102;
/// Longest first message, as PostgreSQL has it.
pub(super) const STARTUP_BYTES_MAX: usize = 10_000;
/// Longest secret of a cancel key, as version 3.2 has it.
pub(super) const CANCEL_SECRET_BYTES_MAX: usize = 256;
/// Most parameters of a startup message.
pub(super) const STARTUP_PARAMETERS_MAX: usize = 64;

/// The first message of a connection, which has no kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FirstMessage {
    /// Asks whether TLS is spoken.
    SslRequest,
    /// Asks whether GSSAPI encryption is spoken.
    GssRequest,
    /// Asks to cancel what runs in another connection.
    Cancel(CancelKey),
    /// Begins a session.
    Startup(Startup),
}

/// A key that cancels what runs in one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CancelKey {
    pub(super) process: u32,
    pub(super) secret: Vec<u8>,
}

/// A startup message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Startup {
    pub(super) major: u16,
    pub(super) minor: u16,
    /// In the client's order.
    pub(super) parameters: Vec<(String, String)>,
}

impl Startup {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Length of the first message at the front of `bytes`, itself included; nothing while it is incomplete.
pub(super) fn first_length(bytes: &[u8]) -> Result<Option<usize>, CodecError> {
    let Some(length) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CodecError::Length)?;
    if length < 8 {
        return Err(CodecError::Length);
    }
    if length > STARTUP_BYTES_MAX {
        return Err(CodecError::TooLong);
    }
    Ok(Some(length))
}

/// Reads a whole first message.
pub(super) fn first_message(message: &[u8]) -> Result<FirstMessage, CodecError> {
    let mut body = Body::new(message);
    body.u32()?;
    let code = body.u32()?;
    match code {
        SSL_REQUEST if body.is_empty() => Ok(FirstMessage::SslRequest),
        GSS_REQUEST if body.is_empty() => Ok(FirstMessage::GssRequest),
        SSL_REQUEST | GSS_REQUEST => Err(CodecError::Length),
        CANCEL_REQUEST => {
            let process = body.u32()?;
            let secret = body.rest();
            if !(4..=CANCEL_SECRET_BYTES_MAX).contains(&secret.len()) {
                return Err(CodecError::Length);
            }
            Ok(FirstMessage::Cancel(CancelKey {
                process,
                secret: secret.to_vec(),
            }))
        }
        version => startup(version, body).map(FirstMessage::Startup),
    }
}

fn startup(version: u32, mut body: Body<'_>) -> Result<Startup, CodecError> {
    let [major_high, major_low, minor_high, minor_low] = version.to_be_bytes();
    let major = u16::from_be_bytes([major_high, major_low]);
    let minor = u16::from_be_bytes([minor_high, minor_low]);
    let mut parameters: Vec<(String, String)> = Vec::new();
    // Another version may say something else here.
    if major == 3 {
        loop {
            let name = body.utf8()?;
            if name.is_empty() {
                break;
            }
            let value = body.utf8()?;
            // Servers take the last of two; whoever checks the first has checked nothing.
            let is_new = parameters.iter().all(|(known, _)| known != name);
            if !is_new || parameters.len() >= STARTUP_PARAMETERS_MAX {
                return Err(CodecError::Body);
            }
            parameters.push((name.to_owned(), value.to_owned()));
        }
        if !body.is_empty() {
            return Err(CodecError::Body);
        }
    }
    Ok(Startup {
        major,
        minor,
        parameters,
    })
}

/// Appends one message: its kind, its length, and what `write` puts into its body.
pub(super) fn message(
    out: &mut BytesMut,
    kind: u8,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), CodecError> {
    out.put_u8(kind);
    sized(out, write)
}

/// Appends a length that counts itself, and what it counts.
fn sized(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) -> Result<(), CodecError> {
    let mut body = BytesMut::new();
    write(&mut body);
    let length = body.len().checked_add(4).ok_or(CodecError::TooLong)?;
    out.put_u32(u32::try_from(length).map_err(|_| CodecError::TooLong)?);
    out.put_slice(&body);
    Ok(())
}

/// Puts a string with its final zero byte. What would end it early is left out.
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

/// A request for TLS.
pub(super) fn ssl_request() -> [u8; 8] {
    let [a, b, c, d] = SSL_REQUEST.to_be_bytes();
    [0, 0, 0, 8, a, b, c, d]
}

/// A request to cancel.
pub(super) fn cancel_request(key: &CancelKey) -> Result<BytesMut, CodecError> {
    let mut out = BytesMut::new();
    sized(&mut out, |body| {
        body.put_u32(CANCEL_REQUEST);
        body.put_u32(key.process);
        body.put_slice(&key.secret);
    })?;
    Ok(out)
}

/// A startup message of version 3.0.
pub(super) fn startup_message(parameters: &[(String, String)]) -> Result<BytesMut, CodecError> {
    let mut out = BytesMut::new();
    sized(&mut out, |body| {
        body.put_u16(3);
        body.put_u16(0);
        for (name, value) in parameters {
            put_text(body, name);
            put_text(body, value);
        }
        body.put_u8(0);
    })?;
    Ok(out)
}

/// What a server says that something went wrong with, or that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report<'a> {
    /// `FATAL`, `ERROR`, `NOTICE`.
    pub(super) severity: &'static str,
    /// SQLSTATE.
    pub(super) code: &'static str,
    pub(super) message: &'a str,
    pub(super) detail: Option<&'a str>,
    pub(super) hint: Option<&'a str>,
}

impl Report<'_> {
    /// Appends it, as an error or a notice.
    pub(super) fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        let kind = if self.severity == "NOTICE" {
            b'N'
        } else {
            b'E'
        };
        message(out, kind, |body| {
            for (field, text) in [
                (b'S', Some(self.severity)),
                (b'V', Some(self.severity)),
                (b'C', Some(self.code)),
                (b'M', Some(self.message)),
                (b'D', self.detail),
                (b'H', self.hint),
            ] {
                if let Some(text) = text {
                    body.put_u8(field);
                    put_text(body, text);
                }
            }
            body.put_u8(0);
        })
    }
}

/// What matters of an error that a server sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerError {
    /// SQLSTATE; empty when it has none.
    pub(super) sqlstate: String,
    /// Whether the server closes the connection after it.
    pub(super) is_fatal: bool,
}

/// Reads an error that a server sent. Fields that cannot be read are not there.
pub(super) fn server_error(mut body: Body<'_>) -> ServerError {
    let mut error = ServerError::default();
    loop {
        let (Ok(field), Ok(text)) = (body.byte(), body.text()) else {
            return error;
        };
        match field {
            b'C' => {
                let is_code = text.len() == 5 && text.iter().all(u8::is_ascii_alphanumeric);
                if is_code {
                    error.sqlstate = String::from_utf8_lossy(text).into_owned();
                }
            }
            // `V` is never translated; servers before 9.6 have only `S`.
            b'S' | b'V' => error.is_fatal |= matches!(text, b"FATAL" | b"PANIC"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(code: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(rest.len() + 8)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        bytes.extend(code.to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    /// G3: every length at its limits.
    #[test]
    fn given_a_length_that_cannot_be_then_it_is_refused_before_its_body() {
        for length in [0_u32, 1, 2, 3, 0x8000_0000, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(header(&bytes), Err(CodecError::Length), "{length}");
        }
        for length in [4_u32, 5, 0x7fff_ffff] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            let found = header(&bytes).unwrap().unwrap();
            assert_eq!(found.bytes as u64, u64::from(length) + 1);
        }
        for length in [0_u32, 4, 7] {
            assert_eq!(first_length(&length.to_be_bytes()), Err(CodecError::Length));
        }
        for length in [10_001_u32, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            assert_eq!(
                first_length(&length.to_be_bytes()),
                Err(CodecError::TooLong)
            );
        }
        assert_eq!(first_length(&10_000_u32.to_be_bytes()), Ok(Some(10_000)));
    }

    #[test]
    fn given_a_header_in_pieces_then_it_is_waited_for() {
        let bytes = [b'S', 0, 0, 0, 4];
        for end in 0..5 {
            assert_eq!(header(&bytes[..end]), Ok(None));
        }
        assert_eq!(header(&bytes).unwrap().unwrap().bytes, 5);
    }

    /// GW-2, G5: what one reader takes for the first and another for the last is refused.
    #[test]
    fn given_a_startup_message_then_its_parameters_are_read_once_each() {
        let version = 0x0003_0002;
        let Ok(FirstMessage::Startup(startup)) =
            first_message(&first(version, b"user\0app@orders\0database\0orders\0\0"))
        else {
            panic!("no startup message");
        };
        assert_eq!((startup.major, startup.minor), (3, 2));
        assert_eq!(startup.parameter("user"), Some("app@orders"));
        for body in [
            &b"user\0a\0user\0b\0\0"[..],
            b"user\0a\0",
            b"user\0a",
            b"user\0a\0\0trailing",
            b"user\0\xff\0\0",
            b"",
        ] {
            assert!(first_message(&first(version, body)).is_err(), "{body:?}");
        }
    }

    /// G7
    #[test]
    fn given_a_cancel_request_then_its_secret_is_bounded() {
        let key = CancelKey {
            process: 7,
            secret: vec![9; 32],
        };
        let bytes = cancel_request(&key).unwrap();
        assert_eq!(first_message(&bytes), Ok(FirstMessage::Cancel(key)));
        for length in [0, 3, 257, 4_000] {
            let rest = vec![0; 4 + length];
            assert!(first_message(&first(CANCEL_REQUEST, &rest)).is_err());
        }
        assert_eq!(first_message(&ssl_request()), Ok(FirstMessage::SslRequest));
        assert!(first_message(&first(SSL_REQUEST, b"x")).is_err());
    }

    #[test]
    fn given_an_error_then_its_code_and_severity_are_read_and_nothing_else_is_believed() {
        let report = Report {
            severity: "ERROR",
            code: "42501",
            message: "no\0pe",
            detail: None,
            hint: Some("ask"),
        };
        let mut out = BytesMut::new();
        report.put(&mut out).unwrap();
        assert_eq!(header(&out).unwrap().unwrap().bytes, out.len());
        let error = server_error(Body::of(&out));
        assert_eq!((error.sqlstate.as_str(), error.is_fatal), ("42501", false));
        let odd = server_error(Body::new(b"C42'--\0VFATAL\0"));
        assert_eq!((odd.sqlstate.as_str(), odd.is_fatal), ("", true));
    }

    proptest! {
        /// G3
        #[test]
        fn reading_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = header(&bytes);
            let _ = first_length(&bytes);
            let _ = first_message(&bytes);
            let _ = server_error(Body::new(&bytes));
        }
    }
}
