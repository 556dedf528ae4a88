//! Tries packing on a trace: `packing FILE.csv [REQUESTS]`, columns vm, arrive_s, batch, flavor,
//! vcpu, mem_gib, life_lo_s, life_hi_s, censored. Prints hosts used against the linear bound by
//! first fit, best fit, first fit decreasing and the guide, then after moves; then a replay with
//! departures on as many hosts as 105 % of the bound of the peak; then mixes that are hard for
//! heuristics.
//!
//! Does not: speak to a scheduler; `berth bench pack` is the benchmark.
#![expect(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use berth_model::{Bytes, MilliCpus, Resources};
use berth_scheduler::packing::{
    Budget, Guide, HostRow, Plan, Settings, VmRow, lower_bound, plan_moves,
};
use std::collections::BTreeMap;

const SIZES: [(u64, u64); 3] = [(40, 112), (80, 160), (96, 192)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    FirstFit,
    BestFit,
    Guided,
}

const POLICIES: [Policy; 3] = [Policy::FirstFit, Policy::BestFit, Policy::Guided];

#[derive(Clone, Copy, Debug)]
enum Event {
    Arrive(usize),
    Leave(usize),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("give a csv file")?;
    let first = arguments.next().map_or(Ok(50_000), |text| text.parse())?;
    let requests = read(&std::fs::read_to_string(path)?, first)?;
    let end = requests.last().map_or(0, |request| request.arrive);
    let alive: Vec<Resources> =
        requests.iter().filter(|r| r.leave > end).map(|r| r.charge).collect();
    println!("{} requests, {} alive after them", requests.len(), alive.len());
    for size in SIZES {
        grow(&format!("{} vcpu, {} GiB", size.0, size.1), shape(size.0, size.1), &alive);
    }
    for size in SIZES {
        replay(shape(size.0, size.1), &requests);
    }
    for (name, mix) in HARD {
        grow(name, shape(40, 112), &draw(mix, 3_000));
    }
    for (name, mix) in HARD {
        churn(name, shape(40, 112), &draw(mix, 12_000), 2_000);
    }
    Ok(())
}

/// (vcpu, GiB, weight).
type Mix = &'static [(u64, u64, u64)];

/// Mixes of which heuristics strand one dimension.
const HARD: [(&str, Mix); 4] = [
    ("skewed", &[(8, 14, 4), (16, 112, 1), (4, 28, 4), (2, 16, 4)]),
    ("pairs", &[(12, 14, 4), (16, 28, 3), (4, 28, 4), (6, 48, 2)]),
    ("thirds", &[(14, 30, 4), (13, 30, 3), (13, 40, 4), (7, 60, 2), (20, 10, 3)]),
    ("odd", &[(1, 56, 1), (8, 14, 3), (19, 48, 2), (3, 12, 8), (1, 15, 4), (15, 52, 3)]),
];

struct Request {
    arrive: u64,
    leave: u64,
    charge: Resources,
}

fn shape(cpu: u64, gib: u64) -> Resources {
    Resources { cpu: MilliCpus::whole(cpu), memory: Bytes::gib(gib) }
}

fn read(text: &str, first: usize) -> Result<Vec<Request>, Box<dyn std::error::Error>> {
    let mut requests = Vec::new();
    for line in text.lines().skip(1).take(first) {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |at: usize| -> Result<f64, Box<dyn std::error::Error>> {
            let text = fields.get(at).ok_or("a line is too short")?;
            Ok(text.trim().parse::<f64>()?)
        };
        let (arrive, middle) = (field(1)? as u64, (field(6)? + field(7)?) / 2.0);
        let leave = if field(8)? > 0.0 { u64::MAX } else { arrive + middle as u64 };
        let cpu = MilliCpus((field(4)? * 1000.0) as u64);
        let memory = Bytes::mib((field(5)? * 1024.0) as u64);
        requests.push(Request { arrive, leave, charge: Resources { cpu, memory } });
    }
    Ok(requests)
}

/// `count` charges of a mix, always the same.
fn draw(mix: &[(u64, u64, u64)], count: usize) -> Vec<Resources> {
    let total: u64 = mix.iter().map(|row| row.2).sum();
    let mut state = 7_u64;
    let mut one = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut at = (state >> 33) % total;
        for row in mix {
            if at < row.2 {
                return shape(row.0, row.1);
            }
            at -= row.2;
        }
        shape(1, 1)
    };
    (0..count).map(|_| one()).collect()
}

