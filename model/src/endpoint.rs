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
    pub meta: Meta,
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
