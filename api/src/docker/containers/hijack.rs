//! A connection that is taken out of HTTP: stdin off it, output onto it.
//!
//! Promises: what the client sent early is its first stdin; the end of its sending side is the end
//! of stdin and nothing else; all that was written is sent before the connection closes.

use super::attach::{Attach, run};
use crate::docker::call::Call;
use crate::docker::translate::detach::DetachKeys;
use crate::listener::stopped;
use bytes::{Bytes, BytesMut};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// Pieces of stdin that may wait for the node.
const STDIN_PIECES: usize = 8;
const STDIN_PIECE_MAX: usize = 64 << 10;

/// What the client's side of a hijacked connection says.
pub enum Stdin {
    Data(Bytes),
    Eof,
    /// The keys that detach.
    Detached,
}

/// Serves one attached client to its end.
pub async fn hijack(call: Call, attach: Attach, upgrade: OnUpgrade) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a client left before it was attached");
            return;
        }
    };
    call.docker.metrics.hijacked.inc();
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    let (output, pieces) = mpsc::channel(STDIN_PIECES);
    let (stdin_sender, stdin) = mpsc::channel(STDIN_PIECES);
    let reading = tokio::spawn(read_client(reader, attach.keys.clone(), stdin_sender));
    let writing = write_client(writer, pieces);
    let (container, docker) = (attach.container, call.docker.clone());
    let both = async { tokio::join!(run(&call, attach, output, stdin), writing) };
    tokio::select! {
        ((), written) = both => {
            if let Err(error) = written {
                tracing::debug!(%error, container = %container.short(), "an attached client left");
            }
        }
        () = stopped(docker.stop.clone()) => {}
    }
    reading.abort();
    docker.metrics.hijacked.dec();
}

/// Reads the client to its end, so that nothing it sent is left to reset the connection.
async fn read_client(
    mut reader: ReadHalf<TokioIo<Upgraded>>,
    mut keys: Option<DetachKeys>,
    stdin: mpsc::Sender<Stdin>,
) {
    let mut wanted = true;
    loop {
        let mut buffer = BytesMut::with_capacity(STDIN_PIECE_MAX);
        let read = reader.read_buf(&mut buffer).await;
        if !matches!(read, Ok(1..)) {
            if stdin.send(Stdin::Eof).await.is_err() {
                tracing::trace!("stdin ended after its container");
            }
            return;
        }
        if !wanted {
            continue;
        }
        let (data, detached) = match &mut keys {
            Some(keys) => keys.filter(&buffer),
            None => (buffer.to_vec(), false),
        };
        if !data.is_empty() {
            wanted = stdin.send(Stdin::Data(data.into())).await.is_ok();
        }
        if detached {
            wanted = stdin.send(Stdin::Detached).await.is_ok() && wanted;
        }
    }
}

async fn write_client(
    mut writer: WriteHalf<TokioIo<Upgraded>>,
    mut pieces: mpsc::Receiver<Result<Bytes, io::Error>>,
) -> io::Result<()> {
    while let Some(piece) = pieces.recv().await {
        // An error has been told in the stream already; the connection ends after it.
        let Ok(piece) = piece else { break };
        writer.write_all(&piece).await?;
        if pieces.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}
