//! Streams to nodes: attach, logs, image load, signals. The client's side of `model::stream`.
//!
//! Promises: the peer is the node of the host that was meant; a stream that ends without the
//! node's word that it is done is an error. Does not: retry, or know what a stream is for.

use berth_metrics::api::ApiMetrics;
use berth_model::stream::{
    DATA_MAX, FromNode, MESSAGE_MAX, PROTOCOL_MAX, PROTOCOL_MIN, StreamRefusal, StreamRequest,
    ToNode,
};
use berth_model::{Host, HostId};
use berth_wire::hello::Hello;
use berth_wire::link::{LinkError, LinkReceiver, LinkSender};
use berth_wire::tls::{Role, Tls};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;

/// A node that does not answer a request in this time is given up; it may have to look at a disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("{0} is not known to the fleet any more")]
    HostUnknown(HostId),
    #[error("`{address}`, where host {host} takes streams, is not an address")]
    Address { host: String, address: String },
    #[error("host {host} cannot be reached at {address}: {}", told(source))]
    Unreachable {
        host: String,
        address: SocketAddr,
        #[source]
        source: LinkError,
    },
    #[error("host {host} was asked for, but {found} answered")]
    OtherHost { host: String, found: String },
    #[error(transparent)]
    Refused(StreamRefusal),
    #[error("{0}")]
    Failed(String),
    #[error("the connection to host {0} was cut")]
    Cut(String),
    #[error("host {0} did not answer in time")]
    Silent(String),
    #[error("host {0} sent what does not belong into this stream")]
    Confused(String),
}

/// An error with its causes in one line: clients see no chain of sources.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Opens streams. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Streams {
    tls: Tls,
    metrics: ApiMetrics,
}

/// A stream that a node has accepted.
#[derive(Debug)]
pub struct NodeStream {
    sender: LinkSender,
    receiver: StreamReceiver,
}

/// The half that sends.
#[derive(Debug)]
pub struct StreamSender {
    sender: LinkSender,
    host: String,
}

/// The half that receives.
#[derive(Debug)]
pub struct StreamReceiver {
    receiver: LinkReceiver,
    host: String,
    ended: bool,
    open: OpenStream,
}

/// Counts a stream as open while it lives, and as failed if it did not end well.
#[derive(Debug)]
struct OpenStream {
    metrics: ApiMetrics,
    kind: &'static str,
    failed: bool,
}

impl OpenStream {
    fn new(metrics: ApiMetrics, kind: &'static str) -> Self {
        metrics.stream_opened(kind);
        Self { metrics, kind, failed: false }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.metrics.stream_closed(self.kind);
        if self.failed {
            self.metrics.stream_failed(self.kind);
        }
    }
}

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

impl Streams {
    pub fn new(tls: Tls, metrics: ApiMetrics) -> Self {
        Self { tls, metrics }
    }

    /// Asks the node of `host`; answers once it has accepted.
    pub async fn open(
        &self,
        host: &Host,
        request: StreamRequest,
    ) -> Result<NodeStream, StreamError> {
        let mut open = OpenStream::new(self.metrics.clone(), kind(&request));
        match tokio::time::timeout(ANSWER_TIMEOUT, self.dial(host, request)).await {
            Ok(Ok((sender, receiver))) => {
                let host = host.facts.name.clone();
                let receiver = StreamReceiver { receiver, host, ended: false, open };
                Ok(NodeStream { sender, receiver })
            }
            Ok(Err(error)) => {
                open.failed = true;
                Err(error)
            }
            Err(_) => {
                open.failed = true;
                Err(StreamError::Silent(host.facts.name.clone()))
            }
        }
    }

