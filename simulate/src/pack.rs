//! `berth bench pack`: how few hosts a real mix takes, online and after live migrations.
//!
//! What was alive after the first requests of a trace arrives again, one by one in its order, at a
//! cell whose cluster packs: the shipped fleet, mirror and strategy. Then the shipped packing plan
//! empties hosts within a budget of moves. Beside them: first fit and best fit in the same order,
//! and the bound of the linear programme over patterns, which nothing beats.
//!
//! Promises: the moves are carried out one by one by plain code here, which must find each of them
//! legal. Does not: migrate.

use crate::cell::{self, Cell};
use crate::checks::{none_of, over_capacity};
use crate::clock;
use crate::engine::{Engine, EngineError};
use crate::mix::{Mix, sized};
use crate::plan::hosts_used;
use crate::sheet::Sheet;
use crate::trace::{Source, Trace, TraceError};
use berth_model::{Bytes, Demand, HostId, Permille, Resources, Strategy};
use berth_scheduler::packing::{
    Budget, Guide, HostRow, Plan, Settings, VmRow, lower_bound, plan_moves,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;

const BENCH: &str = "pack";
/// Hosts that are there, over what best fit takes, in thousandths: nobody may run out of them.
const THERE: Permille = Permille(1250);

#[derive(Clone, Debug)]
pub struct Options {
    pub trace: Option<Source>,
    /// Requests of the trace after which is looked who is alive.
    pub first: u32,
    pub host: Resources,
    pub batch: u32,
    /// Moves at most, in thousandths of the container VMs.
    pub moves: Permille,
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("a container VM of {0} and {1} fits no host; name larger ones with --host")]
    TooLarge(berth_model::MilliCpus, Bytes),
}

pub fn run(options: &Options) -> Result<Sheet, PackError> {
    let (case, demands) = demands(options)?;
    let size = options.host;
    let charges: Vec<Resources> = demands.iter().map(|demand| demand.charge(Bytes::ZERO)).collect();
    if let Some(large) = charges.iter().find(|charge| !fits(**charge, size)) {
        return Err(PackError::TooLarge(large.cpu, large.memory));
    }
    let about = format!(
        "{} container VMs of the {case} mix on hosts of {} and {}, no overcommit; the shipped \
         pack strategy through fleet and mirror, {} decisions a command; in memory",
        charges.len(),
        size.cpu,
        size.memory,
        options.batch
    );
    let mut sheet = Sheet::new(BENCH, about);
    let bound = lower_bound(size, &charges);
    let best_fit = greedy(size, &charges, |after| {
        after.cpu.0 * size.memory.0 / 1000 + after.memory.0 / 1000 * size.cpu.0
    });
    let first_fit = greedy(size, &charges, |_| 0);
    let mut falling = charges.clone();
    falling.sort_by_key(|charge| Reverse((charge.cpu, charge.memory)));
    let decreasing = greedy(size, &falling, |_| 0);

    let there = (best_fit * u64::from(THERE.0)).div_ceil(1000) + 1;
    let mut online = Online::place(&demands, size, there, options)?;
    let used = hosts_used(online.engine.fleet());
    let began = clock::process_cpu();
    let moved = online.plan(options.moves);
    let cpu = clock::process_cpu().saturating_sub(began);
    let wrong = online.carry_out(&moved);
    let after = online.used();

    let each = online.engine.spent.cpu().as_secs_f64() * 1e6 / charges.len().max(1) as f64;
    sheet.figure(case, "hosts_used", used, "hosts");
    sheet.figure(case, "hosts_after_moves", after as f64, "hosts");
    sheet.figure(case, "moves", moved.moves.len() as f64, "count");
    sheet.figure(case, "lower_bound", bound as f64, "hosts");
    sheet.figure(case, "first_fit", first_fit as f64, "hosts");
    sheet.figure(case, "best_fit", best_fit as f64, "hosts");
    sheet.figure(case, "first_fit_decreasing", decreasing as f64, "hosts");
    let over = |hosts: f64| (hosts / bound.max(1) as f64 - 1.0) * 100.0;
    sheet.figure(case, "over_bound", over(used), "percent");
    sheet.figure(case, "over_bound_after_moves", over(after as f64), "percent");
    sheet.figure(case, "vms", charges.len() as f64, "count");
    sheet.figure(case, "cpu_us_per_decision", each, "us");
    sheet.figure(case, "moves_cpu_seconds", cpu.as_secs_f64(), "s");
    let all = online.engine.spent.decisions == charges.len() as u64;
    let detail = format!("{} of {} on {there} hosts", online.engine.spent.decisions, charges.len());
    sheet.check(case, "all_placed", if all { Ok(detail) } else { Err(detail) });
    let over = over_capacity(online.engine.fleet());
    sheet.check(case, "nothing_over_capacity", none_of(&over, "all hosts recounted"));
    let detail = format!("{} moves carried out one by one", moved.moves.len());
    sheet.check(case, "moves_are_legal", none_of(&wrong, detail));
    let invariants = online.engine.fleet().check_invariants();
    sheet.check(case, "invariants", invariants.map(|()| "when all is placed".to_owned()));
    let sound = bound as f64 <= used && bound <= after as u64;
    let detail = format!("{bound} at least");
    sheet.check(case, "bound_is_not_beaten", if sound { Ok(detail) } else { Err(detail) });
    Ok(sheet)
}

