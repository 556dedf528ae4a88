//! `berth bench drs`: one balancing plan for a skewed cluster.
//!
//! Container VMs are crowded on the first hosts and use a random part of what they are charged;
//! groups of ten of which no two may share a host are apart before and must stay so.
//!
//! Promises: the plan is carried out move by move by plain code here, which must find each move
//! legal and the imbalance that was promised. Does not: migrate.

use crate::checks::none_of;
use crate::clock;
use crate::made_up::{self, MadeUp, VM_OVERHEAD};
use crate::sheet::Sheet;
use berth_model::{Bytes, MilliCpus, Permille, Resources};
use berth_scheduler::balancing::{self, HostRow, Plan, Settings, VmRow};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const BENCH: &str = "drs";
const CASE: &str = "skewed";
const FILL: Permille = Permille(600);
const GROUP: u32 = 10;
/// Of what it is charged, a container VM uses from this many thousandths up to all.
const USE_MIN: u64 = 200;
/// How far a recount may be from what the plan promises, in millionths: roots are rounded.
const ROUNDING: f64 = 2.0;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub hosts: u32,
    pub vms: u32,
    pub seed: u64,
}

pub fn run(options: Options) -> Sheet {
    let Options { hosts, vms, .. } = options;
    let ground = Ground::new(options);
    let began = clock::process_cpu();
    let settings = Settings::default();
    let plan = ground.plan(&settings);
    let cpu = clock::process_cpu().saturating_sub(began);

    let about = format!(
        "{hosts} hosts, {vms} container VMs crowded on the first of them, groups of {GROUP} apart; \
         the shipped balancing plan in memory, nothing is migrated"
    );
    let mut sheet = Sheet::new(BENCH, about);
    sheet.figure(CASE, "cpu_seconds", cpu.as_secs_f64(), "s");
    sheet.figure(CASE, "moves", plan.moves.len() as f64, "count");
    sheet.figure(CASE, "imbalance_before", plan.before.sum() as f64, "millionths");
    sheet.figure(CASE, "imbalance_after", plan.after.sum() as f64, "millionths");
    sheet.figure(CASE, "cpu_imbalance_after", plan.after.cpu as f64, "millionths");
    sheet.figure(CASE, "memory_imbalance_after", plan.after.memory as f64, "millionths");
    let per_move = cpu.as_secs_f64() / plan.moves.len().max(1) as f64;
    sheet.figure(CASE, "cpu_seconds_per_move", per_move, "s");
    let copied: Bytes = plan.moves.iter().map(|made| ground.vms[made.vm].memory).sum();
    sheet.figure(CASE, "memory_copied", copied.0 as f64, "bytes");

    let mut after = ground.clone();
    let wrong = after.carry_out(&plan);
    let detail = format!("{} moves carried out one by one", plan.moves.len());
    sheet.check(CASE, "moves_are_legal", none_of(&wrong, detail));
    let recounted = [ground.imbalance(), after.imbalance()];
    let promised = [plan.before.sum() as f64, plan.after.sum() as f64];
    let near = recounted.iter().zip(promised).all(|(a, b)| (a - b).abs() <= ROUNDING);
    let detail = format!("{:.0} before and {:.0} after, recounted", recounted[0], recounted[1]);
    sheet.check(CASE, "imbalance_is_true", if near { Ok(detail) } else { Err(detail) });
    let better = recounted[1] <= recounted[0];
    let detail = "not worse than before".to_owned();
    sheet.check(CASE, "balance_improves", if better { Ok(detail) } else { Err(detail) });
    let again = after.plan(&settings).moves.len();
    let detail = format!("a second plan has {again} moves");
    sheet.check(CASE, "balancing_ends", if again == 0 { Ok(detail) } else { Err(detail) });
    sheet
}

#[derive(Clone, Debug)]
struct Ground {
    hosts: Vec<HostRow>,
    vms: Vec<VmRow>,
}

