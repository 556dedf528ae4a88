//! `berth bench`: measures the control plane on a cell of its own; `berth-simulate` does the work.
//!
//! Ends non-zero when a check fails: figures of a run that went wrong mean nothing.

use super::output;
use anyhow::{Context, Result, ensure};
use berth_simulate::{Sheet, place, plan};
use clap::{Subcommand, value_parser};
use std::path::PathBuf;

/// Measure the control plane on a cell made for it.
#[derive(Debug, Subcommand)]
pub enum Case {
    /// The planner alone: one fleet in memory, 85 % full, container VMs coming and going.
    Plan {
        #[command(flatten)]
        size: Size,
    },
    /// Replicas in processes of their own, with fsync, and simulated nodes.
    Place {
        #[command(flatten)]
        size: Size,
        /// Schedulers of the cell, an odd number.
        #[arg(long, default_value_t = 3)]
        replicas: u32,
        /// Commands that one client sends at once before it waits for their answers.
        #[arg(long, value_name = "B", default_value_t = 1, value_parser = AT_LEAST_ONE())]
        batch: u32,
        /// Clients at work at once.
        #[arg(long, value_name = "K", default_value_t = 64, value_parser = AT_LEAST_ONE())]
        in_flight: u32,
        /// Where the logs lie while it runs; must be on a disk [default: the temporary directory].
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// One replica of `place`.
    #[command(hide = true)]
    Replica { configuration: PathBuf },
}

/// Most hosts, and most container VMs, that a benchmark takes.
const LARGEST: i64 = 1_000_000;
const AT_LEAST_ONE: fn() -> clap::builder::RangedI64ValueParser<u32> =
    || value_parser!(u32).range(1..=LARGEST);

#[derive(Debug, clap::Args)]
pub struct Size {
    /// Hosts of the cell.
    #[arg(long, value_name = "N", value_parser = AT_LEAST_ONE())]
    hosts: u32,
    /// Container VMs.
    #[arg(long, value_name = "M", value_parser = AT_LEAST_ONE())]
    vms: u32,
    /// The same seed makes the same cell and the same container VMs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object a line, for programs.
    #[arg(long)]
    json: bool,
}

pub async fn run(case: Case) -> Result<()> {
    match case {
        Case::Plan { size: Size { hosts, vms, seed, json } } => {
            show(&plan::run(plan::Options { hosts, vms, seed })?, json)
        }
        Case::Place { size, replicas, batch, in_flight, directory } => {
            let Size { hosts, vms, seed, json } = size;
            let options = place::Options { hosts, vms, replicas, batch, in_flight, seed };
            let directory = directory.unwrap_or_else(std::env::temp_dir);
            let program = std::env::current_exe().context("cannot find the berth program")?;
            let sheet = place::run(options, &program, &["bench", "replica"], &directory).await?;
            show(&sheet, json)
        }
        Case::Replica { configuration } => Ok(place::run_replica(&configuration).await?),
    }
}

fn show(sheet: &Sheet, json: bool) -> Result<()> {
    output::text(&if json { sheet.json()? } else { sheet.text() })?;
    let failed = sheet.failed();
    ensure!(failed == 0, "{failed} check(s) failed; the figures do not count");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        case: Case,
    }

    #[test]
    fn a_case_that_is_not_built_is_refused() {
        let parse = |case| Line::try_parse_from(["bench", case, "--hosts", "1", "--vms", "2"]);
        assert!(matches!(parse("plan").unwrap().case, Case::Plan { .. }));
        for case in ["rules", "failover", "drs", "pack", "startup", "storage", "network"] {
            assert_eq!(parse(case).unwrap_err().kind(), clap::error::ErrorKind::InvalidSubcommand);
        }
    }
}
