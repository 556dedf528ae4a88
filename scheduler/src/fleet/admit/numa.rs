//! Which NUMA nodes a container VM is bound to.
//!
//! Promises: each chosen node has room for an even share of cpu and memory, under the cluster's
//! overcommit; the choice is the tightest fit (least memory left, then least cpu, then the first),
//! so it is the same wherever it is made.

use super::{Load, Wish};
use crate::fleet::Fleet;
use berth_model::explanation::Refusal;
use berth_model::{Bytes, Demand, Host, MilliCpus, NumaNodes, Resources};

/// What one of `width` nodes carries of a charge, rounded up.
pub fn numa_share(charge: Resources, width: u32) -> Resources {
    let width = u64::from(width.max(1));
    Resources {
        cpu: MilliCpus(charge.cpu.0.div_ceil(width)),
        memory: Bytes(charge.memory.0.div_ceil(width)),
    }
}

impl Fleet {
    /// The nodes that would be taken now; none for a demand that binds to none, `None` where too
    /// few have room.
    pub fn choose_numa(&self, host: &Host, demand: &Demand) -> Option<NumaNodes> {
        let Some(width) = demand.numa else { return Some(NumaNodes::NONE) };
        let mut fitting = self.fitting(host, demand, Load::Now);
        if fitting.len() < usize::from(width) {
            return None;
        }
        fitting.sort_unstable();
        let chosen: Vec<usize> =
            fitting[..usize::from(width)].iter().map(|(_, _, position)| *position).collect();
        Some(NumaNodes::of(&chosen))
    }

    /// Nodes with room for a share: memory left, cpu left, position.
    fn fitting(&self, host: &Host, demand: &Demand, load: Load) -> Vec<(Bytes, MilliCpus, usize)> {
        let width = u32::from(demand.numa.unwrap_or(1));
        let share = numa_share(demand.charge(host.facts.vm_overhead), width);
        let nodes = host.facts.supply.numa.iter().take(NumaNodes::MAX).enumerate();
        nodes
            .filter_map(|(position, _)| {
                let free = self.free_on_node(host, position, load);
                let fits = share.cpu <= free.cpu && share.memory <= free.memory;
                fits.then(|| {
                    let left = free - share;
                    (left.memory, left.cpu, position)
                })
            })
            .collect()
    }

    fn free_on_node(&self, host: &Host, position: usize, load: Load) -> Resources {
        let Some(node) = host.facts.supply.numa.get(position) else { return Resources::default() };
        let limit = self.limit_within(host, node.capacity);
        let held = match load {
            Load::Now => host.held.numa.get(position).copied().unwrap_or_default(),
            Load::Ever => Resources::default(),
        };
        Resources {
            cpu: limit.cpu.saturating_sub(held.cpu),
            memory: limit.memory.saturating_sub(held.memory),
        }
    }
}

pub(super) fn check(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let Some(width) = wish.demand.numa else { return Ok(()) };
    let fitting = fleet.fitting(host, wish.demand, wish.load);
    let fits = match wish.numa {
        None => fitting.len() >= usize::from(width),
        Some(nodes) => {
            nodes.count() == u32::from(width)
                && nodes.positions().all(|wanted| fitting.iter().any(|(_, _, at)| *at == wanted))
        }
    };
    if fits {
        return Ok(());
    }
    let fitting = u8::try_from(fitting.len()).unwrap_or(u8::MAX);
    Err(Refusal::NumaShort { needed: width, fitting })
}
