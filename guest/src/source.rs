//! A descriptor with what is known of its readiness.
//!
//! All descriptors are registered edge-triggered for both directions: an event says "try again", a
//! call that would block says "not now". So a port whose host end is away, which a level-triggered
//! poll would report for ever, costs nothing.

use crate::trouble::{Trouble, While as _};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// Which source an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Signals,
    Agent,
    Log,
    Status,
    Stdout,
    Stderr,
    Stdin,
    MemoryStall,
}

impl Token {
    pub const ALL: [Token; 8] = [
        Token::Signals,
        Token::Agent,
        Token::Log,
        Token::Status,
        Token::Stdout,
        Token::Stderr,
        Token::Stdin,
        Token::MemoryStall,
    ];

    fn number(self) -> u64 {
        self as u64
    }
}

pub struct Source {
    fd: OwnedFd,
    pub readable: bool,
    pub writable: bool,
    /// Events are only wanted after a call that would have blocked.
    quiet: bool,
}

impl Source {
    /// Registers the descriptor, which must not block. It counts as ready until a call says
    /// otherwise.
    pub fn register(poller: &Poller, token: Token, fd: OwnedFd) -> Result<Source, Trouble> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&poller.0, &fd, EventData::new_u64(token.number()), flags)
            .during(|| format!("watch {token:?}"))?;
        Ok(Source { fd, readable: true, writable: true, quiet: false })
    }

    /// As [`Self::register`], but silent until [`Self::rearm`]: the log port has news after every
    /// write, and each would wake the agent for nothing.
    pub fn register_quiet(poller: &Poller, token: Token, fd: OwnedFd) -> Result<Source, Trouble> {
        let flags = EventFlags::ONESHOT;
        epoll::add(&poller.0, &fd, EventData::new_u64(token.number()), flags)
            .during(|| format!("watch {token:?}"))?;
        Ok(Source { fd, readable: false, writable: true, quiet: true })
    }

    /// Asks for one event when a quiet source that could not be written to can be again.
    pub fn rearm(&self, poller: &Poller, token: Token) -> Result<(), Trouble> {
        if !self.quiet || self.writable {
            return Ok(());
        }
        let flags = EventFlags::OUT | EventFlags::ET | EventFlags::ONESHOT;
        epoll::modify(&poller.0, &self.fd, EventData::new_u64(token.number()), flags)
            .during(|| format!("watch {token:?}"))
    }

    pub fn woken(&mut self) {
        self.readable = true;
        self.writable = true;
    }

    /// Reads; `None` when there is nothing now. `Some(0)` is the end, or for a port an absent host.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        if !self.readable {
            return Ok(None);
        }
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes; `None` when nothing can be written now.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, Errno> {
        if !self.writable {
            return Ok(None);
        }
        loop {
            match rustix::io::write(&self.fd, bytes) {
                Ok(count) => return Ok(Some(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.writable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits for any of the sources.
pub struct Poller(OwnedFd);

impl Poller {
    pub fn new() -> Result<Poller, Trouble> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Poller).during(|| "create an epoll")
    }

    /// Watches a descriptor that only ever gives notice: nothing is read from or written to it.
    pub fn add_notice(&self, token: Token, fd: &OwnedFd) -> Result<(), Trouble> {
        let flags = EventFlags::PRI | EventFlags::ET;
        epoll::add(&self.0, fd, EventData::new_u64(token.number()), flags)
            .during(|| format!("watch {token:?}"))
    }

    /// Tokens of what became ready, after at most `timeout_ns`; `None` waits for ever.
    pub fn wait(&self, timeout_ns: Option<u64>) -> Result<Vec<Token>, Trouble> {
        let timeout = timeout_ns.map(|ns| rustix::event::Timespec {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000) as i64,
        });
        let mut events = Vec::with_capacity(Token::ALL.len());
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).during(|| "wait for events"),
        }
        let numbers: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
        Ok(Token::ALL.into_iter().filter(|token| numbers.contains(&token.number())).collect())
    }
}
