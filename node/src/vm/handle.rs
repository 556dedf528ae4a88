//! What the rest of the node holds of a container VM.
//!
//! Orders (stop, kill) are wishes: the newest stands, none is lost, repeating one is harmless. Requests go
//! to the guest link and wait where it is full. When the last handle is dropped the actor lets go of
//! a run that has not come to its end: the machine runs on and can be adopted.

use super::VmSettings;
use super::guest_link::{Request, Stdin};
use crate::hypervisor::{ProcessUsage, RunningVm};
use berth_model::Timestamp;
use berth_model::container::StopOrder;
use berth_model::guest::{HostToGuest, STDIN_DATA_MAX};
use berth_model::stream::Sample;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// An agent that lives answers within milliseconds.
const SAMPLE_LIMIT: Duration = Duration::from_secs(10);

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What an earlier node left is looked for.
    Adopting,
    Preparing,
    Launching,
    Booting,
    SettingUp,
    Running {
        started_at: Timestamp,
    },
    /// The process ended or never will have run; what is left is brought to its end.
    Ending,
    /// The terminal fact was told and nothing is left on the host.
    Ended,
}

impl Phase {
    /// As metrics name it; `None` once it is over.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Phase::Adopting => Some("adopting"),
            Phase::Preparing => Some("preparing"),
            Phase::Launching => Some("launching"),
            Phase::Booting => Some("booting"),
            Phase::SettingUp => Some("setting_up"),
            Phase::Running { .. } => Some("running"),
            Phase::Ending => Some("ending"),
            Phase::Ended => None,
        }
    }
}

/// A request that a container VM cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmError {
    #[error("container VM does not run yet")]
    NotRunning,
    #[error("container VM has ended")]
    Ended,
    #[error("container VM was started without stdin")]
    NoStdin,
    #[error("guest agent did not answer in time")]
    Silent,
}

/// The newest wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub stop: Option<StopOrder>,
    pub kill: bool,
}

#[derive(Clone)]
pub struct VmHandle {
    pub(super) settings: Arc<VmSettings>,
    pub(super) wishes: Arc<watch::Sender<Wishes>>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) stdin: mpsc::Sender<Stdin>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) machine: watch::Receiver<Option<Arc<dyn RunningVm>>>,
}

impl std::fmt::Debug for VmHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = *self.phase.borrow();
        f.debug_struct("VmHandle")
            .field("container", &self.settings.container)
            .field("epoch", &self.settings.epoch)
            .field("phase", &phase)
            .finish()
    }
}

impl VmHandle {
    /// Signal, grace, SIGKILL, power: see `lifecycle`.
    pub fn stop(&self, order: StopOrder) {
        self.wishes.send_modify(|wishes| wishes.stop = Some(order));
    }

    /// Cuts the power at once.
    pub fn kill(&self) {
        self.wishes.send_modify(|wishes| wishes.kill = true);
    }

    /// Sends a signal to the container's main process.
    pub async fn signal(&self, number: u8) -> Result<(), VmError> {
        self.runs()?;
        self.request(Request::Say(HostToGuest::Signal { number })).await
    }

    /// Size of the terminal; before the process runs, the size that it will find.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), VmError> {
        self.request(Request::Resize { rows, columns }).await
    }

    /// Answers once the bytes are on their way and there is room for more.
    pub async fn write_stdin(&self, bytes: Bytes) -> Result<(), VmError> {
        if !self.settings.order.spec.open_stdin {
            return Err(VmError::NoStdin);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(STDIN_DATA_MAX));
            let (taken, was_taken) = oneshot::channel();
            let stdin = Stdin::Data { bytes: piece, taken };
            self.stdin.send(stdin).await.map_err(|_| VmError::Ended)?;
            was_taken.await.map_err(|_| VmError::Ended)?;
        }
        Ok(())
    }

    /// No more stdin will come.
    pub async fn close_stdin(&self) -> Result<(), VmError> {
        if !self.settings.order.spec.open_stdin {
            return Err(VmError::NoStdin);
        }
        self.stdin.send(Stdin::Eof).await.map_err(|_| VmError::Ended)
    }

    /// What the container uses now.
    pub async fn sample(&self) -> Result<Sample, VmError> {
        self.runs()?;
        let (answer, answered) = oneshot::channel();
        self.request(Request::Sample(answer)).await?;
        match tokio::time::timeout(SAMPLE_LIMIT, answered).await {
            Ok(Ok(sample)) => Ok(sample),
            Ok(Err(_)) => Err(VmError::Ended),
            Err(_) => Err(VmError::Silent),
        }
    }

    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    pub fn settings(&self) -> &VmSettings {
        &self.settings
    }

    /// What the hypervisor process costs now; `None` where there is none.
    pub fn usage(&self) -> Option<ProcessUsage> {
        let machine = self.machine.borrow().clone();
        machine?.usage()
    }

    /// The machine itself, while there is one.
    pub fn machine(&self) -> Option<Arc<dyn RunningVm>> {
        self.machine.borrow().clone()
    }

    fn runs(&self) -> Result<(), VmError> {
        match *self.phase.borrow() {
            Phase::Running { .. } => Ok(()),
            Phase::Ending | Phase::Ended => Err(VmError::Ended),
            Phase::Adopting
            | Phase::Preparing
            | Phase::Launching
            | Phase::Booting
            | Phase::SettingUp => Err(VmError::NotRunning),
        }
    }

    async fn request(&self, request: Request) -> Result<(), VmError> {
        self.requests.send(request).await.map_err(|_| VmError::Ended)
    }
}
