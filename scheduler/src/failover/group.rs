//! What forbids a host to a VM beside room: classes of allowed hosts, and anti-affinity groups.
//!
//! Promises: counts of a group per bucket are those of its members that run.
//! Does not: know lost hosts or half-made plans; the planner adds these on top.

use std::collections::BTreeMap;

/// The hosts that VMs of one class may use, by ring position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    words: Vec<u64>,
}

impl Allowed {
    pub(super) fn new(hosts: u32, allowed: impl Fn(u32) -> bool) -> Self {
        let mut words = vec![0; hosts.div_ceil(64) as usize];
        for position in (0..hosts).filter(|position| allowed(*position)) {
            words[position as usize / 64] |= 1 << (position % 64);
        }
        Self { words }
    }

    pub(super) fn contains(&self, position: u32) -> bool {
        self.words[position as usize / 64] >> (position % 64) & 1 == 1
    }

    /// The first allowed position at or after `from`; beyond all hosts if there is none.
    pub(super) fn next(&self, from: u32) -> u32 {
        let mut word = from as usize / 64;
        let mut mask = u64::MAX << (from % 64);
        while let Some(bits) = self.words.get(word) {
            let found = bits & mask;
            if found != 0 {
                return word as u32 * 64 + found.trailing_zeros();
            }
            mask = u64::MAX;
            word += 1;
        }
        u32::MAX
    }
}

/// How hosts fall into buckets: hosts themselves, racks, clusters, datastores.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// By ring position; a host in no bucket takes no member of a group of this scope.
    buckets: Vec<Option<u32>>,
    hosts: BTreeMap<u32, Vec<u32>>,
}

impl Scope {
    pub(super) fn new(buckets: Vec<Option<u32>>) -> Self {
        let mut hosts: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (position, bucket) in buckets.iter().enumerate() {
            if let Some(bucket) = bucket {
                hosts.entry(*bucket).or_default().push(position as u32);
            }
        }
        Self { buckets, hosts }
    }

    pub(super) fn bucket(&self, position: u32) -> Option<u32> {
        self.buckets[position as usize]
    }

    pub(super) fn hosts(&self, bucket: u32) -> &[u32] {
        self.hosts.get(&bucket).map_or(&[], Vec::as_slice)
    }
}

/// At most `limit` members in one bucket of `scope`.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) scope: u32,
    pub(super) limit: u32,
    /// Ascending.
    members: Vec<u32>,
    /// Members per bucket, ascending by bucket, none of zero.
    counts: Vec<(u32, u32)>,
}

impl Group {
    pub(super) fn new(scope: u32, limit: u32) -> Self {
        Self { scope, limit, members: Vec::new(), counts: Vec::new() }
    }

    pub(super) fn members(&self) -> &[u32] {
        &self.members
    }

    pub(super) fn count(&self, bucket: u32) -> u32 {
        self.counts
            .binary_search_by_key(&bucket, |(bucket, _)| *bucket)
            .map_or(0, |at| self.counts[at].1)
    }

    pub(super) fn enter(&mut self, vm: u32, bucket: Option<u32>) {
        if let Err(at) = self.members.binary_search(&vm) {
            self.members.insert(at, vm);
        }
        let Some(bucket) = bucket else { return };
        match self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.counts[at].1 += 1,
            Err(at) => self.counts.insert(at, (bucket, 1)),
        }
    }

    pub(super) fn leave(&mut self, vm: u32, bucket: Option<u32>) {
        if let Ok(at) = self.members.binary_search(&vm) {
            self.members.remove(at);
        }
        let Some(bucket) = bucket else { return };
        if let Ok(at) = self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            self.counts[at].1 -= 1;
            if self.counts[at].1 == 0 {
                self.counts.remove(at);
            }
        }
    }
}
