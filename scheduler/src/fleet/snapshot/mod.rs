//! A fleet as bytes: what a replica stores and sends to one that lags behind.
//!
//! Promises: decoding what was encoded gives an equal fleet; two equal fleets have equal bytes,
//! since everything is written in the order of its ids. Names and indexes are not in the bytes,
//! they are found again from the objects. A version that this build does not know is an error.

mod v2;

use super::Fleet;
use super::format::FormatError;
use berth_wire::envelope::{self, Format};

const SNAPSHOT: Format = Format(0x0102);
const VERSION: u16 = 2;

impl Fleet {
    pub fn encode(&self) -> Vec<u8> {
        envelope::seal(SNAPSHOT, VERSION, &v2::encode(self))
    }

    pub fn decode(bytes: &[u8]) -> Result<Fleet, FormatError> {
        let (_, payload) = envelope::open(SNAPSHOT, VERSION..=VERSION, bytes)?;
        let mut fleet = v2::decode(payload)?;
        fleet.rebuild();
        fleet.check_invariants().map_err(FormatError::Contradiction)?;
        Ok(fleet)
    }
}
