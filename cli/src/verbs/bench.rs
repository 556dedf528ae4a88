//! `berth bench`: measures the control plane on a cell of its own; `berth-simulate` does the work.
//!
//! Ends non-zero when a check fails: figures of a run that went wrong mean nothing.

use super::output;
use anyhow::{Context, Result, ensure};
use berth_model::{Permille, Resources};
use berth_simulate::{Sheet, drs, failover, host_size, pack, place, plan, rules, trace};
use clap::{Subcommand, ValueEnum, value_parser};
use std::path::PathBuf;

/// Measure the control plane on a cell made for it.
#[derive(Debug, Subcommand)]
pub enum Case {
    /// The planning process in memory: a cell 85 % full, placements coming and going.
    Plan(PlanArguments),
    /// What rules cost beside plain placements, and whether they are kept.
    Rules(RulesArguments),
    /// Admission control that keeps capacity for the loss of hosts.
    Failover {
        #[command(flatten)]
        size: Size,
    },
    /// One balancing plan for a skewed cluster.
    Drs {
        #[command(flatten)]
        size: Size,
    },
    /// How few hosts a real mix takes, online and after live migrations.
    Pack(PackArguments),
    /// Replicas in processes of their own, with fsync, and simulated nodes.
    Place(PlaceArguments),
    /// One replica of `place`.
    #[command(hide = true)]
    Replica { configuration: PathBuf },
}

/// Most hosts, and most container VMs, that a benchmark takes.
const LARGEST: i64 = 10_000_000;
const AT_LEAST_ONE: fn() -> clap::builder::RangedI64ValueParser<u32> =
    || value_parser!(u32).range(1..=LARGEST);

#[derive(Debug, clap::Args)]
pub struct Size {
    /// Hosts of the cell [default: 1,000; drs: 100].
    #[arg(long, value_name = "N", value_parser = AT_LEAST_ONE())]
    hosts: Option<u32>,
    /// Container VMs [default: 10 a host; failover: 20; drs: 2,126].
    #[arg(long, value_name = "M", value_parser = AT_LEAST_ONE())]
    vms: Option<u32>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, clap::Args)]
pub struct Run {
    /// The same seed makes the same cell and the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object a line, for programs.
    #[arg(long)]
    json: bool,
}

impl Size {
    const HOSTS: u32 = 1000;

    fn hosts_and_vms(&self, hosts: u32, per_host: u32) -> (u32, u32) {
        let hosts = self.hosts.unwrap_or(hosts);
        (hosts, self.vms.unwrap_or(hosts.saturating_mul(per_host)))
    }
}

/// Which host is taken of those that would do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Strategy {
    Pack,
    Spread,
    Balance,
}

impl From<Strategy> for berth_model::Strategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Pack => berth_model::Strategy::Pack,
            Strategy::Spread => berth_model::Strategy::Spread,
            Strategy::Balance => berth_model::Strategy::Balance,
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Policy {
    /// The cluster's policy.
    #[arg(long, value_enum, default_value = "spread")]
    strategy: Strategy,
    /// Requests that are decided before they are applied as one command.
    #[arg(long, value_name = "B", default_value_t = 256, value_parser = AT_LEAST_ONE())]
    batch: u32,
    /// A real workload: azure:FILE, huawei:HOSTS,RACKS,REQUESTS or alibaba:NODES,PODS (csv or
    /// csv.gz); made up without it.
    #[arg(long, value_name = "T")]
    trace: Option<trace::Source>,
}

#[derive(Debug, clap::Args)]
pub struct PlanArguments {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    policy: Policy,
    /// Also measure up to so many planner threads on one snapshot.
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = value_parser!(u32).range(1..=64))]
    planners: u32,
    /// A host of the replayed Azure trace.
    #[arg(long, value_name = "VCPU,GIB", default_value = "40,112", value_parser = host)]
    host: Resources,
    /// The churn alone, on cells of 100 to 100,000 hosts, as a table.
    #[arg(long, conflicts_with_all = ["only", "trace"])]
    growth: bool,
    /// One case: churn, container-vms, planners, replay or quality.
    #[arg(long, value_name = "CASE", default_value = "", hide_default_value = true)]
    only: String,
}

#[derive(Debug, clap::Args)]
pub struct RulesArguments {
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    policy: Policy,
}

#[derive(Debug, clap::Args)]
pub struct PackArguments {
    #[command(flatten)]
    run: Run,
    /// A real workload, as `bench plan` takes it; made up without it.
    #[arg(long, value_name = "T")]
    trace: Option<trace::Source>,
    /// Requests of the trace after which is looked who is alive; those arrive, in their order.
    #[arg(long, value_name = "K", default_value_t = 50_000, value_parser = AT_LEAST_ONE())]
    first: u32,
    /// What a host has.
    #[arg(long, value_name = "VCPU,GIB", default_value = "40,112", value_parser = host)]
    host: Resources,
    /// Requests that are decided before they are applied as one command.
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = AT_LEAST_ONE())]
    batch: u32,
    /// Live migrations at most, in percent of the container VMs.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = value_parser!(u32).range(0..=100))]
    moves: u32,
}

