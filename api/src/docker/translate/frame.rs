//! Frames of Docker's multiplexed streams: one byte stream, three zero bytes, length, payload.

use berth_model::stream::OutputStream;

/// Longest payload of one frame that we write.
pub const PAYLOAD_MAX: usize = 1 << 20;

/// What a frame's first byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
    /// Trouble of ours; clients show it as an error of the daemon.
    System,
}

impl From<OutputStream> for Channel {
    fn from(stream: OutputStream) -> Self {
        match stream {
            OutputStream::Stdout => Channel::Stdout,
            OutputStream::Stderr => Channel::Stderr,
        }
    }
}

/// `payload` in frames of `channel`; nothing for an empty payload.
pub fn frames(channel: Channel, payload: &[u8]) -> Vec<u8> {
    let first = match channel {
        Channel::Stdout => 1,
        Channel::Stderr => 2,
        Channel::System => 3,
    };
    let mut out = Vec::with_capacity(payload.len() + 8);
    for piece in payload.chunks(PAYLOAD_MAX) {
        let length = u32::try_from(piece.len()).expect("a piece is at most PAYLOAD_MAX");
        out.extend_from_slice(&[first, 0, 0, 0]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// Puts a time before each line, over pieces of a stream that need not end where lines end.
#[derive(Clone, Debug, Default)]
pub struct LineTimes {
    within_line: bool,
}

impl LineTimes {
    /// `data` with `time` and a space before each line that begins in it.
    pub fn stamp(&mut self, time: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + time.len() + 1);
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            if !self.within_line {
                out.extend_from_slice(time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line);
            self.within_line = !line.ends_with(b"\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_says_stream_and_length() {
        assert_eq!(frames(Channel::Stderr, b"ab"), [2, 0, 0, 0, 0, 0, 0, 2, b'a', b'b']);
        assert!(frames(Channel::Stdout, b"").is_empty());
    }

    #[test]
    fn a_line_that_comes_in_pieces_has_one_time() {
        let mut times = LineTimes::default();
        let mut out = times.stamp("t1", b"a\nb");
        out.extend(times.stamp("t2", b"c\nd\n"));
        assert_eq!(out, b"t1 a\nt1 bc\nt2 d\n");
    }

    proptest! {
        #[test]
        fn frames_hold_the_payload_and_nothing_else(payload in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let mut bytes = &frames(Channel::Stdout, &payload)[..];
            let mut found = Vec::new();
            while !bytes.is_empty() {
                let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
                prop_assert_eq!(&bytes[..4], &[1, 0, 0, 0]);
                found.extend_from_slice(&bytes[8..8 + length]);
                bytes = &bytes[8 + length..];
            }
            prop_assert_eq!(found, payload);
        }
    }
}
