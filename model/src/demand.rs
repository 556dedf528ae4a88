//! What a container VM needs of a host and a datastore.

use crate::ids::{ClusterId, DatastoreId, HostId};
use crate::units::{Bytes, MilliCpus, Resources};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Memory sizes of container VMs in MiB, ascending; beyond the last, whole multiples of 1 GiB.
const CLASSES_MIB: [u64; 5] = [128, 256, 512, 1024, 2048];

/// Memory that the guest's kernel, agent and page tables take off a container VM's memory.
///
/// Measured with Debian's cloud kernel: about 40 MiB below 512 MiB, and 1/64 for page
/// structures beyond.
pub fn guest_overhead(limit: Bytes) -> Bytes {
    Bytes::mib(40) + Bytes(limit.0 / 64)
}

/// The smallest class that holds `limit` of container memory beside the guest's own.
pub fn memory_class(limit: Bytes) -> Bytes {
    let need = limit + guest_overhead(limit);
    for class in CLASSES_MIB {
        if need <= Bytes::mib(class) {
            return Bytes::mib(class);
        }
    }
    need.0.checked_next_multiple_of(1 << 30).map_or(Bytes(u64::MAX), Bytes)
}

/// What one container VM needs. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Demand {
    /// CPU time; the container VM has this many virtual CPUs rounded up.
    pub cpu: MilliCpus,
    /// The container's memory limit; the container VM's memory is its class.
    pub memory: Bytes,
    /// The container VM's whole memory, where a request names it instead of leaving it to the
    /// class of its limit.
    pub machine_memory: Option<Bytes>,
    /// Memory that must be there whatever the neighbours do: on a host, reservations are never
    /// overcommitted. At most what is charged.
    pub memory_reservation: Bytes,
    pub shares: Shares,
    /// Size of the delta disk; zero for a placement that needs none.
    pub disk: Bytes,
    /// Labels that the delta's datastore must carry.
    pub datastore_labels: BTreeMap<String, String>,
    /// Disks beside the delta, each with a datastore of its own choice.
    pub disks: Vec<DiskDemand>,
    /// Names of networks that the host must reach.
    pub networks: BTreeSet<String>,
    /// NUMA nodes that cpu and memory are bound to, evenly: 1 or 2; `None` binds to none.
    pub numa: Option<u8>,
    /// Countable things of the host, by name: how many of each.
    pub resources: BTreeMap<String, u64>,
    /// Labels that the host must carry.
    pub host_labels: BTreeMap<String, String>,
    /// Only this cluster, if set.
    pub cluster: Option<ClusterId>,
    /// Only this host, if set.
    pub host: Option<HostId>,
    /// Only this datastore for the delta disk, if set.
    pub datastore: Option<DatastoreId>,
    /// The higher is placed first, and may displace the lower where the cluster's policy allows:
    /// -1,000 to 1,000.
    pub priority: i16,
}

/// One disk beside the delta.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiskDemand {
    /// Unique in the demand.
    pub name: String,
    pub size: Bytes,
    /// Labels that its datastore must carry.
    pub labels: BTreeMap<String, String>,
    /// Only this datastore, if set.
    pub datastore: Option<DatastoreId>,
}

/// Weights among the container VMs of one host when there is not enough for all: 1 to 10,000,
/// where 100 is what one has that names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shares {
    pub cpu: Option<u16>,
    pub memory: Option<u16>,
}

impl Shares {
    pub const fn any(self) -> bool {
        self.cpu.is_some() || self.memory.is_some()
    }
}

impl Demand {
    pub const PRIORITY_MAX: i16 = 1000;
    pub const DISKS_MAX: usize = 16;

    pub fn vcpus(&self) -> u64 {
        self.cpu.vcpus().max(1)
    }

    /// The container VM's memory.
    pub fn memory_class(&self) -> Bytes {
        self.machine_memory.unwrap_or_else(|| memory_class(self.memory))
    }

    /// What is charged on a host whose hypervisor costs `overhead` a container VM.
    pub fn charge(&self, overhead: Bytes) -> Resources {
        Resources { cpu: self.cpu, memory: self.memory_class() + overhead }
    }

    /// All disks together.
    pub fn disk_total(&self) -> Bytes {
        self.disk + self.disks.iter().map(|disk| disk.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_the_limit_and_the_guest() {
        assert_eq!(memory_class(Bytes::mib(64)), Bytes::mib(128));
        assert_eq!(memory_class(Bytes::mib(128)), Bytes::mib(256));
        assert_eq!(memory_class(Bytes::mib(512)), Bytes::gib(1));
        assert_eq!(memory_class(Bytes::gib(3)), Bytes::gib(4));
        assert_eq!(memory_class(Bytes::gib(4)), Bytes::gib(5));
    }

    #[test]
    fn what_no_host_can_have_is_not_a_small_class() {
        assert_eq!(memory_class(Bytes(u64::MAX)), Bytes(u64::MAX));
        assert_eq!(memory_class(Bytes(i64::MAX as u64)), Bytes((1 << 63) + (1 << 57) + (1 << 30)));
    }
}
