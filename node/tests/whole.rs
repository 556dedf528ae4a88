//! A whole node with the simulated hypervisor, against a scheduler that the test plays: what it
//! registers, obeys, reports and serves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use berth_model::assignment::{Assignment, RunOrder, VmOrder, Want};
use berth_model::container::{ContainerSpec, NetworkMode};
use berth_model::session::{self, FromNode, FromScheduler};
use berth_model::stream::{self, OutputFrom, StreamRequest, ToNode};
use berth_model::{
    Bytes, CellId, ContainerId, DatastoreId, Demand, Epoch, Fact, Generation, HostFacts, HostId,
    ImageId, Incarnation, MilliCpus,
};
use berth_node::NodeError;
use berth_node::options::Options;
use berth_wire::codec;
use berth_wire::hello::Hello;
use berth_wire::identity::{Identity, Role};
use berth_wire::link::Link;
use berth_wire::pki::Authority;
use berth_wire::tls::Tls;
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const DEADLINE: Duration = Duration::from_secs(30);
const HOST: HostId = HostId::from_bytes([1; 16]);
const CONTAINER: ContainerId = ContainerId::from_bytes([2; 32]);

struct Cell {
    directory: TempDir,
    authority: Authority,
    nodes: TcpListener,
    scheduler: Tls,
}

impl Cell {
    async fn new() -> Cell {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::create("cell", directory.path()).unwrap();
        let nodes = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let identity = Identity::new("cell", Role::Scheduler, "1");
        let files =
            authority.issue_files(&identity, &["127.0.0.1"], directory.path(), "s").unwrap();
        let scheduler = Tls::load(&files).unwrap();
        Cell { directory, authority, nodes, scheduler }
    }

    fn options(&self, metrics: SocketAddr) -> Options {
        let directory = self.directory.path();
        let identity = Identity::new("cell", Role::Node, HOST.to_string());
        let files = self.authority.issue_files(&identity, &["127.0.0.1"], directory, "n").unwrap();
        let store = directory.join("store");
        std::fs::create_dir_all(&store).unwrap();
        serde_json::from_value(serde_json::json!({
            "host_id": HOST,
            "host_name": "host-1",
            "cluster": "main",
            "schedulers": { "1": self.nodes.local_addr().unwrap().to_string() },
            "tls": { "ca": files.ca, "certificate": files.certificate, "key": files.key },
            "stream_listen": "127.0.0.1:0",
            "metrics_listen": metrics,
            "run_directory": directory.join("run"),
            "state_directory": directory.join("state"),
            "datastores": [{ "name": "local", "path": store, "class": "ssd" }],
            "assets_directory": directory,
            "hypervisor": "simulated",
            "capacity": {
                "cpu_milli": 4000, "memory_mib": 4096,
                "numa": [{ "id": 0, "cpu_milli": 2000, "memory_mib": 1792 },
                         { "id": 2, "cpu_milli": 2000, "memory_mib": 1792 }],
            },
            "domain": ["zone=a", "rack=r17"],
            "networks": ["dmz"],
            "resources": { "gpu": 2 },
        }))
        .unwrap()
    }

    /// Waits for the node, hears its facts and welcomes it.
    async fn meet(&self) -> (Link, HostFacts) {
        let (tcp, _) = self.nodes.accept().await.unwrap();
        let (mut link, _) = self.scheduler.accept(tcp, &[Role::Node]).await.unwrap();
        link.hello(&hello(session::PROTOCOL_MAX)).await.unwrap();
        let first = link.receive().await.unwrap().unwrap();
        let FromNode::Register { facts, .. } = first else {
            panic!("the first message registers: {first:?}");
        };
        let cell = CellId::from_bytes([9; 16]);
        let incarnation = Incarnation(0);
        let welcome = FromScheduler::Welcome { cell, incarnation, silent_after_ms: 5000 };
        link.send(&welcome).await.unwrap();
        (link, *facts)
    }
}

fn hello(protocol: u16) -> Hello {
    Hello { protocol_min: protocol, protocol_max: protocol, build: "test".into(), features: vec![] }
}

fn order(datastore: DatastoreId, script: &str) -> VmOrder {
    let demand = Demand {
        cpu: MilliCpus(1000),
        memory: Bytes::mib(64),
        disk: Bytes::gib(1),
        ..Demand::default()
    };
    let spec = ContainerSpec {
        image: ImageId::from_bytes([1; 32]),
        image_reference: "scripted:latest".into(),
        entrypoint: vec![],
        command: vec!["sh".into(), "-c".into(), script.into()],
        environment: vec![],
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
        network: NetworkMode::None,
        auto_remove: false,
        volumes: vec![],
        exposed_ports: vec![],
        extra_hosts: vec![],
        dns: vec![],
        dns_search: vec![],
        shm_size: Bytes::mib(64),
        labels: Default::default(),
        docker_request: String::new(),
    };
    let run = RunOrder {
        name: "name".into(),
        spec: spec.into(),
        image_datastore: datastore,
        cpu_model: "Nehalem".into(),
        numa: vec![0, 2],
    };
    VmOrder { epoch: Epoch(1), datastore, want: Want::Run(Box::new(run)) }
}

