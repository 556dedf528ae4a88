//! Configuration of `berth switch`: its own options, read from file, environment and flags.

use super::{Configuration, Role};
use berth_node::switch::Options;

impl Configuration for Options {
    const ROLE: Role = Role::Switch;

    fn validate(&self) -> Result<(), String> {
        Options::validate(self).map_err(|error| error.to_string())
    }
}
