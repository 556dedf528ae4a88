//! A resumable channel over an unreliable byte pipe, for the port between a node and its guests.
//!
//! The host's end of a virtio-serial port may vanish and come back at any byte; bytes in flight are
//! then lost, or the tail of an old frame arrives first. [`Endpoint`] makes of such a pipe two
//! ordered streams of messages that survive it. It is a pure state machine: bytes in, bytes out, no
//! IO, no clock, no randomness.
//!
//! ```text
//!  host                                             guest
//!  reconnected(nonce) ── filler, Hello{nonce} ────►          any state: forget what is half said
//!                    ◄── HelloReply{nonce} ───────          in step
//!  in step           ◄── Data / Ack ─────────────►          in step
//!                    ◄── Lost ───────────────────           out of step: only a Hello is heard
//! ```
//!
//! Promises, for two endpoints that both live on: every message arrives exactly once and in order,
//! however often and wherever the pipe is cut. A message is acknowledged when the receiver took it
//! with [`Endpoint::pop`], not when its bytes came. So when a host endpoint is lost with its
//! process and a new one says Hello, the guest sends all that the old one had not taken (at least
//! once, in order, from the oldest), and what the old host had said but not yet delivered is gone:
//! the new one re-states it.
//!
//! Bounds: each direction holds at most its window of messages that were sent and not yet taken;
//! [`Full`] is the sender's back-pressure, and a peer that ignores the window is out of step.
//! Nothing that a peer sends makes an endpoint hold more than the window and two frames.
//!
//! Does not: encrypt, or tell an honest peer from a hostile one that speaks the protocol. Filler
//! before a Hello is as long as the largest frame, so that a frame which was cut short swallows
//! filler and never the Hello; what a cut frame carried is skipped whole and never read as frames.

mod endpoint;
mod frame;
#[cfg(test)]
mod tests;

pub use endpoint::{ChannelError, Endpoint, Full};

/// Largest message to the guest, in bytes: a spec with a long environment fits.
pub const TO_GUEST_MESSAGE_MAX: usize = 2 << 20;
/// Largest message to the host, in bytes.
pub const TO_HOST_MESSAGE_MAX: usize = 128 << 10;

/// Most that may be sent to the guest and not yet taken, in cost units (see [`cost`]).
const TO_GUEST_WINDOW: usize = 4 << 20;
/// The same to the host, which has a thousand guests and does not trust them.
const TO_HOST_WINDOW: usize = 256 << 10;

/// What a chunk counts against a window: its bytes, and its bookkeeping, so that a flood of empty
/// messages is bounded too.
const fn cost(payload: usize) -> usize {
    payload + 64
}
