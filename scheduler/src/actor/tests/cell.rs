//! A cell of schedulers in one process.

use crate::fleet::testing::*;
use crate::{
    Accepted, BootstrapOptions, Consistency, Fleet, Options, Request, Scheduler, SubmitError,
};
use berth_metrics::Registry;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{CommandBody, Principal};
use berth_model::container::ContainerSpec;
use berth_model::endpoint::EndpointDefaults;
use berth_model::{CellId, ContainerId, EndpointId, IdempotencyKey, RequestId};
use berth_raft::ReplicaId;
use berth_wire::pki::Authority;
use berth_wire::tls::{Identity, Role, Tls};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// No test waits longer for anything; none passes sooner by waiting less.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct TestCell {
    directory: TempDir,
    authority: Authority,
    silent_after: Duration,
    /// Threads that plan, of each kind.
    planners: usize,
    peers: BTreeMap<ReplicaId, SocketAddr>,
    nodes: BTreeMap<ReplicaId, SocketAddr>,
    pub schedulers: BTreeMap<ReplicaId, Scheduler>,
    pub registries: BTreeMap<ReplicaId, Registry>,
}

impl TestCell {
    /// All of `size` schedulers run, and the cell is set up. No host is ever called silent.
    pub async fn started(size: u64) -> TestCell {
        TestCell::with_timer(size, 4 * PATIENCE).await
    }

    /// As `started`, with hosts called silent after `silent_after`.
    pub async fn with_timer(size: u64, silent_after: Duration) -> TestCell {
        TestCell::with(size, silent_after, 1).await
    }

    /// As `started`, with so many threads that plan.
    pub async fn with_planners(size: u64, planners: usize) -> TestCell {
        TestCell::with(size, 4 * PATIENCE, planners).await
    }

    async fn with(size: u64, silent_after: Duration, planners: usize) -> TestCell {
        let directory = tempfile::tempdir().unwrap();
        let name = CellId::from_bytes([7; 16]).to_string();
        let authority = Authority::create(&name, directory.path()).unwrap();
        let mut cell = TestCell {
            directory,
            authority,
            silent_after,
            planners,
            peers: (1..=size).map(|id| (id, free_address())).collect(),
            nodes: (1..=size).map(|id| (id, free_address())).collect(),
            schedulers: BTreeMap::new(),
            registries: BTreeMap::new(),
        };
        cell.start_all().await;
        cell
    }

