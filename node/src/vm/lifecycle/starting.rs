//! From the order to the process running: what may go wrong before there is anything to ask.

use super::running::begin_stop;
use super::{
    Action, Agent, Cause, Event, Left, Machine, Order, State, Step, Stopping, Timer, Wish, exited,
    power_off, record, seek, start_failed, telling,
};
use crate::hypervisor::Deadlines;
use berth_model::Timestamp;
use berth_model::container::StopOrder;

pub(super) fn new(event: Event) -> Step {
    match event {
        Event::Begin => (State::Preparing { wish: Wish::Run }, vec![Action::Prepare]),
        Event::Adopt => (State::Adopting { wish: Wish::Run }, vec![Action::FindWhatIsLeft]),
        Event::Order(_)
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Agent(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::New, vec![]),
    }
}

pub(super) fn adopting(wish: Wish, event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
    match event {
        Event::Order(order) => (State::Adopting { wish: wish.after(&order) }, vec![]),
        Event::Left(Left::Recorded(verdict)) => telling(verdict),
        Event::Left(Left::Nothing { launched: false }) => match wish {
            Wish::Run => (State::Preparing { wish }, vec![Action::Prepare]),
            Wish::Stop(_) | Wish::Kill => never_started(wish, now, deadlines),
        },
        Event::Left(Left::Nothing { launched: true }) => {
            // A process that ran has its end in the log; of one that did not tell, it is safer to say
            // that it ran.
            seek(Cause::Vanished { started: true }, String::new())
        }
        Event::Left(Left::Machine { started_at }) => match (wish, started_at) {
            (Wish::Kill, _) => {
                power_off(Cause::Ordered { code: 137, started: started_at.is_some() })
            }
            (Wish::Run, None) => boot(deadlines),
            (Wish::Stop(order), None) => power_off(stopped_early(order)),
            (Wish::Run, Some(started_at)) => {
                let actions = vec![Action::TellStarted(started_at), Action::Connect];
                (State::Running { started_at, stopping: Stopping::No }, actions)
            }
            (Wish::Stop(order), Some(started_at)) => {
                let (stopping, mut actions) = begin_stop(order, deadlines);
                actions.splice(0..0, [Action::TellStarted(started_at), Action::Connect]);
                (State::Running { started_at, stopping }, actions)
            }
        },
        Event::Begin
        | Event::Adopt
        | Event::Machine(_)
        | Event::Agent(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::Adopting { wish }, vec![]),
    }
}

pub(super) fn preparing(wish: Wish, event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
    match event {
        Event::Order(order) => (State::Preparing { wish: wish.after(&order) }, vec![]),
        Event::Machine(Machine::Prepared) => match wish {
            Wish::Run => (State::Queued, vec![Action::Queue]),
            Wish::Stop(_) | Wish::Kill => never_started(wish, now, deadlines),
        },
        Event::Machine(Machine::PrepareFailed(exit)) => record(start_failed(exit, now)),
        Event::Begin
        | Event::Adopt
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Agent(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::Preparing { wish }, vec![]),
    }
}

pub(super) fn queued(event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
    match event {
        Event::Order(order) => never_started(Wish::Run.after(&order), now, deadlines),
        Event::Machine(Machine::SlotTaken) => {
            (State::Launching { wish: Wish::Run }, vec![Action::Launch])
        }
        Event::Begin
        | Event::Adopt
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Agent(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::Queued, vec![]),
    }
}

pub(super) fn launching(wish: Wish, event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
    match event {
        Event::Order(order) => (State::Launching { wish: wish.after(&order) }, vec![]),
        Event::Machine(Machine::Launched) => match wish {
            Wish::Run => boot(deadlines),
            Wish::Stop(_) | Wish::Kill => power_off(wish.cause()),
        },
        Event::Machine(Machine::LaunchFailed(exit)) => record(start_failed(exit, now)),
        Event::Begin
        | Event::Adopt
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Agent(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::Launching { wish }, vec![]),
    }
}

