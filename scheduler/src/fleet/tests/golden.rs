//! Bytes that must never change: a log and a snapshot written by the first release are read by
//! every later one.

use super::super::format::{decode_command, encode_command};
use super::super::testing::*;
use super::super::{Fleet, format::FormatError};
use berth_model::command::{Command, CommandBody, Decision, PlaceItem, Principal};
use berth_model::report::Fact;
use berth_model::{Epoch, IdempotencyKey, RequestId, Timestamp};
use expect_test::expect;

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
    let bytes = cell.fleet.encode();
    let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
    expect!["2628 bytes, sha256 21922354a19eff40f5bf64b5827d58d56a2d2aaa69404b9d6872cfc26afe8dcd"]
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
    let newer = berth_wire::envelope::seal(berth_wire::envelope::Format(0x0101), 2, &[]);
    assert!(decode_command(&newer).is_err());
}
