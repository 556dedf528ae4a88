//! The actor over the simulated hypervisor, in virtual time.
use super::*;
use crate::hypervisor::Deadlines;
use crate::hypervisor::simulated::Simulated;
use crate::output::Reader;
use berth_model::container::{NetworkMode, StopOrder};
use berth_model::stream::OutputFrom;
use berth_model::{Bytes, ContainerSpec, DatastoreId, Demand, Fact, ImageId, MilliCpus};
use std::time::Duration;
use tokio::sync::mpsc;

/// The spec of a container VM whose simulated guest plays `script`.
pub(crate) fn scripted(script: &str) -> ContainerSpec {
    ContainerSpec {
        image: ImageId::from_bytes([1; 32]),
        image_reference: "scripted:latest".to_owned(),
        entrypoint: vec![],
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
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
    }
}

const LIMIT: Duration = Duration::from_secs(600);
const GRACE: StopOrder = StopOrder { signal: 15, grace_seconds: Some(10) };

/// One host with one datastore, for one run.
struct Bench {
    root: tempfile::TempDir,
    hypervisor: Arc<Simulated>,
    metrics: VmMetrics,
    registry: berth_metrics::Registry,
    facts: mpsc::Receiver<Fact>,
    tell: VmFacts,
    script: String,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The next bench of the same test holds it again.
        tokio::time::resume();
    }
}

impl Bench {
    fn new(script: &str) -> Bench {
        // Time is held so that deadlines pass at once; files and sockets are real.
        tokio::time::pause();
        let registry = berth_metrics::Registry::new();
        let (tell, facts) = mpsc::channel(8);
        Bench {
            root: tempfile::tempdir().unwrap(),
            hypervisor: Arc::new(Simulated::new(Deadlines::default(), Bytes::mib(1))),
            metrics: VmMetrics::register(&registry).unwrap(),
            registry,
            facts,
            tell,
            script: script.to_owned(),
        }
    }

    fn settings(&self) -> VmSettings {
        let container = ContainerId::from_bytes([9; 32]);
        VmSettings {
            container,
            epoch: Epoch(1),
            order: RunOrder {
                name: "web".to_owned(),
                spec: scripted(&self.script).into(),
                image_datastore: DatastoreId::from_bytes([2; 16]),
                cpu_model: "Nehalem".to_owned(),
                numa: vec![],
            },
            directory: self.root.path().join("datastore/containers").join(container.to_string()),
            base: self.root.path().join("base.squashfs"),
            run_directory: self.root.path().join("run").join(container.to_string()).join("1"),
        }
    }

    fn start(&self) -> VmHandle {
        start(self.settings(), self.hypervisor.clone(), self.tell.clone(), self.metrics.clone())
    }

    fn adopt(&self) -> VmHandle {
        adopt(self.settings(), self.hypervisor.clone(), self.tell.clone(), self.metrics.clone())
    }

    async fn fact(&mut self) -> Fact {
        tokio::time::timeout(LIMIT, self.facts.recv()).await.expect("a fact in time").unwrap()
    }

    async fn started(&mut self) {
        let fact = self.fact().await;
        assert!(matches!(fact, Fact::VmStarted { .. }), "{fact:?}");
    }

    async fn exited(&mut self) -> berth_model::Exit {
        match self.fact().await {
            Fact::VmExited { exit, .. } => exit,
            fact @ (Fact::VmStarted { .. }
            | Fact::VmStartFailed { .. }
            | Fact::Discarded { .. }) => panic!("{fact:?}"),
        }
    }

    async fn start_failed(&mut self) -> berth_model::Exit {
        match self.fact().await {
            Fact::VmStartFailed { exit, .. } => exit,
            fact @ (Fact::VmStarted { .. } | Fact::VmExited { .. } | Fact::Discarded { .. }) => {
                panic!("{fact:?}")
            }
        }
    }

    /// Waits for the end, and checks that nothing is left on the host.
    async fn over(&mut self, handle: &VmHandle) {
        let mut phase = handle.phase();
        let over = phase.wait_for(|phase| *phase == Phase::Ended);
        tokio::time::timeout(LIMIT, over).await.expect("an end in time").unwrap();
        assert!(!self.settings().run_directory.exists());
        assert_eq!(self.hypervisor.running(), 0);
        assert!(self.facts.try_recv().is_err(), "one terminal fact");
    }

