//! Messages between actors: never more than a mailbox holds, and counted while they wait.
//!
//! Promises: a full mailbox refuses, it never grows; the gauge of an actor is what waits for it
//! now.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message, Recipient};
use berth_metrics::IntGauge;

/// A message that counts as waiting until it is taken or its mailbox is gone.
pub struct Posted<M> {
    message: M,
    waiting: Waiting,
}

struct Waiting(IntGauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<M: Message> Message for Posted<M>
where
    M::Result: Send,
{
    type Result = M::Result;
}

impl<M> Posted<M> {
    pub fn take(self) -> M {
        drop(self.waiting);
        self.message
    }
}

/// The way into the mailbox of one actor, for one kind of message.
pub struct Mailbox<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    recipient: Recipient<Posted<M>>,
    depth: IntGauge,
}

impl<M> Clone for Mailbox<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self { recipient: self.recipient.clone(), depth: self.depth.clone() }
    }
}

impl<M> Mailbox<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    pub fn new<A>(address: &Addr<A>, depth: IntGauge) -> Mailbox<M>
    where
        A: Actor + Handler<Posted<M>>,
        A::Context: ToEnvelope<A, Posted<M>>,
    {
        Mailbox { recipient: address.clone().recipient(), depth }
    }

    /// Whether the message is in the mailbox now; if not, whoever sent it sends it again or does
    /// without.
    pub fn post(&self, message: M) -> bool {
        self.recipient.try_send(self.posted(message)).is_ok()
    }

    /// Waits for room and for the answer; `None` if the actor is gone.
    pub async fn ask(&self, message: M) -> Option<M::Result> {
        self.recipient.send(self.posted(message)).await.ok()
    }

    fn posted(&self, message: M) -> Posted<M> {
        self.depth.inc();
        Posted { message, waiting: Waiting(self.depth.clone()) }
    }
}
