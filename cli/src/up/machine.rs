//! What this machine has, and each host's part of it.

use anyhow::{Context, Result, bail};

/// Kept back for the machine itself, the schedulers and the nodes.
const MACHINE_MIB: u64 = 1536;
/// Below this a host could run nothing.
const HOST_MIB_MIN: u64 = 256;

/// What each host says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub cpu_milli: u64,
    pub memory_mib: u64,
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cpu, {} MiB each", self.cpu_milli / 1000, self.memory_mib)
    }
}

/// Time is shared, so every host has all CPUs; memory is not, so it is dealt out.
pub fn share(hosts: u16, cpus: Option<u32>, memory_mib: Option<u64>) -> Result<Share> {
    let cpus = match cpus {
        Some(cpus) => u64::from(cpus),
        None => std::thread::available_parallelism().context("cannot count the CPUs")?.get() as u64,
    };
    let memory_mib = match memory_mib {
        Some(memory_mib) => memory_mib,
        None => {
            let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
            memory_share(available_mib(&text).context("/proc/meminfo says nothing of MemAvailable")?, hosts)?
        }
    };
    Ok(Share { cpu_milli: cpus * 1000, memory_mib })
}

fn memory_share(available_mib: u64, hosts: u16) -> Result<u64> {
    let each = available_mib.saturating_sub(MACHINE_MIB) / u64::from(hosts.max(1));
    if each < HOST_MIB_MIN {
        bail!(
            "{available_mib} MiB of memory are free, too little for {hosts} hosts beside the \
             machine's own {MACHINE_MIB} MiB; free some, use fewer --hosts, or say \
             --host-memory-mib"
        );
    }
    Ok(each)
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_dealt_out_and_time_is_shared() {
        let meminfo = "MemTotal:       24606000 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(available_mib(meminfo), Some(20_000));
        assert_eq!(memory_share(20_000, 3).unwrap(), 6154);
        assert_eq!(share(3, Some(2), Some(512)).unwrap(), Share { cpu_milli: 2000, memory_mib: 512 });
    }

    #[test]
    fn a_machine_that_is_too_small_is_told_so() {
        assert!(memory_share(2000, 3).unwrap_err().to_string().contains("--host-memory-mib"));
    }
}
