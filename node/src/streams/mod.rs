//! Streams from schedulers: attach, logs, image loads, and what goes straight to a container VM.
//!
//! ```text
//!  accept ─► TLS: a scheduler? ─► Hello ─► request ─► slot? ─► Accepted, frames …, End or Failed
//!                                                      └─ Refused
//! ```
//!
//! Promises: only schedulers of the cell are served; streams are bounded, and one beyond is
//! refused, not kept waiting; each runs in a task of its own and waits only for its own client, so
//! a slow one stalls nobody; a stream that could not do all that it was asked for says so, and one
//! that is cut says nothing, which its client takes for an error.

mod attach;
mod control;
mod load;
mod logs;

use crate::agent::{Locate, Located};
use crate::causes::with_causes;
use crate::datastore::{Datastore, ReachedReader};
use crate::images::Loader;
use crate::mailbox::Mailbox;
use crate::output::LogsRequest;
use berth_metrics::IntGauge;
use berth_metrics::node::NodeMetrics;
use berth_model::stream::{
    FromNode, MESSAGE_MAX, PROTOCOL_MAX, PROTOCOL_MIN, StreamRefusal, StreamRequest, ToNode,
};
use berth_model::{ContainerId, DatastoreId, Epoch};
use berth_wire::hello::Hello;
use berth_wire::identity::Role;
use berth_wire::link::{Link, LinkError, LinkSender};
use berth_wire::tls::Tls;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Peers that have not said what they want.
const UNKNOWN_MAX: usize = 128;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A scheduler may hear of a start before this node does; for so long a run is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// A client that takes nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(300);

/// What streams need of the node. Clones share it.
#[derive(Clone)]
pub struct Surroundings {
    pub tls: Tls,
    pub agent: Mailbox<Locate>,
    /// Rises when [`Locate`] may answer otherwise.
    pub changes: watch::Receiver<u64>,
    pub datastores: ReachedReader,
    pub loader: Loader,
    pub metrics: NodeMetrics,
    /// Streams open at once.
    pub limit: usize,
}

/// How a stream came to its end.
pub(crate) enum Close {
    /// All was done.
    End,
    Failed(String),
    /// The client is gone, or the link broke: there is nobody to tell.
    Gone,
}

impl From<LinkError> for Close {
    fn from(_: LinkError) -> Close {
        Close::Gone
    }
}

/// Serves until it is dropped. The listener does not block; the streams are tasks of the same
/// thread.
pub async fn serve(listener: std::net::TcpListener, around: Surroundings) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "streams cannot be served");
            return;
        }
    };
    let unknown = Arc::new(Semaphore::new(UNKNOWN_MAX));
    let slots = Arc::new(Semaphore::new(around.limit));
    loop {
        let Ok(entrance) = unknown.clone().acquire_owned().await else {
            return;
        };
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no stream can be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (around, slots) = (around.clone(), slots.clone());
        actix_rt::spawn(async move {
            let asked = ask(tcp, &around.tls).await;
            drop(entrance);
            match asked {
                Ok(Some((link, request))) => admit(link, request, around, &slots).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%peer, error = with_causes(&error), "stream did not open");
                }
            }
        });
    }
}

/// Who is it, and what does it want? `None` if it left without asking.
async fn ask(tcp: TcpStream, tls: &Tls) -> Result<Option<(Link, StreamRequest)>, LinkError> {
    let (mut link, _) = tls.accept(tcp, &[Role::Scheduler]).await?;
    link.set_limit(MESSAGE_MAX);
    link.hello(&hello()).await?;
    let request = tokio::time::timeout(REQUEST_TIMEOUT, link.receive::<ToNode>())
        .await
        .map_err(|_| LinkError::TimedOut("request"))??;
    match request {
        None => Ok(None),
        Some(ToNode::Request(request)) => Ok(Some((link, request))),
        Some(ToNode::Data(_) | ToNode::Eof) => {
            let refusal = StreamRefusal::Other("the first message of a stream asks".into());
            link.send(&FromNode::Refused(refusal)).await?;
            Ok(None)
        }
    }
}

