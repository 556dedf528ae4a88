//! Processors and NUMA nodes of this machine, as Linux shows them under `/sys/devices/system`.
//!
//! Promises: the same machine gives the same answer; a machine without that directory has no
//! processors and no NUMA nodes here, which is an answer and no error. Only processors that this
//! process may run on belong to a NUMA node: what it may not use, no container VM of it can.
//! Does not: bind anything, or say how much of a node is for container VMs.

use berth_model::Bytes;
use rustix::thread::CpuSet;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// Where Linux shows them.
pub const SYSTEM: &str = "/sys/devices/system";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Physical cores; zero where the machine does not say.
    pub cores: u32,
    /// Hardware threads that are switched on; zero where the machine does not say.
    pub threads: u32,
    /// By number, ascending. Those without processors or without memory are among them.
    pub nodes: Vec<Node>,
}

/// One NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The operating system's number.
    pub id: u16,
    /// Numbers of its processors that this process may run on, ascending.
    pub processors: Vec<usize>,
    pub memory: Bytes,
}

impl Node {
    /// Whether a container VM can have both processors and memory of it.
    pub fn can_bind(&self) -> bool {
        !self.processors.is_empty() && self.memory > Bytes::ZERO
    }

    pub fn processor_set(&self) -> CpuSet {
        let mut set = CpuSet::new();
        self.processors.iter().for_each(|processor| set.set(*processor));
        set
    }
}

impl Topology {
    /// Of this machine, for this process.
    pub fn here() -> io::Result<Topology> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        Topology::read(Path::new(SYSTEM), |processor| allowed.is_set(processor))
    }

    /// Of the machine that `system` shows.
    fn read(system: &Path, allowed: impl Fn(usize) -> bool) -> io::Result<Topology> {
        let (cores, threads) = processors(&system.join("cpu"))?;
        let numbers = match read(&system.join("node/online"))? {
            Some(text) => numbers(&text)?,
            None => Vec::new(),
        };
        let mut nodes = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Ok(id) = u16::try_from(number) else { continue };
            let directory = system.join(format!("node/node{id}"));
            let list = read(&directory.join("cpulist"))?.unwrap_or_default();
            let processors = numbers_below(&list, CpuSet::MAX_CPU)?;
            let memory = read(&directory.join("meminfo"))?.and_then(|text| total_memory(&text));
            nodes.push(Node {
                id,
                processors: processors.into_iter().filter(|number| allowed(*number)).collect(),
                memory: memory.unwrap_or(Bytes::ZERO),
            });
        }
        Ok(Topology { cores, threads, nodes })
    }
}

/// Physical cores and hardware threads: threads of one core name the same siblings.
fn processors(directory: &Path) -> io::Result<(u32, u32)> {
    let Some(online) = read(&directory.join("online"))? else { return Ok((0, 0)) };
    let online = numbers(&online)?;
    let mut cores = BTreeSet::new();
    for number in &online {
        let siblings = directory.join(format!("cpu{number}/topology/thread_siblings_list"));
        // Some virtual machines show no topology: then each thread counts as a core of its own.
        cores.insert(read(&siblings)?.unwrap_or_else(|| number.to_string()));
    }
    let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
    Ok((count(cores.len()), count(online.len())))
}

/// `None` if there is no such file.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn numbers(list: &str) -> io::Result<Vec<usize>> {
    // More than any kernel is built for; a bound on what one line can make us allocate.
    numbers_below(list, 1 << 16)
}

/// A list as the kernel writes it: `0-3,8,10-11`. Numbers from `limit` on are left out.
fn numbers_below(list: &str, limit: usize) -> io::Result<Vec<usize>> {
    let malformed = || {
        let text = format!("`{list}` is no list of numbers");
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let number = |text: &str| text.parse::<usize>().map_err(|_| malformed());
    let mut found = BTreeSet::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        found.extend((first..=last).take_while(|number| *number < limit));
    }
    Ok(found.into_iter().collect())
}

/// From a node's own `meminfo`: `Node 0 MemTotal:  24691228 kB`.
fn total_memory(meminfo: &str) -> Option<Bytes> {
    let (_, rest) = meminfo.split_once("MemTotal:")?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(Bytes::kib(kib))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes with two cores of two threads each, and a third that has only memory.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        write("cpu/online", "0-7");
        for number in 0..8 {
            let siblings = format!("{},{}", number % 4, number % 4 + 4);
            write(&format!("cpu/cpu{number}/topology/thread_siblings_list"), &siblings);
        }
        write("node/online", "0-1,4");
        for (id, list, kib) in [(0, "0-1,4-5", 4096), (1, "2-3,6-7", 2048), (4, "", 8192)] {
            write(&format!("node/node{id}/cpulist"), list);
            let meminfo = format!("Node {id} MemTotal: {kib} kB\nNode {id} MemFree: 12 kB");
            write(&format!("node/node{id}/meminfo"), &meminfo);
        }
        root
    }

    #[test]
    fn cores_threads_and_nodes_are_read() {
        let root = machine();
        let topology = Topology::read(root.path(), |_| true).unwrap();
        assert_eq!((topology.cores, topology.threads), (4, 8));
        let ids: Vec<u16> = topology.nodes.iter().map(|node| node.id).collect();
        assert_eq!(ids, [0, 1, 4]);
        assert_eq!(topology.nodes[1].processors, [2, 3, 6, 7]);
        assert_eq!(topology.nodes[0].memory, Bytes::mib(4));
        let bound: Vec<bool> = topology.nodes.iter().map(Node::can_bind).collect();
        assert_eq!(bound, [true, true, false], "memory alone runs nothing");
    }

    #[test]
    fn a_processor_that_this_process_may_not_use_belongs_to_no_node() {
        let root = machine();
        let topology = Topology::read(root.path(), |processor| processor < 2).unwrap();
        assert_eq!(topology.nodes[0].processors, [0, 1]);
        assert!(!topology.nodes[1].can_bind());
    }

    #[test]
    fn a_machine_without_that_directory_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Topology::read(root.path(), |_| true).unwrap(), Topology::default());
    }

    #[test]
    fn this_machine_has_a_topology_that_fits_it() {
        let topology = Topology::here().unwrap();
        assert!(topology.cores <= topology.threads);
        for node in &topology.nodes {
            assert!(node.processors.len() <= topology.threads as usize, "{topology:?}");
        }
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(numbers("0-3,8,10-11").unwrap(), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(numbers("").unwrap(), [0_usize; 0]);
        assert_eq!(numbers_below("0-9999999999", 3).unwrap(), [0, 1, 2]);
        for text in ["a", "1-", "-1", "1-b", "1 2"] {
            assert!(numbers(text).is_err(), "{text}");
        }
    }
}
