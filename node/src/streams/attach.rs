//! Attaches a client to one run: its output from the log, and stdin to its process.
//!
//! Promises: output is read from the file at the client's pace, so a client that is slow, or that
//! stops reading, holds up neither the process nor anybody else; stdin waits for the process; a
//! client that leaves closes stdin where the container VM was asked to do that.

use super::logs::as_output;
use super::{Close, Surroundings, close, locate, refuse, send};
use crate::agent::Located;
use crate::causes::with_causes;
use crate::output::Reader;
use crate::vm::VmHandle;
use berth_model::stream::{DATA_MAX, FromNode, OutputFrom, StreamRefusal, ToNode};
use berth_model::{ContainerId, Epoch};
use berth_wire::link::{Link, LinkReceiver, LinkSender};
use bytes::Bytes;

pub async fn serve(
    link: Link,
    around: &Surroundings,
    container: ContainerId,
    epoch: Epoch,
    from: OutputFrom,
    stdin: bool,
) -> Result<(), StreamRefusal> {
    let located = match locate(around, container, epoch).await {
        Ok(located) => located,
        Err(refusal) => return refuse(link, refusal).await,
    };
    let input = match input(&located, container, stdin) {
        Ok(input) => input,
        Err(refusal) => return refuse(link, refusal).await,
    };
    let reader = match Reader::open(&located.directory, epoch, from).await {
        Ok(reader) => reader,
        Err(error) => return refuse(link, StreamRefusal::Other(with_causes(&error))).await,
    };
    let (mut sender, mut receiver) = link.split();
    let output = async {
        match send(&mut sender, &FromNode::Accepted).await {
            Ok(()) => pump_output(&mut sender, reader).await,
            Err(end) => end,
        }
    };
    let end = tokio::select! {
        end = output => end,
        end = pump_input(&mut receiver, input.as_ref()) => end,
    };
    close(sender, end).await;
    Ok(())
}

/// Where stdin goes; `None` if the client does not send any.
fn input(
    located: &Located,
    container: ContainerId,
    stdin: bool,
) -> Result<Option<VmHandle>, StreamRefusal> {
    if !stdin {
        return Ok(None);
    }
    match &located.run {
        // It is over: its output is still there to be read.
        None => Ok(None),
        Some(run) if run.settings().order.spec.open_stdin => Ok(Some(run.clone())),
        Some(_) => Err(StreamRefusal::NoStdin(container)),
    }
}

/// Until the end of the run.
async fn pump_output(sender: &mut LinkSender, mut reader: Reader) -> Close {
    while let Some(piece) = reader.next().await {
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

/// Until the client leaves.
async fn pump_input(receiver: &mut LinkReceiver, run: Option<&VmHandle>) -> Close {
    loop {
        match receiver.receive::<ToNode>().await {
            Ok(Some(ToNode::Data(data))) if data.len() > DATA_MAX => {
                return Close::Failed("a piece of stdin is over 256 KiB".into());
            }
            Ok(Some(ToNode::Data(data))) => {
                // A process that has closed its stdin, or is over, takes no more; that is no
                // failure of the stream, whose output goes on to its end.
                if let Some(run) = run
                    && let Err(error) = run.write_stdin(Bytes::from(data)).await
                {
                    tracing::debug!(error = with_causes(&error), "stdin was not taken");
                }
            }
            Ok(Some(ToNode::Eof)) => {
                if let Some(run) = run {
                    shut(run).await;
                }
            }
            Ok(Some(ToNode::Request(_))) => return Close::Failed("asked twice".into()),
            Ok(None) | Err(_) => {
                if let Some(run) = run.filter(|run| run.settings().order.spec.stdin_once) {
                    shut(run).await;
                }
                return Close::Gone;
            }
        }
    }
}

/// A process that is over has no stdin to be closed.
async fn shut(run: &VmHandle) {
    if let Err(error) = run.close_stdin().await {
        tracing::debug!(error = with_causes(&error), "stdin was not closed");
    }
}
