//! What goes straight to a container VM and is answered at once: signals, terminal sizes, samples.

use super::{Close, Surroundings, close, locate, refuse, send_link};
use crate::agent::Located;
use crate::causes::with_causes;
use crate::vm::{VmError, VmHandle};
use berth_model::stream::{FromNode, StreamRefusal};
use berth_model::{ContainerId, Epoch};
use berth_wire::link::Link;

pub async fn signal(
    link: Link,
    around: &Surroundings,
    container: ContainerId,
    epoch: Epoch,
    signal: u8,
) -> Result<(), StreamRefusal> {
    let run = match running(around, container, epoch).await {
        Ok(run) => run,
        Err(refusal) => return refuse(link, refusal).await,
    };
    answer(link, async { run.signal(signal).await.map(|()| None) }).await;
    Ok(())
}

pub async fn resize(
    link: Link,
    around: &Surroundings,
    container: ContainerId,
    epoch: Epoch,
    rows: u16,
    columns: u16,
) -> Result<(), StreamRefusal> {
    let run = match running(around, container, epoch).await {
        Ok(run) => run,
        Err(refusal) => return refuse(link, refusal).await,
    };
    answer(link, async { run.resize(rows, columns).await.map(|()| None) }).await;
    Ok(())
}

pub async fn stats(
    link: Link,
    around: &Surroundings,
    container: ContainerId,
    epoch: Epoch,
) -> Result<(), StreamRefusal> {
    let run = match running(around, container, epoch).await {
        Ok(run) => run,
        Err(refusal) => return refuse(link, refusal).await,
    };
    let sample = async { run.sample().await.map(|s| Some(FromNode::Stats(Box::new(s)))) };
    answer(link, sample).await;
    Ok(())
}

/// The run, if it is still there to be spoken to.
async fn running(
    around: &Surroundings,
    container: ContainerId,
    epoch: Epoch,
) -> Result<VmHandle, StreamRefusal> {
    let Located { run, .. } = locate(around, container, epoch).await?;
    run.ok_or(StreamRefusal::NotHere(container))
}

async fn answer(mut link: Link, doing: impl Future<Output = Result<Option<FromNode>, VmError>>) {
    let mut said = send_link(&mut link, &FromNode::Accepted).await;
    let end = match doing.await {
        Ok(answer) => {
            if let (Ok(()), Some(answer)) = (&said, answer) {
                said = send_link(&mut link, &answer).await;
            }
            Close::End
        }
        Err(error) => Close::Failed(with_causes(&error)),
    };
    if said.is_ok() {
        close(link.split().0, end).await;
    }
}
