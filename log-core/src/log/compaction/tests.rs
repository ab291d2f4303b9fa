//! What compaction does with single batches, segments and settings. Random histories, with crashes, are in
//! `tests/crash/compaction/`.

use bytes::Bytes;

use super::super::testing::{Disk, PARTITION};
use super::super::{
    AppendError, CleanupPolicy, CompactionError, Isolation, LogConfig, PartitionLog, ReadError, inspect,
};
use crate::record::{
    BatchBuilder, Compression, EndOfTransaction, Marker, OVERHEAD, ProducedBatch, RecordBatch, batches,
};

const BUDGET_BYTES: usize = 1 << 20;
/// A segment of its own for every batch of [`put`].
const VALUE_BYTES: usize = 900;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1024,
        cleanup: CleanupPolicy::COMPACT,
        delete_retention_ms: 1000,
        min_cleanable_dirty_millionths: 0,
        ..LogConfig::default()
    }
}

fn append(log: &mut PartitionLog, builder: BatchBuilder, now_ms: i64) {
    let batch = ProducedBatch::internal(builder.build(0).expect("small")).expect("sound");
    log.append(&batch, 0, now_ms).expect("room");
}

fn with(mut builder: BatchBuilder, timestamp: i64, key: &str, value: Option<&[u8]>) -> BatchBuilder {
    builder.append(timestamp, Some(key.as_bytes()), value, &[]).expect("small");
    builder
}

/// A batch with a value that fills a segment.
fn put(log: &mut PartitionLog, timestamp: i64, key: &str) {
    append(log, with(BatchBuilder::default(), timestamp, key, Some(&[7; VALUE_BYTES])), timestamp);
}

/// Closes the segment that is written to.
fn seal(log: &mut PartitionLog, now_ms: i64) {
    put(log, now_ms, "seal");
    put(log, now_ms, "seal");
    log.flush().expect("healthy");
}

/// Offset, timestamp, key and length of the value of every record.
fn records(log: &PartitionLog) -> Vec<(i64, i64, String, Option<usize>)> {
    all_batches(log)
        .iter()
        .flat_map(|bytes| {
            let batch = RecordBatch::parse(bytes).expect("sound");
            batch.records(Default::default()).expect("sound").map(|record| record.expect("sound"))
        })
        .map(|record| {
            let key = String::from_utf8(record.key.unwrap_or_default().to_vec()).expect("text");
            (record.offset, record.timestamp, key, record.value.map(|value| value.len()))
        })
        .collect()
}

fn keys(log: &PartitionLog) -> Vec<(i64, String)> {
    records(log).into_iter().map(|(offset, _, key, _)| (offset, key)).collect()
}

fn all_batches(log: &PartitionLog) -> Vec<Bytes> {
    let (reader, mut all) = (log.reader(), Vec::new());
    let mut offset = log.watermarks().log_start();
    while offset < log.watermarks().high_watermark() {
        let read = reader.read(offset, 1 << 20, Isolation::Uncommitted, true).expect("readable");
        all.extend(
            batches(&read.records).map(|batch| Bytes::copy_from_slice(batch.expect("whole").as_bytes())),
        );
        offset = read.next_offset;
    }
    all
}

fn at(keys: &[(i64, &str)]) -> Vec<(i64, String)> {
    keys.iter().map(|(offset, key)| (*offset, key.to_string())).collect()
}

#[test]
fn a_tombstone_goes_in_the_pass_after_its_horizon_and_times_stay() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    put(&mut log, 5, "a");
    let builder = with(BatchBuilder::new(Compression::Zstd), 7, "b", Some(b"value"));
    append(&mut log, with(with(builder, 8, "a", None), -1, "c", Some(b"")), 8);
    seal(&mut log, 9);
    log.compact(10_000, BUDGET_BYTES).expect("healthy").expect("due");
    let left = [(1, 7, "b", Some(5)), (2, 8, "a", None), (3, -1, "c", Some(0))];
    let left: Vec<_> = left.iter().map(|(o, t, key, v)| (*o, *t, key.to_string(), *v)).collect();
    assert_eq!(records(&log)[..3], left);
    let of_tombstone = all_batches(&log)
        .into_iter()
        .find(|bytes| RecordBatch::parse(bytes).expect("sound").base_offset() == 1)
        .expect("there");
    let of_tombstone = RecordBatch::parse(&of_tombstone).expect("sound");
    assert!(of_tombstone.attributes().has_delete_horizon());
    assert_eq!((of_tombstone.base_timestamp(), of_tombstone.max_timestamp()), (11_000, 8));
    assert_eq!(of_tombstone.attributes().compression(), Ok(Compression::Zstd), "its own codec");

    // A moment before the horizon it stays, and the horizon with it.
    seal(&mut log, 10);
    log.compact(10_999, BUDGET_BYTES).expect("healthy").expect("due");
    assert_eq!(records(&log)[..3], left);
    seal(&mut log, 11);
    log.compact(11_000, BUDGET_BYTES).expect("healthy").expect("due");
    assert_eq!(keys(&log)[..2], at(&[(1, "b"), (3, "c")]));
    let found = log.reader().max_timestamp(Isolation::Uncommitted).expect("readable").expect("records");
    assert_eq!(found.timestamp, 11);
}

