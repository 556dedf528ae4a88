//! The container's main process: started in its own namespaces, and then a pid and some
//! descriptors.
//!
//! ```text
//!  agent ── fork into namespaces ──► child: PID 1 of the container
//!                                     [`mounts`] its root, /proc, /dev …
//!        ◄── Terminal(master) ──────  [`terminal`] if it has one
//!        ◄── Failed | Ready ────────  user, capabilities, working directory, program
//!                                     exec
//! ```
//! Verdicts come over a socket, so a child that hangs in the image's files never holds the agent
//! up.

mod init;
mod mounts;
mod terminal;
mod verdict;

use crate::calls;
use crate::source::{Poller, Source, Token};
use crate::trouble::{Trouble, While as _};
use berth_model::guest::{GuestSpec, StartFailure, Stdio};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use verdict::Verdict;

/// What the child is given besides the spec.
struct Given {
    verdicts: OwnedFd,
    /// stdin, stdout, stderr; `None` with a terminal, which the child makes itself.
    stdio: Option<[OwnedFd; 3]>,
}

pub struct Container {
    pub pid: u32,
    verdicts: Option<Source>,
    /// Carries everything if there is a terminal.
    pub stdout: Option<Source>,
    pub stderr: Option<Source>,
    /// `None` if stdin is closed, or not yet there.
    pub stdin: Option<Source>,
    terminal: bool,
    /// Whether the node may send stdin at all.
    wants_stdin: bool,
}

/// What became of the start.
pub enum News {
    Ready,
    Failed(StartFailure),
}

impl Container {
    pub fn start(spec: &GuestSpec, poller: &Poller) -> Result<Container, Trouble> {
        let flags = SocketFlags::CLOEXEC;
        let (verdicts, childs_verdicts) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .during(|| "make a socket to the container's process")?;
        not_blocking(&verdicts)?;
        let (ours, stdio) = match spec.process.stdio {
            Stdio::Terminal { .. } => ([None, None, None], None),
            Stdio::Pipes { stdin } => {
                let (ours, childs) = pipes(stdin)?;
                (ours, Some(childs))
            }
        };
        let given = Given { verdicts: childs_verdicts, stdio };
        let pid = calls::fork_into_namespaces().during(|| "fork the container's process")?;
        if pid == 0 {
            init::run(spec, given);
        }
        drop(given);
        let [stdin, stdout, stderr] = ours;
        let register = |token, fd: Option<OwnedFd>| {
            fd.map(|fd| Source::register(poller, token, fd)).transpose()
        };
        let (terminal, wants_stdin) = match spec.process.stdio {
            Stdio::Pipes { stdin } => (false, stdin),
            Stdio::Terminal { stdin, .. } => (true, stdin),
        };
        Ok(Container {
            pid,
            verdicts: register(Token::Status, Some(verdicts))?,
            stdin: register(Token::Stdin, stdin)?,
            stdout: register(Token::Stdout, stdout)?,
            stderr: register(Token::Stderr, stderr)?,
            terminal,
            wants_stdin,
        })
    }

    /// What the child has said since the last call, if it ends the start.
    pub fn news(&mut self, poller: &Poller) -> Result<Option<News>, Trouble> {
        while let Some(verdicts) = &mut self.verdicts {
            let Some(verdict) = verdict::receive(verdicts)? else { return Ok(None) };
            match verdict {
                Verdict::Terminal(master) => {
                    not_blocking(&master)?;
                    if self.wants_stdin {
                        let second = rustix::io::fcntl_dupfd_cloexec(&master, 3)
                            .during(|| "duplicate the terminal")?;
                        self.stdin = Some(Source::register(poller, Token::Stdin, second)?);
                    }
                    self.stdout = Some(Source::register(poller, Token::Stdout, master)?);
                }
                Verdict::Ready => {
                    self.verdicts = None;
                    return Ok(Some(News::Ready));
                }
                Verdict::Failed(failure) => {
                    self.verdicts = None;
                    return Ok(Some(News::Failed(failure)));
                }
                Verdict::End => {
                    self.verdicts = None;
                    let text = "the container's process died while it was set up".to_string();
                    return Ok(Some(News::Failed(StartFailure { code: 128, text })));
                }
            }
        }
        Ok(None)
    }

    pub fn woken(&mut self, token: Token) {
        let source = match token {
            Token::Status => &mut self.verdicts,
            Token::Stdout => &mut self.stdout,
            Token::Stderr => &mut self.stderr,
            Token::Stdin => &mut self.stdin,
            Token::Signals | Token::Agent | Token::Log | Token::MemoryStall => return,
        };
        if let Some(source) = source {
            source.woken();
        }
    }

    /// Whether the process has a terminal, which hears no end of stdin.
    pub fn has_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether bytes for stdin have, or will have, somewhere to go.
    pub fn takes_stdin(&self) -> bool {
        self.stdin.is_some() || (self.wants_stdin && self.terminal && self.verdicts.is_some())
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        if let (true, Some(master)) = (self.terminal, &self.stdout) {
            terminal::resize(master, rows, columns);
        }
    }

    pub fn kill(&self, signal: u8) -> Result<(), Trouble> {
        calls::kill(self.pid, signal).during(|| format!("send signal {signal}"))
    }

    /// All output was read to its end.
    pub fn output_ended(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }
}

/// Three pipes: our ends, which do not block, and the process's.
fn pipes(stdin: bool) -> Result<([Option<OwnedFd>; 3], [OwnedFd; 3]), Trouble> {
    let make = || pipe_with(PipeFlags::CLOEXEC).during(|| "make a pipe");
    let (stdout, childs_stdout) = make()?;
    let (stderr, childs_stderr) = make()?;
    not_blocking(&stdout)?;
    not_blocking(&stderr)?;
    let (stdin, childs_stdin) = if stdin {
        let (childs_stdin, stdin) = make()?;
        not_blocking(&stdin)?;
        (Some(stdin), childs_stdin)
    } else {
        let null = File::open("/dev/null").during(|| "open /dev/null")?;
        (None, null.into())
    };
    Ok(([stdin, Some(stdout), Some(stderr)], [childs_stdin, childs_stdout, childs_stderr]))
}

fn not_blocking(fd: &OwnedFd) -> Result<(), Trouble> {
    rustix::io::ioctl_fionbio(fd, true).during(|| "make a descriptor not block")
}
