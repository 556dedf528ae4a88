//! `docker start`, `stop`, `restart` and `rm`: commit the intent, then wait until it is so.

use crate::docker::answer::{self, Answer};
use crate::docker::call::{Call, View};
use crate::docker::error::DockerError;
use crate::docker::translate::{container, signal};
use crate::outcome::{self, Started};
use berth_model::command::CommandBody;
use berth_model::container::StopOrder;
use berth_model::stream::StreamRequest;
use berth_model::{ContainerId, ContainerVm, Epoch, Exit, Rejection, VmState};
use berth_scheduler::SubmitError;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use std::time::Duration;

/// How long a start may take: booting without hardware help is slow where many boot at once.
const START_DEADLINE: Duration = Duration::from_secs(300);
/// How long after the grace a container VM may take to be down.
const STOP_SLACK: Duration = Duration::from_secs(60);
/// How long a remove waits for the host to let go.
const RELEASE_DEADLINE: Duration = Duration::from_secs(10);
/// Grace of a stop where neither request nor container names one.
const GRACE_SECONDS: u32 = 10;

/// Who is to be started, as it was before.
struct Subject {
    id: ContainerId,
    name: String,
    epoch: Epoch,
    auto_remove: bool,
}

pub async fn start(mut call: Call) -> Result<Answer, DockerError> {
    // Before API 1.24 a start could bring a HostConfig; taking it now would be ignoring it.
    if let Some(Ok(frame)) = call.request.body_mut().frame().await
        && frame.data_ref().is_some_and(|data| {
            !matches!(std::str::from_utf8(data).map(str::trim), Ok("" | "{}" | "null"))
        })
    {
        return Err(DockerError::bad(
            "starting container with non-empty request body was deprecated since API v1.22 and \
             removed in v1.24",
        ));
    }
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    if outcome::is_up(&vm.state) {
        return Ok(answer::empty(StatusCode::NOT_MODIFIED));
    }
    start_and_settle(&call, &view, vm).await
}

async fn start_and_settle(
    call: &Call,
    view: &View,
    vm: &ContainerVm,
) -> Result<Answer, DockerError> {
    let subject = Subject {
        id: vm.id,
        name: call.name.clone(),
        epoch: vm.epoch,
        auto_remove: vm.spec.auto_remove,
    };
    let mut fleets = call.docker.scheduler.watch();
    let start = CommandBody::StartContainer { id: subject.id };
    let index = match call.submit(view.endpoint, start).await {
        Ok(accepted) => accepted.revision.index,
        Err(SubmitError::Rejected(Rejection::AlreadyRunning(_))) => {
            return Ok(answer::empty(StatusCode::NOT_MODIFIED));
        }
        Err(SubmitError::Rejected(Rejection::BeingRemoved(_) | Rejection::NoSuchContainer(_))) => {
            return Err(DockerError::no_such_container(&subject.name));
        }
        Err(error) => return Err(error.into()),
    };
    let started = outcome::settled(&mut fleets, index, |fleet| {
        outcome::started(fleet, subject.id, subject.epoch)
    });
    match tokio::time::timeout(START_DEADLINE, started).await {
        Ok(Ok(Started::Ran)) => {
            set_console_size(call, subject.id, vm).await;
            Ok(answer::empty(StatusCode::NO_CONTENT))
        }
        Ok(Ok(Started::Refused(explanation))) => {
            take_back(call, view, &subject).await;
            Err(DockerError::no_room("run the container", &explanation))
        }
        Ok(Ok(Started::Failed(exit))) => Err(failed(&exit)),
        Ok(Ok(Started::TakenBack)) => {
            Err(DockerError::conflict("the container was stopped before it started"))
        }
        Ok(Ok(Started::Removed)) => Err(DockerError::no_such_container(&subject.name)),
        Ok(Err(ending)) => Err(ending.into()),
        Err(_) => Err(DockerError::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!(
                "the container has not started after {} seconds and is still being started; \
                 look with docker inspect, or take it back with docker stop",
                START_DEADLINE.as_secs()
            ),
        )),
    }
}

/// A start that found no host is not left waiting: its client has been told that it failed. What
/// was to be removed at its end is removed, for the client waits for that.
async fn take_back(call: &Call, view: &View, subject: &Subject) {
    let body = if subject.auto_remove {
        CommandBody::RemoveContainer { id: subject.id, force: true }
    } else {
        CommandBody::StopContainer { id: subject.id, order: None }
    };
    match call.submit(view.endpoint, body).await {
        Ok(_) | Err(SubmitError::Rejected(_)) => {}
        Err(error) => {
            let container = subject.id.short();
            tracing::warn!(%error, %container, "a refused start could not be taken back");
        }
    }
}

