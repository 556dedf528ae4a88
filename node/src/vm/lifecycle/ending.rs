//! From the power going off to what is told: the process's own word goes before everything else.

use super::{Agent, Cause, Event, Machine, State, Step, exited, record, seek};
use crate::hypervisor::Deadlines;
use berth_model::Timestamp;

pub(super) fn ending(cause: Cause, event: Event, now: Timestamp) -> Step {
    match event {
        Event::Machine(Machine::Gone { last_words }) => match cause {
            Cause::Known(verdict) => record(verdict),
            Cause::Ordered { .. }
            | Cause::BootTimeout
            | Cause::SetupTimeout
            | Cause::Silent
            | Cause::StopTimeout
            | Cause::LogOverflow
            | Cause::Broken(_)
            | Cause::Vanished { .. } => seek(cause, last_words),
        },
        // It came to its own end while the power went off.
        Event::Agent(Agent::ProcessExited(exit)) => {
            (State::Ending { cause: Cause::Known(exited(exit, now)) }, vec![])
        }
        Event::Begin
        | Event::Adopt
        | Event::Order(_)
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Agent(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::Ending { cause }, vec![]),
    }
}

pub(super) fn seeking(
    cause: Cause,
    last_words: String,
    event: Event,
    now: Timestamp,
    deadlines: &Deadlines,
) -> Step {
    match event {
        Event::Sought(Some((exit, at))) => record(exited(exit, at)),
        Event::Sought(None) => record(cause.verdict(&last_words, now, deadlines)),
        Event::Begin
        | Event::Adopt
        | Event::Order(_)
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Agent(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::Seeking { cause, last_words }, vec![]),
    }
}
