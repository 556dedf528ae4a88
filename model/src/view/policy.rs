//! What a cluster's operator decides: strategy, overcommit, reserves, admission, preemption.

use super::{MetaView, bounds};
use crate::cluster::{ClusterPolicy, Strategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The policy of one cluster, as `/v1/policies` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterPolicyView {
    /// Of the cluster.
    pub id: String,
    pub cluster: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub policy: PolicyView,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyView {
    pub strategy: Strategy,
    pub cpu_overcommit_permille: u32,
    pub memory_overcommit_permille: u32,
    pub disk_overcommit_permille: u32,
    /// Shares of each host and datastore that nothing is charged on.
    pub cpu_reserve_permille: u32,
    pub memory_reserve_permille: u32,
    pub disk_reserve_permille: u32,
    pub admission: AdmissionView,
    /// Whether a request may displace what has a lower priority.
    pub preemption: bool,
    pub cpu_model: String,
}

impl PolicyView {
    /// The view of a policy; the admission's hosts are named by `admission`.
    pub fn of(policy: &ClusterPolicy, admission: AdmissionView) -> Self {
        Self {
            strategy: policy.strategy,
            cpu_overcommit_permille: policy.cpu_overcommit.0,
            memory_overcommit_permille: policy.memory_overcommit.0,
            disk_overcommit_permille: policy.disk_overcommit.0,
            cpu_reserve_permille: policy.cpu_reserve.0,
            memory_reserve_permille: policy.memory_reserve.0,
            disk_reserve_permille: policy.disk_reserve.0,
            admission,
            preemption: policy.preemption,
            cpu_model: policy.cpu_model.clone(),
        }
    }
}

/// A whole policy; what is not said takes its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1000, max = 16_000))]
    pub cpu_overcommit_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1000, max = 4000))]
    pub memory_overcommit_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1000, max = 20_000))]
    pub disk_overcommit_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 900))]
    pub cpu_reserve_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 900))]
    pub memory_reserve_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 900))]
    pub disk_reserve_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption: Option<bool>,
    /// As QEMU names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"))]
    pub cpu_model: Option<String>,
}

/// Which capacity a cluster keeps so that it can restart what a lost host ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "mode", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdmissionView {
    /// Nothing is kept.
    #[default]
    Off,
    /// After the loss of any `count` hosts everything that ran there has a place.
    HostFailures {
        #[schemars(range(min = 1, max = 2))]
        count: u8,
    },
    /// These shares of the cluster's cpu and memory are kept.
    Percentage {
        #[schemars(range(min = 1, max = 900))]
        cpu_permille: u32,
        #[schemars(range(min = 1, max = 900))]
        memory_permille: u32,
    },
    /// These hosts take nothing until another host is lost.
    FailoverHosts {
        /// Names or ids.
        #[schemars(schema_with = "bounds::some_hosts")]
        hosts: Vec<String>,
    },
    /// Slots of this size; those of the `failures` largest hosts are kept.
    Slots {
        #[schemars(range(min = 1, max = bounds::CPU_MAX))]
        cpu_millis: u64,
        #[schemars(range(min = bounds::MEMORY_MIN, max = bounds::MEMORY_MAX))]
        memory_bytes: u64,
        #[schemars(range(min = 1, max = 4))]
        failures: u8,
    },
}

impl AdmissionView {
    /// One word for tables.
    pub const fn mode(&self) -> &'static str {
        match self {
            AdmissionView::Off => "off",
            AdmissionView::HostFailures { .. } => "host-failures",
            AdmissionView::Percentage { .. } => "percentage",
            AdmissionView::FailoverHosts { .. } => "failover-hosts",
            AdmissionView::Slots { .. } => "slots",
        }
    }
}
