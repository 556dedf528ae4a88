//! Container VMs on this machine: QEMU, the guest's kernel and the agent, all real.
//!
//! Needs `BERTH_ASSETS` (kernel and initramfs) and `BERTH_IMAGES` (busybox.tar), both set by
//! `cargo xtask test`. Guests are translated, so that the tests show the same on every machine.

use berth_metrics::vm::VmMetrics;
use berth_model::container::{NetworkMode, StopOrder};
use berth_model::host::Accelerator;
use berth_model::stream::{OutputFrom, OutputStream};
use berth_model::{
    Bytes, ContainerId, ContainerSpec, DatastoreId, Demand, Epoch, Exit, Fact, ImageId, MilliCpus,
    RunOrder,
};
use berth_node::hypervisor::Hypervisor;
use berth_node::hypervisor::qemu::{AcceleratorChoice, Qemu, QemuOptions};
use berth_node::output::Reader;
use berth_node::vm::{self, VmFacts, VmHandle, VmSettings};
#[allow(clippy::all)]
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// For anything that a guest does; many times what it takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

fn from_environment(name: &str) -> PathBuf {
    match std::env::var_os(name) {
        Some(value) => value.into(),
        None => panic!("{name} is not set: run `cargo xtask test`, which prepares and sets it"),
    }
}

/// One host with one datastore and one image.
struct Host {
    root: tempfile::TempDir,
    hypervisor: Arc<Qemu>,
    metrics: VmMetrics,
    registry: berth_metrics::Registry,
    tell: VmFacts,
    facts: mpsc::Receiver<Fact>,
}

impl Host {
    async fn new() -> Host {
        let root = tempfile::tempdir().unwrap();
        base_disk(&root.path().join("base.squashfs"));
        let mut options = QemuOptions::new(from_environment("BERTH_ASSETS"), root.path().into());
        options.accelerator = AcceleratorChoice::Tcg;
        let hypervisor = Qemu::open(options).await.unwrap();
        assert_eq!(hypervisor.accelerator(), Accelerator::Tcg);
        let registry = berth_metrics::Registry::new();
        let (tell, facts) = mpsc::channel(8);
        let metrics = VmMetrics::register(&registry).unwrap();
        Host { root, hypervisor, metrics, registry, tell, facts }
    }

    fn settings(&self, epoch: u64, command: &[&str]) -> VmSettings {
        let container = ContainerId::from_bytes([N.load(std::sync::atomic::Ordering::Relaxed); 32]);
        let directory = self.root.path().join("datastore/containers").join(container.to_string());
        let run = self.root.path().join("run").join(container.to_string());
        VmSettings {
            container,
            epoch: Epoch(epoch),
            order: RunOrder {
                name: "web".to_owned(),
                spec: spec(command),
                image_datastore: DatastoreId::from_bytes([2; 16]),
                cpu_model: "Nehalem".to_owned(),
            },
            directory,
            base: self.root.path().join("base.squashfs"),
            run_directory: run.join(Epoch(epoch).to_string()),
        }
    }

    fn start(&self, settings: &VmSettings) -> VmHandle {
        let hypervisor = self.hypervisor.clone();
        vm::start(settings.clone(), hypervisor, self.tell.clone(), self.metrics.clone())
    }

    fn adopt(&self, settings: &VmSettings) -> VmHandle {
        let hypervisor = self.hypervisor.clone();
        vm::adopt(settings.clone(), hypervisor, self.tell.clone(), self.metrics.clone())
    }

    async fn fact(&mut self) -> Fact {
        tokio::time::timeout(LIMIT, self.facts.recv()).await.expect("a fact in time").unwrap()
    }

    async fn started(&mut self) {
        let fact = self.fact().await;
        assert!(matches!(fact, Fact::VmStarted { .. }), "{fact:?}");
    }

