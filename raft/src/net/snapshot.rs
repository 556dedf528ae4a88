//! Snapshots between replicas, each on a link of its own so that heartbeats do not wait behind it.
//!
//! Promises: the loop hears of the end of every transfer, however it ends, and within a bounded
//! time.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_wire::link::{Link, LinkError};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Context, PeerError};
use crate::core::{Input, ReceivedSnapshot};
use crate::handle::Inbox;
use crate::message::{Purpose, RaftMessage, SnapshotOffer};
use crate::options::ReplicaId;
use crate::snapshots;

const CHUNK: usize = 1 << 20;
/// One chunk, and the offer, must get through in this time.
const CHUNK_PATIENCE: Duration = Duration::from_secs(10);
/// The receiver checks and restores in this time.
const RESTORE_PATIENCE: Duration = Duration::from_secs(120);

/// A snapshot for a peer. Reports that it was not delivered when it is dropped before it was.
pub(crate) struct SendSnapshot {
    to: ReplicaId,
    message: RaftMessage,
    path: PathBuf,
    inbox: Inbox,
    delivered: bool,
}

impl SendSnapshot {
    pub(crate) fn new(to: ReplicaId, message: RaftMessage, path: PathBuf, inbox: Inbox) -> Self {
        Self { to, message, path, inbox, delivered: false }
    }

    /// Reports the good end.
    fn delivered(mut self) {
        self.delivered = true;
    }
}

impl Drop for SendSnapshot {
    fn drop(&mut self) {
        // The loop may have ended.
        let _ = self.inbox.push(Input::SnapshotSent { to: self.to, delivered: self.delivered });
    }
}

pub(super) async fn send_all(context: Context, mut queue: UnboundedReceiver<SendSnapshot>) {
    while let Some(snapshot) = queue.recv().await {
        let context = context.clone();
        tokio::spawn(async move {
            match send(&context, &snapshot).await {
                Ok(()) => snapshot.delivered(),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(peer = snapshot.to, error, "snapshot was not delivered");
                }
            }
        });
    }
}

async fn send(context: &Context, snapshot: &SendSnapshot) -> Result<(), PeerError> {
    // Open before anything else: the file may be replaced, what is open stays readable.
    let mut file = File::open(&snapshot.path).await.map_err(PeerError::File)?;
    let length = file.metadata().await.map_err(PeerError::File)?.len();
    let mut link = context.connect(snapshot.to, Purpose::Snapshot).await?;
    let offer = SnapshotOffer { message: snapshot.message.clone(), length };
    in_time(link.send(&offer)).await?;
    let (mut sender, mut receiver) = link.split();
    let mut chunk = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let count = file.read(&mut chunk).await.map_err(PeerError::File)?;
        if count == 0 {
            return Err(PeerError::WrongSnapshot);
        }
        in_time(sender.send_bytes(&chunk[..count])).await?;
        left = left.saturating_sub(count as u64);
    }
    let answer = timeout(RESTORE_PATIENCE, receiver.receive::<bool>()).await;
    match answer.map_err(|_| PeerError::Silent)?? {
        Some(true) => Ok(()),
        Some(false) => Err(PeerError::WrongSnapshot),
        None => Err(PeerError::Closed),
    }
}

/// Takes a peer's snapshot, unless another is being taken.
pub(super) async fn receive(
    context: &Context,
    mut link: Link,
    from: ReplicaId,
) -> Result<(), PeerError> {
    if context.receiving.swap(true, Ordering::AcqRel) {
        return Ok(link.send(&false).await?);
    }
    let path = context.snapshots.incoming_path(from);
    let outcome = receive_into(context, &mut link, from, &path).await;
    context.receiving.store(false, Ordering::Release);
    match outcome {
        Ok(accepted) => {
            in_time(link.send(&accepted)).await?;
            Ok(link.close().await?)
        }
        Err(error) => {
            // It may not be there yet, or raft may have it.
            let _ = tokio::fs::remove_file(&path).await;
            Err(error)
        }
    }
}

async fn receive_into(
    context: &Context,
    link: &mut Link,
    from: ReplicaId,
    path: &Path,
) -> Result<bool, PeerError> {
    let offer = in_time(link.receive::<SnapshotOffer>()).await?.ok_or(PeerError::Closed)?;
    let position = offer.message.snapshot_position().ok_or(PeerError::WrongSnapshot)?;
    let mut file = File::create(path).await.map_err(PeerError::File)?;
    let mut left = offer.length;
    while left > 0 {
        let chunk = in_time(link.receive_bytes()).await?.ok_or(PeerError::Closed)?;
        left = left.checked_sub(chunk.len() as u64).ok_or(PeerError::WrongSnapshot)?;
        file.write_all(&chunk).await.map_err(PeerError::File)?;
    }
    file.sync_all().await.map_err(PeerError::File)?;
    drop(file);
    let read = {
        let path = path.to_owned();
        move || snapshots::read(&path)
    };
    let (header, bytes) =
        tokio::task::spawn_blocking(read).await.map_err(|_| PeerError::Ending)??;
    if header.position != position {
        return Err(PeerError::WrongSnapshot);
    }
    let (accepted, answer) = oneshot::channel();
    let message = offer.message;
    let path = path.to_owned();
    let received = ReceivedSnapshot { from, message, path, header, bytes, accepted };
    context
        .inbox
        .push(Input::SnapshotReceived(Box::new(received)))
        .map_err(|_| PeerError::Ending)?;
    answer.await.map_err(|_| PeerError::Ending)
}

async fn in_time<T>(step: impl Future<Output = Result<T, LinkError>>) -> Result<T, PeerError> {
    Ok(timeout(CHUNK_PATIENCE, step).await.map_err(|_| PeerError::Silent)??)
}
