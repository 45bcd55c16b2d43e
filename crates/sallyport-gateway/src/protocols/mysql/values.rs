//! Values bound to a prepared statement: read from the binary form of the protocol, as evidence keeps them.
//!
//! INVARIANT: the values of a message take exactly its bytes, or there are none: what cannot be read whole is
//! not executed.

use std::collections::BTreeMap;

use sallyport_core::session::{PARAMETER_BYTES_MAX, PARAMETERS_MAX};

use super::{
    codec::{Body, CodecError},
    operations::CUT,
};

/// Longest value that is shown whole, whatever its bytes are.
const WHOLE_VALUE_BYTES_MAX: usize = 480;
/// Bit of a type's second byte: the number has no sign.
const UNSIGNED: u8 = 0x80;

/// Values bound to a statement's parameters, as evidence keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) values: Vec<Option<String>>,
    /// How many there are, when not all are in `values`.
    pub(super) count: Option<u32>,
    /// Not all of what was bound is in `values`.
    pub(super) is_cut: bool,
}

impl Parameters {
    fn push(&mut self, value: Option<Value<'_>>) {
        self.is_cut |=
            matches!(&value, Some(Value::Bytes(bytes)) if bytes.len() > WHOLE_VALUE_BYTES_MAX);
        if self.values.len() < PARAMETERS_MAX {
            self.values.push(value.map(Value::shown));
        }
    }
}

/// A value sent ahead in pieces: its beginning, and how much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    beginning: Vec<u8>,
    bytes: u64,
}

impl Ahead {
    pub(super) fn add(&mut self, piece: &[u8]) {
        let room = PARAMETER_BYTES_MAX.saturating_sub(self.beginning.len());
        let piece_kept = piece.get(..room).unwrap_or(piece);
        self.beginning.extend_from_slice(piece_kept);
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
    }
}

/// The type of a parameter: its number and its flags.
pub(super) type Type = [u8; 2];

enum Value<'a> {
    Bytes(&'a [u8]),
    Text(String),
}

impl Value<'_> {
    /// As evidence shows it.
    fn shown(self) -> String {
        let bytes = match self {
            Self::Text(text) => return text,
            Self::Bytes(bytes) => bytes,
        };
        match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= PARAMETER_BYTES_MAX => text.to_owned(),
            Ok(text) => {
                let end = text.floor_char_boundary(PARAMETER_BYTES_MAX.saturating_sub(CUT.len()));
                format!("{}{CUT}", text.get(..end).unwrap_or_default())
            }
            Err(_) => {
                let room = PARAMETER_BYTES_MAX.saturating_sub(2 + CUT.len()) / 2;
                match bytes.get(..room) {
                    Some(beginning) if bytes.len() > room => {
                        format!("\\x{}{CUT}", hex::encode(beginning))
                    }
                    _ => format!("\\x{}", hex::encode(bytes)),
                }
            }
        }
    }
}

/// Reads the values for `count` parameters. `types` are those of the last time, for a client that does not
/// send them again, and are replaced when it does; `ahead` has what was sent before, by position.
pub(super) fn read(
    mut body: Body<'_>,
    count: u16,
    types: &mut Vec<Type>,
    ahead: &BTreeMap<u16, Ahead>,
) -> Result<Parameters, CodecError> {
    let mut parameters = Parameters::default();
    if count == 0 {
        // Attributes of queries, which are not offered, would follow here.
        return match body.is_empty() {
            true => Ok(parameters),
            false => Err(CodecError::Body),
        };
    }
    let nulls = body.take(usize::from(count).div_ceil(8))?;
    match body.byte()? {
        0 if types.len() == usize::from(count) => {}
        1 => {
            let mut sent = Vec::with_capacity(usize::from(count));
            for _ in 0..count {
                sent.push(body.chunk()?);
            }
            *types = sent;
        }
        _ => return Err(CodecError::Body),
    }
    for (position, kind) in (0..count).zip(types.iter()) {
        let byte = nulls.get(usize::from(position / 8));
        let is_null = byte.is_some_and(|byte| byte & (1 << (position % 8)) != 0);
        if let Some(ahead) = ahead.get(&position) {
            parameters.push(Some(Value::Bytes(&ahead.beginning)));
            parameters.is_cut |= ahead.bytes > ahead.beginning.len() as u64;
        } else if is_null {
            parameters.push(None);
        } else {
            let value = value(&mut body, *kind)?;
            parameters.push(value);
        }
    }
    if !body.is_empty() {
        return Err(CodecError::Body);
    }
    let is_all = parameters.values.len() == usize::from(count);
    parameters.count = (!is_all).then_some(u32::from(count));
    Ok(parameters)
}

