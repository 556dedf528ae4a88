//! What a search asks of a host beside its key: rules that count, quotas, what a cluster keeps.
//!
//! Promises: refuses exactly what the filters refuse for these reasons, and adds what broken
//! preferred rules cost. A fault domain or cluster is asked once a block where the block lies in
//! one. Does not: know the request's shape.

use super::dense::Dense;
use super::layout::{Axis, MIXED, NONE};
use super::tree::Test;
use super::views::View;
use crate::fleet::rules::{Bucket, Spoken, Where, breaks, cost};
use berth_model::{Bytes, RuleKind, Scope, Strength};
use std::ops::Range;

/// Most buckets that a search is narrowed to one by one.
const NARROW_MAX: usize = 32;

/// One rule that counts, for one request.
pub struct Rule<'a> {
    pub spoken: &'a Spoken,
    pub view: &'a View,
    /// `None`: each host is its own bucket.
    axis: Option<&'a Axis>,
    /// No host has a domain of its level.
    nowhere: bool,
    required: bool,
    least: u32,
}

/// What the leaf alone cannot tell: several disks, datastores' rules, restart plans.
pub trait Last {
    /// What it adds; `None` if the host is refused.
    fn ask(&mut self, leaf: usize) -> Option<u32>;

    /// Whether it never has anything to say.
    fn is_idle(&self) -> bool {
        false
    }
}

/// Nothing more to ask.
pub struct Done;

impl Last for Done {
    fn ask(&mut self, _: usize) -> Option<u32> {
        Some(0)
    }

    fn is_idle(&self) -> bool {
        true
    }
}

pub struct Checks<'a, L> {
    pub dense: &'a Dense,
    pub rules: Vec<Rule<'a>>,
    /// By cluster: the most that a hypervisor may cost there, so that quota and what is kept stand;
    /// `None` refuses all. Empty where nothing depends on it.
    pub clusters: Vec<Option<Bytes>>,
    pub last: L,
}

