//! A fleet filled once, then in rounds: some leave, as many come.
//!
//! Promises: what is checked between the rounds is not in the figures. Does not: choose the
//! workload.

use crate::cell::ENDPOINT;
use crate::checks::{fill_percent, none_of, over_capacity};
use crate::clock;
use crate::engine::{Commits, Engine, EngineError, Held, Spent};
use crate::memory;
use crate::mix::{Mix, Workload};
use crate::sheet::Sheet;
use crate::watch::Watch;
use berth_model::{PlacementWish, ReservationId, RuleSpec};
use berth_scheduler::Fleet;
use berth_scheduler::placement::{Ask, Guides, scan};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

/// Where the figures are taken.
const FILL_PERCENT: f64 = 85.0;
const ROUNDS_MIN: u64 = 4;
const ROUNDS_MAX: u64 = 400;
/// How often all hosts are recounted during the rounds, and how many places in all for that.
const RECOUNTS: u64 = 16;
const RECOUNTED: u64 = 2_000_000;
/// Refusals that are held against a plain scan.
const REFUSALS_CHECKED: usize = 64;

/// How much is placed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// At most.
    pub vms: u64,
    /// Requests decided before they are applied as one command.
    pub batch: u64,
    pub seed: u64,
}

pub struct Churn<W> {
    watch: W,
    engine: Engine,
    mix: Mix,
    /// Number of the next wish.
    next: u64,
    placed: Vec<ReservationId>,
    source: StdRng,
    batch: u64,
    /// When full.
    population: u64,
}

/// What the rounds came to.
#[derive(Debug, Default)]
pub struct Measured {
    pub spent: Spent,
    pub wall: Duration,
    pub fill: f64,
    pub population: u64,
    pub bytes_per_host: f64,
    pub bytes_per_vm: f64,
    over: Vec<String>,
    recounts: u64,
    wrong: Vec<String>,
    refusals_checked: usize,
    broken: Option<String>,
}

impl Churn<()> {
    /// Fills the cell, then measures.
    pub fn run(workload: Workload, load: Load) -> Result<Measured, EngineError> {
        Ok(Churn::run_watched(workload, load, &[], |_| ())?.0)
    }
}

impl<W: Watch> Churn<W> {
    /// The same under rules, with somebody looking on.
    pub fn run_watched(
        workload: Workload,
        load: Load,
        rules: &[(&str, RuleSpec)],
        watch: impl FnOnce(&Fleet) -> W,
    ) -> Result<(Measured, W), EngineError> {
        let (hosts, at_start) = (workload.cell.hosts.len(), memory::own());
        let mut engine = Engine::new(workload.cell, load.seed)?;
        for (name, rule) in rules {
            engine.commits().add_rule(name, rule.clone())?;
        }
        let with_hosts = memory::own();
        let mut churn = Churn {
            watch: watch(engine.fleet()),
            engine,
            mix: workload.mix,
            next: 0,
            placed: Vec::new(),
            source: StdRng::seed_from_u64(load.seed),
            batch: load.batch.max(1),
            population: 0,
        };
        churn.fill(load.vms)?;
        let mut measured = Measured {
            fill: fill_percent(churn.engine.fleet()),
            population: churn.population,
            bytes_per_host: with_hosts.saturating_sub(at_start) as f64 / hosts.max(1) as f64,
            bytes_per_vm: memory::own().saturating_sub(with_hosts) as f64
                / churn.population.max(1) as f64,
            broken: churn.engine.fleet().check_invariants().err(),
            ..Measured::default()
        };
        churn.rounds(&mut measured)?;
        measured.spent = churn.engine.spent;
        let broken = churn.engine.fleet().check_invariants().err();
        measured.broken = measured.broken.or(broken);
        Ok((measured, churn.watch))
    }

    fn fill(&mut self, vms: u64) -> Result<(), EngineError> {
        let mut left = vms;
        while left > 0 {
            let count = self.batch.min(left);
            left -= count;
            let wishes = self.mix.batch(self.next, count);
            self.next += count;
            let held = self.engine.place(&wishes)?;
            self.keep(&wishes, &held);
            // To ask all hosts each time would take longer than to fill them.
            if self.next.is_multiple_of(self.batch * 16)
                && fill_percent(self.engine.fleet()) >= FILL_PERCENT
            {
                break;
            }
        }
        self.population = self.placed.len() as u64;
        self.engine.spent = Spent::default();
        Ok(())
    }

