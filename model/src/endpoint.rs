//! A tenant's Docker API.

use crate::ids::{DatastoreId, EndpointId};
use crate::meta::Meta;
use crate::units::{Bytes, MilliCpus};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: EndpointId,
    /// Unique in the cell.
    pub name: String,
    /// Where images enter; the datastore that most hosts reach if not set.
    pub image_store: Option<DatastoreId>,
    pub defaults: EndpointDefaults,
    pub quota: Quota,
    pub meta: Meta,
}

/// The most that an endpoint may hold at once; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Of what is charged on hosts, by container VMs and reservations.
    pub cpu: Option<MilliCpus>,
    pub memory: Option<Bytes>,
    /// Sizes of all disks, deltas included, thin or not.
    pub disk: Option<Bytes>,
    /// Container VMs, stopped ones too, and reservations.
    pub containers: Option<u32>,
}

/// What an endpoint holds; kept by apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub cpu: MilliCpus,
    pub memory: Bytes,
    pub disk: Bytes,
    pub containers: u32,
}

/// What a container gets that does not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointDefaults {
    pub cpu: MilliCpus,
    pub memory: Bytes,
    /// Size of the delta disk as the guest sees it; it takes space only as it is written.
    pub disk: Bytes,
}

impl Default for EndpointDefaults {
    fn default() -> Self {
        Self { cpu: MilliCpus(1000), memory: Bytes::mib(512), disk: Bytes::gib(8) }
    }
}
