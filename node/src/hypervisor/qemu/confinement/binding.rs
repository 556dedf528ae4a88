//! Binding of a container VM to NUMA nodes of this machine.
//!
//! The hypervisor process may run on the processors of all its nodes only, from before its program
//! is loaded; its guest's memory is bound by the command line; with more than one node each virtual
//! CPU is then held on the processors of its own, so that what the guest takes for near is near.
//!
//! Promises: a node that is not there, or that has no processors or memory that this process may use,
//! is an error that says what to do. Does not: choose nodes.

use super::super::command_line::processors_of_nodes;
use super::super::qmp::Monitor;
use crate::hypervisor::LaunchError;
use crate::topology::Topology;
use rustix::process::Pid;
use rustix::thread::CpuSet;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Numbers of the nodes and their processors, in the order of the guest's own nodes.
    nodes: Vec<(u16, CpuSet)>,
}

impl Binding {
    /// `None` if nothing is to be bound.
    pub fn to(nodes: &[u16]) -> Result<Option<Binding>, LaunchError> {
        if nodes.is_empty() {
            return Ok(None);
        }
        let refused = |reason| LaunchError::Numa { nodes: nodes.to_vec(), reason };
        let topology = Topology::here()
            .map_err(|error| refused(format!("this machine does not show its nodes: {error}")))?;
        let found = nodes.iter().map(|id| {
            let node = topology.nodes.iter().find(|node| node.id == *id);
            let node = node.ok_or_else(|| refused(format!("there is no node {id} here")))?;
            if !node.can_bind() {
                let text = format!("node {id} has no processors or memory that may be used");
                return Err(refused(text));
            }
            Ok((*id, node.processor_set()))
        });
        Ok(Some(Binding { nodes: found.collect::<Result<_, _>>()? }))
    }

    pub fn numbers(&self) -> Vec<u16> {
        self.nodes.iter().map(|(id, _)| *id).collect()
    }

    /// Processors of all its nodes.
    pub fn processors(&self) -> CpuSet {
        union(self.nodes.iter().map(|(_, processors)| processors))
    }

    /// Holds each thread that runs virtual CPUs on the processors of their nodes.
    pub async fn hold(&self, monitor: &Monitor, vcpus: u64) -> Result<(), LaunchError> {
        if self.nodes.len() < 2 {
            // The whole process is held there already.
            return Ok(());
        }
        let threads = monitor.vcpu_threads().await.map_err(LaunchError::Monitor)?;
        for (thread, processors) in self.threads(&threads, vcpus) {
            let held = match i32::try_from(thread).ok().and_then(Pid::from_raw) {
                Some(thread) => rustix::thread::sched_setaffinity(Some(thread), &processors),
                None => Err(rustix::io::Errno::SRCH),
            };
            held.map_err(|error| LaunchError::Numa {
                nodes: self.numbers(),
                reason: format!("thread {thread} of its virtual CPUs cannot be held: {error}"),
            })?;
        }
        Ok(())
    }

    /// A translator may run several virtual CPUs in one thread, which then needs all their nodes.
    fn threads(&self, threads: &[(u64, u64)], vcpus: u64) -> BTreeMap<u64, CpuSet> {
        let parts = processors_of_nodes(vcpus, self.nodes.len());
        let mut held = BTreeMap::new();
        for (vcpu, thread) in threads {
            let part = parts.iter().position(|part| part.contains(vcpu));
            if let Some((_, processors)) = part.and_then(|part| self.nodes.get(part)) {
                let all = held.entry(*thread).or_insert_with(CpuSet::new);
                *all = union([&*all, processors]);
            }
        }
        held
    }
}

fn union<'a>(sets: impl IntoIterator<Item = &'a CpuSet>) -> CpuSet {
    let mut all = CpuSet::new();
    for set in sets {
        (0..CpuSet::MAX_CPU).filter(|number| set.is_set(*number)).for_each(|at| all.set(at));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(processors: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        processors.iter().for_each(|at| set.set(*at));
        set
    }

    fn binding() -> Binding {
        Binding { nodes: vec![(0, set(&[0, 1])), (2, set(&[4, 5]))] }
    }

    #[test]
    fn each_virtual_cpu_is_held_on_its_own_node() {
        let held = binding().threads(&[(0, 100), (1, 101), (2, 102)], 3);
        assert_eq!(held[&100], set(&[0, 1]));
        assert_eq!(held[&101], set(&[0, 1]));
        assert_eq!(held[&102], set(&[4, 5]));
        assert_eq!(binding().processors(), set(&[0, 1, 4, 5]));
    }

    #[test]
    fn one_thread_for_all_virtual_cpus_may_run_on_all_nodes() {
        let held = binding().threads(&[(0, 100), (1, 100)], 2);
        assert_eq!(held, BTreeMap::from([(100, set(&[0, 1, 4, 5]))]));
    }

    #[test]
    fn a_node_that_is_not_here_is_refused_with_what_to_do() {
        let error = Binding::to(&[65_000]).unwrap_err().to_string();
        assert!(error.contains("no node 65000") && error.contains("start it again"), "{error}");
        assert_eq!(Binding::to(&[]).unwrap(), None);
    }
}
