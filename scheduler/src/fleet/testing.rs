//! A small cell for tests: applies commands under rising indexes and checks every invariant after
//! each.

use super::Fleet;
use berth_model::change::{Answer, Change};
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{
    Bootstrap, Command, CommandBody, Decision, NewContainer, NewImage, NewRule, PlaceItem,
    Principal, Reserve, ReserveItem,
};
use berth_model::container::{ContainerSpec, NetworkMode};
use berth_model::endpoint::EndpointDefaults;
use berth_model::host::{Accelerator, DatastoreFacts};
use berth_model::image::ImageConfig;
use berth_model::report::Fact;
use berth_model::rule::Term;
use berth_model::{
    Bytes, CellId, ClusterId, ContainerId, DatastoreId, Demand, EndpointId, Epoch, Exit, GangId,
    HostFacts, HostId, IdempotencyKey, ImageId, MilliCpus, NumaNodes, Place, PlacementWish,
    Rejection, RequestId, ReservationId, Resources, RuleId, RuleKind, RuleSpec, Selector, Strength,
    Supply, Timestamp, VmState,
};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const ENDPOINT: EndpointId = EndpointId::from_bytes([1; 16]);
pub(crate) const OTHER_ENDPOINT: EndpointId = EndpointId::from_bytes([2; 16]);
pub(crate) const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);
pub(crate) const OTHER_CLUSTER: ClusterId = ClusterId::from_bytes([2; 16]);
pub(crate) const IMAGE: ImageId = ImageId::from_bytes([1; 32]);

pub(crate) fn host_id(n: u8) -> HostId {
    HostId::from_bytes([n; 16])
}

pub(crate) fn store_id(n: u8) -> DatastoreId {
    DatastoreId::from_bytes([n; 16])
}

pub(crate) fn vm_id(n: u8) -> ContainerId {
    ContainerId::from_bytes([n; 32])
}

pub(crate) fn reservation_id(n: u8) -> ReservationId {
    ReservationId::from_bytes([n; 16])
}

pub(crate) fn exit(code: i32) -> Exit {
    Exit { code, oom_killed: false, error: String::new() }
}

pub(crate) struct Cell {
    pub fleet: Fleet,
    pub index: u64,
    pub time: u64,
}

/// Two clusters, `main` and `side`, without overcommit, and two endpoints.
pub(crate) fn bootstrap() -> CommandBody {
    let policy = ClusterPolicy {
        cpu_overcommit: berth_model::Permille(1000),
        disk_overcommit: berth_model::Permille(1000),
        ..ClusterPolicy::default()
    };
    CommandBody::Bootstrap(Bootstrap {
        cell: CellId::from_bytes([9; 16]),
        clusters: vec![
            (CLUSTER, "main".to_owned(), policy.clone()),
            (OTHER_CLUSTER, "side".to_owned(), policy),
        ],
        endpoints: vec![
            (ENDPOINT, "default".to_owned(), EndpointDefaults::default()),
            (OTHER_ENDPOINT, "other".to_owned(), EndpointDefaults::default()),
        ],
    })
}

/// 4 cpus and 4 GiB; datastores of 100 GiB each.
pub(crate) fn facts(n: u8, cluster: &str, datastores: &[u8]) -> HostFacts {
    HostFacts {
        name: format!("host-{n}"),
        cluster: cluster.to_owned(),
        capacity: Resources { cpu: MilliCpus::whole(4), memory: Bytes::gib(4) },
        accelerator: Accelerator::Simulated,
        vm_overhead: Bytes::ZERO,
        datastores: datastores
            .iter()
            .map(|n| {
                let facts = DatastoreFacts {
                    name: format!("store-{n}"),
                    capacity: Bytes::gib(100),
                    free: Bytes::gib(90),
                    class: String::new(),
                    labels: BTreeMap::new(),
                };
                (store_id(*n), facts)
            })
            .collect(),
        stream_address: "127.0.0.1:1".to_owned(),
        boot_id: "boot".to_owned(),
        kernel: "linux".to_owned(),
        hypervisor: "simulated".to_owned(),
        build: "0".to_owned(),
        labels: BTreeMap::new(),
        supply: Supply::default(),
    }
}

/// One cpu, a class of 1 GiB, a disk of 10 GiB, anywhere.
pub(crate) fn demand() -> Demand {
    Demand {
        cpu: MilliCpus::whole(1),
        memory: Bytes::mib(512),
        disk: Bytes::gib(10),
        ..Demand::default()
    }
}

