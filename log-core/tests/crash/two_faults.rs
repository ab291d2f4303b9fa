//! Places that take two faults in a row to hurt: too rare for the random histories, so each has its
//! own.

use std::sync::Arc;

use log_core::log::{
    DirHealth, Isolation, LogConfig, LogDir, LogDirOptions, OpenError, PartitionIdentity, PartitionLog,
    RecoveryReport,
};
use log_core::record::{BatchBuilder, Compression, ProducedBatch, batches};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;
use uuid::Uuid;

const PARTITION: &str = "topics/orders-0";
/// Outcomes of each crash that are looked at.
const OUTCOMES: u64 = 200;

fn open(sim: &SimStorage) -> (PartitionLog, RecoveryReport) {
    sim.create_dir_all(PARTITION).expect("room");
    try_open(sim).expect("a healthy disk")
}

fn try_open(sim: &SimStorage) -> Result<(PartitionLog, RecoveryReport), OpenError> {
    let config = LogConfig { segment_bytes: 1500, ..LogConfig::default() };
    PartitionLog::open(Arc::new(sim.clone()), PARTITION, Arc::new(DirHealth::default()), config)
}

/// A disk with a new partition on it, whose directory's name is durable.
fn new_partition(seed: u64) -> (SimStorage, PartitionLog) {
    let sim = SimStorage::new(seed);
    let (log, _) = open(&sim);
    sim.sync_dir("").and_then(|()| sim.sync_dir("topics")).expect("a healthy disk");
    (sim, log)
}

/// The first batch of a producer, one record of `size` bytes.
fn batch(producer: i64, size: usize) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer, 0, 0);
    builder.append(1000, None, Some(&vec![producer as u8; size]), &[]).expect("small");
    ProducedBatch::internal(builder.build(0).expect("small")).expect("sound")
}

fn append(log: &mut PartitionLog, producer: i64, size: usize) {
    log.append(&batch(producer, size), 0, 1000).expect("room");
}

/// The producer of each batch.
fn producers(log: &PartitionLog) -> Vec<i64> {
    let mut found = Vec::new();
    let mut offset = log.watermarks().log_start();
    while offset < log.watermarks().high_watermark() {
        let read = log.reader().read(offset, 4096, Isolation::Uncommitted, true).expect("readable");
        found.extend(batches(&read.records).map(|batch| batch.expect("whole").producer_id()));
        offset = read.next_offset;
    }
    found
}

/// The sync of a higher log start fails, the process dies, and the next one sees it all the same. It
/// must not remove segments on the word of a checkpoint that is not on disk.
#[test]
fn segments_go_only_when_the_log_start_is_on_disk() {
    for disk in 0..8 {
        let (sim, mut log) = new_partition(disk);
        for producer in 0..6 {
            append(&mut log, producer, 1000);
            log.flush().expect("healthy");
        }
        log.write_checkpoint().expect("healthy");
        sim.fail_sync(sim.syncs());
        log.delete_records(4).expect_err("the sync of the checkpoint fails");
        drop(log);
        for operation in 0..12 {
            let next = sim.restart();
            next.cut_at(next.operations() + operation);
            drop(try_open(&next));
            for seed in 0..OUTCOMES / 8 {
                let (log, report) = open(&next.crash(seed));
                let when = format!("disk {disk}, cut in operation {operation}, then seed {seed}");
                assert_eq!(report.corruption, None, "{when}");
                assert_eq!(log.watermarks().log_end(), 6, "{when}");
            }
        }
    }
}

/// As before, and then the power goes while the next checkpoint is written. It must not have gone over
/// the only one that is on disk.
#[test]
fn a_checkpoint_is_never_written_over_the_only_one() {
    for seed in 0..OUTCOMES {
        let (sim, mut log) = new_partition(seed);
        for producer in 0..3 {
            append(&mut log, producer, 100);
        }
        log.flush().expect("healthy");
        log.delete_records(1).expect("healthy");
        sim.fail_sync(sim.syncs());
        log.delete_records(2).expect_err("the sync of the checkpoint fails");
        drop(log);
        let next = sim.restart();
        let (mut log, _) = open(&next);
        append(&mut log, 3, 100);
        log.flush().expect("healthy");
        next.cut_at(next.operations() + seed % 4);
        let _ = log.write_checkpoint();
        drop(log);
        let (log, _) = open(&next.crash(seed));
        assert!(log.watermarks().log_start() >= 1, "seed {seed}: deleted records have come back");
        assert_eq!(log.watermarks().log_end(), 4, "seed {seed}");
    }
}

/// The sync of a higher log start fails, the process dies, and the next one shows it to clients before
/// the power goes. It must not fall back: what was said to be deleted would come back.
#[test]
fn a_log_start_that_was_shown_stays() {
    for seed in 0..OUTCOMES {
        let (sim, mut log) = new_partition(seed);
        for producer in 0..3 {
            append(&mut log, producer, 100);
        }
        log.flush().expect("healthy");
        log.write_checkpoint().expect("healthy");
        sim.fail_sync(sim.syncs());
        log.delete_records(2).expect_err("the sync of the checkpoint fails");
        drop(log);
        let next = sim.restart();
        let (log, _) = open(&next);
        let shown = log.watermarks().log_start();
        drop(log);
        let (log, _) = open(&next.crash(seed));
        assert!(log.watermarks().log_start() >= shown, "seed {seed}: {shown} was shown");
    }
}

