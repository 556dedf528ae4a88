//! Clusters, endpoints, hosts, datastores, images.

use super::super::Prefixed;
use super::super::testing::*;
use berth_model::change::Change;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{CommandBody, NewImage};
use berth_model::endpoint::EndpointDefaults;
use berth_model::image::ImageConfig;
use berth_model::rejection::NameKind;
use berth_model::{
    Bytes, ClusterId, EndpointId, HostState, ImageId, MilliCpus, Permille, Rejection, Resources,
};

#[test]
fn nothing_but_a_bootstrap_is_taken_before_the_cell_is_set_up() {
    let mut cell = Cell::empty();
    let seen = CommandBody::HostSeen { host: host_id(1), facts: Box::new(facts(1, "main", &[1])) };
    assert_eq!(cell.apply(seen), Err(Rejection::NotBootstrapped));
    assert_eq!(cell.apply(bootstrap()), Ok(Change::Bootstrapped));
    assert_eq!(cell.apply(bootstrap()), Ok(Change::Nothing));
    assert_eq!(cell.fleet.cluster_named("main").unwrap().id, CLUSTER);
    assert_eq!(cell.fleet.endpoint_named("default").unwrap().id, ENDPOINT);
}

#[test]
fn a_cluster_name_is_taken_once_and_its_policy_has_bounds() {
    let mut cell = Cell::new();
    let create = |n: u8, name: &str, policy: ClusterPolicy| CommandBody::CreateCluster {
        id: ClusterId::from_bytes([n; 16]),
        name: name.to_owned(),
        policy,
    };
    let policy = ClusterPolicy::default;
    assert!(matches!(
        cell.apply(create(5, "main", policy())),
        Err(Rejection::NameTaken { kind: NameKind::Cluster, .. })
    ));
    let low = ClusterPolicy { cpu_overcommit: Permille(999), ..policy() };
    assert!(matches!(cell.apply(create(5, "new", low)), Err(Rejection::Invalid { .. })));
    let model = ClusterPolicy { cpu_model: "max,foo=on".to_owned(), ..policy() };
    assert!(matches!(cell.apply(create(5, "new", model)), Err(Rejection::Invalid { .. })));
    assert!(matches!(cell.apply(create(1, "new", policy())), Err(Rejection::Invalid { .. })));
    assert!(matches!(cell.apply(create(5, "a b", policy())), Err(Rejection::Invalid { .. })));
    assert!(cell.apply(create(5, "new", policy())).is_ok());
}

#[test]
fn the_system_endpoint_is_nobodys_to_create() {
    let mut cell = Cell::new();
    let create = CommandBody::CreateEndpoint {
        id: EndpointId::SYSTEM,
        name: "mine".to_owned(),
        defaults: EndpointDefaults::default(),
    };
    assert!(matches!(cell.apply(create), Err(Rejection::Invalid { .. })));
}

#[test]
fn a_host_names_a_cluster_that_exists_and_a_name_that_is_free() {
    let mut cell = Cell::shared(1);
    let seen = |n: u8, facts| CommandBody::HostSeen { host: host_id(n), facts: Box::new(facts) };
    assert_eq!(
        cell.apply(seen(2, facts(2, "nowhere", &[]))),
        Err(Rejection::NoSuchCluster("nowhere".to_owned()))
    );
    assert!(matches!(
        cell.apply(seen(2, facts(1, "main", &[]))),
        Err(Rejection::NameTaken { kind: NameKind::Host, .. })
    ));
    let mut other = facts(2, "main", &[101]);
    other.datastores.get_mut(&store_id(101)).unwrap().name = "store-100".to_owned();
    assert!(matches!(
        cell.apply(seen(2, other)),
        Err(Rejection::NameTaken { kind: NameKind::Datastore, .. })
    ));
    assert!(cell.fleet.host(host_id(2)).is_none());
    assert!(cell.fleet.datastore(store_id(101)).is_none());
}

#[test]
fn the_same_facts_again_change_nothing() {
    let mut cell = Cell::shared(1);
    let again =
        || CommandBody::HostSeen { host: host_id(1), facts: Box::new(facts(1, "main", &[100])) };
    assert_eq!(cell.apply(again()), Ok(Change::Nothing));
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    assert!(matches!(cell.fleet.host(host_id(1)).unwrap().state, HostState::Silent { .. }));
    assert_eq!(cell.apply(again()), Ok(Change::HostChanged { host: host_id(1) }));
    assert!(matches!(cell.fleet.host(host_id(1)).unwrap().state, HostState::Connected { .. }));
}

