//! What a process leaves to the next one, however it ended: offsets, producers, epochs, a torn tail.

use std::sync::Arc;

use super::testing::{Disk, PARTITION, batch, fill, numbered, read_all, sequenced, small_segments};
use super::*;
use crate::storage::Storage;
use crate::storage::sim::SimStorage;

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