fn whole(generation: u64, orders: &[(ContainerId, VmOrder)]) -> FromScheduler {
    let vms = orders.iter().cloned().collect();
    let assignment = Assignment { generation: Generation(generation), vms };
    let update = assignment.update_from(None, |id, order| codec::encode(&(id, order)));
    FromScheduler::Assignment(Box::new(update))
}

/// Facts until one ends a run; each is acknowledged.
async fn facts_until_end(link: &mut Link) -> Vec<Fact> {
    let mut heard = Vec::new();
    loop {
        let Some(message) = link.receive::<FromNode>().await.unwrap() else {
            panic!("the node keeps its session");
        };
        let FromNode::Report(report) = message else { continue };
        link.send(&FromScheduler::ReportKept { last: report.last }).await.unwrap();
        heard.extend(report.facts);
        if matches!(heard.last(), Some(Fact::VmExited { .. })) {
            return heard;
        }
    }
}

async fn output_of(cell: &Cell, address: &str) -> String {
    let address = address.parse().unwrap();
    let (mut link, peer) = cell.scheduler.connect(address, Role::Node).await.unwrap();
    assert_eq!(peer.id, HOST.to_string());
    link.set_limit(stream::MESSAGE_MAX);
    link.hello(&hello(stream::PROTOCOL_MAX)).await.unwrap();
    let (container, epoch, from) = (CONTAINER, Epoch(1), OutputFrom::Start);
    let attach = StreamRequest::Attach { container, epoch, from, stdin: false };
    link.send(&ToNode::Request(attach)).await.unwrap();
    assert_eq!(link.receive().await.unwrap(), Some(stream::FromNode::Accepted));
    let mut output = Vec::new();
    while let Some(message) = link.receive::<stream::FromNode>().await.unwrap() {
        let stream::FromNode::Output { data, .. } = message else {
            assert_eq!(message, stream::FromNode::End);
            break;
        };
        output.extend(data);
    }
    String::from_utf8(output).unwrap()
}

async fn metrics_of(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[actix_rt::test]
async fn a_node_registers_obeys_reports_and_serves() {
    let cell = Cell::new().await;
    // Found free a moment ago; the node says so if it is taken meanwhile.
    let metrics = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        // A dropped sender ends the node as well.
        let _ = stopped.await;
    };
    let running = actix_rt::spawn(berth_node::run(cell.options(metrics), shutdown));
    let story = async {
        let (mut link, facts) = cell.meet().await;
        assert_eq!((facts.name.as_str(), facts.cluster.as_str()), ("host-1", "main"));
        assert_eq!(facts.capacity.cpu, MilliCpus(4000));
        assert_eq!(facts.capacity.memory, Bytes::mib(4096 - 512));
        let (datastore, seen) = facts.datastores.first_key_value().expect("one is reached");
        assert_eq!(seen.class, "ssd");
        let supply = &facts.supply;
        assert_eq!(supply.domain[1], ("rack".to_owned(), "r17".to_owned()));
        assert!(supply.networks.contains("dmz") && supply.resources["gpu"] == 2 && supply.shares);
        let numa: Vec<u16> = supply.numa.iter().map(|node| node.id).collect();
        assert_eq!(numa, [0, 2]);
        let order = order(*datastore, "print hello; exit 4");
        link.send(&whole(7, &[(CONTAINER, order)])).await.unwrap();
        let heard = facts_until_end(&mut link).await;
        assert!(matches!(heard[0], Fact::VmStarted { container: CONTAINER, .. }), "{heard:?}");
        let Some(Fact::VmExited { exit, .. }) = heard.last() else { panic!("{heard:?}") };
        assert_eq!(exit.code, 4);
        assert_eq!(output_of(&cell, &facts.stream_address).await, "hello\n");
        let shown = metrics_of(metrics).await;
        for line in [
            "berth_node_session_state{state=\"registered\"} 1",
            "berth_node_assignment_generation 7",
            "berth_node_datastore_reachable{datastore=\"local\"} 1",
            "berth_node_steps_total{step=\"start\"} 1",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        let second = berth_node::run(cell.options(metrics), std::future::pending()).await;
        assert!(matches!(second, Err(NodeError::Running(_))), "{second:?}");
    };
    tokio::time::timeout(DEADLINE, story).await.expect("the story ends in time");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[actix_rt::test]
async fn a_node_with_the_certificate_of_another_host_does_not_start() {
    let cell = Cell::new().await;
    let mut options = cell.options("127.0.0.1:0".parse().unwrap());
    options.host_id = HostId::from_bytes([8; 16]);
    let refused = berth_node::run(options, std::future::pending()).await;
    assert!(matches!(refused, Err(NodeError::Identity { .. })), "{refused:?}");
}
