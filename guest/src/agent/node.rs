//! What the node says and what it hears.

use super::{Agent, POWER_OFF_PATIENCE, Phase, SIGKILL, tolerate};
use crate::power::say;
use crate::trouble::{Trouble, While as _};
use crate::{cgroup, clock};
use berth_model::guest::{GuestToHost, HostToGuest, Standing};
use berth_wire::channel::{Full, TO_GUEST_MESSAGE_MAX};
use berth_wire::codec;

impl Agent {
    pub(super) fn hear_node(&mut self) -> Result<bool, Trouble> {
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

    pub(super) fn tell(&mut self, message: GuestToHost) {
        self.unsent.push_back(message);
    }

    pub(super) fn speak(&mut self) -> bool {
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

    /// Where it stands, for a node that knows nothing.
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
}
