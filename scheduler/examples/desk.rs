//! What one placement costs from request to answer, without network and disk: a desk decides and
//! encodes, one fleet decodes and applies, the desk settles and answers. Places leave again as
//! others come, at about four fifths full.
//!
//! `cargo run --release -p berth-scheduler --example desk -- [HOSTS] [ITEMS A REQUEST] [REQUESTS AT
//! A TIME] [ITEMS IN ALL]`

#![expect(clippy::print_stdout, reason = "prints its measurements")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use berth_model::cluster::ClusterPolicy;
use berth_model::command::{Bootstrap, Command, CommandBody, Principal};
use berth_model::endpoint::EndpointDefaults;
use berth_model::host::{Accelerator, Supply};
use berth_model::reservation::PlacementWish;
use berth_model::{
    Bytes, CellId, ClusterId, Demand, EndpointId, HostFacts, HostId, MilliCpus, Permille,
    RequestId, ReservationId, Resources, Timestamp,
};
use berth_scheduler::Fleet;
use berth_scheduler::fleet::format;
use berth_scheduler::planner::placing::{Desk, Limits, Now, Outcome, PlaceMode, PlaceWish, Wanted};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENDPOINT: EndpointId = EndpointId::from_bytes([1; 16]);

fn main() {
    let numbers: Vec<usize> =
        std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |position: usize, default| numbers.get(position).copied().unwrap_or(default);
    let (hosts, items) = (number(0, 1000).max(1), number(1, 1000).max(1));
    let (requests, all) = (number(2, 4).max(1), number(3, 400_000));
    let mut world = World::new(hosts, items, requests);
    // Eight places of 8 cpus and 32 GiB fill a host of 64 and 256.
    let full = hosts * 8 * 4 / 5;
    while world.alive.len() < full {
        world.round(0);
    }
    world.times = Times::default();
    let mut done = 0;
    while done < all {
        let count = world.round(full);
        done += count;
    }
    let per = |time: Duration| time.as_nanos() as f64 / 1000.0 / done as f64;
    let Times { submit, turn, decode, apply, publish, settle, bytes } = world.times;
    println!(
        "{hosts} hosts, {requests} requests of {items}: {:.2} us an item at the desk (submit \
         {:.2}, turn {:.2}, settle {:.2}); {:.2} at a replica (decode {:.2}, apply {:.2}, publish \
         {:.2}); {} bytes an item",
        per(submit + turn + settle),
        per(submit),
        per(turn),
        per(settle),
        per(decode + apply + publish),
        per(decode),
        per(apply),
        per(publish),
        bytes / done,
    );
}

#[derive(Default)]
struct Times {
    submit: Duration,
    turn: Duration,
    decode: Duration,
    apply: Duration,
    publish: Duration,
    settle: Duration,
    bytes: usize,
}

struct World {
    fleet: Fleet,
    shown: Arc<Fleet>,
    desk: Desk<usize>,
    wishes: Vec<Arc<PlacementWish>>,
    items: usize,
    requests: usize,
    last: u64,
    index: u64,
    alive: VecDeque<ReservationId>,
    times: Times,
}

impl World {
    fn new(hosts: usize, items: usize, requests: usize) -> World {
        let mut fleet = Fleet::default();
        let policy = ClusterPolicy { cpu_overcommit: Permille(1000), ..ClusterPolicy::default() };
        let bootstrap = Bootstrap {
            cell: CellId::from_bytes([9; 16]),
            clusters: vec![(ClusterId::from_bytes([1; 16]), "main".to_owned(), policy)],
            endpoints: vec![(ENDPOINT, "default".to_owned(), EndpointDefaults::default())],
        };
        let mut index = 1;
        let first = command(CommandBody::Bootstrap(bootstrap));
        fleet.apply(index, Timestamp(1), first).expect("bootstrap");
        for n in 0..hosts {
            index += 1;
            let host = HostId::from_bytes(id(n as u64));
            let seen = CommandBody::HostSeen { host, facts: Box::new(facts(n)) };
            fleet.apply(index, Timestamp(1), command(seen)).expect("host");
        }
        let shape = |cpus| {
            let demand = Demand {
                cpu: MilliCpus::whole(cpus),
                machine_memory: Some(Bytes::gib(4 * cpus)),
                ..Demand::default()
            };
            Arc::new(PlacementWish { demand, labels: BTreeMap::new() })
        };
        World {
            shown: Arc::new(fleet.clone()),
            fleet,
            desk: Desk::new(Limits::new(1, 1 << 20, None)),
            wishes: [4, 8, 12].map(shape).into(),
            items,
            requests,
            last: 0,
            index,
            alive: VecDeque::new(),
            times: Times::default(),
        }
    }

