//! Placement rules: what keeps container VMs together, apart, spread out, on or off something.

use super::{MetaView, bounds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleView {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub meta: MetaView,
    pub select: Vec<TermView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    pub rule: RuleKindView,
    /// Of one rule; of a list where it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RuleStatusView>,
}

/// How a rule is kept at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleStatusView {
    /// Placed container VMs and reservations that it speaks of.
    pub subjects: u64,
    pub kept: bool,
    /// Where it is broken: the first 100.
    pub broken: Vec<BreachView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreachView {
    /// The host, domain, cluster or datastore; absent for those that stand in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The value of `each`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    /// Ids of those that break it there: the first 100.
    pub who: Vec<String>,
}

/// The body of `POST /v1/rules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleRequest {
    /// Unique in its endpoint.
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub name: String,
    /// Whose container VMs it speaks of; everyone's if absent or `system`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::NAME))]
    pub endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounds::labels")]
    pub labels: BTreeMap<String, String>,
    /// Which container VMs, by label: all terms must hold; without a term, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::TERMS_MAX))]
    pub select: Vec<TermView>,
    /// Within each set of those that have one value of this label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::LABEL_MAX), regex(pattern = bounds::LABEL))]
    pub each: Option<String>,
    /// Preferred, at this cost of a break; required if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u16>,
    pub rule: RuleKindView,
}

/// The body of `PUT /v1/rules/{rule}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulePut {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::TERMS_MAX))]
    pub select: Vec<TermView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::LABEL_MAX), regex(pattern = bounds::LABEL))]
    pub each: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u16>,
    pub rule: RuleKindView,
}

/// One term on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TermView {
    Exists {
        #[schemars(length(min = 1, max = bounds::LABEL_MAX), regex(pattern = bounds::LABEL))]
        label: String,
    },
    Absent {
        #[schemars(length(min = 1, max = bounds::LABEL_MAX), regex(pattern = bounds::LABEL))]
        label: String,
    },
    In {
        #[schemars(length(min = 1, max = bounds::LABEL_MAX), regex(pattern = bounds::LABEL))]
        label: String,
        #[schemars(schema_with = "bounds::values")]
        values: Vec<String>,
    },
    /// Holds where the label is absent, too.
    NotIn {
        #[schemars(length(min = 1, max = bounds::LABEL_MAX), regex(pattern = bounds::LABEL))]
        label: String,
        #[schemars(schema_with = "bounds::values")]
        values: Vec<String>,
    },
}

/// What a rule demands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RuleKindView {
    /// All in one.
    Together {
        #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::SCOPE))]
        scope: String,
    },
    /// No two in one; with a label in `unless_same`, those that share its value may.
    Apart {
        #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::SCOPE))]
        scope: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = bounds::LABEL_MAX), regex(pattern = bounds::LABEL))]
        unless_same: Option<String>,
    },
    /// At most `count` in one.
    AtMost {
        #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::SCOPE))]
        scope: String,
        #[schemars(range(min = 1, max = bounds::COUNT_MAX))]
        count: u32,
    },
    /// The fullest holds at most `max_skew` more than the emptiest.
    Spread {
        #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::SCOPE))]
        scope: String,
        #[schemars(range(min = 1, max = bounds::COUNT_MAX))]
        max_skew: u32,
    },
    /// Where one that `with` selects is placed.
    Near {
        #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::SCOPE))]
        scope: String,
        #[schemars(length(max = bounds::TERMS_MAX))]
        with: Vec<TermView>,
    },
    /// Where none that `from` selects is placed.
    Away {
        #[schemars(length(min = 1, max = bounds::NAME_MAX), regex(pattern = bounds::SCOPE))]
        scope: String,
        #[schemars(length(max = bounds::TERMS_MAX))]
        from: Vec<TermView>,
    },
    /// Only on these hosts, or with `not` only on others.
    Hosts {
        /// Names; without one, all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(schema_with = "bounds::any_names")]
        names: Vec<String>,
        /// Names of clusters; without one, all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(schema_with = "bounds::any_names")]
        clusters: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = bounds::TERMS_MAX))]
        labels: Vec<TermView>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        not: bool,
    },
    /// Disks only on these datastores, or with `not` only on others.
    Datastores {
        /// Names or ids; without one, all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(schema_with = "bounds::any_names")]
        names: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = bounds::TERM_VALUE_MAX))]
        class: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = bounds::TERMS_MAX))]
        labels: Vec<TermView>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        not: bool,
    },
}

impl RuleKindView {
    /// One word for tables.
    pub const fn kind(&self) -> &'static str {
        match self {
            RuleKindView::Together { .. } => "together",
            RuleKindView::Apart { .. } => "apart",
            RuleKindView::AtMost { .. } => "at-most",
            RuleKindView::Spread { .. } => "spread",
            RuleKindView::Near { .. } => "near",
            RuleKindView::Away { .. } => "away",
            RuleKindView::Hosts { .. } => "hosts",
            RuleKindView::Datastores { .. } => "datastores",
        }
    }
}
