//! The planning loop: wakes when the fleet or the reign changes, plans while this replica leads,
//! keeps one `Place` outstanding. Runs on a thread of its own, for a plan is pure computing.

use super::machine::{Published, Reign};
use super::proposer::{Done, ProposeFailure, Proposer};
use super::{Changed, EndsTheProcess, changes, clock};
use crate::fleet::Fleet;
use crate::planner::{Plan, Planner};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture,
};
use berth_metrics::scheduler::SchedulerMetrics;
use berth_model::change::Change;
use berth_model::command::{CommandBody, Decision, PlaceItem, Principal};
use berth_model::{ContainerId, Rejection};
use berth_raft::ReplicaId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause after a plan that came to nothing, so that trouble is not met by a busy loop.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct PlannerActor {
    id: ReplicaId,
    published: Published,
    proposer: Proposer,
    metrics: SchedulerMetrics,
    planner: Planner,
    phase: Phase,
    /// When each container VM that waits was first seen to wait.
    waiting_since: BTreeMap<ContainerId, Instant>,
    _guard: EndsTheProcess,
}

/// What the planner waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// For something to plan.
    Idle,
    /// For the answer to its `Place`.
    Outstanding,
    /// For its own last decisions to show in the published fleet.
    CatchingUp { index: u64 },
    /// For a moment to pass.
    Pausing,
}

impl PlannerActor {
    pub fn new(
        id: ReplicaId,
        published: Published,
        proposer: Proposer,
        metrics: SchedulerMetrics,
    ) -> Self {
        Self {
            id,
            published,
            proposer,
            metrics,
            planner: Planner::default(),
            phase: Phase::Idle,
            waiting_since: BTreeMap::new(),
            _guard: EndsTheProcess,
        }
    }

    fn wake(&mut self, context: &mut Context<Self>) {
        let reign = *self.published.reign.borrow();
        let fleet = Arc::clone(&self.published.fleet.borrow());
        match (reign, self.phase) {
            (_, Phase::Outstanding | Phase::Pausing) => {}
            (Reign::Other { .. }, Phase::Idle | Phase::CatchingUp { .. }) => {
                self.planner = Planner::default();
                self.waiting_since.clear();
                self.phase = Phase::Idle;
            }
            (Reign::Ours { .. }, Phase::CatchingUp { index }) if fleet.index() < index => {}
            (Reign::Ours { .. }, Phase::Idle | Phase::CatchingUp { .. }) => {
                self.phase = Phase::Idle;
                self.plan(&fleet, context);
            }
        }
    }

    fn plan(&mut self, fleet: &Fleet, context: &mut Context<Self>) {
        self.note_waiting(fleet);
        if self.waiting_since.is_empty() {
            return;
        }
        let began = clock::now();
        let plan = self.planner.plan(fleet);
        self.metrics.plan_seconds.observe(began.elapsed().as_secs_f64());
        self.count_refusals(&plan);
        if plan.items.is_empty() {
            return;
        }
        self.phase = Phase::Outstanding;
        let Plan { planned_at, items, .. } = plan;
        let proposer = self.proposer.clone();
        let principal = Principal::Scheduler(self.id);
        let body = CommandBody::Place { planned_at, items: items.clone() };
        let proposal = async move { proposer.propose(principal, body).await };
        context.spawn(
            proposal
                .into_actor(self)
                .map(move |outcome, actor, context| actor.settle(&items, outcome, context)),
        );
    }

    fn settle(
        &mut self,
        items: &[PlaceItem],
        outcome: Result<Done, ProposeFailure>,
        context: &mut Context<Self>,
    ) {
        let taken = match outcome {
            Ok(Done { index, change: Change::Placed { items: answers } }) => {
                self.phase = Phase::CatchingUp { index };
                self.count_placements(items, &answers)
            }
            Ok(Done { change, .. }) => {
                tracing::error!(?change, "a plan was answered by something else");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "plan was not committed, planning anew");
                // Refusals that it held may not be recorded.
                self.planner = Planner::default();
                false
            }
        };
        if taken {
            self.wake(context);
        } else {
            self.phase = Phase::Pausing;
            context.run_later(PAUSE, |actor, context| {
                actor.phase = Phase::Idle;
                actor.wake(context);
            });
        }
    }

    fn note_waiting(&mut self, fleet: &Fleet) {
        let now = clock::now();
        let known = std::mem::take(&mut self.waiting_since);
        self.waiting_since =
            fleet.unplaced().map(|vm| (vm.id, known.get(&vm.id).copied().unwrap_or(now))).collect();
    }

    fn count_refusals(&self, plan: &Plan) {
        for explanation in &plan.refusals {
            for (filter, hosts) in &explanation.refused {
                self.metrics.refused(filter.name(), u64::from(*hosts));
            }
        }
    }

    /// Whether anything was taken.
    fn count_placements(
        &mut self,
        items: &[PlaceItem],
        answers: &[Result<ContainerId, Rejection>],
    ) -> bool {
        for (item, answer) in items.iter().zip(answers) {
            let outcome = match (&item.decision, answer) {
                (_, Err(rejection)) => {
                    tracing::debug!(container = %item.container, %rejection, "decision refused");
                    "rejected"
                }
                (Decision::Datastore(_), Ok(_)) => "datastore",
                (Decision::Host { .. }, Ok(_)) => "host",
                (Decision::Nowhere(explanation), Ok(_)) => {
                    tracing::info!(container = %item.container, %explanation, "no place found");
                    "nowhere"
                }
            };
            self.metrics.placed(outcome);
            if let Some(since) = self.waiting_since.get(&item.container)
                && (outcome == "datastore" || outcome == "host")
            {
                self.metrics.decided(outcome, since.elapsed().as_secs_f64());
            }
        }
        answers.iter().any(Result::is_ok)
    }
}

impl Actor for PlannerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.add_stream(changes(self.published.fleet.clone()));
        context.add_stream(changes(self.published.reign.clone()));
    }
}

impl StreamHandler<Changed> for PlannerActor {
    fn handle(&mut self, _: Changed, context: &mut Self::Context) {
        self.wake(context);
    }

    /// The replica is gone: nothing to plan for.
    fn finished(&mut self, context: &mut Self::Context) {
        context.stop();
    }
}
