//! The life of a container VM through commands and facts.

use super::super::testing::*;
use berth_model::change::Change;
use berth_model::command::{CommandBody, Decision};
use berth_model::container::StopOrder;
use berth_model::rejection::NameKind;
use berth_model::report::Fact;
use berth_model::{
    Bytes, Demand, EndpointId, Epoch, MilliCpus, Rejection, Resources, Timestamp, VmState,
};

fn start(n: u8) -> CommandBody {
    CommandBody::StartContainer { id: vm_id(n) }
}

fn stop(n: u8) -> CommandBody {
    CommandBody::StopContainer { id: vm_id(n), order: None }
}

fn remove(n: u8, force: bool) -> CommandBody {
    CommandBody::RemoveContainer { id: vm_id(n), force }
}

fn charged(cell: &Cell, host: u8) -> (Resources, u32) {
    let host = cell.fleet.host(host_id(host)).unwrap();
    (host.charged, host.placed)
}

fn disk(cell: &Cell) -> Bytes {
    cell.fleet.datastore(store_id(100)).unwrap().charged
}

const ONE: Resources = Resources { cpu: MilliCpus::whole(1), memory: Bytes::gib(1) };

#[test]
fn a_whole_life_charges_what_it_holds_and_nothing_after() {
    let mut cell = Cell::shared(1);
    cell.apply(new_container(1, spec(demand()))).unwrap();
    assert_eq!((cell.state_name(1), disk(&cell)), ("pending", Bytes::ZERO));
    cell.place(1, Decision::Datastore(store_id(100))).unwrap();
    assert_eq!((cell.state_name(1), disk(&cell)), ("created", Bytes::gib(10)));
    cell.apply(start(1)).unwrap();
    assert_eq!((cell.state_name(1), charged(&cell, 1).1), ("waiting", 0));
    cell.place(1, Decision::Host { host: host_id(1), epoch: Epoch(1) }).unwrap();
    assert_eq!((cell.state_name(1), charged(&cell, 1)), ("starting", (ONE, 1)));
    cell.started(1, 1, Epoch(1));
    assert_eq!((cell.state_name(1), charged(&cell, 1)), ("running", (ONE, 1)));
    cell.exited(1, 1, Epoch(1), 7);
    assert_eq!((cell.state_name(1), charged(&cell, 1).1), ("exited", 0));
    cell.apply(remove(1, false)).unwrap();
    assert_eq!((cell.state_name(1), disk(&cell)), ("removing", Bytes::gib(10)));
    cell.discarded(1, 1);
    assert_eq!((cell.state_name(1), disk(&cell)), ("gone", Bytes::ZERO));
    assert_eq!(cell.fleet.departed(vm_id(1)).unwrap().exit, Some(exit(7)));
}

#[test]
fn create_says_what_is_wrong() {
    let mut cell = Cell::shared(1);
    let mut create = |change: fn(&mut Demand)| {
        let mut demand = demand();
        change(&mut demand);
        cell.apply(new_container(1, spec(demand))).unwrap_err()
    };
    assert!(matches!(create(|d| d.cpu = MilliCpus(0)), Rejection::Invalid { .. }));
    assert!(matches!(create(|d| d.memory = Bytes(0)), Rejection::Invalid { .. }));
    assert!(matches!(create(|d| d.disk = Bytes(0)), Rejection::Invalid { .. }));
    assert_eq!(create(|d| d.host = Some(host_id(9))), Rejection::NoSuchHost);
    assert_eq!(
        create(|d| d.datastore = Some(store_id(9))),
        Rejection::NoSuchDatastore(store_id(9))
    );
    let unknown = berth_model::ClusterId::from_bytes([9; 16]);
    assert!(matches!(
        create(|d| d.cluster = Some(berth_model::ClusterId::from_bytes([9; 16]))),
        Rejection::NoSuchCluster(name) if name == unknown.to_string()
    ));
    let mut other_image = spec(demand());
    other_image.image = berth_model::ImageId::from_bytes([9; 32]);
    assert!(matches!(cell.apply(new_container(1, other_image)), Err(Rejection::NoSuchImage(_))));
    let unknown = EndpointId::from_bytes([9; 16]);
    let refused = cell.apply_command(command(unknown, new_container(1, spec(demand()))));
    assert_eq!(refused, Err(Rejection::NoSuchEndpoint));
}

