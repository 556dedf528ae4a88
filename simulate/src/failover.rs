//! `berth bench failover`: admission control that keeps capacity for the loss of hosts, exactly.
//!
//! Cases `n+1` and `n+2` (any one host, any two), `n+1-apart` with groups of ten of which no two may
//! share a host, and `n+1-brim` on a cell so full that arrivals are refused. A full cell's container VMs come and go; each arrival is asked first
//! ([`Failover::would_hold`]). What is counted is the whole upkeep: asking, placing, removing.
//!
//! Promises: answers are held against a plain rerun: after a yes every loss is planned from
//! scratch and must place everything, after a no the loss that was named must not. With two losses
//! and many hosts the pairs are too many: some are drawn.

use crate::checks::none_of;
use crate::clock;
use crate::made_up::{self, MadeUp, VM_OVERHEAD};
use crate::sheet::Sheet;
use crate::spread::quantile;
use berth_model::{Permille, Resources};
use berth_scheduler::failover::{
    ANY_HOST, Cluster, Failover, Handle, Host, Room, Shortfall, Slot, Tolerance, Vm,
};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use std::time::Duration;

const BENCH: &str = "failover";
const FILL: Permille = Permille(850);
/// Less than one host of a thousand is free.
const BRIM: Permille = Permille(999);
/// Arrivals that are asked about, at most as many as there are container VMs.
const CHECKS_MAX: u32 = 2_000;
/// Every so manieth answer is held against a rerun.
const SAMPLED: u32 = 50;
/// Pairs of hosts that are planned again for one answer, at most.
const PAIRS_MAX: usize = 20_000;
const GROUP: u32 = 10;
const HOST_SCOPE: u32 = 0;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub hosts: u32,
    pub vms: u32,
    pub seed: u64,
}

pub fn run(options: Options) -> Sheet {
    let Options { hosts, vms, .. } = options;
    let about = format!(
        "{hosts} hosts, {vms} container VMs, 85 % or quite full, coming and going; the shipped admission \
         control in memory"
    );
    let mut sheet = Sheet::new(BENCH, about);
    for (case, tolerance, fill, apart) in [
        ("n+1", Tolerance::One, FILL, false),
        ("n+1-brim", Tolerance::One, BRIM, false),
        ("n+1-apart", Tolerance::One, FILL, true),
        ("n+2", Tolerance::Two, FILL, false),
    ] {
        // Groups of ten that are apart need hosts to be apart on.
        if apart && hosts < 2 * GROUP {
            continue;
        }
        let began = clock::process_cpu();
        let mut bench = Bench::fill(options, tolerance, fill, apart);
        let holds = bench.failover.holds().is_ok();
        let filling = clock::process_cpu().saturating_sub(began);
        bench.churn();
        bench.tell(&mut sheet, case, filling, holds);
    }
    sheet
}

struct Bench {
    failover: Failover,
    tolerance: Tolerance,
    apart: bool,
    hosts: u32,
    limit: Room,
    free: Vec<Room>,
    /// By handle.
    placed: Vec<(Slot, Room)>,
    /// Number of the next container VM.
    next: u32,
    /// Where the search for room begins.
    slot: Slot,
    source: StdRng,
    found: Found,
}

#[derive(Debug, Default)]
struct Found {
    cpu: Duration,
    each: Vec<f64>,
    held: u64,
    refused: u64,
    reruns: u64,
    plans_rerun: u64,
    wrong: Vec<String>,
}

