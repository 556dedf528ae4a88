//! Trouble, as RFC 9457 has it (`application/problem+json`).

use super::ExplanationView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemView {
    /// `urn:berth:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same text for every problem of this type.
    pub title: String,
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// A word for programs: `name-taken`, `no-room`.
    pub code: String,
    pub request_id: String,
    /// Where in the body: a path of names and positions, as `demand.cpu_millis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ExplanationView>,
}
