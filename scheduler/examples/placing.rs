//! What one decision costs: a fleet filled to 85 %, then departures and arrivals, decided by the
//! mirror and applied to the fleet in batches.
//!
//! `cargo run --release -p berth-scheduler --example placing -- [HOSTS] [STRATEGY] [RULE]`
//! STRATEGY: pack, spread or balance; RULE: none, apart-host, apart-rack, together-rack,
//! near-host, spread-rack, at-most-host, prefer-apart.

#![expect(clippy::print_stdout, reason = "prints its measurements")]

use berth_model::cluster::{ClusterPolicy, Strategy};
use berth_model::command::{
    Bootstrap, Command, CommandBody, NewRule, Principal, Reserve, ReserveItem,
};
use berth_model::endpoint::EndpointDefaults;
use berth_model::host::{Accelerator, DatastoreFacts, Supply};
use berth_model::reservation::PlacementWish;
use berth_model::rule::{RuleKind, RuleSpec, Scope, Selector, Strength, Term};
use berth_model::{
    Bytes, CellId, ClusterId, DatastoreId, Demand, EndpointId, HostFacts, HostId, MilliCpus,
    Permille, RequestId, ReservationId, Resources, RuleId, Timestamp,
};
use berth_scheduler::Fleet;
use berth_scheduler::placement::{Ask, Mirror};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ENDPOINT: EndpointId = EndpointId::from_bytes([1; 16]);
const BATCH: usize = 256;
const RACK: usize = 40;
const SERVICE: usize = 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let hosts = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let strategy = match arguments.next().as_deref() {
        Some("pack") => Strategy::Pack,
        Some("balance") => Strategy::Balance,
        _ => Strategy::Spread,
    };
    let rule = arguments.next().unwrap_or_else(|| "none".to_owned());
    let mut world = World::new(hosts, strategy, &rule);
    let full = world.fill(850);
    println!("filled: {full} placed");
    world.clear_times();
    let decisions = world.churn(200_000);
    let per = |time: Duration| time.as_nanos() as f64 / 1000.0 / decisions as f64;
    println!(
        "{hosts} hosts, {strategy:?}, {rule}: {:.2} us a decision (decide and take {:.2}, sync \
         {:.2}); apply {:.2}; {} refused",
        per(world.decide + world.sync),
        per(world.decide),
        per(world.sync),
        per(world.apply),
        world.refused,
    );
}

struct World {
    fleet: Arc<Fleet>,
    index: u64,
    mirror: Mirror,
    wishes: Vec<PlacementWish>,
    next: u64,
    alive: Vec<ReservationId>,
    random: StdRng,
    ruled: bool,
    decide: Duration,
    sync: Duration,
    apply: Duration,
    refused: u64,
}

/// Time that this thread had the processor, so that a busy machine does not count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn id(n: u64) -> [u8; 16] {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn command(body: CommandBody) -> Command {
    Command {
        principal: Principal::Local,
        endpoint: EndpointId::SYSTEM,
        request: RequestId::from_bytes([0; 16]),
        traceparent: None,
        key: None,
        deadline: None,
        condition: None,
        body,
    }
}

impl World {
    fn new(hosts: usize, strategy: Strategy, rule: &str) -> World {
        let mut fleet = Fleet::default();
        let policy = ClusterPolicy {
            strategy,
            cpu_overcommit: Permille(1000),
            disk_overcommit: Permille(20_000),
            ..ClusterPolicy::default()
        };
        let bootstrap = Bootstrap {
            cell: CellId::from_bytes([9; 16]),
            clusters: vec![(ClusterId::from_bytes([1; 16]), "main".to_owned(), policy)],
            endpoints: vec![(ENDPOINT, "default".to_owned(), EndpointDefaults::default())],
        };
        let mut index = 1;
        fleet
            .apply(index, Timestamp(1), command(CommandBody::Bootstrap(bootstrap)))
            .expect("bootstrap");
        for n in 0..hosts {
            index += 1;
            let seen = CommandBody::HostSeen {
                host: HostId::from_bytes(id(n as u64)),
                facts: Box::new(facts(n)),
            };
            fleet.apply(index, Timestamp(1), command(seen)).expect("host");
        }
        let spec = rule_of(rule);
        let ruled = spec.is_some();
        if let Some(spec) = spec {
            index += 1;
            let new = NewRule {
                id: RuleId::from_bytes([1; 16]),
                name: rule.to_owned(),
                spec,
                labels: BTreeMap::new(),
            };
            fleet
                .apply(index, Timestamp(1), command(CommandBody::CreateRule(Box::new(new))))
                .expect("rule");
        }
        let fleet = Arc::new(fleet);
        World {
            mirror: Mirror::new(Arc::clone(&fleet)),
            fleet,
            index,
            wishes: shapes(),
            next: 0,
            alive: Vec::new(),
            random: StdRng::seed_from_u64(1),
            ruled,
            decide: Duration::ZERO,
            sync: Duration::ZERO,
            apply: Duration::ZERO,
            refused: 0,
        }
    }

    fn clear_times(&mut self) {
        self.decide = Duration::ZERO;
        self.sync = Duration::ZERO;
        self.apply = Duration::ZERO;
        self.refused = 0;
    }

    fn fill(&mut self, permille: u64) -> usize {
        let capacity: u64 = self.fleet.hosts().map(|host| host.facts.capacity.cpu.0).sum();
        loop {
            let used: u64 = self.fleet.hosts().map(|host| host.charged.cpu.0).sum();
            let before = self.alive.len();
            if used * 1000 >= capacity * permille {
                return before;
            }
            for _ in 0..16 {
                self.batch();
            }
            if self.alive.len() == before {
                return before;
            }
        }
    }

