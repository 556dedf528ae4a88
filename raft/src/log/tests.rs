//! Both log stores, by the same claims.

use super::storage::RaftStorage;
use super::*;
use crate::options::Options;
use bytes::Bytes;
use raft::{GetEntriesContext, Storage};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn options() -> Options {
    let address = ([127, 0, 0, 1], 7001).into();
    let mut options = Options::new(1, BTreeMap::from([(1, address)]), address, "unused".into());
    options.log_file_bytes = 256 << 10;
    options.log_purge_bytes = 1 << 20;
    options.log_prefill_bytes = 0;
    options
}

/// Runs a claim on a memory log and on an engine log; the claim reopens as it likes.
fn check(claim: impl Fn(&dyn Fn() -> Arc<dyn LogStore>)) {
    let memory = MemoryLog::default();
    claim(&|| Arc::new(memory.clone()));
    let directory = tempfile::tempdir().unwrap();
    claim(&|| open(directory.path()));
}

fn open(path: &Path) -> Arc<dyn LogStore> {
    Arc::new(EngineLog::open(path, &options()).unwrap())
}

fn state(commit: u64, truncated: (u64, u64)) -> Durable {
    let truncated = Position { index: truncated.0, term: truncated.1 };
    Durable {
        cell: "cell-1".into(),
        replica: 1,
        voters: vec![1, 2, 3],
        term: 5,
        vote: 2,
        commit,
        truncated,
        snapshot: (truncated.index > 0).then_some(truncated),
    }
}

fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    let entry = |index: u64| Entry {
        index,
        term,
        data: Bytes::from(format!("{index}/{term}")),
        ..Entry::default()
    };
    indexes.map(entry).collect()
}

fn terms(log: &dyn LogStore, low: u64, high: u64) -> Vec<(u64, u64)> {
    let read = log.entries(low, high, u64::MAX).unwrap();
    read.iter().map(|entry| (entry.index, entry.term)).collect()
}

#[test]
fn the_bytes_of_the_state_record_never_change() {
    let bytes = state(7, (3, 2)).encode();
    assert_eq!(bytes[..4], [1, 0x52, 1, 0]);
    let expected = [6, b'c', b'e', b'l', b'l', b'-', b'1', 1, 3, 1, 2, 3, 5, 2, 7, 3, 2, 1, 3, 2];
    assert_eq!(bytes[8..], expected);
    assert_eq!(Durable::decode(&bytes).unwrap(), state(7, (3, 2)));
}

#[test]
fn a_new_log_holds_nothing() {
    check(|open| assert!(open().load().unwrap().is_none()));
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    check(|open| {
        let log = open();
        log.append(&entries(1..=3, 1), &state(0, (0, 0))).unwrap();
        log.append(&entries(4..=5, 2), &state(3, (0, 0))).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.load().unwrap(), Some((state(3, (0, 0)), 5)));
        assert_eq!(terms(&*log, 2, 6), [(2, 1), (3, 1), (4, 2), (5, 2)]);
        assert_eq!(log.entries(2, 3, 0).unwrap().len(), 1);
    });
}

#[test]
fn entries_replace_what_was_at_their_index_and_behind() {
    check(|open| {
        let log = open();
        log.append(&entries(1..=9, 1), &state(0, (0, 0))).unwrap();
        log.append(&entries(4..=5, 2), &state(0, (0, 0))).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.load().unwrap().unwrap().1, 5);
        assert_eq!(terms(&*log, 3, 6), [(3, 1), (4, 2), (5, 2)]);
    });
}

#[test]
fn compaction_forgets_the_front_and_keeps_the_rest() {
    check(|open| {
        let log = open();
        log.append(&entries(1..=9, 1), &state(9, (0, 0))).unwrap();
        log.compact(&state(9, (6, 1))).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.load().unwrap(), Some((state(9, (6, 1)), 9)));
        assert_eq!(terms(&*log, 7, 10), [(7, 1), (8, 1), (9, 1)]);
        log.compact(&state(9, (9, 1))).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.load().unwrap(), Some((state(9, (9, 1)), 9)));
        log.append(&entries(10..=10, 1), &state(9, (9, 1))).unwrap();
        assert_eq!(terms(&*log, 10, 11), [(10, 1)]);
    });
}

