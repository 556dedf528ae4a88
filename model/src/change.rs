//! What apply answers to whoever proposed a command.

use crate::ids::{ClusterId, ContainerId, EndpointId, HostId, ImageId};
use crate::rejection::Rejection;
use serde::{Deserialize, Serialize};

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It was already so: the command asked for what stood.
    Nothing,
    Bootstrapped,
    ClusterCreated {
        cluster: ClusterId,
    },
    EndpointCreated {
        endpoint: EndpointId,
    },
    HostChanged {
        host: HostId,
    },
    ImageRecorded {
        image: ImageId,
    },
    ContainerCreated {
        container: ContainerId,
    },
    ContainerChanged {
        container: ContainerId,
    },
    /// Each item of a `Place`, in order: taken, or why not.
    Placed {
        items: Vec<Result<ContainerId, Rejection>>,
    },
    /// How many of the facts changed anything.
    Observed {
        changed: u32,
    },
}

/// The answer to one command, as it travels back from apply.
pub type Answer = Result<Change, Rejection>;
