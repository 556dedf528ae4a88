//! The same for container VMs: the shipped planner of what waits, and every command of their lives
//! (created, given a datastore, started, given a host, running, removed, discarded).
//!
//! A decision is one container VM that was given both its datastore and its host; the CPU is that
//! of the whole process, with all those commands applied. The cell is filled to 85 % of its memory
//! first; then, in rounds, some leave and as many come. Those that find no host wait, are asked
//! again when something changes that could help, and count as refused each time they are asked.

use super::{CONTAINERS as CASE, FILL};
use crate::cell::ENDPOINT;
use crate::checks::{fill_percent, none_of, over_capacity};
use crate::clock;
use crate::engine::{Commits, EngineError};
use crate::made_up::MadeUp;
use crate::sheet::Sheet;
use berth_model::command::{CommandBody, Decision};
use berth_model::report::Fact;
use berth_model::{Change, ContainerId, ContainerVm, Epoch, HostId, Strategy, Timestamp, VmState};
use berth_scheduler::placement::{Ask, Guides, scan};
use berth_scheduler::planner::{Outcome, Planner};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

/// What each host is to run.
type Started = BTreeMap<HostId, Vec<(ContainerId, Epoch)>>;

/// Container VMs that come and go in one round.
const ROUND: u32 = 64;
const ROUNDS_MIN: u32 = 4;
const ROUNDS_MAX: u32 = 160;
/// How often all hosts are recounted, and who waits is held against a plain scan.
const RECOUNTS: u32 = 8;
/// Of those that wait, so many each time.
const WAITING_CHECKED: usize = 16;

pub fn run(sheet: &mut Sheet, hosts: u32, vms: u32, seed: u64) -> Result<(), EngineError> {
    let mut bench = Bench::new(MadeUp::new(hosts, vms, FILL, seed))?;
    while bench.next < vms {
        bench.arrive(ROUND.min(vms - bench.next))?;
    }
    let broken = bench.commits.fleet().check_invariants().err();
    let fill = fill_percent(bench.commits.fleet());
    (bench.planning, bench.decided, bench.refused) = (Duration::ZERO, 0, 0);

    let mut source = StdRng::seed_from_u64(seed);
    let rounds = vms.div_ceil(ROUND).clamp(ROUNDS_MIN, ROUNDS_MAX);
    let (mut cpu, mut wall) = (Duration::ZERO, Duration::ZERO);
    let (mut over, mut wrong): (Vec<String>, Vec<String>) = Default::default();
    for round in 0..rounds {
        let (cpu_before, began) = (clock::process_cpu(), clock::now());
        bench.depart(ROUND.min(vms), &mut source)?;
        bench.arrive(ROUND.min(vms))?;
        cpu += clock::process_cpu().saturating_sub(cpu_before);
        wall += began.elapsed();
        if round.is_multiple_of(rounds.div_ceil(RECOUNTS)) {
            over.extend(over_capacity(bench.commits.fleet()));
            wrong.extend(bench.wrongly_refused());
        }
    }

    let decisions = bench.decided.max(1) as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / decisions;
    sheet.figure(CASE, "cpu_us_per_decision", each(cpu), "us");
    sheet.figure(CASE, "planner_us_per_decision", each(bench.planning), "us");
    let per_second = bench.decided as f64 / wall.as_secs_f64().max(1e-9);
    sheet.figure(CASE, "decisions_per_second", per_second, "1/s");
    sheet.figure(CASE, "decisions", bench.decided as f64, "count");
    sheet.figure(CASE, "refused", bench.refused as f64, "count");
    sheet.figure(CASE, "fill", fill, "percent");
    let detail = format!("all recounted about {RECOUNTS} times");
    sheet.check(CASE, "nothing_over_capacity", none_of(&over, detail));
    let broken = broken.or(bench.commits.fleet().check_invariants().err());
    let detail = "sums, references and indexes, when full and at the end".to_owned();
    sheet.check(CASE, "invariants", broken.map_or(Ok(detail), Err));
    let detail = "a plain scan found no host for those that wait either";
    sheet.check(CASE, "refusals_are_right", none_of(&wrong, detail));
    Ok(())
}

struct Bench {
    made_up: MadeUp,
    commits: Commits,
    planner: Planner,
    /// Number of the next container VM that is created.
    next: u32,
    running: Vec<ContainerId>,
    planning: Duration,
    /// Hosts chosen.
    decided: u64,
    refused: u64,
}

