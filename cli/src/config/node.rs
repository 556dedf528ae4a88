//! Configuration of `berth node`: the node's own options, read from file, environment and flags.

use super::{Configuration, Role};
use berth_node::options::Options;

impl Configuration for Options {
    const ROLE: Role = Role::Node;

    fn validate(&self) -> Result<(), String> {
        self.clone().validate().map(drop).map_err(|error| error.to_string())
    }
}