fn value<'a>(body: &mut Body<'a>, [kind, flags]: Type) -> Result<Option<Value<'a>>, CodecError> {
    let is_unsigned = flags & UNSIGNED != 0;
    let text = match kind {
        // NULL
        6 => return Ok(None),
        // TINY
        1 => match body.byte()? {
            byte if is_unsigned => byte.to_string(),
            byte => byte.cast_signed().to_string(),
        },
        // SHORT, YEAR
        2 | 13 => match body.u16()? {
            number if is_unsigned => number.to_string(),
            number => number.cast_signed().to_string(),
        },
        // LONG, INT24
        3 | 9 => match body.u32()? {
            number if is_unsigned => number.to_string(),
            number => number.cast_signed().to_string(),
        },
        // LONGLONG
        8 => match body.u64()? {
            number if is_unsigned => number.to_string(),
            number => number.cast_signed().to_string(),
        },
        // FLOAT, DOUBLE
        4 => f32::from_le_bytes(body.chunk()?).to_string(),
        5 => f64::from_le_bytes(body.chunk()?).to_string(),
        // TIMESTAMP, DATE, DATETIME
        7 | 10 | 12 => date(body)?,
        // TIME
        11 => time(body)?,
        // DECIMAL, VARCHAR, BIT, JSON, NEWDECIMAL, ENUM, SET, BLOBs, VAR_STRING, STRING, GEOMETRY
        0 | 15 | 16 | 245..=255 => return Ok(Some(Value::Bytes(body.string()?))),
        _ => return Err(CodecError::Body),
    };
    Ok(Some(Value::Text(text)))
}

fn date(body: &mut Body<'_>) -> Result<String, CodecError> {
    let length = usize::from(body.byte()?);
    let mut body = Body::new(body.take(length)?);
    if body.is_empty() {
        return Ok("0000-00-00".to_owned());
    }
    let (year, month, day) = (body.u16()?, body.byte()?, body.byte()?);
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if !body.is_empty() {
        text.push_str(&format!(" {}", clock(&mut body)?));
    }
    whole(body, text)
}

fn time(body: &mut Body<'_>) -> Result<String, CodecError> {
    let length = usize::from(body.byte()?);
    let mut body = Body::new(body.take(length)?);
    if body.is_empty() {
        return Ok("00:00:00".to_owned());
    }
    let sign = if body.byte()? == 0 { "" } else { "-" };
    let days = body.u32()?;
    let text = format!("{sign}{days}d {}", clock(&mut body)?);
    whole(body, text)
}

fn clock(body: &mut Body<'_>) -> Result<String, CodecError> {
    let (hour, minute, second) = (body.byte()?, body.byte()?, body.byte()?);
    let mut text = format!("{hour:02}:{minute:02}:{second:02}");
    if !body.is_empty() {
        text.push_str(&format!(".{:06}", body.u32()?));
    }
    Ok(text)
}

