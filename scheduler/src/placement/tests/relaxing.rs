//! That a suggested change really lets the request in, whatever refused it.

use super::super::{Ask, Guides, explain, scan};
use super::{image, sized};
use crate::fleet::Fleet;
use crate::fleet::testing::*;
use berth_model::cluster::{Admission, ClusterPolicy};
use berth_model::command::{CommandBody, NewRule};
use berth_model::container::ContainerSpec;
use berth_model::endpoint::{EndpointDefaults, Quota};
use berth_model::explanation::Relaxation;
use berth_model::host::NumaNode;
use berth_model::rejection::QuotaKind;
use berth_model::rule::{RuleKind, RuleSpec, Scope, Selector, Strength, Term};
use berth_model::{
    Bytes, Demand, EndpointId, Filter, HostId, MilliCpus, Permille, Resources, RuleId,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

fn rule(cell: &mut Cell, n: u8, kind: RuleKind) {
    rule_for(cell, n, Selector::default(), kind);
}

fn rule_for(cell: &mut Cell, n: u8, selector: Selector, kind: RuleKind) {
    let spec = RuleSpec { selector, each: None, strength: Strength::Required, kind };
    let name = format!("rule-{n}");
    let id = RuleId::from_bytes([n; 16]);
    let new = NewRule { id, name, spec, labels: BTreeMap::new() };
    cell.apply(CommandBody::CreateRule(Box::new(new))).unwrap();
}

fn policy(admission: Admission) -> ClusterPolicy {
    ClusterPolicy {
        admission,
        cpu_overcommit: Permille(1000),
        disk_overcommit: Permille(1000),
        ..ClusterPolicy::default()
    }
}

fn quota(cell: &mut Cell, quota: Quota) {
    let body = CommandBody::ConfigureEndpoint {
        id: ENDPOINT,
        defaults: EndpointDefaults::default(),
        quota,
    };
    cell.apply_command(command(EndpointId::SYSTEM, body)).unwrap();
}

fn relaxation(cell: &Cell, demand: &Demand) -> Option<Relaxation> {
    let (labels, image) = (Labels::new(), image());
    let ask = Ask::run(ENDPOINT, demand, &labels, Some(&image));
    assert_eq!(scan::decide(&cell.fleet, &Guides::default(), &ask), None);
    explain(&cell.fleet, &ask, 10).relaxation
}

#[test]
fn the_rule_that_is_in_the_way_is_named() {
    let mut cell = Cell::shared(2);
    rule(&mut cell, 1, RuleKind::Apart { scope: Scope::Host, unless_same: None });
    cell.run(1, 1);
    cell.run(2, 2);
    let wanted = sized(1, 1);
    assert_eq!(relaxation(&cell, &wanted), Some(Relaxation::WithoutRule("rule-1".to_owned())));
}

#[test]
fn a_full_cell_needs_one_more_host() {
    let mut cell = Cell::shared(2);
    for n in [1, 2] {
        cell.create(n, 100, sized(4, 4));
        cell.start(n, n);
    }
    let one_more = Relaxation::OneMoreHost { domain: String::new() };
    assert_eq!(relaxation(&cell, &sized(1, 1)), Some(one_more));
}

#[test]
fn a_domain_that_is_short_of_hosts_is_named() {
    let mut cell = Cell::new();
    for n in [1, 2] {
        let mut facts = facts(n, "main", &[100]);
        facts.supply.domain = vec![("rack".to_owned(), format!("r{n}"))];
        cell.host(n, facts);
    }
    let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
    cell.create_spec(1, 100, ContainerSpec { labels: labels.clone(), ..spec(sized(4, 4)) });
    cell.start(1, 1);
    cell.create(2, 100, sized(4, 4));
    cell.start(2, 2);
    let rack = Scope::Domain("rack".to_owned());
    let web = Selector { terms: vec![Term::Exists("app".to_owned())] };
    rule_for(&mut cell, 1, web, RuleKind::Together { scope: rack });
    let (demand, image) = (sized(1, 1), image());
    let ask = Ask::run(ENDPOINT, &demand, &labels, Some(&image));
    let one_more = Relaxation::OneMoreHost { domain: "rack r1".to_owned() };
    assert_eq!(explain(&cell.fleet, &ask, 10).relaxation, Some(one_more));
}

#[test]
fn the_quota_that_is_short_is_named_with_how_much_is_missing() {
    let mut cell = Cell::shared(1);
    quota(&mut cell, Quota { cpu: Some(MilliCpus(1500)), ..Quota::default() });
    cell.run(1, 1);
    let larger = Relaxation::LargerQuota { what: QuotaKind::Cpu, amount: 500 };
    assert_eq!(relaxation(&cell, &sized(1, 1)), Some(larger));
}

#[test]
fn what_is_kept_for_a_loss_is_said() {
    let mut cell = Cell::shared(2);
    let admission = Admission::Percentage { cpu: Permille(900), memory: Permille(900) };
    cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy: policy(admission) }).unwrap();
    assert_eq!(relaxation(&cell, &sized(1, 1)), Some(Relaxation::WithoutAdmission));
}

