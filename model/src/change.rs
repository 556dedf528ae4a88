//! What apply answers to whoever proposed a command.

use crate::ids::{ClusterId, ContainerId, EndpointId, HostId, ImageId, ReservationId, RuleId};
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
    PolicySet {
        cluster: ClusterId,
    },
    ClusterRemoved {
        cluster: ClusterId,
    },
    HostRemoved {
        host: HostId,
    },
    EndpointConfigured {
        endpoint: EndpointId,
    },
    EndpointRemoved {
        endpoint: EndpointId,
    },
    RuleCreated {
        rule: RuleId,
    },
    RuleReplaced {
        rule: RuleId,
    },
    RuleRemoved {
        rule: RuleId,
    },
    /// Each item of a `Reserve`, in order: held, or why not.
    Reserved {
        items: Vec<Result<ReservationId, Rejection>>,
    },
    /// How many there were.
    Released {
        count: u32,
    },
    Extended {
        reservation: ReservationId,
    },
}

/// The answer to one command, as it travels back from apply.
pub type Answer = Result<Change, Rejection>;
