//! `docker images`, `docker image inspect` and `docker load`.

use super::answer::{self, Answer, BodySender};
use super::call::{Call, View};
use super::error::DockerError;
use super::translate::filter::Filters;
use super::translate::image;
use crate::streams::{NodeStream, Piece, StreamError, StreamReceiver, StreamSender};
use berth_model::command::{CommandBody, NewImage};
use berth_model::stream::{LoadedImage, StreamRequest};
use berth_model::{DatastoreId, EndpointId, Host, HostState};
use berth_scheduler::Fleet;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use rand::seq::IteratorRandom as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The client of a refused archive may send for so long.
const HEAR_OUT: Duration = Duration::from_secs(60);

pub(super) async fn list(call: &Call) -> Result<Answer, DockerError> {
    let filters = Filters::parse(call.query.text("filters"), image::FILTERS)?;
    let view = call.view().await?;
    let named = |name: &str| view.image(name).ok();
    let shown = image::select(view.fleet.images_of(view.endpoint), &filters, named)?;
    let mut used: BTreeMap<_, usize> = BTreeMap::new();
    for vm in view.fleet.containers_of(view.endpoint) {
        *used.entry(vm.spec.image).or_default() += 1;
    }
    let lines =
        shown.iter().map(|found| image::summary(found, used.get(&found.id).copied().unwrap_or(0)));
    Ok(answer::json(StatusCode::OK, &Value::Array(lines.collect())))
}

pub(super) async fn inspect(call: &Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    Ok(answer::json(StatusCode::OK, &image::inspect(view.image(&call.name)?)))
}

/// Streams the archive to a node that reaches the image store, and records each image that the
/// node has made whole. Trouble before the first line is a status, after it an error in the body.
pub(super) async fn load(mut call: Call) -> Result<Answer, DockerError> {
    let (stream, endpoint, datastore) = match open(&call).await {
        Ok(opened) => opened,
        Err(error) => {
            hear_out(drain(call.request.body_mut())).await;
            return Err(error);
        }
    };
    let (sender, receiver) = stream.split();
    let quiet = call.query.truth("quiet");
    let Call { docker, peer, version, query, name, request, traceparent } = call;
    let (head, body) = request.into_parts();
    let feeding = tokio::spawn(feed(sender, body));
    // What is left of the call carries no body; it only commits what the node has made.
    let call = Committer { docker, peer, traceparent, endpoint, datastore };
    drop((version, query, name, head));
    let feeding = Some(feeding);
    let mut load = Load { call, receiver, feeding, sent: None, quiet, recorded: 0 };
    let first = match load.next().await {
        Ok(first) => first,
        Err(error) => {
            if let Some(feeding) = &mut load.feeding {
                hear_out(feeding).await;
            }
            return Err(error);
        }
    };
    let (answer, lines) = answer::stream("application/json");
    tokio::spawn(async move {
        if send(&lines, &first).await {
            load.go_on(&lines).await;
        }
    });
    Ok(answer)
}

async fn open(call: &Call) -> Result<(NodeStream, EndpointId, DatastoreId), DockerError> {
    let view = call.view().await?;
    let (host, datastore) = way_in(&view)?;
    let stream = call.docker.streams.open(host, StreamRequest::LoadImages { datastore }).await?;
    Ok((stream, view.endpoint, datastore))
}

/// Where images of an endpoint enter: its image store, else the datastore that most connected
/// hosts reach; and one of the hosts that reach it.
fn way_in(view: &View) -> Result<(&Host, DatastoreId), DockerError> {
    let fleet: &Fleet = &view.fleet;
    let connected = |id: &berth_model::HostId| {
        let host = fleet.host(*id).filter(|h| matches!(h.state, HostState::Connected { .. }));
        host.filter(|host| !host.maintenance)
    };
    let store = fleet.endpoint(view.endpoint).and_then(|endpoint| endpoint.image_store);
    let reach = |id: DatastoreId| {
        fleet.datastore(id).map_or(0, |found| found.hosts.iter().filter_map(connected).count())
    };
    let most = || fleet.datastores().max_by_key(|d| (reach(d.id), std::cmp::Reverse(d.id)));
    let datastore = store.or_else(|| most().map(|datastore| datastore.id)).ok_or_else(|| {
        DockerError::unavailable("no host has connected a datastore yet, so images have no place")
    })?;
    let hosts = fleet.datastore(datastore).into_iter().flat_map(|found| found.hosts.iter());
    let host = hosts.filter_map(connected).choose(&mut rand::rng()).ok_or_else(|| {
        DockerError::unavailable("no connected host reaches the image store; is a node running?")
    })?;
    Ok((host, datastore))
}

