//! One node's session with the leader: registers the host, sends it its assignment, takes its
//! reports to the log.
//!
//! ```text
//!  Admit ─► admitted? ─► HostSeen in the log ─► Welcome, whole assignment ─► updates, reports …
//!    └─ no: Redirect, end      └─ rejected: Refused, end
//! ```
//!
//! Promises: a report is acknowledged only when it is committed, in order, one `Observe`
//! outstanding. Updates build on what was sent last: the link keeps order, and a node that cannot
//! follow says so and gets the whole. Does not: outlive its link; the node dials again, sends its
//! unacknowledged reports again and gets the whole again.

use super::dispatcher::{Admission, Admit, Dispatcher, Ended, Heard};
use super::machine::Published;
use super::mailbox::{Mailbox, Posted};
use super::proposer::{ProposeFailure, Proposer};
use crate::assignment::assignment_for;
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, StreamHandler,
    WrapFuture,
};
use berth_metrics::scheduler::SchedulerMetrics;
use berth_model::command::{CommandBody, Principal};
use berth_model::report::{Fact, Report};
use berth_model::session::{FromNode, FromScheduler};
use berth_model::{Assignment, HostFacts, HostId, HostState};
use berth_raft::ReplicaId;
use berth_wire::codec;
use berth_wire::link::{Link, LinkError, LinkReceiver, LinkSender};
use futures_util::stream;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;

const MAILBOX: usize = 64;
/// Messages on their way to the node's socket.
const OUTBOX: usize = 64;
/// Reports that wait for the log. A node that has more to say says it again later.
const REPORTS_MAX: usize = 256;
/// Facts of one `Observe`.
const FACTS_MAX: usize = 1024;
/// Longest time that one message may take to the socket.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon an assignment is tried again that found the outbox full.
const AGAIN: Duration = Duration::from_millis(100);

/// What a session works with.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub published: Published,
    pub proposer: Proposer,
    pub metrics: SchedulerMetrics,
    pub dispatcher: Addr<Dispatcher>,
    pub silent_after: Duration,
}

pub(super) struct NodeSession {
    host: HostId,
    facts: HostFacts,
    around: Surroundings,
    mailbox: Mailbox,
    outbox: mpsc::Sender<FromScheduler>,
    state: State,
    /// Given by the dispatcher; 0 before.
    number: u64,
    /// As the node has it, if all went well.
    sent: Option<Assignment>,
    reports: VecDeque<Report>,
    reporting: bool,
}

/// How far the session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Registering,
    Registered,
    Over,
}

/// The assignment may have changed.
pub(super) struct Refresh;

/// The dispatcher ends the session.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The node dialled again.
    Replaced,
    /// This replica does not lead any more.
    Redirected { leader: Option<ReplicaId> },
    /// Nothing was heard past the timer.
    Silent,
}

impl NodeSession {
    /// Starts the session on the current arbiter.
    pub fn open(host: HostId, link: Link, facts: HostFacts, around: Surroundings) {
        let (sender, receiver) = link.split();
        let (outbox, messages) = mpsc::channel(OUTBOX);
        actix_rt::spawn(write(sender, messages));
        let mailbox = Mailbox::new(&around.metrics, "dispatcher");
        NodeSession::create(|context| {
            context.set_mailbox_capacity(MAILBOX);
            context.add_stream(incoming(receiver));
            NodeSession {
                host,
                facts,
                around,
                mailbox,
                outbox,
                state: State::Registering,
                number: 0,
                sent: None,
                reports: VecDeque::new(),
                reporting: false,
            }
        });
    }

    fn ask_to_be_admitted(&mut self, context: &mut Context<Self>) {
        let admit = Admit { host: self.host, address: context.address() };
        let admission = self.around.dispatcher.send(admit);
        context.wait(admission.into_actor(self).map(|admission, actor, context| match admission {
            Ok(Admission::Admitted { number }) => {
                actor.number = number;
                actor.register(context);
            }
            Ok(Admission::Redirected { leader }) => {
                actor.send(FromScheduler::Redirect { leader }, context);
                actor.end("redirected", context);
            }
            Err(_) => actor.end("closed", context),
        }));
    }

