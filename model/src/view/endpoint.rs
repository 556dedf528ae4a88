//! Tenants' Docker APIs: defaults, quotas, and what they hold.

use super::{MetaView, bounds};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_store: Option<String>,
    pub default_cpu_millis: u64,
    pub default_memory_bytes: u64,
    pub default_disk_bytes: u64,
    pub quota: QuotaView,
    pub usage: UsageView,
    pub container_vms: u32,
    pub images: u32,
}

/// The most that an endpoint may hold at once; what is absent has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = bounds::CPU_SUM_MAX))]
    pub cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = bounds::SUM_MAX))]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = bounds::SUM_MAX))]
    pub disk_bytes: Option<u64>,
    /// Container VMs, stopped ones too, and reservations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = bounds::COUNT_MAX))]
    pub container_vms: Option<u32>,
}

/// What an endpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageView {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub container_vms: u32,
}

/// The body of `POST /v1/endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointRequest {
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::CPU_MAX))]
    pub default_cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::MEMORY_MIN, max = bounds::MEMORY_MAX))]
    pub default_memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::DISK_MIN, max = bounds::DISK_MAX))]
    pub default_disk_bytes: Option<u64>,
    #[serde(default)]
    pub quota: QuotaView,
}

/// The body of `PUT /v1/endpoints/{endpoint}`: what is not said takes its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::CPU_MAX))]
    pub default_cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::MEMORY_MIN, max = bounds::MEMORY_MAX))]
    pub default_memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::DISK_MIN, max = bounds::DISK_MAX))]
    pub default_disk_bytes: Option<u64>,
    #[serde(default)]
    pub quota: QuotaView,
}

/// The body of `PATCH /v1/endpoints/{endpoint}`: what is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointPatch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::CPU_MAX))]
    pub default_cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::MEMORY_MIN, max = bounds::MEMORY_MAX))]
    pub default_memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::DISK_MIN, max = bounds::DISK_MAX))]
    pub default_disk_bytes: Option<u64>,
    #[serde(default)]
    pub quota: QuotaPatch,
}

/// Limits to change: null takes one away, what is not said stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaPatch {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schemars(with = "Option<u64>", range(min = 0, max = bounds::CPU_SUM_MAX))]
    pub cpu_millis: Option<Option<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schemars(with = "Option<u64>", range(min = 0, max = bounds::SUM_MAX))]
    pub memory_bytes: Option<Option<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schemars(with = "Option<u64>", range(min = 0, max = bounds::SUM_MAX))]
    pub disk_bytes: Option<Option<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schemars(with = "Option<u32>", range(min = 0, max = bounds::COUNT_MAX))]
    pub container_vms: Option<Option<u32>>,
}

/// Null is said, too.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_takes_a_limit_away_and_silence_keeps_it() {
        let patch: QuotaPatch = serde_json::from_str(r#"{"cpu_millis":null}"#).unwrap();
        assert_eq!((patch.cpu_millis, patch.memory_bytes), (Some(None), None));
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"cpu_millis":null}"#);
    }
}