#[test]
fn a_tombstone_stays_above_what_is_too_large_to_be_unpacked() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    let zeros = vec![0; 1 << 20];
    let builder =
        (0..8).fold(BatchBuilder::new(Compression::Zstd), |builder, _| with(builder, 5, "a", Some(&zeros)));
    append(&mut log, builder, 5);
    append(&mut log, with(BatchBuilder::default(), 7, "a", None), 7);
    for now_ms in [10_000, 11_000, 12_000] {
        seal(&mut log, 9);
        let report = log.compact(now_ms, BUDGET_BYTES).expect("healthy").expect("due");
        assert_eq!(report.undecodable_batches, 1);
    }
    let offsets: Vec<_> = all_batches(&log)
        .iter()
        .map(|bytes| RecordBatch::parse(bytes).expect("sound"))
        .map(|batch| (batch.base_offset(), batch.record_count()))
        .collect();
    assert_eq!(
        offsets[..2],
        [(0, 8), (8, 1)],
        "clients may unpack it, and would take what it has for the latest"
    );
}

#[test]
fn small_segments_become_one_and_readers_of_the_old_ones_go_on() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    for (timestamp, key) in (0..).zip(["a", "b", "a", "c", "b", "a"]) {
        put(&mut log, timestamp, key);
    }
    seal(&mut log, 9);
    let read = log.reader().read(0, 1 << 20, Isolation::Uncommitted, true).expect("readable");
    let before = read.records.to_vec();
    log.set_config(LogConfig { segment_bytes: 1 << 20, ..config() });
    let count = log.segments().len();
    let report = log.compact(10, BUDGET_BYTES).expect("healthy").expect("due");
    assert!(report.written_bytes < report.replaced_bytes && report.keys == 4, "{report:?}");
    assert!(count > 6 && log.segments().len() == 2, "one, and the one that is written to");
    assert_eq!(keys(&log)[..3], at(&[(3, "c"), (4, "b"), (5, "a")]));
    assert_eq!(read.records[..], before[..]);
    // Nothing but the gap is at offset 0; the batch that is read there ends where the next one begins.
    let read = log.reader().read(0, 1, Isolation::Uncommitted, true).expect("readable");
    assert_eq!((read.next_offset, RecordBatch::parse(&read.records).expect("sound").record_count()), (3, 0));
    let found = inspect(disk.storage.clone(), PARTITION, &mut |_, _, _| {}).expect("readable");
    assert_eq!(found.findings, []);
    log.close().expect("healthy");
    let (log, report) = disk.open(&config());
    assert_eq!((report.corruption, keys(&log).len()), (None, 5));
}

#[test]
fn aborted_transactions_go_and_what_is_not_decided_stays() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    let transactional = |id, sequence| BatchBuilder::default().producer(id, 0, sequence).transactional(true);
    let end = |log: &mut PartitionLog, id, marker| {
        let end = EndOfTransaction { marker, coordinator_epoch: 0 };
        log.append_marker(id, 0, end, 0, 1).expect("room");
    };
    let big = [1; VALUE_BYTES];
    put(&mut log, 1, "a");
    append(&mut log, with(transactional(1, 0), 1, "a", Some(&big)), 1);
    append(&mut log, with(transactional(2, 0), 1, "b", Some(&big)), 1);
    end(&mut log, 1, Marker::Abort);
    end(&mut log, 2, Marker::Commit);
    // Forgotten by now, so that nothing is kept for the producers' sake.
    log.producers.expire(i64::MAX);
    append(&mut log, with(transactional(3, 0), 1, "a", Some(&big)), 1);
    seal(&mut log, 2);
    log.compact(10, BUDGET_BYTES).expect("healthy").expect("due");
    let left = keys(&log);
    assert_eq!(left[..2], at(&[(0, "a"), (2, "b")]), "the aborted one does not stand for its key");
    assert!(left.contains(&(5, "a".to_owned())), "not decided yet");
    let markers = |log: &PartitionLog| {
        let all = all_batches(log);
        let control = all.iter().map(|bytes| RecordBatch::parse(bytes).expect("sound"));
        let control = control.filter(|batch| batch.attributes().is_control() && batch.record_count() > 0);
        control
            .map(|batch| (batch.base_offset(), batch.attributes().has_delete_horizon()))
            .collect::<Vec<_>>()
    };
    assert_eq!(markers(&log), [(3, true), (4, false)], "one is of records that are gone");
    let read = log.reader().read(3, 1 << 20, Isolation::Committed, true).expect("readable");
    let told: Vec<i64> = read.aborted.iter().map(|aborted| aborted.last_offset).collect();
    assert_eq!(told, [3], "as long as its end is there");

    end(&mut log, 3, Marker::Commit);
    log.producers.expire(i64::MAX);
    seal(&mut log, 3);
    log.compact(2000, BUDGET_BYTES).expect("healthy").expect("due");
    assert_eq!(keys(&log)[..1], at(&[(2, "b")]), "committed since, so it stands for its key");
    assert_eq!(markers(&log)[0], (4, false), "the other one's horizon has passed");
    let told = |log: &PartitionLog| {
        let read = log.reader().read(3, 1 << 20, Isolation::Committed, true).expect("readable");
        (read.next_offset, read.aborted)
    };
    let (next_offset, aborted) = told(&log);
    assert!(next_offset > 3);
    assert_eq!(aborted, [], "a reader who is told would wait for an end that does not come");
    drop(log);
    let (log, _) = disk.open(&config());
    assert_eq!(told(&log), (next_offset, vec![]));
}

