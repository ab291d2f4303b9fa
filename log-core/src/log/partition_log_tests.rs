//! A partition's log from outside: what is written, when it is seen, and what a reopen finds.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::testing::{Disk, PARTITION, batch, read_all, records, sequenced};
use super::*;
use crate::record::{BatchBuilder, Compression, ValidateOptions, validate_produced};
use crate::storage::Storage;
use crate::storage::sim::SimStorage;

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 1024, index_interval_bytes: 128, ..LogConfig::default() }
}

fn numbered(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|n| (n, format!("value {n}"))).collect()
}

/// Flips a bit of the first segment's file, in the page cache and so in every map of it.
fn flip(disk: &Disk, position: u64) {
    let path = disk.path("00000000000000000000.log");
    let file = std::fs::File::options().read(true).write(true).open(path).expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("there");
    file.write_all_at(&[byte[0] ^ 1], position).expect("room");
}

fn fill(log: &mut PartitionLog, range: std::ops::Range<i64>) {
    for n in range {
        let appended = log.append(&batch(1000 + n, &[&format!("value {n}")]), 0, 1000 + n).expect("room");
        assert_eq!(appended.base_offset, n);
    }
}

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
    log.complete_flush(flush);
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
    log.complete_flush(flush);
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
fn a_closed_log_is_found_as_it_was_with_nothing_to_scan() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.close().expect("a healthy disk");
    let (log, report) = disk.open(&small_segments());
    assert_eq!((report.scanned_bytes, report.truncated_bytes, report.replayed_batches), (0, 0, 0));
    assert_eq!(report.corruption, None);
    assert_eq!(log.watermarks(), Watermarks::new(0, 100, 100, 100));
    assert_eq!(read_all(&log.reader(), 0), numbered(0..100));
}

#[test]
fn a_log_that_was_not_closed_is_scanned_from_its_checkpoint() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    fill(&mut log, 0..50);
    log.flush().expect("a healthy disk");
    log.write_checkpoint().expect("a healthy disk");
    fill(&mut log, 50..60);
    drop(log);
    let (mut log, report) = disk.open(&LogConfig::default());
    assert_eq!(report.scanned_batches, 10);
    assert_eq!((report.truncated_bytes, report.corruption), (0, None));
    assert_eq!(read_all(&log.reader(), 0), numbered(0..60));
    fill(&mut log, 60..70);
}

#[test]
fn a_duplicate_gets_its_first_offset_also_after_a_reopen() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    log.append(&sequenced(7, 0, 0, &["a", "b"]), 0, 1).expect("room");
    log.append(&sequenced(7, 0, 2, &["c"]), 0, 2).expect("room");
    let again = log.append(&sequenced(7, 0, 0, &["a", "b"]), 0, 3).expect("known");
    assert_eq!((again.base_offset, again.last_offset, again.duplicate), (0, 1, true));
    assert_eq!(log.watermarks().log_end(), 3);
    drop(log);
    let (mut log, report) = disk.open(&LogConfig::default());
    assert_eq!(report.replayed_batches, 2);
    assert!(log.append(&sequenced(7, 0, 2, &["c"]), 0, 3).expect("known").duplicate);
    let gap = log.append(&sequenced(7, 0, 9, &["z"]), 0, 3).unwrap_err();
    assert!(matches!(
        gap,
        AppendError::Sequence { producer_id: 7, error: SequenceError::OutOfOrder { expected: 3, .. } }
    ));
    log.close().expect("a healthy disk");
    let (mut log, report) = disk.open(&LogConfig::default());
    assert_eq!(report.replayed_batches, 0, "the snapshot stands for them");
    assert!(log.append(&sequenced(7, 0, 2, &["c"]), 0, 3).expect("known").duplicate);
}

#[test]
fn a_torn_tail_is_kept_aside_and_cut() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    fill(&mut log, 0..10);
    log.flush().expect("a healthy disk");
    log.write_checkpoint().expect("a healthy disk");
    let sound = log.size_bytes();
    fill(&mut log, 10..12);
    // The last byte of a record without headers is their number, and zeros at the end do not count.
    let torn = log.size_bytes() - sound - 1;
    drop(log);
    let path = disk.path("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[sound as usize + 70] ^= 1;
    std::fs::write(&path, bytes).expect("room");

    let (mut log, report) = disk.open(&LogConfig::default());
    assert_eq!((report.truncated_bytes, report.corruption), (torn, None));
    assert_eq!(disk.storage.file_len(&report.quarantined[0]).expect("kept"), torn);
    assert_eq!(read_all(&log.reader(), 0), numbered(0..10));
    fill(&mut log, 10..20);
    log.close().expect("a healthy disk");
    let (log, report) = disk.open(&LogConfig::default());
    assert_eq!((report.truncated_bytes, report.corruption), (0, None));
    assert_eq!(read_all(&log.reader(), 0), numbered(0..20));
}

