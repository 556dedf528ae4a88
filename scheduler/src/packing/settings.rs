//! How hard the packing works, and what it weighs.
//!
//! Promises: [`Settings::default`] suits a cell of up to 10,000 hosts and 32 shapes in
//! milliseconds; [`Settings::validate`] says which value is out of its range. Does not: read
//! configuration.

/// Settings of [`Guide::learn_with`](super::Guide::learn_with) and
/// [`plan_moves`](super::plan_moves).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Shapes that are told apart, 1 to 64; rarer ones count for the one they resemble.
    pub shapes: u32,
    /// Sizes of host that are told apart, 1 to 16.
    pub host_kinds: u32,
    /// Patterns made at most while pricing, 1 to 10,000.
    pub patterns: u32,
    /// Nodes of one knapsack search, 100 to 10,000,000.
    pub nodes: u32,
    /// Pricing ends when the bound is within so many millionths, 0 to 100,000.
    pub gap_millionths: u32,
    /// Cells of the table of free vectors, four bytes each, 1,024 to 4,194,304.
    pub cells: u32,
    /// Weight of the room that stays free against waste, in 256ths, 0 to 1,000.
    pub stay_weight: u32,
    /// By how much it grows per share of the hosts in use that lies idle, in 256ths, 0 to
    /// 1,000,000.
    pub stay_slope: u32,
    /// Up to here, 0 to 1,000.
    pub stay_most: u32,
    /// What it costs to open an empty host, in 256ths of its worth, 0 to 1,000.
    pub opening_weight: u32,
    /// By how much it grows per share of the hosts in use that lies idle, in 256ths, 0 to
    /// 1,000,000.
    pub opening_slope: u32,
    /// Up to here, 0 to 1,000.
    pub opening_most: u32,
    /// Hosts being filled that do not count as idle, 0 to 1,000.
    pub open_hosts: u32,
    /// Moving plan: hosts in a row that could not be emptied before it gives up, 1 to 100,000.
    pub tries: u32,
    /// Moving plan: how many smaller container VMs may be moved on to make room for one, 0 to 4.
    pub chain: u32,
    /// Moving plan: hosts looked at for making room, per container VM, 0 to 10,000.
    pub neighbours: u32,
    /// Moving plan: attempts to make room, per host to be emptied, 0 to 1,000,000.
    pub looks: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            shapes: 24,
            host_kinds: 6,
            patterns: 300,
            nodes: 20_000,
            gap_millionths: 500,
            cells: 1 << 17,
            stay_weight: 6,
            stay_slope: 4_800,
            stay_most: 64,
            opening_weight: 0,
            opening_slope: 4_096,
            opening_most: 32,
            open_hosts: 2,
            tries: 200,
            chain: 2,
            neighbours: 50,
            looks: 2_000,
        }
    }
}

/// A setting out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packing setting {name} is {value}: give a value from {least} to {most}")]
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
            ("shapes", self.shapes, 1, 64),
            ("host_kinds", self.host_kinds, 1, 16),
            ("patterns", self.patterns, 1, 10_000),
            ("nodes", self.nodes, 100, 10_000_000),
            ("gap_millionths", self.gap_millionths, 0, 100_000),
            ("cells", self.cells, 1 << 10, 1 << 22),
            ("stay_weight", self.stay_weight, 0, 1_000),
            ("stay_slope", self.stay_slope, 0, 1_000_000),
            ("stay_most", self.stay_most, 0, 1_000),
            ("opening_weight", self.opening_weight, 0, 1_000),
            ("opening_slope", self.opening_slope, 0, 1_000_000),
            ("opening_most", self.opening_most, 0, 1_000),
            ("open_hosts", self.open_hosts, 0, 1_000),
            ("tries", self.tries, 1, 100_000),
            ("chain", self.chain, 0, 4),
            ("neighbours", self.neighbours, 0, 10_000),
            ("looks", self.looks, 0, 1_000_000),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(SettingsError { name, value, least, most });
            }
        }
        Ok(())
    }
}
