//! A partition's log from outside: what is written or refused, and when and how it is seen.

use super::testing::{Disk, PARTITION, batch, fill, numbered, read_all, records, small_segments};
use super::*;
use crate::record::{BatchBuilder, Compression, ValidateOptions, validate_produced};

#[test]
fn what_is_appended_is_seen_once_it_is_durable() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    let reader = log.reader();
    let appended = log.append(&batch(5, &["a", "b"]), 0, 77).expect("room");
    assert_eq!((appended.base_offset, appended.last_offset), (0, 1));
    assert_eq!((appended.log_append_time_ms, appended.duplicate), (-1, false));

    assert!(reader.read(0, 1 << 20, Isolation::Uncommitted, true).expect("in range").records.is_empty());
    let unsynced = reader.read(0, 1 << 20, Isolation::LogEnd, true).expect("in range");
    assert_eq!(records(&unsynced.records), [(0, "a".to_owned()), (1, "b".to_owned())]);

    let flush = log.begin_flush().expect("something to flush");
    log.append(&batch(6, &["c"]), 0, 78).expect("room");
    flush.run().expect("a healthy disk");
    log.complete_flush(&flush);
    assert_eq!(log.watermarks(), Watermarks::new(0, 2, 2, 3), "what came after the flush began is not in it");
    assert_eq!(read_all(&reader, 0).len(), 2);
    log.flush().expect("a healthy disk");
    assert_eq!(read_all(&reader, 1), [(1, "b".to_owned()), (2, "c".to_owned())]);
    assert!(log.begin_flush().is_none());
}

#[test]
fn a_flush_that_has_not_run_moves_nothing() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    log.append(&batch(5, &["a"]), 0, 77).expect("room");
    let flush = log.begin_flush().expect("something to flush");
    log.complete_flush(&flush);
    assert_eq!(log.watermarks().high_watermark(), 0);
}

#[test]
fn reads_cross_segments_and_start_at_the_batch_that_holds_the_offset() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..200);
    log.flush().expect("a healthy disk");
    assert!(log.segments().len() > 5, "{:?}", log.segments());
    let reader = log.reader();
    for offset in 0..200 {
        assert_eq!(read_all(&reader, offset), numbered(offset..200), "from {offset}");
    }
    assert!(matches!(reader.read(201, 1, Isolation::Uncommitted, true), Err(ReadError::OutOfRange { .. })));
    assert!(reader.read(200, 1, Isolation::Uncommitted, true).expect("the end").records.is_empty());
}

#[test]
fn a_limit_cuts_at_whole_batches_and_the_first_may_exceed_it() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    fill(&mut log, 0..3);
    log.flush().expect("a healthy disk");
    let reader = log.reader();
    let all = reader.read(0, usize::MAX, Isolation::Uncommitted, false).expect("in range");
    let one = all.records.len() / 3;
    let read = |max, force| reader.read(0, max, Isolation::Uncommitted, force).expect("in range");
    assert_eq!(read(one - 1, false).records.len(), 0);
    assert_eq!(read(one - 1, true).records.len(), one);
    assert_eq!((read(2 * one, false).records.len(), read(2 * one, false).next_offset), (2 * one, 2));
    assert_eq!(read(3 * one - 1, false).next_offset, 2);
    assert_eq!(read(3 * one, false).next_offset, 3);
}

#[test]
fn times_are_found_exactly() {
    let disk = Disk::new();
    let config = LogConfig { retention_ms: -1, segment_ms: i64::MAX, ..small_segments() };
    let (mut log, _) = disk.open(&config);
    let reader = log.reader();
    assert_eq!(reader.offset_for_timestamp(0, Isolation::Uncommitted).expect("sound"), None);
    assert_eq!(reader.max_timestamp(Isolation::Uncommitted).expect("sound"), None);
    let mut timestamps = Vec::new();
    for n in 0..150i64 {
        // Out of order, with ties, three records a batch.
        let timestamp = (n * 7919) % 500;
        timestamps.extend([timestamp, timestamp + 1, timestamp + 2]);
        log.append(&batch(timestamp, &["a", "b", "c"]), 0, 0).expect("room");
    }
    log.flush().expect("a healthy disk");
    for timestamp in -1..505 {
        let expected = timestamps.iter().position(|&of| of >= timestamp).map(|offset| offset as i64);
        let found = reader.offset_for_timestamp(timestamp, Isolation::Uncommitted).expect("sound");
        assert_eq!(found.map(|found| found.offset), expected, "timestamp {timestamp}");
    }
    let max = timestamps.iter().copied().max().expect("some");
    let found = reader.max_timestamp(Isolation::Uncommitted).expect("sound").expect("some");
    assert_eq!(found.timestamp, max);
    assert_eq!(found.offset, timestamps.iter().position(|&of| of == max).expect("there") as i64);
    for offset in 0..450 {
        let found = reader
            .first_visible(offset, Isolation::Uncommitted, &CountBudget::unlimited())
            .expect("sound")
            .found()
            .expect("there");
        assert_eq!((found.offset, found.timestamp), (offset, timestamps[offset as usize]));
    }
    assert_eq!(
        reader.first_visible(450, Isolation::Uncommitted, &CountBudget::unlimited()).expect("sound"),
        super::Search::Nothing
    );
}