    pub async fn start_all(&mut self) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            if !self.schedulers.contains_key(&id) {
                self.start(id).await;
            }
        }
        for scheduler in self.schedulers.values() {
            wait_for(scheduler, |fleet| fleet.cell().is_some()).await;
        }
    }

    pub async fn start(&mut self, id: ReplicaId) {
        let directory = self.directory.path().join(format!("replica-{id}"));
        let mut raft = berth_raft::Options::new(id, self.peers.clone(), self.peers[&id], directory);
        raft.tick = Duration::from_millis(20);
        raft.log_file_bytes = 1 << 20;
        raft.log_purge_bytes = 4 << 20;
        raft.log_prefill_bytes = 0;
        let bootstrap = BootstrapOptions {
            clusters: vec![("main".to_owned(), ClusterPolicy::default())],
            endpoints: vec![("default".to_owned(), EndpointDefaults::default())],
        };
        let mut options = Options::new(raft, self.nodes[&id], bootstrap);
        options.silent_after = self.silent_after;
        options.planners = self.planners;
        let registry = Registry::new();
        let tls = self.tls(Role::Scheduler, &id.to_string());
        let scheduler = crate::start(options, tls, &registry).await.unwrap();
        self.schedulers.insert(id, scheduler);
        self.registries.insert(id, registry);
    }

    pub async fn crash(&mut self, id: ReplicaId) {
        self.schedulers.remove(&id).unwrap().crash().await;
    }

    pub async fn crash_all(&mut self) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            if self.schedulers.contains_key(&id) {
                self.crash(id).await;
            }
        }
    }

    pub fn tls(&self, role: Role, id: &str) -> Tls {
        let identity = Identity::new(self.authority.cell(), role, id);
        let stem = format!("{role}-{id}");
        let files = self.authority.issue_files(&identity, &[], self.directory.path(), &stem);
        Tls::load(&files.unwrap()).unwrap()
    }

    /// Where nodes dial, those of replicas that do not run too.
    pub fn doors(&self) -> Vec<SocketAddr> {
        self.nodes.values().copied().collect()
    }

    pub fn any(&self) -> &Scheduler {
        self.schedulers.values().next().unwrap()
    }

    /// The replica that the running ones agree on as leader.
    pub async fn leader(&self) -> ReplicaId {
        eventually("a leader", || {
            let mut leaders = self.schedulers.values().map(|s| s.replica().leader);
            let first = leaders.next()??;
            let runs = self.schedulers.contains_key(&first);
            (runs && leaders.all(|leader| leader == Some(first))).then_some(first)
        })
        .await
    }

    pub async fn follower(&self) -> &Scheduler {
        let leader = self.leader().await;
        self.schedulers.iter().find(|(id, _)| **id != leader).unwrap().1
    }

    /// The value of one series as `/metrics` would show it.
    pub fn metric(&self, id: ReplicaId, series: &str) -> f64 {
        let text = berth_metrics::exposition::text(&self.registries[&id]).unwrap();
        let line = text.lines().find(|line| line.starts_with(series));
        let line = line.unwrap_or_else(|| panic!("no series {series}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

pub(super) fn request(body: CommandBody) -> Request {
    Request {
        principal: Principal::Local,
        endpoint: EndpointId::SYSTEM,
        key: None,
        request_id: RequestId::random(&mut rand::rng()),
        traceparent: None,
        deadline: PATIENCE,
        condition: None,
        body,
    }
}

pub(super) async fn submit(scheduler: &Scheduler, body: CommandBody) -> Accepted {
    scheduler.submit(request(body)).await.unwrap()
}

pub(super) async fn try_submit(
    scheduler: &Scheduler,
    key: IdempotencyKey,
    body: CommandBody,
) -> Result<Accepted, SubmitError> {
    scheduler.submit(Request { key: Some(key), ..request(body) }).await
}

/// Waits until the scheduler's newest fleet is as wished.
pub(super) async fn wait_for(scheduler: &Scheduler, wish: impl Fn(&Fleet) -> bool) -> Arc<Fleet> {
    let mut watch = scheduler.watch();
    let reached = watch.wait_for(|fleet| wish(fleet));
    match tokio::time::timeout(PATIENCE, reached).await {
        Ok(fleet) => Arc::clone(&fleet.expect("the scheduler runs")),
        Err(_) => panic!("not reached, fleet is {:#?}", scheduler.watch().borrow()),
    }
}

pub(super) async fn wait_for_state(
    scheduler: &Scheduler,
    id: ContainerId,
    state: &str,
) -> Arc<Fleet> {
    wait_for(scheduler, |fleet| fleet.container(id).map_or("gone", |vm| vm.state.name()) == state)
        .await
}

/// Looks again and again until there is an answer.
pub(super) async fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never saw {what}"))
}

/// Records the image on datastore 100, which some node must have named.
pub(super) async fn with_image(scheduler: &Scheduler) {
    wait_for(scheduler, |fleet| fleet.datastore(store_id(100)).is_some()).await;
    submit(scheduler, new_image(&["busybox:latest"], 100)).await;
}

/// Creates and starts number `n` and waits until it runs.
pub(super) async fn run(scheduler: &Scheduler, n: u8) {
    run_spec(scheduler, n, spec(demand())).await;
    wait_for_state(scheduler, vm_id(n), "running").await;
}

pub(super) async fn run_spec(scheduler: &Scheduler, n: u8, spec: ContainerSpec) {
    submit(scheduler, new_container(n, spec)).await;
    wait_for_state(scheduler, vm_id(n), "created").await;
    submit(scheduler, CommandBody::StartContainer { id: vm_id(n) }).await;
}

pub(super) async fn linearizable(scheduler: &Scheduler) -> Arc<Fleet> {
    scheduler.read(Consistency::Linearizable).await.unwrap().fleet
}

/// A loopback address of this process alone: outgoing connections never take its ports.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(7001);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, 128 | (high & 63), middle, low.max(2)), port))
}