pub(crate) fn spec(demand: Demand) -> ContainerSpec {
    ContainerSpec {
        image: IMAGE,
        image_reference: "busybox:latest".to_owned(),
        entrypoint: Vec::new(),
        command: vec!["true".to_owned()],
        environment: Vec::new(),
        working_directory: String::new(),
        user: String::new(),
        hostname: String::new(),
        domain_name: String::new(),
        tty: false,
        open_stdin: false,
        stdin_once: false,
        stop_signal: 15,
        stop_timeout_seconds: None,
        demand,
        network: NetworkMode::Egress,
        auto_remove: false,
        volumes: Vec::new(),
        exposed_ports: Vec::new(),
        extra_hosts: Vec::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        shm_size: Bytes::mib(64),
        labels: BTreeMap::new(),
        docker_request: String::new(),
    }
}

pub(crate) fn new_container(n: u8, spec: ContainerSpec) -> CommandBody {
    CommandBody::CreateContainer(Box::new(NewContainer {
        id: vm_id(n),
        name: format!("vm-{n}"),
        spec,
        labels: BTreeMap::new(),
        reservation: None,
    }))
}

pub(crate) fn new_image(references: &[&str], datastore: u8) -> CommandBody {
    CommandBody::RecordImage(Box::new(NewImage {
        id: IMAGE,
        references: references.iter().map(|text| (*text).to_owned()).collect(),
        config: ImageConfig::default(),
        document: "{}".to_owned(),
        size: Bytes::mib(4),
        datastore: store_id(datastore),
    }))
}

pub(crate) fn command(endpoint: EndpointId, body: CommandBody) -> Command {
    Command {
        principal: Principal::Local,
        endpoint,
        request: RequestId::from_bytes([3; 16]),
        traceparent: None,
        key: None,
        deadline: None,
        condition: None,
        body,
    }
}

/// For the first wish of its command.
pub(crate) fn reserve_item(n: u8, place: Place) -> ReserveItem {
    let id = reservation_id(n);
    ReserveItem { id, wish: 0, endpoint: ENDPOINT, place, hold_ms: None, victims: Vec::new() }
}

/// Labels from `a=x,b=y`.
pub(crate) fn labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A demand without disks, under labels.
pub(crate) fn wish(labels: &str) -> PlacementWish {
    let demand = Demand { disk: Bytes::ZERO, ..demand() };
    PlacementWish { demand, labels: self::labels(labels) }
}

/// On a host, without disks.
pub(crate) fn on(host: u8) -> Place {
    Place { host: host_id(host), numa: NumaNodes::NONE, delta: None, disks: Vec::new() }
}

pub(crate) fn selector(labels: &str) -> Selector {
    let terms = self::labels(labels).into_iter();
    Selector { terms: terms.map(|(name, value)| Term::In(name, [value].into())).collect() }
}

/// A required rule of `ENDPOINT` over what `labels` selects.
pub(crate) fn rule(n: u8, labels: &str, kind: RuleKind) -> CommandBody {
    let strength = Strength::Required;
    CommandBody::CreateRule(Box::new(NewRule {
        id: RuleId::from_bytes([n; 16]),
        name: format!("rule-{n}"),
        spec: RuleSpec { selector: selector(labels), each: None, strength, kind },
        labels: BTreeMap::new(),
    }))
}

impl Cell {
    pub fn empty() -> Cell {
        Cell { fleet: Fleet::default(), index: 0, time: 1_000_000 }
    }

    /// Set up, no hosts yet.
    pub fn new() -> Cell {
        let mut cell = Cell::empty();
        assert_eq!(cell.apply(bootstrap()), Ok(Change::Bootstrapped));
        cell
    }

    /// `hosts` hosts in `main` that all reach datastore 100, which holds the image.
    pub fn shared(hosts: u8) -> Cell {
        let mut cell = Cell::new();
        for n in 1..=hosts {
            cell.host(n, facts(n, "main", &[100]));
        }
        if hosts > 0 {
            cell.apply(new_image(&["busybox:latest"], 100)).unwrap();
        }
        cell
    }

    pub fn host(&mut self, n: u8, facts: HostFacts) {
        self.apply(CommandBody::HostSeen { host: host_id(n), facts: Box::new(facts) }).unwrap();
    }