#[test]
fn wishes_about_the_host_are_given_up_one_by_one() {
    let cell = Cell::shared(1);
    let network = Demand { networks: BTreeSet::from(["net".to_owned()]), ..sized(1, 1) };
    let expected = Relaxation::WithoutNetwork("net".to_owned());
    assert_eq!(relaxation(&cell, &network), Some(expected));
    let label = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
    let labelled = Demand { host_labels: label, ..sized(1, 1) };
    let expected = Relaxation::WithoutLabel { name: "disk".to_owned() };
    assert_eq!(relaxation(&cell, &labelled), Some(expected));
    let bound = Demand { numa: Some(1), ..sized(1, 1) };
    assert_eq!(relaxation(&cell, &bound), Some(Relaxation::AnyNuma));
    let gpus = Demand { resources: BTreeMap::from([("gpu".to_owned(), 2)]), ..sized(1, 1) };
    let expected = Relaxation::LessResource { name: "gpu".to_owned(), amount: 2 };
    assert_eq!(relaxation(&cell, &gpus), Some(expected));
}

/// The fleet, demand and left-out rules as the relaxation makes them, and whether it is in then.
fn helps(cell: &Cell, demand: &Demand, relaxation: &Relaxation) -> bool {
    let (labels, image) = (Labels::new(), image());
    let mut fleet = cell.fleet.clone();
    let mut demand = demand.clone();
    let mut endpoint = ENDPOINT;
    match relaxation {
        Relaxation::LessCpu(cut) => demand.cpu = demand.cpu.saturating_sub(*cut),
        Relaxation::LessMemory(cut) => demand.memory = demand.memory.saturating_sub(*cut),
        Relaxation::LessDisk(cut) => demand.disk = demand.disk.saturating_sub(*cut),
        Relaxation::LessReserved(cut) => {
            demand.memory_reservation = demand.memory_reservation.saturating_sub(*cut);
        }
        Relaxation::LessResource { name, amount } => {
            if let Some(asked) = demand.resources.get_mut(name) {
                *asked -= amount;
            }
        }
        Relaxation::AnyHost => demand.host = None,
        Relaxation::AnyCluster => demand.cluster = None,
        Relaxation::AnyDatastore => demand.datastore = None,
        Relaxation::AnyNuma => demand.numa = None,
        Relaxation::WithoutNetwork(name) => drop(demand.networks.remove(name)),
        Relaxation::WithoutLabel { name } => drop(demand.host_labels.remove(name)),
        Relaxation::WithoutRule(name) => {
            let id = fleet.rules().find(|rule| rule.name == *name).unwrap().id;
            change(&mut fleet, CommandBody::RemoveRule { id });
        }
        Relaxation::OneMoreHost { domain } => return with_one_more(&fleet, &demand, domain),
        Relaxation::LargerQuota { .. } => endpoint = EndpointId::SYSTEM,
        Relaxation::WithoutAdmission => {
            for cluster in [CLUSTER, OTHER_CLUSTER] {
                let policy = policy(Admission::Off);
                change(&mut fleet, CommandBody::SetPolicy { cluster, policy });
            }
        }
    }
    let ask = Ask::run(endpoint, &demand, &labels, Some(&image));
    scan::decide(&fleet, &Guides::default(), &ask).is_some()
}

fn change(fleet: &mut Fleet, body: CommandBody) {
    let (index, time) = (fleet.index() + 1, fleet.time());
    fleet.apply(index, time, command(EndpointId::SYSTEM, body)).unwrap();
}

fn with_one_more(fleet: &Fleet, demand: &Demand, domain: &str) -> bool {
    let (labels, image) = (Labels::new(), image());
    let hosts: Vec<HostId> = fleet
        .hosts()
        .filter(|host| {
            let innermost = host.facts.supply.domain.last();
            domain.is_empty()
                || innermost.is_some_and(|(level, name)| domain == format!("{level} {name}"))
        })
        .map(|host| host.id)
        .collect();
    hosts.into_iter().any(|like| {
        let (larger, _) = fleet.with_one_like(like).unwrap();
        let ask = Ask::run(ENDPOINT, demand, &labels, Some(&image));
        scan::decide(&larger, &Guides::default(), &ask).is_some()
    })
}