fn whole(body: Body<'_>, text: String) -> Result<String, CodecError> {
    match body.is_empty() {
        true => Ok(text),
        false => Err(CodecError::Body),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], count: u16) -> Result<Parameters, CodecError> {
        super::read(Body::new(bytes), count, &mut Vec::new(), &BTreeMap::new())
    }

    /// RE-3: each type of the protocol is in the evidence as people write it.
    #[test]
    fn given_bound_values_of_every_type_then_each_is_in_the_evidence() {
        let cases: &[(Type, &[u8], Option<&str>)] = &[
            ([1, 0], &[0xff], Some("-1")),
            ([1, UNSIGNED], &[0xff], Some("255")),
            ([2, 0], &[0x2c, 0x01], Some("300")),
            ([3, 0], &[0xff, 0xff, 0xff, 0xff], Some("-1")),
            ([8, UNSIGNED], &[0xff; 8], Some("18446744073709551615")),
            ([4, 0], &[0, 0, 0xc0, 0x3f], Some("1.5")),
            ([5, 0], &[0, 0, 0, 0, 0, 0, 0xf8, 0xbf], Some("-1.5")),
            ([6, 0], &[], None),
            ([10, 0], &[4, 0xea, 0x07, 11, 22], Some("2026-11-22")),
            (
                [12, 0],
                &[11, 0xea, 0x07, 11, 22, 23, 59, 1, 7, 0, 0, 0],
                Some("2026-11-22 23:59:01.000007"),
            ),
            ([11, 0], &[8, 1, 2, 0, 0, 0, 3, 4, 5], Some("-2d 03:04:05")),
            ([253, 0], b"\x04lamp", Some("lamp")),
            ([252, 0], &[2, 0xff, 0x01], Some("\\xff01")),
            ([246, 0], b"\x041.10", Some("1.10")),
        ];
        for (kind, value, expected) in cases {
            let bytes = [&[0, 1][..], kind, value].concat();
            let read = read(&bytes, 1).unwrap();
            assert_eq!(read.values[0].as_deref(), *expected, "{kind:?}");
        }
        assert_eq!(
            read(&[1, 1, 253, 0], 1).unwrap().values,
            [None],
            "a bit says NULL"
        );
    }

    /// RE-3: types that are not sent again are those of the last time; what was sent ahead takes no bytes.
    #[test]
    fn given_types_of_the_last_time_and_a_value_sent_ahead_then_the_rest_is_read_in_its_place() {
        let mut types = vec![[253, 0], [3, 0]];
        let mut ahead = BTreeMap::new();
        ahead.entry(0).or_insert_with(Ahead::default).add(b"long");
        let bytes = [0, 0, 7, 0, 0, 0];
        let read = super::read(Body::new(&bytes), 2, &mut types, &ahead).unwrap();
        assert_eq!(read.values, [Some("long".into()), Some("7".into())]);
        assert!(super::read(Body::new(&bytes), 2, &mut Vec::new(), &ahead).is_err());
        let mut long = Ahead::default();
        long.add(&vec![b'x'; 10_000]);
        ahead.insert(0, long);
        let read = super::read(Body::new(&bytes), 2, &mut types, &ahead).unwrap();
        assert!(read.is_cut && read.values[0].as_ref().unwrap().len() <= PARAMETER_BYTES_MAX);
    }

    /// G3: values that do not take exactly the bytes there are are none.
    #[test]
    fn given_values_of_impossible_lengths_then_the_message_is_refused() {
        for bytes in [
            &[0, 1, 253, 0, 5, b'x'][..],
            &[
                0, 1, 253, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
            &[0, 1, 253, 0, 0xfb],
            &[0, 1, 253, 0, 1, b'x', b'y'],
            &[0, 1, 10, 0, 3, 1, 1, 1],
            &[0, 1, 12, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 2],
            &[0, 0],
            &[0, 1, 99, 0],
            &[],
        ] {
            assert!(read(bytes, 1).is_err(), "{bytes:?}");
        }
        assert!(read(&[0], 0).is_err());
        let many = usize::from(u16::MAX);
        assert!(read(&vec![0xff; many.div_ceil(8)], u16::MAX).is_err());
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0_u16..40) {
            let _ = read(&bytes, count);
        }
    }
}
