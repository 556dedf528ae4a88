//! `berth bench plan`: the shipped planner and the shipped fleet, in memory, on one thread.
//!
//! The fleet is filled to 85 % of its memory first; then, in rounds, container VMs leave and as many new ones
//! come. Where hosts hold only a few,
//! some of the larger ones find no host with enough left in one piece: they wait, are asked again
//! when others leave, and are counted as refused each time. A decision is one container VM that was given both its datastore and its host. What is
//! counted is the CPU of the whole process over the rounds: making the commands, the planner, and
//! apply with all its sums and indexes. There is no log, no network and no other replica here.

use crate::clock;
use crate::made_up::{MadeUp, over_capacity};
use crate::sheet::Sheet;
use berth_model::change::Change;
use berth_model::command::{Bootstrap, Command, CommandBody, Decision, Principal};
use berth_model::endpoint::EndpointDefaults;
use berth_model::report::Fact;
use berth_model::{
    CellId, ClusterId, ContainerId, ContainerVm, EndpointId, Epoch, HostId, Permille, Rejection,
    RequestId, Timestamp, VmState,
};
use berth_scheduler::Fleet;
use berth_scheduler::placement::Wish;
use berth_scheduler::planner::Planner;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

const BENCH: &str = "plan";
const CASE: &str = "churn";
const FILL: Permille = Permille(850);
/// Container VMs that come and go in one round.
const ROUND: u32 = 64;
const ROUNDS_MIN: u32 = 4;
const ROUNDS_MAX: u32 = 160;
const ENDPOINT: EndpointId = EndpointId::from_bytes([1; 16]);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub hosts: u32,
    /// How many run at any time.
    pub vms: u32,
    pub seed: u64,
}

/// A fleet that says no to what it cannot refuse.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the made-up cell was refused")]
    Refused(#[from] Rejection),
    #[error("a plan was answered by {0:?}")]
    OddAnswer(Change),
}

pub fn run(options: Options) -> Result<Sheet, PlanError> {
    let Options { hosts, vms, seed } = options;
    let mut bench = Bench::new(MadeUp::new(hosts, vms, FILL, seed))?;
    while bench.next < vms {
        bench.arrive(ROUND.min(vms - bench.next))?;
    }
    let filled = bench.fleet.check_invariants();
    let fill = bench.fill_percent();
    bench.refused = 0;

    let mut source = StdRng::seed_from_u64(seed);
    let rounds = vms.div_ceil(ROUND).clamp(ROUNDS_MIN, ROUNDS_MAX);
    let mut measured = Measured::default();
    let (mut over, mut wrong): (Vec<String>, Vec<String>) = Default::default();
    bench.planning = Duration::ZERO;
    bench.decided = 0;
    for _ in 0..rounds {
        let (cpu, began) = (clock::process_cpu(), clock::now());
        bench.depart(ROUND.min(vms), &mut source)?;
        bench.arrive(ROUND.min(vms))?;
        measured.cpu += clock::process_cpu().saturating_sub(cpu);
        measured.wall += began.elapsed();
        over.extend(over_capacity(&bench.fleet));
        wrong.extend(bench.wrongly_refused());
    }

    let about = format!(
        "{hosts} hosts, {vms} container VMs, one fleet in memory on one thread; no log, no network"
    );
    let mut sheet = Sheet::new(BENCH, about);
    let decisions = bench.decided.max(1) as f64;
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6 / decisions;
    sheet.figure(CASE, "cpu_us_per_decision", microseconds(measured.cpu), "us");
    let per_second = bench.decided as f64 / measured.wall.as_secs_f64().max(1e-9);
    sheet.figure(CASE, "decisions_per_second", per_second, "1/s");
    sheet.figure(CASE, "planner_us_per_decision", microseconds(bench.planning), "us");
    sheet.figure(CASE, "decisions", bench.decided as f64, "count");
    sheet.figure(CASE, "refused", bench.refused as f64, "count");
    sheet.figure(CASE, "memory_charged", fill, "percent");
    let detail = format!("checked after each of {rounds} rounds");
    sheet.check(
        CASE,
        "nothing_over_capacity",
        if over.is_empty() { Ok(detail) } else { Err(over.join(", ")) },
    );
    let invariants = filled.and_then(|()| bench.fleet.check_invariants());
    let detail = "sums, references and indexes, when full and at the end".to_owned();
    sheet.check(CASE, "invariants", invariants.map(|()| detail));
    let detail = "no host would have taken a container VM that was refused".to_owned();
    let refusals = if wrong.is_empty() { Ok(detail) } else { Err(wrong.join(", ")) };
    sheet.check(CASE, "refusals_are_right", refusals);
    Ok(sheet)
}

