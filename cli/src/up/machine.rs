//! What this machine has, and each host's part of it.
//!
//! Time is shared, so every host has all CPUs; memory is not, so it is dealt out. It is the
//! machine's memory that counts and not what is free now, so that a host comes back as large as it
//! was.

use anyhow::{Context, Result, bail};

/// At least so much is kept back for the machine itself, the schedulers and the nodes.
const MACHINE_MIB_MIN: u64 = 1024;
/// Below this a host could run nothing.
const HOST_MIB_MIN: u64 = 256;

/// What each host says it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub cpu_milli: u64,
    pub memory_mib: u64,
    /// What the user should know of it.
    pub note: Option<String>,
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cpu and {} MiB each", self.cpu_milli / 1000, self.memory_mib)
    }
}

/// The part of each of `hosts`, or what the user says instead.
pub fn share(hosts: u16, cpus: Option<u32>, memory_mib: Option<u64>) -> Result<Share> {
    let cpus = match cpus {
        Some(cpus) => u64::from(cpus),
        None => {
            let cpus = std::thread::available_parallelism().context("cannot count the CPUs")?;
            cpus.get() as u64
        }
    };
    let meminfo = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let field =
        |name| mib(&meminfo, name).with_context(|| format!("/proc/meminfo does not say {name}"));
    let memory_mib = match memory_mib {
        Some(memory_mib) => memory_mib,
        None => part(field("MemTotal")?, hosts)?,
    };
    let free = field("MemAvailable")?;
    let note = (free < memory_mib * u64::from(hosts)).then(|| {
        format!("only {free} MiB are free now: hosts may promise more memory than there is")
    });
    Ok(Share { cpu_milli: cpus * 1000, memory_mib, note })
}

fn part(total_mib: u64, hosts: u16) -> Result<u64> {
    let kept_back = MACHINE_MIB_MIN.max(total_mib / 8);
    let each = total_mib.saturating_sub(kept_back) / u64::from(hosts.max(1));
    if each < HOST_MIB_MIN {
        bail!(
            "this machine's {total_mib} MiB of memory are too little for {hosts} hosts; use fewer \
             --hosts, or say --host-memory-mib"
        );
    }
    Ok(each)
}

fn mib(meminfo: &str, field: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_dealt_out_and_time_is_shared() {
        let meminfo = "MemTotal:       16384000 kB\nMemAvailable:   10240000 kB\n";
        assert_eq!(mib(meminfo, "MemTotal"), Some(16_000));
        assert_eq!(mib(meminfo, "MemAvailable"), Some(10_000));
        assert_eq!(mib(meminfo, "Mem"), None);
        assert_eq!(part(16_000, 3).unwrap(), 14_000 / 3);
        let share = share(3, Some(2), Some(512)).unwrap();
        assert_eq!((share.cpu_milli, share.memory_mib), (2000, 512));
    }

    #[test]
    fn a_machine_that_is_too_small_is_told_so() {
        assert!(part(1500, 3).unwrap_err().to_string().contains("--host-memory-mib"));
    }
}
