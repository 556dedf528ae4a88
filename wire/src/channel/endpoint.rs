//! One end of the channel: what it has sent, what it waits for, and what it must say next.
//!
//! The IO around it is a loop: bytes read go to [`Endpoint::receive`], messages come out of
//! [`Endpoint::pop`], [`Endpoint::outgoing`] is written as far as the pipe takes it and
//! [`Endpoint::written`] says how far that was.

use super::frame::{self, CHUNK, Decoder, FILLER, Frame, Hello, HelloReply, Mode};
use super::{TO_GUEST_MESSAGE_MAX, TO_GUEST_WINDOW, TO_HOST_MESSAGE_MAX, TO_HOST_WINDOW, cost};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// How much is encoded ahead of the pipe.
const OUTBOX: usize = 128 << 10;

/// The message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("the channel's window is full; send again when the peer has taken some")]
    Window,
    #[error("message of {length} bytes is over the channel's limit of {limit}")]
    TooLong { length: usize, limit: usize },
}

/// The channel cannot go on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// On a host: connect again, or call `reconnected` with a new nonce on the same pipe. On a
    /// guest: nothing to do, the channel tells the host by itself.
    #[error("the channel is out of step, the host has to say hello again")]
    OutOfStep,
    #[error("the guest forgot this channel, it is not the guest that it was")]
    GuestForgot,
    #[error("the peer speaks channel protocol {min} to {max}, which this build does not")]
    Protocol { min: u16, max: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The host never connected, or damage was found; on a guest: waits for a Hello.
    Out,
    /// The host said Hello and waits for the reply with this nonce.
    Greeting(u64),
    In,
    /// No common protocol, or a guest that forgot: for good.
    Ended(ChannelError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Host,
    Guest,
}

#[derive(Debug)]
struct Chunk {
    payload: Vec<u8>,
    last: bool,
}

#[derive(Debug)]
struct Message {
    payload: Vec<u8>,
    cost: usize,
    /// The sequence number after its last chunk.
    end: u64,
}

/// One end of the channel.
#[derive(Debug)]
pub struct Endpoint {
    side: Side,
    protocols: RangeInclusive<u16>,
    agreed: Option<u16>,
    step: Step,
    /// Host: own; guest: of the host that it talks to.
    incarnation: Option<u64>,
    /// Rises each time a guest hears a host endpoint that it did not know.
    hosts_met: u64,
    decoder: Decoder,

    expected: u64,
    taken: u64,
    ack_due: bool,
    assembling: Vec<u8>,
    assembling_cost: usize,
    inbox: VecDeque<Message>,
    inbox_cost: usize,

    /// Sent or to be sent, and not yet taken by the peer.
    queue: VecDeque<Chunk>,
    queue_cost: usize,
    /// Sequence number of the front of `queue`.
    base: u64,
    /// Sequence number of the next chunk to encode.
    cursor: u64,
    outbox: Vec<u8>,
    outbox_start: usize,
    lost_due: bool,
}

impl Endpoint {
    /// The node's end. It is silent until [`Self::reconnected`].
    pub fn host(protocols: RangeInclusive<u16>) -> Endpoint {
        Endpoint::new(Side::Host, protocols)
    }

    /// The agent's end. It is silent until a host says hello.
    pub fn guest(protocols: RangeInclusive<u16>) -> Endpoint {
        Endpoint::new(Side::Guest, protocols)
    }

    fn new(side: Side, protocols: RangeInclusive<u16>) -> Endpoint {
        Endpoint {
            side,
            protocols,
            agreed: None,
            step: Step::Out,
            incarnation: None,
            hosts_met: 0,
            decoder: Decoder::default(),
            expected: 0,
            taken: 0,
            ack_due: false,
            assembling: Vec::new(),
            assembling_cost: 0,
            inbox: VecDeque::new(),
            inbox_cost: 0,
            queue: VecDeque::new(),
            queue_cost: 0,
            base: 0,
            cursor: 0,
            outbox: Vec::new(),
            outbox_start: 0,
            lost_due: false,
        }
    }

    /// Host only: the pipe is new (or to be trusted anew); say hello. `nonce` must be random and
    /// fresh, the caller draws it.
    pub fn reconnected(&mut self, nonce: u64) {
        assert!(self.side == Side::Host, "only the host says hello");
        if matches!(self.step, Step::Ended(_)) {
            return;
        }
        let incarnation = *self.incarnation.get_or_insert(nonce);
        self.decoder.clear();
        self.forget_outgoing();
        self.step = Step::Greeting(nonce);
        let hello = Hello {
            nonce,
            incarnation,
            expected: self.expected,
            taken: self.taken,
            protocol_min: *self.protocols.start(),
            protocol_max: *self.protocols.end(),
        };
        self.outbox.resize(FILLER, 0);
        frame::write_hello(&hello, &mut self.outbox);
    }

    /// The protocol that both speak, once they have met.
    pub fn protocol(&self) -> Option<u16> {
        self.agreed
    }

    /// Whether messages flow now, as far as this end knows.
    pub fn in_step(&self) -> bool {
        self.step == Step::In
    }

    /// Guest: how many host endpoints it has met. Each new one knows nothing of what was said
    /// before.
    pub fn hosts_met(&self) -> u64 {
        self.hosts_met
    }

    /// Whether the peer has taken everything that was sent.
    pub fn all_taken(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a message. It is sent when in step, and again after a cut, until the peer has taken
    /// it.
    pub fn send(&mut self, payload: &[u8]) -> Result<(), Full> {
        let (limit, window) = match self.side {
            Side::Host => (TO_GUEST_MESSAGE_MAX, TO_GUEST_WINDOW),
            Side::Guest => (TO_HOST_MESSAGE_MAX, TO_HOST_WINDOW),
        };
        if payload.len() > limit {
            return Err(Full::TooLong { length: payload.len(), limit });
        }
        let pieces = payload.len().div_ceil(CHUNK).max(1);
        let whole = payload.len() + pieces * cost(0);
        if self.queue_cost + whole > window {
            return Err(Full::Window);
        }
        self.queue_cost += whole;
        for piece in 0..pieces {
            let end = payload.len().min((piece + 1) * CHUNK);
            let chunk = payload[piece * CHUNK..end].to_vec();
            self.queue.push_back(Chunk { payload: chunk, last: piece + 1 == pieces });
        }
        Ok(())
    }

    /// The next message of the peer. Taking it acknowledges it.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let message = self.inbox.pop_front()?;
        self.inbox_cost -= message.cost;
        self.taken = message.end;
        self.ack_due = true;
        Some(message.payload)
    }

    /// Bytes to write to the pipe now; empty when there is nothing to say.
    pub fn outgoing(&mut self) -> &[u8] {
        if self.outbox_start == self.outbox.len() {
            self.outbox.clear();
            self.outbox_start = 0;
            self.fill_outbox();
        }
        &self.outbox[self.outbox_start..]
    }

    /// The first `count` bytes of [`Self::outgoing`] went into the pipe.
    pub fn written(&mut self, count: usize) {
        assert!(count <= self.outbox.len() - self.outbox_start, "wrote more than was outgoing");
        self.outbox_start += count;
    }

    /// Takes in bytes of the pipe, as they came.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        if let Step::Ended(error) = self.step {
            return Err(error);
        }
        self.decoder.push(bytes);
        let mut outcome = Ok(());
        loop {
            let mode = match (self.step, self.side) {
                (Step::In, _) => Mode::InStep,
                (Step::Out, Side::Guest) => Mode::SeekHello,
                (Step::Greeting(nonce), _) => Mode::SeekReply(nonce),
                // Nothing that comes before the next hello means anything.
                (Step::Out, Side::Host) => {
                    self.decoder.clear();
                    return outcome;
                }
                (Step::Ended(error), _) => {
                    self.decoder.clear();
                    return Err(error);
                }
            };
            let accepted = match self.decoder.next(mode) {
                Ok(None) => return outcome,
                Ok(Some(frame)) => self.accept(frame),
                Err(frame::Damaged) => Err(ChannelError::OutOfStep),
            };
            if let Err(error) = accepted {
                outcome = Err(error);
                match error {
                    ChannelError::OutOfStep => self.fall_out(),
                    ChannelError::GuestForgot | ChannelError::Protocol { .. } => {
                        self.forget_outgoing();
                        self.step = Step::Ended(error);
                    }
                }
            }
        }
    }

    fn accept(&mut self, frame: Frame) -> Result<(), ChannelError> {
        match (frame, self.side) {
            (Frame::Hello(hello), Side::Guest) => self.greet(&hello),
            (Frame::HelloReply(reply), Side::Host) => match self.step {
                Step::Greeting(_) => self.meet(&reply),
                // A reply to a hello that a later one overtook.
                Step::In | Step::Out | Step::Ended(_) => Ok(()),
            },
            (Frame::Data { sequence, taken, last, payload }, _) => {
                self.release(taken)?;
                self.take_in(sequence, last, &payload)
            }
            (Frame::Ack { taken }, _) => self.release(taken),
            (Frame::Lost, Side::Host)
            | (Frame::Hello(_), Side::Host)
            | (Frame::HelloReply(_), Side::Guest)
            | (Frame::Lost, Side::Guest) => Err(ChannelError::OutOfStep),
        }
    }

    /// Guest: a host is there, perhaps again, perhaps another.
    fn greet(&mut self, hello: &Hello) -> Result<(), ChannelError> {
        self.forget_outgoing();
        self.lost_due = false;
        let fresh = self.incarnation != Some(hello.incarnation);
        if fresh {
            self.incarnation = Some(hello.incarnation);
            self.hosts_met += 1;
            self.expected = 0;
            self.taken = 0;
            self.assembling = Vec::new();
            self.assembling_cost = 0;
            // The new host does not know what the old one said, and would be surprised by it.
            self.inbox.clear();
            self.inbox_cost = 0;
            self.cursor = self.base;
        } else {
            self.release(hello.taken)?;
            if hello.expected < self.base || hello.expected > self.next_sequence() {
                return Err(ChannelError::OutOfStep);
            }
            self.cursor = hello.expected;
        }
        let reply = HelloReply {
            nonce: hello.nonce,
            fresh,
            expected: self.expected,
            sends_from: self.cursor,
            protocol_min: *self.protocols.start(),
            protocol_max: *self.protocols.end(),
        };
        frame::write_hello_reply(&reply, &mut self.outbox);
        self.agreed = self.agree(hello.protocol_min, hello.protocol_max);
        // Without a common protocol the reply says so, and this end waits for a host that has one.
        self.step = if self.agreed.is_some() { Step::In } else { Step::Out };
        self.ack_due = true;
        Ok(())
    }

    /// Host: the guest answered.
    fn meet(&mut self, reply: &HelloReply) -> Result<(), ChannelError> {
        let (min, max) = (reply.protocol_min, reply.protocol_max);
        let agreed = self.agree(min, max).ok_or(ChannelError::Protocol { min, max })?;
        if self.agreed.is_none() {
            self.expected = reply.sends_from;
            self.taken = reply.sends_from;
        } else if reply.fresh || reply.sends_from != self.expected {
            return Err(ChannelError::GuestForgot);
        }
        if reply.expected < self.base || reply.expected > self.next_sequence() {
            return Err(ChannelError::GuestForgot);
        }
        self.agreed = Some(agreed);
        self.cursor = reply.expected;
        self.step = Step::In;
        self.ack_due = true;
        Ok(())
    }

    fn agree(&self, min: u16, max: u16) -> Option<u16> {
        let highest = max.min(*self.protocols.end());
        (min <= highest && *self.protocols.start() <= highest).then_some(highest)
    }

    /// The peer has taken everything below `taken`.
    fn release(&mut self, taken: u64) -> Result<(), ChannelError> {
        if taken > self.cursor {
            return Err(ChannelError::OutOfStep);
        }
        while self.base < taken {
            let Some(chunk) = self.queue.pop_front() else { break };
            self.queue_cost -= cost(chunk.payload.len());
            self.base += 1;
        }
        Ok(())
    }

    fn take_in(&mut self, sequence: u64, last: bool, payload: &[u8]) -> Result<(), ChannelError> {
        let (limit, window) = match self.side {
            Side::Host => (TO_HOST_MESSAGE_MAX, TO_HOST_WINDOW),
            Side::Guest => (TO_GUEST_MESSAGE_MAX, TO_GUEST_WINDOW),
        };
        let held = self.inbox_cost + self.assembling_cost + cost(payload.len());
        if sequence != self.expected
            || held > window
            || self.assembling.len() + payload.len() > limit
        {
            return Err(ChannelError::OutOfStep);
        }
        self.expected += 1;
        self.assembling.extend_from_slice(payload);
        self.assembling_cost += cost(payload.len());
        if last {
            let message = Message {
                payload: std::mem::take(&mut self.assembling),
                cost: std::mem::take(&mut self.assembling_cost),
                end: self.expected,
            };
            self.inbox_cost += message.cost;
            self.inbox.push_back(message);
        }
        Ok(())
    }

    fn fall_out(&mut self) {
        self.forget_outgoing();
        self.step = Step::Out;
        self.lost_due = self.side == Side::Guest;
    }

    fn forget_outgoing(&mut self) {
        self.outbox.clear();
        self.outbox_start = 0;
    }

    fn fill_outbox(&mut self) {
        if std::mem::take(&mut self.lost_due) {
            frame::write_lost(&mut self.outbox);
        }
        if self.step != Step::In {
            return;
        }
        while self.outbox.len() < OUTBOX {
            let Some(chunk) = usize::try_from(self.cursor - self.base)
                .ok()
                .and_then(|index| self.queue.get(index))
            else {
                break;
            };
            let (sequence, taken) = (self.cursor, self.taken);
            frame::write_data(sequence, taken, chunk.last, &chunk.payload, &mut self.outbox);
            self.cursor += 1;
            self.ack_due = false;
        }
        if std::mem::take(&mut self.ack_due) {
            frame::write_ack(self.taken, &mut self.outbox);
        }
    }

    fn next_sequence(&self) -> u64 {
        self.base + self.queue.len() as u64
    }
}

#[cfg(test)]
impl Endpoint {
    /// Bytes of payload and buffers that this end keeps.
    pub(super) fn held(&self) -> usize {
        self.inbox_cost
            + self.assembling_cost
            + self.queue_cost
            + self.outbox.len()
            + self.decoder.held()
    }
}
