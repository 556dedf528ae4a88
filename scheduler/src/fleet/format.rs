//! Commands as the log holds them.
//!
//! Promises: version 2 never changes (golden bytes in the tests). Version 1 was never released and
//! is refused by name. A command that cannot be read is an error of the world, not a rejection: a
//! replica that skipped it would hold another fleet than its peers, so whoever applies stops the
//! process.

use berth_model::Command;
use berth_wire::codec::{self, CodecError};
use berth_wire::envelope::{self, EnvelopeError, Format};

const COMMAND: Format = Format(0x0101);
const COMMAND_VERSION: u16 = 2;

/// Largest command in bytes. A log entry holds several, and a frame between replicas an entry.
pub const COMMAND_MAX: usize = 4 << 20;

/// Stored bytes that this build cannot use.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("snapshot contradicts itself: {0}")]
    Contradiction(String),
}

pub fn encode_command(command: &Command) -> Vec<u8> {
    envelope::seal(COMMAND, COMMAND_VERSION, &codec::encode(command))
}

pub fn decode_command(bytes: &[u8]) -> Result<Command, FormatError> {
    let (_, payload) = envelope::open(COMMAND, COMMAND_VERSION..=COMMAND_VERSION, bytes)?;
    Ok(codec::decode(payload, payload.len())?)
}
