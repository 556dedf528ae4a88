//! What this host is and has, as its node tells the leader.
//!
//! Promises: the same machine gives the same facts, so that only a change is told; what an option
//! says instead of the machine is taken at its word. Blocks on the slowest datastore.

use crate::datastore::Registrar;
use crate::options::Settings;
use berth_metrics::node::NodeMetrics;
use berth_model::host::{Accelerator, HostFacts};
use berth_model::{Bytes, MilliCpus, Resources};
use std::fs;
use std::io;
use std::path::Path;

/// Memory of a hypervisor process beside its guest's, under QEMU's own translator. Measured with
/// Debian's cloud kernel: 217 MiB resident for a guest of 128 MiB, of which the translated code and
/// the blobs of kernel and initramfs are most.
const OVERHEAD_TCG: Bytes = Bytes::mib(96);
/// The same where the processor runs the guest: nothing is translated.
const OVERHEAD_KVM: Bytes = Bytes::mib(48);

/// What stays as it is while the node runs.
pub struct Machine {
    pub accelerator: Accelerator,
    /// Name and version of the hypervisor.
    pub hypervisor: String,
    /// `address:port` that schedulers dial for streams.
    pub stream_address: String,
}

pub struct Gatherer {
    settings: Settings,
    machine: Machine,
    registrar: Registrar,
    metrics: NodeMetrics,
}

/// The kernel does not say what every machine has.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path} of this machine")]
pub struct FactsError {
    path: &'static str,
    #[source]
    source: io::Error,
}

impl Gatherer {
    pub fn new(
        settings: Settings,
        machine: Machine,
        registrar: Registrar,
        metrics: NodeMetrics,
    ) -> Gatherer {
        Gatherer { settings, machine, registrar, metrics }
    }

    pub fn gather(&mut self) -> Result<HostFacts, FactsError> {
        let survey = self.registrar.survey();
        for (name, space) in &survey.space {
            self.metrics.datastore_is(name, *space);
        }
        let settings = &self.settings;
        Ok(HostFacts {
            name: settings.host_name.clone(),
            cluster: settings.cluster.clone(),
            capacity: capacity(settings)?,
            accelerator: self.machine.accelerator,
            vm_overhead: overhead(self.machine.accelerator),
            datastores: survey.facts,
            stream_address: self.machine.stream_address.clone(),
            boot_id: read("/proc/sys/kernel/random/boot_id")?,
            kernel: read("/proc/sys/kernel/osrelease")?,
            hypervisor: self.machine.hypervisor.clone(),
            build: crate::BUILD.to_owned(),
            labels: settings.labels.clone(),
        })
    }
}

/// Changes when the machine boots.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn capacity(settings: &Settings) -> Result<Resources, FactsError> {
    let cpu = match settings.cpu {
        Some(cpu) => cpu,
        None => {
            MilliCpus::whole(std::thread::available_parallelism().map_or(1, |n| n.get() as u64))
        }
    };
    let memory = match settings.memory {
        Some(memory) => memory,
        None => total_memory(&read("/proc/meminfo")?).ok_or(FactsError {
            path: "/proc/meminfo",
            source: io::ErrorKind::InvalidData.into(),
        })?,
    };
    Ok(Resources {
        cpu: cpu.saturating_sub(settings.reserve_cpu),
        memory: memory.saturating_sub(settings.reserve_memory),
    })
}

const fn overhead(accelerator: Accelerator) -> Bytes {
    match accelerator {
        Accelerator::Kvm => OVERHEAD_KVM,
        Accelerator::Tcg => OVERHEAD_TCG,
        Accelerator::Simulated => Bytes::ZERO,
    }
}

fn total_memory(meminfo: &str) -> Option<Bytes> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes::kib(kib))
}

fn read(path: &'static str) -> Result<String, FactsError> {
    let text = fs::read_to_string(Path::new(path));
    text.map(|text| text.trim().to_owned()).map_err(|source| FactsError { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_what_the_kernel_says() {
        let text = "MemTotal:       24691228 kB\nMemFree:        20000000 kB\n";
        assert_eq!(total_memory(text), Some(Bytes::kib(24_691_228)));
        assert_eq!(total_memory("MemTotal: much\n"), None);
        assert!(total_memory(&read("/proc/meminfo").unwrap()).unwrap() > Bytes::mib(64));
    }

    #[test]
    fn a_boot_has_an_id() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
