//! `berth policy set`: what a cluster's operator decides.
//!
//! What no flag names stays as it is. The policy is written on the condition that nobody changed
//! it since it was read.

use super::connection::Connection;
use super::get;
use super::refused::told;
use super::units::{parse_bytes, parse_cpus};
use anyhow::{Context, Result, bail};
use berth_client::WriteOptions;
use berth_client::view::{AdmissionView, PolicyRequest, PolicyView};
use berth_model::Strategy;

/// Change a cluster's policy; `berth get policies` shows it.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Verb {
    /// Set what the flags name; the rest stays.
    Set(Box<Set>),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Set {
    /// Name or id.
    cluster: String,
    /// Which of the hosts that would do is taken.
    #[arg(long, value_enum)]
    strategy: Option<StrategyName>,
    /// CPU that may be charged over CPU that is there: 1 to 16, such as 4 or 2.5.
    #[arg(long, value_name = "RATIO", value_parser = parse_cpus)]
    cpu_overcommit: Option<u64>,
    /// The same for memory: 1 to 4.
    #[arg(long, value_name = "RATIO", value_parser = parse_cpus)]
    memory_overcommit: Option<u64>,
    /// The same for disk: 1 to 20.
    #[arg(long, value_name = "RATIO", value_parser = parse_cpus)]
    disk_overcommit: Option<u64>,
    /// Share of each host's cpu that nothing is charged on, in thousandths: 0 to 900.
    #[arg(long, value_name = "PERMILLE")]
    cpu_reserve: Option<u32>,
    #[arg(long, value_name = "PERMILLE")]
    memory_reserve: Option<u32>,
    /// Of each datastore.
    #[arg(long, value_name = "PERMILLE")]
    disk_reserve: Option<u32>,
    /// Keep what the loss of any so many hosts would need, 1 or 2; 0 keeps nothing.
    #[arg(long, value_name = "HOSTS", group = "admission")]
    tolerate: Option<u8>,
    /// Keep these shares of cpu and memory, in thousandths: 250,250.
    #[arg(
        long,
        value_name = "CPU,MEMORY",
        value_delimiter = ',',
        num_args = 2,
        group = "admission"
    )]
    keep: Vec<u32>,
    /// Keep these hosts empty until another is lost.
    #[arg(long, value_name = "HOST", value_delimiter = ',', group = "admission")]
    failover_hosts: Vec<String>,
    /// Keep the slots of the largest hosts; with --slot-memory and --slot-failures.
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus, group = "admission",
          requires = "slot_memory")]
    slot_cpus: Option<u64>,
    #[arg(long, value_name = "MEMORY", value_parser = parse_bytes, requires = "slot_cpus")]
    slot_memory: Option<u64>,
    /// How many of the largest hosts, 1 to 4.
    #[arg(long, value_name = "HOSTS", default_value_t = 1)]
    slot_failures: u8,
    /// Whether a request may displace what has a lower priority.
    #[arg(long, value_name = "ALLOWED")]
    preemption: Option<bool>,
    /// The CPU model that every host can give, as QEMU names it.
    #[arg(long, value_name = "MODEL")]
    cpu_model: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StrategyName {
    /// The fullest, so that whole hosts stay free.
    Pack,
    /// The one with the fewest container VMs.
    Spread,
    /// The one whose cpu and memory stay nearest to each other in use.
    Balance,
}

impl From<StrategyName> for Strategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::Pack => Strategy::Pack,
            StrategyName::Spread => Strategy::Spread,
            StrategyName::Balance => Strategy::Balance,
        }
    }
}

impl Set {
    /// The whole policy that results.
    fn over(&self, held: PolicyView) -> Result<PolicyRequest> {
        let permille = |wanted: Option<u64>, held: u32| -> Result<u32> {
            wanted.map_or(Ok(held), u32::try_from).context("a ratio is too large")
        };
        Ok(PolicyRequest {
            strategy: Some(self.strategy.map_or(held.strategy, Strategy::from)),
            cpu_overcommit_permille: Some(permille(
                self.cpu_overcommit,
                held.cpu_overcommit_permille,
            )?),
            memory_overcommit_permille: Some(permille(
                self.memory_overcommit,
                held.memory_overcommit_permille,
            )?),
            disk_overcommit_permille: Some(permille(
                self.disk_overcommit,
                held.disk_overcommit_permille,
            )?),
            cpu_reserve_permille: Some(self.cpu_reserve.unwrap_or(held.cpu_reserve_permille)),
            memory_reserve_permille: Some(
                self.memory_reserve.unwrap_or(held.memory_reserve_permille),
            ),
            disk_reserve_permille: Some(self.disk_reserve.unwrap_or(held.disk_reserve_permille)),
            admission: Some(self.admission()?.unwrap_or(held.admission)),
            preemption: Some(self.preemption.unwrap_or(held.preemption)),
            cpu_model: Some(self.cpu_model.clone().unwrap_or(held.cpu_model)),
        })
    }

    fn admission(&self) -> Result<Option<AdmissionView>> {
        let admission = match (self.tolerate, self.keep.as_slice(), self.slot_cpus) {
            (Some(0), _, _) => AdmissionView::Off,
            (Some(count), _, _) => AdmissionView::HostFailures { count },
            (None, [cpu, memory], _) => {
                AdmissionView::Percentage { cpu_permille: *cpu, memory_permille: *memory }
            }
            (None, [_, ..], _) => bail!("--keep takes two shares: cpu,memory"),
            (None, [], Some(cpu_millis)) => AdmissionView::Slots {
                cpu_millis,
                memory_bytes: self.slot_memory.context("--slot-cpus needs --slot-memory")?,
                failures: self.slot_failures,
            },
            (None, [], None) if !self.failover_hosts.is_empty() => {
                AdmissionView::FailoverHosts { hosts: self.failover_hosts.clone() }
            }
            (None, [], None) => return Ok(None),
        };
        Ok(Some(admission))
    }
}

pub async fn run(verb: Verb) -> Result<()> {
    let Verb::Set(set) = verb;
    let client = set.connection.client()?;
    let held = client.policy(&set.cluster).await?;
    let options =
        WriteOptions { if_match: Some(held.meta.modified.clone()), ..WriteOptions::default() };
    let request = set.over(held.policy)?;
    let answer = client.set_policy(&set.cluster, &request, &options).await;
    let view =
        told(answer).with_context(|| format!("the policy of `{}` was not changed", set.cluster))?;
    get::print(&get::POLICIES, &view, set.connection.output)
}