    /// Makes the fleet say that the host is connected, with these facts.
    fn register(&mut self, context: &mut Context<Self>) {
        let proposer = self.around.proposer.clone();
        let principal = Principal::Node(self.host);
        let facts = Box::new(self.facts.clone());
        let body = CommandBody::HostSeen { host: self.host, facts };
        let known = self.is_known_as_it_is();
        let proposal = async move {
            if known { Ok(()) } else { proposer.propose_urgent(principal, body).await.map(|_| ()) }
        };
        context.spawn(proposal.into_actor(self).map(|outcome, actor, context| match outcome {
            Ok(()) => actor.registered(context),
            Err(ProposeFailure::Rejected(rejection)) => {
                tracing::warn!(host = %actor.host, %rejection, "registration refused");
                actor.around.metrics.registrations_refused.inc();
                actor.send(FromScheduler::Refused { reason: rejection.to_string() }, context);
                actor.end("closed", context);
            }
            Err(error @ ProposeFailure::Trouble(_)) => {
                tracing::warn!(host = %actor.host, %error, "registration was not committed");
                actor.end("closed", context);
            }
        }));
    }

    fn is_known_as_it_is(&self) -> bool {
        let fleet = self.around.published.fleet.borrow();
        fleet.host(self.host).is_some_and(|host| match host.state {
            HostState::Connected { .. } => *host.facts == self.facts,
            HostState::Silent { .. } => false,
        })
    }

    fn registered(&mut self, context: &mut Context<Self>) {
        if self.state != State::Registering {
            return;
        }
        let (cell, incarnation) = {
            let fleet = self.around.published.fleet.borrow();
            (fleet.cell(), fleet.incarnation())
        };
        let Some(cell) = cell else { return self.end("closed", context) };
        let silent_after_ms =
            u64::try_from(self.around.silent_after.as_millis()).unwrap_or(u64::MAX);
        self.send(FromScheduler::Welcome { cell, incarnation, silent_after_ms }, context);
        self.state = State::Registered;
        tracing::info!(host = %self.host, name = %self.facts.name, "node registered");
        self.refresh(context);
    }

    /// Sends what changed since the assignment that was sent last.
    fn refresh(&mut self, context: &mut Context<Self>) {
        if self.state != State::Registered {
            return;
        }
        let (next, silent) = {
            let fleet = self.around.published.fleet.borrow();
            let silent = fleet.host(self.host).is_some_and(|host| match host.state {
                HostState::Silent { .. } => true,
                HostState::Connected { .. } => false,
            });
            (assignment_for(&fleet, self.host), silent)
        };
        if silent {
            // Its silence was recorded just before it was heard again: it registers anew.
            return self.end("silent", context);
        }
        if self.sent.as_ref().is_some_and(|sent| sent.vms == next.vms) {
            return;
        }
        let update = next.update_from(self.sent.as_ref(), |id, order| codec::encode(&(id, order)));
        match self.outbox.try_send(FromScheduler::Assignment(Box::new(update))) {
            Ok(()) => {
                self.around.metrics.assignments.inc();
                if self.sent.is_none() {
                    self.around.metrics.assignments_whole.inc();
                }
                self.sent = Some(next);
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                context.run_later(AGAIN, Self::refresh);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => self.end("broken", context),
        }
    }

    /// Takes the reports that wait to the log, as one command.
    fn report(&mut self, context: &mut Context<Self>) {
        if self.reporting || self.reports.is_empty() || self.state != State::Registered {
            return;
        }
        let (last, facts) = take_reports(&mut self.reports);
        self.reporting = true;
        let proposer = self.around.proposer.clone();
        let (host, principal) = (self.host, Principal::Node(self.host));
        let proposal = async move {
            proposer.propose_urgent(principal, CommandBody::Observe { host, facts }).await
        };
        context.spawn(proposal.into_actor(self).map(move |outcome, actor, context| {
            actor.reporting = false;
            match outcome {
                Ok(_) => {
                    actor.around.metrics.reports.inc();
                    actor.send(FromScheduler::ReportKept { last }, context);
                    actor.report(context);
                }
                Err(error) => {
                    tracing::warn!(host = %actor.host, %error, "report was not committed");
                    actor.end("broken", context);
                }
            }
        }));
    }

    fn received(&mut self, message: FromNode, context: &mut Context<Self>) {
        let heard = Heard { host: self.host, number: self.number };
        self.mailbox.post(&self.around.dispatcher, heard);
        match message {
            FromNode::Heartbeat { sequence } if self.state == State::Registered => {
                self.send(FromScheduler::Heard { sequence }, context);
            }
            FromNode::Heartbeat { .. } | FromNode::Obeyed { .. } => {}
            FromNode::Register { facts, .. } | FromNode::Facts(facts) => {
                self.facts = *facts;
                self.facts_changed(context);
            }
            FromNode::Report(report) => {
                if self.reports.len() == REPORTS_MAX {
                    tracing::warn!(host = %self.host, "node reports faster than the log takes");
                    return self.end("broken", context);
                }
                self.reports.push_back(report);
                self.report(context);
            }
            FromNode::WholeWanted { reason } => {
                tracing::warn!(host = %self.host, %reason, "node wants its assignment whole");
                self.sent = None;
                self.refresh(context);
            }
        }
    }

    fn facts_changed(&mut self, context: &mut Context<Self>) {
        let proposer = self.around.proposer.clone();
        let (host, principal) = (self.host, Principal::Node(self.host));
        let facts = Box::new(self.facts.clone());
        let proposal = async move {
            proposer.propose_urgent(principal, CommandBody::HostSeen { host, facts }).await
        };
        // Facts that cannot be recorded would otherwise be lost until the next change of them.
        context.spawn(proposal.into_actor(self).map(|outcome, actor, context| match outcome {
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(host = %actor.host, %error, "facts were not recorded");
                actor.end("broken", context);
            }
        }));
    }

