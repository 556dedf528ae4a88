//! What a container VM needs of a host and a datastore.

use crate::ids::{ClusterId, DatastoreId, HostId};
use crate::units::{Bytes, MilliCpus, Resources};
use serde::{Deserialize, Serialize};

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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// CPU time; the container VM has this many virtual CPUs rounded up.
    pub cpu: MilliCpus,
    /// The container's memory limit; the container VM's memory is its class.
    pub memory: Bytes,
    /// Size of the delta disk.
    pub disk: Bytes,
    /// Only this cluster, if set.
    pub cluster: Option<ClusterId>,
    /// Only this host, if set.
    pub host: Option<HostId>,
    /// Only this datastore for the delta disk, if set.
    pub datastore: Option<DatastoreId>,
}

impl Demand {
    pub fn vcpus(&self) -> u64 {
        self.cpu.vcpus().max(1)
    }

    pub fn memory_class(&self) -> Bytes {
        memory_class(self.memory)
    }

    /// What is charged on a host whose hypervisor costs `overhead` a container VM.
    pub fn charge(&self, overhead: Bytes) -> Resources {
        Resources { cpu: self.cpu, memory: self.memory_class() + overhead }
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