#[test]
fn segments_roll_by_record_time_and_by_silence() {
    let disk = Disk::new();
    let config = LogConfig { segment_ms: 100, ..LogConfig::default() };
    let (mut log, _) = disk.open(&config);
    for timestamp in [1000, 1050, 1100, 1101, 1150, 1300] {
        log.append(&batch(timestamp, &["x"]), 0, 5).expect("room");
    }
    let bases: Vec<i64> = log.segments().iter().map(|segment| segment.base_offset).collect();
    assert_eq!(bases, [0, 3, 5]);
    assert!(!log.roll_if_due(105).expect("writable"));
    assert!(log.roll_if_due(106).expect("writable"));
    assert!(!log.roll_if_due(1000).expect("writable"), "an empty segment is never due");
}

#[test]
fn a_batch_that_no_segment_can_hold_is_refused() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    let large = "x".repeat(2000);
    assert!(matches!(log.append(&batch(1, &[&large]), 0, 1), Err(AppendError::TooLarge { .. })));
    assert_eq!(log.watermarks().log_end(), 0);
    log.set_config(LogConfig { segment_bytes: 4096, ..small_segments() });
    log.append(&batch(1, &[&large]), 0, 1).expect("settings act at once");
}

#[test]
fn a_poisoned_directory_takes_nothing_and_shows_what_was_durable() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    fill(&mut log, 0..5);
    log.flush().expect("a healthy disk");
    fill(&mut log, 5..10);
    let synced = log.begin_flush().expect("something to flush");
    synced.run().expect("a healthy disk");
    disk.health.poison("another partition's sync failed");
    log.complete_flush(&synced);
    assert_eq!(log.watermarks().high_watermark(), 5);
    assert!(matches!(log.append(&batch(1, &["x"]), 0, 1), Err(AppendError::Offline { .. })));
    assert!(log.begin_flush().expect("still not durable").run().is_err());
    assert_eq!(read_all(&log.reader(), 0), numbered(0..5));
    assert!(log.close().is_err());
    let again =
        PartitionLog::open(disk.storage.clone(), PARTITION, disk.health.clone(), LogConfig::default());
    assert!(matches!(again, Err(OpenError::Offline { .. })));
}

#[test]
fn the_reserve_is_for_what_the_broker_itself_has_to_write() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() });
    let large = "x".repeat(400_000);
    let own = batch(5, &[&large]);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(5, None, Some(large.as_bytes()), &[]).expect("small");
    let of_a_client =
        validate_produced(builder.build(0).expect("small"), &ValidateOptions::default()).expect("well made");

    disk.health.set_reserve_bytes(u64::MAX);
    let refused = |log: &mut PartitionLog| match log.append(&of_a_client, 0, 77) {
        Err(AppendError::Storage(error)) => assert_eq!(error.kind(), std::io::ErrorKind::StorageFull),
        appended => panic!("{appended:?}"),
    };
    refused(&mut log);
    // The second batch fills the segment, so that the next one needs a new one.
    for offset in 0..2 {
        assert_eq!(log.append(&own, 0, 77).expect("it may use the reserve").base_offset, offset);
        refused(&mut log);
    }
    assert_eq!(log.segments().len(), 1, "nothing was rolled for what was refused");
    assert!(!disk.health.is_offline());
    disk.health.set_reserve_bytes(1);
    assert_eq!(log.append(&of_a_client, 0, 77).expect("there is room again").base_offset, 2);
}
