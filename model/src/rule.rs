//! Placement rules: what keeps container VMs together, apart, spread out, on or off something.
//!
//! A rule speaks of the container VMs (and reservations) that its selector matches, of one
//! endpoint or, owned by `system`, of all. It counts them in buckets of a scope: hosts, fault
//! domains of one level, clusters or datastores. A host that has no domain of the level is in no
//! bucket: a required rule over that level refuses it.
//!
//! Does not: act. A rule that was kept at placing and is broken later is reported.

use crate::ids::{DatastoreId, RuleId};
use crate::meta::Meta;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: RuleId,
    /// Unique in its endpoint.
    pub name: String,
    pub spec: RuleSpec,
    /// `meta.endpoint` is whose container VMs it speaks of; `system` means everyone's.
    pub meta: Meta,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSpec {
    pub selector: Selector,
    /// With a label's name here, the rule holds within each set of those that have one value of
    /// it; without the label, one is not spoken of.
    pub each: Option<String>,
    pub strength: Strength,
    pub kind: RuleKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strength {
    /// Nothing is placed against it.
    Required,
    /// A break costs this much in the score: 1 to 1,000.
    Preferred { weight: u16 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleKind {
    /// All in one bucket. The first is free to choose.
    Together { scope: Scope },
    /// No two in one bucket; with a label's name in `unless_same`, those that share its value may.
    Apart { scope: Scope, unless_same: Option<String> },
    /// At most `count` in one bucket, 1 or more.
    AtMost { scope: Scope, count: u32 },
    /// Among buckets that could take one, the fullest holds at most `max_skew` (1 or more) more
    /// than the emptiest.
    Spread { scope: Scope, max_skew: u32 },
    /// In a bucket where one that `with` matches is placed already.
    Near { scope: Scope, with: Selector },
    /// In no bucket where one that `from` matches is placed, and the other way round.
    Away { scope: Scope, from: Selector },
    /// Only on hosts (`within`) that match, or only on others.
    Hosts { within: HostSelector, not: bool },
    /// Delta and other disks only on datastores that match, or only on others.
    Datastores { within: DatastoreSelector, not: bool },
}

impl RuleKind {
    /// What it counts in; `None` for those that look at the host or datastore alone.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            RuleKind::Together { scope }
            | RuleKind::Apart { scope, .. }
            | RuleKind::AtMost { scope, .. }
            | RuleKind::Spread { scope, .. }
            | RuleKind::Near { scope, .. }
            | RuleKind::Away { scope, .. } => Some(scope),
            RuleKind::Hosts { .. } | RuleKind::Datastores { .. } => None,
        }
    }

    /// One word for tables, metrics and explanations.
    pub const fn name(&self) -> &'static str {
        match self {
            RuleKind::Together { .. } => "together",
            RuleKind::Apart { .. } => "apart",
            RuleKind::AtMost { .. } => "at-most",
            RuleKind::Spread { .. } => "spread",
            RuleKind::Near { .. } => "near",
            RuleKind::Away { .. } => "away",
            RuleKind::Hosts { .. } => "hosts",
            RuleKind::Datastores { .. } => "datastores",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    Host,
    /// A level of `Supply::domain`, by name.
    Domain(String),
    Cluster,
    /// Where disks lie: the delta's datastore and those of other disks.
    Datastore,
}

/// Which container VMs, by label. All terms must hold; none matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    pub terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Term {
    Exists(String),
    Absent(String),
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
}

impl Selector {
    pub const TERMS_MAX: usize = 16;

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.terms.iter().all(|term| term.holds(labels))
    }
}

impl Term {
    /// `NotIn` holds where the label is absent.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Term::Exists(name) => labels.contains_key(name),
            Term::Absent(name) => !labels.contains_key(name),
            Term::In(name, values) => labels.get(name).is_some_and(|value| values.contains(value)),
            Term::NotIn(name, values) => {
                labels.get(name).is_none_or(|value| !values.contains(value))
            }
        }
    }
}

/// Which hosts: those named, and of them those whose labels match. Empty names mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSelector {
    pub names: BTreeSet<String>,
    /// Names of clusters.
    pub clusters: BTreeSet<String>,
    pub labels: Selector,
}

/// Which datastores: those named, and of them those whose labels match. Empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreSelector {
    pub ids: BTreeSet<DatastoreId>,
    pub class: Option<String>,
    pub labels: Selector,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_wants_every_term() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let set = |value: &str| BTreeSet::from([value.to_owned()]);
        let web = Term::In("app".to_owned(), set("web"));
        let check = |terms: Vec<Term>| Selector { terms }.matches(&labels);
        assert!(check(vec![]));
        assert!(check(vec![web.clone(), Term::Absent("tier".to_owned())]));
        assert!(!check(vec![web, Term::Exists("tier".to_owned())]));
        assert!(check(vec![Term::NotIn("tier".to_owned(), set("db"))]));
        assert!(!check(vec![Term::NotIn("app".to_owned(), set("web"))]));
    }
}
