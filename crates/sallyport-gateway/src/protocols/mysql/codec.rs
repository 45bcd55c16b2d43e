//! Packets of the MySQL client/server protocol as bytes: pure, total on any input.
//!
//! Followed: "MySQL Client/Server Protocol" in MySQL's source documentation, and "Clientserver protocol" of
//! MariaDB's. After login nothing is decoded that is only passed on: a packet is found by its header, and
//! read only where a control needs to know what it says.
//!
//! INVARIANT: a length is compared with its limit before a byte of its body is waited for; arithmetic on
//! lengths saturates or fails (security class G3). What is forwarded are the bytes that were read here.
//!
//! Not here: packets of logging in (`login`), which packet answers what (`relay::answer`).

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

/// Bytes of a packet's header: the length of its payload and its number.
pub(super) const HEADER_BYTES: usize = 4;
/// Longest payload of one packet. One that is this long is continued by the next.
pub(super) const PAYLOAD_MAX: usize = 0xff_ffff;

/// First byte of a packet that says that something succeeded.
pub(super) const OK: u8 = 0x00;
/// First byte of a packet that asks for a file of the client's.
pub(super) const FILE_WANTED: u8 = 0xfb;
/// First byte of a packet that ends rows or definitions.
pub(super) const END: u8 = 0xfe;
/// First byte of an error.
pub(super) const ERROR: u8 = 0xff;

/// Status: more results of the same command follow.
pub(super) const MORE_RESULTS: u16 = 0x0008;
/// Status: the rows are fetched by further commands.
pub(super) const CURSOR_EXISTS: u16 = 0x0040;
/// Status: those were the last rows of a cursor.
pub(super) const LAST_ROW_SENT: u16 = 0x0080;
/// Status: a backslash in a string is a character like any other.
pub(super) const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
/// Status: the packet says what changed in the session.
const STATE_CHANGED: u16 = 0x4000;

/// Why bytes are no packet, or none that has a place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    /// Its number is not the one after the last.
    #[error("read packet {found} where packet {expected} has its place")]
    Sequence {
        /// The number that has its place here.
        expected: u8,
        /// The number it has.
        found: u8,
    },
    /// Longer than allowed here.
    #[error("read a packet that is longer than allowed")]
    TooLong,
    /// Its body is not what its place says.
    #[error("read the body of a packet")]
    Body,
}

/// The header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of its payload.
    pub(super) payload: usize,
    /// Its number in its exchange; wraps.
    pub(super) sequence: u8,
}

/// Reads the header at the front of `bytes`; nothing while it is incomplete.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let [a, b, c, sequence] = *bytes.first_chunk::<HEADER_BYTES>()?;
    Some(Header {
        payload: usize::try_from(u32::from_le_bytes([a, b, c, 0])).ok()?,
        sequence,
    })
}

/// A whole packet with its continuations, as it was on the wire.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) wire: BytesMut,
    /// The number of its last part.
    pub(super) sequence: u8,
}

impl Packet {
    /// What it carries.
    pub(super) fn payload(&self) -> Cow<'_, [u8]> {
        let first = header(&self.wire).map_or(0, |header| header.payload);
        if first < PAYLOAD_MAX {
            return Cow::Borrowed(self.wire.get(HEADER_BYTES..).unwrap_or_default());
        }
        let (mut whole, mut rest) = (Vec::with_capacity(self.wire.len()), &self.wire[..]);
        while let Some(header) = header(rest) {
            let end = HEADER_BYTES.saturating_add(header.payload);
            whole.extend_from_slice(rest.get(HEADER_BYTES..end).unwrap_or_default());
            rest = rest.get(end..).unwrap_or_default();
        }
        Cow::Owned(whole)
    }
}

/// Takes the whole packet at the front of `buffer`, whose payload is at most `limit` bytes long; nothing
/// while it is incomplete. Its first part must have the number `expected`.
pub(super) fn take_packet(
    buffer: &mut BytesMut,
    mut expected: u8,
    limit: usize,
) -> Result<Option<Packet>, CodecError> {
    let (mut wire, mut carried) = (0_usize, 0_usize);
    loop {
        let rest = buffer.get(wire..).unwrap_or_default();
        let Some(header) = header(rest) else {
            return Ok(None);
        };
        if header.sequence != expected {
            let found = header.sequence;
            return Err(CodecError::Sequence { expected, found });
        }
        carried = carried.saturating_add(header.payload);
        if carried > limit {
            return Err(CodecError::TooLong);
        }
        let part = HEADER_BYTES.saturating_add(header.payload);
        if rest.len() < part {
            return Ok(None);
        }
        wire = wire.saturating_add(part);
        if header.payload < PAYLOAD_MAX {
            return Ok(Some(Packet {
                wire: buffer.split_to(wire),
                sequence: header.sequence,
            }));
        }
        expected = expected.wrapping_add(1);
    }
}

