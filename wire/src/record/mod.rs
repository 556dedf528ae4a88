//! Records of a container's output log: what the agent writes to its log port, what readers of the
//! file find.
//!
//! ```text
//! magic u32 | stream u8 | 0 u8 x3 | length u32 | sequence u64 | time_ns u64 | crc32 u32 | payload
//! ```
//! All little-endian; the checksum covers everything after the magic but itself. Sequence numbers
//! rise by one over all streams of a log, so a hole shows.
//!
//! Promises: a [`RecordReader`] may start at any border of records; a torn tail (the VM died, or
//! the file still grows) is not an error but simply not yet a record; a write that a full disk tore
//! and that was repeated later costs no byte and doubles none; whatever else is no record ends the
//! log with an error that says where and why, for the guest is not trusted. It never panics and
//! holds a few records at most beside what was pushed last. Does not: resynchronise behind other
//! damage, know what a payload means, or do IO.

mod mend;

use mend::{Mended, mend};

pub const HEADER: usize = 32;
/// Largest payload of one record, in bytes.
pub const PAYLOAD_MAX: usize = 64 << 10;

/// No byte of it is zero: a hole in the file is no record.
const MAGIC: [u8; 4] = [0xb7, b'l', b'o', 0x1a];

/// Which stream a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
    /// Last record of a log: how the process ended. The payload is an encoded exit status.
    Exit,
}

impl Stream {
    const fn code(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
            Stream::Exit => 3,
        }
    }

    fn from_code(code: u8) -> Option<Stream> {
        match code {
            1 => Some(Stream::Stdout),
            2 => Some(Stream::Stderr),
            3 => Some(Stream::Exit),
            _ => None,
        }
    }
}

/// One record, with the offset in the log at which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub stream: Stream,
    pub sequence: u64,
    /// Nanoseconds since 1970 UTC by the guest's clock.
    pub time_ns: u64,
    pub payload: Vec<u8>,
    pub offset: u64,
}

/// Why a log ends where a record should begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("output log is damaged at byte {offset}: {damage}")]
pub struct RecordError {
    pub offset: u64,
    pub damage: Damage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("no record begins there")]
    NoMagic,
    #[error("stream {0} is not known")]
    UnknownStream(u8),
    #[error("a record of {0} bytes is over the limit")]
    TooLong(u32),
    #[error("the checksum is wrong")]
    Checksum,
    #[error("record {found} follows, expected was {expected}")]
    Sequence { expected: u64, found: u64 },
}

/// Makes records; one for each log.
#[derive(Debug, Default)]
pub struct RecordEncoder {
    next_sequence: u64,
}

impl RecordEncoder {
    /// For a log whose next record has number `next_sequence`; a new log starts at 0.
    pub fn starting_at(next_sequence: u64) -> RecordEncoder {
        RecordEncoder { next_sequence }
    }

    /// Appends one record to `out`. Panics over [`PAYLOAD_MAX`].
    pub fn encode(&mut self, stream: Stream, time_ns: u64, payload: &[u8], out: &mut Vec<u8>) {
        assert!(payload.len() <= PAYLOAD_MAX, "a record holds at most {PAYLOAD_MAX} bytes");
        let length = u32::try_from(payload.len()).expect("the limit is far below 4 GiB");
        out.reserve(HEADER + payload.len());
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[stream.code(), 0, 0, 0]);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.next_sequence.to_le_bytes());
        out.extend_from_slice(&time_ns.to_le_bytes());
        let checksum = checksum(&out[start + 4..], &[payload]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(payload);
        self.next_sequence += 1;
    }
}

/// Reads records from bytes that come as they come.
#[derive(Debug)]
pub struct RecordReader {
    buffer: Vec<u8>,
    start: usize,
    /// Where in the log `buffer[start]` lies.
    offset: u64,
    /// `None` before the first record of a reader that started in the middle.
    expected: Option<u64>,
    /// What is wrong at `buffer[start]`, as long as it may turn out to be a repeated write.
    suspect: Option<Damage>,
    failed: Option<RecordError>,
}

impl RecordReader {
    /// Reads a log from `offset`, which is a border of records (0, or an earlier [`Self::offset`]).
    pub fn starting_at(offset: u64) -> RecordReader {
        let expected = (offset == 0).then_some(0);
        RecordReader { buffer: Vec::new(), start: 0, offset, expected, suspect: None, failed: None }
    }

