//! How well each strategy does what it is for, beside a greedy that looks at every host each time
//! and beside what nothing could beat.
//!
//! Both get the same arrivals and departures. `pack` is measured in hosts in use (bound: the linear
//! programme over patterns), `spread` in how far the fullest host is from the emptiest, counted in
//! container VMs (bound: what does not divide evenly), `balance` in the mean distance between a
//! host's shares of cpu and memory in use (bound: that distance of the whole, by the triangle
//! inequality).

use crate::cell::ENDPOINT;
use crate::engine::{Commits, Engine, EngineError, Held};
use crate::mix::Workload;
use crate::sheet::Sheet;
use crate::trace::Trace;
use berth_model::{Host, Permille, ReservationId, Resources, Strategy};
use berth_scheduler::placement::{Ask, Guides, scan};
use berth_scheduler::{Fleet, packing};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A greedy that looks at every host takes long on more.
const HOSTS_MAX: u32 = 200;
const VMS_PER_HOST: u32 = 10;
/// The share of all that is there in the end, in percent: where there is a choice left.
const FILLED: u64 = 70;
const BATCH: u64 = 50;

pub fn run(
    sheet: &mut Sheet,
    trace: Option<&Trace>,
    hosts: u32,
    seed: u64,
) -> Result<(), EngineError> {
    let hosts = hosts.min(HOSTS_MAX);
    for (strategy, case) in [
        (Strategy::Pack, "quality-pack"),
        (Strategy::Spread, "quality-spread"),
        (Strategy::Balance, "quality-balance"),
    ] {
        let workload = Workload::new(trace, hosts, hosts * VMS_PER_HOST, Permille(850), strategy);
        let pair = Pair::run(workload, hosts, seed)?;
        let (ours, theirs) = (pair.engine.fleet(), pair.plain.fleet());
        let (reached, unit, bound) = match strategy {
            Strategy::Pack => ("hosts_used", "hosts", lower_bound(ours)),
            Strategy::Spread => ("vms_apart", "count", uneven(ours)),
            Strategy::Balance => ("imbalance", "permille", whole_imbalance(ours)),
        };
        let measure = |fleet: &Fleet| match strategy {
            Strategy::Pack => Some(hosts_used(fleet)),
            Strategy::Spread => Some(vms_apart(fleet)),
            Strategy::Balance => Some(imbalance(fleet)),
        };
        sheet.figure(case, reached, measure(ours).unwrap_or_default(), unit);
        let scanned = format!("{reached}_by_scan");
        sheet.figure(case, scanned, measure(theirs).unwrap_or_default(), unit);
        if let Some(bound) = bound {
            sheet.figure(case, format!("{reached}_bound"), bound, unit);
        }
        sheet.figure(case, "hosts", f64::from(hosts), "hosts");
        sheet.figure(case, "vms", ours.reservations().count() as f64, "count");
        let same = pair.same as f64 * 100.0 / pair.decided.max(1) as f64;
        sheet.figure(case, "same_place_as_scan", same, "percent");
    }
    Ok(())
}

/// The engine and a plain scan over the same arrivals and departures.
struct Pair {
    engine: Engine,
    plain: Commits,
    /// In each of them; `None` where it was refused.
    placed: Vec<[Option<ReservationId>; 2]>,
    decided: u64,
    same: u64,
}

impl Pair {
    fn run(workload: Workload, hosts: u32, seed: u64) -> Result<Pair, EngineError> {
        let mut pair = Pair {
            plain: Commits::new(workload.cell.clone())?,
            engine: Engine::new(workload.cell, seed)?,
            placed: Vec::new(),
            decided: 0,
            same: 0,
        };
        let mut source = StdRng::seed_from_u64(seed);
        let wanted = u64::from(hosts) * u64::from(VMS_PER_HOST) * FILLED / 100;
        let (mut next, mut guides) = (0, Guides::default());
        // Filled once, then half of all replaced.
        while next < wanted + wanted / 2 {
            for _ in 0..(pair.placed.len() as u64 + BATCH).saturating_sub(wanted) {
                let position = source.random_range(0..pair.placed.len());
                let [ours, theirs] = pair.placed.swap_remove(position);
                pair.engine.release(ours.into_iter().collect())?;
                if let Some(id) = theirs {
                    pair.plain.release(vec![id])?;
                }
            }
            let wishes = workload.mix.batch(next, BATCH);
            next += BATCH;
            let held = pair.engine.place(&wishes)?;
            guides = guides.learn_again(pair.plain.fleet());
            for (wish, ours) in wishes.iter().zip(held) {
                let ask = Ask::hold(ENDPOINT, wish);
                let place = scan::decide(pair.plain.fleet(), &guides, &ask);
                let mut id = None;
                if let Some(place) = place {
                    // Other ids than the engine's: these are of a fleet of their own.
                    let number = u128::from(next) << 64 | u128::from(pair.decided);
                    let held = Held { id: ReservationId::from_bytes(number.to_be_bytes()), place };
                    pair.plain.hold(wish, &held)?;
                    let same = ours.as_ref().is_some_and(|ours| ours.place == held.place);
                    pair.same += u64::from(same);
                    id = Some(held.id);
                }
                pair.decided += 1;
                pair.placed.push([ours.map(|held| held.id), id]);
            }
        }
        Ok(pair)
    }
}

pub fn hosts_used(fleet: &Fleet) -> f64 {
    fleet.hosts().filter(|host| host.placed > 0).count() as f64
}

fn lower_bound(fleet: &Fleet) -> Option<f64> {
    let mut sizes = fleet.hosts().map(|host| fleet.limit_of_host(host));
    let size = sizes.next()?;
    // The bound speaks of hosts of one size.
    if sizes.any(|other| other != size) {
        return None;
    }
    let charges: Vec<Resources> = fleet.reservations().map(|held| held.charge).collect();
    Some(packing::lower_bound(size, &charges) as f64)
}

fn vms_apart(fleet: &Fleet) -> f64 {
    let most = fleet.hosts().map(|host| host.placed).max().unwrap_or(0);
    let fewest = fleet.hosts().map(|host| host.placed).min().unwrap_or(0);
    f64::from(most - fewest)
}

fn uneven(fleet: &Fleet) -> Option<f64> {
    let (vms, hosts) = (fleet.reservations().count(), fleet.hosts().len());
    Some(f64::from(u8::from(!vms.is_multiple_of(hosts.max(1)))))
}

fn shares(fleet: &Fleet, host: &Host) -> f64 {
    let limit = fleet.limit_of_host(host);
    let cpu = host.charged.cpu.0 as f64 / limit.cpu.0.max(1) as f64;
    let memory = host.charged.memory.0 as f64 / limit.memory.0.max(1) as f64;
    (cpu - memory) * 1000.0
}

fn imbalance(fleet: &Fleet) -> f64 {
    let all: f64 = fleet.hosts().map(|host| shares(fleet, host).abs()).sum();
    all / fleet.hosts().len().max(1) as f64
}

fn whole_imbalance(fleet: &Fleet) -> Option<f64> {
    let all: f64 = fleet.hosts().map(|host| shares(fleet, host)).sum();
    Some(all.abs() / fleet.hosts().len().max(1) as f64)
}
