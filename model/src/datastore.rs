//! Places for files: local to one host or shared by many, told apart by who reaches them.

use crate::ids::{DatastoreId, HostId};
use crate::meta::Meta;
use crate::units::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datastore {
    pub id: DatastoreId,
    /// Unique in the cell.
    pub name: String,
    pub capacity: Bytes,
    /// What kind of storage it is, in the operator's words; may be empty.
    pub class: String,
    /// As last reported by any host that reaches it.
    pub free: Bytes,
    /// Sum of the sizes of all disks placed here, thin or not; kept by apply.
    pub charged: Bytes,
    /// Hosts whose node last said that they reach it.
    pub hosts: Arc<BTreeSet<HostId>>,
    pub meta: Meta,
}
