//! The agent's loop: everything that is ready is moved on, then it waits.
//!
//! ```text
//!  Idle ── Setup ──► Starting ── Ready ──► Running ── exit ──► Ending ── output out ──► Closed
//!    │                  └─ Failed / died ──────────────────────────────────────────────►  │
//!    └─ PowerOff ─► power off                                     PowerOff, or nobody there ─► power off
//! ```
//! No step blocks: a process that writes without end, a log that takes nothing and a host that is away
//! each only stop their own bytes.

use crate::boot::Machine;
use crate::container::{Container, News};
use crate::devices::Uevents;
use crate::output::Output;
use crate::power::say;
use crate::root::Root;
use crate::source::{Poller, Source, Token};
use crate::stdin::Stdin;
use crate::trouble::{Trouble, While as _};
use crate::{cgroup, clock, host_files, network};
use berth_model::guest::{
    ExitCause, ExitStatus, GuestSpec, GuestToHost, HostToGuest, LINGER_SECONDS, PROTOCOL_MAX,
    PROTOCOL_MIN, Standing, StartFailure,
};
use berth_wire::channel::{Endpoint, Full, TO_GUEST_MESSAGE_MAX};
use berth_wire::codec;
use berth_wire::record::Stream;
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use std::collections::VecDeque;

const SECOND: u64 = 1_000_000_000;
/// How long a power-off waits for the process to die and its output to go out.
const POWER_OFF_PATIENCE: u64 = 5 * SECOND;
const SIGKILL: u8 = 9;

