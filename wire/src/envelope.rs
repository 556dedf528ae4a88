//! The envelope around everything that is stored: which format, which version of it, and a
//! checksum.
//!
//! ```text
//! format u16 | version u16 | crc32 u32 of format, version and payload | payload   little-endian
//! ```
//!
//! Promises: bytes of another format, of a version that the reader does not know, or damaged ones
//! are an error and never half understood. Does not: know any format; each owner of one keeps its
//! number and a frozen module per version.

use std::ops::RangeInclusive;

/// Names a stored format. Numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(pub u16);

const HEADER: usize = 8;

/// Why stored bytes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("stored record of {0} bytes is too short to be one")]
    Truncated(usize),
    #[error("stored record has format {found}, expected {expected}; this is another kind of file")]
    WrongFormat { found: u16, expected: u16 },
    #[error(
        "stored record has version {found} of format {format}, this build reads {minimum} to \
         {maximum}; run the release that wrote it or a newer one"
    )]
    UnknownVersion { format: u16, found: u16, minimum: u16, maximum: u16 },
    #[error(
        "stored record of format {0} is damaged, its checksum is wrong; restore it from a replica"
    )]
    Damaged(u16),
}

/// Wraps a payload for storage.
pub fn seal(format: Format, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER + payload.len());
    sealed.extend_from_slice(&format.0.to_le_bytes());
    sealed.extend_from_slice(&version.to_le_bytes());
    sealed.extend_from_slice(&checksum(format.0, version, payload).to_le_bytes());
    sealed.extend_from_slice(payload);
    sealed
}

/// Opens what [`seal`] made; answers the version and the payload.
pub fn open(
    format: Format,
    supported: RangeInclusive<u16>,
    bytes: &[u8],
) -> Result<(u16, &[u8]), EnvelopeError> {
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(EnvelopeError::Truncated(bytes.len()));
    };
    let [f0, f1, v0, v1, c0, c1, c2, c3] = *header;
    let found = u16::from_le_bytes([f0, f1]);
    let version = u16::from_le_bytes([v0, v1]);
    if found != format.0 {
        return Err(EnvelopeError::WrongFormat { found, expected: format.0 });
    }
    // The checksum goes first: a flipped bit in the version must not read as a newer release.
    if u32::from_le_bytes([c0, c1, c2, c3]) != checksum(found, version, payload) {
        return Err(EnvelopeError::Damaged(format.0));
    }
    if !supported.contains(&version) {
        return Err(EnvelopeError::UnknownVersion {
            format: format.0,
            found: version,
            minimum: *supported.start(),
            maximum: *supported.end(),
        });
    }
    Ok((version, payload))
}

fn checksum(format: u16, version: u16, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&format.to_le_bytes());
    hasher.update(&version.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format(0x0701);

    #[test]
    fn what_was_sealed_opens() {
        let sealed = seal(FORMAT, 3, b"payload");
        assert_eq!(open(FORMAT, 1..=3, &sealed), Ok((3, b"payload".as_slice())));
    }

    #[test]
    fn the_bytes_of_version_one_never_change() {
        assert_eq!(seal(FORMAT, 1, b"ab"), [1, 7, 1, 0, 225, 147, 88, 175, b'a', b'b']);
    }

    #[test]
    fn an_unknown_version_is_an_error() {
        let sealed = seal(FORMAT, 4, b"payload");
        let refused = open(FORMAT, 1..=3, &sealed);
        assert!(matches!(refused, Err(EnvelopeError::UnknownVersion { found: 4, .. })));
    }

    #[test]
    fn another_format_is_an_error() {
        let sealed = seal(Format(9), 1, b"payload");
        assert!(matches!(open(FORMAT, 1..=1, &sealed), Err(EnvelopeError::WrongFormat { .. })));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_an_error() {
        let sealed = seal(FORMAT, 1, b"payload");
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(FORMAT, 0..=u16::MAX, &damaged).is_err(), "bit {bit}");
        }
        for end in 0..sealed.len() {
            assert!(open(FORMAT, 1..=1, &sealed[..end]).is_err(), "{end} bytes");
        }
    }
}