/// What arrives, and what it is called.
fn demands(options: &Options) -> Result<(&'static str, Vec<Demand>), TraceError> {
    let count = usize::try_from(options.first).unwrap_or(usize::MAX);
    Ok(match options.trace.as_ref().map(Source::read).transpose()? {
        None => ("made-up", Mix::made_up().demands(count)),
        Some(Trace::Azure(azure)) => {
            let alive = azure.alive_after(count);
            ("azure", alive.iter().map(crate::trace::azure::Request::demand).collect())
        }
        // Of these nobody is known to leave.
        Some(trace @ (Trace::Huawei(_) | Trace::Alibaba(_))) => {
            let plain =
                |demand: Demand| Demand { numa: None, resources: BTreeMap::new(), ..demand };
            (trace.name(), trace.demands().into_iter().take(count).map(plain).collect())
        }
    })
}

fn fits(charge: Resources, free: Resources) -> bool {
    charge.cpu <= free.cpu && charge.memory <= free.memory
}

/// Hosts that a greedy takes which opens one only when nothing fits; the least score wins, the
/// first of equals.
fn greedy(size: Resources, charges: &[Resources], score: impl Fn(Resources) -> u64) -> u64 {
    let mut open: Vec<Resources> = Vec::new();
    for charge in charges {
        let candidates = open.iter().enumerate().filter(|(_, free)| fits(*charge, **free));
        let best = candidates.min_by_key(|(at, free)| (score(**free - *charge), *at));
        match best.map(|(at, _)| at) {
            Some(at) => open[at] = open[at] - *charge,
            None => open.push(size - *charge),
        }
    }
    open.len() as u64
}

struct Online {
    engine: Engine,
    hosts: Vec<HostRow>,
    vms: Vec<VmRow>,
}

impl Online {
    fn place(
        demands: &[Demand],
        size: Resources,
        hosts: u64,
        options: &Options,
    ) -> Result<Online, EngineError> {
        let facts = (0..usize::try_from(hosts).unwrap_or(usize::MAX)).map(|at| sized(at, size));
        let cell = Cell::of(facts, cell::policy(Strategy::Pack));
        let mut engine = Engine::new(cell, options.seed)?;
        let positions: BTreeMap<HostId, usize> =
            engine.fleet().hosts().enumerate().map(|(at, host)| (host.id, at)).collect();
        let row =
            HostRow { limit: size, held: Resources::default(), may_give: true, may_receive: true };
        let mut online = Vec::with_capacity(demands.len());
        let mix = Mix::of(demands.iter().cloned());
        let (mut next, many) = (0, demands.len() as u64);
        while next < many {
            let count = u64::from(options.batch.max(1)).min(many - next);
            let wishes = mix.batch(next, count);
            next += count;
            for (wish, held) in wishes.iter().zip(engine.place(&wishes)?) {
                let host = held.and_then(|held| positions.get(&held.place.host).copied());
                let (charge, memory) =
                    (wish.demand.charge(Bytes::ZERO), wish.demand.memory_class());
                let vm = |host| VmRow { host, charge, memory, movable: true };
                online.extend(host.map(vm));
            }
        }
        Ok(Online { engine, hosts: vec![row; positions.len()], vms: online })
    }

