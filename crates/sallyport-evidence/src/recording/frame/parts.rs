//! The parts of a frame as bytes: numbers in their shortest form, texts, digests.

use super::{Direction, FrameError, MAX_NAME_BYTES};

/// What is left of the bytes being decoded.
#[derive(Debug, Clone)]
pub(super) struct Parts<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (taken, left) = self
            .bytes
            .split_at_checked(length)
            .ok_or(FrameError::Truncated)?;
        self.bytes = left;
        Ok(taken)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, FrameError> {
        let (byte, left) = self.bytes.split_first().ok_or(FrameError::Truncated)?;
        self.bytes = left;
        Ok(*byte)
    }

    /// Unsigned LEB128, at most 64 bits, shortest form only.
    pub(super) fn varint(&mut self) -> Result<u64, FrameError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(FrameError::Number);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if bits == 0 && shift > 0 {
                    return Err(FrameError::Number);
                }
                return Ok(value);
            }
        }
        Err(FrameError::Number)
    }

    pub(super) fn number(&mut self) -> Result<u32, FrameError> {
        u32::try_from(self.varint()?).map_err(|_| FrameError::Number)
    }

    pub(super) fn flag(&mut self, part: &'static str) -> Result<bool, FrameError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(FrameError::Meaningless { part, value }),
        }
    }

    pub(super) fn direction(&mut self) -> Result<Direction, FrameError> {
        match self.byte()? {
            0 => Ok(Direction::Input),
            1 => Ok(Direction::Output),
            2 => Ok(Direction::ErrorOutput),
            value => Err(FrameError::Meaningless {
                part: "direction",
                value,
            }),
        }
    }

    pub(super) fn digest(&mut self) -> Result<[u8; 32], FrameError> {
        self.take(32)?.try_into().map_err(|_| FrameError::Truncated)
    }

    pub(super) fn text(&mut self, part: &'static str) -> Result<&'a str, FrameError> {
        let length = self.varint()?;
        if length > MAX_NAME_BYTES as u64 {
            return Err(FrameError::TooLong { part, length });
        }
        let length = usize::try_from(length).map_err(|_| FrameError::Number)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| FrameError::NotText { part })
    }

    pub(super) fn rest_text(
        &mut self,
        part: &'static str,
        limit: usize,
    ) -> Result<&'a str, FrameError> {
        let bytes = self.rest();
        if bytes.len() > limit {
            return Err(FrameError::TooLong {
                part,
                length: bytes.len() as u64,
            });
        }
        std::str::from_utf8(bytes).map_err(|_| FrameError::NotText { part })
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}
