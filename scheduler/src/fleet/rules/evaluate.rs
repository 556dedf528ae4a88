//! Whether a placement keeps a rule, from counts alone.
//!
//! Promises: pure and fleet-free; [`allows`] is [`breaks`] being zero, so what is required and what
//! is preferred read the same rule the same way. A break counts pairs where the rule is about
//! pairs (`Together`, `Apart`, `Away`) and the excess where it is about a number (`AtMost`,
//! `Spread`).

use super::levels::Level;
use super::{Bucket, Group, Spoken};
use berth_model::rule::{DatastoreSelector, HostSelector};
use berth_model::{Datastore, Host, RuleKind, Strength};

/// The buckets of one placement in the scope of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where<'a> {
    /// The host has no fault domain of the rule's level. That is a break of each rule that
    /// restricts it.
    Nowhere,
    /// One bucket, or for datastores each once; none where there is no disk, and the rule is kept.
    In(&'a [Bucket]),
}

/// Whether a placement there keeps the rule; see [`breaks`].
pub fn allows(spoken: &Spoken, group: Option<&Group>, place: Where<'_>, least: u32) -> bool {
    breaks(spoken, group, place, least) == 0
}

/// How often a placement there would break the rule, given the counts without it. `least` is the
/// fewest subjects of any bucket that could take it, see [`least`]; only `Spread` looks at it.
/// `Hosts` and `Datastores` count nothing and are kept here; ask [`host_breaks`] and
/// [`datastore_breaks`].
pub fn breaks(spoken: &Spoken, group: Option<&Group>, place: Where<'_>, least: u32) -> u32 {
    let Where::In(buckets) = place else { return u32::from(restricts(spoken)) };
    if buckets.is_empty() {
        return 0;
    }
    match spoken.kind() {
        RuleKind::Together { .. } if spoken.subject => together(group, buckets),
        RuleKind::Apart { .. } if spoken.subject => {
            worst(buckets, |bucket| others(group, bucket, spoken.same.as_deref()))
        }
        RuleKind::AtMost { count, .. } if spoken.subject => {
            worst(buckets, |bucket| (subjects(group, bucket) + 1).saturating_sub(*count))
        }
        RuleKind::Spread { max_skew, .. } if spoken.subject => worst(buckets, |bucket| {
            (subjects(group, bucket) + 1).saturating_sub(least.saturating_add(*max_skew))
        }),
        RuleKind::Near { .. } if spoken.subject => {
            // One that is its own company is the first of its kind, and free to choose.
            if spoken.peer && group.is_none_or(|group| !group.has_peer_in_bucket()) {
                return 0;
            }
            worst(buckets, |bucket| u32::from(peers(group, bucket) == 0))
        }
        RuleKind::Away { .. } => worst(buckets, |bucket| {
            let of_peers = if spoken.subject { peers(group, bucket) } else { 0 };
            let of_subjects = if spoken.peer { subjects(group, bucket) } else { 0 };
            of_peers.saturating_add(of_subjects)
        }),
        RuleKind::Together { .. }
        | RuleKind::Apart { .. }
        | RuleKind::AtMost { .. }
        | RuleKind::Spread { .. }
        | RuleKind::Near { .. }
        | RuleKind::Hosts { .. }
        | RuleKind::Datastores { .. } => 0,
    }
}

/// What so many breaks of the rule cost in the score.
pub fn cost(spoken: &Spoken, breaks: u32) -> u32 {
    match spoken.rule.spec.strength {
        Strength::Required => 0,
        Strength::Preferred { weight } => breaks.saturating_mul(u32::from(weight)),
    }
}

/// Whether a placement of this one can break the rule at all: a peer of `Near` breaks nothing.
fn restricts(spoken: &Spoken) -> bool {
    match spoken.kind() {
        RuleKind::Away { .. } => true,
        RuleKind::Together { .. }
        | RuleKind::Apart { .. }
        | RuleKind::AtMost { .. }
        | RuleKind::Spread { .. }
        | RuleKind::Near { .. } => spoken.subject,
        RuleKind::Hosts { .. } | RuleKind::Datastores { .. } => false,
    }
}