impl<'a> Rule<'a> {
    /// `least` is what `Spread` looks at.
    pub fn of(spoken: &'a Spoken, view: &'a View, dense: &'a Dense, least: u32) -> Rule<'a> {
        let axis = spoken.scope().and_then(|scope| dense.layout.axis(scope));
        let required = match spoken.rule.spec.strength {
            Strength::Required => true,
            Strength::Preferred { .. } => false,
        };
        let nowhere = axis.is_none() && matches!(spoken.scope(), Some(Scope::Domain(_)));
        Rule { spoken, view, axis, nowhere, required, least }
    }

    /// What breaks the rule in the bucket of this number.
    fn breaks_in(&self, axis: &Axis, number: u32) -> u32 {
        if number == NONE {
            return breaks(self.spoken, Some(&self.view.group), Where::Nowhere, self.least);
        }
        let number = number as usize;
        let (subjects, peers) = (self.view.subjects[number], self.view.peers[number]);
        let group = &self.view.group;
        let found = match self.spoken.kind() {
            RuleKind::Together { .. } if self.spoken.subject => {
                match (subjects, group.occupied()) {
                    (0, 1..) => group.subjects().max(1),
                    (_, _) => 0,
                }
            }
            RuleKind::Apart { unless_same: None, .. } if self.spoken.subject => subjects,
            RuleKind::Apart { unless_same: Some(_), .. } => {
                if subjects == 0 {
                    0
                } else {
                    self.breaks_at(axis.buckets[number])
                }
            }
            RuleKind::AtMost { count, .. } if self.spoken.subject => {
                (subjects + 1).saturating_sub(*count)
            }
            RuleKind::Spread { max_skew, .. } if self.spoken.subject => {
                (subjects + 1).saturating_sub(self.least.saturating_add(*max_skew))
            }
            RuleKind::Near { .. } if self.spoken.subject => {
                u32::from(peers == 0 && (!self.spoken.peer || group.has_peer_in_bucket()))
            }
            RuleKind::Away { .. } => {
                let of_peers = if self.spoken.subject { peers } else { 0 };
                let of_subjects = if self.spoken.peer { subjects } else { 0 };
                of_peers.saturating_add(of_subjects)
            }
            RuleKind::Together { .. }
            | RuleKind::Apart { .. }
            | RuleKind::AtMost { .. }
            | RuleKind::Spread { .. }
            | RuleKind::Near { .. }
            | RuleKind::Hosts { .. }
            | RuleKind::Datastores { .. } => 0,
        };
        debug_assert_eq!(found, self.breaks_at(axis.buckets[number]));
        found
    }

    fn breaks_at(&self, bucket: Bucket) -> u32 {
        breaks(self.spoken, Some(&self.view.group), Where::In(&[bucket]), self.least)
    }

    fn breaks_on(&self, dense: &Dense, leaf: usize) -> u32 {
        if self.nowhere {
            return breaks(self.spoken, Some(&self.view.group), Where::Nowhere, self.least);
        }
        match (self.axis, dense.layout.hosts[leaf]) {
            (Some(axis), _) => self.breaks_in(axis, axis.of_leaf[leaf]),
            (None, Some(host)) => self.breaks_at(Bucket::host(host)),
            (None, None) => 0,
        }
    }

    /// What it adds to a key, or `None`: refused.
    fn judged(&self, breaks: u32) -> Option<u32> {
        match (breaks, self.required) {
            (0, _) => Some(0),
            (_, true) => None,
            (breaks, false) => Some(cost(self.spoken, breaks)),
        }
    }

    /// The only ranges of leaves that can keep a required rule, where these are few.
    fn narrows(&self, dense: &Dense) -> Option<Vec<Range<usize>>> {
        if !self.required || !self.spoken.subject || self.nowhere {
            return None;
        }
        let group = &self.view.group;
        let by_peers = match self.spoken.kind() {
            RuleKind::Together { .. } if group.occupied() > 0 => false,
            RuleKind::Near { .. } if !self.spoken.peer || group.has_peer_in_bucket() => true,
            RuleKind::Together { .. }
            | RuleKind::Near { .. }
            | RuleKind::Apart { .. }
            | RuleKind::AtMost { .. }
            | RuleKind::Spread { .. }
            | RuleKind::Away { .. }
            | RuleKind::Hosts { .. }
            | RuleKind::Datastores { .. } => return None,
        };
        let mut ranges = Vec::new();
        for (bucket, tally) in group.buckets() {
            let held = if by_peers { tally.peers } else { tally.subjects };
            if held == 0 {
                continue;
            }
            if ranges.len() == NARROW_MAX {
                return None;
            }
            match self.axis {
                Some(axis) => {
                    ranges.extend(axis.number(bucket).map(|number| axis.hulls[number].clone()));
                }
                None => {
                    let host = berth_model::HostId::from_bytes(bucket.0);
                    ranges.extend(dense.layout.leaf(host).map(|leaf| leaf..leaf + 1));
                }
            }
        }
        Some(ranges)
    }
}

impl<L: Last> Checks<'_, L> {
    /// Whether there is anything to ask at all.
    pub fn none(&self) -> bool {
        self.rules.is_empty() && self.clusters.is_empty() && self.last.is_idle()
    }

    /// The only ranges of leaves worth a search; `None` for all.
    pub fn narrowest(&self) -> Option<Vec<Range<usize>>> {
        self.rules.iter().filter_map(|rule| rule.narrows(self.dense)).min_by_key(Vec::len)
    }
}

impl<L: Last> Test for Checks<'_, L> {
    fn block(&mut self, block: usize) -> Option<u32> {
        let mut added = 0_u32;
        if !self.clusters.is_empty() {
            let number = self.dense.layout.clusters.of_block[block];
            if number == NONE || self.clusters.get(number as usize) == Some(&None) {
                return None;
            }
        }
        for rule in &self.rules {
            let Some(axis) = rule.axis else { continue };
            let number = axis.of_block[block];
            if number != MIXED {
                added = added.saturating_add(rule.judged(rule.breaks_in(axis, number))?);
            }
        }
        Some(added)
    }

    fn leaf(&mut self, leaf: usize) -> Option<u32> {
        if !self.clusters.is_empty() {
            let row = &self.dense.rows[leaf];
            let most = self.clusters.get(row.cluster as usize).copied().flatten()?;
            if row.overhead > most {
                return None;
            }
        }
        let mut added = 0_u32;
        for rule in &self.rules {
            added = added.saturating_add(rule.judged(rule.breaks_on(self.dense, leaf))?);
        }
        Some(added.saturating_add(self.last.ask(leaf)?))
    }
}