#[derive(Debug, Default)]
struct Measured {
    cpu: Duration,
    wall: Duration,
}

struct Bench {
    made_up: MadeUp,
    fleet: Fleet,
    planner: Planner,
    index: u64,
    /// Number of the next container VM that is created.
    next: u32,
    running: Vec<ContainerId>,
    planning: Duration,
    /// Hosts chosen.
    decided: u64,
    refused: u64,
}

impl Bench {
    fn new(made_up: MadeUp) -> Result<Self, PlanError> {
        let mut bench = Bench {
            made_up,
            fleet: Fleet::default(),
            planner: Planner::default(),
            index: 0,
            next: 0,
            running: Vec::new(),
            planning: Duration::ZERO,
            decided: 0,
            refused: 0,
        };
        let mut ids = StdRng::seed_from_u64(0);
        let clusters = bench.made_up.clusters().into_iter();
        let clusters =
            clusters.map(|(name, policy)| (ClusterId::random(&mut ids), name, policy)).collect();
        bench.apply(CommandBody::Bootstrap(Bootstrap {
            cell: CellId::from_bytes([1; 16]),
            clusters,
            endpoints: vec![(ENDPOINT, "bench".to_owned(), EndpointDefaults::default())],
        }))?;
        for (host, facts) in bench.made_up.hosts().collect::<Vec<_>>() {
            bench.apply(CommandBody::HostSeen { host, facts: Box::new(facts) })?;
        }
        for image in bench.made_up.images().collect::<Vec<_>>() {
            bench.apply(CommandBody::RecordImage(Box::new(image)))?;
        }
        Ok(bench)
    }

    fn apply(&mut self, body: CommandBody) -> Result<Change, Rejection> {
        self.index += 1;
        let command = Command {
            principal: Principal::Local,
            endpoint: ENDPOINT,
            request: RequestId::from_bytes([1; 16]),
            traceparent: None,
            key: None,
            deadline: None,
            body,
        };
        // A millisecond an entry: what is kept for a while only is forgotten in the end.
        self.fleet.apply(self.index, Timestamp(self.index), command)
    }

    /// New ones are created, given a datastore, started, given a host, and run.
    fn arrive(&mut self, count: u32) -> Result<(), PlanError> {
        let mut fresh = Vec::new();
        for _ in 0..count {
            let new = self.made_up.container(self.next);
            self.next += 1;
            fresh.push(new.id);
            self.apply(CommandBody::CreateContainer(Box::new(new)))?;
        }
        self.decide()?;
        for id in fresh {
            // Without a datastore it waits for one, and the next plan asks again.
            let created = self.fleet.container(id).is_some_and(|vm| vm.datastore.is_some());
            if created {
                self.apply(CommandBody::StartContainer { id })?;
            }
        }
        self.decide()
    }

    /// Plans once, and what got a host runs there.
    fn decide(&mut self) -> Result<(), PlanError> {
        for (host, started) in self.plan()? {
            self.decided += started.len() as u64;
            self.running.extend(started.iter().map(|(container, _)| *container));
            let started_at = Timestamp(self.index);
            let fact = |(container, epoch)| Fact::VmStarted { container, epoch, started_at };
            let facts = started.into_iter().map(fact).collect();
            self.apply(CommandBody::Observe { host, facts })?;
        }
        Ok(())
    }

