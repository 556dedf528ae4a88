//! The steps of the benchmark, and what they amount to.

use super::cell::Cell;
use super::load::{Alone, Step};
use super::orders::{Checked, Order, Told};
use super::{Options, PlaceError};
use crate::sheet::Sheet;
use crate::spread::quantile;
use std::collections::BTreeMap;

const BENCH: &str = "place";

pub async fn tell(options: Options, mut cell: Cell) -> Result<Sheet, PlaceError> {
    let outcome = steps(options, &mut cell).await;
    cell.stop().await;
    outcome
}

async fn steps(options: Options, cell: &mut Cell) -> Result<Sheet, PlaceError> {
    let Options { hosts, vms, replicas, batch, in_flight, .. } = options;
    let (mut leader, mut term) = (0, 0);
    for id in cell.ids() {
        if let Told::Ready { leader: named, term: of } = cell.order(id, &Order::Ready).await? {
            (leader, term) = (named, of);
        }
    }
    cell.order(leader, &Order::AwaitHosts(u64::from(hosts))).await?;
    cell.order(leader, &Order::RecordImages).await?;
    // Not the leader: it also holds the load.
    let weighed = cell.ids().into_iter().find(|id| *id != leader).unwrap_or(leader);
    let before = cell.resident(weighed);

    let flooded = vms - options.alone();
    let create = step(cell.order(leader, &Order::Create { from: 0, to: flooded }).await?)?;
    let start = step(cell.order(leader, &Order::Start { from: 0, to: flooded }).await?)?;
    let Told::WentAlone(alone) =
        cell.order(leader, &Order::OneAtATime { from: flooded, to: vms }).await?
    else {
        return Err(PlaceError::OddAnswer);
    };
    let after = cell.resident(weighed);

    let last = cell.check(leader, 0).await?;
    let mut states = BTreeMap::new();
    for id in cell.ids() {
        states.insert(id, cell.check(id, last.index).await?);
    }

    let about = format!(
        "{hosts} simulated hosts, {vms} container VMs, {replicas} replicas in processes of their \
         own on this machine, fsync on; {in_flight} clients with {batch} command(s) each; \
         no hypervisor, no HTTP"
    );
    let mut sheet = Sheet::new(BENCH, about);
    commits(&mut sheet, "create", &create);
    reached(&mut sheet, "placed", &create);
    commits(&mut sheet, "start", &start);
    reached(&mut sheet, "running", &start);
    for (what, samples) in [
        (["commit_p50_ms", "commit_p99_ms"], &alone.commit_ms),
        (["placed_p50_ms", "placed_p99_ms"], &alone.placed_ms),
        (["running_p50_ms", "running_p99_ms"], &alone.running_ms),
    ] {
        quantiles(&mut sheet, "alone", what, samples);
    }
    if let (Some(before), Some(after)) = (before, after) {
        let grown = after.saturating_sub(before) as f64;
        sheet.figure("memory", "bytes_per_vm", grown / f64::from(vms), "bytes");
    }
    checks(&mut sheet, options, cell, Seen { create, start, alone, last, states, term });
    Ok(sheet)
}

struct Seen {
    create: Step,
    start: Step,
    alone: Alone,
    last: Checked,
    states: BTreeMap<u64, Checked>,
    /// When the load began.
    term: u64,
}

fn step(told: Told) -> Result<Step, PlaceError> {
    let Told::Stepped(step) = told else { return Err(PlaceError::OddAnswer) };
    Ok(step)
}

fn commits(sheet: &mut Sheet, case: &'static str, step: &Step) {
    let per_second = step.commit_ms.len() as f64 / step.commit_seconds.max(1e-9);
    sheet.figure(case, "commands_per_second", per_second, "1/s");
    quantiles(sheet, case, ["p50_ms", "p99_ms"], &step.commit_ms);
}

fn reached(sheet: &mut Sheet, case: &'static str, step: &Step) {
    let per_second = step.reached_ms.len() as f64 / step.reached_seconds.max(1e-9);
    sheet.figure(case, "placements_per_second", per_second, "1/s");
    quantiles(sheet, case, ["p50_ms", "p99_ms"], &step.reached_ms);
}

/// Without samples there is no figure; the checks say why.
fn quantiles(sheet: &mut Sheet, case: &'static str, names: [&'static str; 2], samples: &[f64]) {
    for (name, permille) in names.into_iter().zip([500, 990]) {
        if let Some(value) = quantile(samples, permille) {
            sheet.figure(case, name, value, "ms");
        }
    }
}

fn checks(sheet: &mut Sheet, options: Options, cell: &Cell, seen: Seen) {
    let Seen { create, start, alone, last, states, term } = seen;
    let vms = u64::from(options.vms);
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in [create.failed, start.failed, alone.failed].into_iter().flatten() {
        *failed.entry(reason).or_default() += count;
    }
    let mut check = |name, ok: bool, detail: String| {
        sheet.check("cell", name, if ok { Ok(detail) } else { Err(detail) });
    };
    let detail = if failed.is_empty() { "none failed".to_owned() } else { format!("{failed:?}") };
    check("every_command_succeeded", failed.is_empty(), detail);
    check("all_running", last.running == vms, format!("{} of {vms} run", last.running));
    let on_nodes = cell.tally.running.get();
    check("nodes_run_them", on_nodes == vms, format!("{on_nodes} of {vms} run on the nodes"));
    let over = &last.over_capacity;
    let detail = if over.is_empty() { "no host, no datastore".to_owned() } else { over.join(", ") };
    check("nothing_over_capacity", over.is_empty(), detail);
    let broken: Vec<&str> = states.values().filter_map(|state| state.broken.as_deref()).collect();
    let detail = if broken.is_empty() {
        "sums, references and indexes of every replica".to_owned()
    } else {
        broken.join("; ")
    };
    check("invariants", broken.is_empty(), detail);
    let hashes: Vec<u64> = states.values().map(|state| state.state_hash).collect();
    let one_index = states.values().all(|state| state.index == last.index);
    let agree = one_index && hashes.windows(2).all(|pair| pair[0] == pair[1]);
    check("replicas_agree", agree, format!("index {}, hashes {hashes:x?}", last.index));
    let steady = states.values().all(|state| state.term == term);
    check("one_leader", steady, format!("term {term} at the start, {} at the end", last.term));
    let lost = cell.tally.lost.get();
    let detail = format!("{} hosts silent, {lost} sessions lost", last.silent_hosts);
    check("no_host_silent", last.silent_hosts == 0 && lost == 0, detail);
    sheet.check("cell", "log_on_disk", cell.log_is_on_disk());
}
