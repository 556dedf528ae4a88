//! Why a container VM could not be placed: counted by filter, with every host's own reason.

use crate::ids::{DatastoreId, HostId, RuleId};
use crate::rejection::QuotaKind;
use crate::units::{Bytes, MilliCpus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The filters of placement, in the order in which they are asked. A host is counted under the
/// first that refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    Availability,
    Rules,
    Capacity,
    Datastores,
    Networks,
    /// The endpoint's quota.
    Quota,
    /// What the cluster keeps for the loss of hosts.
    Admission,
}

impl Filter {
    pub const ALL: [Filter; 7] = [
        Filter::Availability,
        Filter::Rules,
        Filter::Capacity,
        Filter::Datastores,
        Filter::Networks,
        Filter::Quota,
        Filter::Admission,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Filter::Availability => "availability",
            Filter::Rules => "rules",
            Filter::Capacity => "capacity",
            Filter::Datastores => "datastores",
            Filter::Networks => "networks",
            Filter::Quota => "quota",
            Filter::Admission => "admission",
        }
    }
}

/// Why one host will not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    Silent,
    Maintenance,
    OtherCluster,
    OtherHost,
    CpuShort {
        needed: MilliCpus,
        free: MilliCpus,
    },
    MemoryShort {
        needed: Bytes,
        free: Bytes,
    },
    DiskShort {
        needed: Bytes,
        free: Bytes,
    },
    /// The host does not reach the datastore that it would need.
    DatastoreUnreachable {
        datastore: DatastoreId,
    },
    /// The host reaches no datastore at all.
    NoDatastore,
    /// The host reaches no datastore that holds the image.
    ImageUnreachable,
    /// It lacks a label that the request demands.
    LabelMissing {
        name: String,
        value: String,
    },
    /// A required rule would be broken.
    RuleBroken {
        rule: RuleId,
        name: String,
        kind: String,
    },
    /// Reservations are never overcommitted.
    ReservationShort {
        needed: Bytes,
        free: Bytes,
    },
    ResourceShort {
        name: String,
        needed: u64,
        free: u64,
    },
    /// It has too few NUMA nodes with enough left, or none that can be bound to.
    NumaShort {
        needed: u8,
        fitting: u8,
    },
    /// Its node cannot weigh container VMs against each other.
    NoShares,
    NetworkUnreachable {
        network: String,
    },
    /// No datastore in reach has the labels or the class, or the rules leave none.
    NoSuchDatastore {
        disk: String,
    },
    QuotaExceeded {
        what: QuotaKind,
        limit: u64,
        used: u64,
        needed: u64,
    },
    /// It is kept for the loss of another.
    FailoverHost,
    /// What would be left would not hold what the loss of `lost` puts there.
    FailoverShort {
        lost: Vec<HostId>,
        kept: String,
    },
}

impl Refusal {
    pub const fn filter(&self) -> Filter {
        match self {
            Refusal::Silent | Refusal::Maintenance => Filter::Availability,
            Refusal::OtherCluster
            | Refusal::OtherHost
            | Refusal::LabelMissing { .. }
            | Refusal::RuleBroken { .. } => Filter::Rules,
            Refusal::CpuShort { .. }
            | Refusal::MemoryShort { .. }
            | Refusal::ReservationShort { .. }
            | Refusal::ResourceShort { .. }
            | Refusal::NumaShort { .. }
            | Refusal::NoShares => Filter::Capacity,
            Refusal::NetworkUnreachable { .. } => Filter::Networks,
            Refusal::QuotaExceeded { .. } => Filter::Quota,
            Refusal::FailoverHost | Refusal::FailoverShort { .. } => Filter::Admission,
            Refusal::NoSuchDatastore { .. }
            | Refusal::DiskShort { .. }
            | Refusal::DatastoreUnreachable { .. }
            | Refusal::NoDatastore
            | Refusal::ImageUnreachable => Filter::Datastores,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Silent => f.write_str("its node is silent"),
            Refusal::Maintenance => f.write_str("it is in maintenance"),
            Refusal::OtherCluster => f.write_str("it is in another cluster"),
            Refusal::OtherHost => f.write_str("another host is asked for"),
            Refusal::CpuShort { needed, free } => {
                write!(f, "{needed} needed, {free} free")
            }
            Refusal::MemoryShort { needed, free } => {
                write!(f, "{needed} of memory needed, {free} free")
            }
            Refusal::DiskShort { needed, free } => {
                write!(f, "{needed} of disk needed, {free} free")
            }
            Refusal::DatastoreUnreachable { datastore } => {
                write!(f, "it does not reach {datastore}")
            }
            Refusal::NoDatastore => f.write_str("it reaches no datastore"),
            Refusal::ImageUnreachable => {
                f.write_str("it reaches no datastore that holds the image")
            }
            Refusal::LabelMissing { name, value } => {
                write!(f, "it has no label {name}={value}")
            }
            Refusal::RuleBroken { name, kind, .. } => {
                write!(f, "rule {name} ({kind}) would be broken")
            }
            Refusal::ReservationShort { needed, free } => {
                write!(f, "{needed} of reserved memory needed, {free} not reserved yet")
            }
            Refusal::ResourceShort { name, needed, free } => {
                write!(f, "{needed} of {name} needed, {free} free")
            }
            Refusal::NumaShort { needed, fitting } => {
                write!(f, "{needed} NUMA nodes with enough left needed, {fitting} there")
            }
            Refusal::NoShares => f.write_str("its node cannot weigh container VMs (no cgroups)"),
            Refusal::NetworkUnreachable { network } => write!(f, "it does not reach {network}"),
            Refusal::NoSuchDatastore { disk } => {
                write!(f, "it reaches no datastore that suits the {disk} disk")
            }
            Refusal::QuotaExceeded { what, limit, used, needed } => {
                write!(f, "the endpoint may hold {limit} {what}: {used} held, {needed} asked for")
            }
            Refusal::FailoverHost => f.write_str("it is kept for the loss of another host"),
            Refusal::FailoverShort { kept, .. } => f.write_str(kept),
        }
    }
}

