//! When balancing begins and ends, and what a move has to be worth.
//!
//! Promises: [`Settings::validate`] says which value is out of its range. Does not: read
//! configuration.
//!
//! Gains and costs are in *host-millionths*: imbalance in millionths times the number of hosts, so
//! that the worth of a move does not depend on the size of the cluster. Bringing one host ten
//! points of cpu nearer to all others is worth about 100,000.

/// Settings of [`plan`](super::plan).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Nothing is planned up to this imbalance, in millionths, 0 to 2,000,000.
    pub threshold: u32,
    /// A plan ends at this imbalance, in millionths, up to `threshold`. The gap between the two is
    /// what keeps a cluster from being balanced again at every breath.
    pub target: u32,
    /// What any move has to gain, in host-millionths, 1 to 10,000,000.
    pub cost_per_move: u32,
    /// What it has to gain besides per GiB that it copies, in host-millionths, 0 to 10,000,000.
    pub cost_per_gib: u32,
    /// Moves at most, 0 to 1,000,000.
    pub moves: u32,
    /// Passes over a plan in search of a better one with no more moves, 0 to 100.
    pub passes: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            threshold: 100_000,
            target: 60_000,
            cost_per_move: 5_000,
            cost_per_gib: 500,
            moves: 10_000,
            passes: 8,
        }
    }
}

/// A setting out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("balancing setting {name} is {value}: give a value from {least} to {most}")]
pub struct SettingsError {
    pub name: &'static str,
    pub value: u32,
    pub least: u32,
    pub most: u32,
}

impl Settings {
    /// Every value in its range, or the first that is not.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let ranges = [
            ("threshold", self.threshold, 0, 2_000_000),
            ("target", self.target, 0, self.threshold),
            ("cost_per_move", self.cost_per_move, 1, 10_000_000),
            ("cost_per_gib", self.cost_per_gib, 0, 10_000_000),
            ("moves", self.moves, 0, 1_000_000),
            ("passes", self.passes, 0, 100),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(SettingsError { name, value, least, most });
            }
        }
        Ok(())
    }
}