/// Sends the request's body to the node.
async fn feed(mut sender: StreamSender, mut body: Incoming) -> Result<StreamSender, StreamError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            StreamError::Failed(format!("the archive was cut short on its way: {error}"))
        })?;
        if let Ok(data) = frame.into_data()
            && let Err(error) = sender.data(&data).await
        {
            drain(&mut body).await;
            return Err(error);
        }
    }
    sender.eof().await?;
    Ok(sender)
}

async fn drain(body: &mut Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// Lets the client send the rest of its archive: one that is cut off while it sends sees a broken
/// pipe and not the answer that says why.
async fn hear_out<T>(sending: impl Future<Output = T>) {
    let _heard = tokio::time::timeout(HEAR_OUT, sending).await;
}

struct Committer {
    docker: std::sync::Arc<super::Docker>,
    peer: std::sync::Arc<super::peer::Peer>,
    traceparent: Option<String>,
    endpoint: EndpointId,
    datastore: DatastoreId,
}

struct Load {
    call: Committer,
    receiver: StreamReceiver,
    feeding: Option<JoinHandle<Result<StreamSender, StreamError>>>,
    sent: Option<StreamSender>,
    quiet: bool,
    recorded: usize,
}

/// Lines to tell, and whether more will come.
struct Lines {
    lines: Vec<Value>,
    more: bool,
}

impl Load {
    /// The next lines for the client.
    async fn next(&mut self) -> Result<Lines, DockerError> {
        loop {
            let fed = async {
                match &mut self.feeding {
                    Some(feeding) => feeding.await,
                    None => std::future::pending().await,
                }
            };
            let piece = tokio::select! {
                biased;
                piece = self.receiver.next() => piece,
                fed = fed => {
                    self.feeding = None;
                    match fed {
                        // Held until the node is done: to drop it would close the stream.
                        Ok(Ok(sender)) => self.sent = Some(sender),
                        // The body broke: the node would wait for the rest.
                        Ok(Err(error @ StreamError::Failed(_))) => return Err(refused(error)),
                        // The node closed its ear; what it says tells why.
                        Ok(Err(_)) | Err(_) => {}
                    }
                    continue;
                }
            };
            match piece.map_err(refused)? {
                Some(Piece::Progress { .. }) if self.quiet => {}
                Some(Piece::Progress { layer, current, total }) => {
                    let line = image::progress(&layer, current, total);
                    return Ok(Lines { lines: vec![line], more: true });
                }
                Some(Piece::Loaded(loaded)) => {
                    let lines = image::loaded(&loaded.id.to_string(), &loaded.references);
                    self.call.record(*loaded).await?;
                    self.recorded += 1;
                    return Ok(Lines { lines, more: true });
                }
                Some(Piece::Output { .. }) => {}
                None if self.recorded == 0 => {
                    return Err(DockerError::bad("the archive holds no image"));
                }
                None => return Ok(Lines { lines: Vec::new(), more: false }),
            }
        }
    }

    async fn go_on(mut self, lines: &BodySender) {
        loop {
            match self.next().await {
                Ok(next) => {
                    if !send(lines, &next).await || !next.more {
                        return;
                    }
                }
                Err(error) => {
                    let trouble =
                        Lines { lines: vec![image::trouble(&error.message)], more: false };
                    send(lines, &trouble).await;
                    return;
                }
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(feeding) = &self.feeding {
            feeding.abort();
        }
    }
}

/// What a node says of an archive is about the archive: the client's to mend.
fn refused(error: StreamError) -> DockerError {
    match error {
        StreamError::Failed(reason) => DockerError::bad(reason),
        other @ (StreamError::HostUnknown(_)
        | StreamError::Address { .. }
        | StreamError::Unreachable { .. }
        | StreamError::OtherHost { .. }
        | StreamError::Refused(_)
        | StreamError::Cut(_)
        | StreamError::Silent(_)
        | StreamError::Confused(_)) => other.into(),
    }
}

impl Committer {
    async fn record(&self, loaded: LoadedImage) -> Result<(), DockerError> {
        let LoadedImage { id, references, config, document, size } = loaded;
        let datastore = self.datastore;
        let new = NewImage { id, references, config, document, size, datastore };
        let body = CommandBody::RecordImage(Box::new(new));
        let peer = &self.peer;
        super::call::submit(&self.docker, peer, self.traceparent.clone(), self.endpoint, body)
            .await?;
        Ok(())
    }
}

/// Sends lines; false if the client is gone.
async fn send(sender: &BodySender, lines: &Lines) -> bool {
    for line in &lines.lines {
        if sender.send(Ok(Bytes::from(format!("{line}\r\n")))).await.is_err() {
            return false;
        }
    }
    true
}
