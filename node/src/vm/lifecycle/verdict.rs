//! How a run ended, and what is told of it.

use crate::hypervisor::Deadlines;
use berth_model::{Exit, Timestamp};
use serde::{Deserialize, Serialize};

/// What is told, and kept beside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub kind: Kind,
    pub exit: Exit,
    pub finished_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The process ran.
    Exited,
    /// It never did.
    StartFailed,
}

/// Why the power went off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The process's own end is known.
    Known(Verdict),
    /// It was ordered; `code` is what the process would have got.
    Ordered {
        code: i32,
        started: bool,
    },
    /// The agent did not answer after boot.
    BootTimeout,
    /// The process did not start after the agent was told.
    SetupTimeout,
    /// The agent fell silent while its machine executed.
    Silent,
    /// The process outlived SIGKILL.
    StopTimeout,
    LogOverflow,
    Broken(String),
    /// Nobody knows: the machine was gone.
    Vanished {
        started: bool,
    },
}

/// Of a container whose end nobody saw.
const LOST: i32 = 255;
/// Docker's for a container that cannot be started for any reason but its program.
const NOT_STARTED: i32 = 128;
const KILLED: i32 = 137;

impl Cause {
    /// What is told when the log says nothing.
    pub fn verdict(self, last_words: &str, now: Timestamp, deadlines: &Deadlines) -> Verdict {
        let said = if last_words.is_empty() {
            String::new()
        } else {
            format!("; last words: {last_words}")
        };
        let (kind, code, error) = match self {
            Cause::Known(verdict) => return verdict,
            Cause::Ordered { code, started: true } => (Kind::Exited, code, String::new()),
            Cause::Ordered { code, started: false } => {
                let error = "ended by order before its process started".to_owned();
                (Kind::StartFailed, code, error)
            }
            Cause::BootTimeout => {
                let error = format!(
                    "guest agent did not answer within {} s of the machine's start{said}",
                    deadlines.boot.as_secs()
                );
                (Kind::StartFailed, NOT_STARTED, error)
            }
            Cause::SetupTimeout => {
                let error = format!(
                    "guest agent did not start the process within {} s{said}",
                    deadlines.setup.as_secs()
                );
                (Kind::StartFailed, NOT_STARTED, error)
            }
            Cause::Silent => {
                let error = format!(
                    "guest agent was silent for {} s while its machine ran{said}",
                    deadlines.silence.as_secs()
                );
                (Kind::Exited, LOST, error)
            }
            Cause::StopTimeout => {
                let error = format!(
                    "process did not end within {} s of SIGKILL, the power was cut",
                    deadlines.end.as_secs()
                );
                (Kind::Exited, KILLED, error)
            }
            Cause::LogOverflow => {
                let error = "guest wrote more output than it may; the power was cut".to_owned();
                (Kind::Exited, LOST, error)
            }
            Cause::Broken(text) => {
                (Kind::Exited, LOST, format!("guest agent is broken: {text}{said}"))
            }
            Cause::Vanished { started: true } => {
                let error = format!("machine ended without telling how its process did{said}");
                (Kind::Exited, LOST, error)
            }
            Cause::Vanished { started: false } => {
                let error = format!("machine ended before its process started{said}");
                (Kind::StartFailed, NOT_STARTED, error)
            }
        };
        Verdict { kind, exit: Exit { code, oom_killed: false, error }, finished_at: now }
    }
}