fn wanted() -> impl Strategy<Value = Demand> {
    let pins = (any::<Option<bool>>(), any::<bool>(), any::<bool>());
    let rare = (
        prop::option::weighted(0.2, 1..3_u8),
        prop::bool::weighted(0.2),
        0..3_u64,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    (1..6_u64, 1..6_u64, 1..130_u64, pins, rare).prop_map(
        |(cpus, gib, disk, (host, cluster, store), (numa, reserved, gpus, net, label))| {
            let size = sized(cpus, gib);
            let mut demand = Demand {
                disk: Bytes::gib(disk),
                host: host.map(|first| host_id(if first { 1 } else { 2 })),
                cluster: cluster.then_some(CLUSTER),
                datastore: store.then(|| store_id(101)),
                numa,
                memory_reservation: if reserved { size.memory } else { Bytes::ZERO },
                ..size
            };
            if gpus > 0 {
                demand.resources.insert("gpu".to_owned(), gpus);
            }
            if net {
                demand.networks.insert("net".to_owned());
            }
            if label {
                demand.host_labels.insert("disk".to_owned(), "ssd".to_owned());
            }
            demand
        },
    )
}

proptest! {
    #[test]
    fn a_suggested_change_lets_the_request_in_and_counts_add_up(
        hosts in prop::collection::vec(
            (0..5_u64, 0..5_u64, any::<bool>(), 0..3_u8, 0..2_u64, 0..3_u8),
            0..5,
        ),
        rules in prop::collection::vec(0..5_u8, 0..3),
        kept in prop::option::weighted(0.3, 100..900_u32),
        limit in prop::option::weighted(0.3, 1..4_u64),
        runs in 0..3_u8,
        demand in wanted(),
    ) {
        let mut cell = Cell::shared(0);
        for (n, (cpus, gib, main, stores, gpus, rack)) in (1..).zip(&hosts) {
            let stores = [&[100_u8][..], &[100, 101], &[]][usize::from(*stores)];
            let mut facts = facts(n, if *main { "main" } else { "side" }, stores);
            let capacity = Resources { cpu: MilliCpus::whole(*cpus), memory: Bytes::gib(*gib) };
            facts.capacity = capacity;
            facts.supply.resources.insert("gpu".to_owned(), *gpus);
            facts.supply.numa = vec![NumaNode { id: 0, capacity }];
            facts.supply.domain = vec![("rack".to_owned(), format!("r{rack}"))];
            cell.host(n, facts);
        }
        for (n, kind) in (1..).zip(rules) {
            let rack = Scope::Domain("rack".to_owned());
            let apart = |scope| RuleKind::Apart { scope, unless_same: None };
            rule(&mut cell, n, match kind {
                0 => apart(Scope::Host),
                1 => apart(rack),
                2 => RuleKind::Spread { scope: rack, max_skew: 1 },
                3 => RuleKind::Together { scope: rack },
                _ => RuleKind::AtMost { scope: Scope::Datastore, count: 1 },
            });
        }
        for n in 1..=runs {
            let (labels, image) = (Labels::new(), image());
            let small = sized(1, 1);
            let ask = Ask::run(ENDPOINT, &small, &labels, Some(&image));
            if let Some(place) = scan::decide(&cell.fleet, &Guides::default(), &ask) {
                cell.create(n, place.delta.unwrap().as_bytes()[0], small);
                cell.start(n, place.host.as_bytes()[0]);
            }
        }
        if let Some(kept) = kept {
            let admission = Admission::Percentage { cpu: Permille(kept), memory: Permille(kept) };
            let policy = policy(admission);
            cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy }).unwrap();
        }
        let containers = limit.map(|limit| limit as u32);
        quota(&mut cell, Quota { cpu: limit.map(MilliCpus::whole), containers, ..Quota::default() });
        let (labels, image) = (Labels::new(), image());
        let ask = Ask::run(ENDPOINT, &demand, &labels, Some(&image));
        if let Ok(place) = super::decide(&cell.fleet, &ask) {
            prop_assert!(demand.host.is_none_or(|wanted| wanted == place.host));
            let chosen = place.delta.unwrap();
            prop_assert!(demand.datastore.is_none_or(|wanted| wanted == chosen));
            let host = cell.fleet.host(place.host).unwrap();
            prop_assert!(host.facts.datastores.contains_key(&chosen));
            return Ok(());
        }
        let explanation = explain(&cell.fleet, &ask, 3);
        prop_assert_eq!(explanation.considered as usize, hosts.len());
        prop_assert_eq!(explanation.refused.values().sum::<u32>(), explanation.considered);
        prop_assert!(explanation.hosts.len() <= 3);
        prop_assert!(explanation.refused.keys().all(|filter| Filter::ALL.contains(filter)));
        if let Some(relaxation) = &explanation.relaxation {
            prop_assert!(helps(&cell, &demand, relaxation), "{relaxation:?}");
        }
    }
}