    pub fn apply(&mut self, body: CommandBody) -> Answer {
        self.apply_command(command(ENDPOINT, body))
    }

    pub fn apply_with_key(&mut self, key: u8, body: CommandBody) -> Answer {
        let key = Some(IdempotencyKey::from_bytes([key; 16]));
        self.apply_command(Command { key, ..command(ENDPOINT, body) })
    }

    pub fn apply_command(&mut self, command: Command) -> Answer {
        self.index += 1;
        self.time += 1;
        let answer = self.fleet.apply(self.index, Timestamp(self.time), command);
        self.fleet.check_invariants().unwrap();
        answer
    }

    pub fn place(&mut self, n: u8, decision: Decision) -> Result<ContainerId, Rejection> {
        let items = vec![PlaceItem { container: vm_id(n), decision }];
        match self.apply(CommandBody::Place { planned_at: self.index, items }) {
            Ok(Change::Placed { mut items }) => items.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Held for ever, for `ENDPOINT`.
    pub fn reserve(
        &mut self,
        n: u8,
        wish: PlacementWish,
        place: Place,
    ) -> Result<ReservationId, Rejection> {
        let item = reserve_item(n, place);
        self.reserve_all(vec![wish], vec![item], None).remove(0)
    }

    pub fn reserve_all(
        &mut self,
        wishes: Vec<PlacementWish>,
        items: Vec<ReserveItem>,
        gang: Option<GangId>,
    ) -> Vec<Result<ReservationId, Rejection>> {
        let wishes = wishes.into_iter().map(Arc::new).collect();
        let reserve = Reserve { planned_at: self.index, wishes, items, gang };
        match self.apply(CommandBody::Reserve(Box::new(reserve))) {
            Ok(Change::Reserved { items }) => items,
            other => panic!("{other:?}"),
        }
    }

    /// Created on `store`.
    pub fn create(&mut self, n: u8, store: u8, demand: Demand) {
        self.create_spec(n, store, spec(demand));
    }

    pub fn create_spec(&mut self, n: u8, store: u8, spec: ContainerSpec) {
        if self.fleet.image(ENDPOINT, IMAGE).is_none() {
            self.apply(new_image(&[], 100)).unwrap();
        }
        self.apply(new_container(n, spec)).unwrap();
        self.place(n, Decision::Datastore(store_id(store))).unwrap();
    }

    /// Created if it is not there yet, and started on `host`, not yet known to run.
    pub fn start(&mut self, n: u8, host: u8) -> Epoch {
        if self.fleet.container(vm_id(n)).is_none() {
            self.create(n, 100, demand());
        }
        self.apply(CommandBody::StartContainer { id: vm_id(n) }).unwrap();
        let epoch = self.fleet.container(vm_id(n)).unwrap().epoch.next();
        self.place(n, Decision::Host { host: host_id(host), epoch }).unwrap();
        epoch
    }

    /// Started on `host` and known to run.
    pub fn run(&mut self, n: u8, host: u8) -> Epoch {
        let epoch = self.start(n, host);
        self.started(n, host, epoch);
        epoch
    }

    pub fn started(&mut self, n: u8, host: u8, epoch: Epoch) -> Change {
        let started_at = Timestamp(self.time);
        self.observe(host, Fact::VmStarted { container: vm_id(n), epoch, started_at })
    }

    pub fn exited(&mut self, n: u8, host: u8, epoch: Epoch, code: i32) -> Change {
        let finished_at = Timestamp(self.time);
        let exit = exit(code);
        self.observe(host, Fact::VmExited { container: vm_id(n), epoch, exit, finished_at })
    }

    pub fn discarded(&mut self, n: u8, host: u8) -> Change {
        self.observe(host, Fact::Discarded { container: vm_id(n) })
    }

    pub fn observe(&mut self, host: u8, fact: Fact) -> Change {
        self.apply(CommandBody::Observe { host: host_id(host), facts: vec![fact] }).unwrap()
    }

    pub fn state(&self, n: u8) -> VmState {
        self.fleet.container(vm_id(n)).expect("container VM").state.clone()
    }

    /// One word, or `gone`.
    pub fn state_name(&self, n: u8) -> &'static str {
        self.fleet.container(vm_id(n)).map_or("gone", |vm| vm.state.name())
    }
}
