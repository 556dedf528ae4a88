//! A link: typed messages in frames over mutual TLS, opened by a Hello.
//!
//! Promises: `receive` may be cancelled and called again without losing a message; a link that the
//! peer closed in order ends with `None`, one that was cut ends with an error. Messages over the
//! link's limit are refused on both sides.
//! Does not: retry, reconnect or queue. A cancelled `send` may have written half a frame: drop the
//! link.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::codec::{self, CodecError};
use crate::frame::{self, FrameDecoder, FrameError};
use crate::hello::{self, Hello, HelloError};
use crate::identity::IdentityError;

/// Bound of one message in bytes until [`Link::set_limit`] says otherwise.
pub const DEFAULT_LIMIT: usize = 16 << 20;
/// Bound of a Hello: nothing larger is read from a peer whose protocol is unknown.
const HELLO_LIMIT: usize = 16 << 10;
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How much one read may add to the buffer at least.
const READ_CHUNK: usize = 64 << 10;

/// Why a link failed. After any of these the link is useless.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("connection failed")]
    Io(#[source] io::Error),
    #[error("handshake failed")]
    Handshake(#[source] io::Error),
    #[error("tls configuration was refused")]
    Tls(#[source] rustls::Error),
    #[error("peer did not finish its {0} in time")]
    TimedOut(&'static str),
    #[error("peer closed the link before its hello")]
    ClosedEarly,
    #[error("message of {length} bytes is over the link's limit of {limit}")]
    TooLong { length: usize, limit: usize },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Hello(#[from] HelloError),
}

/// Both directions of a link.
#[derive(Debug)]
pub struct Link {
    sender: LinkSender,
    receiver: LinkReceiver,
}

/// The sending half.
#[derive(Debug)]
pub struct LinkSender {
    stream: WriteHalf<TlsStream<TcpStream>>,
    limit: usize,
}

/// The receiving half.
#[derive(Debug)]
pub struct LinkReceiver {
    stream: ReadHalf<TlsStream<TcpStream>>,
    decoder: FrameDecoder,
    limit: usize,
}

impl Link {
    pub(crate) fn new(stream: TlsStream<TcpStream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            sender: LinkSender { stream: write, limit: DEFAULT_LIMIT },
            receiver: LinkReceiver {
                stream: read,
                decoder: FrameDecoder::new(DEFAULT_LIMIT),
                limit: DEFAULT_LIMIT,
            },
        }
    }

    /// Bounds one message in bytes, in both directions.
    pub fn set_limit(&mut self, limit: usize) {
        self.sender.limit = limit;
        self.receiver.set_limit(limit);
    }

    /// Opens the link; both sides call it first. Answers the protocol version to speak.
    pub async fn hello(&mut self, ours: &Hello) -> Result<u16, LinkError> {
        Ok(self.exchange_hello(ours).await?.0)
    }

    /// As [`Self::hello`], and answers what the peer said.
    pub async fn exchange_hello(&mut self, ours: &Hello) -> Result<(u16, Hello), LinkError> {
        let limit = self.receiver.limit;
        self.receiver.set_limit(HELLO_LIMIT);
        let exchange = async {
            self.sender.send(ours).await?;
            self.receiver.receive::<Hello>().await?.ok_or(LinkError::ClosedEarly)
        };
        let theirs = tokio::time::timeout(HELLO_TIMEOUT, exchange)
            .await
            .map_err(|_| LinkError::TimedOut("hello"))??;
        self.receiver.set_limit(limit);
        Ok((hello::agree(ours, &theirs)?, theirs))
    }

    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), LinkError> {
        self.sender.send(message).await
    }

    /// The next message; `None` when the peer closed the link in order.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LinkError> {
        self.receiver.receive().await
    }

    /// As [`Self::receive`], not decoded.
    pub async fn receive_bytes(&mut self) -> Result<Option<Bytes>, LinkError> {
        self.receiver.receive_bytes().await
    }

    /// Sends a message that is encoded already, or plain bytes.
    pub async fn send_bytes(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        self.sender.send_bytes(payload).await
    }

    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }

    /// Closes our direction in order.
    pub async fn close(&mut self) -> Result<(), LinkError> {
        self.sender.close().await
    }
}

impl LinkSender {
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), LinkError> {
        self.send_bytes(&codec::encode(message)).await
    }

    /// Sends a message that is encoded already, or plain bytes.
    pub async fn send_bytes(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        if payload.len() > self.limit {
            return Err(LinkError::TooLong { length: payload.len(), limit: self.limit });
        }
        self.stream.write_all(&frame::frame(payload)).await.map_err(LinkError::Io)?;
        self.stream.flush().await.map_err(LinkError::Io)
    }

    /// Closes this direction in order: the peer's `receive` then answers `None`.
    pub async fn close(&mut self) -> Result<(), LinkError> {
        self.stream.shutdown().await.map_err(LinkError::Io)
    }
}

impl LinkReceiver {
    /// Bounds the messages that are yet to come, in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.decoder.set_limit(limit);
    }

    /// The next message; `None` when the peer closed the link in order. May be cancelled.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LinkError> {
        match self.receive_bytes().await? {
            Some(payload) => Ok(Some(codec::decode(&payload, self.limit)?)),
            None => Ok(None),
        }
    }

    /// As [`Self::receive`], not decoded.
    pub async fn receive_bytes(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            if let Some(payload) = self.decoder.next()? {
                return Ok(Some(payload));
            }
            // The decoder owns the buffer, so what a cancelled read took in is not lost.
            let buffer = self.decoder.buffer_mut();
            buffer.reserve(READ_CHUNK);
            let count = self.stream.read_buf(buffer).await.map_err(LinkError::Io)?;
            if count == 0 {
                if self.decoder.is_empty() {
                    return Ok(None);
                }
                return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
