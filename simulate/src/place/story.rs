//! The steps of the benchmark, and what they amount to.

use super::cell::Cell;
use super::lives::{self, Lives};
use super::orders::{Checked, Order, Told};
use super::placing::{Placings, Wave};
use super::{ONE_BY_ONE, Options, PlaceError, SINGLES_MAX};
use crate::checks::none_of;
use crate::sheet::Sheet;
use crate::spread::quantile;
use std::collections::BTreeMap;
use std::time::Duration;

pub const BENCH: &str = "place";

pub async fn tell(options: Options, mut cell: Cell) -> Result<Sheet, PlaceError> {
    let outcome = steps(options, &mut cell).await;
    cell.stop().await;
    outcome
}

/// Waits until the cell is ready with all its hosts; answers leader and term.
pub async fn get_ready(options: Options, cell: &mut Cell) -> Result<(u64, u64), PlaceError> {
    let (mut leader, mut term) = (0, 0);
    for id in cell.ids() {
        if let Told::Ready { leader: named, term: of } = cell.order(id, &Order::Ready).await? {
            (leader, term) = (named, of);
        }
    }
    if !options.has_sessions() {
        cell.order(leader, &Order::RegisterHosts).await?;
    }
    cell.order(leader, &Order::AwaitHosts(u64::from(options.hosts))).await?;
    Ok((leader, term))
}

async fn steps(options: Options, cell: &mut Cell) -> Result<Sheet, PlaceError> {
    let Options { hosts, vms, replicas, .. } = options;
    let (leader, term) = get_ready(options, cell).await?;
    let sessions = if options.has_sessions() { "with a session each" } else { "without sessions" };
    let about = format!(
        "{hosts} simulated hosts {sessions}, {vms} placements, {replicas} replicas in processes \
         of their own on this machine, fsync on; asked for in the leader's process: its CPU \
         includes the clients'; no hypervisor, no HTTP"
    );
    let mut sheet = Sheet::new(BENCH, about);
    // Not the leader: it also holds the load.
    let weighed = cell.ids().into_iter().find(|id| *id != leader).unwrap_or(leader);
    let mut waves = Waves { sheet: &mut sheet, leader, failed: BTreeMap::new(), short: Vec::new() };

    let before = cell.resident(weighed);
    let (from, to) = (0, vms);
    let all = Wave { from, to, batch: options.batch, in_flight: options.batches() };
    waves.run(cell, "batch", all).await?;
    let full = cell.check(leader, 0).await?;
    // It must have applied all of it to be weighed.
    cell.check(weighed, full.index).await?;
    if let (Some(before), Some(after)) = (before, cell.resident(weighed)) {
        let grown = after.saturating_sub(before) as f64;
        waves.sheet.figure("batch", "bytes_per_vm", grown / f64::from(vms), "bytes");
    }
    waves.release(cell, from, to).await?;
    let to = vms.min(ONE_BY_ONE);
    waves.run(cell, "single-1", Wave { from, to, batch: 1, in_flight: 1 }).await?;
    waves.release(cell, from, to).await?;
    let to = vms.min(SINGLES_MAX);
    let case = format!("single-{}", options.in_flight);
    let in_flight = options.in_flight;
    waves.run(cell, &case, Wave { from, to, batch: 1, in_flight }).await?;
    waves.release(cell, from, to).await?;
    let Waves { failed, short, .. } = waves;

    let lives = if options.lives() > 0 {
        Some(lives::live(options, cell, leader, &mut sheet).await?)
    } else {
        None
    };
    let seen = Seen { full, failed, short, lives, term };
    checks(&mut sheet, options, cell, leader, seen).await?;
    Ok(sheet)
}

/// Placements, one case after the other.
struct Waves<'a> {
    sheet: &'a mut Sheet,
    leader: u64,
    failed: BTreeMap<String, u64>,
    /// Cases in which not all were placed.
    short: Vec<String>,
}

impl Waves<'_> {
    async fn run(&mut self, cell: &mut Cell, case: &str, wave: Wave) -> Result<(), PlaceError> {
        let cpu = cell.cpu();
        let told = cell.order(self.leader, &Order::Place(wave)).await?;
        let Told::Placed(found) = told else { return Err(PlaceError::OddAnswer) };
        let cpu = cell.cpu().saturating_sub(cpu);
        placings(self.sheet, case, &found, cpu);
        let wanted = u64::from(wave.to - wave.from);
        if found.placed < wanted {
            self.short.push(format!("{case}: {} of {wanted}", found.placed));
        }
        for (reason, count) in found.failed {
            *self.failed.entry(reason).or_default() += count;
        }
        Ok(())
    }

    async fn release(&self, cell: &mut Cell, from: u32, to: u32) -> Result<(), PlaceError> {
        cell.order(self.leader, &Order::Release { from, to }).await?;
        Ok(())
    }
}