/// Appends a packet that needs no continuation; a longer payload is an error.
pub(super) fn put_packet(
    out: &mut BytesMut,
    sequence: u8,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), CodecError> {
    let mut body = BytesMut::new();
    write(&mut body);
    if body.len() >= PAYLOAD_MAX {
        return Err(CodecError::TooLong);
    }
    let length = u32::try_from(body.len()).map_err(|_| CodecError::TooLong)?;
    let [a, b, c, _] = length.to_le_bytes();
    out.put_slice(&[a, b, c, sequence]);
    out.put_slice(&body);
    Ok(())
}

/// Reads a body from its front. Numbers are little-endian.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CodecError::Body)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn chunk<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError::Body)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(u8::from_le_bytes(self.chunk()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(u16::from_le_bytes(self.chunk()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    /// A number that says by its first byte how long it is.
    pub(super) fn number(&mut self) -> Result<u64, CodecError> {
        match self.byte()? {
            small @ 0..=0xfa => Ok(u64::from(small)),
            0xfc => Ok(u64::from(self.u16()?)),
            0xfd => {
                let [a, b, c] = self.chunk()?;
                Ok(u64::from(u32::from_le_bytes([a, b, c, 0])))
            }
            0xfe => self.u64(),
            // NULL in rows, and an error.
            0xfb | 0xff => Err(CodecError::Body),
        }
    }

    /// A string after its length.
    pub(super) fn string(&mut self) -> Result<&'a [u8], CodecError> {
        let length = usize::try_from(self.number()?).map_err(|_| CodecError::Body)?;
        self.take(length)
    }

    /// A string that ends with a zero byte, without it.
    pub(super) fn text(&mut self) -> Result<&'a [u8], CodecError> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or(CodecError::Body)?)?;
        self.byte()?;
        Ok(text)
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Puts a number as [`Body::number`] reads it.
pub(super) fn put_number(out: &mut BytesMut, number: u64) {
    match number {
        0..=0xfa => out.put_slice(&number.to_le_bytes()[..1]),
        0xfb..=0xffff => {
            out.put_u8(0xfc);
            out.put_slice(&number.to_le_bytes()[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.put_u8(0xfd);
            out.put_slice(&number.to_le_bytes()[..3]);
        }
        _ => {
            out.put_u8(0xfe);
            out.put_u64_le(number);
        }
    }
}

/// Puts a string after its length.
pub(super) fn put_string(out: &mut BytesMut, text: &[u8]) {
    put_number(out, text.len() as u64);
    out.put_slice(text);
}

/// Puts a string with its final zero byte. What would end it early is left out.
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

/// What changed in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes<'a> {
    /// The set of characters in which the server reads statements from now on.
    pub(super) character_set: Option<&'a [u8]>,
    /// The database in which it looks for names without one.
    pub(super) database: Option<&'a [u8]>,
}

/// What a server says that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Success<'a> {
    pub(super) affected: u64,
    pub(super) status: u16,
    /// Words for people, such as `Rows matched: 1  Changed: 1`.
    pub(super) words: &'a [u8],
    /// What changed in the session.
    state: &'a [u8],
    insert_id: u64,
    warnings: u16,
}

/// Reads the payload of a packet that says that something succeeded, its first byte included, as servers
/// send it to clients that follow the session's state.
pub(super) fn success(payload: &[u8]) -> Result<Success<'_>, CodecError> {
    let mut body = Body::new(payload);
    body.byte()?;
    let (affected, insert_id) = (body.number()?, body.number()?);
    let (status, warnings) = (body.u16()?, body.u16()?);
    let mut success = Success {
        affected,
        status,
        insert_id,
        warnings,
        ..Success::default()
    };
    if !body.is_empty() {
        success.words = body.string()?;
    }
    if status & STATE_CHANGED != 0 {
        success.state = body.string()?;
    }
    match body.is_empty() {
        true => Ok(success),
        false => Err(CodecError::Body),
    }
}

