//! Several planner threads, each with a desk and a mirror of its own, and one thread that applies
//! what they decided: as replicas that all plan, without the log between them.
//!
//! ```text
//!  committer ── wishes, fleet ───────────► planner 1..P (a desk each)
//!      ▲    ◄── Reserve, encoded ────────────┤
//!      └─────── answer, next fleet ─────────►┘   what apply rejects is a conflict: decided again
//! ```
//! While the batch of one planner is applied, the others go on deciding on the fleet that they were
//! given. They do not divide the hosts between them: conflicts are what that costs.

use crate::checks::{none_of, over_capacity};
use crate::clock;
use crate::engine::{Commits, Engine, EngineError, NOW, held, limits, wanted};
use crate::mix::{Mix, Workload};
use crate::sheet::Sheet;
use berth_model::change::Answer;
use berth_model::{PlacementWish, ReservationId};
use berth_scheduler::Fleet;
use berth_scheduler::planner::placing::{Desk, Outcome, PlaceAnswer, PlaceTrouble};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Batches that are measured with any number of planners.
const BATCHES_MAX: u64 = 400;

/// To a planner.
enum Order {
    Place { fleet: Arc<Fleet>, wishes: Vec<Arc<PlacementWish>> },
    Applied { fleet: Arc<Fleet>, number: u64, index: u64, answer: Answer },
}

/// From a planner, whose number comes first.
enum Told {
    Proposed(usize, u64, Vec<u8>),
    Done(usize, Result<PlaceAnswer, PlaceTrouble>, u64),
}

/// A cell that is full, and what is to come.
pub struct Ground {
    commits: Commits,
    mix: Mix,
    next: u64,
    placed: Vec<ReservationId>,
}

impl Ground {
    pub fn fill(workload: Workload, vms: u64, batch: u64, seed: u64) -> Result<Self, EngineError> {
        let mut engine = Engine::new(workload.cell, seed)?;
        let (mut next, mut placed) = (0, Vec::new());
        while next < vms {
            let count = batch.clamp(1, vms - next);
            let held = engine.place(&workload.mix.batch(next, count))?;
            placed.extend(held.into_iter().flatten().map(|held| held.id));
            next += count;
        }
        Ok(Ground { commits: engine.into_commits(), mix: workload.mix, next, placed })
    }
}

#[derive(Debug, Default)]
struct Found {
    cpu: Duration,
    wall: Duration,
    decisions: u64,
    refused: u64,
    conflicts: u64,
}

/// Measures 1, 2, 4 … up to `planners` threads on the same ground, one after the other.
pub fn run(
    sheet: &mut Sheet,
    mut ground: Ground,
    batch: u64,
    planners: u32,
    seed: u64,
) -> Result<(), EngineError> {
    let powers = std::iter::successors(Some(1_u32), |count| count.checked_mul(2));
    let mut counts: Vec<u32> = powers.take_while(|count| *count < planners).collect();
    counts.push(planners);
    let mut cases = Vec::new();
    for count in counts {
        let case = format!("planners-{count}");
        let found = measure(&mut ground, batch.max(1), count, seed)?;
        let decisions = found.decisions.max(1) as f64;
        let each = found.cpu.as_secs_f64() * 1e6 / decisions;
        sheet.figure(&case, "cpu_us_per_decision", each, "us");
        let per_second = found.decisions as f64 / found.wall.as_secs_f64().max(1e-9);
        sheet.figure(&case, "decisions_per_second", per_second, "1/s");
        sheet.figure(&case, "decisions", found.decisions as f64, "count");
        sheet.figure(&case, "conflicts", found.conflicts as f64, "count");
        sheet.figure(&case, "refused", found.refused as f64, "count");
        let over = over_capacity(ground.commits.fleet());
        sheet.check(&case, "nothing_over_capacity", none_of(&over, "all recounted at the end"));
        let broken = ground.commits.fleet().check_invariants();
        sheet.check(&case, "invariants", broken.map(|()| "at the end".to_owned()));
        cases.push(case);
    }
    let table = sheet.table(&cases, &["decisions_per_second", "cpu_us_per_decision", "conflicts"]);
    sheet.note(&table);
    Ok(())
}

fn measure(
    ground: &mut Ground,
    batch: u64,
    planners: u32,
    seed: u64,
) -> Result<Found, EngineError> {
    let (sender, told) = channel();
    std::thread::scope(|scope| {
        let orders: Vec<Sender<Order>> = (0..planners)
            .map(|number| {
                let (orders, given) = channel();
                let sender = sender.clone();
                let seed = seed ^ (u64::from(number) << 32) ^ ground.next;
                scope.spawn(move || Planner::new(number as usize, seed, sender).run(&given));
                orders
            })
            .collect();
        drop(sender);
        let source = StdRng::seed_from_u64(seed);
        let mut committer = Committer { ground, batch, source, found: Found::default() };
        committer.run(&orders, &told)?;
        Ok(committer.found)
    })
}

