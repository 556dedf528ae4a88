//! A stream of server-sent events: a task that follows the fleet, and the body it feeds.

use super::feed::{self, Filter};
use crate::placement::call::Call;
use crate::placement::errors::{Kind, Problem};
use crate::placement::page::revision;
use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use berth_scheduler::Fleet;

/// A comment after so long without a message.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A client that takes nothing for so long is cut.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages between the task and the socket.
const AHEAD: usize = 4;
/// Revisions looked up at once.
const REVISIONS: usize = 64;

/// How many streams one process serves.
#[derive(Clone, Debug)]
pub struct Streams(Arc<Semaphore>);

impl Streams {
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let full = || Problem::new(Kind::TooMany, "too many streams are open; try again later");
        self.0.clone().try_acquire_owned().map_err(|_| full())
    }
}

/// Opens a stream of what comes after `after`.
pub fn open(call: &Call, after: u64, filter: Filter) -> Result<HttpResponse, Problem> {
    let fleets = call.api.scheduler.watch();
    // What is gone already is told as a problem, while there is a status to tell it by.
    feed::revisions(&fleets.borrow(), after, 1, &filter)?;
    let permit = call.api.streams.enter()?;
    let metrics = call.api.metrics.clone();
    let (sender, receiver) = mpsc::channel(AHEAD);
    let follower = Follower { fleets, filter, after, sender };
    actix_rt::spawn(async move {
        metrics.event_streams.inc();
        // What is cut short can be resumed.
        if follower.run().await == Err(Cut::Slow) {
            metrics.event_streams_cut.inc();
        }
        metrics.event_streams.dec();
        drop(permit);
    });
    let body = ReceiverStream::new(receiver).map(Ok::<Bytes, std::io::Error>);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(body))
}

struct Follower {
    fleets: watch::Receiver<Arc<Fleet>>,
    filter: Filter,
    after: u64,
    sender: mpsc::Sender<Bytes>,
}

/// Why a stream ends before the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The client is gone.
    Gone,
    /// It reads too slowly.
    Slow,
}

impl Follower {
    async fn run(mut self) -> Result<(), Cut> {
        self.send("retry: 1000\n\n".to_owned()).await?;
        loop {
            let fleet = self.fleets.borrow_and_update().clone();
            if !self.tell(&fleet).await? {
                return Ok(());
            }
            let changed = tokio::time::timeout(HEARTBEAT, self.fleets.changed());
            tokio::select! {
                changed = changed => match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => self.heartbeat(&fleet).await?,
                },
                () = self.sender.closed() => return Err(Cut::Gone),
            }
        }
    }

    /// Everything up to the fleet's index; false where the stream cannot go on.
    async fn tell(&mut self, fleet: &Fleet) -> Result<bool, Cut> {
        loop {
            let revisions = match feed::revisions(fleet, self.after, REVISIONS, &self.filter) {
                Ok(revisions) => revisions,
                Err(problem) => {
                    let data = serde_json::to_string(&problem.view()).unwrap_or_default();
                    self.send(format!("event: gone\ndata: {data}\n\n")).await?;
                    return Ok(false);
                }
            };
            let full = revisions.len() == REVISIONS;
            for (index, view) in revisions {
                let data = serde_json::to_string(&view).unwrap_or_default();
                let id = &view.revision.0;
                self.send(format!("id: {id}\nevent: revision\ndata: {data}\n\n")).await?;
                self.after = index;
            }
            if !full {
                self.after = self.after.max(fleet.index());
                return Ok(true);
            }
        }
    }

    /// Names what has been looked at, so that a client that resumes skips what it did not ask for.
    async fn heartbeat(&mut self, fleet: &Fleet) -> Result<(), Cut> {
        let at = revision(fleet, self.after).0;
        self.send(format!(": {at}\nid: {at}\n\n")).await
    }

    async fn send(&self, text: String) -> Result<(), Cut> {
        match tokio::time::timeout(PATIENCE, self.sender.send(text.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Cut::Gone),
            Err(_) => Err(Cut::Slow),
        }
    }
}