    /// Takes in the bytes that follow. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next record; `None` when more bytes are needed, be it to tell damage from a write that was
    /// torn and repeated. An error is for good.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at None, this waits")]
    pub fn next(&mut self) -> Result<Option<Record>, RecordError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.suspect = None;
        self.read().map_err(|damage| {
            let error = RecordError { offset: self.offset, damage };
            self.failed = Some(error.clone());
            self.buffer = Vec::new();
            self.start = 0;
            error
        })
    }

    /// Where the next record begins: a border at which another reader may start.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that were pushed behind the last whole record: at the end of a log, its torn tail.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// As [`Self::next`], when no more bytes will come: `None` is the end, at most a torn tail, and
    /// what could only have been told from damage by more bytes is damage.
    pub fn last(&mut self) -> Result<Option<Record>, RecordError> {
        let next = self.next()?;
        if next.is_some() {
            return Ok(next);
        }
        if let Some(damage) = self.suspect {
            return Err(RecordError { offset: self.offset, damage });
        }
        // A length that was torn may promise more bytes than ever come.
        let mended = self.expected.map(|expected| mend(&self.buffer[self.start..], expected));
        if let Some(Mended::Behind(repeated)) = mended {
            self.skip(repeated);
            return self.next();
        }
        Ok(None)
    }

    fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }

    fn read(&mut self) -> Result<Option<Record>, Damage> {
        let bytes = &self.buffer[self.start..];
        let (damage, expected) = match (first(bytes, self.expected), self.expected) {
            (Ok(None), _) => return Ok(None),
            (Ok(Some(header)), _) => {
                let payload = bytes[HEADER..header.whole()].to_vec();
                return self.take(&header, payload, header.whole()).map(Some);
            }
            (Err(damage), Some(expected)) if damage.may_be_a_repeated_write() => (damage, expected),
            (Err(damage), _) => return Err(damage),
        };
        match mend(bytes, expected) {
            Mended::Behind(repeated) => {
                self.skip(repeated);
                self.read()
            }
            Mended::Within { at, repeated } => {
                let header = Header::of(bytes).ok_or(damage)?;
                let behind = at + repeated..header.whole() + repeated;
                let payload = [&bytes[HEADER..at], &bytes[behind]].concat();
                self.take(&header, payload, header.whole() + repeated).map(Some)
            }
            Mended::NotYet => {
                self.suspect = Some(damage);
                Ok(None)
            }
            Mended::Never => Err(damage),
        }
    }

    /// A record that lies in the next `length` bytes.
    fn take(&mut self, header: &Header, payload: Vec<u8>, length: usize) -> Result<Record, Damage> {
        let code = header.bytes[4];
        let stream = Stream::from_code(code).ok_or(Damage::UnknownStream(code))?;
        let (sequence, time_ns) = (header.sequence, u64_at(&header.bytes, 20));
        let record = Record { stream, sequence, time_ns, payload, offset: self.offset };
        self.skip(length);
        self.expected = Some(sequence.wrapping_add(1));
        Ok(record)
    }
}

/// The header of the record at the front of `bytes`, if all of that record is there.
fn first(bytes: &[u8], expected: Option<u64>) -> Result<Option<Header>, Damage> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(Damage::NoMagic);
    }
    let Some(header) = Header::of(bytes) else {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        return Err(Damage::TooLong(u32_at(header, 8)));
    };
    let Some(payload) = bytes.get(HEADER..header.whole()) else { return Ok(None) };
    if !header.fits(&[payload]) {
        return Err(Damage::Checksum);
    }
    match expected {
        Some(expected) if expected != header.sequence => {
            Err(Damage::Sequence { expected, found: header.sequence })
        }
        Some(_) | None => Ok(Some(header)),
    }
}

impl Damage {
    /// What a full disk may do to a log, see `mend`.
    fn may_be_a_repeated_write(self) -> bool {
        match self {
            Damage::NoMagic | Damage::TooLong(_) | Damage::Checksum => true,
            Damage::Sequence { expected, found } => found < expected,
            Damage::UnknownStream(_) => false,
        }
    }
}

/// What stands before a payload.
#[derive(Clone, Copy)]
struct Header {
    bytes: [u8; HEADER],
    length: usize,
    sequence: u64,
}

