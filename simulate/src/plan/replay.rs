//! A trace replayed whole: everything comes and leaves when it did, on few hosts more than the
//! least that could hold its peak.
//!
//! The bound of the peak is the larger of two, over time: what cpu and memory together need as if
//! they were liquid, at every instant; and the bound of the linear programme over patterns
//! (`packing::lower_bound`), at the fullest instants, since it takes too long for all.

use super::{BatchSize, PlanError};
use crate::cell::{self, Cell};
use crate::checks::{none_of, over_capacity};
use crate::clock;
use crate::engine::{Engine, EngineError};
use crate::mix::{Mix, sized};
use crate::sheet::Sheet;
use crate::trace::azure::{Azure, Event};
use berth_model::{ReservationId, Resources, Strategy};
use berth_scheduler::packing;
use std::time::Duration;

const CASE: &str = "replay";
/// Hosts beyond the bound, in thousandths.
const BEYOND: u64 = 50;
/// Instants whose linear programme is solved.
const PROGRAMMES: usize = 8;
/// Those lie at least so many events apart.
const APART: usize = 2_000;
const RECOUNTS: usize = 16;

/// The bound of a trace's peak, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    pub bound: u64,
    pub by_volume: u64,
    pub by_patterns: u64,
    /// Container VMs alive at once, at most.
    pub vms: u64,
}

pub fn run(
    sheet: &mut Sheet,
    azure: &Azure,
    size: Resources,
    batch: BatchSize,
    seed: u64,
) -> Result<(), PlanError> {
    let events = azure.events();
    let peak = peak(azure, &events, size);
    let hosts = (peak.bound * (1000 + BEYOND)).div_ceil(1000);
    sheet.figure(CASE, "bound_by_volume", peak.by_volume as f64, "hosts");
    sheet.figure(CASE, "bound_by_patterns", peak.by_patterns as f64, "hosts");
    sheet.figure(CASE, "bound", peak.bound as f64, "hosts");
    sheet.figure(CASE, "hosts", hosts as f64, "hosts");
    sheet.figure(CASE, "vms_at_peak", peak.vms as f64, "count");
    let replayed = replay(azure, &events, size, hosts, batch.0, seed)?;
    replayed.tell(sheet, hosts);
    Ok(())
}

#[derive(Debug, Default)]
struct Replayed {
    wall: Duration,
    cpu: Duration,
    decisions: u64,
    rejected: u64,
    first: Option<String>,
    over: Vec<String>,
    broken: Option<String>,
}

impl Replayed {
    fn tell(&self, sheet: &mut Sheet, hosts: u64) {
        let each = self.cpu.as_secs_f64() * 1e6 / self.decisions.max(1) as f64;
        sheet.figure(CASE, "cpu_us_per_decision", each, "us");
        let per_second = self.decisions as f64 / self.wall.as_secs_f64().max(1e-9);
        sheet.figure(CASE, "decisions_per_second", per_second, "1/s");
        sheet.figure(CASE, "decisions", self.decisions as f64, "count");
        sheet.figure(CASE, "rejected", self.rejected as f64, "count");
        let none = format!("{} arrivals on {hosts} hosts", self.decisions);
        let first = self.first.iter().map(|at| format!("{} rejected, first {at}", self.rejected));
        let rejected: Vec<String> = first.collect();
        sheet.check(CASE, "nothing_rejected", none_of(&rejected, none));
        let detail = format!("all hosts recounted {RECOUNTS} times on the way");
        sheet.check(CASE, "nothing_over_capacity", none_of(&self.over, detail));
        let invariants = self.broken.clone().map_or(Ok("at the end".to_owned()), Err);
        sheet.check(CASE, "invariants", invariants);
    }
}

fn replay(
    azure: &Azure,
    events: &[Event],
    size: Resources,
    hosts: u64,
    batch: u64,
    seed: u64,
) -> Result<Replayed, EngineError> {
    let hosts = usize::try_from(hosts).unwrap_or(usize::MAX);
    let facts = (0..hosts).map(|number| sized(number, size));
    let mut engine = Engine::new(Cell::of(facts, cell::policy(Strategy::Pack)), seed)?;
    let mut run = Run {
        mix: Mix::of(azure.requests.iter().map(|request| request.demand())),
        held: vec![None; azure.requests.len()],
        arriving: Vec::new(),
        leaving: Vec::new(),
        replayed: Replayed::default(),
    };
    let batch = usize::try_from(batch.max(1)).unwrap_or(usize::MAX);
    let recount = events.len().div_ceil(RECOUNTS).max(1);
    for (position, event) in events.iter().enumerate() {
        match event {
            Event::Arrives(request) => {
                run.leave(&mut engine)?;
                run.arriving.push(*request);
                if run.arriving.len() >= batch {
                    run.arrive(&mut engine)?;
                }
            }
            Event::Leaves(request) => {
                run.arrive(&mut engine)?;
                run.leaving.extend(run.held.get_mut(*request).and_then(Option::take));
            }
        }
        if position % recount == recount - 1 {
            run.replayed.over.extend(over_capacity(engine.fleet()));
        }
    }
    run.arrive(&mut engine)?;
    let mut replayed = run.replayed;
    replayed.cpu = engine.spent.cpu();
    replayed.decisions = engine.spent.decisions;
    replayed.over.extend(over_capacity(engine.fleet()));
    replayed.broken = engine.fleet().check_invariants().err();
    Ok(replayed)
}

