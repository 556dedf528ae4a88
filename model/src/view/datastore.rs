//! Places for files.

use super::MetaView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatastoreView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    /// What kind of storage it is, in the operator's words; may be empty.
    pub class: String,
    pub capacity_bytes: u64,
    pub free_bytes: u64,
    /// Sizes of all disks placed here, thin or not.
    pub charged_bytes: u64,
    /// Names of the hosts that reach it.
    pub hosts: Vec<String>,
}
