//! All requests of the Huawei trace with all its rules, one after the other; nothing leaves.
//!
//! Promises: each refusal is asked of a plain scan again, and sorted by what would have let it in:
//! without its rules, without its NUMA binding, or nothing but more room. Rules and capacity are
//! counted again at the end, from the places alone.

use super::BENCH;
use crate::cell::{self, Cell, ENDPOINT};
use crate::checks::{none_of, over_capacity};
use crate::engine::{Commits, Engine, EngineError, Held};
use crate::sheet::Sheet;
use crate::trace::huawei::{Grouped, Huawei, RACK, Request};
use berth_model::rule::Term;
use berth_model::{
    Demand, Host, HostId, PlacementWish, RuleKind, RuleSpec, Scope, Selector, Strategy, Strength,
};
use berth_scheduler::Fleet;
use berth_scheduler::placement::{Ask, Guides, scan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const GROUP: &str = "group";
const KEEP: &str = "keep";
const DOMAIN: &str = "domain";

/// Why there was no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// Without its rule there was one.
    Rule,
    /// Without its NUMA binding there was one.
    Numa,
    Room,
}

impl Reason {
    const ALL: [(Reason, &'static str); 3] = [
        (Reason::Rule, "refused_for_its_rule"),
        (Reason::Numa, "refused_for_numa"),
        (Reason::Room, "refused_for_room"),
    ];
}

pub fn run(trace: &Huawei, batch: u32, seed: u64) -> Result<Sheet, EngineError> {
    let about = format!(
        "the Huawei trace: {} requests in the order of the file on {} hosts of two NUMA nodes, \
         with affinity, anti-affinity and fault domains; in memory, no log, no network",
        trace.requests.len(),
        trace.hosts.len()
    );
    let mut sheet = Sheet::new(BENCH, about);
    for (strategy, case) in [
        (Strategy::Pack, "huawei-pack"),
        (Strategy::Spread, "huawei-spread"),
        (Strategy::Balance, "huawei-balance"),
    ] {
        Replay::new(trace, strategy, seed)?.run(batch)?.tell(&mut sheet, case);
    }
    Ok(sheet)
}

struct Replay<'a> {
    trace: &'a Huawei,
    engine: Engine,
    /// Each with its place, in the order of the file.
    placed: Vec<(Request, HostId)>,
    reasons: BTreeMap<Reason, u64>,
    wrong: Vec<String>,
}

impl<'a> Replay<'a> {
    fn new(trace: &'a Huawei, strategy: Strategy, seed: u64) -> Result<Self, EngineError> {
        let facts = trace.hosts.iter().map(|host| host.facts());
        let mut engine = Engine::new(Cell::of(facts, cell::policy(strategy)), seed)?;
        for (name, spec) in rules() {
            engine.commits().add_rule(name, spec)?;
        }
        let (placed, reasons, wrong) = Default::default();
        Ok(Replay { trace, engine, placed, reasons, wrong })
    }

    fn run(mut self, batch: u32) -> Result<Self, EngineError> {
        let batch = usize::try_from(batch.max(1)).unwrap_or(1);
        let trace = self.trace;
        for requests in trace.requests.chunks(batch) {
            let wishes: Vec<_> = requests.iter().map(wish).collect();
            let before = self.engine.commits().snapshot();
            let held = self.engine.place(&wishes)?;
            let hosts = held.iter().map(|held| held.as_ref().map(|held| held.place.host));
            let places = requests.iter().zip(hosts);
            self.placed.extend(places.filter_map(|(request, host)| Some((*request, host?))));
            if held.iter().any(Option::is_none) {
                let trial = Commits::from_fleet(Arc::unwrap_or_clone(before));
                self.sort_refusals(trial, &wishes, &held)?;
            }
        }
        Ok(self)
    }

    fn sort_refusals(
        &mut self,
        mut trial: Commits,
        wishes: &[Arc<PlacementWish>],
        held: &[Option<Held>],
    ) -> Result<(), EngineError> {
        for (wish, held) in wishes.iter().zip(held) {
            if let Some(held) = held {
                trial.hold(wish, held)?;
                continue;
            }
            let fits = |wish: &PlacementWish| {
                let ask = Ask::hold(ENDPOINT, wish);
                scan::decide(trial.fleet(), &Guides::default(), &ask)
            };
            if let Some(place) = fits(wish) {
                self.wrong.push(format!("{} would have done", place.host));
            }
            let mut free = PlacementWish { demand: wish.demand.clone(), labels: BTreeMap::new() };
            let reason = if fits(&free).is_some() {
                Reason::Rule
            } else {
                free.demand = Demand { numa: None, ..free.demand };
                if fits(&free).is_some() { Reason::Numa } else { Reason::Room }
            };
            *self.reasons.entry(reason).or_default() += 1;
        }
        Ok(())
    }

    fn tell(&self, sheet: &mut Sheet, case: &str) {
        let (fleet, spent) = (self.engine.fleet(), self.engine.spent);
        let each = spent.cpu().as_secs_f64() * 1e6 / spent.decisions.max(1) as f64;
        sheet.figure(case, "cpu_us_per_decision", each, "us");
        sheet.figure(case, "placed", spent.decisions as f64, "count");
        sheet.figure(case, "refused", spent.refused as f64, "count");
        for (reason, name) in Reason::ALL {
            let count = self.reasons.get(&reason).copied().unwrap_or(0);
            sheet.figure(case, name, count as f64, "count");
        }
        let violations = violations(fleet, &self.placed);
        sheet.figure(case, "violations", violations.len() as f64, "count");
        let detail = "groups counted again from the places";
        sheet.check(case, "no_violation", none_of(&violations, detail));
        let over = over_capacity(fleet);
        let detail = "hosts and their NUMA nodes recounted at the end";
        sheet.check(case, "nothing_over_capacity", none_of(&over, detail));
        let invariants = fleet.check_invariants();
        sheet.check(case, "invariants", invariants.map(|()| "at the end".to_owned()));
        let detail = "a plain scan found no host for any of them either";
        sheet.check(case, "refusals_are_right", none_of(&self.wrong, detail));
        let answered = spent.decisions + spent.refused == self.trace.requests.len() as u64;
        let detail = format!("{} placed, {} refused", spent.decisions, spent.refused);
        sheet.check(case, "all_answered", if answered { Ok(detail) } else { Err(detail) });
    }
}

