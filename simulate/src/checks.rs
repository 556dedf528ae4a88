//! What must hold for a benchmark's figures to count, recounted from the parts.
//!
//! Promises: sums that the fleet keeps are not believed: every held place and every container VM is
//! counted again. Does not: know rules; `rules::referee` does.

use berth_model::{Bytes, ContainerVm, Host, HostId, NumaNodes, Resources};
use berth_scheduler::Fleet;
use std::collections::BTreeMap;

/// What is taken of one host.
#[derive(Debug, Default)]
struct Taken {
    charge: Resources,
    reserved: Bytes,
    numa: BTreeMap<usize, Resources>,
    resources: BTreeMap<String, u64>,
}

impl Taken {
    fn take(&mut self, charge: Resources, numa: NumaNodes, demand: &berth_model::Demand) {
        self.charge = self.charge + charge;
        self.reserved += demand.memory_reservation;
        let width = u64::from(numa.count().max(1));
        for node in numa.positions() {
            let share = Resources {
                cpu: berth_model::MilliCpus(charge.cpu.0.div_ceil(width)),
                memory: Bytes(charge.memory.0.div_ceil(width)),
            };
            let taken = self.numa.entry(node).or_default();
            *taken = *taken + share;
        }
        for (name, amount) in &demand.resources {
            *self.resources.entry(name.clone()).or_default() += amount;
        }
    }

    fn exceeds(&self, fleet: &Fleet, host: &Host) -> bool {
        let limit = fleet.limit_of_host(host);
        let supply = &host.facts.supply;
        let numa = self.numa.iter().any(|(node, taken)| {
            supply.numa.get(*node).is_none_or(|node| {
                taken.cpu > node.capacity.cpu || taken.memory > node.capacity.memory
            })
        });
        let short = |(name, amount): (&String, &u64)| {
            supply.resources.get(name).copied().unwrap_or(0) < *amount
        };
        self.charge.cpu > limit.cpu
            || self.charge.memory > limit.memory
            || self.reserved > host.facts.capacity.memory
            || numa
            || self.resources.iter().any(short)
    }
}

/// Names the hosts and datastores that hold more than they may.
pub fn over_capacity(fleet: &Fleet) -> Vec<String> {
    let mut hosts: BTreeMap<HostId, Taken> = BTreeMap::new();
    let mut disks: BTreeMap<berth_model::DatastoreId, Bytes> = BTreeMap::new();
    for held in fleet.reservations() {
        let demand = &held.wish.demand;
        let taken = hosts.entry(held.place.host).or_default();
        taken.take(held.charge, held.place.numa, demand);
        if let Some(delta) = held.place.delta {
            *disks.entry(delta).or_default() += demand.disk;
        }
        for (disk, datastore) in demand.disks.iter().zip(&held.place.disks) {
            *disks.entry(*datastore).or_default() += disk.size;
        }
    }
    for vm in fleet.containers() {
        count_container(vm, &mut hosts, &mut disks);
    }
    let over = hosts
        .iter()
        .filter(|(id, taken)| fleet.host(**id).is_none_or(|host| taken.exceeds(fleet, host)));
    let over = over.map(|(id, _)| id.to_string());
    let full = disks.iter().filter(|(id, taken)| {
        fleet.datastore(**id).is_none_or(|store| **taken > fleet.limit_of_datastore(store))
    });
    over.chain(full.map(|(id, _)| id.to_string())).collect()
}

fn count_container(
    vm: &ContainerVm,
    hosts: &mut BTreeMap<HostId, Taken>,
    disks: &mut BTreeMap<berth_model::DatastoreId, Bytes>,
) {
    if let Some((host, charge)) = vm.state.charged() {
        hosts.entry(host).or_default().take(charge, vm.numa, &vm.spec.demand);
    }
    if let Some(datastore) = vm.datastore {
        *disks.entry(datastore).or_default() += vm.spec.demand.disk;
    }
}

/// The answer of a check that found `wrong`.
pub fn none_of(wrong: &[String], detail: impl Into<String>) -> Result<String, String> {
    const SHOWN: usize = 8;
    if wrong.is_empty() {
        return Ok(detail.into());
    }
    let shown = wrong[..wrong.len().min(SHOWN)].join("; ");
    Err(if wrong.len() > SHOWN { format!("{shown}; {} in all", wrong.len()) } else { shown })
}

/// Share of the hosts' cpu or memory that is charged, whichever is fuller, in percent.
pub fn fill_percent(fleet: &Fleet) -> f64 {
    let (mut cpu, mut memory) = ([0.0; 2], [0.0; 2]);
    for host in fleet.hosts() {
        let limit = fleet.limit_of_host(host);
        cpu = [cpu[0] + host.charged.cpu.0 as f64, cpu[1] + limit.cpu.0 as f64];
        memory = [memory[0] + host.charged.memory.0 as f64, memory[1] + limit.memory.0 as f64];
    }
    let share = |[taken, there]: [f64; 2]| taken * 100.0 / there.max(1.0);
    share(cpu).max(share(memory))
}
