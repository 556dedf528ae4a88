//! Who has a session, who is silent, and whose assignment changed. One actor; it leads nothing
//! itself: it admits sessions while this replica reigns and ends them all when it does not.
//!
//! Promises: one session a host, the newest. A host that was not heard for the full time is
//! recorded as silent; after an election everyone has the full time again. A changed assignment
//! reaches its session even if the session's mailbox was full at the time.
//! Does not: send or receive bytes; sessions do.

use super::clock;
use super::machine::{Published, Reign};
use super::mailbox::{Mailbox, Posted};
use super::node_session::{End, NodeSession, Refresh};
use super::proposer::{Done, ProposeFailure, Proposer};
use super::{Changed, EndsTheProcess, changes};
use crate::fleet::Fleet;
use crate::liveness::Liveness;
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message,
    MessageResult, StreamHandler, WrapFuture,
};
use berth_metrics::scheduler::SchedulerMetrics;
use berth_model::command::{CommandBody, Principal};
use berth_model::{HostId, HostState};
use berth_raft::ReplicaId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(super) const TICK: Duration = Duration::from_millis(250);
/// A heartbeat a second from each of 10,000 hosts, and what else they say.
const MAILBOX: usize = 16_384;

pub(super) struct Dispatcher {
    id: ReplicaId,
    published: Published,
    proposer: Proposer,
    metrics: SchedulerMetrics,
    mailbox: Mailbox,
    reign: Reign,
    liveness: Liveness,
    sessions: BTreeMap<HostId, Session>,
    /// The last session's number; a session that was replaced must not speak for its host.
    last_number: u64,
    /// Changes up to this index are in `stale` or dealt with.
    seen: u64,
    /// Hosts whose session has yet to be told that its assignment may have changed.
    stale: BTreeSet<HostId>,
    /// A command that only brings time is under way.
    expiring: bool,
    _guard: EndsTheProcess,
}

struct Session {
    number: u64,
    address: Addr<NodeSession>,
}

/// A node wants a session for this host.
pub(super) struct Admit {
    pub host: HostId,
    pub address: Addr<NodeSession>,
}

pub(super) enum Admission {
    Admitted { number: u64 },
    Redirected { leader: Option<ReplicaId> },
}

/// Something came from the node.
pub(super) struct Heard {
    pub host: HostId,
    pub number: u64,
}

/// A session is over.
pub(super) struct Ended {
    pub host: HostId,
    pub number: u64,
}

/// This scheduler stops.
pub(super) struct Dissolve;

impl Message for Admit {
    type Result = Admission;
}

impl Message for Dissolve {
    type Result = ();
}

impl Dispatcher {
    pub fn new(
        id: ReplicaId,
        published: Published,
        proposer: Proposer,
        metrics: SchedulerMetrics,
        silent_after: Duration,
    ) -> Self {
        let ticks = silent_after.as_millis().div_ceil(TICK.as_millis());
        Self {
            id,
            published,
            proposer,
            mailbox: Mailbox::new(&metrics, "node_session"),
            metrics,
            reign: Reign::Other { leader: None },
            liveness: Liveness::new(u64::try_from(ticks).unwrap_or(u64::MAX)),
            sessions: BTreeMap::new(),
            last_number: 0,
            seen: 0,
            stale: BTreeSet::new(),
            expiring: false,
            _guard: EndsTheProcess,
        }
    }

    fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.published.fleet.borrow())
    }

    /// Takes note of fleet and reign as they are now.
    fn look(&mut self) {
        let reign = *self.published.reign.borrow();
        let fleet = self.fleet();
        if reign != self.reign {
            self.reign = reign;
            match reign {
                Reign::Ours { term } => {
                    tracing::info!(term, hosts = fleet.hosts().len(), "this scheduler leads");
                    self.liveness.restart(connected(&fleet));
                    self.seen = fleet.index();
                }
                Reign::Other { leader } => self.dismiss_all(leader),
            }
        }
        if reign.is_ours() && fleet.index() > self.seen {
            self.stale.extend(fleet.hosts_changed_since(self.seen));
            self.seen = fleet.index();
        }
        self.refresh_stale();
    }

    /// What finds a full mailbox stays stale and is tried again with the next tick.
    fn refresh_stale(&mut self) {
        let (sessions, mailbox) = (&self.sessions, &self.mailbox);
        self.stale.retain(|host| match sessions.get(host) {
            Some(session) => !mailbox.post(&session.address, Refresh),
            None => false,
        });
    }

    fn dismiss_all(&mut self, leader: Option<ReplicaId>) {
        for session in std::mem::take(&mut self.sessions).into_values() {
            self.mailbox.post(&session.address, End::Redirected { leader });
        }
        self.count_sessions();
        self.liveness.restart([]);
        self.stale.clear();
    }

    fn count_sessions(&self) {
        self.metrics.node_sessions.set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if self.reign.is_ours() {
            for host in self.liveness.tick() {
                self.silence(host, context);
            }
            self.let_time_pass(context);
        }
        self.look();
        // Armed anew each time: ticks that were missed are not made up for, since a leader that
        // stalled must not count its own absence against the hosts.
        context.run_later(TICK, Self::tick);
    }

    /// Time goes on in the fleet only with the commands that are stamped. Where a reservation's time
    /// is over and nobody else says anything, an empty command brings the stamp.
    fn let_time_pass(&mut self, context: &mut Context<Self>) {
        let due = self.fleet().next_expiry().is_some_and(|until| until <= clock::wall());
        if !due || self.expiring {
            return;
        }
        self.expiring = true;
        let proposer = self.proposer.clone();
        let principal = Principal::Scheduler(self.id);
        let stamp = CommandBody::Release { ids: Vec::new() };
        let proposal = async move { proposer.propose(principal, stamp).await };
        context.spawn(proposal.into_actor(self).map(
            |outcome: Result<Done, ProposeFailure>, actor, _| {
                actor.expiring = false;
                if let Err(error) = outcome {
                    tracing::warn!(%error, "reservations wait for their end; trying again");
                }
            },
        ));
    }

    fn silence(&mut self, host: HostId, context: &mut Context<Self>) {
        tracing::warn!(%host, "nothing was heard of the host past the timer");
        self.metrics.hosts_silenced.inc();
        if let Some(session) = self.sessions.remove(&host) {
            self.mailbox.post(&session.address, End::Silent);
            self.count_sessions();
        }
        let proposer = self.proposer.clone();
        let principal = Principal::Scheduler(self.id);
        let proposal = async move {
            proposer.propose_urgent(principal, CommandBody::HostSilent { host }).await
        };
        context.spawn(proposal.into_actor(self).map(
            move |outcome: Result<Done, ProposeFailure>, actor, _| match outcome {
                Ok(_) => {
                    if !actor.sessions.contains_key(&host) {
                        actor.liveness.forget(host);
                    }
                }
                // The timer names the host again a full time later.
                Err(error) => tracing::warn!(%host, %error, "silence could not be recorded"),
            },
        ));
    }
}

fn connected(fleet: &Fleet) -> impl Iterator<Item = HostId> {
    fleet.hosts().filter_map(|host| match host.state {
        HostState::Connected { .. } => Some(host.id),
        HostState::Silent { .. } => None,
    })
}

impl Actor for Dispatcher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        context.add_stream(changes(self.published.fleet.clone()));
        context.add_stream(changes(self.published.reign.clone()));
        context.run_later(TICK, Self::tick);
    }
}

impl StreamHandler<Changed> for Dispatcher {
    fn handle(&mut self, _: Changed, _: &mut Self::Context) {
        self.look();
    }

    /// The replica is gone: there is nothing to dispatch any more.
    fn finished(&mut self, context: &mut Self::Context) {
        self.dismiss_all(None);
        context.stop();
    }
}

impl Handler<Admit> for Dispatcher {
    type Result = MessageResult<Admit>;

    fn handle(&mut self, admit: Admit, _: &mut Self::Context) -> Self::Result {
        self.look();
        if let Reign::Other { leader } = self.reign {
            self.metrics.registrations_redirected.inc();
            return MessageResult(Admission::Redirected { leader });
        }
        if self.fleet().cell().is_none() {
            return MessageResult(Admission::Redirected { leader: None });
        }
        self.last_number += 1;
        let (host, number) = (admit.host, self.last_number);
        let session = Session { number, address: admit.address };
        if let Some(before) = self.sessions.insert(host, session) {
            self.mailbox.post(&before.address, End::Replaced);
        }
        self.liveness.heard(host);
        self.count_sessions();
        MessageResult(Admission::Admitted { number })
    }
}

impl Handler<Posted<Heard>> for Dispatcher {
    type Result = ();

    fn handle(&mut self, posted: Posted<Heard>, _: &mut Self::Context) {
        let Heard { host, number } = posted.message;
        if self.sessions.get(&host).is_some_and(|session| session.number == number) {
            self.liveness.heard(host);
        }
    }
}

impl Handler<Posted<Ended>> for Dispatcher {
    type Result = ();

    /// The timer goes on: the node may be back with a new session before it runs out.
    fn handle(&mut self, posted: Posted<Ended>, _: &mut Self::Context) {
        let Ended { host, number } = posted.message;
        if self.sessions.get(&host).is_some_and(|session| session.number == number) {
            self.sessions.remove(&host);
            self.count_sessions();
        }
    }
}

impl Handler<Dissolve> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: Dissolve, context: &mut Self::Context) {
        self.dismiss_all(None);
        context.stop();
    }
}
