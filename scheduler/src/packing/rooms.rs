//! Who has how much free, so that a place is found among distinct free vectors, not among hosts.
//!
//! Promises: [`Rooms::best`] looks at every open host's free vector once per distinct vector; ties
//! go to the lowest host. [`Rooms::take`] and [`Rooms::give`] undo each other exactly.
//! Does not: know rules; the caller says who is allowed.

use super::guide::Guide;
use berth_model::{Bytes, MilliCpus, Resources};
use std::collections::{BTreeMap, BTreeSet};

/// Free room of all hosts, and the open ones (those that may receive) by what they have free.
#[derive(Clone, Debug)]
pub struct Rooms {
    free: Vec<Resources>,
    open: Vec<bool>,
    by_free: BTreeMap<(u64, u64), BTreeSet<usize>>,
}

impl Rooms {
    pub fn new(rooms: impl IntoIterator<Item = (Resources, bool)>) -> Rooms {
        let (free, open): (Vec<_>, Vec<_>) = rooms.into_iter().unzip();
        let mut rooms = Rooms { open: vec![false; open.len()], free, by_free: BTreeMap::new() };
        for (host, open) in open.into_iter().enumerate() {
            if open {
                rooms.open(host);
            }
        }
        rooms
    }

    pub fn free(&self, host: usize) -> Resources {
        self.free[host]
    }

    pub fn is_open(&self, host: usize) -> bool {
        self.open[host]
    }

    pub fn open(&mut self, host: usize) {
        if !self.open[host] {
            self.open[host] = true;
            self.by_free.entry(key(self.free[host])).or_default().insert(host);
        }
    }

    pub fn close(&mut self, host: usize) {
        if self.open[host] {
            self.open[host] = false;
            self.forget(host);
        }
    }

    /// `charge` comes onto `host`, where it fits.
    pub fn take(&mut self, host: usize, charge: Resources) {
        self.set(host, self.free[host] - charge);
    }

    /// `charge` leaves `host`.
    pub fn give(&mut self, host: usize, charge: Resources) {
        self.set(host, self.free[host] + charge);
    }

    /// The open host where `charge` costs least by `guide`, then with least left, then the first.
    pub fn best(
        &self,
        guide: &Guide,
        charge: Resources,
        allowed: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best: Option<((u32, u64, u64), usize)> = None;
        for (free, hosts) in self.by_free.range((charge.cpu.0, 0)..) {
            if free.1 < charge.memory.0 {
                continue;
            }
            let room = Resources { cpu: MilliCpus(free.0), memory: Bytes(free.1) };
            let rank = (guide.cost(room, charge), free.0, free.1);
            if best.is_some_and(|(least, _)| rank >= least) {
                continue;
            }
            if let Some(host) = hosts.iter().copied().find(|&host| allowed(host)) {
                best = Some((rank, host));
            }
        }
        best.map(|(_, host)| host)
    }

    /// Open hosts where `charge` does not fit, but would once something small left: the ones that
    /// lack least first.
    pub fn nearly(&self, charge: Resources, most: usize) -> Vec<usize> {
        let lack = |free: &(u64, u64)| {
            share(charge.cpu.0.saturating_sub(free.0), charge.cpu.0)
                + share(charge.memory.0.saturating_sub(free.1), charge.memory.0)
        };
        let mut near: Vec<(u64, &BTreeSet<usize>)> = self
            .by_free
            .iter()
            .map(|(free, hosts)| (lack(free), hosts))
            .filter(|(lack, _)| *lack > 0)
            .collect();
        near.sort_by_key(|(lack, _)| *lack);
        near.into_iter().flat_map(|(_, hosts)| hosts.iter().copied()).take(most).collect()
    }

    fn set(&mut self, host: usize, free: Resources) {
        if !self.open[host] {
            self.free[host] = free;
            return;
        }
        self.forget(host);
        self.free[host] = free;
        self.by_free.entry(key(free)).or_default().insert(host);
    }

    fn forget(&mut self, host: usize) {
        let key = key(self.free[host]);
        if let Some(hosts) = self.by_free.get_mut(&key) {
            hosts.remove(&host);
            if hosts.is_empty() {
                self.by_free.remove(&key);
            }
        }
    }
}

fn key(free: Resources) -> (u64, u64) {
    (free.cpu.0, free.memory.0)
}

/// `part` of `whole` in millionths.
fn share(part: u64, whole: u64) -> u64 {
    let share = (u128::from(part) * 1_000_000).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX)
}
