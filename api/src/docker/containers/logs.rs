//! `docker logs`: output of all runs, from the datastore.

use super::output::{ClientGone, Output, Wishes};
use crate::docker::answer::{self, Answer};
use crate::docker::call::Call;
use crate::docker::error::DockerError;
use crate::docker::translate::time;
use crate::listener::stopped;
use crate::outcome;
use berth_model::stream::StreamRequest;
use berth_model::{ContainerVm, DatastoreId, Epoch, Host, HostState, Timestamp, VmState};
use berth_scheduler::Fleet;

pub async fn logs(call: Call) -> Result<Answer, DockerError> {
    let (stdout, stderr) = (call.query.truth("stdout"), call.query.truth("stderr"));
    if !stdout && !stderr {
        return Err(DockerError::bad("Bad parameters: you must choose at least one stream"));
    }
    let since_ns = time::parse_ns("since", call.query.text("since"))?;
    let until_ns = time::parse_ns("until", call.query.text("until"))?;
    let tail = match call.query.text("tail") {
        "" | "all" => None,
        text => match text.parse::<i64>() {
            // The engine reads a negative number as all.
            Ok(lines) => u64::try_from(lines).ok(),
            Err(_) => return Err(DockerError::bad(format!("tail: {text:?} is not a number"))),
        },
    };
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    let raw = vm.spec.tty;
    let (answer, sender) = answer::stream(call.version.output_type(raw));
    let timestamps = call.query.truth("timestamps");
    let wishes = Wishes { stdout, stderr, raw, timestamps, since_ns, until_ns };
    let mut output = Output::new(wishes, sender);
    if vm.epoch == Epoch(0) {
        return Ok(answer);
    }
    let millis = |ns: Option<u64>| ns.map(|ns| Timestamp(ns / 1_000_000));
    let (host, datastore) = source(&view.fleet, vm)?;
    let request = StreamRequest::Logs {
        container: vm.id,
        datastore,
        epoch: vm.epoch,
        // The output of what does not run cannot grow.
        follow: call.query.truth("follow") && outcome::is_up(&vm.state),
        since: millis(since_ns),
        // The node counts in milliseconds; what is too late by less is left out here.
        until: millis(until_ns).map(|until| Timestamp(until.0.saturating_add(1))),
        tail,
    };
    let stream = call.docker.streams.open(host, request).await?;
    tokio::spawn(async move {
        let (_sender, mut receiver) = stream.split();
        let forwarded = tokio::select! {
            forwarded = output.forward(&mut receiver) => forwarded,
            () = call.peer.hung_up() => return,
            () = stopped(call.docker.stop.clone()) => Ok(Err(
                crate::streams::StreamError::Failed(outcome::Ending.to_string()),
            )),
        };
        match forwarded {
            Ok(Ok(())) | Err(ClientGone) => {}
            Ok(Err(error)) => output.fail(&error).await,
        }
    });
    Ok(answer)
}

/// A host that can read the container's output, and the datastore that holds it: where it runs or
/// last ran, else any connected one that reaches the datastore.
pub fn source<'a>(
    fleet: &'a Fleet,
    vm: &ContainerVm,
) -> Result<(&'a Host, DatastoreId), DockerError> {
    let datastore = vm
        .datastore
        .ok_or_else(|| DockerError::conflict("the container has no place for output yet"))?;
    let own = match &vm.state {
        VmState::Starting { host, .. } | VmState::Running { host, .. } => Some(*host),
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => vm.last_host,
    };
    let reaches = |host: &&Host| host.facts.datastores.contains_key(&datastore);
    let connected = |host: &&Host| matches!(host.state, HostState::Connected { .. });
    let own = own.and_then(|id| fleet.host(id)).filter(reaches);
    let any = || fleet.hosts().filter(reaches).find(connected);
    let host = own.filter(connected).or_else(any).or(own).ok_or_else(|| {
        DockerError::unavailable("no connected host reaches the container's datastore")
    })?;
    Ok((host, datastore))
}
