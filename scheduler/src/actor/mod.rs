//! The shells around the pure parts: take a message, ask, carry out, count.
//!
//! ```text
//!  replica thread: machine ── Arc<Fleet>, Reign ─┬─► planner ── Place ──────────► proposer ─► replica
//!                                                ├─► dispatcher ─► node_session ── Observe ─┘
//!                                                ├─► placer ── Reserve ───────► proposer ─► replica
//!                                                ├─► bootstrap (once in a cell's life)
//!                                                └─► handle: submit, place, read, watch, what_if
//! ```
//!
//! Promises: only a replica that leads and has applied everything of earlier leaders plans,
//! admits nodes or counts silence. Whatever an actor holds can be lost: it is found again from the
//! fleet and from what nodes say when they register.

mod bootstrap;
mod clock;
mod dispatcher;
pub mod handle;
mod listener;
mod machine;
mod mailbox;
mod node_session;
pub mod placer;
mod planner;
mod proposer;
pub mod start;
#[cfg(test)]
mod tests;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;

/// What is watched has another value now.
struct Changed;

/// An item at once and one after each change; many changes between two looks are one.
fn changes<T: Send + Sync + 'static>(
    mut watched: watch::Receiver<T>,
) -> impl Stream<Item = Changed> {
    watched.mark_changed();
    stream::unfold(watched, |mut watched| async move {
        watched.changed().await.ok()?;
        Some((Changed, watched))
    })
}

/// Held by the actors that a leader cannot do without. A panic in one of them would take it away
/// silently, for nothing starts it again: the process ends instead, and another replica leads.
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("an actor panicked; this scheduler ends");
            std::process::abort();
        }
    }
}