#[test]
fn a_name_is_free_again_as_soon_as_its_holder_is_removed() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    let named_alike = |n: u8| {
        let CommandBody::CreateContainer(mut new) = new_container(n, spec(demand())) else {
            unreachable!("a create");
        };
        new.name = "vm-1".to_owned();
        CommandBody::CreateContainer(new)
    };
    assert_eq!(
        cell.apply(named_alike(2)),
        Err(Rejection::NameTaken {
            kind: NameKind::Container,
            name: "vm-1".to_owned(),
            holder: Some(vm_id(1))
        })
    );
    cell.apply(remove(1, true)).unwrap();
    assert!(cell.apply(named_alike(2)).is_ok());
    cell.exited(1, 1, epoch, 137);
    cell.discarded(1, 1);
    assert_eq!(cell.fleet.container_named(ENDPOINT, "vm-1").unwrap().id, vm_id(2));
}

#[test]
fn an_endpoint_cannot_touch_anothers_container_but_the_system_can() {
    let mut cell = Cell::shared(1);
    cell.create(1, 100, demand());
    for body in [start(1), stop(1), remove(1, true)] {
        let refused = cell.apply_command(command(OTHER_ENDPOINT, body));
        assert_eq!(refused, Err(Rejection::NoSuchContainer(vm_id(1))));
    }
    assert!(cell.apply_command(command(EndpointId::SYSTEM, start(1))).is_ok());
}

#[test]
fn start_is_refused_where_it_makes_no_sense() {
    let mut cell = Cell::shared(1);
    assert_eq!(cell.apply(start(1)), Err(Rejection::NoSuchContainer(vm_id(1))));
    cell.apply(new_container(1, spec(demand()))).unwrap();
    assert_eq!(cell.apply(start(1)), Err(Rejection::NotPlaced(vm_id(1))));
    cell.place(1, Decision::Datastore(store_id(100))).unwrap();
    assert!(cell.apply(start(1)).is_ok());
    assert_eq!(cell.apply(start(1)), Ok(Change::Nothing));
    cell.place(1, Decision::Host { host: host_id(1), epoch: Epoch(1) }).unwrap();
    assert_eq!(cell.apply(start(1)), Err(Rejection::AlreadyRunning(vm_id(1))));
    cell.started(1, 1, Epoch(1));
    assert_eq!(cell.apply(start(1)), Err(Rejection::AlreadyRunning(vm_id(1))));
    cell.apply(remove(1, true)).unwrap();
    assert_eq!(cell.apply(start(1)), Err(Rejection::BeingRemoved(vm_id(1))));
}

#[test]
fn a_stop_takes_a_waiting_one_back_to_where_it_came_from() {
    let mut cell = Cell::shared(1);
    cell.create(1, 100, demand());
    cell.apply(start(1)).unwrap();
    cell.apply(stop(1)).unwrap();
    assert_eq!(cell.state(1), VmState::Created);

    let epoch = cell.run(1, 1);
    cell.exited(1, 1, epoch, 7);
    let exited = cell.state(1);
    cell.apply(start(1)).unwrap();
    assert_eq!(cell.state_name(1), "waiting");
    cell.apply(stop(1)).unwrap();
    assert_eq!(cell.state(1), exited);
}

#[test]
fn a_stop_of_what_does_not_run_changes_nothing() {
    let mut cell = Cell::shared(1);
    cell.create(1, 100, demand());
    assert_eq!(cell.apply(stop(1)), Ok(Change::Nothing));
    let epoch = cell.run(1, 1);
    cell.exited(1, 1, epoch, 0);
    assert_eq!(cell.apply(stop(1)), Ok(Change::Nothing));
}

#[test]
fn of_two_stops_the_later_signal_and_the_shorter_grace_count() {
    let mut cell = Cell::shared(1);
    cell.run(1, 1);
    let mut order = |signal, grace_seconds| {
        let order = Some(StopOrder { signal, grace_seconds });
        cell.apply(CommandBody::StopContainer { id: vm_id(1), order }).unwrap();
        let VmState::Running { stop: Some(stop), .. } = cell.state(1) else { panic!("runs") };
        (stop.signal, stop.grace_seconds)
    };
    assert_eq!(order(15, None), (15, None));
    assert_eq!(order(15, Some(30)), (15, Some(30)));
    assert_eq!(order(9, Some(60)), (9, Some(30)));
    assert_eq!(order(9, Some(0)), (9, Some(0)));
    let order = Some(StopOrder { signal: 65, grace_seconds: None });
    let refused = cell.apply(CommandBody::StopContainer { id: vm_id(1), order });
    assert!(matches!(refused, Err(Rejection::Invalid { .. })));
}

