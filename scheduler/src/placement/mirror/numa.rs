//! NUMA nodes of a host, with what tickets took. As `fleet::admit` chooses them.

use super::dense::Cold;
use crate::fleet::admit::numa_share;
use crate::placement::Load;
use berth_model::{Bytes, MilliCpus, NumaNodes, Resources};

/// Nodes with room for a share of the charge: memory left, cpu left, position.
pub fn fitting(
    cold: &Cold,
    charge: Resources,
    width: u32,
    load: Load,
) -> impl Iterator<Item = (Bytes, MilliCpus, usize)> + '_ {
    let share = numa_share(charge, width);
    cold.numa.iter().enumerate().filter_map(move |(position, limit)| {
        let held = match load {
            Load::Now => cold.held.numa.get(position).copied().unwrap_or_default(),
            Load::Ever => Resources::default(),
        };
        let cpu = limit.cpu.saturating_sub(held.cpu);
        let memory = limit.memory.saturating_sub(held.memory);
        let fits = share.cpu <= cpu && share.memory <= memory;
        fits.then(|| (memory - share.memory, cpu - share.cpu, position))
    })
}

/// The tightest nodes; `None` where too few fit.
pub fn choose(cold: &Cold, charge: Resources, width: u8) -> Option<NumaNodes> {
    let mut fitting: Vec<_> = fitting(cold, charge, u32::from(width), Load::Now).collect();
    fitting.sort_unstable();
    let tightest = fitting.get(..usize::from(width))?;
    Some(NumaNodes::of(&tightest.iter().map(|(_, _, position)| *position).collect::<Vec<_>>()))
}
