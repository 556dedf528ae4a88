//! What nodes observed. Facts are past tense; the log carries changes only.

use crate::container::Exit;
use crate::ids::{ContainerId, Epoch};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// Facts of one node, in order. Sent again until acknowledged, so each must be harmless twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Number of the last fact in `facts`, counted from 1 for each start of the node process.
    pub last: u64,
    pub facts: Vec<Fact>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// The container's process runs. `started_at` is the host's clock.
    VmStarted { container: ContainerId, epoch: Epoch, started_at: Timestamp },
    /// The run is over, and with it what it held on the host.
    VmExited { container: ContainerId, epoch: Epoch, exit: Exit, finished_at: Timestamp },
    /// The process never ran; nothing of the run is left on the host.
    VmStartFailed { container: ContainerId, epoch: Epoch, exit: Exit, finished_at: Timestamp },
    /// Nothing of the container VM runs here, and its directory is gone from its datastore.
    Discarded { container: ContainerId },
}
