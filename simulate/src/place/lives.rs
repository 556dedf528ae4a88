//! Container VMs from create to running, under load and one at a time.

use super::cell::Cell;
use super::load::Step;
use super::orders::{Order, Told};
use super::story::quantiles;
use super::{Options, PlaceError};
use crate::sheet::Sheet;
use std::collections::BTreeMap;

/// What is left of them.
pub struct Lives {
    pub vms: u32,
    pub failed: BTreeMap<String, u64>,
}

pub async fn live(
    options: Options,
    cell: &mut Cell,
    leader: u64,
    sheet: &mut Sheet,
) -> Result<Lives, PlaceError> {
    let vms = options.lives();
    cell.order(leader, &Order::RecordImages).await?;
    let flooded = vms - options.alone();
    let create = step(cell.order(leader, &Order::Create { from: 0, to: flooded }).await?)?;
    let start = step(cell.order(leader, &Order::Start { from: 0, to: flooded }).await?)?;
    let Told::WentAlone(alone) =
        cell.order(leader, &Order::OneAtATime { from: flooded, to: vms }).await?
    else {
        return Err(PlaceError::OddAnswer);
    };
    commits(sheet, "create", &create);
    reached(sheet, "placed", &create);
    commits(sheet, "start", &start);
    reached(sheet, "running", &start);
    for (what, samples) in [
        (["commit_p50_ms", "commit_p99_ms"], &alone.commit_ms),
        (["placed_p50_ms", "placed_p99_ms"], &alone.placed_ms),
        (["running_p50_ms", "running_p99_ms"], &alone.running_ms),
    ] {
        quantiles(sheet, "alone", what, samples);
    }
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in [create.failed, start.failed, alone.failed].into_iter().flatten() {
        *failed.entry(reason).or_default() += count;
    }
    Ok(Lives { vms, failed })
}

fn step(told: Told) -> Result<Step, PlaceError> {
    let Told::Stepped(step) = told else { return Err(PlaceError::OddAnswer) };
    Ok(step)
}

fn commits(sheet: &mut Sheet, case: &str, step: &Step) {
    let per_second = step.commit_ms.len() as f64 / step.commit_seconds.max(1e-9);
    sheet.figure(case, "commands_per_second", per_second, "1/s");
    quantiles(sheet, case, ["p50_ms", "p99_ms"], &step.commit_ms);
}

fn reached(sheet: &mut Sheet, case: &str, step: &Step) {
    let per_second = step.reached_ms.len() as f64 / step.reached_seconds.max(1e-9);
    sheet.figure(case, "placements_per_second", per_second, "1/s");
    quantiles(sheet, case, ["p50_ms", "p99_ms"], &step.reached_ms);
}
