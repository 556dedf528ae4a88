//! Places that are held, and what container VMs and others make of them.

use super::super::testing::*;
use berth_model::change::Change;
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{CommandBody, Decision, NewContainer, ReserveItem};
use berth_model::event::{Subject, What};
use berth_model::host::NumaNode;
use berth_model::{
    Bytes, Demand, DiskDemand, EndpointId, Epoch, GangId, MilliCpus, NumaNodes, Place,
    PlacementWish, Refusal, Rejection, Resources, Timestamp, Victim, VmState,
};

fn placed(cell: &Cell, host: u8) -> u32 {
    cell.fleet.host(host_id(host)).unwrap().placed
}

fn sized(cpus: u64) -> PlacementWish {
    let mut wish = wish("");
    wish.demand.cpu = MilliCpus::whole(cpus);
    wish
}

/// Preempts in `main`.
fn preempting(hosts: u8) -> Cell {
    let mut cell = Cell::shared(hosts);
    let mut policy = cell.fleet.cluster(CLUSTER).unwrap().policy.clone();
    policy.preemption = true;
    cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy }).unwrap();
    cell
}

fn told(cell: &Cell, subject: Subject) -> Vec<What> {
    let events = cell.fleet.events_after(0).unwrap();
    events.filter(|event| event.subject == subject).map(|event| event.what).collect()
}

#[test]
fn a_reservation_takes_room_until_it_is_released() {
    let mut cell = Cell::shared(1);
    cell.reserve(1, sized(3), on(1)).unwrap();
    assert_eq!(cell.fleet.usage(ENDPOINT).cpu, MilliCpus::whole(3));
    let refused = cell.reserve(2, sized(2), on(1)).unwrap_err();
    assert!(matches!(refused, Rejection::HostRefuses { refusal: Refusal::CpuShort { .. }, .. }));
    let release = || CommandBody::Release { ids: vec![reservation_id(1), reservation_id(9)] };
    assert_eq!(cell.apply_command(command(OTHER_ENDPOINT, release())), Ok(Change::Nothing));
    assert_eq!(cell.apply(release()), Ok(Change::Released { count: 1 }));
    assert_eq!(cell.apply(release()), Ok(Change::Nothing));
    assert_eq!(cell.fleet.usage(ENDPOINT), Default::default());
    cell.reserve(2, sized(2), on(1)).unwrap();
    let subject = Subject::Reservation(reservation_id(1));
    assert_eq!(told(&cell, subject), [What::Created, What::Removed]);
}

#[test]
fn the_same_reservation_twice_is_one_whatever_place_is_offered() {
    let mut cell = Cell::shared(2);
    cell.reserve(1, sized(1), on(1)).unwrap();
    assert_eq!(cell.reserve(1, sized(1), on(2)), Ok(reservation_id(1)));
    assert_eq!((placed(&cell, 1), placed(&cell, 2)), (1, 0));
    let other = cell.reserve(1, sized(2), on(1));
    assert_eq!(other, Err(Rejection::OtherReservation(reservation_id(1))));
    let item = ReserveItem { endpoint: OTHER_ENDPOINT, ..reserve_item(2, on(1)) };
    let anothers = cell.reserve_all(vec![sized(1)], vec![item], None);
    assert_eq!(anothers, [Err(Rejection::NoSuchEndpoint)]);
}

#[test]
fn a_reservation_ends_by_leader_time_unless_it_is_extended() {
    let mut cell = Cell::shared(1);
    let held = |n: u8| ReserveItem { hold_ms: Some(1000), ..reserve_item(n, on(1)) };
    cell.reserve_all(vec![sized(1)], vec![held(1), held(2)], None);
    let expires_at = Some(Timestamp(cell.time + 5000));
    let extend = |expires_at| CommandBody::Extend { id: reservation_id(2), expires_at };
    assert!(matches!(cell.apply(extend(Some(Timestamp(1)))), Err(Rejection::Invalid { .. })));
    cell.apply(extend(expires_at)).unwrap();
    cell.time += 1000;
    assert_eq!(cell.apply(extend(expires_at)), Ok(Change::Nothing));
    assert!(cell.fleet.reservation(reservation_id(1)).is_none());
    assert_eq!(placed(&cell, 1), 1);
    let subject = Subject::Reservation(reservation_id(1));
    assert_eq!(told(&cell, subject), [What::Created, What::Expired]);
    cell.apply(extend(None)).unwrap();
    cell.time += 1_000_000;
    assert_eq!(cell.apply(extend(None)), Ok(Change::Nothing));
}