async fn admit(mut link: Link, request: StreamRequest, around: Surroundings, slots: &Semaphore) {
    let kind = kind(&request);
    let Ok(_slot) = slots.try_acquire() else {
        around.metrics.stream_refused(kind);
        let refused = FromNode::Refused(StreamRefusal::TooMany);
        // It is refused either way; whether it hears why depends on it.
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, link.send(&refused)).await;
        return;
    };
    let _open = Open::new(around.metrics.streams_open(kind));
    let outcome = match request {
        StreamRequest::Attach { container, epoch, from, stdin } => {
            attach::serve(link, &around, container, epoch, from, stdin).await
        }
        StreamRequest::Logs { container, datastore, epoch, follow, since, until, tail } => {
            let request = LogsRequest { epoch, follow, since, until, tail };
            logs::serve(link, &around, datastore, container, request).await
        }
        StreamRequest::LoadImages { datastore } => load::serve(link, &around, datastore).await,
        StreamRequest::Signal { container, epoch, signal } => {
            control::signal(link, &around, container, epoch, signal).await
        }
        StreamRequest::Resize { container, epoch, rows, columns } => {
            control::resize(link, &around, container, epoch, rows, columns).await
        }
        StreamRequest::Stats { container, epoch } => {
            control::stats(link, &around, container, epoch).await
        }
    };
    if let Err(refusal) = outcome {
        tracing::info!(kind, %refusal, "stream refused");
        around.metrics.stream_refused(kind);
    }
}

/// As in `metrics::node::STREAM_KINDS`.
const fn kind(request: &StreamRequest) -> &'static str {
    match request {
        StreamRequest::Attach { .. } => "attach",
        StreamRequest::Logs { .. } => "logs",
        StreamRequest::LoadImages { .. } => "load",
        StreamRequest::Signal { .. } => "signal",
        StreamRequest::Resize { .. } => "resize",
        StreamRequest::Stats { .. } => "stats",
    }
}

struct Open(IntGauge);

impl Open {
    fn new(gauge: IntGauge) -> Open {
        gauge.inc();
        Open(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn hello() -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: crate::BUILD.to_owned(),
        features: Vec::new(),
    }
}

/// The run that a client means. One that is about to start is waited for.
async fn locate(
    around: &Surroundings,
    container: ContainerId,
    epoch: Epoch,
) -> Result<Located, StreamRefusal> {
    let mut changes = around.changes.clone();
    let waiting = async {
        loop {
            changes.borrow_and_update();
            let located = around.agent.ask(Locate(container)).await.flatten();
            match located {
                Some(located) if located.epoch == epoch => return Ok(located),
                Some(located) if located.epoch > epoch => {
                    return Err(StreamRefusal::OtherEpoch(container));
                }
                Some(_) | None => {}
            }
            if changes.changed().await.is_err() {
                return Err(StreamRefusal::NotHere(container));
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or(Err(StreamRefusal::NotHere(container)))
}

fn reach(around: &Surroundings, id: DatastoreId) -> Result<Arc<Datastore>, StreamRefusal> {
    let reached = around.datastores.borrow().get(&id).cloned();
    reached.ok_or(StreamRefusal::DatastoreUnreachable(id))
}

/// Tells the client no.
async fn refuse(mut link: Link, refusal: StreamRefusal) -> Result<(), StreamRefusal> {
    // It is refused either way; whether it hears why depends on it.
    let _ = send_link(&mut link, &FromNode::Refused(refusal.clone())).await;
    let _ = tokio::time::timeout(REQUEST_TIMEOUT, link.close()).await;
    Err(refusal)
}

async fn send(sender: &mut LinkSender, message: &FromNode) -> Result<(), Close> {
    match tokio::time::timeout(SEND_TIMEOUT, sender.send(message)).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(Close::Gone),
    }
}

async fn send_link(link: &mut Link, message: &FromNode) -> Result<(), Close> {
    match tokio::time::timeout(SEND_TIMEOUT, link.send(message)).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(Close::Gone),
    }
}

/// The last words of a stream.
async fn close(mut sender: LinkSender, close: Close) {
    let last = match close {
        Close::End => FromNode::End,
        Close::Failed(reason) => FromNode::Failed(reason),
        Close::Gone => return,
    };
    if send(&mut sender, &last).await.is_ok() {
        // The client has all it waited for.
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, sender.close()).await;
    }
}

#[cfg(test)]
mod tests;
