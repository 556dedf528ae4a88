//! Who has to give way, where the cluster's policy lets a request displace what has a lower
//! priority.
//!
//! The fewest on any host, of these the least important (the highest priority among them counts),
//! of these the smallest (memory, then cpu), then the order of hosts. On one host that is a covering
//! problem in a few dimensions; it is searched whole, by number of victims, up to [`STEPS_MAX`]
//! steps, beyond which the largest give way first. Promises: with the victims gone the host passes
//! every filter. Does not: displace for anything but room (cpu, memory, reserved memory, countable
//! things, NUMA nodes); nor container VMs for a reservation, which could not wait for their end.

use super::{Ask, Delta, datastore, score};
use crate::fleet::Fleet;
use crate::fleet::rules::Matched;
use berth_model::explanation::Refusal;
use berth_model::reservation::{Place, Victim};
use berth_model::{Demand, Filter, Host, NumaNodes, VmState};

/// Steps of the search on one host.
const STEPS_MAX: u32 = 20_000;
/// Most victims of one request.
const VICTIMS_MAX: usize = 16;
/// Sets of victims that are tried for good, in their order.
const TRIES_MAX: usize = 64;

/// One that may have to give way, and what it holds in each dimension that is short.
#[derive(Clone, Debug)]
struct Candidate {
    victim: Victim,
    priority: i16,
    memory: u64,
    cpu: u64,
    holds: Vec<u64>,
}

/// Smaller is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Harm {
    count: usize,
    priority: i16,
    memory: u64,
    cpu: u64,
}

pub fn displace(fleet: &Fleet, ask: &Ask<'_>) -> Option<(Place, Vec<Victim>)> {
    // Refusals are common where little is left; only those who may displace pay for the search.
    if fleet.clusters().all(|cluster| !cluster.policy.preemption) {
        return None;
    }
    let matched = ask.matched(fleet);
    let mut found: Vec<(Harm, &Host, Vec<Victim>)> = Vec::new();
    let mut most = VICTIMS_MAX;
    for host in fleet.hosts().filter(|host| preempts(fleet, host)) {
        let Err(refusal) = fleet.admit(host, &ask.wish(&matched)) else { continue };
        if refusal.filter() != Filter::Capacity {
            continue;
        }
        for (harm, victims) in sets(fleet, host, ask, &refusal, most) {
            most = most.min(harm.count.max(1));
            found.push((harm, host, victims));
        }
    }
    found.sort_by(|a, b| (a.0, score::host_order(a.1)).cmp(&(b.0, score::host_order(b.1))));
    found.into_iter().take(TRIES_MAX).find_map(|(_, host, victims)| {
        let place = place_without(fleet, host, ask, &matched, &victims)?;
        Some((place, victims))
    })
}

fn preempts(fleet: &Fleet, host: &Host) -> bool {
    fleet.cluster(host.cluster).is_some_and(|cluster| cluster.policy.preemption)
}

/// Sets of victims on one host that would give back enough, the best first. Where NUMA nodes are
/// short, each one alone: which node it leaves is seen only when it is gone.
fn sets(
    fleet: &Fleet,
    host: &Host,
    ask: &Ask<'_>,
    refusal: &Refusal,
    most: usize,
) -> Vec<(Harm, Vec<Victim>)> {
    let short = shortage(fleet, host, ask.demand);
    let candidates = candidates(fleet, host, ask);
    if let Refusal::NumaShort { .. } = refusal
        && short.iter().all(|short| *short == 0)
    {
        let alone = candidates.iter().map(|one| (harm_of(&[one]), vec![one.victim]));
        return alone.collect();
    }
    let chosen = cover(&candidates, &short, most);
    chosen
        .into_iter()
        .map(|chosen| {
            let harm = harm_of(&chosen);
            (harm, chosen.into_iter().map(|one| one.victim).collect())
        })
        .collect()
}

/// What is missing, dimension by dimension: cpu, memory, reserved memory, countable things in the
/// order of their names.
fn shortage(fleet: &Fleet, host: &Host, demand: &Demand) -> Vec<u64> {
    let (limit, charge) = (fleet.limit_of_host(host), demand.charge(host.facts.vm_overhead));
    let short = |held: u64, needed: u64, limit: u64| match needed {
        0 => 0,
        needed => held.saturating_add(needed).saturating_sub(limit),
    };
    let mut all = vec![
        short(host.charged.cpu.0, charge.cpu.0, limit.cpu.0),
        short(host.charged.memory.0, charge.memory.0, limit.memory.0),
        short(host.held.reserved.0, demand.memory_reservation.0, fleet.reservable_on_host(host).0),
    ];
    all.extend(demand.resources.iter().map(|(name, needed)| {
        let held = host.held.resources.get(name).copied().unwrap_or(0);
        let supply = host.facts.supply.resources.get(name).copied().unwrap_or(0);
        short(held, *needed, supply)
    }));
    all
}

