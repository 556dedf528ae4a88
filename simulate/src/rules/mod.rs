//! `berth bench rules`: what rules cost, and whether they are kept.
//!
//! For each kind of rule the churn of `bench plan` on a cell of its own, with the same requests,
//! labels and departures, and one rule that speaks of all groups. A [`referee::Referee`] that
//! shares no code with the engine judges every place. With `--trace huawei:…`, all requests of that
//! trace in the order of the file, with its NUMA widths and its three rules.

mod huawei;
mod kinds;
mod referee;

use crate::engine::EngineError;
use crate::mix::Workload;
use crate::plan::{Churn, Load};
use crate::sheet::Sheet;
use crate::trace::{Source, Trace, TraceError};
use berth_model::{Permille, Strategy};
use kinds::Kind;
use referee::Referee;

const BENCH: &str = "rules";
const FILL: Permille = Permille(850);
/// A rule may cost so many times what plain placements cost; more is told, not failed: a figure
/// depends on the machine.
const COLUMNS: [&str; 5] =
    ["cpu_us_per_decision", "ratio_to_plain", "placed", "refused", "violations"];

#[derive(Clone, Debug)]
pub struct Options {
    pub hosts: u32,
    pub vms: u32,
    pub seed: u64,
    pub strategy: Strategy,
    /// Requests decided before they are applied as one command.
    pub batch: u32,
    pub trace: Option<Source>,
}

#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the {0} trace has no rules; give huawei:HOSTS,RACKS,REQUESTS or none")]
    NoRules(&'static str),
}

pub fn run(options: &Options) -> Result<Sheet, RulesError> {
    match options.trace.as_ref().map(Source::read).transpose()? {
        None => by_kind(options),
        Some(Trace::Huawei(trace)) => Ok(huawei::run(&trace, options.batch, options.seed)?),
        Some(other @ (Trace::Azure(_) | Trace::Alibaba(_))) => {
            Err(RulesError::NoRules(other.name()))
        }
    }
}

fn by_kind(options: &Options) -> Result<Sheet, RulesError> {
    let Options { hosts, vms, seed, strategy, batch, .. } = *options;
    let about = format!(
        "{hosts} hosts in racks of 16, {vms} container VMs in groups of ten, 85 % full, coming and \
         going; strategy {strategy:?}, {batch} decisions a command; in memory, no log, no network"
    );
    let mut sheet = Sheet::new(BENCH, about);
    let mut plain = None;
    for kind in Kind::ALL {
        let case = kind.name();
        let mut workload = Workload::new(None, hosts, vms, FILL, strategy);
        workload.mix = workload.mix.labelled(kinds::labels);
        let load = Load { vms: vms.into(), batch: batch.into(), seed };
        let rules: Vec<_> = kind.rule().map(|rule| (case, rule)).into_iter().collect();
        let (measured, referee) =
            Churn::run_watched(workload, load, &rules, |fleet| Referee::new(kind, fleet))?;
        measured.tell(&mut sheet, case);
        let each = measured.cpu_us_per_decision();
        let plain = *plain.get_or_insert(each);
        sheet.figure(case, "ratio_to_plain", each / f64::max(plain, 1e-9), "times");
        sheet.figure(case, "placed", measured.spent.decisions as f64, "count");
        sheet.figure(case, "violations", referee.violations.len() as f64, "count");
        if kind == Kind::PreferredApart {
            sheet.figure(case, "unwanted_pairs", referee.unwanted as f64, "count");
        }
        measured.check(&mut sheet, case);
        let detail = "every place judged as it was made, without the engine's code";
        sheet.check(case, "no_violation", crate::checks::none_of(&referee.violations, detail));
    }
    let cases: Vec<String> = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    let table = sheet.table(&cases, &COLUMNS);
    sheet.note(&table);
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let strategy = Strategy::Spread;
        Options { hosts: 64, vms: 640, seed: 1, strategy, batch: 20, trace: None }
    }

    #[test]
    fn no_kind_of_rule_is_broken_in_a_small_fleet() {
        for strategy in [Strategy::Pack, Strategy::Spread] {
            let sheet = run(&Options { strategy, ..options() }).unwrap();
            assert_eq!(sheet.failed(), 0, "{}", sheet.text());
            for kind in Kind::ALL {
                assert!(sheet.value(kind.name(), "placed").unwrap() > 300.0, "{}", sheet.text());
            }
        }
    }

    #[test]
    fn the_rules_of_a_trace_are_kept() {
        let at = |name: &str| format!("{}/traces/{name}", env!("CARGO_MANIFEST_DIR"));
        let source = format!(
            "huawei:{},{},{}",
            at("huawei-hosts-excerpt.csv"),
            at("huawei-racks-excerpt.csv"),
            at("huawei-requests-excerpt.csv")
        );
        let trace = Some(source.parse().unwrap());
        let sheet = run(&Options { trace, ..options() }).unwrap();
        assert_eq!(sheet.failed(), 0, "{}", sheet.text());
        let azure = format!("azure:{}", at("azure-excerpt.csv"));
        let trace = Some(azure.parse().unwrap());
        assert!(matches!(run(&Options { trace, ..options() }), Err(RulesError::NoRules("azure"))));
    }
}