#[test]
fn a_checkpoint_that_comes_after_the_partition_is_gone_is_not_written() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    log.append(&batch(1, &["a"]), 0, 1).expect("room");
    log.flush().expect("a healthy disk");
    let late = log.begin_checkpoint_with_snapshot().expect("there is news");
    log.mark_closed();
    disk.storage.rename(PARTITION, "topics/gone.deleted").expect("there");
    let run = || {
        late.run().expect("nothing to do");
        let together = CheckpointWrite::run_together(std::slice::from_ref(&late), &*disk.storage);
        together.into_iter().for_each(|done| done.expect("nothing to do"));
    };
    run();
    // Nor into the directory of another partition of the name.
    disk.storage.create_dir_all(PARTITION).expect("room");
    run();
    assert_eq!(disk.names(), Vec::<String>::new());
    assert_eq!(disk.health.reason(), None, "a deleted partition takes the directory offline");
}

#[test]
fn what_a_reader_finds_damaged_before_a_checkpoint_is_not_cut_by_the_next_start() {
    for clean in [false, true] {
        let disk = Disk::new();
        let (mut log, _) = disk.open(&LogConfig::default());
        fill(&mut log, 0..4);
        log.flush().expect("a healthy disk");
        fill(&mut log, 4..6);
        flip(&disk, 70);
        let found = log.reader().read(0, 1 << 20, Isolation::Uncommitted, true);
        assert!(matches!(found, Err(ReadError::Corrupt(_))), "{found:?}");
        if clean {
            log.close().expect("a healthy disk");
        } else {
            log.flush().expect("a healthy disk");
            log.write_checkpoint().expect("a healthy disk");
        }
        drop(log);
        let (log, _) = disk.open(&LogConfig::default());
        assert_eq!(log.watermarks().high_watermark(), 6, "clean stop: {clean}");
        assert!(!disk.root.path().join("quarantine").exists());
        assert_eq!(read_all(&log.reader(), 1), numbered(1..6));
    }
}

#[test]
fn damage_below_the_checkpoint_is_never_cut() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.close().expect("a healthy disk");
    let victim = log.segments()[1].base_offset;
    let path = disk.path(&format!("{victim:020}.log"));
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[70] ^= 1;
    std::fs::write(&path, &bytes).expect("room");

    let (mut log, _) = disk.open(&small_segments());
    let reader = log.reader();
    assert!(matches!(
        reader.read(victim, 1 << 20, Isolation::Uncommitted, true),
        Err(ReadError::Corrupt(corruption)) if corruption.offset == victim
    ));
    assert_eq!(read_all(&reader, victim + 1), numbered(victim + 1..100), "behind the hole");
    let before = reader.read(victim - 1, 1 << 20, Isolation::Uncommitted, true).expect("before the hole");
    assert_eq!(before.next_offset, victim);
    assert!(matches!(log.append(&batch(1, &["x"]), 0, 1), Err(AppendError::Corrupt(_))));
    log.close().expect("nothing to do");
    assert_eq!(std::fs::read(&path).expect("there"), bytes, "untouched");
}

#[test]
fn a_file_shorter_than_its_checkpoint_makes_the_log_read_only() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    fill(&mut log, 0..10);
    log.close().expect("a healthy disk");
    let path = disk.path("00000000000000000000.log");
    let bytes = std::fs::read(&path).expect("there");
    std::fs::write(&path, &bytes[..bytes.len() - 5]).expect("room");
    let (mut log, report) = disk.open(&LogConfig::default());
    assert_eq!(report.corruption.expect("noticed").offset, 9);
    assert_eq!(log.watermarks().log_end(), 10, "offset 9 was acknowledged and is not given out again");
    let reader = log.reader();
    assert_eq!(reader.read(0, 1 << 20, Isolation::Uncommitted, true).expect("sound").next_offset, 9);
    assert!(matches!(reader.read(9, 1, Isolation::Uncommitted, true), Err(ReadError::Corrupt(_))));
    assert!(log.append(&batch(1, &["x"]), 0, 1).is_err());
}

