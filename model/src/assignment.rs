//! What one node should run: whole and numbered in meaning, a difference and a hash on the wire.

use crate::container::{ContainerSpec, StopOrder};
use crate::ids::{ContainerId, DatastoreId, Epoch, Generation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that one node should run or discard. What is not in it should not run there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub generation: Generation,
    pub vms: BTreeMap<ContainerId, VmOrder>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmOrder {
    pub epoch: Epoch,
    /// Holds the container VM's directory.
    pub datastore: DatastoreId,
    pub want: Want,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// Run it, and when it has exited say so and do not start it again under this epoch.
    Run(Box<RunOrder>),
    /// As `Run`, but bring it to an end.
    Stop { run: Box<RunOrder>, order: StopOrder },
    /// End whatever runs at once, then delete its directory on the datastore.
    Discard,
}

/// All that a node needs to start a container VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOrder {
    pub name: String,
    pub spec: Arc<ContainerSpec>,
    /// A datastore that holds the image's base disk and that the host reaches.
    pub image_datastore: DatastoreId,
    /// The cluster's CPU model, as QEMU names it.
    pub cpu_model: String,
    /// The operating system's numbers of the NUMA nodes that cpu and memory are bound to, evenly.
    pub numa: Vec<u16>,
}

/// The step from one assignment to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentUpdate {
    pub generation: Generation,
    /// The acknowledged generation that `set` and `unset` start from; `None` means from nothing,
    /// and then `set` is the whole.
    pub base: Option<Generation>,
    pub set: Vec<(ContainerId, VmOrder)>,
    pub unset: Vec<ContainerId>,
    /// Digest of the whole that results, see [`Assignment::digest`].
    pub digest: [u8; 32],
}

/// Why an update does not fit what a node holds. The answer to both kinds but `Older` is to ask
/// for the whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    #[error("generation {offered:?} is older than {held:?}, which is already obeyed")]
    Older { held: Generation, offered: Generation },
    #[error("update starts from generation {base:?}, but {held:?} is held")]
    OtherBase { held: Generation, base: Generation },
    #[error("digest of generation {0:?} does not match its content")]
    Digest(Generation),
}

impl Assignment {
    /// SHA-256 over the encoded orders; `encode` is the wire codec.
    pub fn digest(&self, encode: impl Fn(&ContainerId, &VmOrder) -> Vec<u8>) -> [u8; 32] {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for (id, order) in &self.vms {
            let bytes = encode(id, order);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(&bytes);
        }
        hash.finalize().into()
    }

    /// The step from `base` (what the node has acknowledged, if anything) to `self`.
    pub fn update_from(
        &self,
        base: Option<&Assignment>,
        encode: impl Fn(&ContainerId, &VmOrder) -> Vec<u8>,
    ) -> AssignmentUpdate {
        let nothing = BTreeMap::new();
        let held = base.map_or(&nothing, |b| &b.vms);
        AssignmentUpdate {
            generation: self.generation,
            base: base.map(|b| b.generation),
            set: self
                .vms
                .iter()
                .filter(|(id, order)| held.get(*id) != Some(*order))
                .map(|(id, order)| (*id, order.clone()))
                .collect(),
            unset: held.keys().filter(|id| !self.vms.contains_key(*id)).copied().collect(),
            digest: self.digest(encode),
        }
    }

    /// The assignment after `update`; `self` stays as it was if the update does not fit.
    pub fn updated(
        &self,
        update: &AssignmentUpdate,
        encode: impl Fn(&ContainerId, &VmOrder) -> Vec<u8>,
    ) -> Result<Assignment, UpdateError> {
        if update.generation < self.generation {
            return Err(UpdateError::Older { held: self.generation, offered: update.generation });
        }
        let mut vms = match update.base {
            None => BTreeMap::new(),
            Some(base) if base == self.generation => self.vms.clone(),
            Some(base) => return Err(UpdateError::OtherBase { held: self.generation, base }),
        };
        for id in &update.unset {
            vms.remove(id);
        }
        vms.extend(update.set.iter().cloned());
        let next = Assignment { generation: update.generation, vms };
        if next.digest(encode) == update.digest {
            Ok(next)
        } else {
            Err(UpdateError::Digest(update.generation))
        }
    }
}
