//! Frames as bytes: a 32-bit big-endian length, then that many bytes of JSON.

use bytes::{Buf, BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// Longest frame, in bytes, length not counted: a bundle with room to spare.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a frame was refused. The connection cannot go on after any of these.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Too long.
    #[error("frame of {size_bytes} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong {
        /// Its length.
        size_bytes: usize,
    },
    /// Not the JSON expected.
    #[error("read frame")]
    Decode(#[source] serde_json::Error),
    /// Could not be encoded.
    #[error("write frame")]
    Encode(#[source] serde_json::Error),
}

/// Appends one frame to `out`.
///
/// # Errors
/// [`FrameError::Encode`] or [`FrameError::TooLong`]; `out` is unchanged then.
pub fn encode_frame(frame: &impl Serialize, out: &mut BytesMut) -> Result<(), FrameError> {
    let body = serde_json::to_vec(frame).map_err(FrameError::Encode)?;
    let too_long = FrameError::TooLong {
        size_bytes: body.len(),
    };
    if body.len() > FRAME_BYTES_MAX {
        return Err(too_long);
    }
    out.put_u32(u32::try_from(body.len()).map_err(|_| too_long)?);
    out.put_slice(&body);
    Ok(())
}

/// Takes one frame from the front of `buffer`, or nothing while it is incomplete.
///
/// # Errors
/// [`FrameError::TooLong`] as soon as the length is known, or [`FrameError::Decode`].
pub fn decode_frame<T: DeserializeOwned>(buffer: &mut BytesMut) -> Result<Option<T>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let size_bytes = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if size_bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { size_bytes });
    }
    if buffer.len().saturating_sub(4) < size_bytes {
        return Ok(None);
    }
    buffer.advance(4);
    let body = buffer.split_to(size_bytes);
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(FrameError::Decode)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::{FromControl, FromGateway, Push};

    #[test]
    fn a_frame_comes_back_whole_however_it_was_cut() {
        let push = FromControl::Push {
            push: Push::Heartbeat,
        };
        let mut whole = BytesMut::new();
        encode_frame(&push, &mut whole).unwrap();
        let mut buffer = BytesMut::new();
        for (index, byte) in whole.iter().enumerate() {
            buffer.put_u8(*byte);
            let frame: Option<FromControl> = decode_frame(&mut buffer).unwrap();
            assert_eq!(frame.is_some(), index + 1 == whole.len());
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_before_its_body_arrives() {
        let mut buffer = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(matches!(
            decode_frame::<FromGateway>(&mut buffer),
            Err(FrameError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn decoding_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let _ = decode_frame::<FromGateway>(&mut buffer);
        }
    }
}
