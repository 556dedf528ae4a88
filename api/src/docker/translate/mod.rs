//! Docker's words into ours and back: a pure zone.
//!
//! `request` is the create body, `spec` merges it with the image's config, `container` and
//! `listing` show container VMs as Docker does, `image` shows images; `signal`, `time`, `name`,
//! `reference` and `filter` are the small notations; `frame` and `detach` are the notations of
//! attached streams.
//!
//! Promises: a value that is not understood is an error that names it, never a guess.
//! Does not: decide which fields are looked at; `fields` does, before.

pub mod container;
pub mod detach;
pub mod event;
pub mod filter;
#[cfg(test)]
pub mod fixtures;
pub mod frame;
pub mod image;
pub mod listing;
pub mod name;
pub mod reference;
pub mod request;
pub mod signal;
pub mod spec;
pub mod time;

/// Why a request's values cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The value makes no sense.
    #[error("{0}")]
    Bad(String),
    /// It makes sense, but is not there yet.
    #[error("{0}")]
    NotYet(String),
    /// It names something that is not there.
    #[error("{0}")]
    NotFound(String),
}

impl Invalid {
    pub fn bad(text: impl Into<String>) -> Self {
        Invalid::Bad(text.into())
    }
}