    fn churn(&mut self, decisions: usize) -> usize {
        let mut done = 0;
        while done < decisions {
            let leaving = BATCH.min(self.alive.len());
            let ids: Vec<ReservationId> = (0..leaving)
                .map(|_| {
                    let at = self.random.random_range(0..self.alive.len());
                    self.alive.swap_remove(at)
                })
                .collect();
            if ids.is_empty() {
                break;
            }
            self.apply_one(CommandBody::Release { ids });
            done += self.batch();
        }
        done
    }

    fn batch(&mut self) -> usize {
        let mut items = Vec::new();
        let mut tickets = Vec::new();
        let mut wishes: Vec<Arc<PlacementWish>> = Vec::new();
        // Whoever holds a fleet last frees it; that is not the mirror's work.
        let before = Arc::clone(self.mirror.fleet());
        let started = cpu();
        self.mirror.sync(&self.fleet);
        self.sync += cpu() - started;
        drop(before);
        let started = cpu();
        while items.len() < BATCH {
            let shape = self.random.random_range(0..self.wishes.len());
            let mut wish = self.wishes[shape].clone();
            let mut run = 1;
            if self.ruled {
                let service = self.next / SERVICE as u64;
                wish.labels.insert("service".to_owned(), service.to_string());
                run = SERVICE;
            }
            wishes.push(Arc::new(wish));
            let wish = wishes.last().expect("one").clone();
            for _ in 0..run {
                let id = ReservationId::from_bytes(id(self.next));
                self.next += 1;
                let ask = Ask::hold(ENDPOINT, &wish);
                let Some(place) = self.mirror.decide(&ask) else {
                    self.refused += 1;
                    continue;
                };
                tickets.push(self.mirror.take(&ask, &place));
                items.push(ReserveItem {
                    id,
                    wish: wishes.len() as u32 - 1,
                    endpoint: ENDPOINT,
                    place,
                    hold_ms: None,
                    victims: Vec::new(),
                });
            }
            if self.refused > 1_000_000 {
                break;
            }
        }
        self.decide += cpu() - started;
        let count = items.len();
        self.alive.extend(items.iter().map(|item| item.id));
        let reserve = Reserve { planned_at: self.index, wishes, items, gang: None };
        self.apply_one(CommandBody::Reserve(Box::new(reserve)));
        for ticket in tickets {
            self.mirror.settle(ticket);
        }
        count
    }

    fn apply_one(&mut self, body: CommandBody) {
        self.index += 1;
        let mut fleet = Fleet::clone(&self.fleet);
        let started = cpu();
        let answer = fleet.apply(self.index, Timestamp(self.index), command(body));
        self.apply += cpu() - started;
        if let Ok(berth_model::Change::Reserved { items }) = &answer {
            let refused = items.iter().filter(|item| item.is_err()).count();
            assert_eq!(refused, 0, "{:?}", items.iter().find(|item| item.is_err()));
        }
        answer.expect("applied");
        self.fleet = Arc::new(fleet);
    }
}

fn facts(n: usize) -> HostFacts {
    let (cpus, gib) = [(64, 256), (96, 384), (32, 192)][n % 3];
    let store = DatastoreFacts {
        name: "shared".to_owned(),
        capacity: Bytes::gib(1 << 24),
        free: Bytes::gib(1 << 24),
        class: String::new(),
        labels: BTreeMap::new(),
    };
    HostFacts {
        name: format!("host-{n}"),
        cluster: "main".to_owned(),
        capacity: Resources { cpu: MilliCpus::whole(cpus), memory: Bytes::gib(gib) },
        accelerator: Accelerator::Simulated,
        vm_overhead: Bytes::mib(32),
        datastores: BTreeMap::from([(DatastoreId::from_bytes([1; 16]), store)]),
        stream_address: "127.0.0.1:1".to_owned(),
        boot_id: String::new(),
        kernel: String::new(),
        hypervisor: String::new(),
        build: String::new(),
        labels: BTreeMap::new(),
        supply: Supply {
            domain: vec![
                ("zone".to_owned(), format!("z{}", n / (RACK * 50))),
                ("rack".to_owned(), format!("r{:05}", n / RACK)),
            ],
            ..Supply::default()
        },
    }
}

fn shapes() -> Vec<PlacementWish> {
    let mut shapes = Vec::new();
    for cpus in [1, 2, 4, 8] {
        for gib in [2, 4, 8, 16] {
            let demand = Demand {
                cpu: MilliCpus::whole(cpus),
                machine_memory: Some(Bytes::gib(gib * cpus / 2)),
                memory: Bytes::mib(64),
                disk: Bytes::gib(8),
                ..Demand::default()
            };
            shapes.push(PlacementWish { demand, labels: BTreeMap::new() });
        }
    }
    shapes
}

fn rule_of(name: &str) -> Option<RuleSpec> {
    let rack = Scope::Domain("rack".to_owned());
    let kind = match name {
        "apart-host" | "prefer-apart" => RuleKind::Apart { scope: Scope::Host, unless_same: None },
        "apart-rack" => RuleKind::Apart { scope: rack, unless_same: None },
        "together-rack" => RuleKind::Together { scope: rack },
        "near-host" => RuleKind::Near {
            scope: Scope::Host,
            with: Selector { terms: vec![Term::Exists("service".to_owned())] },
        },
        "spread-rack" => RuleKind::Spread { scope: rack, max_skew: 1 },
        "at-most-host" => RuleKind::AtMost { scope: Scope::Host, count: 2 },
        _ => return None,
    };
    let strength = if name == "prefer-apart" {
        Strength::Preferred { weight: 100 }
    } else {
        Strength::Required
    };
    let selector = Selector { terms: vec![Term::Exists("service".to_owned())] };
    Some(RuleSpec { selector, each: Some("service".to_owned()), strength, kind })
}
