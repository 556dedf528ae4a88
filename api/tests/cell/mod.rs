//! A cell in one process: one scheduler, both APIs on loopback, and nodes that play theirs.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod http;
pub mod node;
pub mod program;

use berth_api::placement::Limits;
use berth_api::{Listener, Serving, docker, placement};
use berth_metrics::Registry;
use berth_metrics::api::ApiMetrics;
use berth_model::cluster::ClusterPolicy;
use berth_model::endpoint::EndpointDefaults;
use berth_model::{Bytes, CellId, HostFacts, HostState};
use berth_scheduler::{BootstrapOptions, Options, Scheduler};
use berth_wire::pki::Authority;
use berth_wire::tls::{Identity, Role, Tls};
use node::Node;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What a host of the cell gives.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub cpus: u64,
    pub memory: Bytes,
}

const SMALL: Size = Size { cpus: 4, memory: Bytes::gib(4) };

/// Longest that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cell {
    pub scheduler: Scheduler,
    pub docker: SocketAddr,
    pub api: SocketAddr,
    pub nodes: Vec<Node>,
    pub authority: Authority,
    serving: Vec<Serving>,
    directory: tempfile::TempDir,
}

/// Runs `story` on a cell with `hosts` hosts, inside an actix system.
pub fn with_cell<F: Future<Output = ()>>(hosts: usize, story: impl FnOnce(Cell) -> F) {
    actix_rt::System::new().block_on(async {
        let cell = Cell::start(hosts).await;
        tokio::time::timeout(PATIENCE, story(cell)).await.expect("the story ends in time");
    });
}

impl Cell {
    pub async fn start(hosts: usize) -> Cell {
        Self::start_with(hosts, SMALL, Limits::default(), "127.0.0.1:0").await
    }

    /// With hosts of that size, and `/v1` within limits at an address.
    pub async fn start_with(hosts: usize, size: Size, limits: Limits, at: &str) -> Cell {
        let directory = tempfile::tempdir().unwrap();
        let cell = CellId::random(&mut rand::rng()).to_string();
        let authority = Authority::create(&cell, &directory.path().join("ca")).unwrap();
        let raft = free_address();
        let tls = identity(&authority, &directory, Role::Scheduler, "1");
        let mut raft_options = berth_raft::Options::new(
            1,
            BTreeMap::from([(1, raft)]),
            raft,
            directory.path().join("raft"),
        );
        raft_options.log_prefill_bytes = 0;
        let bootstrap = BootstrapOptions {
            clusters: vec![("main".to_owned(), ClusterPolicy::default())],
            endpoints: vec![("default".to_owned(), EndpointDefaults::default())],
        };
        let nodes_listen = "127.0.0.1:0".parse().unwrap();
        let options = Options::new(raft_options, nodes_listen, bootstrap);
        let registry = Registry::new();
        let scheduler = berth_scheduler::start(options, tls.clone(), &registry).await.unwrap();
        let metrics = ApiMetrics::register(&registry).unwrap();
        let listener = Listener { address: "127.0.0.1:0".parse().unwrap(), tls: false };
        let at_address = Listener { address: at.parse().unwrap(), tls: false };
        let docker_options = docker::Options { listener, endpoint: "default".to_owned() };
        let docker = docker::serve(docker_options, scheduler.clone(), tls.clone(), metrics.clone())
            .await
            .unwrap();
        let api = placement::serve(
            placement::Options { listener: at_address, limits },
            scheduler.clone(),
            tls,
            metrics,
            registry,
        )
        .await
        .unwrap();
        let mut fleets = scheduler.watch();
        fleets.wait_for(|fleet| fleet.cell().is_some()).await.unwrap();
        let mut nodes = Vec::new();
        for number in 1..=hosts {
            let facts = node::facts(number, size);
            nodes.push(Node::start(facts, &authority, &directory, &scheduler).await);
        }
        fleets
            .wait_for(|fleet| {
                let connected =
                    |host: &&berth_model::Host| matches!(host.state, HostState::Connected { .. });
                fleet.hosts().filter(connected).count() == hosts
            })
            .await
            .unwrap();
        let (docker_at, api_at) = (docker.address(), api.address());
        let serving = vec![docker, api];
        Cell { scheduler, docker: docker_at, api: api_at, nodes, authority, serving, directory }
    }

    /// One more host, which is connected once this returns.
    pub async fn join(&self, facts: HostFacts) -> Node {
        let name = facts.name.clone();
        let node = Node::start(facts, &self.authority, &self.directory, &self.scheduler).await;
        let mut fleets = self.scheduler.watch();
        fleets.wait_for(|fleet| fleet.host_named(&name).is_some()).await.unwrap();
        node
    }

    /// A certificate of the cell.
    pub fn identity(&self, role: Role, id: &str) -> Tls {
        identity(&self.authority, &self.directory, role, id)
    }

    /// Loads the image that the nodes know how to run, as `busybox:latest`.
    pub async fn load_busybox(&self) {
        let answer = http::post(self.docker, "/v1.50/images/load?quiet=1", "busybox:latest").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text().contains("Loaded image: busybox:latest"), "{answer:?}");
    }

    pub async fn create(&self, query: &str, body: serde_json::Value) -> http::Answer {
        let path = format!("/v1.50/containers/create{query}");
        http::post(self.docker, &path, &body.to_string()).await
    }

    /// Creates a container that runs `command`, with `more` in its body; answers its id.
    pub async fn created(&self, name: &str, command: &[&str], more: serde_json::Value) -> String {
        let mut body = serde_json::json!({"Image": "busybox", "Cmd": command});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let answer = self.create(&format!("?name={name}"), body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["Id"].as_str().unwrap().to_owned()
    }

    pub async fn post(&self, path: &str) -> http::Answer {
        http::post(self.docker, &format!("/v1.50{path}"), "").await
    }

    pub async fn get(&self, path: &str) -> http::Answer {
        http::get(self.docker, &format!("/v1.50{path}")).await
    }

    pub async fn stop_serving(&mut self) {
        for serving in self.serving.drain(..) {
            serving.shutdown().await;
        }
    }
}

pub fn identity(authority: &Authority, dir: &tempfile::TempDir, role: Role, id: &str) -> Tls {
    let identity = Identity::new(authority.cell(), role, id);
    let stem = format!("{role}-{id}");
    let files = authority
        .issue_files(&identity, &["127.0.0.1", "localhost"], &dir.path().join("tls"), &stem)
        .unwrap();
    Tls::load(&files).unwrap()
}

/// A free port on loopback; taken again at once by whoever asked.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