/// Those of a lower priority that are not leaving anyway, the least important and smallest first.
fn candidates(fleet: &Fleet, host: &Host, ask: &Ask<'_>) -> Vec<Candidate> {
    let (vms, reservations) = fleet.placed_on(host.id);
    let candidate = |victim, demand: &Demand, charge: berth_model::Resources| {
        let mut holds = vec![charge.cpu.0, charge.memory.0, demand.memory_reservation.0];
        let things = ask.demand.resources.keys();
        holds.extend(things.map(|name| demand.resources.get(name).copied().unwrap_or(0)));
        let (memory, cpu) = (charge.memory.0, charge.cpu.0);
        Candidate { victim, priority: demand.priority, memory, cpu, holds }
    };
    let running = vms.filter_map(|vm| match &vm.state {
        VmState::Starting { charge, stop: None, .. }
        | VmState::Running { charge, stop: None, .. } => {
            Some(candidate(Victim::ContainerVm(vm.id), &vm.spec.demand, *charge))
        }
        VmState::Starting { .. }
        | VmState::Running { .. }
        | VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => None,
    });
    let held = reservations
        .map(|held| candidate(Victim::Reservation(held.id), &held.wish.demand, held.charge));
    let waits = matches!(ask.delta, Delta::Placed(_));
    let running = running.filter(|_| waits);
    let mut all: Vec<Candidate> =
        running.chain(held).filter(|one| one.priority < ask.demand.priority).collect();
    all.sort_by_key(|one| (one.priority, one.memory, one.cpu, one.victim));
    all
}

fn harm_of(chosen: &[&Candidate]) -> Harm {
    Harm {
        count: chosen.len(),
        priority: chosen.iter().map(|one| one.priority).max().unwrap_or(i16::MIN),
        memory: chosen.iter().map(|one| one.memory).sum(),
        cpu: chosen.iter().map(|one| one.cpu).sum(),
    }
}

/// The least harmful set that holds what is short; `None` if more than `most` would have to go.
fn cover<'a>(
    candidates: &'a [Candidate],
    short: &[u64],
    most: usize,
) -> Option<Vec<&'a Candidate>> {
    if short.iter().all(|short| *short == 0) {
        return None;
    }
    let fewest = fewest(candidates, short)?;
    let mut search = Search { candidates, best: None, steps: 0, chosen: Vec::new() };
    for count in fewest..=most.min(candidates.len()) {
        search.choose(0, count, short);
        if let Some((_, best)) = search.best {
            return Some(best);
        }
        if search.steps > STEPS_MAX {
            return largest_first(candidates, short, most);
        }
    }
    None
}

/// No fewer than this can hold what is short: dimension by dimension, the largest first.
fn fewest(candidates: &[Candidate], short: &[u64]) -> Option<usize> {
    let mut fewest = 1;
    for (dimension, short) in short.iter().enumerate() {
        let mut holds: Vec<u64> = candidates.iter().map(|one| one.holds[dimension]).collect();
        holds.sort_unstable_by(|a, b| b.cmp(a));
        let (mut left, mut count) = (*short, 0);
        for held in holds {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(held);
            count += 1;
        }
        if left > 0 {
            return None;
        }
        fewest = fewest.max(count);
    }
    Some(fewest)
}

struct Search<'a> {
    candidates: &'a [Candidate],
    chosen: Vec<&'a Candidate>,
    best: Option<(Harm, Vec<&'a Candidate>)>,
    steps: u32,
}

impl Search<'_> {
    /// Tries every set of `count` more from `from` on.
    fn choose(&mut self, from: usize, count: usize, short: &[u64]) {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return;
        }
        if count == 0 {
            if short.iter().all(|short| *short == 0) {
                let harm = harm_of(&self.chosen);
                if self.best.as_ref().is_none_or(|(best, _)| harm < *best) {
                    self.best = Some((harm, self.chosen.clone()));
                }
            }
            return;
        }
        for position in from..(self.candidates.len() + 1).saturating_sub(count) {
            let one = &self.candidates[position];
            // They come in the order of importance: what follows is no better.
            let worse = self.best.as_ref().is_some_and(|(best, _)| one.priority > best.priority);
            if worse {
                return;
            }
            let left: Vec<u64> =
                short.iter().zip(&one.holds).map(|(s, h)| s.saturating_sub(*h)).collect();
            self.chosen.push(one);
            self.choose(position + 1, count - 1, &left);
            self.chosen.pop();
        }
    }
}

fn largest_first<'a>(
    candidates: &'a [Candidate],
    short: &[u64],
    most: usize,
) -> Option<Vec<&'a Candidate>> {
    let mut by_size: Vec<&Candidate> = candidates.iter().collect();
    by_size.sort_by(|a, b| (b.memory, b.cpu, a.victim).cmp(&(a.memory, a.cpu, b.victim)));
    let mut left = short.to_vec();
    let mut chosen = Vec::new();
    for one in by_size {
        if left.iter().all(|left| *left == 0) {
            break;
        }
        if left.iter().zip(&one.holds).any(|(left, held)| *left > 0 && *held > 0) {
            left.iter_mut().zip(&one.holds).for_each(|(left, held)| {
                *left = left.saturating_sub(*held);
            });
            chosen.push(one);
        }
    }
    (chosen.len() <= most && left.iter().all(|left| *left == 0)).then_some(chosen)
}

/// The place on the host once the victims are gone.
fn place_without(
    fleet: &Fleet,
    host: &Host,
    ask: &Ask<'_>,
    matched: &Matched,
    victims: &[Victim],
) -> Option<Place> {
    let freed = fleet.without(victims);
    let host = freed.host(host.id)?;
    freed.admit(host, &ask.wish(matched)).ok()?;
    let chosen = datastore::choose(&freed, host, ask, matched)?;
    let numa = match ask.demand.numa {
        Some(_) => freed.choose_numa(host, ask.demand)?,
        None => NumaNodes::NONE,
    };
    Some(Place { host: host.id, numa, delta: chosen.delta, disks: chosen.disks })
}
