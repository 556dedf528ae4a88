//! What one log entry holds: a batch of commands, stamped by the leader.
//!
//! Promises: a batch carries its format's version, and one of an unknown version is an error.

use berth_wire::codec::{self, CodecError};
use berth_wire::envelope::{self, EnvelopeError, Format};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const FORMAT: Format = Format(0x5202);
const VERSION: u16 = 1;
/// Bound of one entry in bytes; a leader makes far smaller ones.
const LIMIT: usize = 64 << 20;

/// Bytes that are encoded as one run instead of one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(Bytes::from(bytes)))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// Version 1 of an entry's content. Frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) time_ms: u64,
    pub(crate) commands: Vec<Blob>,
}

/// Why an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Batch {
    pub(crate) fn encode(&self) -> Vec<u8> {
        envelope::seal(FORMAT, VERSION, &codec::encode(self))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let (_, payload) = envelope::open(FORMAT, VERSION..=VERSION, bytes)?;
        Ok(codec::decode(payload, LIMIT)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_version_one_never_change() {
        let batch = Batch { time_ms: 300, commands: vec![Blob(Bytes::from_static(b"ab"))] };
        let bytes = batch.encode();
        assert_eq!(bytes[..4], [2, 0x52, 1, 0]);
        assert_eq!(bytes[8..], [251, 44, 1, 1, 2, b'a', b'b']);
        assert_eq!(Batch::decode(&bytes).unwrap(), batch);
    }

    #[test]
    fn a_batch_of_a_newer_version_is_an_error() {
        let newer = envelope::seal(FORMAT, 2, b"");
        assert!(matches!(
            Batch::decode(&newer),
            Err(BatchError::Envelope(EnvelopeError::UnknownVersion { .. }))
        ));
    }
}