impl Bench {
    fn fill(options: Options, tolerance: Tolerance, fill: Permille, apart: bool) -> Bench {
        let Options { hosts, vms, seed } = options;
        let capacity = MadeUp::new(hosts, vms, fill, seed).capacity();
        let limit = room(capacity);
        let host = Host { limit, receives: true, counted: true, standby: false };
        let many = usize::try_from(hosts).unwrap_or(usize::MAX);
        let mut failover = Failover::new(&vec![host; many], tolerance);
        failover.set_scope(HOST_SCOPE, Some);
        let mut bench = Bench {
            failover,
            tolerance,
            apart,
            hosts,
            limit,
            free: vec![limit; many],
            placed: Vec::new(),
            next: 0,
            slot: 0,
            source: StdRng::seed_from_u64(seed),
            found: Found::default(),
        };
        for handle in 0..vms {
            let vm = bench.fresh();
            let Some(slot) = bench.slot_for(vm.demand) else { break };
            bench.keep(handle, slot, vm.demand);
            bench.failover.place(handle, vm, slot);
        }
        bench
    }

    /// The next one; with groups, ten in a row are one.
    fn fresh(&mut self) -> Vm {
        let number = self.next;
        self.next += 1;
        let group = number / GROUP;
        if self.apart && number.is_multiple_of(GROUP) {
            self.failover.set_group(group, HOST_SCOPE, 1);
        }
        Vm {
            demand: room(made_up::demand(number).charge(VM_OVERHEAD)),
            priority: 0,
            hash: self.source.next_u64(),
            class: ANY_HOST,
            groups: if self.apart { Box::new([group]) } else { Box::default() },
        }
    }

    /// The next host in turn with room: those that follow each other are on different hosts.
    fn slot_for(&mut self, demand: Room) -> Option<Slot> {
        let hosts = self.hosts;
        let turn = (0..hosts).map(|step| (self.slot + step) % hosts);
        let slot = turn.into_iter().find(|slot| self.free[*slot as usize].covers(demand))?;
        self.slot = (slot + 1) % hosts;
        Some(slot)
    }

    fn keep(&mut self, handle: Handle, slot: Slot, demand: Room) {
        let free = &mut self.free[slot as usize];
        *free = free.less(demand);
        let handle = handle as usize;
        if handle == self.placed.len() {
            self.placed.push((slot, demand));
        } else {
            self.placed[handle] = (slot, demand);
        }
    }

    /// One leaves, one comes, with the same handle.
    fn churn(&mut self) {
        for round in 0..CHECKS_MAX.min(self.next) {
            if self.placed.is_empty() {
                return;
            }
            let handle = self.source.random_range(0..self.placed.len());
            let (old_slot, old) = self.placed[handle];
            let vm = self.fresh();
            let began = clock::process_cpu();
            let handle = u32::try_from(handle).unwrap_or(u32::MAX);
            let gone = self.failover.remove(handle);
            self.free[old_slot as usize] = self.free[old_slot as usize].plus(old);
            let slot = self.slot_for(vm.demand);
            let answer = slot.map(|slot| self.failover.would_hold(handle, &vm, slot));
            let mut taken = clock::process_cpu().saturating_sub(began);
            if let (Some(slot), Some(answer)) = (slot, &answer)
                && round.is_multiple_of(SAMPLED)
            {
                // Asking for the cluster takes the question back; the next one asks anew.
                self.rerun(handle, &vm, slot, answer);
            }
            let began = clock::process_cpu();
            match (slot, answer) {
                (Some(slot), Some(Ok(()))) => {
                    self.keep(handle, slot, vm.demand);
                    self.failover.place(handle, vm, slot);
                    self.found.held += 1;
                }
                // It stays as it was.
                _ => {
                    self.keep(handle, old_slot, old);
                    if let Some((vm, slot)) = gone {
                        self.failover.place(handle, vm, slot);
                    }
                    self.found.refused += 1;
                }
            }
            taken += clock::process_cpu().saturating_sub(began);
            self.found.cpu += taken;
            self.found.each.push(taken.as_secs_f64() * 1e6);
        }
    }