/// The figures of one wave, of which the servers used `cpu`.
pub fn placings(sheet: &mut Sheet, case: &str, found: &Placings, cpu: Duration) {
    let placed = found.placed as f64;
    sheet.figure(case, "placements_per_second", placed / found.seconds.max(1e-9), "1/s");
    quantiles(sheet, case, ["p50_ms", "p99_ms"], &found.each_ms);
    let each = cpu.as_secs_f64() * 1e6 / placed.max(1.0);
    sheet.figure(case, "server_cpu_us_per_placement", each, "us");
    sheet.figure(case, "placed", placed, "count");
    sheet.figure(case, "refused", found.refused as f64, "count");
    sheet.figure(case, "seconds", found.seconds, "s");
}

/// Without samples there is no figure; the checks say why.
pub fn quantiles(sheet: &mut Sheet, case: &str, names: [&'static str; 2], samples: &[f64]) {
    for (name, permille) in names.into_iter().zip([500, 990]) {
        if let Some(value) = quantile(samples, permille) {
            sheet.figure(case, name, value, "ms");
        }
    }
}

struct Seen {
    /// When everything was placed.
    full: Checked,
    failed: BTreeMap<String, u64>,
    short: Vec<String>,
    lives: Option<Lives>,
    /// When the load began.
    term: u64,
}

async fn checks(
    sheet: &mut Sheet,
    options: Options,
    cell: &mut Cell,
    leader: u64,
    seen: Seen,
) -> Result<(), PlaceError> {
    let last = cell.check(leader, 0).await?;
    let mut states = BTreeMap::new();
    for id in cell.ids() {
        states.insert(id, cell.check(id, last.index).await?);
    }
    let Seen { full, mut failed, short, lives, term } = seen;
    for (reason, count) in lives.as_ref().map(|lives| lives.failed.clone()).unwrap_or_default() {
        *failed.entry(reason).or_default() += count;
    }
    let mut check = |name, ok: bool, detail: String| {
        sheet.check("cell", name, if ok { Ok(detail) } else { Err(detail) });
    };
    let detail = if failed.is_empty() { "none failed".to_owned() } else { format!("{failed:?}") };
    check("every_command_succeeded", failed.is_empty(), detail);
    let held = full.reservations == u64::from(options.vms) && last.reservations == 0;
    let detail = format!("{} held at once, {} in the end", full.reservations, last.reservations);
    check("placements_are_held_until_released", held, detail);
    if let Some(lives) = lives {
        let vms = u64::from(lives.vms);
        check("all_running", last.running == vms, format!("{} of {vms} run", last.running));
        let on_nodes = cell.tally.running.get();
        check("nodes_run_them", on_nodes == vms, format!("{on_nodes} of {vms} run on the nodes"));
    }
    let hashes: Vec<u64> = states.values().map(|state| state.state_hash).collect();
    let one_index = states.values().all(|state| state.index == last.index);
    let agree = one_index && hashes.windows(2).all(|pair| pair[0] == pair[1]);
    check("replicas_agree", agree, format!("index {}, hashes {hashes:x?}", last.index));
    let steady = states.values().all(|state| state.term == term);
    check("one_leader", steady, format!("term {term} at the start, {} at the end", last.term));
    let lost = cell.tally.lost.get();
    let detail = format!("{} hosts silent, {lost} sessions lost", last.silent_hosts);
    check("no_host_silent", last.silent_hosts == 0 && lost == 0, detail);
    sheet.check("cell", "all_placed", none_of(&short, "every request of every case"));
    let broken: Vec<String> =
        states.values().chain([&full]).filter_map(|state| state.broken.clone()).collect();
    let detail = "sums, references and indexes of every replica";
    sheet.check("cell", "invariants", none_of(&broken, detail));
    let over: Vec<String> = full.over_capacity.into_iter().chain(last.over_capacity).collect();
    let detail = "all hosts and datastores recounted, when full and at the end";
    sheet.check("cell", "nothing_over_capacity", none_of(&over, detail));
    sheet.check("cell", "log_on_disk", cell.log_is_on_disk());
    Ok(())
}
