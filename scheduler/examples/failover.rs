//! Measures exact admission control: microseconds a check, for one and for two tolerated losses.
//!
//! `failover [HOSTS] [VMS] [CHECKS] [CASE]`: fills hosts to 80 percent with a mix of VMs: spread,
//! packed, or spread with a tenth of them in anti-affinity groups (`spread`, `packed`, `groups`).
//! Then each round asks about one placement, keeps it if it holds, and lets a random VM leave.
//! Times are wall clock on one thread; upkeep after a departure is shown by itself. Does not:
//! choose hosts well; that is the placement engine's.

#![expect(clippy::print_stdout, reason = "a measuring program speaks to its terminal")]

use std::time::{Duration, Instant};

use berth_scheduler::failover::{ANY_HOST, Cluster, Failover, Host, Room, Tolerance, Vm};

const GIB: u64 = 1 << 30;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u32> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    let wanted = arguments.iter().find(|text| text.parse::<u32>().is_err());
    let hosts = numbers.first().copied().unwrap_or(1_000).max(1);
    let vms = numbers.get(1).copied().unwrap_or(hosts * 20);
    let checks = numbers.get(2).copied().unwrap_or(2_000);
    for (name, packed, groups) in
        [("spread", false, 0), ("packed", true, 0), ("groups", false, vms / 40)]
    {
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        for tolerance in [Tolerance::One, Tolerance::Two] {
            let mut scene = Scene::new(hosts, vms, packed, groups);
            measure(name, tolerance, &mut scene, checks);
        }
    }
}

fn measure(name: &str, tolerance: Tolerance, scene: &mut Scene, checks: u32) {
    let resident = resident_bytes();
    let started = now();
    let mut failover = Failover::of(scene.cluster.clone(), tolerance);
    let covered = failover.holds();
    let build = started.elapsed();
    let grown = resident_bytes().saturating_sub(resident);
    let (mut asking, mut leaving, mut worst) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut held = 0;
    for _ in 0..checks {
        let (handle, vm, slot) = scene.next();
        let started = now();
        let answer = failover.would_hold(handle, &vm, slot);
        if answer.is_ok() {
            failover.place(handle, vm.clone(), slot);
        }
        let took = started.elapsed();
        asking += took;
        worst = worst.max(took);
        if answer.is_ok() {
            held += 1;
            scene.place(handle, vm, slot);
            let gone = scene.leave();
            let started = now();
            failover.remove(gone);
            let _covered = failover.holds();
            leaving += started.elapsed();
        }
    }
    let effort = failover.effort();
    println!(
        "{name}, {tolerance:?}: hosts {}, vms {}, covered at first {}, held {held} of {checks}",
        scene.cluster.hosts(),
        scene.running.len(),
        covered.is_ok(),
    );
    println!(
        "  build_ms {:.1}  us_per_check {:.2}  worst_us {:.0}  us_per_departure {:.2}",
        build.as_secs_f64() * 1e3,
        asking.as_secs_f64() * 1e6 / f64::from(checks),
        worst.as_secs_f64() * 1e6,
        leaving.as_secs_f64() * 1e6 / f64::from(held.max(1)),
    );
    println!(
        "  pairs_kept {}  index_entries {}  plans_made {}  grown_mib {}",
        effort.pairs_kept,
        effort.entries,
        effort.plans_made,
        grown >> 20,
    );
}

#[expect(clippy::disallowed_methods, reason = "this program measures time")]
fn now() -> Instant {
    Instant::now()
}

/// The memory of this process, from the kernel; nothing where there is no such file.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Hosts, and a mix of VMs that come and go.
struct Scene {
    cluster: Cluster,
    charged: Vec<Room>,
    limit: Room,
    running: Vec<u32>,
    packed: bool,
    groups: u32,
    next_handle: u32,
    random: Random,
}

impl Scene {
    fn new(hosts: u32, vms: u32, packed: bool, groups: u32) -> Self {
        let mut random = Random(1);
        let shapes: Vec<Room> = (0..vms).map(|_| shape(&mut random)).collect();
        let total = shapes.iter().fold(Room::NONE, |sum, shape| sum.plus(*shape));
        let each = |total: u64| total * 10 / 8 / u64::from(hosts);
        let limit = Room::new(each(total.cpu), each(total.memory));
        let host = Host { limit, receives: true, counted: true, standby: false };
        let mut cluster = Cluster::new(&vec![host; hosts as usize]);
        cluster.set_scope(0, Some);
        for group in 0..groups {
            cluster.set_group(group, 0, 1);
        }
        let mut scene = Self {
            cluster,
            charged: vec![Room::NONE; hosts as usize],
            limit,
            running: Vec::new(),
            packed,
            groups,
            next_handle: 0,
            random,
        };
        for demand in shapes {
            let (handle, vm, slot) = scene.offer(demand);
            scene.place(handle, vm, slot);
        }
        scene
    }

    fn next(&mut self) -> (u32, Vm, u32) {
        let demand = shape(&mut self.random);
        self.offer(demand)
    }

    fn offer(&mut self, demand: Room) -> (u32, Vm, u32) {
        let grouped = self.groups > 0 && self.random.below(10) == 0;
        let group = grouped.then(|| self.random.below(u64::from(self.groups)) as u32);
        let vm = Vm {
            demand,
            priority: self.random.below(3) as i16,
            hash: self.random.next(),
            class: ANY_HOST,
            groups: group.into_iter().collect(),
        };
        let slot = self.choose(demand);
        let handle = self.next_handle;
        (handle, vm, slot)
    }

    /// Packed: the first host that fits. Spread: the emptier of a few random ones.
    fn choose(&mut self, demand: Room) -> u32 {
        let hosts = self.charged.len() as u64;
        let fits = |slot: &u32| {
            let free = self.limit.less(self.charged[*slot as usize]);
            free.covers(demand)
        };
        if self.packed {
            return (0..hosts as u32).find(fits).unwrap_or(0);
        }
        let drawn: Vec<u32> = (0..8).map(|_| self.random.below(hosts) as u32).collect();
        let emptiest = drawn.iter().min_by_key(|slot| self.charged[**slot as usize].memory);
        emptiest.copied().unwrap_or(0)
    }

    fn place(&mut self, handle: u32, vm: Vm, slot: u32) {
        self.charged[slot as usize] = self.charged[slot as usize].plus(vm.demand);
        self.cluster.place(handle, vm, slot);
        self.running.push(handle);
        self.next_handle = self.next_handle.max(handle + 1);
    }

    fn leave(&mut self) -> u32 {
        let nth = self.random.below(self.running.len() as u64) as usize;
        let handle = self.running.swap_remove(nth);
        if let Some((vm, slot)) = self.cluster.remove(handle) {
            self.charged[slot as usize] = self.charged[slot as usize].less(vm.demand);
        }
        handle
    }
}

/// Mostly small, some large, memory from 1 to 4 GiB a core.
fn shape(random: &mut Random) -> Room {
    let cores = [1, 1, 1, 2, 2, 4, 8][random.below(7) as usize];
    let gib_per_core = [1, 2, 2, 4][random.below(4) as usize];
    Room::new(cores * 1_000, cores * gib_per_core * GIB)
}

/// SplitMix64, so that each run measures the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