    fn send(&mut self, message: FromScheduler, context: &mut Context<Self>) {
        if self.outbox.try_send(message).is_err() {
            tracing::warn!(host = %self.host, "node does not read");
            self.end("broken", context);
        }
    }

    /// What is in the outbox still goes out; then the link is closed.
    fn end(&mut self, reason: &str, context: &mut Context<Self>) {
        if self.state != State::Over {
            self.state = State::Over;
            self.around.metrics.session_ended(reason);
        }
        context.stop();
    }
}

impl Actor for NodeSession {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.ask_to_be_admitted(context);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if self.number != 0 {
            let ended = Ended { host: self.host, number: self.number };
            self.mailbox.post(&self.around.dispatcher, ended);
        }
    }
}

impl StreamHandler<Result<FromNode, LinkError>> for NodeSession {
    fn handle(&mut self, item: Result<FromNode, LinkError>, context: &mut Self::Context) {
        match item {
            Ok(message) => self.received(message, context),
            Err(error) => {
                tracing::info!(host = %self.host, %error, "node session broke");
                self.end("broken", context);
            }
        }
    }

    fn finished(&mut self, context: &mut Self::Context) {
        self.end("closed", context);
    }
}

impl Handler<Posted<Refresh>> for NodeSession {
    type Result = ();

    fn handle(&mut self, _: Posted<Refresh>, context: &mut Self::Context) {
        self.refresh(context);
    }
}

impl Handler<Posted<End>> for NodeSession {
    type Result = ();

    fn handle(&mut self, posted: Posted<End>, context: &mut Self::Context) {
        match posted.message {
            End::Replaced => self.end("replaced", context),
            End::Silent => self.end("silent", context),
            End::Redirected { leader } => {
                self.send(FromScheduler::Redirect { leader }, context);
                self.end("redirected", context);
            }
        }
    }
}

/// As many whole reports as one command takes, at least one.
fn take_reports(reports: &mut VecDeque<Report>) -> (u64, Vec<Fact>) {
    let (mut last, mut facts) = (0, Vec::new());
    while let Some(report) = reports.pop_front() {
        if !facts.is_empty() && facts.len() + report.facts.len() > FACTS_MAX {
            reports.push_front(report);
            break;
        }
        last = report.last;
        facts.extend(report.facts);
    }
    (last, facts)
}

/// Messages until the link ends; an error is the last item.
fn incoming(receiver: LinkReceiver) -> impl stream::Stream<Item = Result<FromNode, LinkError>> {
    stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.receive::<FromNode>().await {
            Ok(Some(message)) => Some((Ok(message), Some(receiver))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Sends until the session drops its end or the node does not read; then closes.
async fn write(mut sender: LinkSender, mut messages: mpsc::Receiver<FromScheduler>) {
    while let Some(message) = messages.recv().await {
        match tokio::time::timeout(SEND_TIMEOUT, sender.send(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "message to a node was not sent");
                return;
            }
            Err(_) => return,
        }
    }
    if let Ok(Err(error)) = tokio::time::timeout(SEND_TIMEOUT, sender.close()).await {
        tracing::debug!(%error, "link to a node was not closed in order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::ContainerId;

    fn report(last: u64, facts: usize) -> Report {
        let fact = Fact::Discarded { container: ContainerId::from_bytes([1; 32]) };
        Report { last, facts: vec![fact; facts] }
    }

    #[test]
    fn reports_that_wait_become_one_command_up_to_its_bound() {
        let mut reports = VecDeque::from([report(1, 1), report(3, 2), report(9, FACTS_MAX)]);
        assert_eq!(take_reports(&mut reports), (3, report(3, 3).facts));
        assert_eq!(take_reports(&mut reports), (9, report(9, FACTS_MAX).facts));
        assert!(reports.is_empty());
    }
}