    /// Plans losses from scratch on a copy.
    fn rerun(&mut self, handle: Handle, vm: &Vm, slot: Slot, answer: &Result<(), Shortfall>) {
        self.found.reruns += 1;
        let mut plain = self.failover.cluster().clone();
        plain.place(handle, vm.clone(), slot);
        match answer {
            Ok(()) => {
                let losses = self.losses();
                self.found.plans_rerun += losses.len() as u64;
                let failing = losses.into_iter().find(|lost| !covered(&plain, lost));
                self.found.wrong.extend(failing.map(|lost| {
                    format!("yes to {handle} on {slot}, but the loss of {lost:?} is not covered")
                }));
            }
            Err(Shortfall::Loss { lost, .. }) => {
                self.found.plans_rerun += 1;
                if covered(&plain, lost) {
                    let wrong = format!("no to {handle} on {slot}, but {lost:?} is covered");
                    self.found.wrong.push(wrong);
                }
            }
            Err(other) => self.found.wrong.push(format!("an answer of another policy: {other:?}")),
        }
    }

    /// Every single host; with two losses, pairs too, all or as many as are drawn.
    fn losses(&mut self) -> Vec<Vec<Slot>> {
        let hosts = self.hosts;
        let mut losses: Vec<Vec<Slot>> = (0..hosts).map(|slot| vec![slot]).collect();
        if self.tolerance == Tolerance::One {
            return losses;
        }
        let pairs = u64::from(hosts) * u64::from(hosts.saturating_sub(1)) / 2;
        if pairs <= PAIRS_MAX as u64 {
            losses.extend((0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| vec![a, b])));
        } else {
            losses.extend((0..PAIRS_MAX).filter_map(|_| {
                let (a, b) =
                    (self.source.random_range(0..hosts), self.source.random_range(0..hosts));
                (a != b).then(|| vec![a, b])
            }));
        }
        losses
    }

    fn tell(self, sheet: &mut Sheet, case: &str, filling: Duration, holds: bool) {
        let Found { cpu, each, held, refused, reruns, plans_rerun, wrong } = self.found;
        let checks = held + refused;
        let mean = cpu.as_secs_f64() * 1e6 / checks.max(1) as f64;
        sheet.figure(case, "us_per_check", mean, "us");
        for (name, permille) in [("p50_us", 500), ("p99_us", 990)] {
            if let Some(value) = quantile(&each, permille) {
                sheet.figure(case, name, value, "us");
            }
        }
        sheet.figure(case, "checks", checks as f64, "count");
        sheet.figure(case, "refused", refused as f64, "count");
        sheet.figure(case, "covered_when_full", f64::from(u8::from(holds)), "bool");
        sheet.figure(case, "cpu_seconds_to_fill", filling.as_secs_f64(), "s");
        let effort = self.failover.effort();
        sheet.figure(case, "pairs_kept", effort.pairs_kept as f64, "count");
        let free: u64 = self.free.iter().map(|room| room.memory).sum();
        let all = self.limit.memory.saturating_mul(self.free.len() as u64).max(1);
        sheet.figure(case, "memory_charged", 100.0 - free as f64 * 100.0 / all as f64, "percent");
        let detail = format!("{reruns} answers held against {plans_rerun} plans from scratch");
        sheet.check(case, "answers_are_exact", none_of(&wrong, detail));
    }
}

fn covered(cluster: &Cluster, lost: &[Slot]) -> bool {
    cluster.restart_plan(lost).iter().all(|(_, target)| target.is_some())
}

fn room(resources: Resources) -> Room {
    Room::new(resources.cpu.0, resources.memory.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_equal_a_plain_rerun() {
        for (hosts, vms) in [(24, 240), (6, 60)] {
            let sheet = run(Options { hosts, vms, seed: 1 });
            assert_eq!(sheet.failed(), 0, "{}", sheet.text());
            assert!(sheet.value("n+2", "us_per_check").is_some());
            assert!(sheet.value("n+1-brim", "refused").unwrap() > 0.0, "{}", sheet.text());
        }
    }
}
