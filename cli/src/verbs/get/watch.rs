//! Showing again when something changed.

use anyhow::{Context, Result};
use berth_client::Client;
use berth_client::view::RevisionView;
use berth_model::revision::OpaqueRevision;
use futures_util::StreamExt;
use std::pin::pin;

/// Calls `show` after each revision that changed an object of `kind`, until the stream ends.
pub async fn follow(
    client: &Client,
    kind: &str,
    from: OpaqueRevision,
    show: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    let mut revisions = pin!(client.follow(Some(from)));
    while let Some(revision) = revisions.next().await {
        let RevisionView { events, .. } = revision.context("the stream of events broke off")?;
        if events.iter().any(|event| event.kind == kind) {
            super::super::output::line("")?;
            show().await?;
        }
    }
    Ok(())
}
