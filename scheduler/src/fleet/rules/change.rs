//! Rules come and go.
//!
//! Promises: a rule that comes counts what is placed already, broken or not; names are unique in
//! the endpoint that owns the rule.

use crate::fleet::bootstrap::id_taken;
use crate::fleet::names::{check_name, taken};
use crate::fleet::{At, Fleet, hash};
use berth_model::change::{Answer, Change};
use berth_model::command::NewRule;
use berth_model::event::{Subject, What};
use berth_model::rejection::NameKind;
use berth_model::rule::Term;
use berth_model::{
    EndpointId, Rejection, Rule, RuleId, RuleKind, RuleSpec, Scope, Selector, Strength,
};
use std::sync::Arc;

/// Longest name of a label, a level or a host, and longest value, in bytes.
const TEXT_MAX: usize = 255;
/// Most values of one term, and most names of one selector of hosts or datastores.
const VALUES_MAX: usize = 1024;

impl Fleet {
    pub(in super::super) fn create_rule(&mut self, at: At, new: NewRule) -> Answer {
        let owner = at.endpoint;
        if owner != EndpointId::SYSTEM && !self.endpoints.contains_key(&owner) {
            return Err(Rejection::NoSuchEndpoint);
        }
        check_name(NameKind::Rule, &new.name)?;
        check_spec(&new.spec)?;
        if self.names.rules.contains_key(&(owner, new.name.clone())) {
            return Err(taken(NameKind::Rule, &new.name));
        }
        if self.rules.rules.contains_key(&new.id) {
            return Err(id_taken("rule id", &new.id));
        }
        let meta = at.meta(owner, new.labels);
        let rule = Rule { id: new.id, name: new.name, spec: new.spec, meta };
        self.names.rules.insert((owner, rule.name.clone()), rule.id);
        self.put_rule(Arc::new(rule));
        self.tell(at, owner, Subject::Rule(new.id), What::Created);
        Ok(Change::RuleCreated { rule: new.id })
    }

    pub(in super::super) fn replace_rule(&mut self, at: At, id: RuleId, spec: RuleSpec) -> Answer {
        let before = self.own_rule(at, id)?;
        if before.spec == spec {
            return Ok(Change::Nothing);
        }
        check_spec(&spec)?;
        let mut rule = Rule::clone(before);
        rule.spec = spec;
        rule.meta.modified = at.index;
        let owner = rule.meta.endpoint;
        self.put_rule(Arc::new(rule));
        self.note_opportunity(at.index);
        self.tell(at, owner, Subject::Rule(id), What::Changed);
        Ok(Change::RuleReplaced { rule: id })
    }

    pub(in super::super) fn remove_rule(&mut self, at: At, id: RuleId) -> Answer {
        let rule = self.own_rule(at, id)?;
        let (owner, name) = (rule.meta.endpoint, rule.name.clone());
        self.names.rules.remove(&(owner, name));
        if let Some(before) = self.rules.take(id) {
            self.hash.take(hash::rule(&before));
        }
        self.forget_counts(id);
        self.topology_changed();
        self.note_opportunity(at.index);
        self.tell(at, owner, Subject::Rule(id), What::Removed);
        Ok(Change::RuleRemoved { rule: id })
    }

    fn own_rule(&self, at: At, id: RuleId) -> Result<&Rule, Rejection> {
        self.rule(id)
            .filter(|rule| at.may_touch(rule.meta.endpoint))
            .ok_or(Rejection::NoSuchRule(id))
    }

    fn put_rule(&mut self, rule: Arc<Rule>) {
        if let Some(before) = self.rules.rules.get(&rule.id) {
            self.hash.take(hash::rule(before));
        }
        self.hash.add(hash::rule(&rule));
        self.rules.put(Arc::clone(&rule));
        self.recount(&rule);
        self.topology_changed();
    }
}

fn check_spec(spec: &RuleSpec) -> Result<(), Rejection> {
    check_selector(&spec.selector)?;
    if let Some(each) = &spec.each {
        check_text("label", each)?;
    }
    if let Strength::Preferred { weight } = spec.strength
        && !(1..=1000).contains(&weight)
    {
        return Err(invalid("rule weight", &weight.to_string(), "1 to 1000"));
    }
    if let Some(Scope::Domain(level)) = spec.kind.scope() {
        check_text("fault domain level", level)?;
    }
    match &spec.kind {
        RuleKind::Together { .. } => Ok(()),
        RuleKind::Apart { unless_same, .. } => {
            unless_same.as_ref().map_or(Ok(()), |label| check_text("label", label))
        }
        RuleKind::AtMost { count, .. } => at_least_one("count", *count),
        RuleKind::Spread { max_skew, .. } => at_least_one("max skew", *max_skew),
        RuleKind::Near { with, .. } => check_selector(with),
        RuleKind::Away { from, .. } => check_selector(from),
        RuleKind::Hosts { within, .. } => {
            check_texts("host name", &within.names)?;
            check_texts("cluster name", &within.clusters)?;
            check_selector(&within.labels)
        }
        RuleKind::Datastores { within, .. } => {
            check_count("datastore ids", within.ids.len())?;
            if let Some(class) = &within.class {
                check_text("datastore class", class)?;
            }
            check_selector(&within.labels)
        }
    }
}

fn check_selector(selector: &Selector) -> Result<(), Rejection> {
    if selector.terms.len() > Selector::TERMS_MAX {
        let rule = format!("at most {}", Selector::TERMS_MAX);
        return Err(invalid("number of terms", &selector.terms.len().to_string(), &rule));
    }
    for term in &selector.terms {
        match term {
            Term::Exists(name) | Term::Absent(name) => check_text("label", name)?,
            Term::In(name, values) | Term::NotIn(name, values) => {
                check_text("label", name)?;
                check_count("values of a label", values.len())?;
                if values.iter().any(|value| value.len() > TEXT_MAX) {
                    return Err(invalid("label value", "too long", "at most 255 characters"));
                }
            }
        }
    }
    Ok(())
}

fn check_texts<'a>(
    what: &str,
    texts: impl IntoIterator<Item = &'a String, IntoIter: ExactSizeIterator>,
) -> Result<(), Rejection> {
    let texts = texts.into_iter();
    if texts.len() > VALUES_MAX {
        let rule = format!("at most {VALUES_MAX}");
        return Err(invalid(&format!("number of {what}s"), &texts.len().to_string(), &rule));
    }
    texts.into_iter().try_for_each(|text| check_text(what, text))
}

fn check_count(what: &str, count: usize) -> Result<(), Rejection> {
    if count <= VALUES_MAX {
        return Ok(());
    }
    let rule = format!("at most {VALUES_MAX}");
    Err(invalid(&format!("number of {what}"), &count.to_string(), &rule))
}

fn check_text(what: &str, text: &str) -> Result<(), Rejection> {
    if text.is_empty() || text.len() > TEXT_MAX {
        return Err(invalid(what, text, "1 to 255 characters"));
    }
    Ok(())
}

fn at_least_one(what: &str, count: u32) -> Result<(), Rejection> {
    if count == 0 { Err(invalid(what, "0", "1 or more")) } else { Ok(()) }
}

fn invalid(what: &str, value: &str, rule: &str) -> Rejection {
    Rejection::Invalid {
        what: what.to_owned(),
        value: value.chars().take(80).collect(),
        rule: rule.to_owned(),
    }
}
