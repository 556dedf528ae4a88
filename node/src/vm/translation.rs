//! What hypervisor, agent and records say, in the words of the lifecycle.

use super::handle::Phase;
use super::lifecycle::{Agent, Left, State};
use super::{VmSettings, records};
use crate::hypervisor::{Hypervisor, LaunchError, LaunchPlan, RunningVm};
use berth_metrics::vm::VmSample;
use berth_model::guest::{Standing, StartFailure};
use berth_model::stream::Sample;
use berth_model::{Exit, Timestamp};
use std::sync::Arc;

/// Docker's code for a container that did not start for another reason than its program.
const NOT_STARTED: i32 = 128;

/// What an earlier node left, its machine if that lives, and when its process started if that is known.
pub(super) type Found = (Left, Option<Arc<dyn RunningVm>>, Option<Timestamp>);

pub(super) async fn look_for_left(
    settings: &VmSettings,
    plan: &LaunchPlan,
    hypervisor: &dyn Hypervisor,
) -> Result<Found, LaunchError> {
    let recorded = super::recorded_exit(&settings.directory, settings.epoch)
        .await
        .map_err(LaunchError::io("look into", &settings.directory))?;
    if let Some(recorded) = recorded {
        return Ok((Left::Recorded(recorded.verdict), None, recorded.started_at));
    }
    let started_at = records::started_at(&settings.run_directory);
    if let Some(machine) = hypervisor.adopt(&settings.run_directory, &plan.name()).await? {
        return Ok((Left::Machine { started_at }, Some(machine), started_at));
    }
    let launched = plan.log.try_exists().map_err(LaunchError::io("look at", &plan.log))?
        || started_at.is_some();
    Ok((Left::Nothing { launched }, None, started_at))
}

pub(super) fn phase_of(state: &State) -> Phase {
    match state {
        State::Adopting { .. } => Phase::Adopting,
        State::New | State::Preparing { .. } | State::Queued => Phase::Preparing,
        State::Launching { .. } => Phase::Launching,
        State::Booting => Phase::Booting,
        State::SettingUp { .. } => Phase::SettingUp,
        State::Running { started_at, .. } => Phase::Running { started_at: *started_at },
        State::Ending { .. }
        | State::Seeking { .. }
        | State::Recording { .. }
        | State::Telling { .. }
        | State::Cleaning { .. } => Phase::Ending,
        State::Done { .. } => Phase::Ended,
    }
}

/// What an agent's standing means for a run, whatever was known before.
pub(super) fn heard_standing(standing: Standing) -> Agent {
    match standing {
        Standing::Idle => Agent::Idle,
        Standing::Starting => Agent::Starting,
        // Of an ending one the exit follows.
        Standing::Running { .. } | Standing::Ending => Agent::ProcessStarted,
        Standing::Exited(status) => Agent::ProcessExited(records::exit_of(&status)),
        Standing::StartFailed(failure) => Agent::StartFailed(start_failure(failure)),
        Standing::SetupFailed { text } => Agent::StartFailed(setup_failed(&text)),
    }
}

pub(super) fn start_failure(failure: StartFailure) -> Exit {
    Exit { code: failure.code.into(), oom_killed: false, error: failure.text }
}

pub(super) fn setup_failed(text: &str) -> Exit {
    let error = format!("container could not be set up in its guest: {text}");
    Exit { code: NOT_STARTED, oom_killed: false, error }
}

pub(super) fn not_started(error: &LaunchError) -> Exit {
    Exit { code: NOT_STARTED, oom_killed: false, error: error.to_string() }
}

pub(super) fn vm_sample(sample: &Sample) -> VmSample {
    VmSample {
        cpu_seconds: sample.cpu_ns as f64 / 1e9,
        memory_bytes: sample.memory.0,
        memory_limit_bytes: sample.memory_limit.0,
        processes: sample.processes,
        disk_read_bytes: sample.disk_read.0,
        disk_written_bytes: sample.disk_written.0,
        received_bytes: sample.received.0,
        sent_bytes: sample.sent.0,
    }
}