fn grow(name: &str, size: Resources, charges: &[Resources]) {
    let bound = lower_bound(size, charges);
    let over = |hosts: usize| (hosts as f64 / bound as f64 - 1.0) * 100.0;
    print!("{name}: bound {bound}");
    let events: Vec<Event> = (0..charges.len()).map(Event::Arrive).collect();
    for policy in POLICIES {
        let mut cluster = Cluster::new(size, policy, usize::MAX);
        cluster.play(charges, &events);
        print!(", {policy:?} {} ({:.2} %)", cluster.used(), over(cluster.used()));
        let plan = cluster.consolidate(charges);
        let hosts = cluster.used() - plan.emptied.len();
        print!(" [moves {} -> {hosts} ({:.2} %)]", plan.moves.len(), over(hosts));
    }
    let mut sorted = charges.to_vec();
    sorted.sort_by_key(|charge| std::cmp::Reverse(load(*charge, size)));
    let mut cluster = Cluster::new(size, Policy::FirstFit, usize::MAX);
    cluster.play(&sorted, &events);
    println!(", first fit decreasing {}", cluster.used());
}

/// `present` container VMs, of which one at random leaves for each that comes; then moves.
fn churn(name: &str, size: Resources, charges: &[Resources], present: usize) {
    let (mut events, mut here, mut state) = (Vec::new(), Vec::new(), 11_u64);
    for vm in 0..charges.len() {
        if here.len() >= present {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let leaves = (state >> 33) as usize % here.len();
            events.push(Event::Leave(here.swap_remove(leaves)));
        }
        here.push(vm);
        events.push(Event::Arrive(vm));
    }
    let left: Vec<Resources> = here.iter().map(|vm| charges[*vm]).collect();
    let bound = lower_bound(size, &left);
    print!("{name} with departures: bound {bound}");
    for policy in POLICIES {
        let mut cluster = Cluster::new(size, policy, usize::MAX);
        cluster.play(charges, &events);
        let plan = cluster.consolidate(charges);
        let hosts = cluster.used() - plan.emptied.len();
        let over = (hosts as f64 / bound as f64 - 1.0) * 100.0;
        print!(", {policy:?} {} [moves {} -> {hosts}", cluster.used(), plan.moves.len());
        print!(" ({over:.2} %)]");
    }
    println!();
}

/// Arrivals and departures on a fixed number of hosts.
fn replay(size: Resources, requests: &[Request]) {
    let charges: Vec<Resources> = requests.iter().map(|request| request.charge).collect();
    let end = requests.last().map_or(0, |request| request.arrive);
    let mut timed = Vec::new();
    for (vm, request) in requests.iter().enumerate() {
        timed.push((request.arrive, 1, vm));
        // Who leaves in the second in which it came is gone before anybody could place it.
        if request.leave <= end {
            timed.push((request.leave.max(request.arrive + 1), 0, vm));
        }
    }
    timed.sort_unstable();
    let events: Vec<Event> = timed
        .iter()
        .map(|&(_, arrives, vm)| if arrives == 1 { Event::Arrive(vm) } else { Event::Leave(vm) })
        .collect();
    let bound = lower_bound(size, &peak(size, &charges, &events));
    let hosts = (bound * 21).div_ceil(20) as usize;
    print!("with departures: bound of the peak {bound}, on {hosts} hosts");
    for policy in POLICIES {
        let mut cluster = Cluster::new(size, policy, hosts);
        cluster.play(&charges, &events);
        let average = cluster.used_sum as f64 / cluster.used_count.max(1) as f64;
        print!(", {policy:?} refused {} (in use on average {average:.1}", cluster.refused);
        let left: Vec<Resources> = cluster.at.keys().map(|vm| charges[*vm]).collect();
        let plan = cluster.consolidate(&charges);
        let (used, moves) = (cluster.used(), plan.moves.len());
        let hosts = used - plan.emptied.len();
        print!("; in the end {used}, after {moves} moves {hosts}, ");
        print!("bound {})", lower_bound(size, &left));
    }
    println!();
}

/// Who is there when most is charged.
fn peak(size: Resources, charges: &[Resources], events: &[Event]) -> Vec<Resources> {
    let (mut sum, mut most, mut when) = (Resources::default(), 0, 0);
    for (place, event) in events.iter().enumerate() {
        match event {
            Event::Arrive(vm) => sum = sum + charges[*vm],
            Event::Leave(vm) => sum = sum - charges[*vm],
        }
        if load(sum, size) > most {
            (most, when) = (load(sum, size), place);
        }
    }
    let mut present = std::collections::BTreeSet::new();
    for event in &events[..=when] {
        match event {
            Event::Arrive(vm) => present.insert(*vm),
            Event::Leave(vm) => present.remove(vm),
        };
    }
    present.into_iter().map(|vm| charges[vm]).collect()
}

