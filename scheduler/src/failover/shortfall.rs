//! Why admission control says no: which capacity is kept, and for what.
//!
//! Plain data over slots and handles; whoever knows the names of hosts and VMs puts them in.

use std::fmt;

use super::room::Room;
use super::{Handle, Slot};

/// The capacity that admission control keeps and that would be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// The restart plan for the loss of these hosts leaves VMs without a place.
    Loss {
        /// One host, or two where two losses are tolerated.
        lost: Vec<Slot>,
        /// How many VMs have no place, and what they need together.
        vms: u32,
        missing: Room,
        /// The most important of them, and what it needs.
        vm: Handle,
        needs: Room,
    },
    /// A share of the cluster is kept free.
    Percentage {
        dimension: Dimension,
        /// Percent of `total` that is kept; amounts are mCPU or bytes.
        kept_percent: u8,
        total: u64,
        kept: u64,
        /// Free beyond what is kept, before the request.
        free: u64,
        wanted: u64,
    },
    /// Slots as many as the largest hosts have are kept free.
    Slots {
        /// How many of the largest hosts may fail, and how many slots they have.
        hosts: u32,
        kept: u64,
        /// The size of one slot, with the request.
        size: Room,
        total: u64,
        /// Slots that would be taken, with the request.
        used: u64,
    },
    /// The host is kept for restarts and takes no other placement.
    Dedicated { slot: Slot },
}

/// What a percentage was short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Cpu,
    Memory,
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu (thousandths of a core)",
            Self::Memory => "memory (bytes)",
        })
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { lost, vms, missing, vm, needs } => {
                f.write_str(if lost.len() == 1 {
                    "the loss of host"
                } else {
                    "the loss of hosts"
                })?;
                for (nth, slot) in lost.iter().enumerate() {
                    write!(f, "{}{slot}", if nth == 0 { " " } else { " and " })?;
                }
                write!(
                    f,
                    " would leave {vms} vm(s) without a place, {missing} in all; \
                     first vm {vm}, which needs {needs}"
                )
            }
            Self::Percentage { dimension, kept_percent, total, kept, free, wanted } => write!(
                f,
                "{kept_percent} percent of the cluster's {dimension} is kept for failover, \
                 {kept} of {total}: {free} is free beyond that, {wanted} was asked for"
            ),
            Self::Slots { hosts, kept, size, total, used } => write!(
                f,
                "{kept} of {total} slots of {size} are kept for the failure of the {hosts} \
                 largest host(s): {used} slots would be taken"
            ),
            Self::Dedicated { slot } => {
                write!(f, "host {slot} is kept for failover and takes only restarts")
            }
        }
    }
}

impl std::error::Error for Shortfall {}