#[test]
fn an_end_that_is_damaged_leaves_its_transaction_undecided() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    let transactional = |id, sequence| {
        let builder = BatchBuilder::default().producer(id, 0, sequence).transactional(true);
        with(builder, 1, "a", Some(&[1; VALUE_BYTES]))
    };
    append(&mut log, transactional(1, 0), 1);
    // Stays open, so that the pass does not come as far as the damage.
    append(&mut log, transactional(2, 0), 1);
    for (sequence, marker) in [(1, Marker::Commit), (2, Marker::Abort)] {
        let end = EndOfTransaction { marker, coordinator_epoch: 0 };
        log.append_marker(1, 0, end, 0, 1).expect("room");
        append(&mut log, transactional(1, sequence), 1);
    }
    seal(&mut log, 2);
    log.close().expect("healthy");
    let path = disk.path("00000000000000000002.log");
    let mut bytes = std::fs::read(&path).expect("the commit begins a segment");
    bytes[OVERHEAD] ^= 1;
    std::fs::write(&path, &bytes).expect("room");
    let (mut log, _) = disk.open(&config());
    let _ = log.compact(10, BUDGET_BYTES).expect("the damage lies past it");
    let read = log.reader().read(0, 1, Isolation::Uncommitted, true).expect("readable");
    let first = RecordBatch::parse(&read.records).expect("sound");
    assert_eq!((first.base_offset(), first.record_count()), (0, 1), "it was committed");
}

#[test]
fn what_is_left_of_an_ended_transaction_does_not_open_one_again() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    let transactional = BatchBuilder::default().producer(1, 0, 0).transactional(true);
    append(&mut log, with(transactional, 1, "a", Some(&[1; VALUE_BYTES])), 1);
    let end = EndOfTransaction { marker: Marker::Abort, coordinator_epoch: 0 };
    log.append_marker(1, 0, end, 0, 1).expect("room");
    for now_ms in [10, 2000] {
        seal(&mut log, 2);
        log.compact(now_ms, BUDGET_BYTES).expect("healthy").expect("due");
    }
    let left: Vec<_> = all_batches(&log)
        .iter()
        .map(|bytes| RecordBatch::parse(bytes).expect("sound"))
        .filter(|batch| batch.attributes().is_transactional())
        .map(|batch| (batch.base_offset(), batch.record_count()))
        .collect();
    assert_eq!(left, [(0, 0)], "the sequence is remembered, the end is gone");
    log.close().expect("healthy");
    drop(log);
    for name in disk.names().iter().filter(|name| name.ends_with(".producers")) {
        std::fs::remove_file(disk.path(name)).expect("there");
    }
    let (log, _) = disk.open(&config());
    assert_eq!(log.watermarks().last_stable(), log.watermarks().high_watermark());
}

#[test]
fn nothing_changes_before_what_producers_had_written_is_durable() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    put(&mut log, 1, "a");
    put(&mut log, 1, "a");
    seal(&mut log, 1);
    append(&mut log, with(BatchBuilder::default().producer(7, 0, 0), 1, "a", Some(b"x")), 1);
    let view = log.compactable(5).expect("writable");
    let mut pass = log.begin_compaction(view);
    let hurry = &mut |_: u64| true;
    pass.prepare(BUDGET_BYTES, hurry).expect("healthy");
    assert!(matches!(pass.next(hurry), Err(CompactionError::Unsettled)));
    log.flush().expect("healthy");
    let cleaned = pass.next(hurry).expect("settled").expect("a group");
    log.take_cleaned(cleaned).expect("in time");
}

