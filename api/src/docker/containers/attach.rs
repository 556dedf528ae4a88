//! `docker attach`, and the attaching half of `docker run`: output of a run from its first byte,
//! stdin back, over a connection that is taken out of HTTP.
//!
//! ```text
//!  101 at once ─► the run to attach to ─► a node's stream ─► output ──► client
//!                 (present, or next)           ▲                          │
//!                                              └───────── stdin ◄─────────┘
//! ```
//! A client attaches before it starts. The node is dialled as soon as the run has a host, so that
//! output is not missed however short the run is.
//!
//! Does not: notice that a client is gone before there is something to write to it. The stock
//! client closes its sending side at once where it has no stdin, so a closed side means nothing.

use super::hijack::{Stdin, hijack};
use super::logs;
use super::output::{ClientGone, Output, Wishes};
use crate::docker::answer::{self, Answer, BodySender};
use crate::docker::call::Call;
use crate::docker::error::DockerError;
use crate::docker::translate::detach::DetachKeys;
use crate::outcome::{self, Ending};
use crate::streams::{NodeStream, StreamError, StreamSender};
use berth_model::stream::{OutputFrom, StreamRefusal, StreamRequest};
use berth_model::{ContainerId, ContainerVm, Epoch, HostId, Timestamp, VmState};
use berth_scheduler::Fleet;
use hyper::header::{self, HeaderMap};
use std::time::Duration;
use tokio::sync::mpsc;

/// A node that has not yet got its assignment is asked again after this long, or at the next
/// change of the fleet.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Everything that an attach was asked for.
pub struct Attach {
    pub container: ContainerId,
    /// Of the fleet that it was read from.
    index: u64,
    /// The epoch at the time of the request.
    epoch: Epoch,
    /// Whether that run goes on, and whether its process ran already.
    present: Present,
    logs: bool,
    stream: bool,
    stdin: bool,
    /// The end of the client's stdin ends the process's.
    close_stdin: bool,
    pub keys: Option<DetachKeys>,
    wishes: Wishes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Present {
    Running,
    Starting,
    Down,
}

pub async fn attach(mut call: Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    let attach = read(&call, vm, view.fleet.index())?;
    let content = call.version.output_type(attach.wishes.raw);
    if wants_upgrade(call.request.headers()) {
        let upgrade = hyper::upgrade::on(&mut call.request);
        tokio::spawn(hijack(call, attach, upgrade));
        return Ok(answer::upgraded(content));
    }
    if attach.stdin {
        return Err(DockerError::bad(
            "attaching stdin needs a connection of its own: send Connection: Upgrade and Upgrade: \
             tcp",
        ));
    }
    let (answer, sender) = answer::raw_stream(content);
    tokio::spawn(async move {
        let (_stdin, nothing) = mpsc::channel(1);
        tokio::select! {
            () = run(&call, attach, sender, nothing) => {}
            () = call.peer.hung_up() => {}
        }
    });
    Ok(answer)
}

fn read(call: &Call, vm: &ContainerVm, index: u64) -> Result<Attach, DockerError> {
    let query = &call.query;
    let present = match &vm.state {
        VmState::Running { .. } => Present::Running,
        VmState::Starting { .. } => Present::Starting,
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => Present::Down,
    };
    let keys = DetachKeys::parse(query.text("detachKeys"))?;
    Ok(Attach {
        container: vm.id,
        index,
        epoch: vm.epoch,
        present,
        logs: query.truth("logs"),
        stream: query.truth("stream"),
        stdin: query.truth("stdin") && vm.spec.open_stdin,
        close_stdin: vm.spec.stdin_once && !vm.spec.tty,
        keys: vm.spec.tty.then_some(keys),
        wishes: Wishes {
            stdout: query.truth("stdout"),
            stderr: query.truth("stderr"),
            raw: vm.spec.tty,
            ..Wishes::default()
        },
    })
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"tcp"))
}

