//! Idempotency keys: one key, one effect.
//!
//! Promises: a command that comes again under its key gets the answer of the first time and
//! changes nothing; another command under the same key is refused. Keys are forgotten ten minutes
//! of leader time after their use, and the oldest sooner when there are more than [`KEYS_MAX`].
//! Does not: keep rejections. A rejected command changed nothing, so trying it again is harmless.

use super::hash::{self, Sum};
use berth_model::change::{Answer, Change};
use berth_model::command::{CommandBody, Principal};
use berth_model::{EndpointId, IdempotencyKey, Rejection, Timestamp};
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(super) const KEYS_MAX: usize = 65_536;
pub(super) const KEPT_MS: u64 = 10 * 60 * 1000;

pub(super) type Fingerprint = [u8; 32];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub fingerprint: Fingerprint,
    pub change: Change,
    pub used_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Keys {
    kept: OrdMap<IdempotencyKey, Kept>,
    /// The same, oldest first.
    by_age: OrdSet<(Timestamp, IdempotencyKey)>,
    hash: Sum,
}

/// What makes two requests the same: who asks, for which endpoint, for what.
pub(super) fn fingerprint(
    principal: &Principal,
    endpoint: EndpointId,
    body: &CommandBody,
) -> Fingerprint {
    Sha256::digest(berth_wire::codec::encode(&(principal, endpoint, body))).into()
}

impl Keys {
    /// The answer to a command whose key was used before.
    pub fn answer(&self, key: &IdempotencyKey, fingerprint: &Fingerprint) -> Option<Answer> {
        let kept = self.kept.get(key)?;
        Some(if kept.fingerprint == *fingerprint {
            Ok(kept.change.clone())
        } else {
            Err(Rejection::KeyReused)
        })
    }

    pub fn keep(
        &mut self,
        key: IdempotencyKey,
        fingerprint: Fingerprint,
        change: Change,
        now: Timestamp,
    ) {
        self.put(key, Kept { fingerprint, change, used_at: now });
        while self.kept.len() > KEYS_MAX {
            let Some((used_at, oldest)) = self.by_age.get_min().copied() else { break };
            self.forget(used_at, oldest);
        }
    }

    pub fn put(&mut self, key: IdempotencyKey, kept: Kept) {
        let used_at = kept.used_at;
        self.hash.add(hash::kept(&(key, &kept)));
        if let Some(before) = self.kept.insert(key, kept) {
            self.hash.take(hash::kept(&(key, &before)));
            self.by_age.remove(&(before.used_at, key));
        }
        self.by_age.insert((used_at, key));
    }

    pub fn expire(&mut self, now: Timestamp) {
        while let Some((used_at, key)) = self.by_age.get_min().copied() {
            if used_at.0.saturating_add(KEPT_MS) > now.0 {
                break;
            }
            self.forget(used_at, key);
        }
    }

    fn forget(&mut self, used_at: Timestamp, key: IdempotencyKey) {
        self.by_age.remove(&(used_at, key));
        if let Some(kept) = self.kept.remove(&key) {
            self.hash.take(hash::kept(&(key, &kept)));
        }
    }

    pub fn hash(&self) -> Sum {
        self.hash
    }

    pub fn iter(&self) -> impl Iterator<Item = (&IdempotencyKey, &Kept)> {
        self.kept.iter()
    }
}
