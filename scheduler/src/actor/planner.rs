//! The planning loop of one share of the container VMs that wait: wakes when the fleet or the
//! reign changes, plans while this replica leads, keeps several `Place` under way. Runs on a thread
//! of its own, for a plan is pure computing.

use super::clock::{self, Ticker};
use super::machine::{Published, Reign};
use super::proposer::{Done, ProposeFailure, Proposer};
use super::{Changed, EndsTheProcess, changes};
use crate::fleet::Fleet;
use crate::planner::{Outcome, Plan, Planner, Share};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture,
};
use berth_metrics::scheduler::SchedulerMetrics;
use berth_model::change::Change;
use berth_model::command::{CommandBody, Decision, PlaceItem, Principal};
use berth_model::{ContainerId, Rejection};
use berth_raft::ReplicaId;
use std::sync::Arc;
use std::time::Duration;

/// Pause after a plan that came to nothing, so that trouble is not met by a busy loop.
const PAUSE: Duration = Duration::from_millis(100);
/// Commands under way.
const OPEN_PLANS: usize = 4;
/// How often a planner that has nothing to do is forgotten: its mirror is as large as the fleet.
const REST: Duration = Duration::from_secs(5);
/// How long a replica may take to show what it has answered.
const SHOWN: Duration = Duration::from_secs(5);

pub(super) struct PlannerActor {
    id: ReplicaId,
    share: Share,
    published: Published,
    proposer: Proposer,
    metrics: SchedulerMetrics,
    planner: Planner,
    /// Outcomes of plans of an earlier planner mean nothing to this one.
    era: u64,
    pausing: bool,
    ticker: Ticker,
    /// Something was planned since the last rest.
    worked: bool,
    _guard: EndsTheProcess,
}

impl PlannerActor {
    pub fn new(
        id: ReplicaId,
        share: Share,
        published: Published,
        proposer: Proposer,
        metrics: SchedulerMetrics,
    ) -> Self {
        Self {
            id,
            share,
            published,
            proposer,
            metrics,
            planner: Planner::new(share),
            era: 0,
            pausing: false,
            ticker: Ticker::new(),
            worked: false,
            _guard: EndsTheProcess,
        }
    }

    fn wake(&mut self, context: &mut Context<Self>) {
        let reign = *self.published.reign.borrow();
        let fleet = Arc::clone(&self.published.fleet.borrow());
        match reign {
            Reign::Other { .. } => self.forget(),
            Reign::Ours { .. } if self.pausing => {}
            Reign::Ours { .. } => self.plan(&fleet, context),
        }
    }

    fn forget(&mut self) {
        self.planner = Planner::new(self.share);
        self.era += 1;
    }

    fn plan(&mut self, fleet: &Arc<Fleet>, context: &mut Context<Self>) {
        if fleet.unplaced_count() == 0 && self.planner.open_plans() == 0 {
            return;
        }
        self.worked = true;
        while self.planner.open_plans() < OPEN_PLANS {
            let (began, now) = (clock::now(), self.ticker.ms());
            self.planner.follow(fleet, now);
            let followed = clock::now();
            let plan = self.planner.plan(fleet, now);
            self.metrics.mirror_synced((followed - began).as_secs_f64());
            self.metrics.plan_seconds.observe(followed.elapsed().as_secs_f64());
            self.count_refusals(&plan);
            let more = plan.more;
            if plan.items.is_empty() {
                if more {
                    // Others have a word in between: an explanation looks at every host.
                    context.run_later(Duration::from_millis(1), |actor, context| {
                        actor.wake(context);
                    });
                }
                return;
            }
            self.propose(plan, context);
            if !more {
                return;
            }
        }
    }

    fn propose(&self, plan: Plan, context: &mut Context<Self>) {
        let Plan { number, planned_at, items, since, .. } = plan;
        let proposer = self.proposer.clone();
        let principal = Principal::Scheduler(self.id);
        let body = CommandBody::Place { planned_at, items: items.clone() };
        let mut applied = self.published.applied.clone();
        let proposal = async move {
            let outcome = proposer.propose(principal, body).await;
            if let Ok(Done { index, .. }) = &outcome {
                let shown = applied.wait_for(|applied| applied >= index);
                // If it lags, the plan is settled early and the next may meet a conflict.
                let _ = tokio::time::timeout(SHOWN, shown).await;
            }
            outcome
        };
        let era = self.era;
        context.spawn(proposal.into_actor(self).map(move |outcome, actor, context| {
            if actor.era == era {
                actor.settle(number, &items, &since, outcome, context);
            }
        }));
    }

    fn settle(
        &mut self,
        number: u64,
        items: &[PlaceItem],
        since: &[u64],
        outcome: Result<Done, ProposeFailure>,
        context: &mut Context<Self>,
    ) {
        let fleet = Arc::clone(&self.published.fleet.borrow());
        let now = self.ticker.ms();
        let taken = match outcome {
            Ok(Done { change: Change::Placed { items: answers }, .. }) => {
                let outcome = Outcome::Applied(&answers);
                let conflicts = self.planner.settle(number, &outcome, &fleet, now);
                self.metrics.conflicts("container_vms", conflicts);
                self.count_placements(items, since, &answers)
            }
            Ok(Done { change, .. }) => {
                tracing::error!(?change, "a plan was answered by something else");
                self.planner.settle(number, &Outcome::Lost, &fleet, now);
                false
            }
            Err(error) => {
                tracing::warn!(%error, "plan was not committed, planning anew");
                self.planner.settle(number, &Outcome::Lost, &fleet, now);
                false
            }
        };
        if taken {
            self.wake(context);
        } else if !self.pausing {
            self.pausing = true;
            context.run_later(PAUSE, |actor, context| {
                actor.pausing = false;
                actor.wake(context);
            });
        }
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
        since: &[u64],
        answers: &[Result<ContainerId, Rejection>],
    ) -> bool {
        let now = self.ticker.ms();
        for ((item, since), answer) in items.iter().zip(since).zip(answers) {
            let outcome = match (&item.decision, answer) {
                (_, Err(rejection)) => {
                    tracing::debug!(container = %item.container, %rejection, "decision refused");
                    "rejected"
                }
                (Decision::Datastore(_), Ok(_)) => "datastore",
                (Decision::Host { .. } | Decision::Bound { .. }, Ok(_)) => "host",
                (Decision::Displace { host, victims }, Ok(_)) => {
                    let (container, victims) = (item.container, victims.len());
                    tracing::info!(%container, %host, victims, "others are to give way");
                    "displace"
                }
                (Decision::Nowhere(explanation), Ok(_)) => {
                    tracing::info!(container = %item.container, %explanation, "no place found");
                    "nowhere"
                }
            };
            self.metrics.placed(outcome);
            if outcome == "datastore" || outcome == "host" {
                let waited = Duration::from_millis(now.saturating_sub(*since));
                self.metrics.decided(outcome, waited.as_secs_f64());
            }
        }
        answers.iter().any(Result::is_ok)
    }

    /// Gives an idle mirror up.
    fn rest(&mut self, context: &mut Context<Self>) {
        let idle = !std::mem::take(&mut self.worked) && self.planner.open_plans() == 0;
        if idle && self.published.fleet.borrow().unplaced_count() == 0 {
            self.forget();
        }
        context.run_later(REST, Self::rest);
    }
}

impl Actor for PlannerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.add_stream(changes(self.published.fleet.clone()));
        context.add_stream(changes(self.published.reign.clone()));
        context.run_later(REST, Self::rest);
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
