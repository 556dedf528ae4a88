//! What every object of the fleet carries.

use crate::ids::EndpointId;
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whose an object is, and which commands made and last changed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// `EndpointId::SYSTEM` for what belongs to the cell itself.
    pub endpoint: EndpointId,
    /// Index of the command that made the object.
    pub created: u64,
    /// Index of the command that last changed it.
    pub modified: u64,
    /// Leader-stamped.
    pub created_at: Timestamp,
    pub labels: BTreeMap<String, String>,
}