    async fn ended(&mut self, handle: &VmHandle) -> Exit {
        let exit = match self.fact().await {
            Fact::VmExited { exit, .. } | Fact::VmStartFailed { exit, .. } => exit,
            fact @ (Fact::VmStarted { .. } | Fact::Discarded { .. }) => panic!("{fact:?}"),
        };
        let mut phase = handle.phase();
        let over = phase.wait_for(|phase| *phase == vm::Phase::Ended);
        tokio::time::timeout(LIMIT, over).await.expect("an end in time").unwrap();
        let run_directory = &handle.settings().run_directory;
        assert!(!run_directory.exists(), "a run directory is left");
        exit
    }
}

/// busybox's one layer as a squashfs.
fn base_disk(path: &Path) {
    let image = from_environment("BERTH_IMAGES").join("busybox.tar");
    let file = std::fs::File::open(&image).expect("an image; run `cargo xtask test`");
    let mut archive = tar::Archive::new(file);
    let mut entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    let mut layer = entries
        .find(|entry| entry.path().unwrap().extension().is_some_and(|name| name == "tar"))
        .expect("a layer");
    let mut bytes = Vec::new();
    layer.read_to_end(&mut bytes).unwrap();
    let mut sqfstar = Command::new("sqfstar")
        .args(["-quiet", "-comp", "lz4"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("sqfstar, from the package squashfs-tools");
    std::io::Write::write_all(&mut sqfstar.stdin.take().unwrap(), &bytes).unwrap();
    assert!(sqfstar.wait().unwrap().success());
}

fn spec(command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        image: ImageId::from_bytes([1; 32]),
        image_reference: "busybox:latest".to_owned(),
        entrypoint: vec![],
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        environment: vec![],
        working_directory: String::new(),
        user: String::new(),
        hostname: "guest".to_owned(),
        domain_name: String::new(),
        tty: false,
        open_stdin: true,
        stdin_once: false,
        stop_signal: 15,
        stop_timeout_seconds: None,
        demand: Demand {
            cpu: MilliCpus(1000),
            memory: Bytes::mib(64),
            disk: Bytes::gib(1),
            cluster: None,
            host: None,
            datastore: None,
        },
        network: NetworkMode::Egress,
        auto_remove: false,
        volumes: vec![],
        exposed_ports: vec![],
        extra_hosts: vec![],
        dns: vec![],
        dns_search: vec![],
        shm_size: Bytes::mib(64),
        labels: Default::default(),
        docker_request: String::new(),
    }
}

static N: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
#[actix_rt::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut host = Host::new().await;
    let root: PathBuf = args[2].clone().into();
    std::fs::create_dir_all(&root).unwrap();
    if !root.join("base.squashfs").exists() {
        std::fs::copy(host.root.path().join("base.squashfs"), root.join("base.squashfs")).unwrap();
    }
    let mut settings = host
        .settings(1, &["sh", "-c", "i=0; while true; do echo line $i; i=$((i+1)); sleep 1; done"]);
    settings.directory = root.join("datastore/containers/x");
    settings.base = root.join("base.squashfs");
    settings.run_directory = root.join("run/x/1");
    if args[1] == "start" {
        let _h = host.start(&settings);
        host.started().await;
        eprintln!("started, pid {}", std::process::id());
        std::future::pending::<()>().await;
    } else {
        let t = std::time::Instant::now();
        let h = host.adopt(&settings);
        eprintln!("{:?} after {:?}", host.fact().await, t.elapsed());
        if args[1] == "adopt" {
            let mut reader =
                Reader::open(&settings.directory, Epoch(1), OutputFrom::Start).await.unwrap();
            let mut text = String::new();
            while text.lines().count() < 12 {
                text.push_str(
                    &String::from_utf8(reader.next().await.unwrap().unwrap().data).unwrap(),
                );
            }
            eprintln!("{}", text.replace('\n', " "));
        }
        let t = std::time::Instant::now();
        if args[1] == "adopt" {
            h.stop(StopOrder { signal: 15, grace_seconds: Some(1) });
        } else {
            h.kill();
        }
        eprintln!("{:?} after {:?}", host.fact().await, t.elapsed());
        let mut phase = h.phase();
        let _ = phase.wait_for(|p| *p == vm::Phase::Ended).await;
        eprintln!("run dir left: {}", settings.run_directory.exists());
    }
}