#[test]
fn a_stop_without_order_takes_signal_and_grace_of_the_container() {
    let mut cell = Cell::shared(1);
    let mut spec = spec(demand());
    spec.stop_signal = 3;
    spec.stop_timeout_seconds = Some(2);
    cell.create_spec(1, 100, spec);
    cell.run(1, 1);
    cell.apply(stop(1)).unwrap();
    let VmState::Running { stop, .. } = cell.state(1) else { panic!("runs") };
    assert_eq!(stop, Some(StopOrder { signal: 3, grace_seconds: Some(2) }));
    assert_eq!(cell.apply(self::stop(1)), Ok(Change::Nothing));
}

#[test]
fn a_stop_ordered_while_starting_is_kept_when_it_runs() {
    let mut cell = Cell::shared(1);
    let epoch = cell.start(1, 1);
    cell.apply(stop(1)).unwrap();
    cell.started(1, 1, epoch);
    assert!(matches!(cell.state(1), VmState::Running { stop: Some(_), .. }));
}

#[test]
fn facts_of_another_epoch_or_host_change_nothing() {
    let mut cell = Cell::shared(2);
    let epoch = cell.start(1, 1);
    assert_eq!(cell.started(1, 1, Epoch(9)), Change::Nothing);
    assert_eq!(cell.started(1, 2, epoch), Change::Nothing);
    assert_eq!(cell.exited(1, 2, epoch, 0), Change::Nothing);
    assert_eq!(cell.started(1, 1, epoch), Change::Observed { changed: 1 });
    assert_eq!(cell.started(1, 1, epoch), Change::Nothing);
    cell.exited(1, 1, epoch, 3);
    let second = cell.run(1, 2);
    assert_eq!(second, Epoch(2));
    assert_eq!(cell.exited(1, 1, epoch, 3), Change::Nothing);
    assert_eq!(cell.state_name(1), "running");
    assert_eq!(cell.discarded(1, 2), Change::Nothing);
    let unknown = CommandBody::Observe { host: host_id(9), facts: Vec::new() };
    assert_eq!(cell.apply(unknown), Err(Rejection::NoSuchHost));
}

#[test]
fn a_failed_start_is_an_exit_that_never_started() {
    let mut cell = Cell::shared(1);
    let epoch = cell.start(1, 1);
    let failed = Fact::VmStartFailed {
        container: vm_id(1),
        epoch,
        exit: exit(127),
        finished_at: Timestamp(5),
    };
    cell.observe(1, failed);
    assert_eq!(
        cell.state(1),
        VmState::Exited { exit: exit(127), started_at: None, finished_at: Timestamp(5) }
    );
    assert_eq!(charged(&cell, 1).1, 0);
}

#[test]
fn one_that_removes_itself_is_discarded_where_it_ran_and_its_exit_is_told() {
    let mut cell = Cell::shared(2);
    let mut spec = spec(demand());
    spec.auto_remove = true;
    cell.create_spec(1, 100, spec.clone());
    let epoch = cell.run(1, 2);
    cell.exited(1, 2, epoch, 7);
    assert_eq!(
        cell.state(1),
        VmState::Removing { host: Some(host_id(2)), charge: None, exit: Some(exit(7)) }
    );
    assert!(cell.fleet.container_named(ENDPOINT, "vm-1").is_none());
    cell.discarded(1, 2);
    assert_eq!(cell.fleet.departed(vm_id(1)).unwrap().exit, Some(exit(7)));

    cell.create_spec(2, 100, spec);
    let epoch = cell.start(2, 1);
    let finished_at = Timestamp(5);
    let failed = Fact::VmStartFailed { container: vm_id(2), epoch, exit: exit(126), finished_at };
    cell.observe(1, failed);
    assert_eq!(cell.state_name(2), "removing");
    cell.discarded(2, 1);
    assert_eq!(cell.fleet.departed(vm_id(2)).unwrap().exit, Some(exit(126)));
}

