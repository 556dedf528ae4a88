//! What the command line of a container VM must say, and what it must never.

use super::*;
use berth_model::{ContainerId, Epoch};

fn machine(accelerator: Accelerator) -> Machine {
    Machine {
        machine_type: "pc-q35-7.2".to_owned(),
        accelerator,
        kernel: "/assets/vmlinuz".into(),
        initramfs: "/assets/initramfs.img".into(),
        tsc_khz: Some(2_600_000),
        user_network: UserNetwork::Open,
    }
}

fn plan() -> LaunchPlan {
    LaunchPlan {
        container: ContainerId::from_bytes([0xab; 32]),
        epoch: Epoch(3),
        vcpus: 2,
        memory: Bytes::mib(256),
        cpu_model: "Nehalem".to_owned(),
        datastore: "/d".into(),
        base: "/d/images/x/base.squashfs".into(),
        delta: "/d/containers/x/delta.qcow2".into(),
        delta_size: Bytes::gib(1),
        log: "/d/containers/x/log.0000000003".into(),
        run_directory: "/run/x".into(),
        network: NetworkMode::Egress,
        numa: vec![],
        spec: crate::vm::scripted("true").into(),
    }
}

const LISTENERS: Listeners = Listeners { agent: 5, monitor: 6, debug_monitor: 7 };

fn check(machine: &Machine, plan: &LaunchPlan) -> Vec<String> {
    words(machine, plan, LISTENERS).into_iter().map(|word| word.into_string().unwrap()).collect()
}

/// What follows each `flag`.
fn values<'a>(words: &'a [String], flag: &str) -> Vec<&'a str> {
    words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].as_str()).collect()
}

#[test]
fn the_machine_is_the_pinned_one_with_what_the_plan_says() {
    let words = check(&machine(Accelerator::Tcg), &plan());
    assert!(values(&words, "-machine")[0].starts_with("pc-q35-7.2,memory-backend=ram"));
    assert_eq!(values(&words, "-cpu"), ["Nehalem"]);
    assert_eq!(values(&words, "-m"), ["size=256M"]);
    assert!(values(&words, "-smp")[0].starts_with("cpus=2,"));
    let name = plan().name();
    assert!(values(&words, "-name")[0].contains(&name), "a restarted node looks for it");
}

#[test]
fn memory_of_one_numa_node_is_one_bound_backend() {
    let plan = LaunchPlan { numa: vec![3], ..plan() };
    let words = check(&machine(Accelerator::Tcg), &plan);
    assert!(values(&words, "-machine")[0].contains("memory-backend=ram,"));
    let backend = "{\"host-nodes\":[3],\"id\":\"ram\",\"policy\":\"bind\",\
                   \"qom-type\":\"memory-backend-ram\",\"size\":268435456}";
    assert_eq!(values(&words, "-object"), [backend]);
    assert_eq!(values(&words, "-numa"), Vec::<&str>::new());
    assert_eq!(values(&words, "-smp"), ["cpus=2,maxcpus=2,sockets=1,cores=2,threads=1"]);
}

#[test]
fn two_numa_nodes_are_two_nodes_of_the_guest() {
    let plan = LaunchPlan { numa: vec![1, 4], vcpus: 3, memory: Bytes::mib(257), ..plan() };
    let words = check(&machine(Accelerator::Tcg), &plan);
    assert!(!values(&words, "-machine")[0].contains("memory-backend"));
    let backend = |id: &str, node: u16, mib: u64| {
        format!(
            "{{\"host-nodes\":[{node}],\"id\":\"{id}\",\"policy\":\"bind\",\
             \"qom-type\":\"memory-backend-ram\",\"size\":{}}}",
            mib << 20
        )
    };
    assert_eq!(values(&words, "-object"), [backend("ram0", 1, 128), backend("ram1", 4, 129)]);
    let nodes = ["node,nodeid=0,memdev=ram0,cpus=0-1", "node,nodeid=1,memdev=ram1,cpus=2-2"];
    assert_eq!(values(&words, "-numa"), nodes);
    assert_eq!(values(&words, "-smp"), ["cpus=3,maxcpus=3,sockets=3,cores=1,threads=1"]);
}