#[test]
fn a_datastore_knows_who_reaches_it() {
    let mut cell = Cell::shared(2);
    let hosts = |cell: &Cell, n| cell.fleet.datastore(store_id(n)).unwrap().hosts.len();
    assert_eq!(hosts(&cell, 100), 2);
    cell.host(2, facts(2, "main", &[102]));
    assert_eq!((hosts(&cell, 100), hosts(&cell, 102)), (1, 1));
}

#[test]
fn lowered_capacity_is_recorded_and_ends_nothing() {
    let mut cell = Cell::shared(1);
    cell.run(1, 1);
    cell.run(2, 1);
    let mut less = facts(1, "main", &[100]);
    less.capacity = Resources { cpu: MilliCpus(1), memory: Bytes(1) };
    less.datastores.get_mut(&store_id(100)).unwrap().capacity = Bytes(1);
    cell.host(1, less);
    let host = cell.fleet.host(host_id(1)).unwrap();
    assert_eq!((host.placed, host.charged.cpu), (2, MilliCpus::whole(2)));
    assert_eq!(cell.fleet.free_on_host(host), Resources::default());
    assert_eq!(cell.state_name(1), "running");
}

#[test]
fn a_reference_moves_to_the_image_recorded_last() {
    let mut cell = Cell::shared(1);
    let other = ImageId::from_bytes([2; 32]);
    let newer = NewImage {
        id: other,
        references: vec!["busybox:latest".to_owned(), "busybox:2".to_owned()],
        config: ImageConfig::default(),
        document: "{}".to_owned(),
        size: Bytes(1),
        datastore: store_id(100),
    };
    let record = CommandBody::RecordImage(Box::new(newer));
    assert!(cell.apply(record.clone()).is_ok());
    assert_eq!(cell.apply(record), Ok(Change::Nothing));
    let found = cell.fleet.image_by_reference(ENDPOINT, "busybox:latest").unwrap();
    assert_eq!(found.id, other);
    assert!(cell.fleet.image(ENDPOINT, IMAGE).unwrap().references.is_empty());
}

#[test]
fn an_endpoint_does_not_see_anothers_images_but_the_system_sees_all() {
    let cell = Cell::shared(1);
    assert!(cell.fleet.image(OTHER_ENDPOINT, IMAGE).is_none());
    assert!(cell.fleet.image_by_reference(OTHER_ENDPOINT, "busybox:latest").is_none());
    assert_eq!(cell.fleet.images_of(OTHER_ENDPOINT).count(), 0);
    assert!(cell.fleet.image(EndpointId::SYSTEM, IMAGE).is_some());
    assert!(cell.fleet.image_by_reference(EndpointId::SYSTEM, "busybox:latest").is_some());
    assert_eq!(cell.fleet.images_of(EndpointId::SYSTEM).count(), 1);
}

#[test]
fn an_image_on_an_unknown_datastore_is_refused() {
    let mut cell = Cell::shared(1);
    let refused = cell.apply(new_image(&["a:b"], 77));
    assert_eq!(refused, Err(Rejection::NoSuchDatastore(store_id(77))));
}

#[test]
fn a_prefix_finds_one_none_or_many() {
    let mut cell = Cell::shared(1);
    cell.apply(new_container(0x1a, spec(demand()))).unwrap();
    cell.apply(new_container(0x1b, spec(demand()))).unwrap();
    let find = |prefix: &str| match cell.fleet.container_by_prefix(ENDPOINT, prefix) {
        Prefixed::None => "none".to_owned(),
        Prefixed::One(vm) => vm.name.clone(),
        Prefixed::Many => "many".to_owned(),
    };
    assert_eq!(find("1"), "many");
    assert_eq!(find("1a"), "vm-26");
    assert_eq!(find("1b1"), "vm-27");
    assert_eq!(find("1b2"), "none");
    for not_hex in ["", "x", "1A", "g1"] {
        assert_eq!(find(not_hex), "none", "{not_hex}");
    }
    assert!(matches!(cell.fleet.container_by_prefix(OTHER_ENDPOINT, "1a"), Prefixed::None));
    assert!(matches!(cell.fleet.image_by_prefix(ENDPOINT, "01"), Prefixed::One(_)));
}

#[test]
fn the_same_image_in_two_endpoints_is_one_to_the_system() {
    let mut cell = Cell::shared(1);
    cell.apply_command(command(OTHER_ENDPOINT, new_image(&["x:1"], 100))).unwrap();
    let found = cell.fleet.image_by_prefix(EndpointId::SYSTEM, "01");
    assert!(matches!(found, Prefixed::One(_)));
}
