//! Configuration of the long-running processes: one struct each, read from a TOML file, then from
//! the environment (`BERTH__SECTION__KEY`), then from `--set section.key=value`; later wins.
//!
//! Promises: an unknown key is an error wherever it comes from; what parses is validated before
//! anything starts; listeners between processes always have mutual TLS, and HTTP is plain on
//! loopback only. Each role has an example file in `examples/` that names and explains every key
//! (`berth config example`).
//! Does not: read certificates or open sockets; that is the processes' own business.

pub mod keeper;
pub mod listener;
pub mod node;
pub mod scheduler;
pub mod switch;
pub mod tls;

pub use berth_node::keeper::Options as KeeperConfig;
pub use berth_node::options::Options as NodeConfig;
pub use berth_node::switch::Options as SwitchConfig;
pub use scheduler::SchedulerConfig;

use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Before a section name in the environment.
pub const ENVIRONMENT_PREFIX: &str = "BERTH__";

/// Why a process has no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} is not a valid {role} configuration")]
    Unreadable {
        role: Role,
        path: PathBuf,
        #[source]
        source: Box<config::ConfigError>,
    },
    #[error("`--set {0}` must read `section.key=value`")]
    Override(String),
    #[error("{path}: {reason}")]
    Invalid { path: PathBuf, reason: String },
}

/// The processes that have a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    Scheduler,
    Node,
    Keeper,
    Switch,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Role::Scheduler => "scheduler",
            Role::Node => "node",
            Role::Keeper => "keeper",
            Role::Switch => "switch",
        }
    }

    /// A configuration with every key, each explained.
    pub const fn example(self) -> &'static str {
        match self {
            Role::Scheduler => include_str!("examples/scheduler.toml"),
            Role::Node => include_str!("examples/node.toml"),
            Role::Keeper => include_str!("examples/keeper.toml"),
            Role::Switch => include_str!("examples/switch.toml"),
        }
    }

    /// Reads and validates `file` as this role would.
    pub fn check(self, file: &Path, overrides: &[String]) -> Result<(), ConfigError> {
        match self {
            Role::Scheduler => load::<SchedulerConfig>(file, overrides).map(drop),
            Role::Node => load::<NodeConfig>(file, overrides).map(drop),
            Role::Keeper => load::<KeeperConfig>(file, overrides).map(drop),
            Role::Switch => load::<SwitchConfig>(file, overrides).map(drop),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A configuration of one role.
pub trait Configuration: DeserializeOwned {
    const ROLE: Role;

    /// What serde cannot say: rules between keys. The answer names the key and what to do.
    fn validate(&self) -> Result<(), String>;
}

/// Reads a configuration from file, environment and `overrides`, and validates it.
pub fn load<C: Configuration>(file: &Path, overrides: &[String]) -> Result<C, ConfigError> {
    // Not `std::env::vars`: that panics on a variable that is not UTF-8 and none of our business.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load_from::<C>(file, environment, overrides)
}

fn load_from<C: Configuration>(
    file: &Path,
    environment: HashMap<String, String>,
    overrides: &[String],
) -> Result<C, ConfigError> {
    let unreadable = |source: config::ConfigError| ConfigError::Unreadable {
        role: C::ROLE,
        path: file.to_owned(),
        source: Box::new(source),
    };
    let environment: HashMap<String, String> =
        environment.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    let mut builder = config::Config::builder()
        .add_source(config::File::from(file).format(config::FileFormat::Toml).required(true))
        .add_source(
            config::Environment::with_prefix("BERTH")
                .prefix_separator("__")
                .separator("__")
                .source(Some(environment)),
        );
    for text in overrides {
        let (key, value) =
            text.split_once('=').ok_or_else(|| ConfigError::Override(text.clone()))?;
        builder = builder.set_override(key, value).map_err(unreadable)?;
    }
    let read: C = builder.build().map_err(unreadable)?.try_deserialize().map_err(unreadable)?;
    read.validate().map_err(|reason| ConfigError::Invalid { path: file.to_owned(), reason })?;
    Ok(read)
}

#[cfg(test)]
mod tests;