struct Planner {
    number: usize,
    desk: Desk<()>,
    source: StdRng,
    told: Sender<Told>,
}

impl Planner {
    fn new(number: usize, seed: u64, told: Sender<Told>) -> Planner {
        let source = StdRng::seed_from_u64(seed);
        Planner { number, desk: Desk::new(limits()), source, told }
    }

    /// Until nobody gives orders or listens any more.
    fn run(mut self, orders: &Receiver<Order>) {
        for order in orders {
            let fleet = match order {
                Order::Place { fleet, wishes } => {
                    let wanted = wanted(&wishes, &mut self.source);
                    self.desk.submit(wanted, (), u64::MAX / 2, 0);
                    fleet
                }
                Order::Applied { fleet, number, index, answer } => {
                    let outcome = Outcome::Answered { index, answer };
                    self.desk.settle(number, outcome, &fleet, NOW);
                    fleet
                }
            };
            if self.turn(&fleet).is_none() {
                return;
            }
        }
    }

    /// `None` once nobody listens.
    fn turn(&mut self, fleet: &Arc<Fleet>) -> Option<()> {
        self.desk.turn(fleet, NOW);
        while let Some(task) = self.desk.next_explanation() {
            self.desk.explained(&task.run());
        }
        for proposal in self.desk.take_proposals() {
            let told = Told::Proposed(self.number, proposal.number, proposal.bytes);
            self.told.send(told).ok()?;
        }
        for ((), answer) in self.desk.take_done() {
            let conflicts = self.desk.take_counts().conflicts;
            self.told.send(Told::Done(self.number, answer, conflicts)).ok()?;
        }
        Some(())
    }
}

struct Committer<'a> {
    ground: &'a mut Ground,
    batch: u64,
    source: StdRng,
    found: Found,
}

impl Committer<'_> {
    fn run(&mut self, orders: &[Sender<Order>], told: &Receiver<Told>) -> Result<(), EngineError> {
        let batches = (self.ground.placed.len() as u64 / self.batch).clamp(8, BATCHES_MAX);
        let (cpu, began) = (clock::process_cpu(), clock::now());
        for planner in orders {
            self.give(planner)?;
        }
        let (mut given, mut owed) = (orders.len() as u64, orders.len());
        while owed > 0 {
            // All planners ended only where one panicked; leaving the scope says so.
            let Ok(told) = told.recv() else { break };
            match told {
                Told::Proposed(planner, number, bytes) => {
                    let (index, answer) = self.ground.commits.apply_bytes(&bytes)?;
                    let fleet = self.ground.commits.snapshot();
                    if let Some(planner) = orders.get(planner) {
                        // One that has ended misses nothing.
                        let _ = planner.send(Order::Applied { fleet, number, index, answer });
                    }
                }
                Told::Done(planner, answer, conflicts) => {
                    self.count(answer.map_err(EngineError::Trouble)?, conflicts);
                    owed -= 1;
                    if given < batches
                        && let Some(planner) = orders.get(planner)
                    {
                        self.give(planner)?;
                        given += 1;
                        owed += 1;
                    }
                }
            }
        }
        self.found.cpu = clock::process_cpu().saturating_sub(cpu);
        self.found.wall = began.elapsed();
        Ok(())
    }

    fn count(&mut self, answer: PlaceAnswer, conflicts: u64) {
        self.found.conflicts += conflicts;
        for held in held(answer) {
            match held {
                Some(held) => {
                    self.found.decisions += 1;
                    self.ground.placed.push(held.id);
                }
                None => self.found.refused += 1,
            }
        }
    }

    /// Some leave, as many come.
    fn give(&mut self, planner: &Sender<Order>) -> Result<(), EngineError> {
        let ground = &mut *self.ground;
        let mut leaving = Vec::new();
        for _ in 0..self.batch.min(ground.placed.len() as u64) {
            let position = self.source.random_range(0..ground.placed.len());
            leaving.push(ground.placed.swap_remove(position));
        }
        ground.commits.release(leaving)?;
        let wishes = ground.mix.batch(ground.next, self.batch);
        ground.next += self.batch;
        let _ = planner.send(Order::Place { fleet: ground.commits.snapshot(), wishes });
        Ok(())
    }
}
