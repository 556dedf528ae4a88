//! The container's output and input on their way.

use super::{Agent, Phase};
use crate::clock;
use crate::power::say;
use berth_wire::record::Stream;
use rustix::io::Errno;

impl Agent {
    pub(super) fn carry_output(&mut self) -> bool {
        let mut moved = false;
        let (container, ending) = match &mut self.phase {
            Phase::Starting { container, .. } | Phase::Running { container, .. } => {
                (container, false)
            }
            Phase::Ending { container, .. } => (container, true),
            Phase::Idle | Phase::Closed { .. } => return self.write_log(),
        };
        let terminal = container.has_terminal();
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
                    // A pipe that gave less than asked is empty, and its next byte is an event.
                    // Its end may have come with the event that led here, and be none any more:
                    // so at the end it is read until it says that it is over, or not yet.
                    open.readable = count == room || terminal || ending;
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
        let Some(log) = self.log.as_mut().filter(|_| !self.output.waiting().is_empty()) else {
            return false;
        };
        match log.write(self.output.waiting()) {
            Ok(None) => false,
            Ok(Some(count)) => {
                self.output.written(count);
                true
            }
            Err(error) => {
                say(&format!("write to the log port: {error}"));
                log.writable = false;
                false
            }
        }
    }

    pub(super) fn carry_stdin(&mut self) -> bool {
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
}
