//! Control groups of this machine, really made. They need the right to make them, which the tests of
//! berth are run with; a machine that refuses fails here with the reason.

use super::super::process;
use super::*;
use berth_model::{ContainerId, Demand, Epoch, HostId};
use rustix::process::Signal;
use std::os::fd::AsRawFd as _;

/// Groups that nobody else has, and that are gone at the end.
struct Bench {
    groups: Arc<Groups>,
    confiner: Confiner,
    gauges: Gauges,
    run_directory: tempfile::TempDir,
    options: GroupsOptions,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.groups.close();
    }
}

impl Bench {
    fn new() -> Bench {
        let options = GroupsOptions {
            parent: "/".into(),
            host_name: "test".to_owned(),
            host: HostId::from_bytes(rand::random()),
            memory: Bytes::gib(1),
        };
        let groups = Arc::new(Groups::open(&options).unwrap());
        let gauge = |name| IntGauge::new(name, name).unwrap();
        let gauges = Gauges { bound: gauge("bound"), grouped: gauge("grouped") };
        let confiner = Confiner::new(Ok(groups.clone()), Some(gauges.clone()));
        let run_directory = tempfile::tempdir().unwrap();
        Bench { groups, confiner, gauges, run_directory, options }
    }

    fn plan(&self, number: u8, demand: Demand) -> LaunchPlan {
        let mut spec = crate::vm::scripted("true");
        let memory = demand.memory_class();
        spec.demand = demand;
        let run_directory = self.run_directory.path().join(number.to_string());
        fs::create_dir_all(&run_directory).unwrap();
        LaunchPlan {
            container: ContainerId::from_bytes([number; 32]),
            epoch: Epoch(1),
            vcpus: 1,
            memory,
            cpu_model: String::new(),
            datastore: PathBuf::new(),
            base: PathBuf::new(),
            delta: PathBuf::new(),
            delta_size: Bytes::ZERO,
            log: PathBuf::new(),
            run_directory,
            network: spec.network,
            numa: vec![],
            spec: spec.into(),
        }
    }

    async fn confine(&self, plan: &LaunchPlan) -> (Entrance, Hold) {
        self.confiner.confine(plan, Bytes::ZERO, None).await.unwrap()
    }

    /// The whole text of the first file of that name in the groups of `plan`.
    fn value(&self, plan: &LaunchPlan, names: [&str; 2]) -> String {
        let directories = self.groups.directories(&plan.name());
        let files = directories
            .iter()
            .flat_map(|directory| names.map(|name| fs::read_to_string(directory.join(name))));
        files.flatten().next().expect("a file of one of the versions").trim().to_owned()
    }

    fn exists(&self, plan: &LaunchPlan) -> bool {
        self.groups.directories(&plan.name()).iter().any(|directory| directory.exists())
    }
}

const CPU: [&str; 2] = ["cpu.weight", "cpu.shares"];
const MEMORY: [&str; 2] = ["memory.low", "memory.soft_limit_in_bytes"];

fn demand(memory: Bytes, cpu: Option<u16>, weight: Option<u16>) -> Demand {
    let shares = berth_model::Shares { cpu, memory: weight };
    Demand { memory, machine_memory: Some(memory), shares, ..Demand::default() }
}

#[tokio::test]
async fn a_process_is_in_its_group_with_its_weight_and_the_group_goes_with_it() {
    let bench = Bench::new();
    let plan = bench.plan(1, demand(Bytes::mib(256), Some(250), None));
    let (entrance, hold) = bench.confine(&plan).await;
    // It ends with this test, however that ends.
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let script = format!("read line </proc/self/fd/{}", reader.as_raw_fd());
    let words = ["-c".into(), script.into(), plan.name().into()];
    let shell = Path::new("/bin/sh");
    let process = process::spawn(shell, &words, &plan.run_directory, &[reader], entrance).unwrap();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap();
    assert!(groups.contains(&plan.name()), "{groups}");
    let weight = bench.value(&plan, CPU);
    assert!(weight == "250" || weight == "2560", "{weight}");
    assert_eq!(bench.value(&plan, MEMORY), (256_u64 << 20).to_string(), "there is enough");
    assert_eq!(bench.gauges.grouped.get(), 1);

    // Another node of the host: what is in use stays, and is taken over.
    let second = Arc::new(Groups::open(&bench.options).unwrap());
    assert!(bench.exists(&plan));
    let confiner = Confiner::new(Ok(second), None);
    let resumed = confiner.resume(&plan.run_directory, &plan.name()).await;
    assert!(resumed.group.is_some());
    process.signal(Signal::KILL).unwrap();
    process.ended().await;
    hold.release().await;
    assert!(!bench.exists(&plan));
    assert_eq!(bench.gauges.grouped.get(), 0);
    resumed.release().await;
}

#[tokio::test]
async fn short_memory_is_dealt_by_weight_and_dealt_again_when_one_goes() {
    let bench = Bench::new();
    let light = bench.plan(1, demand(Bytes::gib(1), None, None));
    let heavy = bench.plan(2, demand(Bytes::gib(1), None, Some(300)));
    let (_, first) = bench.confine(&light).await;
    assert_eq!(bench.value(&light, MEMORY), (1_u64 << 30).to_string());
    let (_, second) = bench.confine(&heavy).await;
    let mib = |plan: &LaunchPlan| bench.value(plan, MEMORY).parse::<u64>().unwrap() >> 20;
    assert!((255..=256).contains(&mib(&light)), "{}", mib(&light));
    assert!((767..=768).contains(&mib(&heavy)), "{}", mib(&heavy));
    second.release().await;
    assert_eq!(mib(&light), 1024);
    first.release().await;
}

#[tokio::test]
async fn a_group_whose_process_never_came_is_swept_by_the_next_node() {
    let bench = Bench::new();
    let plan = bench.plan(1, demand(Bytes::mib(64), None, None));
    let (_, hold) = bench.confine(&plan).await;
    drop(hold);
    assert!(bench.exists(&plan));
    let _next = Groups::open(&bench.options).unwrap();
    assert!(!bench.exists(&plan));
    forget(&plan.run_directory).await;
}

#[tokio::test]
async fn the_run_directory_tells_which_group_to_remove() {
    let bench = Bench::new();
    let plan = bench.plan(1, demand(Bytes::mib(64), None, None));
    let (_, _hold) = bench.confine(&plan).await;
    forget(&plan.run_directory).await;
    assert!(!bench.exists(&plan));
}

#[tokio::test]
async fn shares_without_groups_are_refused_and_nothing_else_is() {
    let bench = Bench::new();
    let confiner = Confiner::without_groups();
    assert!(!confiner.weighs() && bench.confiner.weighs());
    let plain = bench.plan(1, demand(Bytes::mib(64), None, None));
    let (entrance, _) = confiner.confine(&plain, Bytes::ZERO, None).await.unwrap();
    assert!(entrance.doors.is_empty());
    let weighed = bench.plan(2, demand(Bytes::mib(64), Some(1), None));
    let refused = confiner.confine(&weighed, Bytes::ZERO, None).await.unwrap_err();
    assert!(matches!(refused, LaunchError::NoShares { .. }), "{refused}");
    assert!(refused.to_string().contains("another host"), "{refused}");
}

#[test]
fn a_parent_that_cannot_be_is_named() {
    let options = GroupsOptions {
        parent: "/cgroup.procs/below".into(),
        host_name: "test".to_owned(),
        host: HostId::from_bytes([1; 16]),
        memory: Bytes::gib(1),
    };
    let error = Groups::open(&options).unwrap_err();
    assert!(error.to_string().contains("cgroup.procs/below"), "{error}");
}
