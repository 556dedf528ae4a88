//! Configuration of `berth keeper`.

use super::tls::TlsSection;
use super::{Configuration, Role};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperConfig {
    /// What the keeper itself keeps over restarts.
    pub state: PathBuf,
    /// Holds its socket for the node.
    pub run: PathBuf,
    pub tls: TlsSection,
}

impl Configuration for KeeperConfig {
    const ROLE: Role = Role::Keeper;

    fn validate(&self) -> Result<(), String> {
        for (key, path) in [("state", &self.state), ("run", &self.run)] {
            if !path.is_absolute() {
                return Err(format!("{key} must be an absolute path, not {}", path.display()));
            }
        }
        Ok(())
    }
}