struct Run {
    mix: Mix,
    /// By position of the request.
    held: Vec<Option<ReservationId>>,
    arriving: Vec<usize>,
    leaving: Vec<ReservationId>,
    replayed: Replayed,
}

impl Run {
    fn arrive(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        if self.arriving.is_empty() {
            return Ok(());
        }
        let wishes: Vec<_> =
            self.arriving.iter().map(|request| self.mix.wish(*request as u64)).collect();
        let began = clock::now();
        let held = engine.place(&wishes)?;
        self.replayed.wall += began.elapsed();
        for (request, held) in self.arriving.drain(..).zip(held) {
            if held.is_none() {
                self.replayed.rejected += 1;
                let first = &mut self.replayed.first;
                first.get_or_insert_with(|| format!("request {request}"));
            }
            self.held[request] = held.map(|held| held.id);
        }
        Ok(())
    }

    fn leave(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        if self.leaving.is_empty() {
            return Ok(());
        }
        let began = clock::now();
        engine.release(std::mem::take(&mut self.leaving))?;
        self.replayed.wall += began.elapsed();
        Ok(())
    }
}

/// Hosts of `size` that the trace needs at its fullest, at least.
pub fn peak(azure: &Azure, events: &[Event], size: Resources) -> Peak {
    let mut now = Resources::default();
    let (mut alive, mut vms) = (0_u64, 0);
    let mut instants = Vec::with_capacity(azure.requests.len());
    for (position, event) in events.iter().enumerate() {
        match event {
            Event::Leaves(request) => {
                now = now - azure.requests[*request].size;
                alive -= 1;
            }
            Event::Arrives(request) => {
                now = now + azure.requests[*request].size;
                alive += 1;
                instants.push((by_volume(now, size), position));
            }
        }
        vms = vms.max(alive);
    }
    let by_volume = instants.iter().map(|(bound, _)| *bound).max().unwrap_or(0);
    // Fullest first, the earlier of equals.
    instants.sort_by_key(|(bound, position)| (std::cmp::Reverse(*bound), *position));
    let mut chosen: Vec<usize> = Vec::new();
    for (_, position) in instants {
        if chosen.len() == PROGRAMMES {
            break;
        }
        if chosen.iter().all(|other| position.abs_diff(*other) >= APART) {
            chosen.push(position);
        }
    }
    let bounds =
        chosen.into_iter().map(|at| packing::lower_bound(size, &alive_at(azure, &events[..=at])));
    let by_patterns = bounds.max().unwrap_or(0);
    Peak { bound: by_volume.max(by_patterns), by_volume, by_patterns, vms }
}

fn by_volume(taken: Resources, size: Resources) -> u64 {
    let cpu = taken.cpu.0.div_ceil(size.cpu.0.max(1));
    cpu.max(taken.memory.0.div_ceil(size.memory.0.max(1)))
}

fn alive_at(azure: &Azure, events: &[Event]) -> Vec<Resources> {
    let mut alive = vec![false; azure.requests.len()];
    for event in events {
        match event {
            Event::Arrives(request) => alive[*request] = true,
            Event::Leaves(request) => alive[*request] = false,
        }
    }
    let alive = azure.requests.iter().zip(alive).filter(|(_, alive)| *alive);
    alive.map(|(request, _)| request.size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::host_size;
    use crate::trace::azure::Request;

    fn azure(rows: &[(u64, u64, Option<u64>)]) -> Azure {
        let requests = rows.iter().map(|&(arrives, cpus, lives)| Request {
            arrives,
            batch: 0,
            size: host_size(cpus as u32, 1),
            lives,
        });
        Azure { requests: requests.collect() }
    }

    #[test]
    fn the_peak_is_what_is_there_at_once() {
        let azure = azure(&[(0, 6, Some(5)), (0, 6, Some(10)), (5, 6, None), (20, 6, None)]);
        let peak = peak(&azure, &azure.events(), host_size(10, 10));
        // Two at a time, and no two fit a host.
        assert_eq!(peak, Peak { bound: 2, by_volume: 2, by_patterns: 2, vms: 2 });
    }

    #[test]
    fn a_trace_is_replayed_without_a_rejection_where_there_is_room() {
        let rows: Vec<_> = (0..300).map(|at| (at, 1 + at % 4, Some(20 + at % 7))).collect();
        let azure = azure(&rows);
        let replayed = replay(&azure, &azure.events(), host_size(8, 64), 20, 8, 1).unwrap();
        assert_eq!((replayed.rejected, replayed.decisions), (0, 300));
        assert!(replayed.over.is_empty() && replayed.broken.is_none());
        let replayed = replay(&azure, &azure.events(), host_size(8, 64), 2, 8, 1).unwrap();
        assert!(replayed.rejected > 0 && replayed.first.is_some());
    }
}
