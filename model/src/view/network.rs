//! Networks that hosts reach, by the names that their configurations give.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkView {
    pub cell: String,
    pub name: String,
    /// Names of the hosts that reach it.
    pub hosts: Vec<String>,
}