    fn plan(&self, moves: Permille) -> Plan {
        let mut mix: BTreeMap<(u64, u64), (Resources, u64)> = BTreeMap::new();
        for vm in &self.vms {
            let key = (vm.charge.cpu.0, vm.charge.memory.0);
            mix.entry(key).or_insert((vm.charge, 0)).1 += 1;
        }
        let size = self.hosts.first().map(|row| row.limit).unwrap_or_default();
        let many = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let guide = Guide::learn(&[(size, many)], &mix.into_values().collect::<Vec<_>>());
        let moves = self.vms.len() as u64 * u64::from(moves.0) / 1000;
        let moves = u32::try_from(moves).unwrap_or(u32::MAX);
        let budget = Budget { moves, memory: Bytes(u64::MAX) };
        plan_moves(&self.hosts, &self.vms, budget, &guide, &Settings::default(), |_, _, _| true)
    }

    /// What is not as it should be.
    fn carry_out(&mut self, plan: &Plan) -> Vec<String> {
        let mut free: Vec<Option<Resources>> =
            self.hosts.iter().map(|row| Some(row.limit)).collect();
        for vm in &self.vms {
            free[vm.host] = free[vm.host].and_then(|free| taken(free, vm.charge));
        }
        let mut wrong = Vec::new();
        for (turn, made) in plan.moves.iter().enumerate() {
            let Some(vm) = self.vms.get_mut(made.vm).filter(|vm| vm.host == made.from) else {
                wrong.push(format!("move {turn}: it is not there"));
                continue;
            };
            vm.host = made.to;
            let room = free.get(made.to).copied().flatten();
            let after = room.and_then(|room| taken(room, vm.charge));
            if after.is_none() {
                wrong.push(format!("move {turn}: host {} is full", made.to));
            }
            if let Some(target) = free.get_mut(made.to) {
                *target = after;
            }
            free[made.from] = free[made.from].map(|free| free + vm.charge);
        }
        wrong
    }

    fn used(&self) -> usize {
        let hosts: std::collections::BTreeSet<usize> = self.vms.iter().map(|vm| vm.host).collect();
        hosts.len()
    }
}

fn taken(free: Resources, charge: Resources) -> Option<Resources> {
    fits(charge, free).then(|| free - charge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::host_size;

    fn options(trace: Option<Source>, host: Resources) -> Options {
        Options { trace, first: 200, host, batch: 10, moves: Permille(200), seed: 1 }
    }

    #[test]
    fn a_real_mix_is_packed_no_worse_than_first_fit_and_not_below_the_bound() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/azure-excerpt.csv");
        let trace = Some(Source::Azure(path.into()));
        let sheet = run(&options(trace, host_size(16, 112))).unwrap();
        assert_eq!(sheet.failed(), 0, "{}", sheet.text());
        let value = |figure| sheet.value("azure", figure).unwrap();
        assert!(value("hosts_after_moves") <= value("hosts_used"));
        assert!(value("hosts_used") <= value("first_fit") + 1.0, "{}", sheet.text());
    }

    #[test]
    fn what_fits_no_host_is_an_error() {
        let outcome = run(&options(None, host_size(1, 1)));
        assert!(matches!(outcome, Err(PackError::TooLarge(..))));
    }

    #[test]
    fn greedies_open_a_host_only_when_they_must() {
        let size = host_size(10, 10);
        let charges = [host_size(6, 6), host_size(5, 5), host_size(4, 4), host_size(5, 5)];
        assert_eq!(greedy(size, &charges, |_| 0), 2);
        assert_eq!(greedy(size, &[], |_| 0), 0);
    }
}
