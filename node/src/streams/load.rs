//! Loads an archive of images that a client sends.
//!
//! Promises: the archive is taken in as fast as the disk takes it; images that were made are told,
//! also when a later one of the archive fails; a client that leaves stops the work.

use super::{Close, Surroundings, close, reach, refuse, send};
use crate::causes::with_causes;
use crate::images::{Incoming, Outcome, Progress};
use berth_model::DatastoreId;
use berth_model::stream::{DATA_MAX, FromNode, StreamRefusal, ToNode};
use berth_wire::link::{Link, LinkReceiver, LinkSender};
use tokio::sync::mpsc;

/// Steps of progress that wait for the client.
const PROGRESS: usize = 64;

pub async fn serve(
    link: Link,
    around: &Surroundings,
    datastore: DatastoreId,
) -> Result<(), StreamRefusal> {
    let incoming = match reach(around, datastore) {
        Err(refusal) => return refuse(link, refusal).await,
        Ok(datastore) => match around.loader.begin(datastore).await {
            Ok(incoming) => incoming,
            Err(error) => {
                return refuse(link, StreamRefusal::Other(with_causes(&error))).await;
            }
        },
    };
    let (mut sender, mut receiver) = link.split();
    let end = match take(&mut sender, &mut receiver, incoming).await {
        Ok(incoming) => make(&mut sender, &mut receiver, incoming).await,
        Err(end) => end,
    };
    close(sender, end).await;
    Ok(())
}

/// The whole archive.
async fn take(
    sender: &mut LinkSender,
    receiver: &mut LinkReceiver,
    mut incoming: Incoming,
) -> Result<Incoming, Close> {
    send(sender, &FromNode::Accepted).await?;
    loop {
        match receiver.receive::<ToNode>().await? {
            Some(ToNode::Data(piece)) if piece.len() <= DATA_MAX => {
                incoming = incoming
                    .push(piece)
                    .await
                    .map_err(|error| Close::Failed(with_causes(&error)))?;
            }
            Some(ToNode::Data(_)) => {
                return Err(Close::Failed("a piece of the archive is over 256 KiB".into()));
            }
            Some(ToNode::Eof) => return Ok(incoming),
            Some(ToNode::Request(_)) => return Err(Close::Failed("asked twice".into())),
            None => return Err(Close::Gone),
        }
    }
}

async fn make(sender: &mut LinkSender, receiver: &mut LinkReceiver, incoming: Incoming) -> Close {
    let (progress, mut steps) = mpsc::channel::<Progress>(PROGRESS);
    let making = incoming.finish(progress);
    tokio::pin!(making);
    let outcome = loop {
        tokio::select! {
            outcome = &mut making => break outcome,
            Some(step) = steps.recv() => {
                let Progress { layer, current, total } = step;
                let step = FromNode::Progress { layer, current, total };
                if let Err(end) = send(sender, &step).await {
                    return end;
                }
            }
            // Nothing more is to come: whatever this answers, the client left.
            _ = receiver.receive::<ToNode>() => return Close::Gone,
        }
    };
    tell(sender, outcome).await
}

async fn tell(sender: &mut LinkSender, outcome: Outcome) -> Close {
    for image in outcome.loaded {
        tracing::info!(image = image.id.short(), references = ?image.references, "image loaded");
        if send(sender, &FromNode::Loaded(Box::new(image))).await.is_err() {
            return Close::Gone;
        }
    }
    match outcome.failure {
        None => Close::End,
        Some(failure) => {
            let reason = with_causes(&failure);
            tracing::warn!(reason, "image load failed");
            Close::Failed(reason)
        }
    }
}
