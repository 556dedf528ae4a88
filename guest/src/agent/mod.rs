//! The agent's loop: everything that is ready is moved on, then it waits.
//!
//! ```text
//!  Idle ── Setup ──► Starting ── Ready ──► Running ── exit ──► Ending ── output out ──► Closed
//!   │                   └─ failed, or died ──────────────────────────────────────────────► │
//!   └─ PowerOff ─► power off                       PowerOff, or nobody there ─► power off ◄┘
//! ```
//! No step blocks: a process that writes without end, a log that takes nothing and a host that is
//! away each only stop their own bytes. Only `Setup` waits, for disks that are still being plugged.

mod life;
mod node;
mod streams;

use crate::boot::Machine;
use crate::clock;
use crate::container::Container;
use crate::devices::Uevents;
use crate::output::Output;
use crate::power::say;
use crate::root::Root;
use crate::source::{Poller, Source, Token};
use crate::stall::StallWatch;
use crate::stdin::Stdin;
use crate::trouble::Trouble;
use berth_model::guest::{
    ExitCause, ExitStatus, GuestToHost, LINGER_SECONDS, PROTOCOL_MAX, PROTOCOL_MIN, Standing,
};
use berth_wire::channel::Endpoint;
use std::collections::VecDeque;

const SECOND: u64 = 1_000_000_000;
/// How long a power-off waits for the process to die and its output to go out.
const POWER_OFF_PATIENCE: u64 = 5 * SECOND;
const SIGKILL: u8 = 9;

pub struct Agent {
    poller: Poller,
    signals: Source,
    port: Source,
    /// Opened by `Setup`: a machine that only shows that guests come up has none.
    log: Option<Source>,
    uevents: Uevents,
    endpoint: Endpoint,
    hosts_greeted: u64,
    /// Messages that did not fit the channel's window; few, for most answer a node.
    unsent: VecDeque<GuestToHost>,
    phase: Phase,
    output: Output,
    stdin: Stdin,
    interface: Option<String>,
    /// Of a container with a memory limit.
    stalls: Option<StallWatch>,
    /// When to cut the power though something is not finished.
    power_off_by: Option<u64>,
    buffer: Vec<u8>,
}

enum Phase {
    Idle,
    Starting {
        container: Box<Container>,
        root: Root,
    },
    Running {
        container: Box<Container>,
        root: Root,
    },
    Ending {
        container: Box<Container>,
        root: Root,
        exit: Ended,
        recorded: Option<ExitStatus>,
    },
    /// Nothing runs and nothing is mounted.
    Closed {
        standing: Standing,
        since: u64,
    },
}

#[derive(Clone, Copy)]
struct Ended {
    cause: ExitCause,
    oom_killed: bool,
    time_ns: u64,
}

/// Obeys nodes until the power is to go off; returns why it is.
pub fn run(machine: Machine) -> Result<&'static str, Trouble> {
    let poller = Poller::new()?;
    let mut agent = Agent {
        signals: Source::register(&poller, Token::Signals, machine.signals)?,
        port: Source::register(&poller, Token::Agent, machine.agent)?,
        log: None,
        poller,
        uevents: machine.uevents,
        endpoint: Endpoint::guest(PROTOCOL_MIN..=PROTOCOL_MAX),
        hosts_greeted: 0,
        unsent: VecDeque::new(),
        phase: Phase::Idle,
        output: Output::new(0),
        stdin: Stdin::new(),
        interface: None,
        stalls: None,
        power_off_by: None,
        buffer: vec![0; 64 << 10],
    };
    loop {
        while agent.step()? {}
        if let Some(why) = agent.finished() {
            return Ok(why);
        }
        if let Some(log) = &agent.log {
            log.rearm(&agent.poller, Token::Log)?;
        }
        let timeout = agent.deadline().map(|by| by.saturating_sub(clock::uptime_ns()));
        for token in agent.poller.wait(timeout)? {
            agent.woken(token);
        }
    }
}

impl Agent {
    fn woken(&mut self, token: Token) {
        match token {
            Token::Signals => self.signals.woken(),
            Token::Agent => self.port.woken(),
            Token::Log => {
                if let Some(log) = &mut self.log {
                    log.woken();
                }
            }
            Token::MemoryStall => {
                if let Some(stalls) = &mut self.stalls {
                    stalls.woken(clock::uptime_ns());
                }
            }
            Token::Status | Token::Stdout | Token::Stderr | Token::Stdin => {
                if let Some(container) = self.container() {
                    container.woken(token);
                }
            }
        }
    }

    /// Moves everything on that can be; whether anything did.
    fn step(&mut self) -> Result<bool, Trouble> {
        let mut moved = self.hear_node()?;
        moved |= self.hear_container()?;
        moved |= self.reap()?;
        moved |= self.carry_output();
        moved |= self.carry_stdin();
        moved |= self.close_when_over()?;
        moved |= self.speak();
        Ok(moved)
    }

    fn container(&mut self) -> Option<&mut Container> {
        match &mut self.phase {
            Phase::Starting { container, .. }
            | Phase::Running { container, .. }
            | Phase::Ending { container, .. } => Some(container),
            Phase::Idle | Phase::Closed { .. } => None,
        }
    }

    /// When something is to happen though nothing becomes ready.
    fn deadline(&self) -> Option<u64> {
        let linger = match &self.phase {
            Phase::Closed { since, .. } => Some(since + LINGER_SECONDS * SECOND),
            Phase::Idle | Phase::Starting { .. } | Phase::Running { .. } | Phase::Ending { .. } => {
                None
            }
        };
        match (self.power_off_by, linger) {
            (Some(power_off), Some(linger)) => Some(power_off.min(linger)),
            (one, other) => one.or(other),
        }
    }

    /// Whether a power-off has waited long enough.
    fn overdue(&self) -> bool {
        self.power_off_by.is_some_and(|by| clock::uptime_ns() >= by)
    }

    /// Whether, and why, the power may go off now.
    fn finished(&self) -> Option<&'static str> {
        const TOLD: &str = "the node said so";
        if self.overdue() {
            return Some("the node said so, and waited long enough");
        }
        let told = self.power_off_by.is_some();
        let heard = self.unsent.is_empty() && self.endpoint.all_taken();
        match &self.phase {
            Phase::Idle => told.then_some(TOLD),
            Phase::Closed { .. } if told && heard => Some(TOLD),
            Phase::Closed { since, .. } => {
                let lingered = clock::uptime_ns() >= since + LINGER_SECONDS * SECOND;
                lingered.then_some("no node acknowledged the container's end")
            }
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Ending { .. } => None,
        }
    }
}

/// What the node asked for and the kernel refused: worth a line on the console, not the VM.
fn tolerate(outcome: Result<(), Trouble>) {
    if let Err(trouble) = outcome {
        say(&trouble.text());
    }
}
