//! One desk's loop: what came in, what was settled and what was explained goes to the desk, and
//! what the desk wants done is done. Runs on a thread of its own.

use super::super::EndsTheProcess;
use super::super::clock::{self, Ticker, millis};
use super::super::machine::Published;
use super::super::proposer::Proposer;
use super::{Arrived, Reply};
use crate::planner::placing::{
    Counts, Desk, ExplainTask, Explained, Limits, Now, Outcome, PlaceAnswer, PlaceTrouble, Proposal,
};
use berth_metrics::scheduler::{PlacementOutcomes, PlacerMetrics, SchedulerMetrics};
use berth_raft::ProposeError;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Explanations that are made at a time, for all of them look at every host.
const EXPLANATIONS: usize = 1;
/// How often requests are looked for whose clients have gone, and an idle mirror is given up.
const REST: Duration = Duration::from_secs(5);
/// Requests taken from the inbox before the next turn.
const ARRIVALS: usize = 4096;

pub(in crate::actor) struct Placer {
    desk: Desk<Reply>,
    inbox: mpsc::Receiver<Arrived>,
    published: Published,
    proposer: Proposer,
    /// How long one try to commit may take.
    timeout: Duration,
    metrics: SchedulerMetrics,
    gauges: PlacerMetrics,
    ticker: Ticker,
    commands: FuturesUnordered<BoxFuture<'static, (u64, Outcome)>>,
    explanations: FuturesUnordered<JoinHandle<Explained>>,
    _guard: EndsTheProcess,
}

/// What a desk's loop is given.
pub(in crate::actor) struct Around {
    pub inbox: mpsc::Receiver<Arrived>,
    pub published: Published,
    pub proposer: Proposer,
    pub timeout: Duration,
    pub metrics: SchedulerMetrics,
}

/// What the loop waited for.
enum Event {
    Arrived(Arrived),
    Settled(u64, Outcome),
    Explained(Explained),
    /// The fleet changed, or it is time.
    Turn,
    Rest,
    Ended,
}

impl Placer {
    pub fn new(limits: Limits, around: Around) -> Self {
        let Around { inbox, published, proposer, timeout, metrics } = around;
        Self {
            desk: Desk::new(limits),
            inbox,
            published,
            proposer,
            timeout,
            gauges: metrics.placer(),
            metrics,
            ticker: Ticker::new(),
            commands: FuturesUnordered::new(),
            explanations: FuturesUnordered::new(),
            _guard: EndsTheProcess,
        }
    }

