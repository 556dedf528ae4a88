//! Several cells at once on one machine, each with replicas and logs of its own, which share hosts
//! and placements evenly: as a federation of cells holds more than one cell should.

use super::cell::Cell;
use super::orders::{Checked, Order, Told};
use super::placing::{Placings, Wave};
use super::story::{BENCH, get_ready, quantiles};
use super::{Options, PlaceError};
use crate::checks::none_of;
use crate::clock;
use crate::sheet::Sheet;
use futures_util::future::try_join_all;
use std::path::Path;
use std::time::Duration;

const CASE: &str = "cells";

/// One cell, ready to be filled.
struct Member {
    options: Options,
    cell: Cell,
    leader: u64,
    /// A replica that does not hold the load, and what it weighed.
    weighed: u64,
    before: u64,
}

/// What became of it.
struct Filled {
    found: Placings,
    checked: Vec<Checked>,
    wanted: u32,
    grown: u64,
    cpu: Duration,
}

pub async fn tell(options: Options, program: &Path, directory: &Path) -> Result<Sheet, PlaceError> {
    let mut members = Vec::new();
    // One after the other: their elections would only disturb each other.
    for number in 0..options.cells {
        members.push(Member::start(share(options, number), program, directory).await?);
    }
    let began = clock::now();
    let filled = try_join_all(members.iter_mut().map(Member::fill)).await;
    let seconds = began.elapsed().as_secs_f64();
    let filled: Result<Vec<Filled>, PlaceError> = match filled {
        Err(error) => Err(error),
        Ok(found) => {
            let mut all = Vec::new();
            for (member, (found, cpu)) in members.iter_mut().zip(found) {
                all.push(member.check(found, cpu).await?);
            }
            Ok(all)
        }
    };
    let on_disk = members.first().map(|member| member.cell.log_is_on_disk());
    for member in members {
        member.cell.stop().await;
    }
    let mut sheet = figures(options, seconds, &filled?);
    if let Some(on_disk) = on_disk {
        sheet.check(CASE, "log_on_disk", on_disk);
    }
    Ok(sheet)
}

/// What the cell with this number has of all; the first ones take what does not divide.
fn share(options: Options, number: u32) -> Options {
    let part = |all: u32| all / options.cells + u32::from(number < all % options.cells);
    let (hosts, vms) = (part(options.hosts).max(1), part(options.vms).max(2));
    Options { hosts, vms, seed: options.seed ^ (u64::from(number) << 16), ..options }
}

impl Member {
    async fn start(options: Options, program: &Path, directory: &Path) -> Result<Self, PlaceError> {
        let mut cell = Cell::start(options, program, directory).await?;
        let (leader, _) = get_ready(options, &mut cell).await?;
        let weighed = cell.ids().into_iter().find(|id| *id != leader).unwrap_or(leader);
        let before = cell.resident(weighed).unwrap_or(0);
        Ok(Member { options, cell, leader, weighed, before })
    }

    async fn fill(&mut self) -> Result<(Placings, Duration), PlaceError> {
        let Options { vms, batch, .. } = self.options;
        let wave = Wave { from: 0, to: vms, batch, in_flight: self.options.batches() };
        let cpu = self.cell.cpu();
        let told = self.cell.order(self.leader, &Order::Place(wave)).await?;
        let Told::Placed(found) = told else { return Err(PlaceError::OddAnswer) };
        Ok((found, self.cell.cpu().saturating_sub(cpu)))
    }

    async fn check(&mut self, found: Placings, cpu: Duration) -> Result<Filled, PlaceError> {
        let last = self.cell.check(self.leader, 0).await?;
        let mut checked = Vec::new();
        for id in self.cell.ids() {
            checked.push(self.cell.check(id, last.index).await?);
        }
        let after = self.cell.resident(self.weighed).unwrap_or(0);
        let grown = after.saturating_sub(self.before);
        Ok(Filled { found, checked, wanted: self.options.vms, grown, cpu })
    }
}

fn figures(options: Options, seconds: f64, filled: &[Filled]) -> Sheet {
    let Options { hosts, vms, replicas, cells, batch, .. } = options;
    let about = format!(
        "{cells} cells of {replicas} replicas each on this machine, {hosts} hosts in all known to \
         the fleets without sessions, {vms} placements in all, {batch} in a request; fsync on; \
         asked for in the leaders' processes, all at once; no hypervisor, no HTTP"
    );
    let mut sheet = Sheet::new(BENCH, about);
    let placed: u64 = filled.iter().map(|filled| filled.found.placed).sum();
    let wanted: u64 = filled.iter().map(|filled| u64::from(filled.wanted)).sum();
    let refused: u64 = filled.iter().map(|filled| filled.found.refused).sum();
    let each: Vec<f64> = filled.iter().flat_map(|filled| filled.found.each_ms.clone()).collect();
    let cpu: Duration = filled.iter().map(|filled| filled.cpu).sum();
    let grown: u64 = filled.iter().map(|filled| filled.grown).sum();
    let many = placed.max(1) as f64;
    sheet.figure(CASE, "placements_per_second", placed as f64 / seconds.max(1e-9), "1/s");
    sheet.figure(CASE, "seconds", seconds, "s");
    quantiles(&mut sheet, CASE, ["p50_ms", "p99_ms"], &each);
    sheet.figure(CASE, "server_cpu_us_per_placement", cpu.as_secs_f64() * 1e6 / many, "us");
    sheet.figure(CASE, "bytes_per_vm", grown as f64 / many, "bytes");
    sheet.figure(CASE, "placed", placed as f64, "count");
    sheet.figure(CASE, "refused", refused as f64, "count");
    let detail = format!("{placed} of {wanted}");
    let failed = filled.iter().flat_map(|filled| &filled.found.failed);
    let mut short: Vec<String> = failed.map(|(why, count)| format!("{count}: {why}")).collect();
    if placed != wanted {
        short.push(detail.clone());
    }
    sheet.check(CASE, "all_placed", none_of(&short, detail));
    let states = || filled.iter().flat_map(|filled| &filled.checked);
    let over: Vec<String> = states().flat_map(|state| state.over_capacity.clone()).collect();
    sheet.check(CASE, "nothing_over_capacity", none_of(&over, "all recounted on every replica"));
    let broken: Vec<String> = states().filter_map(|state| state.broken.clone()).collect();
    let detail = "sums, references and indexes of every replica";
    sheet.check(CASE, "invariants", none_of(&broken, detail));
    let agree = |filled: &&Filled| {
        filled
            .checked
            .windows(2)
            .all(|pair| pair[0].state_hash == pair[1].state_hash && pair[0].index == pair[1].index)
    };
    let apart = filled.iter().filter(|filled| !agree(filled)).count();
    let detail = format!("{apart} cells with replicas that differ");
    sheet.check(CASE, "replicas_agree", if apart == 0 { Ok(detail) } else { Err(detail) });
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_share_everything_evenly() {
        let options = Options {
            hosts: 103,
            vms: 1007,
            replicas: 3,
            batch: 10,
            in_flight: 10,
            planners: 1,
            http: false,
            cells: 10,
            seed: 1,
        };
        let shares: Vec<Options> = (0..10).map(|number| share(options, number)).collect();
        assert_eq!(shares.iter().map(|share| share.hosts).sum::<u32>(), 103);
        assert_eq!(shares.iter().map(|share| share.vms).sum::<u32>(), 1007);
        assert_ne!(shares[0].seed, shares[1].seed);
    }
}