#[test]
fn a_pass_is_given_up_when_its_segments_go() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    for timestamp in 0..4 {
        put(&mut log, timestamp, "a");
    }
    seal(&mut log, 5);
    let view = log.compactable(5).expect("writable");
    let mut pass = log.begin_compaction(view);
    let hurry = &mut |_: u64| true;
    pass.prepare(BUDGET_BYTES, hurry).expect("healthy");
    let cleaned = pass.next(hurry).expect("healthy").expect("a group");
    log.delete_records(2).expect("in range");
    assert!(matches!(log.take_cleaned(cleaned), Err(CompactionError::Overtaken)));
    assert!(!disk.names().iter().any(|name| name.ends_with(".cleaned")), "nothing is left of it");
    assert!(matches!(pass.next(&mut |_| false), Err(CompactionError::Stopped)));
    log.mark_closed();
    assert!(matches!(pass.next(hurry), Err(CompactionError::Unwritable(AppendError::Closed))));
}

#[test]
fn the_settings_say_when_a_pass_is_due() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    for timestamp in [100, 200] {
        put(&mut log, timestamp, "a");
    }
    seal(&mut log, 300);
    let due = |log: &mut PartitionLog, now_ms, change: fn(&mut LogConfig)| {
        let mut config = config();
        change(&mut config);
        log.set_config(config);
        log.compactable(now_ms).is_some_and(|view| view.dirtiness().expect("readable").is_due())
    };
    assert!(due(&mut log, 300, |_| ()));
    assert!(!due(&mut log, 300, |config| config.cleanup = CleanupPolicy::DELETE));
    assert!(!due(&mut log, 300, |config| config.min_cleanable_dirty_millionths = 1_000_000));
    assert!(!due(&mut log, 299, |config| config.min_compaction_lag_ms = 200), "the first is not old enough");
    assert!(due(&mut log, 300, |config| config.min_compaction_lag_ms = 200));
    let late = |config: &mut LogConfig| {
        (config.min_cleanable_dirty_millionths, config.max_compaction_lag_ms) = (1_000_000, 200);
    };
    assert!(!due(&mut log, 300, late));
    assert!(due(&mut log, 301, late));
    // The age at which a segment is closed, by the clock of the append.
    assert!(!log.roll_if_due(500).expect("room"));
    assert!(log.roll_if_due(501).expect("room"));
    log.set_config(config());
    log.compact(600, BUDGET_BYTES).expect("healthy").expect("due");
    assert!(log.compact(600, BUDGET_BYTES).expect("healthy").is_none(), "all of it is clean");
    log.close().expect("healthy");
    let (mut log, _) = disk.open(&config());
    assert!(log.compact(600, BUDGET_BYTES).expect("healthy").is_none(), "which is known after a restart");
}

#[test]
fn retention_deletes_from_a_compacted_log_only_with_both_policies() {
    let disk = Disk::new();
    let aged = LogConfig { retention_ms: 100, retention_bytes: 1, ..config() };
    let (mut log, _) = disk.open(&aged);
    for timestamp in 0..4 {
        put(&mut log, timestamp, "a");
    }
    seal(&mut log, 1000);
    log.compact(1000, BUDGET_BYTES).expect("healthy").expect("due");
    assert_eq!(log.enforce_retention(10_000).expect("healthy").segments_deleted, 0);
    log.set_config(LogConfig { retention_ms: 5000, cleanup: CleanupPolicy::COMPACT_AND_DELETE, ..config() });
    let retained = log.enforce_retention(5500).expect("healthy");
    assert_eq!(retained.log_start, 4, "the segments without records go with the one that is old enough");
    assert_eq!(keys(&log)[..1], at(&[(4, "seal")]));
}

#[test]
fn damage_stops_a_pass_before_it_changes_anything() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&config());
    for timestamp in 0..3 {
        put(&mut log, timestamp, "a");
    }
    seal(&mut log, 5);
    log.close().expect("healthy");
    let path = disk.path("00000000000000000001.log");
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[200] ^= 1;
    std::fs::write(&path, &bytes).expect("room");
    let before = disk.names();
    let (mut log, _) = disk.open(&config());
    assert!(matches!(log.compact(10, BUDGET_BYTES), Err(CompactionError::Corrupt(_))));
    let mut names = disk.names();
    names.retain(|name| name != "damage.json");
    assert_eq!(names, before);
    assert_eq!(std::fs::read(&path).expect("there"), bytes);
    let damaged = log.reader().read(1, 1, Isolation::Uncommitted, true);
    assert!(matches!(damaged, Err(ReadError::Corrupt(_))));
}
