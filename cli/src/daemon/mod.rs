//! The long-running processes: each reads its configuration, starts what its crate exports, and
//! ends cleanly at SIGTERM or SIGINT.

pub mod keeper;
pub mod node;
pub mod scheduler;
pub mod switch;

use crate::logging::{self, LogFormat};
use anyhow::{Context, Result};
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// How every process is started.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// TOML file; `berth config example` prints one.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Overrides a key of the file and of the environment; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Become the leader of a session of its own, so that no terminal's signals arrive.
    #[arg(long, hide = true)]
    pub own_session: bool,
}

/// Runs one process to its end.
pub fn run<F: Future<Output = Result<()>>>(
    process: fn(Arguments) -> F,
    arguments: Arguments,
    log_format: LogFormat,
) -> Result<()> {
    if arguments.own_session {
        make_session()?;
    }
    // The HTTP server tells of each of its threads.
    logging::start(log_format, "info,actix_server=warn")?;
    actix_rt::System::new().block_on(process(arguments))
}

/// A session of its own, unless this process has one already.
pub fn make_session() -> Result<()> {
    match rustix::process::setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error).context("cannot make a session"),
    }
}

/// Waits for SIGTERM or SIGINT. Call it early: until then they end the process at once.
pub struct EndSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl EndSignal {
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
