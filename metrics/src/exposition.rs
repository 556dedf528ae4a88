//! The text that `/metrics` serves.
//!
//! Promises: the whole registry in Prometheus' text format 0.0.4, or an error and no half of it.
//! Does not: serve it; each process has its listener.

use prometheus::{Encoder as _, Registry, TextEncoder};

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything in `registry`, as text.
pub fn text(registry: &Registry) -> Result<String, prometheus::Error> {
    let mut buffer = Vec::with_capacity(64 << 10);
    TextEncoder::new().encode(&registry.gather(), &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}
