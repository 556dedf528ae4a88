//! Images as their endpoints see them.

use super::MetaView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageView {
    pub id: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub references: Vec<String>,
    pub size_bytes: u64,
    /// Names of the datastores that hold its base disk.
    pub datastores: Vec<String>,
    pub architecture: String,
}