#[derive(Debug, clap::Args)]
pub struct PlaceArguments {
    #[command(flatten)]
    size: Size,
    /// Schedulers of the cell, an odd number.
    #[arg(long, default_value_t = 3)]
    replicas: u32,
    /// Placements in one request of the batch cases.
    #[arg(long, value_name = "B", default_value_t = 1000, value_parser = AT_LEAST_ONE())]
    batch: u32,
    /// Requests for one placement each that are in flight at once.
    #[arg(long, value_name = "K", default_value_t = 1000, value_parser = AT_LEAST_ONE())]
    in_flight: u32,
    /// Threads that decide placements, of each replica.
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = value_parser!(u32).range(1..=64))]
    planners: u32,
    /// Through the HTTP API of replicas that run as `berth scheduler`.
    #[arg(long)]
    http: bool,
    /// So many cells of their own on this machine, which share hosts and container VMs evenly.
    #[arg(long, value_name = "C", default_value_t = 1, value_parser = value_parser!(u32).range(1..=100))]
    cells: u32,
    /// Where the logs lie while it runs; must be on a disk [default: the temporary directory].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// `VCPU,GIB`.
fn host(text: &str) -> Result<Resources, String> {
    let wrong = || format!("`{text}` is no host: write cores and GiB as 40,112");
    let (cpus, gib) = text.split_once(',').ok_or_else(wrong)?;
    match (cpus.trim().parse(), gib.trim().parse()) {
        (Ok(cpus @ 1..=65_536), Ok(gib @ 1..=1_048_576)) => Ok(host_size(cpus, gib)),
        _ => Err(wrong()),
    }
}

pub async fn run(case: Case) -> Result<()> {
    match case {
        Case::Plan(arguments) => run_plan(arguments),
        Case::Rules(RulesArguments { size, policy }) => {
            let (hosts, vms) = size.hosts_and_vms(Size::HOSTS, 10);
            let Policy { strategy, batch, trace } = policy;
            let (strategy, Run { seed, json }) = (strategy.into(), size.run);
            let options = rules::Options { hosts, vms, seed, strategy, batch, trace };
            show(&rules::run(&options)?, json)
        }
        Case::Failover { size } => {
            let (hosts, vms) = size.hosts_and_vms(Size::HOSTS, 20);
            let Run { seed, json } = size.run;
            show(&failover::run(failover::Options { hosts, vms, seed }), json)
        }
        Case::Drs { size } => {
            let (hosts, vms) = (size.hosts.unwrap_or(100), size.vms.unwrap_or(2126));
            let Run { seed, json } = size.run;
            show(&drs::run(drs::Options { hosts, vms, seed }), json)
        }
        Case::Pack(arguments) => {
            let PackArguments { run: Run { seed, json }, trace, first, host, batch, moves } =
                arguments;
            let moves = Permille(moves * 10);
            let options = pack::Options { trace, first, host, batch, moves, seed };
            show(&pack::run(&options)?, json)
        }
        Case::Place(arguments) => run_place(arguments).await,
        Case::Replica { configuration } => Ok(place::run_replica(&configuration).await?),
    }
}

fn run_plan(arguments: PlanArguments) -> Result<()> {
    let PlanArguments { size, policy, planners, host, growth, only } = arguments;
    let (hosts, vms) = size.hosts_and_vms(Size::HOSTS, 10);
    let Policy { strategy, batch, trace } = policy;
    let Run { seed, json } = size.run;
    let options = plan::Options {
        hosts,
        vms,
        seed,
        strategy: strategy.into(),
        batch,
        planners,
        trace,
        host,
        only,
    };
    if !growth {
        return show(&plan::run(&options)?, json);
    }
    let strategy = strategy.to_possible_value().context("the strategy has no name")?;
    let arguments: Vec<String> = [
        "bench",
        "plan",
        "--strategy",
        strategy.get_name(),
        "--batch",
        &batch.to_string(),
        "--seed",
        &seed.to_string(),
    ]
    .map(str::to_owned)
    .into();
    show(&plan::run_growth(&options, &program()?, &arguments)?, json)
}

async fn run_place(arguments: PlaceArguments) -> Result<()> {
    let PlaceArguments { size, replicas, batch, in_flight, planners, http, cells, directory } =
        arguments;
    let (hosts, vms) = size.hosts_and_vms(Size::HOSTS, 10);
    let Run { seed, json } = size.run;
    let options =
        place::Options { hosts, vms, replicas, batch, in_flight, planners, http, cells, seed };
    let directory = directory.unwrap_or_else(std::env::temp_dir);
    let sheet = place::run(options, &program()?, &directory).await?;
    show(&sheet, json)
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find the berth program")
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

    fn parse(line: &str) -> Result<Case, clap::error::ErrorKind> {
        let words = std::iter::once("bench").chain(line.split(' '));
        Line::try_parse_from(words).map(|line| line.case).map_err(|error| error.kind())
    }

    #[test]
    fn a_case_that_is_not_built_is_refused() {
        for case in ["plan", "rules", "failover", "drs", "place"] {
            parse(&format!("{case} --hosts 1 --vms 2 --seed 3 --json")).unwrap();
        }
        parse("pack --trace azure:x.csv --first 50000 --host 40,112").unwrap();
        for case in ["startup", "storage", "network"] {
            assert_eq!(parse(case).unwrap_err(), clap::error::ErrorKind::InvalidSubcommand);
        }
    }

    #[test]
    fn what_a_host_has_is_two_numbers() {
        assert_eq!(host("40,112"), Ok(host_size(40, 112)));
        for wrong in ["", "40", "40,", "0,1", "1,0", "a,b", "1,2,3", "-1,4", "1e9,4"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn growth_is_of_the_churn_alone() {
        parse("plan --growth --strategy pack").unwrap();
        assert!(parse("plan --growth --only churn").is_err());
        assert!(parse("plan --trace google:x").is_err());
    }
}