    /// Requests, decisions, commits, answers; then as many leave as there are over `keep`.
    fn round(&mut self, keep: usize) -> usize {
        let wanted: Vec<Wanted> = (0..self.requests).map(|_| self.wanted()).collect();
        let now = Now { ms: 0, leader: Timestamp(1) };
        let times = &mut self.times;
        let began = Instant::now();
        for (reply, wanted) in wanted.into_iter().enumerate() {
            self.desk.submit(wanted, reply, 1_000_000, 0);
        }
        times.submit += began.elapsed();
        let mut held = 0;
        while self.desk.jobs() > 0 {
            let began = Instant::now();
            self.desk.turn(&self.shown, now);
            let proposals = self.desk.take_proposals();
            times.turn += began.elapsed();
            let mut answers = Vec::new();
            for proposal in proposals {
                times.bytes += proposal.bytes.len();
                let began = Instant::now();
                let command = format::decode_command(&proposal.bytes).expect("our own");
                let decoded = Instant::now();
                self.index += 1;
                let answer = self.fleet.apply(self.index, Timestamp(1), command);
                times.decode += decoded - began;
                times.apply += decoded.elapsed();
                answers.push((proposal.number, Outcome::Answered { index: self.index, answer }));
            }
            let began = Instant::now();
            self.shown = Arc::new(self.fleet.clone());
            times.publish += began.elapsed();
            let began = Instant::now();
            for (number, outcome) in answers {
                self.desk.settle(number, outcome, &self.shown, now);
            }
            let done = self.desk.take_done();
            times.settle += began.elapsed();
            while let Some(task) = self.desk.next_explanation() {
                self.desk.explained(&task.run());
            }
            for (_, answer) in done {
                for placed in answer.expect("an answer").items.into_iter().flatten() {
                    held += 1;
                    self.alive.extend(placed.reservation);
                }
            }
        }
        let over = if keep == 0 { 0 } else { self.alive.len().saturating_sub(keep) };
        let ids = self.alive.drain(..over).collect();
        self.index += 1;
        let release = command(CommandBody::Release { ids });
        self.fleet.apply(self.index, Timestamp(1), release).expect("released");
        self.shown = Arc::new(self.fleet.clone());
        held
    }

    fn wanted(&mut self) -> Wanted {
        let shape = self.wishes[(self.last % 3) as usize].clone();
        let items = (0..self.items).map(|_| {
            self.last += 1;
            PlaceWish { wish: 0, endpoint: ENDPOINT, id: ReservationId::from_bytes(id(self.last)) }
        });
        Wanted {
            principal: Principal::Local,
            request_id: RequestId::from_bytes([1; 16]),
            traceparent: None,
            items: items.collect(),
            wishes: vec![shape],
            gang: None,
            mode: PlaceMode::Hold { hold_ms: None },
            explain_hosts: 0,
        }
    }
}

/// Spread over all ids, as random ones are.
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

fn facts(n: usize) -> HostFacts {
    HostFacts {
        name: format!("host-{n}"),
        cluster: "main".to_owned(),
        capacity: Resources { cpu: MilliCpus::whole(64), memory: Bytes::gib(256) },
        accelerator: Accelerator::Simulated,
        vm_overhead: Bytes::ZERO,
        datastores: BTreeMap::new(),
        stream_address: "127.0.0.1:1".to_owned(),
        boot_id: String::new(),
        kernel: String::new(),
        hypervisor: String::new(),
        build: String::new(),
        labels: BTreeMap::new(),
        supply: Supply {
            domain: vec![("rack".to_owned(), format!("r{:05}", n / 40))],
            ..Supply::default()
        },
    }
}
