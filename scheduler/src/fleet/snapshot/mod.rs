//! A fleet as bytes: what a replica stores and sends to one that lags behind, and the state hash.
//!
//! Promises: decoding what was encoded gives an equal fleet; two equal fleets have equal bytes,
//! since everything is written in the order of its ids. Names and indexes are not in the bytes,
//! they are found again from the objects. A version that this build does not know is an error.

mod v1;

use super::Fleet;
use super::format::FormatError;
use berth_wire::envelope::{self, Format};
use sha2::{Digest, Sha256};

const SNAPSHOT: Format = Format(0x0102);

impl Fleet {
    pub fn encode(&self) -> Vec<u8> {
        envelope::seal(SNAPSHOT, 1, &v1::encode(self))
    }

    pub fn decode(bytes: &[u8]) -> Result<Fleet, FormatError> {
        let (_, payload) = envelope::open(SNAPSHOT, 1..=1, bytes)?;
        let mut fleet = v1::decode(payload)?;
        fleet.rebuild();
        fleet.check_invariants().map_err(FormatError::Contradiction)?;
        Ok(fleet)
    }

    /// The first eight bytes of the SHA-256 of the encoded fleet. Equal on all replicas at one
    /// index.
    pub fn state_hash(&self) -> u64 {
        let digest: [u8; 32] = Sha256::digest(v1::encode(self)).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}