impl Success<'_> {
    /// Appends it, beginning with `first`, for a client that does not follow the session's state.
    pub(super) fn put_stateless(
        &self,
        out: &mut BytesMut,
        sequence: u8,
        first: u8,
    ) -> Result<(), CodecError> {
        put_packet(out, sequence, |body| {
            body.put_u8(first);
            put_number(body, self.affected);
            put_number(body, self.insert_id);
            body.put_u16_le(self.status & !STATE_CHANGED);
            body.put_u16_le(self.warnings);
            if !self.words.is_empty() {
                put_string(body, self.words);
            }
        })
    }

    /// Whether it says what changed in the session.
    pub(super) const fn has_state(&self) -> bool {
        self.status & STATE_CHANGED != 0
    }

    /// What changed in the session that says how its statements read.
    pub(super) fn changes(&self) -> Result<Changes<'_>, CodecError> {
        const SYSTEM_VARIABLES: u8 = 0;
        const DATABASE: u8 = 1;
        let (mut state, mut found) = (Body::new(self.state), Changes::default());
        while !state.is_empty() {
            let kind = state.byte()?;
            let mut changes = Body::new(state.string()?);
            if kind == DATABASE {
                found.database = Some(changes.string()?);
            }
            while kind == SYSTEM_VARIABLES && !changes.is_empty() {
                let (name, value) = (changes.string()?, changes.string()?);
                if name == b"character_set_client" {
                    found.character_set = Some(value);
                }
            }
        }
        Ok(found)
    }
}

/// Appends a packet that says that something succeeded.
pub(super) fn put_success(
    out: &mut BytesMut,
    sequence: u8,
    status: u16,
    words: &str,
) -> Result<(), CodecError> {
    let success = Success {
        status: status & !(STATE_CHANGED | MORE_RESULTS),
        words: words.as_bytes(),
        ..Success::default()
    };
    success.put_stateless(out, sequence, OK)
}

/// The status in a packet that ends definitions or rows without the session's state.
pub(super) fn end_status(payload: &[u8]) -> Result<u16, CodecError> {
    let mut body = Body::new(payload);
    body.byte()?;
    body.u16()?;
    let status = body.u16()?;
    match body.is_empty() {
        true => Ok(status),
        false => Err(CodecError::Body),
    }
}

/// An error of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report<'a> {
    /// The server's number for it.
    pub(super) number: u16,
    /// SQLSTATE.
    pub(super) state: &'static str,
    pub(super) message: &'a str,
}

impl Report<'_> {
    /// Appends it.
    pub(super) fn put(&self, out: &mut BytesMut, sequence: u8) -> Result<(), CodecError> {
        put_packet(out, sequence, |body| {
            body.put_u8(ERROR);
            body.put_u16_le(self.number);
            body.put_u8(b'#');
            body.put_slice(self.state.as_bytes());
            body.put_slice(self.message.as_bytes());
        })
    }
}

/// What matters of an error that a server sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) number: u16,
    /// SQLSTATE; empty when it has none.
    pub(super) state: String,
}