    async fn dial(
        &self,
        host: &Host,
        request: StreamRequest,
    ) -> Result<(LinkSender, LinkReceiver), StreamError> {
        let name = &host.facts.name;
        let address = address_of(host).await?;
        let unreachable = |source| StreamError::Unreachable { host: name.clone(), address, source };
        let (mut link, peer) = self.tls.connect(address, Role::Node).await.map_err(unreachable)?;
        if peer.id != host.id.to_string() {
            return Err(StreamError::OtherHost { host: name.clone(), found: peer.id });
        }
        let hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            features: Vec::new(),
        };
        link.hello(&hello).await.map_err(unreachable)?;
        link.set_limit(MESSAGE_MAX);
        link.send(&ToNode::Request(request)).await.map_err(unreachable)?;
        match link.receive::<FromNode>().await {
            Ok(Some(FromNode::Accepted)) => Ok(link.split()),
            Ok(Some(FromNode::Refused(refusal))) => Err(StreamError::Refused(refusal)),
            Ok(Some(FromNode::Failed(reason))) => Err(StreamError::Failed(reason)),
            Ok(Some(
                FromNode::Output { .. }
                | FromNode::Progress { .. }
                | FromNode::Loaded(_)
                | FromNode::Stats(_)
                | FromNode::End,
            )) => Err(StreamError::Confused(name.clone())),
            Ok(None) => Err(StreamError::Cut(name.clone())),
            Err(source) => Err(unreachable(source)),
        }
    }

    /// Opens a stream for something that is done at once, and waits until it is.
    pub async fn carry_out(&self, host: &Host, request: StreamRequest) -> Result<(), StreamError> {
        let (_sender, mut receiver) = self.open(host, request).await?.split();
        let done = async {
            while receiver.next().await?.is_some() {}
            Ok(())
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, done).await {
            Ok(done) => done,
            Err(_) => Err(StreamError::Silent(host.facts.name.clone())),
        }
    }
}

async fn address_of(host: &Host) -> Result<SocketAddr, StreamError> {
    let text = &host.facts.stream_address;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = || StreamError::Address { host: host.facts.name.clone(), address: text.clone() };
    let found = tokio::net::lookup_host(text).await;
    found.ok().and_then(|mut all| all.next()).ok_or_else(wrong)
}

impl NodeStream {
    pub fn split(self) -> (StreamSender, StreamReceiver) {
        let host = self.receiver.host.clone();
        (StreamSender { sender: self.sender, host }, self.receiver)
    }
}

impl StreamSender {
    /// Sends `data` in pieces that the protocol allows.
    pub async fn data(&mut self, data: &[u8]) -> Result<(), StreamError> {
        for piece in data.chunks(DATA_MAX) {
            self.send(&ToNode::Data(piece.to_vec())).await?;
        }
        Ok(())
    }

    pub async fn eof(&mut self) -> Result<(), StreamError> {
        self.send(&ToNode::Eof).await
    }

    async fn send(&mut self, message: &ToNode) -> Result<(), StreamError> {
        self.sender.send(message).await.map_err(|_| StreamError::Cut(self.host.clone()))
    }
}

/// What a node sends while a stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Output { stream: berth_model::stream::OutputStream, time_ns: u64, data: Bytes },
    Progress { layer: String, current: berth_model::Bytes, total: berth_model::Bytes },
    Loaded(Box<berth_model::stream::LoadedImage>),
}

impl StreamReceiver {
    /// The next piece; `None` once the node has said that all is done. May be cancelled.
    pub async fn next(&mut self) -> Result<Option<Piece>, StreamError> {
        if self.ended {
            return Ok(None);
        }
        let next = match self.receiver.receive::<FromNode>().await {
            Ok(Some(FromNode::Output { stream, time_ns, data })) => {
                Ok(Some(Piece::Output { stream, time_ns, data: data.into() }))
            }
            Ok(Some(FromNode::Progress { layer, current, total })) => {
                Ok(Some(Piece::Progress { layer, current, total }))
            }
            Ok(Some(FromNode::Loaded(image))) => Ok(Some(Piece::Loaded(image))),
            Ok(Some(FromNode::End)) => {
                self.ended = true;
                Ok(None)
            }
            Ok(Some(FromNode::Failed(reason))) => Err(StreamError::Failed(reason)),
            Ok(Some(FromNode::Refused(refusal))) => Err(StreamError::Refused(refusal)),
            Ok(Some(FromNode::Accepted | FromNode::Stats(_))) => {
                Err(StreamError::Confused(self.host.clone()))
            }
            Ok(None) | Err(_) => Err(StreamError::Cut(self.host.clone())),
        };
        self.open.failed |= next.is_err();
        next
    }
}