    fn rounds(&mut self, measured: &mut Measured) -> Result<(), EngineError> {
        let batch = self.batch.min(self.population.max(1));
        let rounds = self.population.div_ceil(batch).clamp(ROUNDS_MIN, ROUNDS_MAX);
        let recounts = (RECOUNTED / self.population.max(1)).clamp(1, RECOUNTS);
        for round in 0..rounds {
            let leaving = self.leaving(batch);
            let missing = self.population.saturating_sub(self.placed.len() as u64).min(2 * batch);
            let wishes = self.mix.batch(self.next, missing);
            let began = clock::now();
            self.engine.release(leaving)?;
            let free = self.engine.commits().snapshot();
            let before = self.engine.spent.refused;
            let held = self.engine.place(&wishes)?;
            measured.wall += began.elapsed();
            self.next += missing;
            if self.engine.spent.refused > before {
                let trial = Commits::from_fleet(Arc::unwrap_or_clone(free));
                self.check_refusals(measured, trial, &wishes, &held)?;
            }
            self.keep(&wishes, &held);
            if round.is_multiple_of(rounds.div_ceil(recounts)) {
                measured.over.extend(over_capacity(self.engine.fleet()));
                measured.recounts += 1;
            }
        }
        measured.over.extend(over_capacity(self.engine.fleet()));
        measured.recounts += 1;
        Ok(())
    }

    fn keep(&mut self, wishes: &[Arc<PlacementWish>], held: &[Option<Held>]) {
        for (wish, held) in wishes.iter().zip(held) {
            if let Some(held) = held {
                self.watch.held(wish, held);
                self.placed.push(held.id);
            }
        }
    }

    fn leaving(&mut self, count: u64) -> Vec<ReservationId> {
        let mut leaving = Vec::new();
        for _ in 0..count.min(self.placed.len() as u64) {
            let position = self.source.random_range(0..self.placed.len());
            let id = self.placed.swap_remove(position);
            self.watch.ended(id);
            leaving.push(id);
        }
        leaving
    }

    /// A refusal is right if a plain scan finds no host either, on the fleet as it was with what
    /// was decided before.
    fn check_refusals(
        &mut self,
        measured: &mut Measured,
        mut trial: Commits,
        wishes: &[Arc<PlacementWish>],
        held: &[Option<Held>],
    ) -> Result<(), EngineError> {
        for (wish, held) in wishes.iter().zip(held) {
            if measured.refusals_checked >= REFUSALS_CHECKED {
                break;
            }
            if let Some(held) = held {
                trial.hold(wish, held)?;
                continue;
            }
            measured.refusals_checked += 1;
            let ask = Ask::hold(ENDPOINT, wish);
            // Which host is the best does not matter here.
            if let Some(place) = scan::decide(trial.fleet(), &Guides::default(), &ask) {
                measured.wrong.push(format!("{} would have done", place.host));
            }
        }
        Ok(())
    }
}

impl Measured {
    pub fn cpu_us_per_decision(&self) -> f64 {
        self.spent.cpu().as_secs_f64() * 1e6 / self.spent.decisions.max(1) as f64
    }

    pub fn tell(&self, sheet: &mut Sheet, case: &str) {
        let Measured { spent, .. } = self;
        let decisions = spent.decisions.max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / decisions;
        sheet.figure(case, "cpu_us_per_decision", self.cpu_us_per_decision(), "us");
        sheet.figure(case, "decide_us", each(spent.decide), "us");
        sheet.figure(case, "apply_us", each(spent.apply), "us");
        sheet.figure(case, "sync_us", each(spent.sync), "us");
        let explaining = spent.explain.as_secs_f64() * 1e6 / spent.refused.max(1) as f64;
        sheet.figure(case, "explain_us_per_refusal", explaining, "us");
        let per_second = spent.decisions as f64 / self.wall.as_secs_f64().max(1e-9);
        sheet.figure(case, "decisions_per_second", per_second, "1/s");
        sheet.figure(case, "decisions", spent.decisions as f64, "count");
        sheet.figure(case, "refused", spent.refused as f64, "count");
        sheet.figure(case, "conflicts", spent.conflicts as f64, "count");
        sheet.figure(case, "vms", self.population as f64, "count");
        sheet.figure(case, "fill", self.fill, "percent");
        sheet.figure(case, "bytes_per_host", self.bytes_per_host, "bytes");
        sheet.figure(case, "bytes_per_vm", self.bytes_per_vm, "bytes");
    }

    pub fn check(&self, sheet: &mut Sheet, case: &str) {
        let detail = format!("all hosts and datastores recounted {} times", self.recounts);
        sheet.check(case, "nothing_over_capacity", none_of(&self.over, detail));
        let detail = "sums, references and indexes, when full and at the end".to_owned();
        let invariants = self.broken.clone().map_or(Ok(detail), Err);
        sheet.check(case, "invariants", invariants);
        let detail = format!(
            "{} of {} held against a plain scan, which found no host either",
            self.refusals_checked, self.spent.refused
        );
        sheet.check(case, "refusals_are_right", none_of(&self.wrong, detail));
    }
}
