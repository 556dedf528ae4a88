//! How container VMs ended that are gone, kept a short while for those who wait for them.
//!
//! Promises: bounded; each is kept five minutes of leader time at most, and the oldest go first
//! when there are more than [`DEPARTED_MAX`].

use super::hash::{self, Sum};
use berth_model::{ContainerId, Exit, Timestamp};
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

pub(super) const DEPARTED_MAX: usize = 4096;
pub(super) const KEPT_MS: u64 = 5 * 60 * 1000;

/// A container VM that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    /// How its last run ended; `None` if it never ran.
    pub exit: Option<Exit>,
    /// When its record went.
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DepartedLog {
    by_id: OrdMap<ContainerId, Departed>,
    /// The same, oldest first.
    by_age: OrdSet<(Timestamp, ContainerId)>,
    hash: Sum,
}

impl DepartedLog {
    pub fn get(&self, id: ContainerId) -> Option<&Departed> {
        self.by_id.get(&id)
    }

    pub fn add(&mut self, id: ContainerId, departed: Departed) {
        let at = departed.at;
        self.hash.add(hash::kept(&(id, &departed)));
        if let Some(before) = self.by_id.insert(id, departed) {
            self.hash.take(hash::kept(&(id, &before)));
            self.by_age.remove(&(before.at, id));
        }
        self.by_age.insert((at, id));
        while self.by_id.len() > DEPARTED_MAX {
            let Some((at, oldest)) = self.by_age.get_min().copied() else { break };
            self.forget(at, oldest);
        }
    }

    pub fn expire(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.by_age.get_min().copied() {
            if at.0.saturating_add(KEPT_MS) > now.0 {
                break;
            }
            self.forget(at, id);
        }
    }

    fn forget(&mut self, at: Timestamp, id: ContainerId) {
        self.by_age.remove(&(at, id));
        if let Some(departed) = self.by_id.remove(&id) {
            self.hash.take(hash::kept(&(id, &departed)));
        }
    }

    pub fn hash(&self) -> Sum {
        self.hash
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ContainerId, &Departed)> {
        self.by_id.iter()
    }
}
