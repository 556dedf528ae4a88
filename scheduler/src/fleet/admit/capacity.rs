//! Cpu, memory and what else a host has: how much may be charged, and whether that is enough.

use super::{Load, Wish, left_after};
use crate::fleet::Fleet;
use berth_model::explanation::Refusal;
use berth_model::{Bytes, Host, Permille, Resources};

impl Fleet {
    /// All that may be charged on a host.
    pub fn limit_of_host(&self, host: &Host) -> Resources {
        self.limit_within(host, host.facts.capacity)
    }

    /// All that may be charged on this part of a host.
    pub(super) fn limit_within(&self, host: &Host, capacity: Resources) -> Resources {
        let Some(cluster) = self.cluster(host.cluster) else { return capacity };
        let policy = &cluster.policy;
        Resources {
            cpu: capacity
                .cpu
                .permille(left_after(policy.cpu_reserve))
                .permille(policy.cpu_overcommit),
            memory: capacity
                .memory
                .permille(left_after(policy.memory_reserve))
                .permille(policy.memory_overcommit),
        }
    }

    /// What may still be charged on a host: nothing where its capacity was lowered below that.
    pub fn free_on_host(&self, host: &Host) -> Resources {
        let limit = self.limit_of_host(host);
        Resources {
            cpu: limit.cpu.saturating_sub(host.charged.cpu),
            memory: limit.memory.saturating_sub(host.charged.memory),
        }
    }

    /// All memory that may be reserved on a host: reservations are never overcommitted.
    pub fn reservable_on_host(&self, host: &Host) -> Bytes {
        let reserve = self.cluster(host.cluster).map_or(Permille(0), |c| c.policy.memory_reserve);
        host.facts.capacity.memory.permille(left_after(reserve))
    }

    /// Whether the cluster would keep these shares of what its hosts could be charged.
    pub(super) fn kept_share(
        &self,
        host: &Host,
        wish: &Wish<'_>,
        cpu: Permille,
        memory: Permille,
    ) -> Result<(), Refusal> {
        let load = self.load_of_cluster(host.cluster);
        let charge = wish.demand.charge(host.facts.vm_overhead);
        let limit = Resources {
            cpu: load.limit.cpu.permille(left_after(cpu)),
            memory: load.limit.memory.permille(left_after(memory)),
        };
        let short = if load.charged.cpu + charge.cpu > limit.cpu {
            format!("{}.{} % of the cluster's cpu", cpu.0 / 10, cpu.0 % 10)
        } else if load.charged.memory + charge.memory > limit.memory {
            format!("{}.{} % of the cluster's memory", memory.0 / 10, memory.0 % 10)
        } else {
            return Ok(());
        };
        let kept = format!("{short} is kept for the loss of a host");
        Err(Refusal::FailoverShort { lost: Vec::new(), kept })
    }
}

pub(super) fn capacity(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let demand = wish.demand;
    let free = match wish.load {
        Load::Now => fleet.free_on_host(host),
        Load::Ever => fleet.limit_of_host(host),
    };
    let needed = demand.charge(host.facts.vm_overhead);
    if needed.cpu > free.cpu {
        return Err(Refusal::CpuShort { needed: needed.cpu, free: free.cpu });
    }
    if needed.memory > free.memory {
        return Err(Refusal::MemoryShort { needed: needed.memory, free: free.memory });
    }
    if demand.memory_reservation > Bytes::ZERO {
        reservation(fleet, host, wish)?;
    }
    if !demand.resources.is_empty() {
        resources(host, wish)?;
    }
    if demand.numa.is_some() {
        super::numa::check(fleet, host, wish)?;
    }
    if demand.shares.any() && !host.facts.supply.shares {
        return Err(Refusal::NoShares);
    }
    Ok(())
}

fn reservation(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let needed = wish.demand.memory_reservation;
    let all = fleet.reservable_on_host(host);
    let free = match wish.load {
        Load::Now => all.saturating_sub(host.held.reserved),
        Load::Ever => all,
    };
    if needed > free { Err(Refusal::ReservationShort { needed, free }) } else { Ok(()) }
}

fn resources(host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    for (name, needed) in &wish.demand.resources {
        let all = host.facts.supply.resources.get(name).copied().unwrap_or(0);
        let held = match wish.load {
            Load::Now => host.held.resources.get(name).copied().unwrap_or(0),
            Load::Ever => 0,
        };
        let free = all.saturating_sub(held);
        if *needed > free {
            return Err(Refusal::ResourceShort { name: name.clone(), needed: *needed, free });
        }
    }
    Ok(())
}