#[test]
fn a_gang_is_held_whole_or_not_at_all() {
    let mut cell = Cell::shared(2);
    let gang = Some(GangId::from_bytes([1; 16]));
    let items = |hosts: [u8; 3]| {
        (1..).zip(hosts).map(|(n, host)| reserve_item(n, on(host))).collect::<Vec<_>>()
    };
    let refused = cell.reserve_all(vec![sized(2)], items([1, 1, 1]), gang);
    assert!(matches!(refused[0], Err(Rejection::GangBroken(_))));
    assert!(matches!(refused[2], Err(Rejection::HostRefuses { .. })));
    assert_eq!((placed(&cell, 1), cell.fleet.reservations().len()), (0, 0));
    let held = cell.reserve_all(vec![sized(2)], items([1, 1, 2]), gang);
    assert!(held.iter().all(Result::is_ok), "{held:?}");
    // Without a gang, each on its own.
    let mut alone = Cell::shared(1);
    let some = alone.reserve_all(vec![sized(2)], items([1, 1, 1]), None);
    assert_eq!(some.iter().filter(|item| item.is_ok()).count(), 2);
}

#[test]
fn everything_on_a_host_that_can_be_held_is_held() {
    let mut cell = Cell::shared(0);
    let mut facts = facts(1, "main", &[100, 101]);
    facts.supply.resources.insert("gpu".to_owned(), 2);
    let capacity = Resources { cpu: MilliCpus::whole(2), memory: Bytes::gib(2) };
    facts.supply.numa = vec![NumaNode { id: 0, capacity }, NumaNode { id: 8, capacity }];
    cell.host(1, facts);
    let demand = Demand {
        memory_reservation: Bytes::gib(1),
        resources: [("gpu".to_owned(), 1)].into(),
        numa: Some(1),
        disks: vec![DiskDemand {
            name: "data".to_owned(),
            size: Bytes::gib(60),
            ..DiskDemand::default()
        }],
        ..demand()
    };
    let wish = PlacementWish { demand, labels: Default::default() };
    let place = |numa: usize, disk: u8| Place {
        numa: NumaNodes::of(&[numa]),
        delta: Some(store_id(100)),
        disks: vec![store_id(disk)],
        ..on(1)
    };
    cell.reserve(1, wish.clone(), place(0, 100)).unwrap();
    let host = cell.fleet.host(host_id(1)).unwrap();
    assert_eq!((host.held.reserved, host.held.resources["gpu"]), (Bytes::gib(1), 1));
    assert_eq!(host.held.numa.len(), 1);
    assert_eq!(cell.fleet.datastore(store_id(100)).unwrap().charged, Bytes::gib(70));
    let full = cell.reserve(2, wish.clone(), place(0, 100)).unwrap_err();
    assert!(matches!(full, Rejection::HostRefuses { refusal: Refusal::DiskShort { .. }, .. }));
    cell.reserve(2, wish.clone(), place(0, 101)).unwrap();
    let third = cell.reserve(3, wish, place(1, 101)).unwrap_err();
    assert!(matches!(third, Rejection::HostRefuses { refusal: Refusal::ResourceShort { .. }, .. }));
}

#[test]
fn a_more_important_one_displaces_reservations_only_where_the_policy_says_so() {
    for mut cell in [Cell::shared(1), preempting(1)] {
        let may = cell.fleet.cluster(CLUSTER).unwrap().policy.preemption;
        cell.reserve(1, sized(4), on(1)).unwrap();
        let mut urgent = sized(2);
        urgent.demand.priority = 5;
        let victims = vec![Victim::Reservation(reservation_id(1))];
        let item = ReserveItem { victims, ..reserve_item(2, on(1)) };
        let held = cell.reserve_all(vec![urgent], vec![item.clone()], None).remove(0);
        assert_eq!(held.is_ok(), may);
        assert_eq!(cell.fleet.reservation(reservation_id(1)).is_none(), may);
        // Nobody displaces an equal.
        let item = ReserveItem { id: reservation_id(3), ..item };
        let equal = cell.reserve_all(vec![sized(1)], vec![item], None).remove(0);
        assert!(matches!(equal, Err(Rejection::NotDisplaceable(_))));
    }
}

fn create_on(cell: &mut Cell, n: u8, reservation: u8, demand: Demand) -> Result<Change, Rejection> {
    let CommandBody::CreateContainer(new) = new_container(n, spec(demand)) else {
        unreachable!("a create")
    };
    let reservation = Some(reservation_id(reservation));
    cell.apply(CommandBody::CreateContainer(Box::new(NewContainer { reservation, ..*new })))
}

fn reserved_whole() -> (PlacementWish, Place) {
    let wish = PlacementWish { demand: demand(), labels: Default::default() };
    (wish, Place { delta: Some(store_id(100)), ..on(2) })
}

