//! `berth rule`: what keeps container VMs together, apart, spread out, on or off something.

use super::connection::Connection;
use super::refused::told;
use super::{demand, get, output, selector};
use anyhow::{Context, Result};
use berth_client::WriteOptions;
use berth_client::view::{RuleKindView, RulePut, RuleRequest, TermView};

/// Change placement rules; `berth get rules` shows them.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Verb {
    /// Make a rule: `berth rule create web-apart --select app=web apart host`.
    Create(Create),
    /// Put other terms in place of a rule's.
    Replace(Replace),
    /// Delete a rule.
    Delete(Delete),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    /// Unique in its endpoint.
    name: String,
    /// Whose container VMs it speaks of [default: everyone's].
    #[arg(long)]
    endpoint: Option<String>,
    /// Label of the rule itself: name=value; may be given several times.
    #[arg(long, short, value_parser = demand::parse_label)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Replace {
    /// Name or id.
    rule: String,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Delete {
    /// Name or id.
    rule: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Args)]
struct Terms {
    /// Which container VMs, by label: app=web, app=web,api, app!=web, app, !app. All must hold;
    /// may be given several times [default: all].
    #[arg(long, short, value_name = "TERM", value_parser = selector::parse)]
    select: Vec<TermView>,
    /// Within each set of those that have one value of this label.
    #[arg(long, value_name = "LABEL")]
    each: Option<String>,
    /// Preferred, at this cost of a break, 1 to 1000 [default: required].
    #[arg(long)]
    weight: Option<u16>,
}

/// SCOPE is host, cluster, datastore, or a level of fault domains such as domain:rack.
#[derive(Clone, Debug, clap::Subcommand)]
enum Kind {
    /// All in one.
    Together { scope: String },
    /// No two in one.
    Apart {
        scope: String,
        /// Those that share the value of this label may.
        #[arg(long, value_name = "LABEL")]
        unless_same: Option<String>,
    },
    /// At most COUNT in one.
    AtMost { scope: String, count: u32 },
    /// The fullest holds at most MAX_SKEW more than the emptiest.
    Spread {
        scope: String,
        #[arg(default_value_t = 1)]
        max_skew: u32,
    },
    /// Where one of those is placed.
    Near {
        scope: String,
        #[arg(long, value_name = "TERM", required = true, value_parser = selector::parse)]
        with: Vec<TermView>,
    },
    /// Where none of those is placed.
    Away {
        scope: String,
        #[arg(long, value_name = "TERM", required = true, value_parser = selector::parse)]
        from: Vec<TermView>,
    },
    /// Only on these hosts, or with --not only on others.
    Hosts {
        names: Vec<String>,
        #[arg(long)]
        cluster: Vec<String>,
        #[arg(long, value_name = "TERM", value_parser = selector::parse)]
        label: Vec<TermView>,
        #[arg(long)]
        not: bool,
    },
    /// Disks only on these datastores, or with --not only on others.
    Datastores {
        names: Vec<String>,
        #[arg(long)]
        class: Option<String>,
        #[arg(long, value_name = "TERM", value_parser = selector::parse)]
        label: Vec<TermView>,
        #[arg(long)]
        not: bool,
    },
}

impl Kind {
    fn view(self) -> RuleKindView {
        match self {
            Kind::Together { scope } => RuleKindView::Together { scope },
            Kind::Apart { scope, unless_same } => RuleKindView::Apart { scope, unless_same },
            Kind::AtMost { scope, count } => RuleKindView::AtMost { scope, count },
            Kind::Spread { scope, max_skew } => RuleKindView::Spread { scope, max_skew },
            Kind::Near { scope, with } => RuleKindView::Near { scope, with },
            Kind::Away { scope, from } => RuleKindView::Away { scope, from },
            Kind::Hosts { names, cluster, label, not } => {
                RuleKindView::Hosts { names, clusters: cluster, labels: label, not }
            }
            Kind::Datastores { names, class, label, not } => {
                RuleKindView::Datastores { names, class, labels: label, not }
            }
        }
    }
}

pub async fn run(verb: Verb) -> Result<()> {
    let options = WriteOptions::default();
    match verb {
        Verb::Create(Create { name, endpoint, label, terms, connection, kind }) => {
            let request = RuleRequest {
                name,
                endpoint,
                labels: label.into_iter().collect(),
                select: terms.select,
                each: terms.each,
                weight: terms.weight,
                rule: kind.view(),
            };
            let answer = connection.client()?.create_rule(&request, &options).await;
            let view = told(answer).context("the rule was not created")?;
            get::print(&get::RULES, &view, connection.output)
        }
        Verb::Replace(Replace { rule, terms, connection, kind }) => {
            let request = RulePut {
                select: terms.select,
                each: terms.each,
                weight: terms.weight,
                rule: kind.view(),
            };
            let answer = connection.client()?.replace_rule(&rule, &request, &options).await;
            let view = told(answer).with_context(|| format!("`{rule}` was not replaced"))?;
            get::print(&get::RULES, &view, connection.output)
        }
        Verb::Delete(Delete { rule, connection }) => {
            let answer = connection.client()?.delete_rule(&rule, &options).await;
            told(answer).with_context(|| format!("`{rule}` was not deleted"))?;
            output::line(&format!("{rule} deleted"))
        }
    }
}