    async fn output(&self) -> String {
        let settings = self.settings();
        let mut reader =
            Reader::open(&settings.directory, settings.epoch, OutputFrom::Start).await.unwrap();
        let mut text = Vec::new();
        while let Some(piece) = reader.next().await {
            text.extend(piece.unwrap().data);
        }
        String::from_utf8(text).unwrap()
    }

    fn metric(&self, series: &str) -> bool {
        berth_metrics::exposition::text(&self.registry).unwrap().contains(series)
    }
}

#[actix_rt::test]
async fn a_run_tells_its_start_its_output_and_its_exit() {
    let mut bench = Bench::new("print hello; warn trouble; exit 7");
    let handle = bench.start();
    bench.started().await;
    assert_eq!(bench.exited().await.code, 7);
    bench.over(&handle).await;
    assert_eq!(bench.output().await, "hello\ntrouble\n");
    let recorded = recorded_exit(&bench.settings().directory, Epoch(1)).await.unwrap().unwrap();
    assert_eq!(recorded.verdict.exit.code, 7);
    assert!(recorded.started_at.is_some());
    assert!(bench.metric("berth_node_vm_starts_total{outcome=\"started\"} 1"));
    assert!(bench.metric("berth_node_vm_start_seconds_count{phase=\"total\"} 1"));
    assert!(bench.metric("berth_node_hypervisor_processes 0"));
}

#[actix_rt::test]
async fn stdin_reaches_the_process_beyond_its_first_credit() {
    let mut bench = Bench::new("cat; exit 0");
    let handle = bench.start();
    bench.started().await;
    let line = "0123456789abcde\n".repeat(1 << 10);
    for _ in 0..64 {
        handle.write_stdin(line.clone().into()).await.unwrap();
    }
    handle.close_stdin().await.unwrap();
    assert_eq!(bench.exited().await.code, 0);
    assert_eq!(bench.output().await, line.repeat(64));
}

#[actix_rt::test]
async fn a_stop_ends_a_process_that_listens_and_one_that_does_not() {
    for (script, code) in [("forever", 143), ("stubborn; forever", 137), ("immortal; forever", 137)]
    {
        let mut bench = Bench::new(script);
        let handle = bench.start();
        bench.started().await;
        handle.stop(GRACE);
        handle.stop(GRACE);
        assert_eq!(bench.exited().await.code, code, "{script}");
        bench.over(&handle).await;
    }
}

#[actix_rt::test]
async fn a_signal_reaches_the_process_and_a_sample_comes_back() {
    let mut bench = Bench::new("forever");
    let handle = bench.start();
    assert_eq!(handle.signal(9).await, Err(VmError::NotRunning));
    bench.started().await;
    assert_eq!(handle.sample().await.unwrap().processes, 1);
    while !bench.metric("berth_node_vm_processes{container=\"0909") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle.signal(9).await.unwrap();
    assert_eq!(bench.exited().await.code, 137);
    bench.over(&handle).await;
    assert_eq!(handle.signal(9).await, Err(VmError::Ended));
    assert!(!bench.metric("berth_node_vm_processes{container=\"0909"));
}

#[actix_rt::test]
async fn what_keeps_a_process_from_starting_is_told_and_leaves_nothing() {
    for (script, code, words) in [
        ("missing", 127, "executable file not found in $PATH"),
        ("fail-setup", 128, "cannot mount the delta disk"),
        ("fail-launch", 128, "the hypervisor did not start: the script says so"),
        ("never-ready", 128, "did not answer within 60 s"),
    ] {
        let mut bench = Bench::new(script);
        let handle = bench.start();
        let exit = bench.start_failed().await;
        assert_eq!(exit.code, code, "{script}");
        assert!(exit.error.contains(words), "{script}: {}", exit.error);
        bench.over(&handle).await;
    }
}

#[actix_rt::test]
async fn a_machine_that_vanishes_and_an_agent_that_falls_silent_end_with_255() {
    for (script, words) in [
        ("sleep 1; vanish", "without telling"),
        ("sleep 1; mute", "silent for 120 s while its machine ran"),
    ] {
        let mut bench = Bench::new(script);
        let handle = bench.start();
        bench.started().await;
        let exit = bench.exited().await;
        assert_eq!(exit.code, 255, "{script}");
        assert!(exit.error.contains(words), "{script}: {}", exit.error);
        bench.over(&handle).await;
    }
}

