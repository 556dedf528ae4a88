//! The switch: a process of its own that will carry the frames of this host's container VMs.
//!
//! Now it does one half of that: it takes the host's network state from the node, keeps the newest
//! on disk before it acknowledges, and comes up with it again without any node. There are no
//! networks yet, so the state is empty and no frame is switched. Promises: an older generation is
//! refused; what was acknowledged is there after a crash.

mod kept;
mod link;

pub use link::attend;

use crate::causes::with_causes;
use crate::control::{self, ControlError, ControlLink};
use crate::options::{OptionsError, absolute};
use berth_model::Generation;
use kept::Kept;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

const SOCKET: &str = "switch.sock";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The same as the node's: the socket between the two lies there.
    pub run_directory: PathBuf,
    /// Keeps the network state over restarts and boots.
    pub state_directory: PathBuf,
}

/// Everything that the switch needs to know of the fleet's networks. There are none yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkState {}

/// A state and its number; a higher one replaces a lower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub generation: Generation,
    pub state: NetworkState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSwitch {
    /// What do you hold?
    Tell,
    Configure(Configuration),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSwitch {
    Holds(Configuration),
    /// It is on disk and in use.
    Kept {
        generation: Generation,
    },
    Refused {
        reason: String,
    },
}

/// Why the switch cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(
        "network state in {} cannot be read; repair the disk, or delete the file to start with none",
        path.display()
    )]
    Kept {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Options {
    /// Checks everything that can be checked without looking at the machine.
    pub fn validate(&self) -> Result<(), OptionsError> {
        absolute("run_directory", &self.run_directory)?;
        absolute("state_directory", &self.state_directory)
    }
}

/// Where the switch of a host listens.
pub fn socket(run_directory: &Path) -> PathBuf {
    run_directory.join(SOCKET)
}

/// Runs until `shutdown` answers.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), SwitchError> {
    options.validate()?;
    let mut kept = Kept::load(&options.state_directory)
        .map_err(|(path, source)| SwitchError::Kept { path, source })?;
    let listener = control::bind(&socket(&options.run_directory)).await?;
    tracing::info!(generation = kept.held().generation.0, "switch runs with its last state");
    tokio::pin!(shutdown);
    // One node configures it: links are served one after the other, the newest replaces the others.
    let mut link: Option<ControlLink> = None;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => link = admit(stream).await.or(link),
                Err(error) => {
                    tracing::warn!(%error, "switch cannot take a connection");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
            message = next(&mut link) => {
                if let Err(error) = answer(&mut link, message, &mut kept).await {
                    tracing::warn!(error = with_causes(&error), "link of a node broke");
                    link = None;
                }
            }
        }
    }
    tracing::info!("switch ends; its state stays on disk");
    Ok(())
}

async fn admit(stream: UnixStream) -> Option<ControlLink> {
    match ControlLink::open(stream, &control::hello()).await {
        Ok(link) => Some(link),
        Err(error) => {
            tracing::warn!(error = with_causes(&error), "switch refuses a peer");
            None
        }
    }
}

async fn next(link: &mut Option<ControlLink>) -> Result<Option<ToSwitch>, ControlError> {
    match link {
        Some(link) => link.receive().await,
        None => std::future::pending().await,
    }
}

async fn answer(
    link: &mut Option<ControlLink>,
    message: Result<Option<ToSwitch>, ControlError>,
    kept: &mut Kept,
) -> Result<(), ControlError> {
    let answer = match message? {
        None => {
            *link = None;
            return Ok(());
        }
        Some(ToSwitch::Tell) => FromSwitch::Holds(kept.held().clone()),
        Some(ToSwitch::Configure(configuration)) => {
            let generation = configuration.generation;
            match kept.take(configuration).await {
                Ok(()) => FromSwitch::Kept { generation },
                Err(reason) => FromSwitch::Refused { reason },
            }
        }
    };
    match link {
        Some(link) => link.send(&answer).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