#[test]
fn a_missing_segment_makes_the_log_read_only() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.close().expect("a healthy disk");
    let segments = log.segments();
    for (index, lost) in segments.iter().enumerate() {
        let next = segments.get(index + 1).map_or(100, |next| next.base_offset);
        let path = disk.path(&format!("{:020}.log", lost.base_offset));
        let aside = disk.path("aside");
        std::fs::rename(&path, &aside).expect("there");
        let (log, _) = disk.open(&small_segments());
        let reader = log.reader();
        for offset in lost.base_offset..next {
            let error = reader.read(offset, 1, Isolation::Uncommitted, true).unwrap_err();
            assert!(matches!(error, ReadError::Corrupt(_)), "offset {offset}: {error}");
        }
        assert_eq!(log.watermarks().log_end(), 100);
        if next < 100 {
            assert_eq!(read_all(&reader, next), numbered(next..100));
        }
        drop(log);
        let _ = std::fs::remove_file(&path);
        std::fs::rename(&aside, &path).expect("there");
    }
}

#[test]
fn lost_or_damaged_indexes_are_made_anew() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.close().expect("a healthy disk");
    for damage in 0..3 {
        for name in disk.names().iter().filter(|name| name.ends_with("index")) {
            match damage {
                0 => std::fs::remove_file(disk.path(name)).expect("there"),
                1 => std::fs::write(disk.path(name), [0xa5; 300]).expect("room"),
                _ => {
                    let mut bytes = std::fs::read(disk.path(name)).expect("there");
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    std::fs::write(disk.path(name), bytes).expect("room");
                }
            }
        }
        let (mut log, report) = disk.open(&small_segments());
        assert_eq!(report.corruption, None);
        let reader = log.reader();
        for offset in 0..100 {
            assert_eq!(read_all(&reader, offset), numbered(offset..100));
            let found = reader.offset_for_timestamp(1000 + offset, Isolation::Uncommitted).expect("sound");
            assert_eq!(found.map(|found| found.offset), Some(offset));
        }
        log.close().expect("a healthy disk");
    }
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
        let found = reader.record_timestamp(offset, Isolation::Uncommitted).expect("sound").expect("there");
        assert_eq!((found.offset, found.timestamp), (offset, timestamps[offset as usize]));
    }
    assert_eq!(reader.record_timestamp(450, Isolation::Uncommitted).expect("sound"), None);
}

#[test]
fn retention_by_size_and_time_spares_what_is_not_durable() {
    let disk = Disk::new();
    let config = LogConfig { retention_ms: 1000, ..small_segments() };
    let (mut log, _) = disk.open(&config);
    fill(&mut log, 0..100);
    assert_eq!(log.enforce_retention(1_000_000).expect("writable").segments_deleted, 0, "nothing is durable");
    log.flush().expect("a healthy disk");
    assert_eq!(log.enforce_retention(2000).expect("writable").segments_deleted, 0, "nothing is old enough");

    let held = log.reader().read(0, 100, Isolation::Uncommitted, true).expect("in range").records;
    let by_age = log.enforce_retention(2050).expect("writable");
    assert!(by_age.segments_deleted >= 1 && by_age.log_start <= 50, "{by_age:?}");
    assert_eq!(records(&held), numbered(0..1), "a slice outlives its segment");
    assert!(disk.names().iter().any(|name| name.ends_with(".deleted")), "its file waits for the reader");
    drop(held);
    log.enforce_retention(2050).expect("writable");
    assert!(!disk.names().iter().any(|name| name.ends_with(".deleted")));
    let error = log.reader().read(0, 1, Isolation::Uncommitted, true).unwrap_err();
    assert!(matches!(error, ReadError::OutOfRange { .. }));

    log.set_config(LogConfig { retention_bytes: 2048, retention_ms: -1, ..config.clone() });
    log.enforce_retention(2050).expect("writable");
    assert!(log.size_bytes() <= 2048 + 1024, "{}", log.size_bytes());

    log.set_config(config);
    let all = log.enforce_retention(10_000_000).expect("writable");
    assert_eq!(all.log_start, 100, "the active segment is rolled when all of it has expired");
    assert_eq!(log.segments().len(), 1);
    drop(log);
    let (mut log, report) = disk.open(&small_segments());
    assert_eq!((report.corruption, log.watermarks()), (None, Watermarks::new(100, 100, 100, 100)));
    fill(&mut log, 100..110);
}

