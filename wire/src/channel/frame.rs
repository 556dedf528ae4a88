//! The frames of the channel: layout, checks, and finding them again in a damaged stream.
//!
//! ```text
//! magic u32 | kind u8 | flags u8 | 0 u16 | length u32 | sequence u64 | taken u64 | crc32 u32
//! payload
//! ```
//! All little-endian; the checksum covers everything after the magic but itself. Hello and
//! HelloReply have a payload of fixed length, so that a search for one never waits for more than
//! that.
//!
//! Promises: never panics on any bytes, holds at most one frame beside what was pushed last.

/// No byte of it is zero, so filler never looks like a frame.
const MAGIC: [u8; 4] = [0xb7, b'c', b'h', 0x1a];
pub(super) const HEADER: usize = 32;
/// Largest payload of a frame: with its header it fits one buffer of the guest's port driver.
pub(super) const CHUNK: usize = 32 * 1024 - HEADER;
/// What goes before a Hello: enough to complete any frame that was cut short.
pub(super) const FILLER: usize = HEADER + CHUNK;

const HELLO: usize = 36;
const HELLO_REPLY: usize = 29;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// Fresh for each connection.
    pub nonce: u64,
    /// The first nonce of this host endpoint's life: who it is.
    pub incarnation: u64,
    /// Next sequence number that the host waits for; meaningless on its first Hello.
    pub expected: u64,
    /// Everything below was taken.
    pub taken: u64,
    pub protocol_min: u16,
    pub protocol_max: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HelloReply {
    pub nonce: u64,
    /// The guest did not know this incarnation and starts its numbers anew.
    pub fresh: bool,
    /// Next sequence number that the guest waits for.
    pub expected: u64,
    /// The sequence number that the guest will send first.
    pub sends_from: u64,
    pub protocol_min: u16,
    pub protocol_max: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Hello(Hello),
    HelloReply(HelloReply),
    Data {
        sequence: u64,
        taken: u64,
        last: bool,
        payload: Vec<u8>,
    },
    Ack {
        taken: u64,
    },
    /// The guest is out of step and waits for a Hello.
    Lost,
}

/// Which frames a decoder looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Frame follows frame; anything else is damage.
    InStep,
    /// Skip everything that is no whole and sound Hello.
    SeekHello,
    /// Skip everything that is no whole and sound HelloReply with this nonce.
    SeekReply(u64),
}

/// The stream is no stream of frames here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

const KIND_HELLO: u8 = 1;
const KIND_HELLO_REPLY: u8 = 2;
const KIND_DATA: u8 = 3;
const KIND_ACK: u8 = 4;
const KIND_LOST: u8 = 5;
const FLAG_LAST: u8 = 1;

/// Appends a frame to `out`.
pub(super) fn write_hello(hello: &Hello, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(HELLO);
    for number in [hello.nonce, hello.incarnation, hello.expected, hello.taken] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    payload.extend_from_slice(&hello.protocol_min.to_le_bytes());
    payload.extend_from_slice(&hello.protocol_max.to_le_bytes());
    write(KIND_HELLO, 0, 0, 0, &payload, out);
}

pub(super) fn write_hello_reply(reply: &HelloReply, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(HELLO_REPLY);
    for number in [reply.nonce, reply.expected, reply.sends_from] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    payload.extend_from_slice(&reply.protocol_min.to_le_bytes());
    payload.extend_from_slice(&reply.protocol_max.to_le_bytes());
    payload.push(u8::from(reply.fresh));
    write(KIND_HELLO_REPLY, 0, 0, 0, &payload, out);
}

pub(super) fn write_data(sequence: u64, taken: u64, last: bool, payload: &[u8], out: &mut Vec<u8>) {
    write(KIND_DATA, if last { FLAG_LAST } else { 0 }, sequence, taken, payload, out);
}

pub(super) fn write_ack(taken: u64, out: &mut Vec<u8>) {
    write(KIND_ACK, 0, 0, taken, &[], out);
}

pub(super) fn write_lost(out: &mut Vec<u8>) {
    write(KIND_LOST, 0, 0, 0, &[], out);
}

