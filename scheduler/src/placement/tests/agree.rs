//! The mirror against the plain scan: random fleets, rules and operations, decisions on their way
//! and committed. Whatever the one answers, the other does.

use super::super::keeping::Keeping;
use super::super::{Ask, Delta, Guides, Load, Mirror, Ticket, datastore, scan};
use crate::fleet::Fleet;
use crate::fleet::testing::*;
use berth_model::change::Change;
use berth_model::cluster::{Admission, ClusterPolicy, Strategy as Plan};
use berth_model::command::{Command, CommandBody, NewRule, Reserve, ReserveItem};
use berth_model::demand::{DiskDemand, Shares};
use berth_model::endpoint::Quota;
use berth_model::host::{NumaNode, Supply};
use berth_model::reservation::{Place, PlacementWish};
use berth_model::rule::{
    DatastoreSelector, HostSelector, RuleKind, RuleSpec, Scope, Selector, Strength, Term,
};
use berth_model::{
    Bytes, ClusterId, DatastoreId, Demand, EndpointId, HostFacts, MilliCpus, Permille,
    ReservationId, Resources, RuleId, Timestamp,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const THIRD: ClusterId = ClusterId::from_bytes([3; 16]);
const CLUSTERS: [&str; 3] = ["main", "side", "third"];

/// What is done between two questions.
#[derive(Clone, Debug)]
enum Step {
    Host(u8, Box<HostFacts>),
    Silent(u8),
    Maintenance(u8, bool),
    Rule(u8, RuleSpec),
    Forget(u8),
    Policy(u8, ClusterPolicy),
    Quota(Quota),
    /// Decided, and on its way.
    Take(PlacementWish),
    TakeDatastore(PlacementWish),
    /// All that is on its way is committed.
    Commit,
    /// All that is on its way is dropped.
    Drop,
    Release(u8),
    Ask(PlacementWish),
}

fn host() -> impl Strategy<Value = (u8, Box<HostFacts>)> {
    let stand = prop_oneof![
        1 => Just(Vec::new()),
        5 => (0..2_u8, 0..3_u8).prop_map(|(zone, rack)| vec![
            ("zone".to_owned(), format!("z{zone}")),
            ("rack".to_owned(), format!("r{rack}")),
        ]),
        1 => (0..3_u8).prop_map(|rack| vec![("rack".to_owned(), format!("r{rack}"))]),
    ];
    let stores =
        prop::collection::btree_set(prop_oneof![2 => Just(100_u8), 1 => 101..104_u8], 0..4);
    let things = (0..3_u64, any::<bool>(), any::<bool>(), any::<bool>(), 0..3_usize, any::<bool>());
    (1..13_u8, 0..3_usize, 1..9_u64, 1..9_u64, stand, stores, things).prop_map(
        |(n, cluster, cpus, gib, domain, stores, (gpus, shares, ssd, net, nodes, heavy))| {
            let stores: Vec<u8> = stores.into_iter().collect();
            let mut facts = facts(n, CLUSTERS[cluster], &stores);
            facts.capacity = Resources { cpu: MilliCpus::whole(cpus), memory: Bytes::gib(gib) };
            for (id, store) in &mut facts.datastores {
                let n = id.as_bytes()[0];
                store.capacity = Bytes::gib(30 + u64::from(n % 3) * 20);
                if n.is_multiple_of(2) {
                    store.class = "ssd".to_owned();
                }
            }
            facts.vm_overhead = if heavy { Bytes::mib(64) } else { Bytes::ZERO };
            if ssd {
                facts.labels.insert("disk".to_owned(), "ssd".to_owned());
            }
            let networks = if net { BTreeSet::from(["net".to_owned()]) } else { BTreeSet::new() };
            let half =
                Resources { cpu: MilliCpus(cpus * 1000 / 2), memory: Bytes((gib << 30) / 2) };
            let numa = (0..nodes as u16).map(|id| NumaNode { id, capacity: half }).collect();
            let resources = if gpus == 0 {
                BTreeMap::new()
            } else {
                BTreeMap::from([("gpu".to_owned(), gpus)])
            };
            facts.supply =
                Supply { cores: 0, threads: 0, numa, domain, networks, resources, shares };
            (n, Box::new(facts))
        },
    )
}

fn policy() -> impl Strategy<Value = ClusterPolicy> {
    let plan = prop_oneof![Just(Plan::Pack), Just(Plan::Spread), Just(Plan::Balance)];
    let kept = prop_oneof![
        3 => Just(Admission::Off),
        1 => (100..500_u32, 100..500_u32).prop_map(|(cpu, memory)| Admission::Percentage {
            cpu: Permille(cpu),
            memory: Permille(memory),
        }),
        1 => (1..3_u8).prop_map(|count| Admission::HostFailures { count }),
        1 => (1..3_u8).prop_map(|failures| Admission::Slots {
            cpu: MilliCpus(500),
            memory: Bytes::mib(512),
            failures,
        }),
        1 => prop::collection::btree_set((1..13_u8).prop_map(host_id), 1..3)
            .prop_map(|hosts| Admission::FailoverHosts { hosts }),
    ];
    (plan, kept, 1..3_u32, 0..200_u32).prop_map(|(strategy, admission, over, reserve)| {
        ClusterPolicy {
            strategy,
            admission,
            cpu_overcommit: Permille(1000 * over),
            memory_overcommit: Permille(1000 * over),
            disk_overcommit: Permille(1000),
            memory_reserve: Permille(reserve),
            disk_reserve: Permille(reserve),
            ..ClusterPolicy::default()
        }
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let set = |value: &str| BTreeSet::from([value.to_owned()]);
    prop_oneof![
        1 => Just(Selector::default()),
        4 => prop_oneof![Just("web"), Just("db")]
            .prop_map(move |app| Selector { terms: vec![Term::In("app".to_owned(), set(app))] }),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        3 => Just(Scope::Host),
        3 => Just(Scope::Domain("rack".to_owned())),
        1 => Just(Scope::Domain("zone".to_owned())),
        1 => Just(Scope::Domain("floor".to_owned())),
        1 => Just(Scope::Cluster),
        2 => Just(Scope::Datastore),
    ]
}

fn kind() -> impl Strategy<Value = RuleKind> {
    let same = prop::option::of(Just("set".to_owned()));
    prop_oneof![
        scope().prop_map(|scope| RuleKind::Together { scope }),
        (scope(), same).prop_map(|(scope, unless_same)| RuleKind::Apart { scope, unless_same }),
        (scope(), 1..3_u32).prop_map(|(scope, count)| RuleKind::AtMost { scope, count }),
        (scope(), 1..3_u32).prop_map(|(scope, max_skew)| RuleKind::Spread { scope, max_skew }),
        (scope(), selector()).prop_map(|(scope, with)| RuleKind::Near { scope, with }),
        (scope(), selector()).prop_map(|(scope, from)| RuleKind::Away { scope, from }),
        (any::<bool>(), any::<bool>()).prop_map(|(not, cluster)| {
            let labels = Selector { terms: vec![Term::Exists("disk".to_owned())] };
            let within = if cluster {
                HostSelector { clusters: BTreeSet::from(["main".to_owned()]), ..Default::default() }
            } else {
                HostSelector { labels, ..Default::default() }
            };
            RuleKind::Hosts { within, not }
        }),
        any::<bool>().prop_map(|not| {
            let class = Some("ssd".to_owned());
            RuleKind::Datastores { within: DatastoreSelector { class, ..Default::default() }, not }
        }),
    ]
}

fn rule() -> impl Strategy<Value = RuleSpec> {
    let strength = prop_oneof![
        Just(Strength::Required),
        (1..1000_u16).prop_map(|weight| Strength::Preferred { weight }),
    ];
    let each = prop::option::weighted(0.3, Just("set".to_owned()));
    (selector(), each, strength, kind()).prop_map(|(selector, each, strength, kind)| RuleSpec {
        selector,
        each,
        strength,
        kind,
    })
}

/// Few shapes, so that classes are shared, and now and then a rare wish.
fn wish() -> impl Strategy<Value = PlacementWish> {
    let size = (1..4_u64, prop_oneof![Just(64_u64), Just(128), Just(512), Just(1024)]);
    let disks = prop_oneof![
        6 => Just(Vec::new()),
        1 => prop::collection::vec((1..25_u64, any::<bool>()), 1..3).prop_map(|disks| {
            disks
                .into_iter()
                .enumerate()
                .map(|(n, (gib, ssd))| DiskDemand {
                    name: format!("disk-{n}"),
                    size: Bytes::gib(gib),
                    labels: class_labels(ssd),
                    datastore: None,
                })
                .collect::<Vec<_>>()
        }),
    ];
    let rare = (
        prop::option::weighted(0.1, 1..3_u8),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    let pins = (
        prop::option::weighted(0.1, 1..13_u8),
        prop::option::weighted(0.2, 1..4_u8),
        prop::option::weighted(0.15, 100..104_u8),
    );
    let labels =
        (prop::option::of(prop_oneof![Just("web"), Just("db")]), prop::option::of(0..2_u8));
    let disk = prop_oneof![Just(0_u64), Just(5), Just(20)];
    (size, disk, disks, rare, pins, labels).prop_map(
        |((cpus, mib), disk, disks, rare, (host, cluster, store), (app, set))| {
            let (numa, reserve, gpu, ssd, net, shares, label) = rare;
            let mut demand = Demand {
                cpu: MilliCpus(500 * cpus),
                memory: Bytes::mib(mib),
                disk: Bytes::gib(disk),
                disks,
                numa,
                host: host.map(host_id),
                cluster: cluster.map(|n| ClusterId::from_bytes([n; 16])),
                datastore: store.map(store_id),
                datastore_labels: class_labels(ssd),
                ..Demand::default()
            };
            if reserve {
                demand.memory_reservation = Bytes::mib(mib);
            }
            if gpu {
                demand.resources.insert("gpu".to_owned(), 1);
            }
            if net {
                demand.networks.insert("net".to_owned());
            }
            if shares {
                demand.shares = Shares { cpu: Some(200), memory: None };
            }
            if label {
                demand.host_labels.insert("disk".to_owned(), "ssd".to_owned());
            }
            let app = app.map(|app| ("app".to_owned(), app.to_owned()));
            let set = set.map(|set| ("set".to_owned(), set.to_string()));
            PlacementWish { demand, labels: app.into_iter().chain(set).collect() }
        },
    )
}

fn class_labels(ssd: bool) -> BTreeMap<String, String> {
    if ssd { BTreeMap::from([("class".to_owned(), "ssd".to_owned())]) } else { BTreeMap::new() }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => host().prop_map(|(n, facts)| Step::Host(n, facts)),
        1 => (1..13_u8).prop_map(Step::Silent),
        1 => (1..13_u8, any::<bool>()).prop_map(|(n, on)| Step::Maintenance(n, on)),
        2 => (1..7_u8, rule()).prop_map(|(n, rule)| Step::Rule(n, rule)),
        1 => (1..7_u8).prop_map(Step::Forget),
        1 => (1..4_u8, policy()).prop_map(|(n, policy)| Step::Policy(n, policy)),
        1 => (prop::option::of(1..12_u64), prop::option::of(1..12_u64), prop::option::of(1..12_u32))
            .prop_map(|(cpus, gib, containers)| Step::Quota(Quota {
                cpu: cpus.map(MilliCpus::whole),
                memory: gib.map(Bytes::gib),
                disk: None,
                containers,
            })),
        12 => wish().prop_map(Step::Take),
        1 => wish().prop_map(Step::TakeDatastore),
        3 => Just(Step::Commit),
        1 => Just(Step::Drop),
        3 => (0..40_u8).prop_map(Step::Release),
        8 => wish().prop_map(Step::Ask),
    ]
}

/// The fleet, the mirror of it, and the fleet as it will be when all that is on its way has come.
struct World {
    fleet: Fleet,
    ahead: Fleet,
    index: u64,
    mirror: Mirror,
    tickets: Vec<Ticket>,
    /// Those that are on their way, for when they are committed.
    coming: Vec<CommandBody>,
    reservations: u8,
}

fn apply(fleet: &mut Fleet, index: u64, body: CommandBody) -> Result<Change, String> {
    let command = Command { ..command(EndpointId::SYSTEM, body) };
    let answer = fleet.apply(index, Timestamp(1_000_000 + index), command);
    answer.map_err(|rejection| rejection.to_string())
}

impl World {
    fn new() -> World {
        let mut fleet = Fleet::default();
        apply(&mut fleet, 1, bootstrap()).unwrap();
        let policy = ClusterPolicy { strategy: Plan::Pack, ..ClusterPolicy::default() };
        let third = CommandBody::CreateCluster { id: THIRD, name: "third".to_owned(), policy };
        apply(&mut fleet, 2, third).unwrap();
        World {
            ahead: fleet.clone(),
            mirror: Mirror::new(Arc::new(fleet.clone())),
            fleet,
            index: 2,
            tickets: Vec::new(),
            coming: Vec::new(),
            reservations: 0,
        }
    }

    /// To the fleet, at once; what is on its way comes after it.
    fn change(&mut self, body: CommandBody) {
        self.index += 1;
        if apply(&mut self.fleet, self.index, body).is_err() {
            return;
        }
        self.mirror.sync(&Arc::new(self.fleet.clone()));
        self.look_ahead();
    }

    /// Forgets what can not come any more, as one whose command was refused would.
    fn look_ahead(&mut self) {
        self.ahead = self.fleet.clone();
        let mut all = true;
        for body in &self.coming {
            all &= is_taken(&apply(&mut self.ahead, self.index, body.clone()));
        }
        if !all {
            self.drop_coming();
        }
    }

    fn drop_coming(&mut self) {
        self.coming.clear();
        for ticket in self.tickets.drain(..) {
            self.mirror.settle(ticket);
        }
        self.mirror.sync(&Arc::new(self.fleet.clone()));
        self.ahead = self.fleet.clone();
    }

    fn commit(&mut self) {
        for body in std::mem::take(&mut self.coming) {
            self.index += 1;
            let answer = apply(&mut self.fleet, self.index, body);
            assert!(is_taken(&answer), "{answer:?}");
        }
        for ticket in self.tickets.drain(..) {
            self.mirror.settle(ticket);
        }
        self.mirror.sync(&Arc::new(self.fleet.clone()));
        self.ahead = self.fleet.clone();
    }

    fn take(&mut self, wish: PlacementWish) -> Result<(), TestCaseError> {
        let id = ReservationId::from_bytes([self.reservations + 1; 16]);
        let ask = Ask::hold(ENDPOINT, &wish).with_id(id.as_bytes());
        let Some(place) = self.check(&ask)? else { return Ok(()) };
        if wish.demand.datastore.is_some_and(|id| self.fleet.datastore(id).is_none()) {
            return Ok(());
        }
        self.tickets.push(self.mirror.take(&ask, &place));
        self.reservations += 1;
        let body = reserve(self.reservations, &wish, place);
        self.index += 1;
        let answer = apply(&mut self.ahead, self.index, body.clone());
        prop_assert!(is_taken(&answer), "{answer:?} for {body:?}");
        self.coming.push(body);
        Ok(())
    }

    /// Only the mirror knows of it; it is given back at once.
    fn take_datastore(&mut self, wish: &PlacementWish) -> Result<(), TestCaseError> {
        let image = BTreeSet::from([store_id(100), store_id(101)]);
        let ask = Ask::create(ENDPOINT, &wish.demand, &wish.labels, Some(&image));
        let Some(datastore) = self.mirror.decide_datastore(&ask) else { return Ok(()) };
        let ticket = self.mirror.take_datastore(&ask, datastore);
        self.mirror.settle(ticket);
        self.mirror.sync(&Arc::new(self.fleet.clone()));
        Ok(())
    }

    /// Mirror and scan give one answer, which the filters admit.
    fn check(&mut self, ask: &Ask<'_>) -> Result<Option<Place>, TestCaseError> {
        let found = self.mirror.decide(ask);
        let expected = scan::decide(&self.ahead, self.mirror.guides(), ask);
        prop_assert_eq!(&found, &expected, "{:?}", ask);
        let matched = ask.matched(&self.ahead);
        let wish = ask.wish(&matched);
        let mut keeping = match ask.load {
            Load::Now => Keeping::of(&self.ahead),
            Load::Ever => Keeping::default(),
        };
        let any = self.ahead.hosts().any(|host| {
            let Some(chosen) = datastore::choose(&self.ahead, host, ask, &matched) else {
                return false;
            };
            let overhead = host.facts.vm_overhead;
            let newcomer = ask.newcomer(overhead, chosen.delta, &chosen.disks);
            self.ahead.admit(host, &wish).is_ok()
                && keeping.admit(&self.ahead, host, &newcomer).is_ok()
        });
        prop_assert_eq!(found.is_some(), any);
        Ok(found)
    }

    fn ask_all_ways(&mut self, wish: &PlacementWish) -> Result<(), TestCaseError> {
        let image = BTreeSet::from([store_id(100), store_id(102)]);
        self.check(&Ask::hold(ENDPOINT, wish))?;
        self.check(&Ask::hold(OTHER_ENDPOINT, wish))?;
        let PlacementWish { demand, labels } = wish;
        self.check(&Ask::start(ENDPOINT, demand, labels, Some(&image), store_id(100)))?;
        self.check(&Ask::start(ENDPOINT, demand, labels, None, store_id(101)))?;
        self.check(&Ask::run(ENDPOINT, demand, labels, Some(&image)))?;
        let create = Ask::create(ENDPOINT, demand, labels, Some(&image));
        self.check(&create)?;
        self.check_datastore(&create)?;
        self.check_datastore(&Ask { image: None, delta: Delta::Anywhere, ..create })
    }

    fn check_datastore(&mut self, ask: &Ask<'_>) -> Result<(), TestCaseError> {
        let found: Option<DatastoreId> = self.mirror.decide_datastore(ask);
        prop_assert_eq!(found, scan::decide_datastore(&self.ahead, ask), "{:?}", ask);
        prop_assert_eq!(ask.load, Load::Ever);
        Ok(())
    }
}

fn is_taken(answer: &Result<Change, String>) -> bool {
    match answer {
        Ok(Change::Reserved { items }) => items.iter().all(Result::is_ok),
        Ok(_) | Err(_) => false,
    }
}

pub(super) fn reserve(n: u8, wish: &PlacementWish, place: Place) -> CommandBody {
    CommandBody::Reserve(Box::new(Reserve {
        planned_at: 0,
        wishes: vec![Arc::new(wish.clone())],
        items: vec![ReserveItem {
            id: ReservationId::from_bytes([n; 16]),
            wish: 0,
            endpoint: ENDPOINT,
            place,
            hold_ms: None,
            victims: Vec::new(),
        }],
        gang: None,
    }))
}

fn run(world: &mut World, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Host(n, facts) => world.change(CommandBody::HostSeen { host: host_id(n), facts }),
        Step::Silent(n) => world.change(CommandBody::HostSilent { host: host_id(n) }),
        Step::Maintenance(n, maintenance) => {
            world.change(CommandBody::SetMaintenance { host: host_id(n), maintenance });
        }
        Step::Rule(n, spec) => {
            let id = RuleId::from_bytes([n; 16]);
            if world.fleet.rule(id).is_some() {
                world.change(CommandBody::ReplaceRule { id, spec });
            } else {
                let (name, labels) = (format!("rule-{n}"), BTreeMap::new());
                world.change(CommandBody::CreateRule(Box::new(NewRule { id, name, spec, labels })));
            }
        }
        Step::Forget(n) => {
            world.change(CommandBody::RemoveRule { id: RuleId::from_bytes([n; 16]) })
        }
        Step::Policy(n, policy) => {
            let cluster = ClusterId::from_bytes([n; 16]);
            world.change(CommandBody::SetPolicy { cluster, policy });
        }
        Step::Quota(quota) => world.change(CommandBody::ConfigureEndpoint {
            id: ENDPOINT,
            defaults: Default::default(),
            quota,
        }),
        Step::Take(wish) => world.take(wish)?,
        Step::TakeDatastore(wish) => world.take_datastore(&wish)?,
        Step::Commit => world.commit(),
        Step::Drop => world.drop_coming(),
        Step::Release(n) => {
            let ids = vec![ReservationId::from_bytes([n; 16])];
            world.change(CommandBody::Release { ids });
        }
        Step::Ask(wish) => world.ask_all_ways(&wish)?,
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_mirror_answers_as_the_plain_scan_does(
        hosts in prop::collection::vec(host(), 1..10),
        rules in prop::collection::vec(rule(), 0..4),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for (n, facts) in hosts {
            run(&mut world, Step::Host(n, facts))?;
        }
        for (n, rule) in (1..).zip(rules) {
            run(&mut world, Step::Rule(n, rule))?;
        }
        for step in steps {
            run(&mut world, step)?;
        }
    }
}

/// As many as fit are placed by both, one after the other, and the mirror's count says so before.
#[test]
fn room_for_more_is_what_then_fits() {
    let mut cell = Cell::shared(5);
    let wish = PlacementWish { demand: demand(), labels: BTreeMap::new() };
    let ask = Ask::hold(ENDPOINT, &wish);
    let mut mirror = Mirror::new(Arc::new(cell.fleet.clone()));
    let room = mirror.room_for(&ask, 1000);
    let guides = Guides::learn(&cell.fleet);
    let mut placed = 0;
    while let Some(place) = scan::decide(&cell.fleet, &guides, &ask) {
        placed += 1;
        cell.apply(reserve(placed, &wish, place)).unwrap();
    }
    assert_eq!(room, u64::from(placed));
    assert_eq!(mirror.room_for(&ask, 3), 3);
}
