//! While the process runs: stopping it, and noticing that it cannot be.

use super::{
    Action, Agent, Cause, Event, Machine, Order, State, Step, Stopping, Timer, exited, power_off,
    seek,
};
use crate::hypervisor::Deadlines;
use berth_model::Timestamp;
use berth_model::container::StopOrder;
use std::time::Duration;

const SIGKILL: u8 = 9;

pub(super) fn running(
    started_at: Timestamp,
    stopping: Stopping,
    event: Event,
    now: Timestamp,
    deadlines: &Deadlines,
) -> Step {
    let unchanged = (State::Running { started_at, stopping }, vec![]);
    match event {
        Event::Order(Order::Stop(order)) => match stopping {
            Stopping::Killing => unchanged,
            Stopping::Asked(asked) if asked == order => unchanged,
            Stopping::No | Stopping::Asked(_) => {
                let (stopping, actions) = begin_stop(order, deadlines);
                (State::Running { started_at, stopping }, actions)
            }
        },
        Event::Order(Order::Kill) => power_off(Cause::Ordered { code: 137, started: true }),
        Event::Expired(Timer::Grace) => match stopping {
            Stopping::Asked(_) => {
                let actions = vec![Action::Signal(SIGKILL), Action::Arm(Timer::End, deadlines.end)];
                (State::Running { started_at, stopping: Stopping::Killing }, actions)
            }
            Stopping::No | Stopping::Killing => unchanged,
        },
        Event::Expired(Timer::End) => match stopping {
            Stopping::Killing => power_off(Cause::StopTimeout),
            Stopping::No | Stopping::Asked(_) => unchanged,
        },
        Event::Machine(Machine::Gone { last_words }) => {
            seek(Cause::Vanished { started: true }, last_words)
        }
        Event::Machine(Machine::Executing(true)) => power_off(Cause::Silent),
        Event::Machine(Machine::LogOverflow) => power_off(Cause::LogOverflow),
        Event::Agent(Agent::ProcessExited(exit)) => power_off(Cause::Known(exited(exit, now))),
        Event::Agent(Agent::Silent) => {
            (State::Running { started_at, stopping }, vec![Action::AskExecuting])
        }
        Event::Agent(Agent::Broken(text)) => power_off(Cause::Broken(text)),
        Event::Agent(Agent::Idle | Agent::Starting) => {
            power_off(Cause::Broken("it forgot its container".to_owned()))
        }
        Event::Agent(Agent::ProcessStarted | Agent::StartFailed(_))
        | Event::Begin
        | Event::Adopt
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => unchanged,
    }
}

pub(super) fn begin_stop(order: StopOrder, deadlines: &Deadlines) -> (Stopping, Vec<Action>) {
    if order.signal == SIGKILL {
        let actions = vec![
            Action::Disarm(Timer::Grace),
            Action::Signal(SIGKILL),
            Action::Arm(Timer::End, deadlines.end),
        ];
        return (Stopping::Killing, actions);
    }
    let timer = match order.grace_seconds {
        Some(seconds) => Action::Arm(Timer::Grace, Duration::from_secs(seconds.into())),
        None => Action::Disarm(Timer::Grace),
    };
    (Stopping::Asked(order), vec![Action::Signal(order.signal), timer])
}