/// Subjects elsewhere. Where they already stand in several buckets, each of those is as good as
/// any: one more does not make the rule more broken.
fn together(group: Option<&Group>, buckets: &[Bucket]) -> u32 {
    let Some(group) = group.filter(|group| group.occupied() > 0) else {
        return u32::try_from(buckets.len()).unwrap_or(u32::MAX) - 1;
    };
    worst(buckets, |bucket| match group.subjects_in(bucket) {
        0 => group.subjects().max(1),
        _ => 0,
    })
}

/// Subjects in the bucket that do not share this one's value.
fn others(group: Option<&Group>, bucket: Bucket, same: Option<&str>) -> u32 {
    let Some(tally) = group.and_then(|group| group.tally(bucket)) else { return 0 };
    let sharing = same.and_then(|value| tally.same.get(value)).copied().unwrap_or(0);
    tally.subjects - sharing
}

fn subjects(group: Option<&Group>, bucket: Bucket) -> u32 {
    group.map_or(0, |group| group.subjects_in(bucket))
}

fn peers(group: Option<&Group>, bucket: Bucket) -> u32 {
    group.map_or(0, |group| group.peers_in(bucket))
}

fn worst(buckets: &[Bucket], breaks: impl Fn(Bucket) -> u32) -> u32 {
    buckets.iter().map(|bucket| breaks(*bucket)).max().unwrap_or(0)
}

/// The fewest subjects of any bucket of `level` that is open, where a request takes any of them.
/// Zero where none is.
///
/// Costs as much as there are buckets without an open host, and where one of those holds a
/// subject, as there are buckets that hold one.
pub fn least(group: Option<&Group>, level: &Level) -> u32 {
    let Some(group) = group else { return 0 };
    let occupied_shut = level.shut().filter(|bucket| group.subjects_in(*bucket) > 0).count() as u64;
    let occupied_open = u64::from(group.occupied()).saturating_sub(occupied_shut);
    if occupied_open < u64::from(level.open()) {
        return 0;
    }
    if occupied_shut == 0 {
        return group.lowest().unwrap_or(0);
    }
    let open = group.buckets().filter(|(bucket, _)| !level.is_shut(*bucket));
    open.map(|(_, tally)| tally.subjects).filter(|subjects| *subjects > 0).min().unwrap_or(0)
}

/// Breaks of a `Hosts` rule by a placement on `host`: 0 or 1.
pub fn host_breaks(spoken: &Spoken, host: &Host, cluster: &str) -> u32 {
    match spoken.kind() {
        RuleKind::Hosts { within, not } if spoken.subject => {
            u32::from(host_matches(within, host, cluster) == *not)
        }
        RuleKind::Hosts { .. }
        | RuleKind::Together { .. }
        | RuleKind::Apart { .. }
        | RuleKind::AtMost { .. }
        | RuleKind::Spread { .. }
        | RuleKind::Near { .. }
        | RuleKind::Away { .. }
        | RuleKind::Datastores { .. } => 0,
    }
}

/// Breaks of a `Datastores` rule by a disk on `datastore`: 0 or 1.
pub fn datastore_breaks(spoken: &Spoken, datastore: &Datastore) -> u32 {
    match spoken.kind() {
        RuleKind::Datastores { within, not } if spoken.subject => {
            u32::from(datastore_matches(within, datastore) == *not)
        }
        RuleKind::Datastores { .. }
        | RuleKind::Together { .. }
        | RuleKind::Apart { .. }
        | RuleKind::AtMost { .. }
        | RuleKind::Spread { .. }
        | RuleKind::Near { .. }
        | RuleKind::Away { .. }
        | RuleKind::Hosts { .. } => 0,
    }
}

/// `cluster` is the name of the host's.
pub fn host_matches(selector: &HostSelector, host: &Host, cluster: &str) -> bool {
    (selector.names.is_empty() || selector.names.contains(&host.facts.name))
        && (selector.clusters.is_empty() || selector.clusters.contains(cluster))
        && selector.labels.matches(&host.facts.labels)
}

pub fn datastore_matches(selector: &DatastoreSelector, datastore: &Datastore) -> bool {
    (selector.ids.is_empty() || selector.ids.contains(&datastore.id))
        && selector.class.as_ref().is_none_or(|class| *class == datastore.class)
        && selector.labels.matches(&datastore.meta.labels)
}
