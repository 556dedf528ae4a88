//! `docker kill` and the resizing of terminals.

use super::run;
use crate::docker::answer::{self, Answer};
use crate::docker::call::{Call, View};
use crate::docker::error::DockerError;
use crate::docker::translate::signal;
use berth_model::container::StopOrder;
use berth_model::stream::{StreamRefusal, StreamRequest};
use berth_model::{ContainerVm, Host, VmState};
use hyper::StatusCode;

use crate::streams::StreamError;

pub async fn kill(call: &Call) -> Result<Answer, DockerError> {
    let number = match call.query.text("signal") {
        "" => signal::SIGKILL,
        text => signal::parse(text)?,
    };
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    let host = running_on(&view, vm, &call.name)?;
    if number == signal::SIGKILL {
        let order = StopOrder { signal: signal::SIGKILL, grace_seconds: Some(0) };
        run::bring_down(call, &view, vm, order).await?;
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let request = StreamRequest::Signal { container: vm.id, epoch: vm.epoch, signal: number };
    carry_out(call, host, request).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub async fn resize(call: &Call) -> Result<Answer, DockerError> {
    let size = |name: &str| -> Result<u16, DockerError> {
        call.query.number(name)?.ok_or_else(|| DockerError::bad(format!("{name} is missing")))
    };
    let (rows, columns) = (size("h")?, size("w")?);
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    let host = running_on(&view, vm, &call.name)?;
    let request = StreamRequest::Resize { container: vm.id, epoch: vm.epoch, rows, columns };
    carry_out(call, host, request).await?;
    Ok(answer::empty(StatusCode::OK))
}

async fn carry_out(call: &Call, host: &Host, request: StreamRequest) -> Result<(), DockerError> {
    match call.docker.streams.carry_out(host, request).await {
        Ok(()) => Ok(()),
        // It ended between our look and the node's.
        Err(StreamError::Refused(StreamRefusal::NotHere(_) | StreamRefusal::OtherEpoch(_))) => {
            Err(DockerError::not_running(&call.name))
        }
        Err(error) => Err(error.into()),
    }
}

/// The host of a container whose process runs.
fn running_on<'a>(view: &'a View, vm: &ContainerVm, name: &str) -> Result<&'a Host, DockerError> {
    match &vm.state {
        VmState::Running { host, .. } => {
            view.fleet.host(*host).ok_or_else(|| DockerError::internal("its host is not known"))
        }
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Starting { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => Err(DockerError::not_running(name)),
    }
}
