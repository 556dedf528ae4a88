//! Which options are taken and which are refused by name.

use super::*;
use std::path::Path;

fn options() -> Options {
    let json = serde_json::json!({
        "host_id": HostId::from_bytes([1; 16]),
        "host_name": "host-1",
        "cluster": "main",
        "schedulers": { "1": "127.0.0.1:7001", "2": "127.0.0.1:7002" },
        "tls": { "ca": "/c/ca.pem", "certificate": "/c/n.pem", "key": "/c/n.key" },
        "stream_listen": "127.0.0.1:7100",
        "metrics_listen": "127.0.0.1:7101",
        "run_directory": "/run/berth/h1",
        "state_directory": "/var/lib/berth/h1",
        "assets_directory": "/usr/lib/berth",
        "datastores": [{ "name": "local-1", "path": "/srv/local" }],
    });
    serde_json::from_value(json).unwrap()
}

fn check(change: impl FnOnce(&mut Options)) -> Result<Settings, String> {
    let mut options = options();
    change(&mut options);
    options.validate().map_err(|error| error.to_string())
}

#[test]
fn what_a_file_says_becomes_settings() {
    let settings = check(|_| ()).unwrap();
    assert_eq!(settings.schedulers.len(), 2);
    assert_eq!(settings.reserve_memory, Bytes::mib(512));
    assert_eq!(settings.guest_egress, GuestEgress::LoopbackProtected);
}

#[test]
fn options_survive_their_text() {
    let text = serde_json::to_string(&options()).unwrap();
    assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options());
}

#[test]
fn an_unknown_option_is_refused() {
    let mut json = serde_json::to_value(options()).unwrap();
    json["colour"] = "blue".into();
    assert!(serde_json::from_value::<Options>(json).is_err());
}

#[test]
fn an_option_that_cannot_be_honoured_is_named() {
    let refused = |change: fn(&mut Options)| check(change).unwrap_err();
    assert!(refused(|o| o.schedulers.clear()).contains("`schedulers`"));
    assert!(refused(|o| o.host_name = "a b".into()).contains("`host_name`"));
    assert!(refused(|o| o.run_directory = "run".into()).contains("`run_directory`"));
    assert!(refused(|o| o.limits.streams = 0).contains("`limits.streams`"));
    assert!(refused(|o| o.stream_advertise = Some("host".into())).contains("advertise"));
    assert!(refused(|o| o.stream_listen = "0.0.0.0:1".parse().unwrap()).contains("listen"));
    assert!(refused(|o| o.datastores.push(o.datastores[0].clone())).contains("twice"));
    assert!(refused(|o| o.capacity.memory_mib = Some(100)).contains("capacity.memory_mib"));
}
#[test]
fn what_placement_reads_of_a_host_is_bounded_and_named() {
    let settings = check(|options| {
        options.domain = vec!["zone=a".into(), "rack=r17".into()];
        options.networks = vec!["dmz".into()];
        options.resources = BTreeMap::from([("gpu".into(), 2)]);
        options.datastores[0].class = "ssd".into();
    })
    .unwrap();
    let level = |level: &str, name: &str| (level.to_owned(), name.to_owned());
    assert_eq!(settings.domain, [level("zone", "a"), level("rack", "r17")]);
    assert_eq!(settings.cgroup_parent, Path::new("/"));
    let refused = |change: fn(&mut Options)| check(change).unwrap_err();
    for (text, change) in [
        ("`domain`", (|o| o.domain = vec!["rack".into()]) as fn(&mut Options)),
        ("`domain`", |o| o.domain = vec!["rack=".into()]),
        ("level `rack`", |o| o.domain = vec!["rack=a".into(), "rack=b".into()]),
        ("8 levels", |o| o.domain = (0..9).map(|n| format!("l{n}=x")).collect()),
        ("`networks`", |o| o.networks = vec!["a b".into()]),
        ("name `dmz`", |o| o.networks = vec!["dmz".into(), "dmz".into()]),
        ("`resources`", |o| o.resources = BTreeMap::from([("gpu".into(), 0)])),
        ("`resources`", |o| o.resources = BTreeMap::from([("g/pu".into(), 1)])),
        ("64 entries", |o| o.networks = (0..65).map(|n| format!("n{n}")).collect()),
        ("`labels`", |o| o.labels = BTreeMap::from([("a=b".into(), "c".into())])),
        ("`labels`", |o| o.labels = BTreeMap::from([("a".into(), "\n".into())])),
        ("`datastores.class`", |o| o.datastores[0].class = "x".repeat(64)),
        ("`cgroup_parent`", |o| o.cgroup_parent = "/a/../b".into()),
        ("`cgroup_parent`", |o| o.cgroup_parent = "a".into()),
    ] {
        let error = refused(change);
        assert!(error.contains(text), "{error} does not name {text}");
    }
}

#[test]
fn only_a_simulated_host_is_told_its_numa_nodes() {
    let node = NumaOptions { id: 1, cpu_milli: 2000, memory_mib: 1024 };
    let simulated = |options: &mut Options| {
        options.hypervisor = HypervisorKind::Simulated;
        options.capacity.numa = vec![node];
    };
    let settings = check(simulated).unwrap();
    let capacity = Resources { cpu: MilliCpus(2000), memory: Bytes::gib(1) };
    assert_eq!(settings.numa, [NumaNode { id: 1, capacity }]);
    let real = check(|options| options.capacity.numa = vec![node]).unwrap_err();
    assert!(real.contains("`capacity.numa`") && real.contains("simulated"), "{real}");
    let twice = check(|options| {
        simulated(options);
        options.capacity.numa.push(node);
    });
    assert!(twice.unwrap_err().contains("id `1`"));
}