/// Why the process did not run. Clients read exit codes off these texts: 127 off `executable file
/// not found`, 126 off `permission denied`.
fn failed(exit: &Exit) -> DockerError {
    let said = |words: &[&str]| words.iter().any(|word| exit.error.contains(word));
    let error = &exit.error;
    let reason = match exit.code {
        127 if !said(&["executable file not found", "no such file or directory"]) => {
            format!("{error}: executable file not found in $PATH")
        }
        126 if !said(&["permission denied", "is a directory"]) => {
            format!("{error}: permission denied")
        }
        _ => error.clone(),
    };
    let status = match exit.code {
        126 | 127 => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    DockerError::new(status, format!("the container could not be started: {reason}"))
}

/// Gives the terminal the size that the create request named; a later resize overrides it.
async fn set_console_size(call: &Call, id: ContainerId, before: &ContainerVm) {
    if !before.spec.tty {
        return;
    }
    let Some((rows, columns)) = container::read_request(before).console_size() else { return };
    let fleet = call.docker.scheduler.watch().borrow().clone();
    let Some(vm) = fleet.container(id) else { return };
    let VmState::Running { host, .. } = &vm.state else { return };
    let Some(host) = fleet.host(*host) else { return };
    let request = StreamRequest::Resize { container: id, epoch: vm.epoch, rows, columns };
    if let Err(error) = call.docker.streams.carry_out(host, request).await {
        // The client sets the size again by itself once it is attached.
        tracing::debug!(%error, container = %id.short(), "a terminal's first size was not set");
    }
}

pub async fn stop(call: &Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    if !outcome::is_up(&vm.state) && !matches!(vm.state, VmState::Waiting { .. }) {
        return Ok(answer::empty(StatusCode::NOT_MODIFIED));
    }
    bring_down(call, &view, vm, stop_order(call, vm)?).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub async fn restart(call: &Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    if outcome::is_up(&vm.state) || matches!(vm.state, VmState::Waiting { .. }) {
        bring_down(call, &view, vm, stop_order(call, vm)?).await?;
    }
    let view = call.view().await?;
    let vm = view.container(&vm.id.to_string())?;
    start_and_settle(call, &view, vm).await
}

/// What the request says over what the container says.
fn stop_order(call: &Call, vm: &ContainerVm) -> Result<StopOrder, DockerError> {
    let signal = match call.query.text("signal") {
        "" => vm.spec.stop_signal,
        text => signal::parse(text)?,
    };
    let grace_seconds = match call.query.number::<i64>("t")? {
        None => Some(vm.spec.stop_timeout_seconds.unwrap_or(GRACE_SECONDS)),
        Some(seconds) if seconds < 0 => None,
        Some(seconds) => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
    };
    Ok(StopOrder { signal, grace_seconds })
}

/// Orders the stop and waits until nothing of it runs.
pub async fn bring_down(
    call: &Call,
    view: &View,
    vm: &ContainerVm,
    order: StopOrder,
) -> Result<(), DockerError> {
    let id = vm.id;
    let mut fleets = call.docker.scheduler.watch();
    let body = CommandBody::StopContainer { id, order: Some(order) };
    let index = match call.submit(view.endpoint, body).await {
        Ok(accepted) => accepted.revision.index,
        Err(SubmitError::Rejected(Rejection::NotRunning(_))) => return Ok(()),
        Err(SubmitError::Rejected(Rejection::BeingRemoved(_) | Rejection::NoSuchContainer(_))) => {
            return Err(DockerError::no_such_container(&call.name));
        }
        Err(error) => return Err(error.into()),
    };
    let down = outcome::settled(&mut fleets, index, |fleet| outcome::stopped(fleet, id));
    let Some(grace) = order.grace_seconds else { return Ok(down.await?) };
    let deadline = Duration::from_secs(u64::from(grace)) + STOP_SLACK;
    match tokio::time::timeout(deadline, down).await {
        Ok(down) => Ok(down?),
        Err(_) => Err(DockerError::internal(format!(
            "tried to stop container {}, but its host has not said that it ended; is the host \
             connected?",
            call.name
        ))),
    }
}

pub async fn delete(call: &Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    let force = call.query.truth("force");
    if outcome::is_up(&vm.state) && !force {
        return Err(DockerError::conflict(format!(
            "cannot remove container \"{}\": container is running: stop the container before \
             removing or force remove",
            call.name
        )));
    }
    let id = vm.id;
    let mut fleets = call.docker.scheduler.watch();
    let remove = CommandBody::RemoveContainer { id, force };
    let index = match call.submit(view.endpoint, remove).await {
        Ok(accepted) => accepted.revision.index,
        Err(SubmitError::Rejected(Rejection::BeingRemoved(_))) => {
            return Err(DockerError::conflict(format!(
                "removal of container {} is already in progress",
                call.name
            )));
        }
        Err(SubmitError::Rejected(Rejection::NoSuchContainer(_))) => {
            return Err(DockerError::no_such_container(&call.name));
        }
        Err(error) => return Err(error.into()),
    };
    // The name is free. What ran is given a moment to end, so that its room is free too.
    let released = outcome::settled(&mut fleets, index, |fleet| outcome::released(fleet, id));
    if let Ok(Err(ending)) = tokio::time::timeout(RELEASE_DEADLINE, released).await {
        return Err(ending.into());
    }
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
