//! JSON bodies held against the schema that the API's document shows: what is documented is what
//! is checked, for both come from one place.
//!
//! Promises: a body is walked once, without being built up, before it is read into its type; the
//! first thing that does not fit is named by its place. Depth is bounded. The part of JSON Schema
//! that the views use is known; a schema that says more does not compile, and a test compiles all.
//!
//! Does not: hold what spans several members; handlers do.

mod check;
mod node;
mod walk;

pub use check::{Misfit, Numbers, check, plain};
pub use node::{Node, compile};

/// Deeper bodies are refused.
pub const DEPTH_MAX: u32 = 32;
