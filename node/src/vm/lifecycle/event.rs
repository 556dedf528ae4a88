//! What can happen to a run, and what can be done about it.

use super::Verdict;
use berth_model::container::StopOrder;
use berth_model::{Exit, Timestamp};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Start anew.
    Begin,
    /// Find out what an earlier node left.
    Adopt,
    Order(Order),
    Left(Left),
    Machine(Machine),
    Agent(Agent),
    /// What the log's last record says of the process's end, and when that was.
    Sought(Option<(Exit, Timestamp)>),
    Expired(Timer),
    Chore(Chore),
}

/// What the node was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Stop(StopOrder),
    /// End it at once; nothing of it is needed any more.
    Kill,
}

/// What an earlier node left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The end was recorded already.
    Recorded(Verdict),
    /// The machine lives; `started_at` if it is known that the process ran.
    Machine { started_at: Option<Timestamp> },
    /// No machine; `launched` if there ever was one.
    Nothing { launched: bool },
}

/// What the hypervisor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    Prepared,
    PrepareFailed(Exit),
    /// It is this run's turn to boot.
    SlotTaken,
    Launched,
    LaunchFailed(Exit),
    /// Answer to [`Action::AskExecuting`]; `false` also if the hypervisor does not answer.
    Executing(bool),
    /// The log grew beyond what the agent had credit for.
    LogOverflow,
    Gone {
        last_words: String,
    },
}

/// What is heard of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// It waits to be told what to run.
    Idle,
    /// It was told before and has no verdict yet.
    Starting,
    ProcessStarted,
    StartFailed(Exit),
    ProcessExited(Exit),
    /// Nothing, for too long.
    Silent,
    /// It does what no agent does.
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    Recorded,
    Told,
    Cleaned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// From the machine's start to the agent's first word.
    Boot,
    /// From there to the process running.
    Setup,
    /// From the stop signal to SIGKILL.
    Grace,
    /// From SIGKILL to the process's end.
    End,
}

impl Timer {
    pub const ALL: [Timer; 4] = [Timer::Boot, Timer::Setup, Timer::Grace, Timer::End];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look for a recorded end, then for the machine.
    FindWhatIsLeft,
    Prepare,
    /// Wait for this run's turn to boot.
    Queue,
    Launch,
    /// Open the link to the agent.
    Connect,
    /// Tell the agent what to run.
    SetUp,
    Signal(u8),
    /// An earlier timer of the same kind is forgotten.
    Arm(Timer, Duration),
    Disarm(Timer),
    AskExecuting,
    PowerOff,
    /// Search the log for how the process ended.
    SeekEnd,
    /// Keep the end beside the container, for whoever asks later.
    Record(Verdict),
    TellStarted(Timestamp),
    TellEnded(Verdict),
    /// Remove the run directory.
    Clean,
    /// Nothing is left to do.
    Finish,
}