/// A segment behind a torn tail is removed, the batch in it is sent again, and the power goes before
/// the removal is durable. The segment must not come back to hold the batch a second time.
#[test]
fn a_segment_behind_a_torn_tail_does_not_come_back() {
    let (sim, mut log) = new_partition(1);
    append(&mut log, 0, 100);
    log.flush().expect("healthy");
    log.write_checkpoint().expect("healthy");
    append(&mut log, 1, 1000);
    append(&mut log, 2, 1000);
    assert_eq!(log.segments().len(), 2, "the last batch has a segment of its own");
    drop(log);
    let mut tried = 0;
    for seed in 0..OUTCOMES {
        let crashed = sim.crash(seed);
        let (mut log, report) = open(&crashed);
        if log.watermarks().log_end() != 1 || report.quarantined.is_empty() {
            continue;
        }
        tried += 1;
        append(&mut log, 2, 1000);
        log.flush().expect("healthy");
        drop(log);
        for again in 0..OUTCOMES / 10 {
            let (log, _) = open(&crashed.crash(again));
            assert_eq!(producers(&log), [0, 2], "seed {seed}, then {again}");
        }
    }
    assert!(tried > 0, "no crash tore the tail before the last segment");
}

/// A producer snapshot is taken of batches that a power cut then takes. The next start removes it, the log
/// grows past its offset with other batches, and the power goes again. The snapshot must not come back to
/// speak of the first ones.
#[test]
fn a_producer_snapshot_of_lost_batches_does_not_come_back() {
    let (sim, mut log) = new_partition(1);
    append(&mut log, 0, 100);
    log.flush().expect("healthy");
    append(&mut log, 1, 1000);
    append(&mut log, 2, 1000);
    log.write_checkpoint().expect("healthy");
    drop(log);
    let mut tried = 0;
    for seed in 0..OUTCOMES {
        let crashed = sim.crash(seed);
        let (mut log, _) = open(&crashed);
        if log.watermarks().log_end() != 1 {
            continue;
        }
        tried += 1;
        (3..6).for_each(|producer| append(&mut log, producer, 100));
        log.flush().expect("healthy");
        drop(log);
        for again in 0..OUTCOMES / 10 {
            let (mut log, _) = open(&crashed.crash(again));
            for producer in 3..6 {
                let appended = log.append(&batch(producer, 100), 0, 1000).expect("known");
                assert!(appended.duplicate, "seed {seed}, then {again}: producer {producer} is forgotten");
            }
        }
    }
    assert!(tried > 0, "no crash took the batches that the snapshot speaks of");
}

/// A process is killed in the middle of a roll. The next one finds the new segment, whose name may not
/// be durable, and appends to it.
#[test]
fn a_segment_of_a_killed_process_keeps_its_name() {
    for operation in 0..6 {
        let (sim, mut log) = new_partition(operation);
        append(&mut log, 0, 1000);
        // Leaves a producer snapshot, so that the next start has no reason to write one.
        log.close().expect("healthy");
        drop(log);
        let (mut log, _) = open(&sim);
        sim.cut_at(sim.operations() + operation);
        let _ = log.append(&batch(1, 1000), 0, 1000);
        drop(log);
        let next = sim.restart();
        let (mut log, _) = open(&next);
        append(&mut log, 1, 1000);
        log.flush().expect("healthy");
        drop(log);
        for seed in 0..OUTCOMES {
            let (log, _) = open(&next.crash(seed));
            assert_eq!(producers(&log), [0, 1], "killed in operation {operation}, then seed {seed}");
        }
    }
}

/// A process is killed while it deletes a partition, the next one goes on with it, and the power goes.
/// The partition is whole or gone.
#[test]
fn a_deleted_partition_comes_back_whole_or_not_at_all() {
    let options = LogDirOptions { node_id: 1, cluster_id: None };
    let identity = PartitionIdentity { topic_id: Uuid::from_u128(7), topic: "orders".into(), partition: 0 };
    let open_dir = |sim: &SimStorage| LogDir::open(Arc::new(sim.clone()), &options);
    for disk in 0..8 {
        let operation = disk % 2;
        let sim = SimStorage::new(disk);
        let log_dir = open_dir(&sim).expect("a healthy disk");
        let mut log = log_dir.create_partition(&identity, LogConfig::default()).expect("a healthy disk");
        append(&mut log, 0, 100);
        log.close().expect("a healthy disk");
        sim.cut_at(sim.operations() + operation);
        let _ = log_dir.delete_partition(&identity);
        drop(log_dir);
        for second in 0..10 {
            let next = sim.restart();
            next.cut_at(next.operations() + second);
            drop(open_dir(&next));
            for seed in 0..OUTCOMES / 8 {
                let log_dir = open_dir(&next.crash(seed)).expect("a healthy disk");
                let when = format!(
                    "disk {disk}, killed in operation {operation}, cut in {second}, then seed {seed}"
                );
                let found = log_dir.partitions().expect("a healthy disk");
                assert!(found.strays.is_empty(), "{when}: {found:?}");
                for partition in found.partitions {
                    let (log, report) =
                        log_dir.open_partition(&partition, LogConfig::default()).expect("whole");
                    assert_eq!((report.corruption, producers(&log)), (None, vec![0]), "{when}");
                }
            }
        }
    }
}