#[test]
fn a_container_vm_made_on_a_reservation_takes_its_room_over() {
    let mut cell = Cell::shared(2);
    let (wish, place) = reserved_whole();
    cell.reserve(1, wish, place).unwrap();
    let usage = cell.fleet.usage(ENDPOINT);
    let larger = Demand { cpu: MilliCpus::whole(2), ..demand() };
    let other = Err(Rejection::OtherReservation(reservation_id(1)));
    assert_eq!(create_on(&mut cell, 1, 1, larger), other);
    create_on(&mut cell, 1, 1, demand()).unwrap();
    assert_eq!(create_on(&mut cell, 2, 1, demand()), other);
    assert_eq!(cell.fleet.usage(ENDPOINT), usage);
    let pinned = &cell.fleet.container(vm_id(1)).unwrap().spec.demand;
    assert_eq!((pinned.host, pinned.datastore), (Some(host_id(2)), Some(store_id(100))));
    cell.place(1, Decision::Datastore(store_id(100))).unwrap();
    assert_eq!(cell.fleet.datastore(store_id(100)).unwrap().charged, Bytes::gib(10));
    cell.apply(CommandBody::StartContainer { id: vm_id(1) }).unwrap();
    // The host is full but for what is held.
    for n in 2..=4 {
        cell.reserve(n, sized(1), on(2)).unwrap();
    }
    cell.place(1, Decision::Host { host: host_id(2), epoch: Epoch(1) }).unwrap();
    assert!(cell.fleet.reservation(reservation_id(1)).is_none());
    assert_eq!((cell.state_name(1), placed(&cell, 2)), ("starting", 4));
}

#[test]
fn a_refused_step_leaves_the_reservation_as_it_was() {
    let mut cell = Cell::shared(2);
    let (wish, place) = reserved_whole();
    cell.reserve(1, wish, place).unwrap();
    create_on(&mut cell, 1, 1, demand()).unwrap();
    cell.place(1, Decision::Datastore(store_id(100))).unwrap();
    cell.apply(CommandBody::StartContainer { id: vm_id(1) }).unwrap();
    let refused = cell.place(1, Decision::Host { host: host_id(1), epoch: Epoch(1) });
    assert!(matches!(refused, Err(Rejection::HostRefuses { refusal: Refusal::OtherHost, .. })));
    assert!(cell.fleet.reservation(reservation_id(1)).is_some());
    // Removed before it ran, it gives back the whole.
    cell.apply(CommandBody::RemoveContainer { id: vm_id(1), force: false }).unwrap();
    assert!(cell.fleet.reservation(reservation_id(1)).is_none());
    assert_eq!(cell.fleet.usage(ENDPOINT), Default::default());
}

#[test]
fn a_displaced_container_vm_waits_again_after_its_end() {
    let mut cell = preempting(1);
    let epoch = cell.run(1, 1);
    let urgent = Demand { cpu: MilliCpus::whole(4), priority: 1, ..demand() };
    cell.create(2, 100, urgent);
    cell.apply(CommandBody::StartContainer { id: vm_id(2) }).unwrap();
    assert_eq!(cell.fleet.unplaced().next().unwrap().id, vm_id(2));
    let displace =
        || Decision::Displace { host: host_id(1), victims: vec![Victim::ContainerVm(vm_id(1))] };
    cell.place(2, displace()).unwrap();
    assert!(matches!(cell.state(1), VmState::Running { stop: Some(_), .. }));
    assert!(matches!(cell.place(2, displace()), Err(Rejection::NotDisplaceable(_))));
    cell.exited(1, 1, epoch, 143);
    assert!(matches!(cell.state(1), VmState::Waiting { ended: Some(_), .. }));
    let what = told(&cell, Subject::ContainerVm(vm_id(1)));
    assert_eq!(what.last(), Some(&What::Displaced));
    cell.place(2, Decision::Host { host: host_id(1), epoch: Epoch(1) }).unwrap();
    let waiting: Vec<EndpointId> =
        cell.fleet.unplaced_by_endpoint().map(|(endpoint, _)| endpoint).collect();
    assert_eq!(waiting, [ENDPOINT]);
}

#[test]
fn one_that_its_owner_stops_while_it_is_displaced_stays_stopped() {
    let mut cell = preempting(1);
    let epoch = cell.run(1, 1);
    cell.create(2, 100, Demand { priority: 1, ..demand() });
    cell.apply(CommandBody::StartContainer { id: vm_id(2) }).unwrap();
    let victims = vec![Victim::ContainerVm(vm_id(1))];
    cell.place(2, Decision::Displace { host: host_id(1), victims }).unwrap();
    cell.apply(CommandBody::StopContainer { id: vm_id(1), order: None }).unwrap();
    cell.exited(1, 1, epoch, 143);
    assert_eq!(cell.state_name(1), "exited");
}

#[test]
fn the_policy_of_failover_hosts_keeps_them_until_another_is_lost() {
    let mut cell = Cell::shared(3);
    let hosts = [host_id(3)].into();
    let policy = ClusterPolicy {
        admission: berth_model::Admission::FailoverHosts { hosts },
        ..cell.fleet.cluster(CLUSTER).unwrap().policy.clone()
    };
    cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy }).unwrap();
    let refused = cell.reserve(1, sized(1), on(3)).unwrap_err();
    assert!(matches!(refused, Rejection::HostRefuses { refusal: Refusal::FailoverHost, .. }));
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    cell.reserve(1, sized(1), on(3)).unwrap();
}
