//! Placement requests, decided on whichever replica takes them.
//!
//! ```text
//!  Wanted ─► queue ─► decide on the mirror ─► batch of one Reserve ─► log ─► apply ─► answer
//!              ▲          │ nowhere                                            │
//!              │          ├─► under way? decide again once they are settled    │ item rejected:
//!              │          ├─► waits? parked until something changes            │ a conflict
//!              │          └─► explained, answered                              │
//!              └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! Promises: what is answered as held was applied; what is answered as refused was refused by a
//! state in which no decision of this desk was open that could have come to nothing. A gang is
//! held whole or not at all. Every job is answered by its deadline. Several commands are under way
//! at once; what they take counts in the mirror until the fleet shows it.
//! Does not: propose, explain, or read a clock; its actor does, and says what became of it.

mod commands;
mod decide;
mod desk;
mod explaining;
mod job;
mod request;
mod slab;
#[cfg(test)]
mod tests;

pub use commands::{Outcome, Proposal};
pub use desk::{Counts, Desk, Done, Limits, Now};
pub use explaining::{ExplainTask, Explained};
pub use request::{PlaceAnswer, PlaceMode, PlaceTrouble, PlaceWish, Placed, Wanted};