/// The fuller dimension, in millionths.
fn load(charge: Resources, size: Resources) -> u64 {
    let share = |part: u64, whole: u64| (u128::from(part) * 1_000_000 / u128::from(whole)) as u64;
    share(charge.cpu.0, size.cpu.0).max(share(charge.memory.0, size.memory.0))
}

struct Cluster {
    size: Resources,
    policy: Policy,
    most: usize,
    free: Vec<Resources>,
    at: BTreeMap<usize, usize>,
    mix: BTreeMap<(u64, u64), u64>,
    guide: Guide,
    until_learning: u64,
    refused: u64,
    used_sum: u64,
    used_count: u64,
}

impl Cluster {
    fn new(size: Resources, policy: Policy, most: usize) -> Cluster {
        Cluster {
            size,
            policy,
            most,
            free: Vec::new(),
            at: BTreeMap::new(),
            mix: BTreeMap::new(),
            guide: Guide::best_fit(),
            until_learning: 16,
            refused: 0,
            used_sum: 0,
            used_count: 0,
        }
    }

    fn used(&self) -> usize {
        self.free.iter().filter(|free| **free != self.size).count()
    }

    fn play(&mut self, charges: &[Resources], events: &[Event]) {
        for event in events {
            match *event {
                Event::Arrive(vm) => self.arrive(vm, charges[vm]),
                Event::Leave(vm) => self.leave(vm, charges[vm]),
            }
            self.used_sum += self.used() as u64;
            self.used_count += 1;
        }
    }

    fn arrive(&mut self, vm: usize, charge: Resources) {
        if self.policy == Policy::Guided {
            self.learn();
        }
        let full = load(self.size, self.size);
        let rank = |host: usize, free: Resources| {
            let left = full - load(self.size - (free - charge), self.size);
            match self.policy {
                Policy::FirstFit => (0, 0, host),
                Policy::BestFit => (0, left, host),
                Policy::Guided => (self.guide.cost(free, charge), left, host),
            }
        };
        let next = (self.free.len() < self.most).then_some((self.free.len(), self.size));
        let best = (self.free.iter().copied().enumerate())
            .chain(next)
            .filter(|(_, free)| charge.cpu <= free.cpu && charge.memory <= free.memory)
            .map(|(host, free)| rank(host, free))
            .min();
        let Some((_, _, host)) = best else {
            self.refused += 1;
            return;
        };
        if host == self.free.len() {
            self.free.push(self.size);
        }
        self.free[host] = self.free[host] - charge;
        self.at.insert(vm, host);
        *self.mix.entry((charge.cpu.0, charge.memory.0)).or_default() += 1;
    }

    fn leave(&mut self, vm: usize, charge: Resources) {
        let Some(host) = self.at.remove(&vm) else { return };
        self.free[host] = self.free[host] + charge;
        if let Some(count) = self.mix.get_mut(&(charge.cpu.0, charge.memory.0)) {
            *count -= 1;
        }
    }

    /// Anew whenever a quarter of the mix has changed.
    fn learn(&mut self) {
        self.until_learning -= 1;
        if self.until_learning > 0 {
            return;
        }
        self.until_learning = (self.at.len() as u64 / 4).max(16);
        let mix: Vec<_> = self
            .mix
            .iter()
            .map(|(&(cpu, memory), &n)| {
                (Resources { cpu: MilliCpus(cpu), memory: Bytes(memory) }, n)
            })
            .collect();
        let hosts = [(self.size, self.used().max(1) as u32)];
        let in_use = self.free.iter().filter(|free| **free != self.size);
        self.guide = Guide::learn(&hosts, &mix)
            .adapt(in_use.map(|free| (self.size, *free)), &Settings::default());
    }

    fn consolidate(&self, charges: &[Resources]) -> Plan {
        let hosts: Vec<HostRow> = self
            .free
            .iter()
            .map(|_| HostRow {
                limit: self.size,
                held: Resources::default(),
                may_give: true,
                may_receive: true,
            })
            .collect();
        let vms: Vec<VmRow> = self
            .at
            .iter()
            .map(|(&vm, &host)| VmRow {
                host,
                charge: charges[vm],
                memory: charges[vm].memory,
                movable: true,
            })
            .collect();
        let mix: Vec<_> = vms.iter().map(|vm| (vm.charge, 1)).collect();
        let guide = Guide::learn(&[(self.size, self.used().max(1) as u32)], &mix);
        let budget = Budget { moves: 1_000, memory: Bytes(u64::MAX) };
        plan_moves(&hosts, &vms, budget, &guide, &Settings::default(), |_, _, _| true)
    }
}