#[test]
fn a_reset_ahead_of_the_log_forgets_all_of_it() {
    check(|open| {
        let log = open();
        log.append(&entries(1..=9, 1), &state(9, (0, 0))).unwrap();
        log.reset(&state(50, (50, 3))).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.load().unwrap(), Some((state(50, (50, 3)), 50)));
        log.append(&entries(51..=52, 3), &state(50, (50, 3))).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.load().unwrap().unwrap().1, 52);
        assert_eq!(terms(&*log, 51, 53), [(51, 3), (52, 3)]);
    });
}

#[test]
fn a_reset_inside_the_log_leaves_no_stale_tail() {
    check(|open| {
        let log = open();
        log.append(&entries(1..=9, 1), &state(2, (0, 0))).unwrap();
        log.reset(&state(5, (5, 3))).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.load().unwrap(), Some((state(5, (5, 3)), 5)));
        log.append(&entries(6..=7, 3), &state(5, (5, 3))).unwrap();
        drop(log);
        let log = open();
        assert_eq!(log.load().unwrap().unwrap().1, 7);
        assert_eq!(terms(&*log, 6, 8), [(6, 3), (7, 3)]);
    });
}

#[test]
fn old_files_are_cleared_and_the_rest_survives() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let mut next = 1;
    let mut largest = 0;
    for round in 1..=40u64 {
        let mut batch = entries(next..=next + 9, 1);
        for entry in &mut batch {
            // Not to be compressed away.
            let noise = |n: u64| crc32fast::hash(&(entry.index * 10_000 + n).to_le_bytes());
            entry.data = (0..4000).flat_map(|n| noise(n).to_le_bytes()).collect();
        }
        next += 10;
        log.append(&batch, &state(next - 1, (0, 0))).unwrap();
        let truncated = (next - 1).saturating_sub(20);
        log.compact(&state(next - 1, (truncated, 1))).unwrap();
        if round > 20 {
            largest = largest.max(log.used_bytes());
        }
    }
    assert!(largest < 4 << 20, "the log grew to {largest} bytes");
    drop(log);
    let log = open(directory.path());
    assert_eq!(log.load().unwrap().unwrap().1, next - 1);
    assert_eq!(terms(&*log, next - 20, next).len(), 20);
}

#[test]
fn raft_reads_entries_before_they_are_on_disk() {
    let log: Arc<dyn LogStore> = Arc::new(MemoryLog::default());
    log.append(&entries(1..=3, 1), &state(3, (0, 0))).unwrap();
    let mut storage = RaftStorage::open(log, &state(3, (0, 0)), 3).unwrap();
    storage.append(&entries(4..=6, 2), 1);
    let read = storage.entries(2, 7, None, GetEntriesContext::empty(false)).unwrap();
    assert_eq!(read.len(), 5);
    assert_eq!((storage.first_index().unwrap(), storage.last_index().unwrap()), (1, 6));
    assert_eq!((storage.term(3).unwrap(), storage.term(4).unwrap()), (1, 2));
    storage.append(&entries(5..=5, 3), 2);
    assert_eq!((storage.last_index().unwrap(), storage.term(5).unwrap()), (5, 3));
    assert!(storage.term(6).is_err());
}

#[test]
fn raft_sees_the_front_go_and_still_knows_its_term() {
    let log: Arc<dyn LogStore> = Arc::new(MemoryLog::default());
    log.append(&entries(1..=4, 1), &state(6, (0, 0))).unwrap();
    log.append(&entries(5..=6, 2), &state(6, (0, 0))).unwrap();
    let mut storage = RaftStorage::open(log.clone(), &state(6, (0, 0)), 6).unwrap();
    let compacted = state(6, (4, 1));
    log.compact(&compacted).unwrap();
    storage.compact(&compacted);
    assert_eq!(storage.first_index().unwrap(), 5);
    assert_eq!((storage.term(4).unwrap(), storage.term(5).unwrap()), (1, 2));
    assert!(storage.term(3).is_err());
    assert!(storage.entries(4, 6, None, GetEntriesContext::empty(false)).is_err());
    assert_eq!(storage.snapshot(0, 2).unwrap().get_metadata().index, 4);
    let reset = state(9, (9, 3));
    storage.reset(&reset);
    assert_eq!((storage.last_index().unwrap(), storage.term(9).unwrap()), (9, 3));
}

#[test]
fn a_log_that_lost_committed_entries_is_refused() {
    let log: Arc<dyn LogStore> = Arc::new(MemoryLog::default());
    log.append(&entries(1..=3, 1), &state(5, (0, 0))).unwrap();
    let refused = RaftStorage::open(log, &state(5, (0, 0)), 3);
    assert!(matches!(refused, Err(LogError::Damaged(_))));
}
