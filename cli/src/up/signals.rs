//! Signals that `berth up` and `berth down` obey.
//!
//! SIGINT and SIGTERM: take the cell down. SIGUSR1: leave it to someone else (`berth down` sends
//! it). SIGHUP is ignored: a cell does not end because a terminal was closed.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    TakeDown,
    LetGo,
}

#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    let_go: Signal,
    _hangup: Signal,
}

impl Signals {
    pub fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            let_go: listen(SignalKind::user_defined1())?,
            _hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next call. Cancel-safe.
    pub async fn next(&mut self) -> Call {
        tokio::select! {
            _ = self.interrupt.recv() => Call::TakeDown,
            _ = self.terminate.recv() => Call::TakeDown,
            _ = self.let_go.recv() => Call::LetGo,
        }
    }
}