    /// Until the scheduler ends.
    pub async fn run(mut self) {
        let mut rest = tokio::time::interval(REST);
        rest.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let event = self.next(&mut rest).await;
            let ended = matches!(event, Event::Ended);
            self.take(event);
            self.take_what_is_ready();
            if ended {
                self.desk.stop();
            } else {
                self.turn();
            }
            self.answer();
            if ended {
                return;
            }
        }
    }

    async fn next(&mut self, rest: &mut tokio::time::Interval) -> Event {
        let now = self.now();
        let turn = self.desk.next_turn(now).map(|at| self.ticker.at(at));
        let at_turn = async {
            match turn {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let hopes = self.desk.hopes_for_change();
        tokio::select! {
            Some((number, outcome)) = self.commands.next() => Event::Settled(number, outcome),
            Some(explained) = self.explanations.next() => made(explained),
            arrived = self.inbox.recv() => arrived.map_or(Event::Ended, Event::Arrived),
            changed = self.published.fleet.changed(), if hopes => {
                if changed.is_ok() { Event::Turn } else { Event::Ended }
            }
            () = at_turn => Event::Turn,
            _ = rest.tick() => Event::Rest,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrived(arrived) => self.submit(arrived),
            Event::Settled(number, outcome) => {
                let (fleet, now) = (self.published.fleet.borrow().clone(), self.now());
                self.desk.settle(number, outcome, &fleet, now);
            }
            Event::Explained(explained) => {
                for (filter, hosts) in &explained.explanation.refused {
                    self.metrics.refused(filter.name(), u64::from(*hosts));
                }
                self.desk.explained(&explained);
            }
            Event::Rest => {
                self.desk.retain(|reply| !reply.answer.is_closed());
                self.desk.rest();
            }
            Event::Turn | Event::Ended => {}
        }
    }

    /// Everything else that is there already, so that one turn decides for all of it.
    fn take_what_is_ready(&mut self) {
        while let Some(Some((number, outcome))) = self.commands.next().now_or_never() {
            self.take(Event::Settled(number, outcome));
        }
        while let Some(Some(explained)) = self.explanations.next().now_or_never() {
            self.take(made(explained));
        }
        for _ in 0..ARRIVALS {
            let Ok(arrived) = self.inbox.try_recv() else { break };
            self.submit(arrived);
        }
    }

    fn submit(&mut self, arrived: Arrived) {
        let Arrived { wanted, deadline, wait, reply } = arrived;
        let since = millis(reply.came.elapsed());
        let begin = self.ticker.ms().saturating_sub(since);
        let wait_until = if wait.is_zero() { 0 } else { begin.saturating_add(millis(wait)) };
        self.desk.submit(wanted, reply, begin.saturating_add(millis(deadline)), wait_until);
    }

    fn turn(&mut self) {
        let fleet = self.published.fleet.borrow_and_update().clone();
        let began = clock::now();
        self.desk.follow(&fleet);
        let followed = clock::now();
        let now = self.now();
        self.desk.turn(&fleet, now);
        for proposal in self.desk.take_proposals() {
            self.propose(proposal);
        }
        while self.explanations.len() < EXPLANATIONS {
            let Some(task) = self.desk.next_explanation() else { break };
            self.explanations.push(tokio::task::spawn_blocking(move || ExplainTask::run(task)));
        }
        let sync = (followed - began).as_secs_f64();
        self.gauges.turned(sync, followed.elapsed().as_secs_f64());
    }

    fn propose(&self, proposal: Proposal) {
        let Proposal { number, bytes, left } = proposal;
        let timeout = self.timeout.min(Duration::from_millis(left.max(1)));
        let proposer = self.proposer.clone();
        let mut applied = self.published.applied.clone();
        let command = async move {
            let outcome = match proposer.propose_encoded(bytes, timeout).await {
                Ok((index, answer)) => {
                    let shown = applied.wait_for(|applied| *applied >= index);
                    // A replica that lags behind answers all the same; its mirror catches up.
                    let _ = tokio::time::timeout(timeout, shown).await;
                    Outcome::Answered { index, answer }
                }
                Err(ProposeError::Unknown) => Outcome::Unknown,
                Err(ProposeError::Full) => Outcome::Refused(PlaceTrouble::Full),
                Err(ProposeError::NoLeader) => Outcome::Refused(PlaceTrouble::NoLeader),
                Err(ProposeError::TooLarge) => Outcome::Refused(PlaceTrouble::TooLarge),
                Err(ProposeError::Stopped) => Outcome::Refused(PlaceTrouble::Stopped),
            };
            (number, outcome)
        };
        self.commands.push(command.boxed());
    }

    fn answer(&mut self) {
        for (reply, answer) in self.desk.take_done() {
            let seconds = reply.came.elapsed().as_secs_f64();
            let outcome = match &answer {
                Ok(_) => "answered",
                Err(PlaceTrouble::Rejected(_)) => "rejected",
                Err(PlaceTrouble::Full) => "full",
                Err(PlaceTrouble::NoLeader) => "no_leader",
                Err(PlaceTrouble::Unknown) => "unknown",
                Err(PlaceTrouble::TooLarge) => "too_large",
                Err(PlaceTrouble::Stopped) => "stopped",
            };
            self.gauges.answered(outcome, seconds);
            let request = reply.request_id;
            match &answer {
                Ok(PlaceAnswer { items, revision_index: revision, .. }) => {
                    let items = items.len();
                    tracing::debug!(%request, items, revision, seconds, "placement request answered");
                }
                Err(PlaceTrouble::Unknown) => {
                    tracing::warn!(%request, seconds, "fate of a placement request is unknown");
                }
                Err(trouble) => {
                    tracing::debug!(%request, ?trouble, seconds, "placement request failed");
                }
            }
            // Whoever asked may have gone.
            let _ = reply.answer.send(answer);
        }
        let Counts { decided, held, told, refused, conflicts } = self.desk.take_counts();
        self.gauges.decided(decided, PlacementOutcomes { held, told, refused });
        self.metrics.conflicts("placements", conflicts);
        self.gauges.set_queued(self.desk.queued());
        self.gauges.set_commands(self.desk.commands_under_way());
    }

    fn now(&self) -> Now {
        let leader = self.published.fleet.borrow().time().max(clock::wall());
        Now { ms: self.ticker.ms(), leader }
    }
}

fn made(explained: Result<Explained, tokio::task::JoinError>) -> Event {
    match explained {
        Ok(explained) => Event::Explained(explained),
        // Only at the end of the runtime, or by a panic, which the desk's guard would have seen.
        Err(error) => {
            tracing::error!(%error, "an explanation was not made");
            Event::Turn
        }
    }
}