#[actix_rt::test]
async fn a_paused_machine_is_not_taken_for_a_dead_one() {
    let mut bench = Bench::new("sleep 1; mute");
    let handle = bench.start();
    bench.started().await;
    handle.machine().unwrap().pause().await.unwrap();
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert!(matches!(*handle.phase().borrow(), Phase::Running { .. }));
    handle.machine().unwrap().resume().await.unwrap();
    assert_eq!(bench.exited().await.code, 255);
}

#[actix_rt::test]
async fn a_kill_ends_a_run_in_any_phase() {
    for script in ["forever", "never-ready", "immortal; forever"] {
        let mut bench = Bench::new(script);
        let handle = bench.start();
        if script != "never-ready" {
            bench.started().await;
        }
        handle.kill();
        let fact = bench.fact().await;
        let (Fact::VmExited { exit, .. } | Fact::VmStartFailed { exit, .. }) = fact else {
            panic!("{fact:?}")
        };
        assert_eq!(exit.code, 137);
        bench.over(&handle).await;
    }
}

#[actix_rt::test]
async fn a_run_outlives_its_actor_and_is_adopted() {
    let mut bench = Bench::new("print before; cat; exit 3");
    let handle = bench.start();
    bench.started().await;
    drop(handle);
    let saved = saved_settings(&bench.root.path().join("run")).await.unwrap();
    assert_eq!(saved, [bench.settings()]);

    let handle = bench.adopt();
    bench.started().await;
    handle.write_stdin("after\n".into()).await.unwrap();
    handle.close_stdin().await.unwrap();
    assert_eq!(bench.exited().await.code, 3);
    bench.over(&handle).await;
    assert_eq!(bench.output().await, "before\nafter\n");
}

#[actix_rt::test]
async fn an_exit_that_no_node_saw_is_found() {
    let mut bench = Bench::new("sleep 5; exit 9");
    let handle = bench.start();
    bench.started().await;
    let machine = handle.machine().unwrap();
    drop(handle);
    tokio::time::sleep(Duration::from_secs(6)).await;

    // Its agent still holds the news.
    let handle = bench.adopt();
    bench.started().await;
    assert_eq!(bench.exited().await.code, 9);
    bench.over(&handle).await;
    drop(machine);
}

#[actix_rt::test]
async fn an_exit_of_a_machine_that_is_gone_is_found_in_the_log() {
    let mut bench = Bench::new("sleep 5; exit 9");
    let handle = bench.start();
    bench.started().await;
    let machine = handle.machine().unwrap();
    drop(handle);
    tokio::time::sleep(Duration::from_secs(6)).await;
    machine.power_off().await;
    machine.ended().await;

    let handle = bench.adopt();
    assert_eq!(bench.exited().await.code, 9);
    bench.over(&handle).await;

    // And once recorded it is told again, whoever asks.
    let handle = bench.adopt();
    assert_eq!(bench.exited().await.code, 9);
    bench.over(&handle).await;
}

#[actix_rt::test]
async fn a_run_that_was_lost_with_its_host_ends_with_255() {
    let mut bench = Bench::new("forever");
    let settings = bench.settings();
    std::fs::create_dir_all(&settings.directory).unwrap();
    std::fs::write(crate::output::log_path(&settings.directory, Epoch(1)), "").unwrap();
    let handle = bench.adopt();
    assert_eq!(bench.exited().await.code, 255);
    bench.over(&handle).await;
}

#[actix_rt::test]
async fn what_is_ordered_of_numa_nodes_and_shares_reaches_the_hypervisor() {
    let mut bench = Bench::new("sleep 1; exit 0");
    let mut settings = bench.settings();
    settings.order.numa = vec![0, 2];
    Arc::make_mut(&mut settings.order.spec).demand.shares.cpu = Some(300);
    let run_directory = settings.run_directory.clone();
    let (hypervisor, tell) = (bench.hypervisor.clone(), bench.tell.clone());
    let _handle = start(settings, hypervisor, tell, bench.metrics.clone());
    assert!(matches!(bench.fact().await, Fact::VmStarted { .. }));
    let plan = bench.hypervisor.plan_in(&run_directory).unwrap();
    assert_eq!(plan.numa, [0, 2]);
    assert_eq!(plan.spec.demand.shares.cpu, Some(300));
    assert!(matches!(bench.fact().await, Fact::VmExited { .. }));
}

#[test]
fn a_full_datastore_is_called_one() {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let path = std::path::Path::new("/d/containers/x/delta.qcow2");
    let error = crate::hypervisor::LaunchError::io("make", path)(source).to_string();
    assert!(error.starts_with("datastore is full: no space left for /d/containers"), "{error}");
}
