//! How the hosts of `berth up` are kept apart from each other and from the machine.

use super::network;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wish {
    /// Namespaces where this user may make them, else processes.
    Auto,
    Namespaces,
    Processes,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Each host has a network namespace of its own.
    Namespaces,
    /// Hosts are plain processes on loopback.
    Processes,
}

impl Isolation {
    pub const fn name(self) -> &'static str {
        match self {
            Isolation::Namespaces => "namespaces",
            Isolation::Processes => "processes",
        }
    }
}

/// Decides; the text says why it is not namespaces, if it is not.
pub fn decide(wish: Wish) -> Result<(Isolation, Option<String>)> {
    match wish {
        Wish::Processes => Ok((Isolation::Processes, None)),
        Wish::Namespaces => match network::available() {
            Ok(()) => Ok((Isolation::Namespaces, None)),
            Err(reason) => {
                bail!("--isolation namespaces: {reason}; run as root, or use --isolation processes")
            }
        },
        Wish::Auto => Ok(match network::available() {
            Ok(()) => (Isolation::Namespaces, None),
            Err(reason) => (Isolation::Processes, Some(reason)),
        }),
    }
}
