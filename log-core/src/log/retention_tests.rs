//! Records that are deleted, for their age, for their size and on request.

use std::sync::Arc;

use super::testing::{Disk, PARTITION, fill, numbered, read_all, records, small_segments};
use super::*;
use crate::storage::Storage;
use crate::storage::sim::SimStorage;

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

/// A crash may take the giving back of blocks that were allocated ahead, in every segment.
#[test]
fn retention_by_size_goes_by_what_segments_hold_and_not_by_their_files() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.flush().expect("a healthy disk");
    log.write_checkpoint().expect("a healthy disk");
    let (all_bytes, segments) = (log.size_bytes(), log.segments());
    drop(log);
    for sealed in &segments[..segments.len() - 1] {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(disk.path(&format!("{:020}.log", sealed.base_offset)));
        file.expect("there").set_len(64 << 10).expect("room");
    }
    let keep = |bytes: u64| LogConfig { retention_bytes: bytes as i64, retention_ms: -1, ..small_segments() };
    let (mut log, _) = disk.open(&keep(all_bytes));
    assert!(log.size_bytes() > 2 * all_bytes, "{} bytes in closed files", log.size_bytes());
    assert_eq!(log.enforce_retention(0).expect("writable").segments_deleted, 0);
    assert_eq!(log.size_bytes(), all_bytes);
    log.set_config(keep(all_bytes - segments[0].size_bytes));
    assert_eq!(log.enforce_retention(0).expect("writable").segments_deleted, 1);
    assert_eq!(read_all(&log.reader(), segments[1].base_offset), numbered(segments[1].base_offset..100));
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