    /// Plans once and applies the plan; answers what each host is to run.
    fn plan(&mut self) -> Result<BTreeMap<HostId, Vec<(ContainerId, Epoch)>>, PlanError> {
        let cpu = clock::process_cpu();
        let plan = self.planner.plan(&self.fleet);
        self.planning += clock::process_cpu().saturating_sub(cpu);
        self.refused += plan.refusals.len() as u64;
        let items = plan.items;
        let mut hosts: BTreeMap<HostId, Vec<(ContainerId, Epoch)>> = BTreeMap::new();
        if items.is_empty() {
            return Ok(hosts);
        }
        let place = CommandBody::Place { planned_at: plan.planned_at, items: items.clone() };
        let change = self.apply(place)?;
        let Change::Placed { items: answers } = change else {
            return Err(PlanError::OddAnswer(change));
        };
        for (item, answer) in items.into_iter().zip(answers) {
            answer?;
            match item.decision {
                Decision::Host { host, epoch } => {
                    hosts.entry(host).or_default().push((item.container, epoch));
                }
                Decision::Datastore(_) | Decision::Nowhere(_) => {}
            }
        }
        Ok(hosts)
    }

    /// Any that run are removed by force, and their hosts discard what they stored.
    fn depart(&mut self, count: u32, source: &mut StdRng) -> Result<(), PlanError> {
        for _ in 0..count {
            if self.running.is_empty() {
                return Ok(());
            }
            let id = self.running.swap_remove(source.random_range(0..self.running.len()));
            self.apply(CommandBody::RemoveContainer { id, force: true })?;
            let host = self.fleet.container(id).and_then(|vm| match &vm.state {
                VmState::Removing { host, .. } => *host,
                VmState::Pending { .. }
                | VmState::Created
                | VmState::Waiting { .. }
                | VmState::Starting { .. }
                | VmState::Running { .. }
                | VmState::Exited { .. } => None,
            });
            if let Some(host) = host {
                let facts = vec![Fact::Discarded { container: id }];
                self.apply(CommandBody::Observe { host, facts })?;
            }
        }
        Ok(())
    }

    /// Those that wait although a host would take them now.
    fn wrongly_refused(&self) -> Vec<String> {
        let fleet = &self.fleet;
        let waits_in_vain = |vm: &&ContainerVm| {
            let image = fleet.image(vm.endpoint(), vm.spec.image).map(|image| &image.datastores);
            let wish = match vm.datastore {
                None => Wish::create(&vm.spec.demand, image),
                Some(datastore) => Wish::start(&vm.spec.demand, image, datastore),
            };
            fleet.hosts().any(|host| fleet.admit(host, &wish).is_ok())
        };
        fleet.unplaced().filter(waits_in_vain).map(|vm| vm.name.clone()).collect()
    }

    fn fill_percent(&self) -> f64 {
        let limit: f64 =
            self.fleet.hosts().map(|host| self.fleet.limit_of_host(host).memory.0 as f64).sum();
        let charged: f64 = self.fleet.hosts().map(|host| host.charged.memory.0 as f64).sum();
        charged * 100.0 / limit.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sheet::Line;

    #[test]
    fn a_small_fleet_is_planned_within_capacity() {
        let sheet = run(Options { hosts: 8, vms: 96, seed: 1 }).unwrap();
        assert_eq!(sheet.failed(), 0, "{}", sheet.text());
        let decisions = sheet.lines().iter().find_map(|line| match line {
            Line::Figure(figure) if figure.figure == "decisions" => Some(figure.value),
            Line::Figure(_) | Line::Check(_) => None,
        });
        assert_eq!(decisions, Some(256.0));
    }
}
