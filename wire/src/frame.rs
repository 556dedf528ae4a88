//! Frames on a byte stream: bytes go in as they come, whole frames come out.
//!
//! ```text
//! length u32 | payload | crc32 u32 (of length and payload)       little-endian
//! ```
//!
//! Promises: a frame over the link's limit is refused from its header, before its payload is
//! buffered; a damaged frame is an error and ends the stream, for after it the borders of frames
//! are unknown.
//! Does no IO.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const HEADER: usize = 4;
const TRAILER: usize = 4;

/// Why a byte stream is no stream of frames. After any of these the stream is useless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {length} bytes is over the link's limit of {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("frame is damaged, its checksum is wrong")]
    Damaged,
}

/// Makes one frame of a payload. Panics over 4 GiB, which no limit of a link allows.
pub fn frame(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).expect("limits of links are far below 4 GiB");
    let mut frame = BytesMut::with_capacity(HEADER + payload.len() + TRAILER);
    frame.put_u32_le(length);
    frame.put_slice(payload);
    let checksum = crc32fast::hash(&frame);
    frame.put_u32_le(checksum);
    frame.freeze()
}

/// Cuts a byte stream into frames. Holds at most one frame and what came behind it.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limit: usize,
}

impl FrameDecoder {
    /// `limit` bounds the payload of one frame in bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Changes the limit for frames that are not yet taken out.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Where a reader may append what it reads, instead of [`Self::push`].
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether the stream could end here without cutting a frame.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole frame's payload; `None` when more bytes are needed.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at None, this waits")]
    pub fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        let whole = HEADER + length + TRAILER;
        if self.buffer.len() < whole {
            // Room for the rest at once, so that a large frame is not copied again and again.
            self.buffer.reserve(whole - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(whole).freeze();
        let expected = crc32fast::hash(&frame[..HEADER + length]);
        if (&frame[HEADER + length..]).get_u32_le() != expected {
            return Err(FrameError::Damaged);
        }
        frame.advance(HEADER);
        frame.truncate(length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        let payloads = [b"one".to_vec(), Vec::new(), vec![7; 1000]];
        for payload in &payloads {
            stream.extend_from_slice(&frame(payload));
        }
        for step in [1, 2, 3, 7, 64, stream.len()] {
            let mut decoder = FrameDecoder::new(1000);
            let mut out = Vec::new();
            for piece in stream.chunks(step) {
                decoder.push(piece);
                while let Some(payload) = decoder.next().unwrap() {
                    out.push(payload.to_vec());
                }
            }
            assert_eq!(out, payloads, "in steps of {step}");
            assert!(decoder.is_empty());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_frames_within_the_limit_or_an_error(
            bytes: Vec<u8>, limit in 0usize..64, step in 1usize..16,
        ) {
            let mut decoder = FrameDecoder::new(limit);
            'stream: for piece in bytes.chunks(step) {
                decoder.push(piece);
                loop {
                    match decoder.next() {
                        Ok(Some(payload)) => proptest::prop_assert!(payload.len() <= limit),
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
            }
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_from_its_header() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(&11u32.to_le_bytes());
        assert_eq!(decoder.next(), Err(FrameError::TooLong { length: 11, limit: 10 }));
    }

    #[test]
    fn a_truncated_frame_waits_and_is_seen_as_cut() {
        let whole = frame(b"payload");
        let mut decoder = FrameDecoder::new(100);
        decoder.push(&whole[..whole.len() - 1]);
        assert_eq!(decoder.next(), Ok(None));
        assert!(!decoder.is_empty());
    }

    #[test]
    fn a_flipped_bit_never_yields_a_frame() {
        let whole = frame(b"payload");
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut decoder = FrameDecoder::new(1000);
            decoder.push(&damaged);
            assert!(!matches!(decoder.next(), Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn the_bytes_of_a_frame_never_change() {
        assert_eq!(&frame(b"hi")[..], [2, 0, 0, 0, b'h', b'i', 251, 56, 64, 101]);
    }
}