pub struct Agent {
    poller: Poller,
    signals: Source,
    port: Source,
    log: Source,
    uevents: Uevents,
    endpoint: Endpoint,
    hosts_greeted: u64,
    /// Messages that did not fit the channel's window; few, for most answer a node.
    unsent: VecDeque<GuestToHost>,
    phase: Phase,
    output: Output,
    stdin: Stdin,
    interface: Option<String>,
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

/// Obeys nodes until the power is to go off.
pub fn run(machine: Machine) -> Result<(), Trouble> {
    let poller = Poller::new()?;
    let mut agent = Agent {
        signals: Source::register(&poller, Token::Signals, machine.signals)?,
        port: Source::register(&poller, Token::Agent, machine.agent)?,
        log: Source::register(&poller, Token::Log, machine.log)?,
        poller,
        uevents: machine.uevents,
        endpoint: Endpoint::guest(PROTOCOL_MIN..=PROTOCOL_MAX),
        hosts_greeted: 0,
        unsent: VecDeque::new(),
        phase: Phase::Idle,
        output: Output::new(0),
        stdin: Stdin::new(),
        interface: None,
        power_off_by: None,
        buffer: vec![0; 64 << 10],
    };
    loop {
        while agent.step()? {}
        if agent.finished() {
            return Ok(());
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
            Token::Log => self.log.woken(),
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

    // From and to the node.

    fn hear_node(&mut self) -> Result<bool, Trouble> {
        let mut moved = false;
        match self.port.read(&mut self.buffer) {
            Ok(None) => {}
            // The host end is away; an event tells when it is back.
            Ok(Some(0)) => self.port.readable = false,
            Ok(Some(count)) => {
                moved = true;
                if let Err(error) = self.endpoint.receive(&self.buffer[..count]) {
                    say(&format!("agent port: {error}"));
                }
            }
            Err(error) => return Err(error).during(|| "read the agent port"),
        }
        if self.endpoint.hosts_met() != self.hosts_greeted && self.endpoint.in_step() {
            self.hosts_greeted = self.endpoint.hosts_met();
            let ready = GuestToHost::Ready {
                kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
                agent: env!("CARGO_PKG_VERSION").to_string(),
                uptime_ns: clock::uptime_ns(),
                standing: self.standing(),
            };
            self.tell(ready);
        }
        while let Some(message) = self.endpoint.pop() {
            moved = true;
            match codec::decode(&message, TO_GUEST_MESSAGE_MAX) {
                Ok(message) => self.obey(message)?,
                Err(error) => say(&format!("message of the node: {error}")),
            }
        }
        Ok(moved)
    }

    fn obey(&mut self, message: HostToGuest) -> Result<(), Trouble> {
        match message {
            HostToGuest::Setup(spec) => self.set_up(&spec)?,
            HostToGuest::Clock { unix_ns } => tolerate(clock::set_wall_ns(unix_ns)),
            HostToGuest::Entropy { bytes } => tolerate(clock::add_entropy(&bytes)),
            HostToGuest::StdinData { bytes } => self.stdin.push(&bytes),
            HostToGuest::StdinEof => self.stdin.end(),
            HostToGuest::Resize { rows, columns } => {
                if let Some(container) = self.container() {
                    container.resize(rows, columns);
                }
            }
            HostToGuest::Signal { number } => self.signal(number),
            HostToGuest::LogCredit { upto } => self.output.raise_credit(upto),
            HostToGuest::SampleStats => {
                let stats = cgroup::sample(self.interface.as_deref());
                self.tell(GuestToHost::Stats(Box::new(stats)));
            }
            HostToGuest::PowerOff => {
                self.power_off_by.get_or_insert(clock::uptime_ns() + POWER_OFF_PATIENCE);
                self.signal(SIGKILL);
            }
        }
        Ok(())
    }

    /// To the main process, unless it is gone already.
    fn signal(&mut self, number: u8) {
        match &self.phase {
            Phase::Starting { container, .. } | Phase::Running { container, .. } => {
                tolerate(container.kill(number));
            }
            Phase::Idle | Phase::Ending { .. } | Phase::Closed { .. } => {}
        }
    }

    fn tell(&mut self, message: GuestToHost) {
        self.unsent.push_back(message);
    }

    fn speak(&mut self) -> bool {
        if let Some(upto) = self.stdin.credit_to_tell() {
            self.tell(GuestToHost::StdinCredit { upto });
        }
        while let Some(message) = self.unsent.front() {
            match self.endpoint.send(&codec::encode(message)) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(Full::Window) => break,
                Err(full @ Full::TooLong { .. }) => {
                    say(&format!("message to the node is dropped: {full}"));
                    self.unsent.pop_front();
                }
            }
        }
        let outgoing = self.endpoint.outgoing();
        if outgoing.is_empty() {
            return false;
        }
        match self.port.write(outgoing) {
            Ok(None) => false,
            Ok(Some(count)) => {
                self.endpoint.written(count);
                true
            }
            Err(error) => {
                say(&format!("write to the agent port: {error}"));
                self.port.writable = false;
                false
            }
        }
    }

    fn standing(&self) -> Standing {
        match &self.phase {
            Phase::Idle => Standing::Idle,
            Phase::Starting { .. } => Standing::Starting,
            Phase::Running { container, .. } => Standing::Running {
                pid: container.pid,
                stdin_received: self.stdin.received(),
                stdin_upto: self.stdin.upto(),
            },
            Phase::Ending { .. } => Standing::Ending,
            Phase::Closed { standing, .. } => standing.clone(),
        }
    }

    // The container's life.

    fn set_up(&mut self, spec: &GuestSpec) -> Result<(), Trouble> {
        match self.phase {
            Phase::Idle => {}
            Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Ending { .. }
            | Phase::Closed { .. } => {
                say("a second setup is ignored: this guest has its container");
                return Ok(());
            }
        }
        self.output = Output::new(spec.log_credit);
        let root = match Root::mount(spec, &mut self.uevents) {
            Ok(root) => root,
            Err(trouble) => return self.setup_failed(&trouble, None),
        };
        match self.surround(spec) {
            Ok(container) => {
                self.phase = Phase::Starting { container: Box::new(container), root };
                Ok(())
            }
            Err(trouble) => self.setup_failed(&trouble, Some(root)),
        }
    }

    /// Everything between the mounted root and the running child.
    fn surround(&mut self, spec: &GuestSpec) -> Result<Container, Trouble> {
        host_files::write(spec)?;
        cgroup::make(spec)?;
        self.interface = network::set_up(spec.network.as_ref(), &mut self.uevents)?;
        Container::start(spec, &self.poller)
    }

    fn setup_failed(&mut self, trouble: &Trouble, root: Option<Root>) -> Result<(), Trouble> {
        let text = trouble.text();
        say(&format!("setup failed: {text}"));
        root.map_or(Ok(()), Root::unmount).unwrap_or_else(|trouble| say(&trouble.text()));
        self.close(Standing::SetupFailed { text: text.clone() });
        self.tell(GuestToHost::SetupFailed { text });
        Ok(())
    }

    fn hear_container(&mut self) -> Result<bool, Trouble> {
        let Phase::Starting { container, .. } = &mut self.phase else { return Ok(false) };
        let Some(news) = container.news(&self.poller)? else { return Ok(false) };
        match news {
            News::Ready => self.started(),
            News::Failed(failure) => self.start_failed(failure),
        }
        Ok(true)
    }

    fn started(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Starting { container, root } => {
                let (pid, time_ns) = (container.pid, clock::wall_ns());
                self.phase = Phase::Running { container, root };
                self.tell(GuestToHost::Started { pid, time_ns });
            }
            other @ (Phase::Idle
            | Phase::Running { .. }
            | Phase::Ending { .. }
            | Phase::Closed { .. }) => self.phase = other,
        }
    }

    fn start_failed(&mut self, failure: StartFailure) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Starting { root, .. } => {
                root.unmount().unwrap_or_else(|trouble| say(&trouble.text()));
                self.close(Standing::StartFailed(failure.clone()));
                self.tell(GuestToHost::StartFailed(failure));
            }
            other @ (Phase::Idle
            | Phase::Running { .. }
            | Phase::Ending { .. }
            | Phase::Closed { .. }) => self.phase = other,
        }
    }

    fn close(&mut self, standing: Standing) {
        self.phase = Phase::Closed { standing, since: clock::uptime_ns() };
    }

    /// Takes note of children that ended.
    fn reap(&mut self) -> Result<bool, Trouble> {
        match self.signals.read(&mut self.buffer) {
            Ok(None) => return Ok(false),
            Ok(Some(_)) => {}
            Err(error) => return Err(error).during(|| "read signals"),
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(None) | Err(Errno::CHILD) => return Ok(true),
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    let cause = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => ExitCause::Code((code & 0xff) as u8),
                        (None, Some(signal)) => ExitCause::Signal((signal & 0x7f) as u8),
                        (None, None) => continue,
                    };
                    self.child_ended(pid, cause)?;
                }
                Err(error) => return Err(error).during(|| "reap children"),
            }
        }
    }

    fn child_ended(&mut self, pid: i32, cause: ExitCause) -> Result<(), Trouble> {
        let ours =
            self.container().is_some_and(|container| i64::from(container.pid) == i64::from(pid));
        if !ours {
            return Ok(());
        }
        // Its last words come first: a process may have started and ended at once.
        self.woken(Token::Status);
        while self.hear_container()? {}
        let exit = Ended { cause, oom_killed: cgroup::oom_killed(), time_ns: clock::wall_ns() };
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Running { mut container, root } => {
                container.stdin = None;
                self.stdin.discard();
                for token in [Token::Stdout, Token::Stderr] {
                    container.woken(token);
                }
                self.phase = Phase::Ending { container, root, exit, recorded: None };
            }
            // A failed start has been dealt with.
            other @ (Phase::Idle
            | Phase::Starting { .. }
            | Phase::Ending { .. }
            | Phase::Closed { .. }) => self.phase = other,
        }
        Ok(())
    }

    // Bytes.

    fn carry_output(&mut self) -> bool {
        let mut moved = false;
        let (container, ending) = match &mut self.phase {
            Phase::Starting { container, .. } | Phase::Running { container, .. } => {
                (container, false)
            }
            Phase::Ending { container, .. } => (container, true),
            Phase::Idle | Phase::Closed { .. } => return self.write_log(),
        };
        for (stream, source) in
            [(Stream::Stdout, &mut container.stdout), (Stream::Stderr, &mut container.stderr)]
        {
            let room = self.output.room();
            let Some(open) = source.as_mut().filter(|_| room > 0) else { continue };
            match open.read(&mut self.buffer[..room]) {
                Ok(None) => {}
                Ok(Some(0)) => *source = None,
                Ok(Some(count)) => {
                    self.output.accept(stream, clock::wall_ns(), &self.buffer[..count]);
                    moved = true;
                }
                // A terminal that nobody has open now; somebody may open it again while the
                // process lives.
                Err(Errno::IO) if !ending => open.readable = false,
                Err(Errno::IO) => *source = None,
                Err(error) => {
                    say(&format!("read output: {error}"));
                    *source = None;
                }
            }
        }
        moved | self.write_log()
    }

    fn write_log(&mut self) -> bool {
        if self.output.waiting().is_empty() {
            return false;
        }
        match self.log.write(self.output.waiting()) {
            Ok(None) => false,
            Ok(Some(count)) => {
                self.output.written(count);
                true
            }
            Err(error) => {
                say(&format!("write to the log port: {error}"));
                self.log.writable = false;
                false
            }
        }
    }

    fn carry_stdin(&mut self) -> bool {
        let (Phase::Starting { container, .. } | Phase::Running { container, .. }) =
            &mut self.phase
        else {
            self.stdin.discard();
            return false;
        };
        if !container.takes_stdin() {
            self.stdin.discard();
            return false;
        }
        let terminal = container.has_terminal();
        let Some(pipe) = &mut container.stdin else { return false };
        if self.stdin.at_end() && !terminal {
            container.stdin = None;
            return true;
        }
        if self.stdin.front().is_empty() {
            return false;
        }
        match pipe.write(self.stdin.front()) {
            Ok(None) => false,
            Ok(Some(count)) => {
                self.stdin.took(count);
                true
            }
            // Nobody reads it any more.
            Err(Errno::PIPE | Errno::IO) if !terminal => {
                container.stdin = None;
                true
            }
            Err(error) => {
                say(&format!("write stdin: {error}"));
                self.stdin.discard();
                false
            }
        }
    }

    /// Once the output is in the log: the exit record, the exit on disk, unmount, and the news.
    fn close_when_over(&mut self) -> Result<bool, Trouble> {
        let give_up = self.overdue();
        let Phase::Ending { container, exit, recorded, .. } = &mut self.phase else {
            return Ok(false);
        };
        let Some(status) = *recorded else {
            if !container.output_ended() && !give_up {
                return Ok(false);
            }
            let status = ExitStatus {
                cause: exit.cause,
                oom_killed: exit.oom_killed,
                time_ns: exit.time_ns,
                log_bytes: self.output.accepted(),
            };
            self.output.accept_exit(status.time_ns, &codec::encode(&status));
            *recorded = Some(status);
            return Ok(true);
        };
        if !self.output.waiting().is_empty() && !give_up {
            return Ok(false);
        }
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Ending { root, .. } => {
                tolerate(root.record_exit(&status));
                tolerate(root.unmount());
                self.close(Standing::Exited(status));
                self.tell(GuestToHost::Exited(status));
            }
            other @ (Phase::Idle
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Closed { .. }) => self.phase = other,
        }
        Ok(true)
    }

    // The end.

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

    /// Whether the power may go off now.
    fn finished(&self) -> bool {
        if self.overdue() {
            return true;
        }
        let heard = self.unsent.is_empty() && self.endpoint.all_taken();
        match &self.phase {
            Phase::Idle => self.power_off_by.is_some(),
            Phase::Closed { since, .. } => {
                let lingered = clock::uptime_ns() >= since + LINGER_SECONDS * SECOND;
                lingered || (self.power_off_by.is_some() && heard)
            }
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Ending { .. } => false,
        }
    }
}

/// What the node asked for and the kernel refused: worth a line on the console, not the VM.
fn tolerate(outcome: Result<(), Trouble>) {
    if let Err(trouble) = outcome {
        say(&trouble.text());
    }
}