fn write(kind: u8, flags: u8, sequence: u64, taken: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("a chunk is far below 4 GiB");
    let start = out.len();
    out.reserve(HEADER + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[kind, flags, 0, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&taken.to_le_bytes());
    let checksum = checksum(&out[start + 4..], payload);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(payload);
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

struct Header {
    kind: u8,
    flags: u8,
    length: usize,
    sequence: u64,
    taken: u64,
    checksum: u32,
}

impl Header {
    /// `None` if these bytes open no frame.
    fn read(bytes: &[u8; HEADER]) -> Option<Header> {
        if bytes[..4] != MAGIC || bytes[6] != 0 || bytes[7] != 0 {
            return None;
        }
        let header = Header {
            kind: bytes[4],
            flags: bytes[5],
            length: u32_at(bytes, 8) as usize,
            sequence: u64_at(bytes, 12),
            taken: u64_at(bytes, 20),
            checksum: u32_at(bytes, 28),
        };
        let fits = match header.kind {
            KIND_HELLO => header.length == HELLO,
            KIND_HELLO_REPLY => header.length == HELLO_REPLY,
            KIND_DATA => header.length <= CHUNK,
            KIND_ACK | KIND_LOST => header.length == 0,
            _ => false,
        };
        fits.then_some(header)
    }

    fn frame(&self, payload: &[u8]) -> Option<Frame> {
        Some(match self.kind {
            KIND_HELLO => Frame::Hello(Hello {
                nonce: u64_at(payload, 0),
                incarnation: u64_at(payload, 8),
                expected: u64_at(payload, 16),
                taken: u64_at(payload, 24),
                protocol_min: u16_at(payload, 32),
                protocol_max: u16_at(payload, 34),
            }),
            KIND_HELLO_REPLY => Frame::HelloReply(HelloReply {
                nonce: u64_at(payload, 0),
                expected: u64_at(payload, 8),
                sends_from: u64_at(payload, 16),
                protocol_min: u16_at(payload, 24),
                protocol_max: u16_at(payload, 26),
                fresh: payload[28] != 0,
            }),
            KIND_DATA => Frame::Data {
                sequence: self.sequence,
                taken: self.taken,
                last: self.flags & FLAG_LAST != 0,
                payload: payload.to_vec(),
            },
            KIND_ACK => Frame::Ack { taken: self.taken },
            KIND_LOST => Frame::Lost,
            _ => return None,
        })
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    pub fn clear(&mut self) {
        self.buffer = Vec::new();
        self.start = 0;
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// The next frame that `mode` looks for; `None` when more bytes are needed.
    ///
    /// After `Damaged` the damaged frame is skipped, by the length that it claims.
    pub fn next(&mut self, mode: Mode) -> Result<Option<Frame>, Damaged> {
        loop {
            let bytes = &self.buffer[self.start..];
            // Filler between frames; also what a search meets most.
            if bytes.first() == Some(&0) {
                self.start += bytes.iter().take_while(|byte| **byte == 0).count();
                continue;
            }
            let Some(first) = bytes.first_chunk::<HEADER>() else {
                // A short rest that cannot become a frame is damage already, not at the next byte.
                let known = bytes.len().min(MAGIC.len());
                if bytes[..known] == MAGIC[..known] {
                    return Ok(None);
                }
                self.start += 1;
                if mode == Mode::InStep {
                    return Err(Damaged);
                }
                continue;
            };
            let Some(header) = Header::read(first).filter(|header| wanted(header, mode)) else {
                self.start += 1;
                if mode == Mode::InStep {
                    return Err(Damaged);
                }
                continue;
            };
            let Some(payload) = bytes.get(HEADER..HEADER + header.length) else {
                return Ok(None);
            };
            let sound = checksum(&first[4..28], payload) == header.checksum;
            let frame = if sound { header.frame(payload) } else { None };
            match (frame, mode) {
                (Some(frame), Mode::InStep | Mode::SeekHello) => {
                    self.start += HEADER + header.length;
                    return Ok(Some(frame));
                }
                (Some(Frame::HelloReply(reply)), Mode::SeekReply(nonce))
                    if reply.nonce == nonce =>
                {
                    self.start += HEADER + header.length;
                    return Ok(Some(Frame::HelloReply(reply)));
                }
                (None, Mode::InStep) => {
                    self.start += HEADER + header.length;
                    return Err(Damaged);
                }
                (None, Mode::SeekHello) | (_, Mode::SeekReply(_)) => self.start += 1,
            }
        }
    }
}

fn wanted(header: &Header, mode: Mode) -> bool {
    match mode {
        Mode::InStep => true,
        Mode::SeekHello => header.kind == KIND_HELLO,
        Mode::SeekReply(_) => header.kind == KIND_HELLO_REPLY,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
