//! Frames: a length (u32, big-endian) and a body of at most [`FRAME_BODY_BYTES_MAX`] bytes.

use super::limits::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES};

/// Fault of a frame's length. Either ends the link: nothing after it can be trusted to be a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field names more than [`FRAME_BODY_BYTES_MAX`].
    #[error("a frame of {length} bytes was announced, at most {FRAME_BODY_BYTES_MAX} are allowed")]
    TooLarge {
        /// The announced length, in bytes.
        length: u32,
    },
    /// The length field is zero; a message has at least one byte.
    #[error("an empty frame was announced")]
    Empty,
}

/// Finds the first whole frame in `bytes`: its body, and how many bytes the frame takes in all. `None` when
/// more bytes are needed. The length is judged as soon as its four bytes are there.
///
/// # Errors
/// When the announced length is zero or too large.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let announced = u32::from_be_bytes(*header);
    let length = match usize::try_from(announced) {
        Ok(0) => return Err(FrameError::Empty),
        Ok(length) if length <= FRAME_BODY_BYTES_MAX => length,
        _ => return Err(FrameError::TooLarge { length: announced }),
    };
    Ok(rest.get(..length).map(|body| (body, FRAME_HEADER_BYTES + length)))
}

/// Appends a frame to `out`: `write` appends the body, whose length is then filled in.
///
/// # Panics
/// When the body is empty or larger than [`FRAME_BODY_BYTES_MAX`]: senders split before they encode, so that
/// is a bug of ours, never a peer's doing.
pub fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    write(out);
    let length = out.len() - start - FRAME_HEADER_BYTES;
    assert!(length > 0 && length <= FRAME_BODY_BYTES_MAX, "a frame body of {length} bytes must not be sent");
    let header = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out[start..start + FRAME_HEADER_BYTES].copy_from_slice(&header);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn four_gibibytes_are_refused_at_once() {
        assert_eq!(split(&[0xff, 0xff, 0xff, 0xff]), Err(FrameError::TooLarge { length: u32::MAX }));
        assert_eq!(split(&[0, 0, 0, 0]), Err(FrameError::Empty));
        assert_eq!(split(&[0, 1, 0, 0]), Ok(None), "exactly 64 KiB is allowed");
        assert_eq!(split(&[0, 1, 0, 1]), Err(FrameError::TooLarge { length: 65_537 }));
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_whole_and_only_when_whole(body in prop::collection::vec(any::<u8>(), 1..300), tail in any::<u8>()) {
            let mut bytes = Vec::new();
            append(&mut bytes, |out| out.extend_from_slice(&body));
            for cut in 0..bytes.len() {
                prop_assert_eq!(split(&bytes[..cut]), Ok(None));
            }
            let whole = bytes.len();
            bytes.push(tail);
            prop_assert_eq!(split(&bytes), Ok(Some((&body[..], whole))));
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = split(&bytes);
        }
    }
}
