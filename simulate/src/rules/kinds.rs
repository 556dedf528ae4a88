//! The kinds of rules that are measured, each as one rule over all groups.
//!
//! Ten requests that come one after the other are a group; the first of them is its anchor. Labels
//! are the same whatever the rule, so that requests of every case are equally large.

use crate::made_up::{FAST, FLASH, RACK};
use berth_model::rule::{DatastoreSelector, HostSelector, Term};
use berth_model::{RuleKind, RuleSpec, Scope, Selector, Strength};
use std::collections::{BTreeMap, BTreeSet};

pub const GROUP: &str = "group";
pub const ROLE: &str = "role";
pub const ANCHOR: &str = "anchor";
const MEMBER: &str = "member";
pub const TIER: &str = "tier";
pub const QUICK: &str = "quick";
const SLOW: &str = "slow";
const GROUP_SIZE: u64 = 10;
/// Of `AtMost`.
pub const AT_MOST: u32 = 2;
/// Of `Spread`.
pub const MAX_SKEW: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No rule.
    Plain,
    /// No two of a group on one host.
    Apart,
    /// A group in one rack.
    Together,
    /// A group evenly over the racks.
    Spread,
    /// Members in a rack where their group's anchor is.
    Near,
    /// Members not on the host of their group's anchor, and the other way round.
    Away,
    /// At most two of a group on one host.
    AtMost,
    /// Quick groups on hosts with flash.
    Hosts,
    /// Quick groups' disks on fast datastores.
    Datastores,
    /// Rather no two of a group on one host.
    PreferredApart,
}

impl Kind {
    /// The plain one first: the others are compared with it.
    pub const ALL: [Kind; 10] = [
        Kind::Plain,
        Kind::Apart,
        Kind::Together,
        Kind::Spread,
        Kind::Near,
        Kind::Away,
        Kind::AtMost,
        Kind::Hosts,
        Kind::Datastores,
        Kind::PreferredApart,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Apart => "apart",
            Kind::Together => "together",
            Kind::Spread => "spread",
            Kind::Near => "near",
            Kind::Away => "away",
            Kind::AtMost => "at-most",
            Kind::Hosts => "hosts",
            Kind::Datastores => "datastores",
            Kind::PreferredApart => "preferred-apart",
        }
    }

    pub fn rule(self) -> Option<RuleSpec> {
        let rack = || Scope::Domain(RACK.to_owned());
        let everyone = Selector::default;
        let (selector, kind) = match self {
            Kind::Plain => return None,
            Kind::Apart | Kind::PreferredApart => {
                (everyone(), RuleKind::Apart { scope: Scope::Host, unless_same: None })
            }
            Kind::Together => (everyone(), RuleKind::Together { scope: rack() }),
            Kind::Spread => (everyone(), RuleKind::Spread { scope: rack(), max_skew: MAX_SKEW }),
            Kind::Near => {
                (has(ROLE, MEMBER), RuleKind::Near { scope: rack(), with: has(ROLE, ANCHOR) })
            }
            Kind::Away => {
                (has(ROLE, MEMBER), RuleKind::Away { scope: Scope::Host, from: has(ROLE, ANCHOR) })
            }
            Kind::AtMost => (everyone(), RuleKind::AtMost { scope: Scope::Host, count: AT_MOST }),
            Kind::Hosts => {
                let within = HostSelector { labels: has(FLASH, "yes"), ..HostSelector::default() };
                (has(TIER, QUICK), RuleKind::Hosts { within, not: false })
            }
            Kind::Datastores => {
                let class = Some(FAST.to_owned());
                let within = DatastoreSelector { class, ..DatastoreSelector::default() };
                (has(TIER, QUICK), RuleKind::Datastores { within, not: false })
            }
        };
        let strength = match self {
            Kind::PreferredApart => Strength::Preferred { weight: 100 },
            Kind::Plain
            | Kind::Apart
            | Kind::Together
            | Kind::Spread
            | Kind::Near
            | Kind::Away
            | Kind::AtMost
            | Kind::Hosts
            | Kind::Datastores => Strength::Required,
        };
        // Rules that count do so within each group; the others count nothing.
        let each = kind.scope().map(|_| GROUP.to_owned());
        Some(RuleSpec { selector, each, strength, kind })
    }
}

/// Of the request with this number.
pub fn labels(number: u64) -> BTreeMap<String, String> {
    let group = number / GROUP_SIZE;
    let role = if number.is_multiple_of(GROUP_SIZE) { ANCHOR } else { MEMBER };
    let tier = if group.is_multiple_of(2) { QUICK } else { SLOW };
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    BTreeMap::from([label(GROUP, &format!("g{group}")), label(ROLE, role), label(TIER, tier)])
}

fn has(name: &str, value: &str) -> Selector {
    let values = BTreeSet::from([value.to_owned()]);
    Selector { terms: vec![Term::In(name.to_owned(), values)] }
}
