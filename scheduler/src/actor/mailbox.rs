//! Bounded, counted mailboxes: a message that finds one full is dropped and counted, and whoever
//! sent it must be able to do without or send again.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use berth_metrics::scheduler::SchedulerMetrics;
use berth_metrics::{IntCounter, IntGauge};

/// The way into the mailboxes of one kind of actor.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    waiting: IntGauge,
    dropped: IntCounter,
}

/// A message that counts as waiting until it is taken out or lost with its actor.
pub(super) struct Posted<M> {
    pub message: M,
    _ticket: Ticket,
}

struct Ticket(IntGauge);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<M> Message for Posted<M> {
    type Result = ();
}

impl Mailbox {
    pub fn new(metrics: &SchedulerMetrics, actor: &str) -> Self {
        let (waiting, dropped) = metrics.mailbox(actor);
        Self { waiting, dropped }
    }

    /// Whether the message is in the mailbox now.
    pub fn post<A, M>(&self, to: &Addr<A>, message: M) -> bool
    where
        A: Actor + Handler<Posted<M>>,
        A::Context: ToEnvelope<A, Posted<M>>,
        M: Send + 'static,
    {
        self.waiting.inc();
        let posted = Posted { message, _ticket: Ticket(self.waiting.clone()) };
        let taken = to.try_send(posted).is_ok();
        if !taken {
            self.dropped.inc();
        }
        taken
    }
}