pub(super) fn booting(event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
    match event {
        Event::Order(Order::Stop(order)) => power_off(stopped_early(order)),
        Event::Order(Order::Kill) => power_off(Cause::Ordered { code: 137, started: false }),
        Event::Expired(Timer::Boot) => power_off(Cause::BootTimeout),
        Event::Machine(Machine::Gone { last_words }) => {
            seek(Cause::Vanished { started: false }, last_words)
        }
        Event::Agent(Agent::Idle) => set_up(None, deadlines),
        Event::Agent(Agent::Starting) => {
            let actions =
                vec![Action::Disarm(Timer::Boot), Action::Arm(Timer::Setup, deadlines.setup)];
            (State::SettingUp { stop: None }, actions)
        }
        Event::Agent(heard) => heard_early(State::Booting, None, heard, now, deadlines),
        Event::Machine(Machine::LogOverflow) => power_off(Cause::LogOverflow),
        Event::Begin
        | Event::Adopt
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::Booting, vec![]),
    }
}

pub(super) fn setting_up(
    stop: Option<StopOrder>,
    event: Event,
    now: Timestamp,
    deadlines: &Deadlines,
) -> Step {
    match event {
        // The process may run any moment; it is asked as soon as it does.
        Event::Order(Order::Stop(order)) => (State::SettingUp { stop: Some(order) }, vec![]),
        Event::Order(Order::Kill) => power_off(Cause::Ordered { code: 137, started: false }),
        Event::Expired(Timer::Setup) => power_off(Cause::SetupTimeout),
        Event::Machine(Machine::Gone { last_words }) => {
            seek(Cause::Vanished { started: false }, last_words)
        }
        Event::Machine(Machine::LogOverflow) => power_off(Cause::LogOverflow),
        // The node before this one did not get its word through.
        Event::Agent(Agent::Idle) => set_up(stop, deadlines),
        Event::Agent(heard) => heard_early(State::SettingUp { stop }, stop, heard, now, deadlines),
        Event::Begin
        | Event::Adopt
        | Event::Left(_)
        | Event::Machine(_)
        | Event::Sought(_)
        | Event::Expired(_)
        | Event::Chore(_) => (State::SettingUp { stop }, vec![]),
    }
}

/// What an agent says before its process is known to run.
fn heard_early(
    unchanged: State,
    stop: Option<StopOrder>,
    heard: Agent,
    now: Timestamp,
    deadlines: &Deadlines,
) -> Step {
    match heard {
        Agent::ProcessStarted => {
            let mut actions = vec![
                Action::Disarm(Timer::Boot),
                Action::Disarm(Timer::Setup),
                Action::TellStarted(now),
            ];
            let stopping = match stop {
                None => Stopping::No,
                Some(order) => {
                    let (stopping, more) = begin_stop(order, deadlines);
                    actions.extend(more);
                    stopping
                }
            };
            (State::Running { started_at: now, stopping }, actions)
        }
        Agent::StartFailed(exit) => power_off(Cause::Known(start_failed(exit, now))),
        Agent::ProcessExited(exit) => power_off(Cause::Known(exited(exit, now))),
        Agent::Broken(text) => power_off(Cause::Broken(text)),
        // The deadlines of boot and setup are counted already.
        Agent::Idle | Agent::Starting | Agent::Silent => (unchanged, vec![]),
    }
}

fn boot(deadlines: &Deadlines) -> Step {
    (State::Booting, vec![Action::Connect, Action::Arm(Timer::Boot, deadlines.boot)])
}

fn set_up(stop: Option<StopOrder>, deadlines: &Deadlines) -> Step {
    let actions = vec![
        Action::Disarm(Timer::Boot),
        Action::SetUp,
        Action::Arm(Timer::Setup, deadlines.setup),
    ];
    (State::SettingUp { stop }, actions)
}

fn never_started(wish: Wish, now: Timestamp, deadlines: &Deadlines) -> Step {
    record(wish.cause().verdict("", now, deadlines))
}

/// Before its process runs there is nothing to ask; the code is the one that the signal would have given.
fn stopped_early(order: StopOrder) -> Cause {
    Cause::Ordered { code: 128 + i32::from(order.signal), started: false }
}

impl Wish {
    /// A kill is never taken back.
    fn after(self, order: &Order) -> Wish {
        match (self, order) {
            (Wish::Kill, _) | (_, Order::Kill) => Wish::Kill,
            (Wish::Run | Wish::Stop(_), Order::Stop(order)) => Wish::Stop(*order),
        }
    }

    fn cause(self) -> Cause {
        match self {
            Wish::Stop(order) => stopped_early(order),
            Wish::Run | Wish::Kill => Cause::Ordered { code: 137, started: false },
        }
    }
}