#[test]
fn virtual_cpus_are_dealt_evenly_over_nodes() {
    assert_eq!(processors_of_nodes(4, 2), [0..2, 2..4]);
    assert_eq!(processors_of_nodes(5, 2), [0..3, 3..5]);
    assert_eq!(processors_of_nodes(1, 2), [0..1, 1..1]);
}

#[test]
fn the_log_is_appended_to_and_disks_are_locked() {
    let words = check(&machine(Accelerator::Tcg), &plan());
    let chardevs = values(&words, "-chardev");
    let log = "file,id=log,append=on,path=/d/containers/x/log.0000000003";
    assert!(chardevs.contains(&log), "{chardevs:?}");
    for disk in values(&words, "-blockdev") {
        assert!(disk.contains("\"locking\":\"on\""), "{disk}");
    }
    let devices = values(&words, "-device").join("\n");
    for serial in [BASE_SERIAL, DELTA_SERIAL] {
        assert!(devices.contains(&format!("\"serial\":\"{serial}\"")), "{devices}");
    }
}

#[test]
fn a_path_with_commas_and_quotes_is_only_a_path() {
    let mut plan = plan();
    plan.log = "/d/a,server=on/\"log".into();
    plan.delta = "/d/a\",\"driver\":\"null-co/delta".into();
    let words = check(&machine(Accelerator::Tcg), &plan);
    let chardevs = values(&words, "-chardev");
    assert!(chardevs.contains(&"file,id=log,append=on,path=/d/a,,server=on/\"log"), "{chardevs:?}");
    let delta: serde_json::Value = serde_json::from_str(values(&words, "-blockdev")[1]).unwrap();
    assert_eq!(delta["file"]["filename"], "/d/a\",\"driver\":\"null-co/delta");
    assert_eq!(delta["driver"], "qcow2");
}

#[test]
fn without_a_network_there_is_no_device() {
    let plan = LaunchPlan { network: NetworkMode::None, ..plan() };
    let words = check(&machine(Accelerator::Tcg), &plan);
    assert_eq!(values(&words, "-netdev"), Vec::<&str>::new());
    assert!(!words.iter().any(|word| word.contains("virtio-net")));
}

#[test]
fn a_restricted_network_is_one_for_qemu_too() {
    let machine = Machine { user_network: UserNetwork::Restricted, ..machine(Accelerator::Tcg) };
    let words = check(&machine, &plan());
    assert!(values(&words, "-netdev")[0].contains("\"restrict\":true"));
}

#[test]
fn only_a_translated_guest_is_told_the_hosts_counter() {
    let tcg = kernel_command_line(Accelerator::Tcg, Some(2_600_000));
    assert!(tcg.ends_with("tsc=reliable tsc_early_khz=2600000 lpj=10400000"), "{tcg}");
    assert!(!kernel_command_line(Accelerator::Tcg, None).contains("tsc"));
    let kvm = kernel_command_line(Accelerator::Kvm, Some(2_600_000));
    assert!(!kvm.contains("tsc") && !kvm.contains("no_timer_check"), "{kvm}");
}

#[test]
fn a_probe_has_an_agent_and_no_disk() {
    let words: Vec<String> = probe_words(&machine(Accelerator::Kvm), LISTENERS)
        .into_iter()
        .map(|word| word.into_string().unwrap())
        .collect();
    assert_eq!(values(&words, "-accel"), ["kvm"]);
    assert_eq!(values(&words, "-blockdev"), Vec::<&str>::new());
    assert!(values(&words, "-device").iter().any(|device| device.contains(AGENT_PORT)));
}
