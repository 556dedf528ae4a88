//! One run of a container VM, from order to fact. Pure: `State x Event -> (State, Vec<Action>)`.
//!
//! ```text
//!  New ─Begin─► Preparing ─Prepared─► Queued ─SlotTaken─► Launching ─Launched─► Booting
//!   │               │ PrepareFailed     │ stop, kill          │ LaunchFailed       │ Idle
//!   │               │                   │                     │                    ▼
//!   │               │                   │                     │                SettingUp
//!   │               ▼                   ▼                     ▼                    │ ProcessStarted
//!   │           Recording ◄─────────────┴─────────────────────┘                    ▼
//!   │            │  ▲  ▲                                                        Running
//!   │   Recorded │  │  └─Sought── Seeking ◄─Gone─┐
//!   │            │  │                            Ending ◄─ from Booting, SettingUp and Running:
//!   │            │  └─── Gone, with the end known┘         the process's end, a kill, a deadline,
//!   │            ▼                                         or a stop before there is a process
//!   │         Telling ─Told─► Cleaning ─Cleaned─► Done
//!   │            ▲
//!   └─Adopt─► Adopting ─► Booting or Running (it lives), Seeking (it is gone),
//!                         Preparing (it never was), Telling (its end was recorded)
//! ```
//! A machine that goes by itself leads from where it was to Seeking.
//!
//! A stop signals the process, after its grace kills it, and if even that does not help cuts the power.
//! Before the process runs there is nothing to ask, so the power is cut at once.
//!
//! Promises, held by the tests: every run ends in exactly one terminal fact; that fact is told only
//! when no machine of this run exists and its end is recorded; whatever has happened, a kill ends the
//! run as soon as the world answers; the process's own end, if it is known, is what is told.
//! Does not: wait, look, or know the time but as events bring it.

mod ending;
mod event;
mod running;
mod starting;
mod verdict;

pub use event::{Action, Agent, Chore, Event, Left, Machine, Order, Timer};
pub use verdict::{Cause, Kind, Verdict};

use crate::hypervisor::Deadlines;
use berth_model::container::StopOrder;
use berth_model::{Exit, Timestamp};

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
    /// Others boot, and a host that boots too many at once boots none in time.
    Queued,
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
        State::New => starting::new(event),
        State::Adopting { wish } => starting::adopting(wish, event, now, deadlines),
        State::Preparing { wish } => starting::preparing(wish, event, now, deadlines),
        State::Queued => starting::queued(event, now, deadlines),
        State::Launching { wish } => starting::launching(wish, event, now, deadlines),
        State::Booting => starting::booting(event, now, deadlines),
        State::SettingUp { stop } => starting::setting_up(stop, event, now, deadlines),
        State::Running { started_at, stopping } => {
            running::running(started_at, stopping, event, now, deadlines)
        }
        State::Ending { cause } => ending::ending(cause, event, now),
        State::Seeking { cause, last_words } => {
            ending::seeking(cause, last_words, event, now, deadlines)
        }
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

fn start_failed(exit: Exit, now: Timestamp) -> Verdict {
    Verdict { kind: Kind::StartFailed, exit, finished_at: now }
}

fn exited(exit: Exit, at: Timestamp) -> Verdict {
    Verdict { kind: Kind::Exited, exit, finished_at: at }
}

impl State {
    /// Whether nothing of the run is left to be done.
    pub fn is_done(&self) -> bool {
        matches!(self, State::Done { .. })
    }
}

#[cfg(test)]
mod tests;
