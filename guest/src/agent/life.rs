//! The container from setup to its end.

use super::{Agent, Ended, Phase, tolerate};
use crate::container::{Container, News};
use crate::output::Output;
use crate::power::say;
use crate::root::Root;
use crate::source::{Source, Token};
use crate::stall::StallWatch;
use crate::trouble::{Trouble, While as _};
use crate::{cgroup, clock, devices, host_files, network};
use berth_model::guest::{
    ExitCause, ExitStatus, GuestSpec, GuestToHost, LOG_PORT, Standing, StartFailure,
};
use berth_wire::codec;
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

impl Agent {
    pub(super) fn set_up(&mut self, spec: &GuestSpec) -> Result<(), Trouble> {
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
        let mounted = self.open_log().and_then(|()| Root::mount(spec, &mut self.uevents));
        let root = match mounted {
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

    fn open_log(&mut self) -> Result<(), Trouble> {
        let port = devices::open_port(LOG_PORT, &mut self.uevents)?;
        self.log = Some(Source::register_quiet(&self.poller, Token::Log, port)?);
        Ok(())
    }

    /// Everything between the mounted root and the running child.
    fn surround(&mut self, spec: &GuestSpec) -> Result<Container, Trouble> {
        host_files::write(spec)?;
        cgroup::make(spec)?;
        if spec.memory_limit.is_some() {
            match StallWatch::set(&self.poller) {
                Ok(stalls) => self.stalls = Some(stalls),
                // The kernel's own killer is still there.
                Err(trouble) => say(&trouble.text()),
            }
        }
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

    pub(super) fn hear_container(&mut self) -> Result<bool, Trouble> {
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
    pub(super) fn reap(&mut self) -> Result<bool, Trouble> {
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
        let starved = self.stalls.take().is_some_and(|stalls| stalls.killed);
        let oom_killed = starved || cgroup::oom_killed();
        let exit = Ended { cause, oom_killed, time_ns: clock::wall_ns() };
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

    /// Once the output is in the log: the exit record, the exit on disk, unmount, and the news.
    pub(super) fn close_when_over(&mut self) -> Result<bool, Trouble> {
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
}