impl Bench {
    fn new(made_up: MadeUp) -> Result<Self, EngineError> {
        let mut commits = Commits::new(made_up.cell(Strategy::Spread))?;
        for image in made_up.images() {
            commits.apply(CommandBody::RecordImage(Box::new(image)))?;
        }
        Ok(Bench {
            made_up,
            commits,
            planner: Planner::default(),
            next: 0,
            running: Vec::new(),
            planning: Duration::ZERO,
            decided: 0,
            refused: 0,
        })
    }

    /// New ones are created, given a datastore, started, given a host, and run.
    fn arrive(&mut self, count: u32) -> Result<(), EngineError> {
        let mut fresh = Vec::new();
        for _ in 0..count {
            let new = self.made_up.container(self.next);
            self.next += 1;
            fresh.push(new.id);
            self.commits.apply(CommandBody::CreateContainer(Box::new(new)))?;
        }
        self.decide()?;
        for id in fresh {
            // Without a datastore it waits for one, and the next plan asks again.
            let vm = self.commits.fleet().container(id);
            if vm.is_some_and(|vm| vm.datastore.is_some()) {
                self.commits.apply(CommandBody::StartContainer { id })?;
            }
        }
        self.decide()
    }

    /// Plans until nothing is left to decide, and what got a host runs there.
    fn decide(&mut self) -> Result<(), EngineError> {
        loop {
            let (hosts, more) = self.plan()?;
            for (host, started) in hosts {
                self.decided += started.len() as u64;
                self.running.extend(started.iter().map(|(container, _)| *container));
                let started_at = Timestamp(self.commits.fleet().index());
                let fact = |(container, epoch)| Fact::VmStarted { container, epoch, started_at };
                let facts = started.into_iter().map(fact).collect();
                self.commits.apply(CommandBody::Observe { host, facts })?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Plans once and applies the plan; answers what each host is to run.
    fn plan(&mut self) -> Result<(Started, bool), EngineError> {
        let cpu = clock::process_cpu();
        let index = self.commits.fleet().index();
        let plan = self.planner.plan(&self.commits.snapshot(), index);
        self.planning += clock::process_cpu().saturating_sub(cpu);
        self.refused += plan.refusals.len() as u64;
        let items = plan.items;
        let mut hosts = Started::new();
        if items.is_empty() {
            return Ok((hosts, plan.more));
        }
        let place = CommandBody::Place { planned_at: plan.planned_at, items: items.clone() };
        let change = self.commits.apply(place)?;
        let Change::Placed { items: answers } = change else {
            return Err(EngineError::OddAnswer(Box::new(change)));
        };
        let cpu = clock::process_cpu();
        let (outcome, fleet) = (Outcome::Applied(&answers), self.commits.snapshot());
        self.planner.settle(plan.number, &outcome, &fleet, index);
        self.planning += clock::process_cpu().saturating_sub(cpu);
        for (item, answer) in items.into_iter().zip(answers) {
            answer?;
            match item.decision {
                Decision::Host { host, epoch } | Decision::Bound { host, epoch, .. } => {
                    hosts.entry(host).or_default().push((item.container, epoch));
                }
                Decision::Datastore(_) | Decision::Displace { .. } | Decision::Nowhere(_) => {}
            }
        }
        Ok((hosts, plan.more))
    }

    /// Any that run are removed by force, and their hosts discard what they stored.
    fn depart(&mut self, count: u32, source: &mut StdRng) -> Result<(), EngineError> {
        for _ in 0..count {
            if self.running.is_empty() {
                return Ok(());
            }
            let id = self.running.swap_remove(source.random_range(0..self.running.len()));
            self.commits.apply(CommandBody::RemoveContainer { id, force: true })?;
            let vm = self.commits.fleet().container(id);
            let host = vm.and_then(|vm| match &vm.state {
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
                self.commits.apply(CommandBody::Observe { host, facts })?;
            }
        }
        Ok(())
    }

    /// Those that wait although a host would take them now.
    fn wrongly_refused(&self) -> Vec<String> {
        let fleet = self.commits.fleet();
        let waits_in_vain = |vm: &&ContainerVm| {
            let image = fleet.image(vm.endpoint(), vm.spec.image).map(|image| &image.datastores);
            let (demand, labels) = (&vm.spec.demand, vm.labels());
            let ask = match vm.datastore {
                None => Ask::create(ENDPOINT, demand, labels, image),
                Some(datastore) => Ask::start(ENDPOINT, demand, labels, image, datastore),
            };
            scan::decide(fleet, &Guides::default(), &ask).is_some()
        };
        let waiting = fleet.unplaced().take(WAITING_CHECKED).filter(waits_in_vain);
        waiting.map(|vm| vm.name.clone()).collect()
    }
}