impl Header {
    /// `None` unless a whole one stands at the front, with a length that may be.
    fn of(bytes: &[u8]) -> Option<Header> {
        let bytes = *bytes.first_chunk::<HEADER>()?;
        let length = u32_at(&bytes, 8) as usize;
        (bytes.starts_with(&MAGIC) && length <= PAYLOAD_MAX).then(|| Header {
            bytes,
            length,
            sequence: u64_at(&bytes, 12),
        })
    }

    /// Bytes of the whole record.
    fn whole(&self) -> usize {
        HEADER + self.length
    }

    /// Whether these pieces are its payload.
    fn fits(&self, payload: &[&[u8]]) -> bool {
        checksum(&self.bytes[4..28], payload) == u32_at(&self.bytes, 28)
    }
}

fn checksum(header: &[u8], payload: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    for piece in payload {
        hasher.update(piece);
    }
    hasher.finalize()
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(payloads: &[(Stream, Vec<u8>)]) -> Vec<u8> {
        let mut encoder = RecordEncoder::default();
        let mut out = Vec::new();
        for (at, (stream, payload)) in payloads.iter().enumerate() {
            encoder.encode(*stream, at as u64 * 1000, payload, &mut out);
        }
        out
    }

    fn read_all(reader: &mut RecordReader) -> Result<Vec<Record>, RecordError> {
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    }

    fn three() -> Vec<(Stream, Vec<u8>)> {
        vec![
            (Stream::Stdout, b"out".to_vec()),
            (Stream::Stderr, Vec::new()),
            (Stream::Exit, vec![1, 2]),
        ]
    }

    #[test]
    fn a_torn_tail_is_no_record_and_no_error() {
        let whole = log(&three());
        let second = HEADER + 3;
        for end in second..whole.len() {
            let mut reader = RecordReader::starting_at(0);
            reader.push(&whole[..end]);
            let records = read_all(&mut reader).unwrap();
            assert_eq!(reader.offset() as usize + reader.pending(), end);
            reader.push(&whole[end..]);
            let rest = read_all(&mut reader).unwrap();
            assert_eq!(records.len() + rest.len(), 3, "torn at {end}");
        }
    }

    #[test]
    fn a_reader_may_start_at_any_border() {
        let whole = log(&three());
        let mut first = RecordReader::starting_at(0);
        first.push(&whole);
        first.next().unwrap();
        let border = first.offset();
        let mut second = RecordReader::starting_at(border);
        second.push(&whole[border as usize..]);
        let records = read_all(&mut second).unwrap();
        assert_eq!(records[0].stream, Stream::Stderr);
        assert_eq!(records[0].offset, border);
        assert_eq!(records[1].payload, [1, 2]);
    }

    #[test]
    fn garbage_ends_the_log_for_good() {
        let mut whole = log(&three());
        whole[HEADER + 3] ^= 1;
        let mut reader = RecordReader::starting_at(0);
        reader.push(&whole);
        assert!(reader.next().unwrap().is_some());
        assert_eq!(reader.next().unwrap(), None, "it might be a repeated write");
        let error = reader.last().unwrap_err();
        assert_eq!(error, RecordError { offset: 35, damage: Damage::NoMagic });
        assert_eq!(error.to_string(), "output log is damaged at byte 35: no record begins there");
        reader.push(&vec![0; 1 << 20]);
        assert_eq!(reader.next(), Err(error.clone()));
        reader.push(&log(&three()));
        assert_eq!(reader.next(), Err(error));
    }

    #[test]
    fn a_missing_record_shows() {
        let whole = log(&three());
        let mut holed = whole[..HEADER + 3].to_vec();
        holed.extend_from_slice(&whole[2 * HEADER + 3..]);
        let mut reader = RecordReader::starting_at(0);
        reader.push(&holed);
        assert!(reader.next().unwrap().is_some());
        let damage = reader.next().unwrap_err().damage;
        assert_eq!(damage, Damage::Sequence { expected: 1, found: 2 });
    }

    #[test]
    fn an_oversized_record_is_refused_from_its_header() {
        let mut whole = log(&three());
        whole[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut reader = RecordReader::starting_at(0);
        reader.push(&whole[..HEADER]);
        assert_eq!(reader.next().unwrap(), None);
        assert_eq!(reader.last().unwrap_err().damage, Damage::TooLong(u32::MAX));
    }

    #[test]
    fn the_bytes_of_a_record_never_change() {
        let mut out = Vec::new();
        RecordEncoder::starting_at(5).encode(Stream::Stderr, 9, b"hi", &mut out);
        let mut expected = vec![0xb7, b'l', b'o', 0x1a, 2, 0, 0, 0, 2, 0, 0, 0];
        expected.extend_from_slice(&5u64.to_le_bytes());
        expected.extend_from_slice(&9u64.to_le_bytes());
        let covered = [&expected[4..], b"hi"].concat();
        expected.extend_from_slice(&crc32fast::hash(&covered).to_le_bytes());
        expected.extend_from_slice(b"hi");
        assert_eq!(out, expected);
    }

    proptest! {
        #[test]
        fn writes_that_were_torn_and_repeated_cost_nothing_and_double_nothing(
            payloads in prop::collection::vec(
                (any::<u8>(), 1..4usize, 0..9000usize, 1..300usize), 1..30),
            writes in prop::collection::vec((1..32_768usize, any::<prop::sample::Index>(), any::<bool>()), 1..20),
            cut in 500..40_000usize,
        ) {
            let mut wanted: Vec<(Stream, Vec<u8>)> = payloads
                .into_iter()
                .map(|(byte, step, length, period)| {
                    let byte = |at: usize| byte.wrapping_add(u8::try_from(at % period * step % 251).unwrap());
                    (Stream::Stdout, (0..length).map(byte).collect())
                })
                .collect();
            wanted.push((Stream::Exit, vec![7]));
            let whole = log(&wanted);
            let exit = whole.len() - HEADER - 1;
            let borders: Vec<usize> = {
                let mut reader = RecordReader::starting_at(0);
                reader.push(&whole);
                read_all(&mut reader).unwrap().iter().map(|record| record.offset as usize).collect()
            };
            let mut found = Vec::new();
            let (mut at, mut torn_before) = (0, 0);
            for (length, torn, tear) in writes.iter().cycle() {
                // The agent writes the end by itself.
                let end = (at + length).min(if at < exit { exit } else { whole.len() });
                let torn = at + torn.index(end - at);
                // See what `mend` does not do.
                let record = borders.iter().rposition(|border| *border <= torn).unwrap();
                let border = borders[record];
                let hopeless = border < at && torn < border + HEADER
                    || torn_before > 0 && borders[record.saturating_sub(1)] < torn_before;
                if *tear && !hopeless && at < torn {
                    torn_before = torn;
                    found.extend_from_slice(&whole[at..torn]);
                }
                found.extend_from_slice(&whole[at..end]);
                at = end;
                if at == whole.len() {
                    break;
                }
            }
            let mut reader = RecordReader::starting_at(0);
            let mut got = Vec::new();
            for piece in found.chunks(cut) {
                reader.push(piece);
                got.extend(read_all(&mut reader).unwrap());
            }
            while let Some(record) = reader.last().unwrap() {
                got.push(record);
            }
            let got: Vec<(Stream, Vec<u8>)> =
                got.into_iter().map(|record| (record.stream, record.payload)).collect();
            prop_assert_eq!(got.len(), wanted.len());
            prop_assert!(got == wanted);
        }

        #[test]
        fn records_come_out_however_the_bytes_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20),
            cuts in prop::collection::vec(1..2000usize, 1..50),
        ) {
            let wanted: Vec<(Stream, Vec<u8>)> =
                payloads.into_iter().map(|payload| (Stream::Stdout, payload)).collect();
            let whole = log(&wanted);
            let mut reader = RecordReader::starting_at(0);
            let mut rest = &whole[..];
            let mut got = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at(rest.len().min(*cut));
                reader.push(piece);
                rest = behind;
                got.extend(read_all(&mut reader).unwrap());
            }
            let got: Vec<(Stream, Vec<u8>)> =
                got.into_iter().map(|record| (record.stream, record.payload)).collect();
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(reader.pending(), 0);
        }

        #[test]
        fn damage_never_panics_and_never_yields_what_was_not_written(
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let honest = log(&three());
            let mut damaged = honest.clone();
            for (at, value) in flips {
                let at = at.index(damaged.len());
                damaged[at] ^= value;
            }
            damaged.extend_from_slice(&noise);
            let mut reader = RecordReader::starting_at(0);
            reader.push(&damaged);
            let mut written = RecordReader::starting_at(0);
            written.push(&honest);
            let written = read_all(&mut written).unwrap();
            let mut at = 0;
            while let Ok(Some(record)) = reader.next() {
                prop_assert_eq!(Some(&record), written.get(at));
                at += 1;
            }
            prop_assert!(reader.pending() <= damaged.len());
        }
    }
}