fn wish(request: &Request) -> Arc<PlacementWish> {
    let label = |name: &str, value: String| (name.to_owned(), value);
    let labels = match request.rule {
        None => BTreeMap::new(),
        Some(Grouped::Affinity { group }) => BTreeMap::from([
            label(KEEP, "together".to_owned()),
            label(GROUP, format!("affinity-{group}")),
        ]),
        Some(Grouped::AntiAffinity { group }) => BTreeMap::from([
            label(KEEP, "apart".to_owned()),
            label(GROUP, format!("anti-affinity-{group}")),
        ]),
        Some(Grouped::FaultDomain { group, domain }) => BTreeMap::from([
            label(KEEP, "domains".to_owned()),
            label(GROUP, format!("fault-domain-{group}")),
            label(DOMAIN, domain.to_string()),
        ]),
    };
    Arc::new(PlacementWish { demand: request.demand(), labels })
}

fn rules() -> [(&'static str, RuleSpec); 3] {
    let rack = || Scope::Domain(RACK.to_owned());
    let rule = |keep: &str, kind: RuleKind| {
        let term = Term::In(KEEP.to_owned(), BTreeSet::from([keep.to_owned()]));
        let selector = Selector { terms: vec![term] };
        RuleSpec { selector, each: Some(GROUP.to_owned()), strength: Strength::Required, kind }
    };
    let unless_same = Some(DOMAIN.to_owned());
    [
        ("affinity", rule("together", RuleKind::Together { scope: rack() })),
        ("anti-affinity", rule("apart", RuleKind::Apart { scope: Scope::Host, unless_same: None })),
        ("fault-domain", rule("domains", RuleKind::Apart { scope: rack(), unless_same })),
    ]
}

/// Counted from the trace's own words, not from labels and rules.
fn violations(fleet: &Fleet, placed: &[(Request, HostId)]) -> Vec<String> {
    let rack_of = |host: &Host| {
        host.facts
            .supply
            .domain
            .iter()
            .find(|(level, _)| level == RACK)
            .map(|(_, rack)| rack.clone())
    };
    let mut racks: BTreeMap<u64, BTreeSet<Option<String>>> = BTreeMap::new();
    let mut hosts: BTreeMap<(u64, HostId), u32> = BTreeMap::new();
    let mut domains: BTreeMap<(u64, Option<String>), BTreeSet<u64>> = BTreeMap::new();
    for (request, host) in placed {
        let rack = fleet.host(*host).and_then(rack_of);
        match request.rule {
            None => {}
            Some(Grouped::Affinity { group }) => {
                racks.entry(group).or_default().insert(rack);
            }
            Some(Grouped::AntiAffinity { group }) => {
                *hosts.entry((group, *host)).or_default() += 1;
            }
            Some(Grouped::FaultDomain { group, domain }) => {
                domains.entry((group, rack)).or_default().insert(domain);
            }
        }
    }
    let split = racks.into_iter().filter(|(_, racks)| racks.len() > 1);
    let split = split.map(|(group, racks)| format!("group {group} is in {} racks", racks.len()));
    let shared = hosts.into_iter().filter(|(_, count)| *count > 1);
    let shared = shared.map(|((group, host), count)| format!("{count} of group {group} on {host}"));
    let mixed = domains.into_iter().filter(|(_, domains)| domains.len() > 1);
    let mixed = mixed.map(|((group, _), domains)| {
        format!("{} domains of group {group} in one rack", domains.len())
    });
    split.chain(shared).chain(mixed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::huawei::tests::excerpt;

    #[test]
    fn violations_are_seen() {
        let trace = excerpt();
        let replay = Replay::new(&trace, Strategy::Pack, 1).unwrap();
        let fleet = replay.engine.fleet();
        let hosts: Vec<HostId> = fleet.hosts().map(|host| host.id).collect();
        let request = |rule| Request { rule: Some(rule), ..trace.requests[0] };
        let check = |rule: [Grouped; 2], at: [usize; 2]| {
            let placed = [(request(rule[0]), hosts[at[0]]), (request(rule[1]), hosts[at[1]])];
            violations(fleet, &placed).len()
        };
        let racks: Vec<&str> = trace.hosts.iter().map(|host| host.rack.as_str()).collect();
        let other = racks.iter().position(|rack| *rack != racks[0]).unwrap();
        let same = (1..racks.len()).find(|at| racks[*at] == racks[0]).unwrap();
        let affinity = Grouped::Affinity { group: 1 };
        assert_eq!(check([affinity; 2], [0, same]), 0);
        assert_eq!(check([affinity; 2], [0, other]), 1);
        let apart = Grouped::AntiAffinity { group: 1 };
        assert_eq!(check([apart; 2], [0, same]), 0);
        assert_eq!(check([apart; 2], [0, 0]), 1);
        let domain = |domain| Grouped::FaultDomain { group: 1, domain };
        assert_eq!(check([domain(1), domain(1)], [0, same]), 0);
        assert_eq!(check([domain(1), domain(2)], [0, same]), 1);
        assert_eq!(check([domain(1), domain(2)], [0, other]), 0);
    }
}
