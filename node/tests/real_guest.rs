//! Container VMs on this machine: QEMU, the guest's kernel and the agent, all real.
//!
//! Needs `BERTH_ASSETS` (kernel and initramfs) and `BERTH_IMAGES` (busybox.tar), both set by
//! `cargo xtask test`. Guests are translated, so that the tests show the same on every machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use berth_metrics::vm::VmMetrics;
use berth_model::container::{NetworkMode, StopOrder};
use berth_model::host::Accelerator;
use berth_model::stream::{OutputFrom, OutputStream};
use berth_model::{
    Bytes, ContainerId, ContainerSpec, DatastoreId, Demand, Epoch, Exit, Fact, HostId, ImageId,
    MilliCpus, RunOrder,
};
use berth_node::hypervisor::Hypervisor;
use berth_node::hypervisor::qemu::confinement::{Confiner, Groups, GroupsOptions};
use berth_node::hypervisor::qemu::{AcceleratorChoice, Qemu, QemuOptions};
use berth_node::output::{Logs, LogsRequest, Reader};
use berth_node::vm::{self, VmFacts, VmHandle, VmSettings};
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
        Host::confined_by(Confiner::without_groups()).await
    }

    async fn confined_by(confiner: Confiner) -> Host {
        let root = tempfile::tempdir().unwrap();
        base_disk(&root.path().join("base.squashfs"));
        let mut options = QemuOptions::new(from_environment("BERTH_ASSETS"), root.path().into());
        options.accelerator = AcceleratorChoice::Tcg;
        options.confiner = confiner;
        let hypervisor = Qemu::open(options).await.unwrap();
        assert_eq!(hypervisor.accelerator(), Accelerator::Tcg);
        let registry = berth_metrics::Registry::new();
        let (tell, facts) = mpsc::channel(8);
        let metrics = VmMetrics::register(&registry).unwrap();
        Host { root, hypervisor, metrics, registry, tell, facts }
    }

    fn settings(&self, epoch: u64, command: &[&str]) -> VmSettings {
        let container = ContainerId::from_bytes([7; 32]);
        let directory = self.root.path().join("datastore/containers").join(container.to_string());
        let run = self.root.path().join("run").join(container.to_string());
        VmSettings {
            container,
            epoch: Epoch(epoch),
            order: RunOrder {
                name: "web".to_owned(),
                spec: spec(command).into(),
                image_datastore: DatastoreId::from_bytes([2; 16]),
                cpu_model: "Nehalem".to_owned(),
                numa: vec![],
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
            ..Demand::default()
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

/// Reads until `stream` has said `wanted`.
async fn hear(reader: &mut Reader, stream: OutputStream, wanted: &str) {
    let heard = async {
        let mut text = String::new();
        while !text.contains(wanted) {
            let piece = reader.next().await.expect("the run goes on").unwrap();
            if piece.stream == stream {
                text.push_str(&String::from_utf8_lossy(&piece.data));
            }
        }
    };
    let wait = tokio::time::timeout(LIMIT, heard).await;
    wait.unwrap_or_else(|_| panic!("`{wanted}` was not said on {stream:?}"));
}

async fn whole_output(settings: &VmSettings) -> String {
    let request =
        LogsRequest { epoch: settings.epoch, follow: true, since: None, until: None, tail: None };
    let mut logs = Logs::open(&settings.directory, request).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = tokio::time::timeout(LIMIT, logs.next()).await.expect("its end") {
        text.extend(piece.unwrap().data);
    }
    String::from_utf8(text).unwrap()
}

fn host_kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned()
}

#[actix_rt::test]
async fn a_container_vm_serves_its_streams_and_outlives_its_node() {
    let mut host = Host::new().await;
    let script = "trap 'echo stopped; exit 9' TERM; echo out; echo err >&2; echo kernel $(uname -r); \
                  while read line; do echo got $line; done; echo eof; while true; do sleep 1; done";
    let settings = host.settings(1, &["sh", "-c", script]);
    let handle = host.start(&settings);
    host.started().await;
    let mut reader = Reader::open(&settings.directory, Epoch(1), OutputFrom::Start).await.unwrap();
    hear(&mut reader, OutputStream::Stderr, "err\n").await;
    handle.write_stdin("before\n".into()).await.unwrap();
    hear(&mut reader, OutputStream::Stdout, "got before\n").await;
    let sample = handle.sample().await.unwrap();
    assert!(sample.processes > 0 && sample.memory > Bytes(0), "{sample:?}");
    assert!(handle.usage().unwrap().resident > Bytes::mib(16));

    // The node goes and comes back; the machine does not notice.
    drop(handle);
    let saved = vm::saved_settings(&host.root.path().join("run")).await.unwrap();
    assert_eq!(saved.as_slice(), std::slice::from_ref(&settings));
    let handle = host.adopt(&settings);
    host.started().await;
    handle.write_stdin("after\n".into()).await.unwrap();
    hear(&mut reader, OutputStream::Stdout, "got after\n").await;
    handle.close_stdin().await.unwrap();
    hear(&mut reader, OutputStream::Stdout, "eof\n").await;
    handle.stop(StopOrder { signal: 15, grace_seconds: Some(60) });
    assert_eq!(host.ended(&handle).await.code, 9);

    let output = whole_output(&settings).await;
    let kernel = output.lines().find_map(|line| line.strip_prefix("kernel ")).unwrap();
    assert_ne!(kernel, host_kernel(), "a guest has a kernel of its own");
    assert!(output.ends_with("got before\ngot after\neof\nstopped\n"), "{output}");
    let metrics = berth_metrics::exposition::text(&host.registry).unwrap();
    assert!(metrics.contains("berth_node_vm_start_seconds_count{phase=\"total\"} 1"), "{metrics}");
}

#[actix_rt::test]
async fn a_delta_outlives_its_run_and_a_process_that_does_not_listen_is_killed() {
    let mut host = Host::new().await;
    let first = host.settings(1, &["sh", "-c", "echo kept > /file; exec sleep 1000"]);
    let handle = host.start(&first);
    host.started().await;
    // PID 1 of its namespace without a handler: SIGTERM does nothing, so SIGKILL has to.
    handle.stop(StopOrder { signal: 15, grace_seconds: Some(2) });
    assert_eq!(host.ended(&handle).await.code, 137);

    let second = host.settings(2, &["sh", "-c", "cat /file; exit 5"]);
    let handle = host.start(&second);
    host.started().await;
    assert_eq!(host.ended(&handle).await.code, 5);
    assert_eq!(whole_output(&second).await, "kept\n");
}

#[actix_rt::test]
async fn an_end_that_no_node_saw_is_told_by_the_next() {
    let mut host = Host::new().await;
    let settings = host.settings(1, &["sh", "-c", "echo here; read line; exit 5"]);
    let handle = host.start(&settings);
    host.started().await;
    let mut reader = Reader::open(&settings.directory, Epoch(1), OutputFrom::Start).await.unwrap();
    hear(&mut reader, OutputStream::Stdout, "here\n").await;
    handle.write_stdin("go\n".into()).await.unwrap();
    drop(handle);
    // The log ends with the record of the exit, without a node.
    assert!(tokio::time::timeout(LIMIT, reader.next()).await.unwrap().is_none());
    let handle = host.adopt(&settings);
    host.started().await;
    assert_eq!(host.ended(&handle).await.code, 5);
}

#[actix_rt::test]
async fn a_hypervisor_that_was_killed_is_told_as_lost() {
    let mut host = Host::new().await;
    let settings = host.settings(1, &["sleep", "1000"]);
    let handle = host.start(&settings);
    host.started().await;
    let pid = std::fs::read_to_string(settings.run_directory.join("hypervisor.pid")).unwrap();
    let pid = pid.lines().nth(1).unwrap();
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
    let exit = host.ended(&handle).await;
    assert_eq!(exit.code, 255);
    assert!(exit.error.starts_with("machine ended without telling"), "{}", exit.error);
}

#[actix_rt::test]
async fn a_program_that_is_not_there_is_told_in_dockers_words() {
    let mut host = Host::new().await;
    let handle = host.start(&host.settings(1, &["no-such-program"]));
    let exit = host.ended(&handle).await;
    assert_eq!(exit.code, 127);
    let words = "exec: \"no-such-program\": executable file not found in $PATH";
    assert!(exit.error.contains(words), "{}", exit.error);
}

/// Tests of NUMA need a machine that shows its nodes: any kernel that is built for them does.
fn processors_of_node_0() -> String {
    let path = "/sys/devices/system/node/node0/cpulist";
    let list = std::fs::read_to_string(path);
    list.unwrap_or_else(|error| panic!("{path}: {error}; run it on a kernel with NUMA"))
        .trim()
        .into()
}

fn hypervisor_of(settings: &VmSettings) -> u32 {
    let file = settings.run_directory.join("hypervisor.pid");
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().nth(1).unwrap().parse().unwrap()
}

#[actix_rt::test]
async fn a_container_vm_is_bound_to_its_numa_node() {
    let mut host = Host::new().await;
    let mut settings = host.settings(1, &["sleep", "1000"]);
    settings.order.numa = vec![0];
    let handle = host.start(&settings);
    host.started().await;
    let pid = hypervisor_of(&settings);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(allowed.unwrap().trim(), processors_of_node_0());
    }
    // Guest memory is the one mapping with a policy of its own.
    let maps = std::fs::read_to_string(format!("/proc/{pid}/numa_maps")).unwrap();
    assert!(maps.lines().any(|line| line.contains(" bind:0 ")), "{maps}");
    handle.stop(StopOrder { signal: 9, grace_seconds: None });
    assert_eq!(host.ended(&handle).await.code, 137);
}

#[actix_rt::test]
async fn two_numa_nodes_are_two_nodes_in_the_guest() {
    let mut host = Host::new().await;
    let script = "cat /sys/devices/system/node/online /sys/devices/system/node/node*/cpulist";
    let mut settings = host.settings(1, &["sh", "-c", script]);
    // The same node twice: machines with two are rare, and the guest cannot tell.
    settings.order.numa = vec![0, 0];
    Arc::make_mut(&mut settings.order.spec).demand.cpu = MilliCpus(2000);
    let handle = host.start(&settings);
    host.started().await;
    assert_eq!(host.ended(&handle).await.code, 0);
    assert_eq!(whole_output(&settings).await, "0-1\n0\n1\n");
}

#[actix_rt::test]
async fn a_numa_node_that_is_not_there_is_told_with_what_to_do() {
    let mut host = Host::new().await;
    let mut settings = host.settings(1, &["true"]);
    settings.order.numa = vec![64_000];
    let handle = host.start(&settings);
    let exit = host.ended(&handle).await;
    assert_eq!(exit.code, 128);
    assert!(exit.error.contains("no node 64000 here"), "{}", exit.error);
    assert!(exit.error.contains("start it again"), "{}", exit.error);
}

#[actix_rt::test]
async fn shares_become_the_weight_of_a_control_group_that_goes_with_its_container_vm() {
    let options = GroupsOptions {
        parent: "/".into(),
        host_name: "guest-test".to_owned(),
        host: HostId::from_bytes(rand::random()),
        memory: Bytes::gib(4),
    };
    let groups = Arc::new(Groups::open(&options).expect("control groups; run it as root"));
    let mut host = Host::confined_by(Confiner::new(Ok(groups.clone()), None)).await;
    let mut settings = host.settings(1, &["sleep", "1000"]);
    Arc::make_mut(&mut settings.order.spec).demand.shares.cpu = Some(300);
    let handle = host.start(&settings);
    host.started().await;
    let name = settings.plan().name();
    let directories = groups.directories(&name);
    let of = std::fs::read_to_string(format!("/proc/{}/cgroup", hypervisor_of(&settings))).unwrap();
    assert_eq!(of.matches(&name).count(), directories.len(), "{of}");
    let read = |file: &str| {
        let mut texts = directories.iter().map(|group| std::fs::read_to_string(group.join(file)));
        texts.find_map(Result::ok)
    };
    let weight = read("cpu.weight").or_else(|| read("cpu.shares")).unwrap();
    assert!(["300", "3072"].contains(&weight.trim()), "{weight}");

    // The next node finds it by its run directory, and takes the group away with it.
    drop(handle);
    let handle = host.adopt(&settings);
    host.started().await;
    handle.stop(StopOrder { signal: 9, grace_seconds: None });
    assert_eq!(host.ended(&handle).await.code, 137);
    assert!(directories.iter().all(|group| !group.exists()), "{directories:?}");
    groups.close();

    let mut host = Host::new().await;
    let handle = host.start(&settings);
    let exit = host.ended(&handle).await;
    assert!(exit.error.contains("cannot be weighed"), "{}", exit.error);
}
