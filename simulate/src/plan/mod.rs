//! `berth bench plan`: the planning process as a whole, in memory: the shipped fleet, its mirror,
//! and every command between them.
//!
//! Cases:
//! - `churn`: placements that are held, on a cell filled to 85 %; in rounds, some are released and
//!   as many come. A decision is one place (host, NUMA nodes and datastores together) that was
//!   found and held; what is counted is the CPU of the whole process: making the commands, deciding,
//!   apply with all its sums and indexes, and bringing the mirror up to the fleet.
//! - `container-vms`: the same for container VMs with every command of their lives.
//! - `planners-P`: several planner threads on one snapshot each.
//! - `hosts-N`: growth of the cost with the cell.
//! - `replay`: the Azure trace with its arrivals and departures.
//! - `quality-…`: what each strategy reaches, beside a full scan and the bound.
//!
//! There is no log, no network and no other replica here.

mod churn;
mod containers;
mod growth;
mod parallel;
mod quality;
mod replay;

pub use churn::{Churn, Load, Measured};
pub use quality::hosts_used;

use crate::engine::EngineError;
use crate::mix::Workload;
use crate::sheet::Sheet;
use crate::trace::{Source, Trace, TraceError};
use berth_model::{Permille, Resources, Strategy};
use std::path::Path;

pub const BENCH: &str = "plan";
const CHURN: &str = "churn";
const CONTAINERS: &str = "container-vms";
const FILL: Permille = Permille(850);
/// Container VMs have more commands in a life, and no traces: a smaller cell says as much.
const CONTAINER_HOSTS_MAX: u32 = 10_000;

#[derive(Clone, Debug)]
pub struct Options {
    pub hosts: u32,
    /// How many are there at any time.
    pub vms: u32,
    pub seed: u64,
    pub strategy: Strategy,
    /// Requests decided before they are applied as one command.
    pub batch: u32,
    /// Planner threads, at most; with one, only the churn is measured.
    pub planners: u32,
    pub trace: Option<Source>,
    /// A host of the replay.
    pub host: Resources,
    /// Only the case of this name; all if empty.
    pub only: String,
}

/// Requests decided before they are applied as one command.
#[derive(Clone, Copy, Debug)]
struct BatchSize(u64);

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the process for {case} cannot be started")]
    Process {
        case: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the process for {case} did not answer with figures: {said}")]
    Output { case: String, said: String },
    #[error("no case is called `{0}`; choose churn, container-vms, planners, replay or quality")]
    NoCase(String),
}

pub fn run(options: &Options) -> Result<Sheet, PlanError> {
    const CASES: [&str; 6] = ["", CHURN, CONTAINERS, "planners", "replay", "quality"];
    if !CASES.contains(&options.only.as_str()) {
        return Err(PlanError::NoCase(options.only.clone()));
    }
    let trace = options.trace.as_ref().map(Source::read).transpose()?;
    let Options { hosts, vms, seed, strategy, .. } = *options;
    let workload = Workload::new(trace.as_ref(), hosts, vms, FILL, strategy);
    let batch = BatchSize(options.batch.into());
    let about = format!(
        "{hosts} hosts, {vms} container VMs; {}; strategy {strategy:?}, {} decisions a command; \
         in memory, no log, no network",
        workload.about, options.batch
    );
    let mut sheet = Sheet::new(BENCH, about);
    let wanted = |case: &str| options.only.is_empty() || options.only == case;
    if wanted(CHURN) {
        let measured =
            Churn::run(workload.clone(), Load { vms: vms.into(), batch: batch.0, seed })?;
        measured.tell(&mut sheet, CHURN);
        measured.check(&mut sheet, CHURN);
    }
    if wanted("planners") && options.planners > 1 {
        let ground = parallel::Ground::fill(workload, vms.into(), batch.0, seed)?;
        parallel::run(&mut sheet, ground, batch.0, options.planners, seed)?;
    }
    if wanted(CONTAINERS) {
        let fewer = hosts.min(CONTAINER_HOSTS_MAX);
        let vms = u64::from(vms) * u64::from(fewer) / u64::from(hosts.max(1));
        containers::run(&mut sheet, fewer, u32::try_from(vms).unwrap_or(u32::MAX), seed)?;
    }
    if wanted("quality") {
        quality::run(&mut sheet, trace.as_ref(), hosts, seed)?;
    }
    if wanted("replay")
        && let Some(Trace::Azure(azure)) = &trace
    {
        replay::run(&mut sheet, azure, options.host, batch, seed)?;
    }
    Ok(sheet)
}

/// Growth with the cell; `program` with `arguments` must end up in [`run`] and write JSON.
pub fn run_growth(
    options: &Options,
    program: &Path,
    arguments: &[String],
) -> Result<Sheet, PlanError> {
    growth::run(options, program, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sheet::Line;

    fn options() -> Options {
        Options {
            hosts: 24,
            vms: 240,
            seed: 1,
            strategy: Strategy::Spread,
            batch: 16,
            planners: 2,
            trace: None,
            host: crate::mix::host_size(40, 112),
            only: String::new(),
        }
    }

    #[test]
    fn a_small_fleet_is_planned_within_capacity() {
        for strategy in [Strategy::Pack, Strategy::Spread, Strategy::Balance] {
            let sheet = run(&Options { strategy, ..options() }).unwrap();
            assert_eq!(sheet.failed(), 0, "{}", sheet.text());
            let decisions = sheet.value(CHURN, "decisions").unwrap();
            assert!(decisions >= 200.0, "{}", sheet.text());
        }
    }

    #[test]
    fn traces_are_planned_and_the_azure_one_replayed() {
        let at = |name: &str| format!("{}/traces/{name}", env!("CARGO_MANIFEST_DIR"));
        let sources = [
            format!("azure:{}", at("azure-excerpt.csv")),
            format!(
                "huawei:{},{},{}",
                at("huawei-hosts-excerpt.csv"),
                at("huawei-racks-excerpt.csv"),
                at("huawei-requests-excerpt.csv")
            ),
            format!(
                "alibaba:{},{}",
                at("alibaba-nodes-made-up.csv"),
                at("alibaba-pods-made-up.csv")
            ),
        ];
        for source in sources {
            let trace = Some(source.parse().unwrap());
            let sheet = run(&Options { trace, planners: 1, ..options() }).unwrap();
            let failed: Vec<_> = sheet
                .lines()
                .iter()
                .filter(|line| matches!(line, Line::Check(check) if !check.ok))
                .collect();
            // So few hosts have no room to spare for what comes and goes.
            let rejected = |line: &&&Line| {
                !matches!(
                    line, Line::Check(check) if check.check == "nothing_rejected"
                )
            };
            assert_eq!(failed.iter().find(rejected), None, "{}", sheet.text());
            assert_eq!(sheet.value("replay", "bound").is_some(), source.starts_with("azure"));
        }
    }

    #[test]
    fn a_case_that_is_not_there_is_refused() {
        let only = "chrun".to_owned();
        assert!(matches!(run(&Options { only, ..options() }), Err(PlanError::NoCase(_))));
    }
}
