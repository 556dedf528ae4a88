//! Links between the three processes of a host: framed messages over a unix socket, opened by a
//! Hello.
//!
//! Promises: only processes of the same user (or root) are heard; a socket that a dead process left
//! is taken over, one that a living process serves is not; receiving may be cancelled without
//! losing a message. Does not: encrypt; nobody else can read a unix socket.

use berth_wire::codec::{self, CodecError};
use berth_wire::frame::{FrameDecoder, FrameError, frame};
use berth_wire::hello::{Hello, HelloError, agree};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// Bound of one message in bytes.
const MESSAGE_MAX: usize = 16 << 20;
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A process on the same machine that takes nothing for so long is stuck.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a link between processes of a host failed. After any of these it is useless.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot reach the socket {}", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot serve the socket {}", path.display())]
    Bind {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("socket {} is served by another process; is it running twice?", .0.display())]
    Taken(PathBuf),
    #[error("peer runs as user {0}, which is neither ours nor root")]
    Stranger(u32),
    #[error("connection failed")]
    Io(#[source] io::Error),
    #[error("peer did not {0} in time")]
    TimedOut(&'static str),
    #[error("peer closed the link before its hello")]
    ClosedEarly,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Hello(#[from] HelloError),
}

#[derive(Debug)]
pub struct ControlLink {
    stream: UnixStream,
    decoder: FrameDecoder,
}

/// Serves `path`, for processes of this user alone.
pub async fn bind(path: &Path) -> Result<UnixListener, ControlError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(ControlError::Taken(path.to_owned()));
    }
    let failed = |source| ControlError::Bind { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

impl ControlLink {
    pub async fn connect(path: &Path, ours: &Hello) -> Result<ControlLink, ControlError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ControlError::Connect { path: path.to_owned(), source })?;
        Self::open(stream, ours).await
    }

    /// Both sides call it first.
    pub async fn open(stream: UnixStream, ours: &Hello) -> Result<ControlLink, ControlError> {
        let peer = stream.peer_cred().map_err(ControlError::Io)?.uid();
        if peer != 0 && peer != rustix::process::geteuid().as_raw() {
            return Err(ControlError::Stranger(peer));
        }
        let mut link = ControlLink { stream, decoder: FrameDecoder::new(MESSAGE_MAX) };
        link.send(ours).await?;
        let theirs = tokio::time::timeout(HELLO_TIMEOUT, link.receive::<Hello>())
            .await
            .map_err(|_| ControlError::TimedOut("say hello"))??
            .ok_or(ControlError::ClosedEarly)?;
        agree(ours, &theirs)?;
        Ok(link)
    }

    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), ControlError> {
        let bytes = frame(&codec::encode(message));
        tokio::time::timeout(SEND_TIMEOUT, self.stream.write_all(&bytes))
            .await
            .map_err(|_| ControlError::TimedOut("take a message"))?
            .map_err(ControlError::Io)
    }

    /// The next message; `None` when the peer closed the link.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ControlError> {
        loop {
            if let Some(payload) = self.decoder.next()? {
                return Ok(Some(codec::decode(&payload, MESSAGE_MAX)?));
            }
            let buffer = self.decoder.buffer_mut();
            buffer.reserve(4096);
            if self.stream.read_buf(buffer).await.map_err(ControlError::Io)? == 0 {
                if self.decoder.is_empty() {
                    return Ok(None);
                }
                return Err(ControlError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The answer to `message`, which must come in time.
    pub async fn ask<T: Serialize, A: DeserializeOwned>(
        &mut self,
        message: &T,
    ) -> Result<A, ControlError> {
        self.send(message).await?;
        tokio::time::timeout(SEND_TIMEOUT, self.receive())
            .await
            .map_err(|_| ControlError::TimedOut("answer"))??
            .ok_or(ControlError::ClosedEarly)
    }
}

/// What this build says first on a link of protocol version 1.
pub fn hello() -> Hello {
    Hello { protocol_min: 1, protocol_max: 1, build: crate::BUILD.to_owned(), features: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_living_socket_is_not_taken_and_a_dead_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let first = bind(&path).await.unwrap();
        assert!(matches!(bind(&path).await, Err(ControlError::Taken(_))));
        drop(first);
        bind(&path).await.unwrap();
    }

    #[actix_rt::test]
    async fn messages_cross_after_the_hello() {
        let (left, right) = UnixStream::pair().unwrap();
        let ours = hello();
        let (left, right) =
            tokio::join!(ControlLink::open(left, &ours), ControlLink::open(right, &ours));
        let (mut left, mut right) = (left.unwrap(), right.unwrap());
        left.send(&7_u64).await.unwrap();
        assert_eq!(right.receive::<u64>().await.unwrap(), Some(7));
        drop(left);
        assert_eq!(right.receive::<u64>().await.unwrap(), None);
    }

    #[actix_rt::test]
    async fn versions_that_do_not_meet_are_refused() {
        let (left, right) = UnixStream::pair().unwrap();
        let newer = Hello { protocol_min: 2, protocol_max: 3, ..hello() };
        let ours = hello();
        let (left, right) =
            tokio::join!(ControlLink::open(left, &ours), ControlLink::open(right, &newer));
        assert!(matches!(left, Err(ControlError::Hello(_))));
        assert!(matches!(right, Err(ControlError::Hello(_))));
    }
}