#[test]
fn retention_makes_room_on_a_full_disk() {
    let sim = SimStorage::new(1);
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let config = LogConfig { retention_ms: 1000, ..small_segments() };
    storage.create_dir_all(PARTITION).expect("room");
    let (mut log, _) =
        PartitionLog::open(Arc::clone(&storage), PARTITION, Arc::default(), config).expect("a healthy disk");
    fill(&mut log, 0..100);
    log.flush().expect("a healthy disk");
    // Twice, so that both of its slots have blocks.
    log.write_checkpoint().expect("a healthy disk");
    log.delete_records(1).expect("a healthy disk");
    sim.set_capacity(1 << 40);
    sim.set_capacity((1 << 40) - storage.free_bytes().expect("known"));

    assert!(log.roll_if_due(i64::MAX).is_err(), "there is no room for a new segment");
    let made = log.enforce_retention(10_000_000).expect("room is made");
    assert!(made.segments_deleted > 1 && made.log_start < 100, "{made:?}");
    assert_eq!(log.enforce_retention(10_000_000).expect("room").log_start, 100);
    fill(&mut log, 100..110);
}

#[test]
fn deleted_records_stay_deleted() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    assert!(matches!(log.delete_records(50), Err(DeleteRecordsError::OutOfRange { high_watermark: 0, .. })));
    log.flush().expect("a healthy disk");
    assert_eq!(log.delete_records(33).expect("in range"), 33);
    assert_eq!(log.delete_records(20).expect("in range"), 33, "never back");
    drop(log);
    let (mut log, _) = disk.open(&small_segments());
    assert_eq!(log.watermarks().log_start(), 33);
    assert_eq!(read_all(&log.reader(), 33), numbered(33..100));
    assert_eq!(log.delete_records(-1).expect("in range"), 100);
    assert_eq!(log.watermarks(), Watermarks::new(100, 100, 100, 100));
    fill(&mut log, 100..120);
    log.flush().expect("a healthy disk");
    assert_eq!(read_all(&log.reader(), 100), numbered(100..120));
    let first = log.reader().offset_for_timestamp(0, Isolation::Uncommitted).expect("sound").expect("some");
    assert_eq!(first.offset, 100, "deleted records are not found by time either");
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
fn epochs_are_remembered_and_end_where_the_next_begins() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    for (epoch, count) in [(1, 3), (4, 2)] {
        for _ in 0..count {
            log.append(&batch(1, &["x"]), epoch, 1).expect("room");
        }
    }
    drop(log);
    let (log, _) = disk.open(&LogConfig::default());
    let reader = log.reader();
    assert_eq!(reader.latest_epoch(), Some(4));
    assert_eq!(reader.epoch_end_offset(1), Some((1, 3)));
    assert_eq!(reader.epoch_end_offset(4), Some((4, 5)));
    assert_eq!(reader.epoch_end_offset(5), None);
    drop(log);
    std::fs::write(disk.path("leader-epochs"), b"nonsense").expect("room");
    let (log, _) = disk.open(&LogConfig::default());
    assert_eq!(log.reader().epoch_end_offset(1), Some((1, 3)), "made anew from the log");
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
    log.complete_flush(synced);
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

#[test]
fn a_full_disk_is_no_reason_not_to_start() {
    let disk = SimStorage::new(1);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let health: Arc<DirHealth> = Arc::default();
    let open = || {
        PartitionLog::open(Arc::clone(&storage), PARTITION, Arc::clone(&health), small_segments())
            .expect("what is there can be served")
            .0
    };
    storage.create_dir_all(PARTITION).expect("room");
    let mut log = open();
    fill(&mut log, 0..100);
    log.flush().expect("a healthy disk");
    drop(log);
    disk.set_capacity(0);
    let mut log = open();
    assert_eq!(read_all(&log.reader(), 0), numbered(0..100));
    disk.set_capacity(u64::MAX);
    fill(&mut log, 100..110);
    log.flush().expect("a healthy disk");
    log.write_checkpoint().expect("room");
    assert!(!health.is_offline());
    assert_eq!(read_all(&open().reader(), 0), numbered(0..110));
}