/// Finds the run, then forwards both ways until it ends, the client leaves or detaches.
pub async fn run(call: &Call, attach: Attach, sender: BodySender, stdin: mpsc::Receiver<Stdin>) {
    let mut output = Output::new(attach.wishes.clone(), sender);
    let close_stdin = attach.close_stdin;
    let forwarded = forward(call, attach, &mut output, stdin, close_stdin).await;
    match forwarded {
        Ok(Ok(())) | Err(ClientGone) => {}
        Ok(Err(error)) => output.fail(&error).await,
    }
}

type Forwarded = Result<Result<(), StreamError>, ClientGone>;

async fn forward(
    call: &Call,
    attach: Attach,
    output: &mut Output,
    mut stdin: mpsc::Receiver<Stdin>,
    close_stdin: bool,
) -> Forwarded {
    if attach.logs
        && let Err(error) = earlier(call, &attach, output).await?
    {
        return Ok(Err(error));
    }
    if !attach.stream {
        return Ok(Ok(()));
    }
    let stream = tokio::select! {
        stream = open(call, &attach) => stream,
        () = output.closed() => return Err(ClientGone),
    };
    let stream = match stream {
        Ok(Some(stream)) => stream,
        Ok(None) => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    let (sender, mut receiver) = stream.split();
    let mut feeding = std::pin::pin!(feed(sender, &mut stdin, close_stdin, attach.stdin));
    let mut forwarding = std::pin::pin!(output.forward(&mut receiver));
    tokio::select! {
        forwarded = &mut forwarding => forwarded,
        () = &mut feeding => Ok(Ok(())),
    }
}

/// Sends stdin to the node; resolves only when the client detaches.
async fn feed(
    mut sender: StreamSender,
    stdin: &mut mpsc::Receiver<Stdin>,
    close_stdin: bool,
    wanted: bool,
) {
    loop {
        let sent = match stdin.recv().await {
            Some(Stdin::Detached) => return,
            Some(Stdin::Data(data)) if wanted => sender.data(&data).await,
            Some(Stdin::Eof) if wanted && close_stdin => sender.eof().await,
            Some(Stdin::Data(_) | Stdin::Eof) => Ok(()),
            None => break,
        };
        if sent.is_err() {
            // The other half hears why.
            break;
        }
    }
    // The sender must live as long as the output goes on.
    std::future::pending::<()>().await;
    drop(sender);
}

/// What was written before: with `stream`, only that of runs before the one attached to, which is
/// then attached to from its start.
async fn earlier(call: &Call, attach: &Attach, output: &mut Output) -> Forwarded {
    let fleet = call.docker.scheduler.watch().borrow().clone();
    let Some(vm) = fleet.container(attach.container) else { return Ok(Ok(())) };
    let upto = match attach.present {
        Present::Running | Present::Starting if attach.stream => {
            Epoch(attach.epoch.0.saturating_sub(1))
        }
        Present::Running | Present::Starting | Present::Down => attach.epoch,
    };
    if upto == Epoch(0) {
        return Ok(Ok(()));
    }
    let (host, datastore) = match logs::source(&fleet, vm) {
        Ok(source) => source,
        Err(error) => return Ok(Err(StreamError::Failed(error.message))),
    };
    let request = StreamRequest::Logs {
        container: vm.id,
        datastore,
        epoch: upto,
        follow: false,
        since: None,
        until: None,
        tail: None,
    };
    match call.docker.streams.open(host, request).await {
        Ok(stream) => {
            let (_sender, mut receiver) = stream.split();
            output.forward(&mut receiver).await
        }
        Err(error) => Ok(Err(error)),
    }
}

/// A run to attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// It has a host.
    On { host: HostId, epoch: Epoch, up: bool, started_at: Option<Timestamp> },
    /// There is none and there will be none.
    Nothing,
}

