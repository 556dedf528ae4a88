//! Logs of a container VM: the output of its runs, whoever ran them, read from the datastore.
//!
//! Promises: nothing of the container VM need run, here or anywhere; the client's pace is the pace.

use super::{Close, Surroundings, close, reach, refuse, send};
use crate::causes::with_causes;
use crate::output::{Logs, LogsRequest, Piece};
use berth_model::stream::{FromNode, StreamRefusal, ToNode};
use berth_model::{ContainerId, DatastoreId};
use berth_wire::link::{Link, LinkReceiver, LinkSender};

pub async fn serve(
    link: Link,
    around: &Surroundings,
    datastore: DatastoreId,
    container: ContainerId,
    request: LogsRequest,
) -> Result<(), StreamRefusal> {
    let directory = match reach(around, datastore) {
        Ok(datastore) => datastore.container(container),
        Err(refusal) => return refuse(link, refusal).await,
    };
    let logs = match Logs::open(&directory, request).await {
        Ok(logs) => logs,
        Err(error) => return refuse(link, StreamRefusal::Other(with_causes(&error))).await,
    };
    let (mut sender, mut receiver) = link.split();
    let output = async {
        match send(&mut sender, &FromNode::Accepted).await {
            Ok(()) => pump(&mut sender, logs).await,
            Err(end) => end,
        }
    };
    let end = tokio::select! {
        end = output => end,
        () = left(&mut receiver) => Close::Gone,
    };
    close(sender, end).await;
    Ok(())
}

async fn pump(sender: &mut LinkSender, mut logs: Logs) -> Close {
    while let Some(piece) = logs.next().await {
        let sent = match piece {
            Ok(piece) => send(sender, &as_output(piece)).await,
            Err(error) => return Close::Failed(with_causes(&error)),
        };
        if let Err(end) = sent {
            return end;
        }
    }
    Close::End
}

/// A client that follows a quiet log says nothing; only its link tells that it has left.
async fn left(receiver: &mut LinkReceiver) {
    while let Ok(Some(ToNode::Data(_) | ToNode::Eof | ToNode::Request(_))) =
        receiver.receive::<ToNode>().await
    {}
}

pub(super) fn as_output(piece: Piece) -> FromNode {
    FromNode::Output { stream: piece.stream, time_ns: piece.time_ns, data: piece.data }
}
