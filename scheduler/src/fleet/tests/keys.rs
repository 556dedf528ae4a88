//! Idempotency keys, deadlines, and what time lets expire.

use super::super::testing::*;
use super::super::{departed, keys};
use berth_model::change::Change;
use berth_model::command::CommandBody;
use berth_model::{Rejection, Timestamp};

#[test]
fn a_command_that_comes_again_has_one_effect_and_the_first_answer() {
    let mut cell = Cell::shared(1);
    let create = || new_container(1, spec(demand()));
    let first = cell.apply_with_key(7, create());
    assert_eq!(first, Ok(Change::ContainerCreated { container: vm_id(1) }));
    let before = cell.fleet.container(vm_id(1)).cloned();
    assert_eq!(cell.apply_with_key(7, create()), first);
    assert_eq!(cell.fleet.container(vm_id(1)).cloned(), before);
    // Without the key it is another wish, for a name that is taken.
    assert!(matches!(cell.apply(create()), Err(Rejection::NameTaken { .. })));
}

#[test]
fn another_command_under_a_used_key_is_refused() {
    let mut cell = Cell::shared(1);
    cell.apply_with_key(7, new_container(1, spec(demand()))).unwrap();
    let other = cell.apply_with_key(7, new_container(2, spec(demand())));
    assert_eq!(other, Err(Rejection::KeyReused));
    assert!(cell.fleet.container(vm_id(2)).is_none());
}

#[test]
fn a_rejected_command_may_be_tried_again_under_its_key() {
    let mut cell = Cell::shared(1);
    let start = || CommandBody::StartContainer { id: vm_id(1) };
    assert!(cell.apply_with_key(7, start()).is_err());
    cell.create(1, 100, demand());
    assert!(cell.apply_with_key(7, start()).is_ok());
}

#[test]
fn a_key_is_forgotten_ten_minutes_later_by_leader_time() {
    let mut cell = Cell::shared(1);
    cell.apply_with_key(7, new_container(1, spec(demand()))).unwrap();
    cell.time += keys::KEPT_MS - 2;
    assert!(cell.apply_with_key(7, new_container(1, spec(demand()))).is_ok());
    cell.time += 10;
    let late = cell.apply_with_key(7, new_container(1, spec(demand())));
    assert!(matches!(late, Err(Rejection::NameTaken { .. })));
}

#[test]
fn keys_are_bounded_and_the_oldest_go_first() {
    let mut keys = keys::Keys::default();
    let key = |n: u32| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        berth_model::IdempotencyKey::from_bytes(bytes)
    };
    for n in 0..=u32::try_from(keys::KEYS_MAX).unwrap() {
        keys.keep(key(n), [0; 32], Change::Nothing, Timestamp(u64::from(n)));
    }
    assert_eq!(keys.iter().count(), keys::KEYS_MAX);
    assert_eq!(keys.answer(&key(0), &[0; 32]), None);
    assert_eq!(keys.answer(&key(1), &[0; 32]), Some(Ok(Change::Nothing)));
}

#[test]
fn a_deadline_that_has_passed_changes_nothing() {
    let mut cell = Cell::shared(1);
    let mut late = command(ENDPOINT, new_container(1, spec(demand())));
    late.deadline = Some(Timestamp(cell.time));
    assert_eq!(cell.apply_command(late.clone()), Err(Rejection::DeadlinePassed));
    assert!(cell.fleet.container(vm_id(1)).is_none());
    late.deadline = Some(Timestamp(cell.time + 1));
    assert!(cell.apply_command(late).is_ok());
}

#[test]
fn time_never_goes_back() {
    let mut cell = Cell::shared(1);
    let before = cell.fleet.time();
    cell.time = 5;
    cell.apply(CommandBody::SetMaintenance { host: host_id(1), maintenance: true }).unwrap();
    assert_eq!(cell.fleet.time(), before);
}

#[test]
fn a_departed_one_is_remembered_for_five_minutes() {
    let mut cell = Cell::shared(1);
    let epoch = cell.run(1, 1);
    cell.exited(1, 1, epoch, 7);
    cell.apply(CommandBody::RemoveContainer { id: vm_id(1), force: false }).unwrap();
    cell.discarded(1, 1);
    let touch = |cell: &mut Cell, maintenance| {
        cell.apply(CommandBody::SetMaintenance { host: host_id(1), maintenance }).unwrap();
    };
    cell.time += departed::KEPT_MS - 10;
    touch(&mut cell, true);
    assert_eq!(cell.fleet.departed(vm_id(1)).unwrap().exit, Some(exit(7)));
    cell.time += 20;
    touch(&mut cell, false);
    assert!(cell.fleet.departed(vm_id(1)).is_none());
}