fn target(fleet: &Fleet, attach: &Attach) -> Option<Target> {
    let Some(vm) = fleet.container(attach.container) else { return Some(Target::Nothing) };
    let wanted = match attach.present {
        Present::Running | Present::Starting => attach.epoch,
        Present::Down => attach.epoch.next(),
    };
    let on =
        |host: HostId, up, started_at| Some(Target::On { host, epoch: vm.epoch, up, started_at });
    if vm.epoch < wanted {
        let removed = matches!(vm.state, VmState::Removing { .. });
        return removed.then_some(Target::Nothing);
    }
    match &vm.state {
        VmState::Starting { host, .. } => on(*host, true, None),
        VmState::Running { host, started_at, .. } => on(*host, true, Some(*started_at)),
        VmState::Exited { started_at, .. } => match vm.last_host {
            Some(host) => on(host, false, *started_at),
            None => Some(Target::Nothing),
        },
        VmState::Removing { host, .. } => match host.or(vm.last_host) {
            Some(host) => on(host, false, None),
            None => Some(Target::Nothing),
        },
        // It ran and is started again: its output is in the log.
        VmState::Waiting { ended, .. } => match vm.last_host {
            Some(host) => on(host, false, ended.as_ref().and_then(|ended| ended.started_at)),
            None => Some(Target::Nothing),
        },
        VmState::Pending { .. } | VmState::Created => Some(Target::Nothing),
    }
}

/// Waits for the run and opens the node's stream; `None` if there will be no run.
async fn open(call: &Call, attach: &Attach) -> Result<Option<NodeStream>, StreamError> {
    let mut fleets = call.docker.scheduler.watch();
    loop {
        let found =
            outcome::settled(&mut fleets, attach.index, |fleet| target(fleet, attach)).await;
        let found = found.map_err(|ending: Ending| StreamError::Failed(ending.to_string()))?;
        let Target::On { host, epoch, up, started_at } = found else { return Ok(None) };
        let fleet = fleets.borrow_and_update().clone();
        let node = fleet.host(host).ok_or(StreamError::HostUnknown(host))?;
        let from = match attach.present {
            Present::Running if !attach.logs => OutputFrom::Now,
            Present::Running | Present::Starting | Present::Down => OutputFrom::Start,
        };
        let request =
            StreamRequest::Attach { container: attach.container, epoch, from, stdin: attach.stdin };
        match call.docker.streams.open(node, request).await {
            Ok(stream) => return Ok(Some(stream)),
            // The run has a host, but the host's node has not heard of it yet.
            Err(StreamError::Refused(StreamRefusal::NotHere(_) | StreamRefusal::OtherEpoch(_)))
                if up =>
            {
                if let Ok(Err(_)) = tokio::time::timeout(ASK_AGAIN, fleets.changed()).await {
                    return Err(StreamError::Failed(Ending.to_string()));
                }
            }
            // It is over; what it wrote is in the log.
            Err(StreamError::Refused(
                StreamRefusal::NotHere(_)
                | StreamRefusal::OtherEpoch(_)
                | StreamRefusal::NoStdin(_),
            )) if !up => return from_log(call, &fleet, attach, epoch, started_at).await.map(Some),
            Err(error) => return Err(error),
        }
    }
}

/// The output of a run that is over.
async fn from_log(
    call: &Call,
    fleet: &Fleet,
    attach: &Attach,
    epoch: Epoch,
    started_at: Option<Timestamp>,
) -> Result<NodeStream, StreamError> {
    let vm = fleet.container(attach.container);
    let vm = vm.ok_or_else(|| StreamError::Failed("the container is gone".to_owned()))?;
    let source = logs::source(fleet, vm);
    let (host, datastore) = source.map_err(|error| StreamError::Failed(error.message))?;
    let request = StreamRequest::Logs {
        container: vm.id,
        datastore,
        epoch,
        follow: false,
        // Runs before this one are left out by time; the first has none before it.
        since: if epoch == Epoch(1) { None } else { started_at },
        until: None,
        tail: None,
    };
    call.docker.streams.open(host, request).await
}