#[test]
fn what_runs_is_removed_by_force_only_and_charged_until_it_is_over() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    assert_eq!(cell.apply(remove(1, false)), Err(Rejection::StillRunning(vm_id(1))));
    cell.apply(remove(1, true)).unwrap();
    assert_eq!(charged(&cell, 1), (ONE, 1));
    assert_eq!(cell.apply(remove(1, true)), Err(Rejection::BeingRemoved(vm_id(1))));
    cell.exited(1, 1, epoch, 137);
    assert_eq!(charged(&cell, 1).1, 0);
    cell.discarded(1, 1);
    assert_eq!(cell.fleet.departed(vm_id(1)).unwrap().exit, Some(exit(137)));
}

#[test]
fn a_discard_without_an_exit_counts_as_killed() {
    let mut cell = Cell::shared(1);
    cell.run(1, 1);
    cell.apply(remove(1, true)).unwrap();
    cell.discarded(1, 1);
    assert_eq!(cell.fleet.departed(vm_id(1)).unwrap().exit, Some(exit(137)));
    assert_eq!(charged(&cell, 1).1, 0);
}

#[test]
fn what_never_started_is_gone_at_once() {
    let mut cell = Cell::shared(1);
    cell.apply(new_container(1, spec(demand()))).unwrap();
    cell.create(2, 100, demand());
    for n in [1, 2] {
        cell.apply(remove(n, false)).unwrap();
        assert_eq!(cell.state_name(n), "gone");
        assert_eq!(cell.fleet.departed(vm_id(n)).unwrap().exit, None);
    }
    assert_eq!(disk(&cell), Bytes::ZERO);
}

fn discards_on(cell: &Cell, n: u8) -> Option<u8> {
    let VmState::Removing { host, .. } = cell.state(n) else { panic!("is being removed") };
    host.map(|host| host.as_bytes()[0])
}

#[test]
fn what_is_stored_is_discarded_by_the_last_host_or_another_that_reaches_it() {
    let mut cell = Cell::shared(3);
    for n in [1, 2] {
        let epoch = cell.run(n, 2);
        cell.exited(n, 2, epoch, 0);
    }
    cell.apply(remove(1, false)).unwrap();
    assert_eq!(discards_on(&cell, 1), Some(2));
    cell.apply(CommandBody::HostSilent { host: host_id(2) }).unwrap();
    assert_eq!(discards_on(&cell, 1), Some(1));
    cell.apply(remove(2, false)).unwrap();
    assert_eq!(discards_on(&cell, 2), Some(1));
    // Whoever did it, it is done.
    assert_eq!(cell.discarded(1, 2), Change::Observed { changed: 1 });
}

#[test]
fn a_removal_that_no_host_can_do_waits_for_one() {
    let mut cell = Cell::shared(2);
    let epoch = cell.run(1, 1);
    cell.exited(1, 1, epoch, 0);
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    cell.apply(CommandBody::HostSilent { host: host_id(2) }).unwrap();
    cell.apply(remove(1, false)).unwrap();
    assert_eq!(discards_on(&cell, 1), None);
    cell.host(3, facts(3, "main", &[103]));
    assert_eq!(discards_on(&cell, 1), None);
    cell.host(2, facts(2, "main", &[100]));
    assert_eq!(discards_on(&cell, 1), Some(2));
    cell.host(2, facts(2, "main", &[102]));
    assert_eq!(discards_on(&cell, 1), None);
}

#[test]
fn what_may_still_run_is_given_up_by_its_own_host_only() {
    let mut cell = Cell::shared(2);
    cell.run(1, 1);
    cell.apply(remove(1, true)).unwrap();
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    assert_eq!(discards_on(&cell, 1), Some(1));
    assert_eq!(cell.discarded(1, 2), Change::Nothing);
    assert_eq!(cell.discarded(1, 1), Change::Observed { changed: 1 });
}

#[test]
fn what_runs_on_a_silent_host_is_left_alone() {
    let mut cell = Cell::shared(1);
    cell.run(1, 1);
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    assert_eq!(cell.state_name(1), "running");
    assert_eq!(charged(&cell, 1), (ONE, 1));
}