impl Ground {
    fn new(options: Options) -> Ground {
        let Options { hosts, vms, seed } = options;
        let mut source = StdRng::seed_from_u64(seed);
        let size = MadeUp::new(hosts, vms, FILL, seed).capacity();
        let row = HostRow {
            size,
            limit: size,
            held_load: Resources::default(),
            held_charge: Resources::default(),
            may_give: true,
            may_receive: true,
        };
        let many = usize::try_from(hosts).unwrap_or(usize::MAX);
        let mut ground = Ground { hosts: vec![row; many], vms: Vec::new() };
        let mut charged = vec![Resources::default(); many];
        for number in 0..vms {
            let charge = made_up::demand(number).charge(VM_OVERHEAD);
            let used = source.random_range(USE_MIN..=1000);
            let load = Resources {
                cpu: MilliCpus(charge.cpu.0 * used / 1000),
                memory: Bytes(charge.memory.0 * used / 1000),
            };
            // The square of a uniform number crowds the beginning.
            let drawn: f64 = source.random();
            let first = ((drawn * drawn * f64::from(hosts)) as usize).min(many - 1);
            let vm = ground.vms.len();
            let free = |host: &usize| {
                let after = charged[*host] + charge;
                after.cpu <= size.cpu && after.memory <= size.memory
            };
            let mut turn = (0..many).map(|step| (first + step) % many);
            let Some(host) = turn.find(|host| free(host) && ground.apart(vm, *host)) else {
                continue;
            };
            charged[host] = charged[host] + charge;
            let memory = made_up::demand(number).memory_class();
            ground.vms.push(VmRow { host, load, charge, memory, movable: true });
        }
        ground
    }

    fn plan(&self, settings: &Settings) -> Plan {
        balancing::plan(&self.hosts, &self.vms, settings, |vm, host, at| {
            mates(vm).all(|mate| mate == vm || at.get(mate) != Some(&host))
        })
    }

    /// Whether nobody of the group is on the host.
    fn apart(&self, vm: usize, host: usize) -> bool {
        mates(vm).all(|mate| mate == vm || self.vms.get(mate).is_none_or(|row| row.host != host))
    }

    /// What is not as it should be.
    fn carry_out(&mut self, plan: &Plan) -> Vec<String> {
        let mut wrong = Vec::new();
        for (turn, made) in plan.moves.iter().enumerate() {
            let Some(row) = self.vms.get(made.vm).copied() else {
                wrong.push(format!("move {turn}: no such container VM"));
                continue;
            };
            if row.host != made.from || made.from == made.to || made.to >= self.hosts.len() {
                wrong.push(format!("move {turn}: it is not there, or goes nowhere"));
                continue;
            }
            if !self.apart(made.vm, made.to) {
                wrong.push(format!("move {turn}: one of its group is there"));
            }
            self.vms[made.vm].host = made.to;
            let there = self.vms.iter().filter(|vm| vm.host == made.to);
            let charged = there.fold(Resources::default(), |sum, vm| sum + vm.charge);
            let limit = self.hosts[made.to].limit;
            if charged.cpu > limit.cpu || charged.memory > limit.memory {
                wrong.push(format!("move {turn}: host {} is full", made.to));
            }
        }
        wrong
    }

    /// Standard deviations of the hosts' shares of cpu and memory, added, in millionths.
    fn imbalance(&self) -> f64 {
        let mut loads = vec![Resources::default(); self.hosts.len()];
        for vm in &self.vms {
            loads[vm.host] = loads[vm.host] + vm.load;
        }
        let shares = |share: fn(&Resources, &Resources) -> f64| {
            let shares: Vec<f64> =
                loads.iter().zip(&self.hosts).map(|(load, row)| share(load, &row.size)).collect();
            let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
            let squares: f64 = shares.iter().map(|share| (share - mean).powi(2)).sum();
            (squares / shares.len().max(1) as f64).sqrt() * 1e6
        };
        shares(|load, size| load.cpu.0 as f64 / size.cpu.0.max(1) as f64)
            + shares(|load, size| load.memory.0 as f64 / size.memory.0.max(1) as f64)
    }
}

/// Those of one group, itself too.
fn mates(vm: usize) -> impl Iterator<Item = usize> {
    let first = vm - vm % GROUP as usize;
    first..first + GROUP as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_cluster_is_balanced_by_legal_moves() {
        let sheet = run(Options { hosts: 20, vms: 300, seed: 1 });
        assert_eq!(sheet.failed(), 0, "{}", sheet.text());
        let value = |figure| sheet.value(CASE, figure).unwrap();
        assert!(value("moves") > 0.0);
        assert!(value("imbalance_after") < value("imbalance_before") / 2.0, "{}", sheet.text());
    }
}