/// Why no host will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Hosts that were asked.
    pub considered: u32,
    /// How many each filter refused; the sum is `considered`.
    pub refused: BTreeMap<Filter, u32>,
    /// Each host's own reason, for at most `HOSTS_MAX` hosts.
    pub hosts: Vec<(HostId, Refusal)>,
    /// The smallest change of the request that would let it in, if one was found.
    pub relaxation: Option<Relaxation>,
}

impl Explanation {
    /// Reasons kept host by host; the counts cover all.
    pub const HOSTS_MAX: usize = 32;

    pub fn refuse(&mut self, host: HostId, refusal: Refusal) {
        self.considered += 1;
        *self.refused.entry(refusal.filter()).or_default() += 1;
        if self.hosts.len() < Self::HOSTS_MAX {
            self.hosts.push((host, refusal));
        }
    }
}

impl fmt::Display for Explanation {
    /// One line for people: `0 of 3 hosts fit: 2 capacity, 1 availability; 512 MiB less memory
    /// would fit`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0 of {} hosts fit", self.considered)?;
        for (position, (filter, count)) in self.refused.iter().enumerate() {
            let separator = if position == 0 { ": " } else { ", " };
            write!(f, "{separator}{count} refused by {}", filter.name())?;
        }
        if let Some(relaxation) = &self.relaxation {
            write!(f, "; it would fit with {relaxation}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relaxation {
    LessCpu(MilliCpus),
    LessMemory(Bytes),
    LessDisk(Bytes),
    AnyHost,
    AnyCluster,
    AnyDatastore,
    /// Without this rule.
    WithoutRule(String),
    /// One more host with room, in this fault domain, or anywhere if empty.
    OneMoreHost {
        domain: String,
    },
    LessReserved(Bytes),
    LessResource {
        name: String,
        amount: u64,
    },
    /// Without NUMA binding.
    AnyNuma,
    WithoutNetwork(String),
    WithoutLabel {
        name: String,
    },
    /// The endpoint's quota raised by this much.
    LargerQuota {
        what: QuotaKind,
        amount: u64,
    },
    /// Without what the cluster's policy keeps.
    WithoutAdmission,
}

impl fmt::Display for Relaxation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relaxation::LessCpu(amount) => write!(f, "{amount} less"),
            Relaxation::LessMemory(amount) => write!(f, "{amount} less memory"),
            Relaxation::LessDisk(amount) => write!(f, "{amount} less disk"),
            Relaxation::AnyHost => f.write_str("any host allowed"),
            Relaxation::AnyCluster => f.write_str("any cluster allowed"),
            Relaxation::AnyDatastore => f.write_str("any datastore allowed"),
            Relaxation::WithoutRule(name) => write!(f, "no rule {name}"),
            Relaxation::OneMoreHost { domain } if domain.is_empty() => f.write_str("one more host"),
            Relaxation::OneMoreHost { domain } => write!(f, "one more host in {domain}"),
            Relaxation::LessReserved(amount) => write!(f, "{amount} less reserved memory"),
            Relaxation::LessResource { name, amount } => write!(f, "{amount} less of {name}"),
            Relaxation::AnyNuma => f.write_str("no NUMA binding"),
            Relaxation::WithoutNetwork(name) => write!(f, "no network {name}"),
            Relaxation::WithoutLabel { name } => write!(f, "no demand for host label {name}"),
            Relaxation::LargerQuota { what, amount } => {
                write!(f, "a quota of {amount} {what} more")
            }
            Relaxation::WithoutAdmission => f.write_str("no capacity kept for the loss of a host"),
        }
    }
}