/// Reads the payload of an error that a server sent. What cannot be read is not there.
pub(super) fn server_error(payload: &[u8]) -> ServerError {
    let mut body = Body::new(payload);
    let number = body.byte().and_then(|_| body.u16()).unwrap_or_default();
    let state = match body.byte() {
        Ok(b'#') => body.take(5).unwrap_or_default(),
        _ => &[],
    };
    let is_state = state.iter().all(u8::is_ascii_alphanumeric);
    ServerError {
        number,
        state: match is_state {
            true => String::from_utf8_lossy(state).into_owned(),
            false => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// G3: every length at its limits; a payload that fills its packet is continued.
    #[test]
    fn given_packets_of_every_length_then_they_are_whole_or_refused_before_their_body() {
        for length in [
            0_usize,
            1,
            250,
            PAYLOAD_MAX - 1,
            PAYLOAD_MAX,
            PAYLOAD_MAX + 1,
        ] {
            let payload = vec![7_u8; length];
            let mut wire = BytesMut::new();
            let mut sequence = 0_u8;
            let mut parts: Vec<&[u8]> = payload.chunks(PAYLOAD_MAX).collect();
            if length % PAYLOAD_MAX == 0 {
                parts.push(&[]);
            }
            for part in parts {
                wire.put_slice(&u32::try_from(part.len()).unwrap().to_le_bytes()[..3]);
                wire.put_u8(sequence);
                wire.put_slice(part);
                sequence += 1;
            }
            let mut buffer = wire.clone();
            assert_eq!(
                take_packet(&mut buffer.clone(), 0, length.wrapping_sub(1)).err(),
                (length > 0).then_some(CodecError::TooLong),
                "{length}"
            );
            let packet = take_packet(&mut buffer, 0, length).unwrap().unwrap();
            assert_eq!(packet.payload().len(), length);
            assert_eq!(
                (packet.wire.len(), packet.sequence),
                (wire.len(), sequence - 1)
            );
            assert!(buffer.is_empty());
        }
        // The limit is compared before the body is there.
        let mut header = BytesMut::from(&[0xff, 0xff, 0xff, 0][..]);
        assert_eq!(
            take_packet(&mut header, 0, 1_000).err(),
            Some(CodecError::TooLong)
        );
    }

    /// G3, G4: a packet out of its place is not read as if it were in it.
    #[test]
    fn given_a_number_that_is_not_the_next_then_the_packet_is_refused() {
        let mut buffer = BytesMut::from(&[1, 0, 0, 3, 9][..]);
        assert!(matches!(
            take_packet(&mut buffer, 2, 10),
            Err(CodecError::Sequence {
                expected: 2,
                found: 3
            })
        ));
        let mut continued = BytesMut::new();
        continued.put_slice(&[0xff, 0xff, 0xff, 0]);
        continued.put_slice(&vec![0; PAYLOAD_MAX]);
        continued.put_slice(&[0, 0, 0, 5]);
        assert!(take_packet(&mut continued, 0, usize::MAX).is_err());
    }

    #[test]
    fn numbers_read_as_they_were_put_at_every_border() {
        for number in [
            0,
            0xfa,
            0xfb,
            0xffff,
            0x1_0000,
            0xff_ffff,
            0x100_0000,
            u64::MAX,
        ] {
            let mut out = BytesMut::new();
            put_number(&mut out, number);
            assert_eq!(Body::new(&out).number(), Ok(number));
        }
        for odd in [&[0xfb][..], &[0xff], &[0xfc, 1], &[0xfe, 1, 2], &[]] {
            assert!(Body::new(odd).number().is_err(), "{odd:?}");
        }
    }

    /// G4: the set of characters in which statements are read is known at every moment.
    #[test]
    fn given_a_success_that_changes_the_session_then_it_is_read_and_can_be_passed_on_without() {
        let mut variables = BytesMut::new();
        put_string(&mut variables, b"autocommit");
        put_string(&mut variables, b"ON");
        put_string(&mut variables, b"character_set_client");
        put_string(&mut variables, b"gbk");
        let mut state = BytesMut::from(&[1_u8, 5, 4, b's', b'h', b'o', b'p', 0][..]);
        put_string(&mut state, &variables);
        let mut payload = BytesMut::from(&[OK, 3, 0, 2, 0x40, 1, 0][..]);
        put_string(&mut payload, b"Rows matched: 3");
        put_string(&mut payload, &state);
        let success = success(&payload).unwrap();
        assert_eq!(
            (success.affected, success.words),
            (3, &b"Rows matched: 3"[..])
        );
        let changes = success.changes().unwrap();
        assert_eq!(changes.character_set, Some(&b"gbk"[..]));
        assert_eq!(changes.database, Some(&b"shop"[..]));
        let mut out = BytesMut::new();
        success.put_stateless(&mut out, 1, OK).unwrap();
        let mut expected = BytesMut::from(&[OK, 3, 0, 2, 0, 1, 0][..]);
        put_string(&mut expected, b"Rows matched: 3");
        assert_eq!(&out[HEADER_BYTES..], &expected[..]);
        assert!(
            super::success(&[OK, 0, 0, 0, 0x40, 0, 0]).is_err(),
            "no state"
        );
        assert!(super::success(&[OK, 0, 0, 0, 0, 0, 0, 1, 2, 3]).is_err());
    }

    #[test]
    fn given_an_error_then_its_codes_are_read_and_nothing_else_is_believed() {
        let report = Report {
            number: 1_227,
            state: "42000",
            message: "sallyport: no",
        };
        let mut out = BytesMut::new();
        report.put(&mut out, 1).unwrap();
        let error = server_error(&out[HEADER_BYTES..]);
        assert_eq!((error.number, error.state.as_str()), (1_227, "42000"));
        let odd = server_error(&[ERROR, 1, 0, b'#', b'4', b'2', 0x1b, b'[', b'J']);
        assert_eq!(odd.state, "");
        assert_eq!(server_error(&[ERROR]), ServerError::default());
    }

    proptest! {
        /// G3
        #[test]
        fn reading_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = take_packet(&mut BytesMut::from(&bytes[..]), 0, 1_000);
            if let Ok(success) = success(&bytes) {
                let _ = success.changes();
            }
            let _ = server_error(&bytes);
            let _ = end_status(&bytes);
        }
    }
}
