//! One run of a container VM, from order to fact. Pure: `State x Event -> (State, Vec<Action>)`.
//!
//! ```text
//!  New ─Begin─► Preparing ─Prepared─► Launching ─Launched─► Booting ─Idle─► SettingUp ─ProcessStarted─► Running
//!   │              │ PrepareFailed        │ LaunchFailed        │ stop, kill,        │ StartFailed,            │ ProcessExited,
//!   │              │ or a wish            │                     │ Expired(Boot)      │ kill, Expired(Setup)    │ kill, Expired(End)…
//!   │              │                      │                     ▼                    ▼                         ▼
//!   │              │                      │                   Ending ◄────────────────┴─────────────────────────┘
//!   │              │                      │                     │ Gone            (Gone in any of these: Seeking)
//!   │              │                      │                     ▼
//!   │              └──────────┬───────────┘                  Seeking ─Sought─┐   only if the end is not known yet
//!   │                         ▼                                              ▼
//!   │                      Recording ◄───────────────────────────────────────┘
//!   │                         │ Recorded
//!   │                         ▼
//!   └─Adopt─► Adopting ──► Telling ─Told─► Cleaning ─Cleaned─► Done
//!                │ (an end that was recorded)
//!                └─► Booting or Running (it lives), Seeking (it is gone), Preparing (it never was)
//! ```
//!
//! A stop signals the process, after its grace kills it, and if even that does not help cuts the power.
//! Before the process runs there is nothing to ask, so the power is cut at once.
//!
//! Promises, held by the tests: every run ends in exactly one terminal fact; that fact is told only
//! when no machine of this run exists and its end is recorded; whatever has happened, a kill ends the
//! run as soon as the world answers; the process's own end, if it is known, is what is told.
//! Does not: wait, look, or know the time but as events bring it.

mod event;
mod verdict;

pub use event::{Action, Agent, Chore, Event, Left, Machine, Order, Timer};
pub use verdict::{Cause, Kind, Verdict};

use crate::hypervisor::Deadlines;
use berth_model::container::StopOrder;
use berth_model::{Exit, Timestamp};
use std::time::Duration;

const SIGKILL: u8 = 9;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    New,
    /// A node that was started again looks for what is left of the run.
    Adopting {
        wish: Wish,
    },
    /// The delta disk is made.
    Preparing {
        wish: Wish,
    },
    /// The hypervisor starts.
    Launching {
        wish: Wish,
    },
    /// The machine runs, its agent has not been heard.
    Booting,
    /// The agent was told what to run.
    SettingUp {
        stop: Option<StopOrder>,
    },
    Running {
        started_at: Timestamp,
        stopping: Stopping,
    },
    /// The power goes off.
    Ending {
        cause: Cause,
    },
    /// The machine is gone, and the log is searched for how its process ended.
    Seeking {
        cause: Cause,
        last_words: String,
    },
    Recording {
        verdict: Verdict,
    },
    Telling {
        verdict: Verdict,
    },
    Cleaning {
        verdict: Verdict,
    },
    Done {
        verdict: Verdict,
    },
}

/// What was asked for while nothing could be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Run,
    Stop(StopOrder),
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    No,
    /// The signal was sent; the grace, if there is one, is counted.
    Asked(StopOrder),
    /// SIGKILL was sent.
    Killing,
}

type Step = (State, Vec<Action>);

/// What follows from `event`, which happened at `now` by the host's clock. Total: an event that means
/// nothing in a state changes nothing.
pub fn step(state: State, event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
    match state {
        State::New => new(event),
        State::Adopting { wish } => adopting(wish, event, now, deadlines),
        State::Preparing { wish } => preparing(wish, event, now, deadlines),
        State::Launching { wish } => launching(wish, event, now, deadlines),
        State::Booting => booting(event, now, deadlines),
        State::SettingUp { stop } => setting_up(stop, event, now, deadlines),
        State::Running { started_at, stopping } => {
            running(started_at, stopping, event, now, deadlines)
        }
        State::Ending { cause } => ending(cause, event, now),
        State::Seeking { cause, last_words } => seeking(cause, last_words, event, now, deadlines),
        State::Recording { verdict } => {
            if event == Event::Chore(Chore::Recorded) {
                telling(verdict)
            } else {
                (State::Recording { verdict }, vec![])
            }
        }
        State::Telling { verdict } => {
            if event == Event::Chore(Chore::Told) {
                (State::Cleaning { verdict }, vec![Action::Clean])
            } else {
                (State::Telling { verdict }, vec![])
            }
        }
        State::Cleaning { verdict } => {
            if event == Event::Chore(Chore::Cleaned) {
                (State::Done { verdict }, vec![Action::Finish])
            } else {
                (State::Cleaning { verdict }, vec![])
            }
        }
        State::Done { verdict } => (State::Done { verdict }, vec![]),
    }
}

fn new(event: Event) -> Step {
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

fn adopting(wish: Wish, event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
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

fn preparing(wish: Wish, event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
    match event {
        Event::Order(order) => (State::Preparing { wish: wish.after(&order) }, vec![]),
        Event::Machine(Machine::Prepared) => match wish {
            Wish::Run => (State::Launching { wish }, vec![Action::Launch]),
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

fn launching(wish: Wish, event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
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

fn booting(event: Event, now: Timestamp, deadlines: &Deadlines) -> Step {
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

fn setting_up(
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

fn running(
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

fn ending(cause: Cause, event: Event, now: Timestamp) -> Step {
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

fn seeking(
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

fn begin_stop(order: StopOrder, deadlines: &Deadlines) -> (Stopping, Vec<Action>) {
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

fn power_off(cause: Cause) -> Step {
    let mut actions: Vec<Action> = Timer::ALL.into_iter().map(Action::Disarm).collect();
    actions.push(Action::PowerOff);
    (State::Ending { cause }, actions)
}

fn seek(cause: Cause, last_words: String) -> Step {
    let mut actions: Vec<Action> = Timer::ALL.into_iter().map(Action::Disarm).collect();
    actions.push(Action::SeekEnd);
    (State::Seeking { cause, last_words }, actions)
}

fn record(verdict: Verdict) -> Step {
    (State::Recording { verdict: verdict.clone() }, vec![Action::Record(verdict)])
}

fn telling(verdict: Verdict) -> Step {
    (State::Telling { verdict: verdict.clone() }, vec![Action::TellEnded(verdict)])
}

fn never_started(wish: Wish, now: Timestamp, deadlines: &Deadlines) -> Step {
    record(wish.cause().verdict("", now, deadlines))
}

/// Before its process runs there is nothing to ask; the code is the one that the signal would have given.
fn stopped_early(order: StopOrder) -> Cause {
    Cause::Ordered { code: 128 + i32::from(order.signal), started: false }
}

fn start_failed(exit: Exit, now: Timestamp) -> Verdict {
    Verdict { kind: Kind::StartFailed, exit, finished_at: now }
}

fn exited(exit: Exit, at: Timestamp) -> Verdict {
    Verdict { kind: Kind::Exited, exit, finished_at: at }
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

impl State {
    /// Whether nothing of the run is left to be done.
    pub fn is_done(&self) -> bool {
        matches!(self, State::Done { .. })
    }
}

#[cfg(test)]
mod tests;
