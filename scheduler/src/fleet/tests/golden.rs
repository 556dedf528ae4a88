//! Bytes that must never change: a log and a snapshot written by the first release are read by
//! every later one.

use super::super::format::{decode_command, encode_command};
use super::super::testing::*;
use super::super::{Fleet, format::FormatError};
use berth_model::command::{
    Command, CommandBody, Decision, PlaceItem, Principal, Reserve, ReserveItem,
};
use berth_model::report::Fact;
use berth_model::{
    Epoch, IdempotencyKey, Place, PlacementWish, RequestId, RuleKind, Scope, Timestamp,
};
use expect_test::expect;
use std::sync::Arc;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn command_version_2() {
    let command = Command {
        principal: Principal::Client("ci".to_owned()),
        endpoint: ENDPOINT,
        request: RequestId::from_bytes([3; 16]),
        traceparent: Some("00-ab".to_owned()),
        key: Some(IdempotencyKey::from_bytes([4; 16])),
        deadline: Some(Timestamp(1_700_000_000_000)),
        condition: None,
        body: CommandBody::StartContainer { id: vm_id(5) },
    };
    let bytes = encode_command(&command);
    expect!["010102006a1d2ef5030263690101010101010101010101010101010103030303030303030303030303030303010530302d6162010404040404040404040404040404040401fd0068e5cf8b01000000080505050505050505050505050505050505050505050505050505050505050505"].assert_eq(&hex(&bytes));
    assert_eq!(decode_command(&bytes).unwrap(), command);
}

#[test]
fn place_and_observe_version_2() {
    let place = CommandBody::Place {
        planned_at: 300,
        items: vec![PlaceItem {
            container: vm_id(5),
            decision: Decision::Host { host: host_id(6), epoch: Epoch(7) },
        }],
    };
    let observe = CommandBody::Observe {
        host: host_id(6),
        facts: vec![Fact::VmExited {
            container: vm_id(5),
            epoch: Epoch(7),
            exit: exit(-1),
            finished_at: Timestamp(9),
        }],
    };
    for (body, expected) in [
        (
            place,
            expect![
                "01010200ecfb8e65020101010101010101010101010101010103030303030303030303030303030303000000000bfb2c01010505050505050505050505050505050505050505050505050505050505050505010606060606060606060606060606060607"
            ],
        ),
        (
            observe,
            expect![
                "010102007a53ca36020101010101010101010101010101010103030303030303030303030303030303000000000c06060606060606060606060606060606010105050505050505050505050505050505050505050505050505050505050505050701000009"
            ],
        ),
    ] {
        let command = command(ENDPOINT, body);
        let bytes = encode_command(&command);
        expected.assert_eq(&hex(&bytes));
        assert_eq!(decode_command(&bytes).unwrap(), command);
    }
}

#[test]
fn rules_and_reservations_version_2() {
    let place = Place { delta: Some(store_id(7)), ..on(6) };
    let item = ReserveItem { hold_ms: Some(60_000), ..reserve_item(5, place) };
    let wish = PlacementWish { demand: demand(), labels: labels("app=web") };
    let reserve = CommandBody::Reserve(Box::new(Reserve {
        planned_at: 300,
        wishes: vec![Arc::new(wish)],
        items: vec![item],
        gang: None,
    }));
    let scope = Scope::Domain("rack".to_owned());
    let spread = rule(1, "app=web", RuleKind::Spread { scope, max_skew: 2 });
    for (body, expected) in [
        (
            reserve,
            expect![
                "01010200adb567aa0201010101010101010101010101010101030303030303030303030303030303030000000015fb2c0101fbe803fc0000002000000000fd00000080020000000000000000000000000001036170700377656201050505050505050505050505050505050001010101010101010101010101010101060606060606060606060606060606060001070707070707070707070707070707070001fb60ea0000"
            ],
        ),
        (
            spread,
            expect![
                "01010200c55837bb0201010101010101010101010101010101030303030303030303030303030303030000000012010101010101010101010101010101010672756c652d31010203617070010377656200000301047261636b0200"
            ],
        ),
    ] {
        let command = command(ENDPOINT, body);
        let bytes = encode_command(&command);
        expected.assert_eq(&hex(&bytes));
        assert_eq!(decode_command(&bytes).unwrap(), command);
    }
}

/// Long, so only its hash is kept here; `a_snapshot_gives_back_the_fleet` reads it.
#[test]
fn snapshot_version_2() {
    let mut cell = Cell::shared(2);
    let epoch = cell.run(1, 1);
    cell.exited(1, 1, epoch, 3);
    cell.run(2, 2);
    cell.apply_with_key(1, new_container(3, spec(demand()))).unwrap();
    cell.apply(CommandBody::RemoveContainer { id: vm_id(1), force: false }).unwrap();
    cell.discarded(1, 1);
    cell.apply(rule(1, "app=web", RuleKind::AtMost { scope: Scope::Host, count: 2 })).unwrap();
    cell.reserve(1, wish("app=web"), on(1)).unwrap();
    cell.reserve(2, wish("app=web"), on(2)).unwrap();
    let bytes = cell.fleet.encode();
    let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
    expect!["2989 bytes, sha256 f89cc034c2e48d0a5ce5886116f1fb76f29ffd3e986d670fdf8d0edc993a8281"]
        .assert_eq(&format!("{} bytes, sha256 {}", bytes.len(), hex(&digest)));
    let decoded = Fleet::decode(&bytes).unwrap();
    assert_eq!(decoded.encode(), bytes);
    assert_eq!(decoded.state_hash(), cell.fleet.state_hash());
}

#[test]
fn damaged_or_newer_bytes_are_an_error_and_not_a_fleet() {
    let cell = Cell::shared(1);
    let mut bytes = cell.fleet.encode();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(Fleet::decode(&bytes), Err(FormatError::Envelope(_))));
    assert!(matches!(Fleet::decode(&[]), Err(FormatError::Envelope(_))));
    let command = encode_command(&command(ENDPOINT, bootstrap()));
    assert!(Fleet::decode(&command).is_err());
    assert!(decode_command(&command[..command.len() - 1]).is_err());
    for version in [1, 3] {
        let other = berth_wire::envelope::seal(berth_wire::envelope::Format(0x0101), version, &[]);
        assert!(decode_command(&other).is_err());
    }
}
