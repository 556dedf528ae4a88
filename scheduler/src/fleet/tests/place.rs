//! Apply has the last word on what was planned.

use super::super::testing::*;
use berth_model::change::Change;
use berth_model::command::{CommandBody, Decision, PlaceItem};
use berth_model::explanation::Refusal;
use berth_model::{Bytes, Demand, Epoch, Explanation, MilliCpus, Rejection, VmState};

fn wait(cell: &mut Cell, n: u8, demand: Demand) {
    cell.create(n, 100, demand);
    cell.apply(CommandBody::StartContainer { id: vm_id(n) }).unwrap();
}

fn on(host: u8, epoch: u64) -> Decision {
    Decision::Host { host: host_id(host), epoch: Epoch(epoch) }
}

fn refusal(rejected: Result<berth_model::ContainerId, Rejection>) -> Refusal {
    match rejected {
        Err(Rejection::HostRefuses { refusal, .. } | Rejection::DatastoreRefuses(refusal)) => {
            refusal
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_host_that_filled_up_after_planning_is_refused() {
    let mut cell = Cell::shared(1);
    for n in 1..=5 {
        wait(&mut cell, n, demand());
    }
    let items =
        (1..=5).map(|n| PlaceItem { container: vm_id(n), decision: on(1, 1) }).collect::<Vec<_>>();
    let answer = cell.apply(CommandBody::Place { planned_at: 0, items });
    let Ok(Change::Placed { items }) = answer else { panic!("{answer:?}") };
    assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 4);
    assert_eq!(
        items[4],
        Err(Rejection::HostRefuses {
            host: host_id(1),
            refusal: Refusal::CpuShort { needed: MilliCpus::whole(1), free: MilliCpus(0) }
        })
    );
    assert_eq!(cell.state_name(5), "waiting");
}

#[test]
fn a_host_that_does_not_qualify_any_more_is_refused() {
    let mut cell = Cell::shared(2);
    cell.host(3, facts(3, "side", &[100]));
    cell.host(4, facts(4, "main", &[104]));
    cell.host(5, facts(5, "main", &[]));
    let pinned = Demand { cluster: Some(CLUSTER), host: Some(host_id(1)), ..demand() };
    wait(&mut cell, 1, pinned);
    assert_eq!(refusal(cell.place(1, on(3, 1))), Refusal::OtherCluster);
    assert_eq!(refusal(cell.place(1, on(2, 1))), Refusal::OtherHost);
    wait(&mut cell, 2, demand());
    assert_eq!(refusal(cell.place(2, on(4, 1))), Refusal::ImageUnreachable);
    assert_eq!(refusal(cell.place(2, on(5, 1))), Refusal::NoDatastore);
    cell.apply(new_image(&[], 104)).unwrap();
    let unreachable = Refusal::DatastoreUnreachable { datastore: store_id(100) };
    assert_eq!(refusal(cell.place(2, on(4, 1))), unreachable);
    cell.apply(CommandBody::SetMaintenance { host: host_id(1), maintenance: true }).unwrap();
    assert_eq!(refusal(cell.place(1, on(1, 1))), Refusal::Maintenance);
    cell.apply(CommandBody::HostSilent { host: host_id(1) }).unwrap();
    assert_eq!(refusal(cell.place(1, on(1, 1))), Refusal::Silent);
    assert_eq!(cell.place(1, on(9, 1)), Err(Rejection::NoSuchHost));
}

#[test]
fn each_start_takes_the_next_epoch_and_no_other() {
    let mut cell = Cell::shared(1);
    wait(&mut cell, 1, demand());
    for offered in [0, 2] {
        assert_eq!(
            cell.place(1, on(1, offered)),
            Err(Rejection::StaleEpoch { held: Epoch(0), offered: Epoch(offered) })
        );
    }
    cell.place(1, on(1, 1)).unwrap();
    cell.started(1, 1, Epoch(1));
    cell.exited(1, 1, Epoch(1), 0);
    cell.apply(CommandBody::StartContainer { id: vm_id(1) }).unwrap();
    assert!(matches!(cell.place(1, on(1, 1)), Err(Rejection::StaleEpoch { .. })));
    assert!(cell.place(1, on(1, 2)).is_ok());
}

#[test]
fn what_waits_no_more_is_not_placed() {
    let mut cell = Cell::shared(1);
    cell.create(1, 100, demand());
    assert_eq!(cell.place(1, on(1, 1)), Err(Rejection::NotWaiting(vm_id(1))));
    let datastore = Decision::Datastore(store_id(100));
    assert_eq!(cell.place(1, datastore.clone()), Err(Rejection::NotWaiting(vm_id(1))));
    let nowhere = Decision::Nowhere(Explanation::default());
    assert_eq!(cell.place(1, nowhere), Err(Rejection::NotWaiting(vm_id(1))));
    assert_eq!(cell.place(9, datastore), Err(Rejection::NoSuchContainer(vm_id(9))));
}

#[test]
fn a_datastore_takes_what_fits_and_what_it_was_asked_for() {
    let mut cell = Cell::shared(1);
    cell.host(2, facts(2, "main", &[100, 102]));
    let place = |cell: &mut Cell, n: u8, demand: Demand| {
        cell.apply(new_container(n, spec(demand))).unwrap();
        cell.place(n, Decision::Datastore(store_id(100)))
    };
    for n in 1..=10 {
        place(&mut cell, n, demand()).unwrap();
    }
    assert_eq!(
        refusal(place(&mut cell, 11, demand())),
        Refusal::DiskShort { needed: Bytes::gib(10), free: Bytes::ZERO }
    );
    let elsewhere = Demand { datastore: Some(store_id(102)), ..demand() };
    assert!(matches!(
        refusal(place(&mut cell, 12, elsewhere)),
        Refusal::DatastoreUnreachable { .. }
    ));
    let unknown = Decision::Datastore(store_id(9));
    assert_eq!(cell.place(12, unknown), Err(Rejection::NoSuchDatastore(store_id(9))));
}

#[test]
fn a_refusal_is_recorded_and_a_start_clears_it() {
    let mut cell = Cell::shared(1);
    wait(&mut cell, 1, demand());
    let explanation = Explanation { considered: 3, ..Explanation::default() };
    cell.place(1, Decision::Nowhere(explanation.clone())).unwrap();
    let VmState::Waiting { refused, .. } = cell.state(1) else { panic!("waits") };
    assert_eq!(refused, Some(explanation.clone()));
    let modified = cell.fleet.container(vm_id(1)).unwrap().meta.modified;
    cell.place(1, Decision::Nowhere(explanation)).unwrap();
    assert_eq!(cell.fleet.container(vm_id(1)).unwrap().meta.modified, modified);
    cell.apply(CommandBody::StopContainer { id: vm_id(1), order: None }).unwrap();
    cell.apply(CommandBody::StartContainer { id: vm_id(1) }).unwrap();
    assert_eq!(cell.state(1), VmState::Waiting { refused: None, ended: None });
}

#[test]
fn what_could_help_a_refused_one_is_an_opportunity_and_the_rest_is_not() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    let before = cell.fleet.opportunity();
    wait(&mut cell, 2, demand());
    cell.place(2, Decision::Nowhere(Explanation::default())).unwrap();
    cell.apply(CommandBody::StopContainer { id: vm_id(1), order: None }).unwrap();
    cell.apply(CommandBody::SetMaintenance { host: host_id(1), maintenance: true }).unwrap();
    assert_eq!(cell.fleet.opportunity(), before);
    let rises = |cell: &Cell| cell.fleet.opportunity() == cell.index;
    cell.exited(1, 1, epoch, 0);
    assert!(rises(&cell));
    cell.apply(CommandBody::SetMaintenance { host: host_id(1), maintenance: false }).unwrap();
    assert!(rises(&cell));
    cell.host(2, facts(2, "main", &[100]));
    assert!(rises(&cell));
    cell.apply(CommandBody::RemoveContainer { id: vm_id(1), force: false }).unwrap();
    assert!(!rises(&cell));
    cell.discarded(1, 1);
    assert!(rises(&cell));
}
