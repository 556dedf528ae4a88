//! The planning process as a whole, on one thread: the shipped desk of placement requests, the
//! shipped fleet, and the bytes of the commands between them.
//!
//! ```text
//!  wishes ─► desk (queue, mirror: decide) ─► Reserve, encoded ─► Commits (decode, apply) ─► answer
//!              ▲                                                       │
//!              └──────────── follows the next fleet ◄──────────────────┘
//! ```
//! Promises: what each part took of the process's CPU is kept apart; what apply rejects the desk
//! decides again, and it counts as a conflict. Does not: log, replicate or wait.

mod commits;

pub use commits::Commits;

use crate::cell::{Cell, ENDPOINT};
use crate::clock;
use berth_model::command::Principal;
use berth_model::{Change, Place, PlacementWish, Rejection, RequestId, ReservationId, Timestamp};
use berth_scheduler::Fleet;
use berth_scheduler::fleet::format::{COMMAND_MAX, FormatError};
use berth_scheduler::planner::placing::{
    Desk, Limits, Now, Outcome, PlaceAnswer, PlaceMode, PlaceTrouble, PlaceWish, Wanted,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Nothing here is late, for no clock goes.
pub const NOW: Now = Now { ms: 1, leader: Timestamp(0) };
const DEADLINE: u64 = 1 << 40;

/// A fleet that says no to what it cannot refuse.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the benchmark's own cell or rules were refused")]
    Refused(#[from] Rejection),
    #[error("a command was answered by {0:?}")]
    OddAnswer(Box<Change>),
    #[error("a batch of placements failed: {0:?}")]
    Trouble(PlaceTrouble),
    #[error("the desk neither answers nor proposes")]
    Stuck,
    #[error("a command of our own cannot be read")]
    Format(#[from] FormatError),
}

/// What the parts took of the process's CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Queueing, choosing places, making and encoding the commands.
    pub decide: Duration,
    /// Decoding and applying them.
    pub apply: Duration,
    /// Publishing the fleet and bringing the mirror up to it.
    pub sync: Duration,
    /// Saying why there is no place.
    pub explain: Duration,
    /// Places that were found and held.
    pub decisions: u64,
    /// Wishes for which there was no place.
    pub refused: u64,
    /// Decisions that apply rejected.
    pub conflicts: u64,
}

impl Spent {
    /// All but the explanations, which are of refusals.
    pub fn cpu(&self) -> Duration {
        self.decide + self.apply + self.sync
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: ReservationId,
    pub place: Place,
}

pub struct Engine {
    commits: Commits,
    desk: Desk<()>,
    /// Draws the reservations' ids.
    source: StdRng,
    pub spent: Spent,
}

impl Engine {
    pub fn new(cell: Cell, seed: u64) -> Result<Engine, EngineError> {
        let commits = Commits::new(cell)?;
        let desk = Desk::new(limits());
        let source = StdRng::seed_from_u64(seed);
        Ok(Engine { commits, desk, source, spent: Spent::default() })
    }

    pub fn fleet(&self) -> &Fleet {
        self.commits.fleet()
    }

    pub fn commits(&mut self) -> &mut Commits {
        &mut self.commits
    }

    pub fn into_commits(self) -> Commits {
        self.commits
    }

    /// One request: each wish is decided before the next, all are applied as few commands. `None`
    /// is a refusal.
    pub fn place(
        &mut self,
        wishes: &[Arc<PlacementWish>],
    ) -> Result<Vec<Option<Held>>, EngineError> {
        if wishes.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = wanted(wishes, &mut self.source);
        let mut lap = Lap::start();
        let mut snapshot = self.commits.snapshot();
        self.desk.submit(wanted, (), DEADLINE, 0);
        self.desk.follow(&snapshot);
        lap.end(&mut self.spent.sync);
        loop {
            self.desk.turn(&snapshot, NOW);
            let proposals = self.desk.take_proposals();
            lap.end(&mut self.spent.decide);
            let quiet = proposals.is_empty();
            for proposal in proposals {
                let (index, answer) = self.commits.apply_bytes(&proposal.bytes)?;
                lap.end(&mut self.spent.apply);
                snapshot = self.commits.snapshot();
                self.desk.follow(&snapshot);
                lap.end(&mut self.spent.sync);
                let outcome = Outcome::Answered { index, answer };
                self.desk.settle(proposal.number, outcome, &snapshot, NOW);
                lap.end(&mut self.spent.decide);
            }
            let mut explained = false;
            while let Some(task) = self.desk.next_explanation() {
                self.desk.explained(&task.run());
                explained = true;
            }
            lap.end(&mut self.spent.explain);
            if let Some(((), answer)) = self.desk.take_done().pop() {
                lap.end(&mut self.spent.decide);
                return self.told(answer);
            }
            if quiet && !explained && self.desk.queued() == 0 {
                return Err(EngineError::Stuck);
            }
        }
    }

    fn told(
        &mut self,
        answer: Result<PlaceAnswer, PlaceTrouble>,
    ) -> Result<Vec<Option<Held>>, EngineError> {
        self.spent.conflicts += self.desk.take_counts().conflicts;
        let held = held(answer.map_err(EngineError::Trouble)?);
        let found = held.iter().flatten().count() as u64;
        self.spent.decisions += found;
        self.spent.refused += held.len() as u64 - found;
        Ok(held)
    }

    pub fn release(&mut self, ids: Vec<ReservationId>) -> Result<(), EngineError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut lap = Lap::start();
        self.commits.release(ids)?;
        lap.end(&mut self.spent.apply);
        self.desk.follow(&self.commits.snapshot());
        lap.end(&mut self.spent.sync);
        Ok(())
    }
}

pub fn limits() -> Limits {
    Limits::new(1, COMMAND_MAX, None)
}

/// One request for places that are held until they are released.
pub fn wanted(wishes: &[Arc<PlacementWish>], source: &mut StdRng) -> Wanted {
    let mut positions: BTreeMap<*const PlacementWish, u32> = BTreeMap::new();
    let mut shapes = Vec::new();
    let items = wishes.iter().map(|wish| {
        let wish = *positions.entry(Arc::as_ptr(wish)).or_insert_with(|| {
            shapes.push(Arc::clone(wish));
            u32::try_from(shapes.len() - 1).unwrap_or(u32::MAX)
        });
        PlaceWish { wish, endpoint: ENDPOINT, id: ReservationId::random(source) }
    });
    let items = items.collect();
    Wanted {
        principal: Principal::Local,
        request_id: RequestId::from_bytes([0; 16]),
        traceparent: None,
        wishes: shapes,
        items,
        gang: None,
        mode: PlaceMode::Hold { hold_ms: None },
        explain_hosts: 0,
    }
}

/// In the order of the wishes; `None` where there was no place.
pub fn held(answer: PlaceAnswer) -> Vec<Option<Held>> {
    let place = |placed: berth_scheduler::planner::placing::Placed| {
        Some(Held { id: placed.reservation?, place: placed.place })
    };
    answer.items.into_iter().map(|item| item.ok().and_then(place)).collect()
}

/// The process's CPU, read between the parts.
struct Lap {
    last: Duration,
}

impl Lap {
    fn start() -> Lap {
        Lap { last: clock::process_cpu() }
    }

    fn end(&mut self, part: &mut Duration) {
        let now = clock::process_cpu();
        *part += now.saturating_sub(self.last);
        self.last = now;
    }
}
