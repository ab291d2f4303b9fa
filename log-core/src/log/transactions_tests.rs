//! Transactions in a partition's log: what readers of committed records see, and what of it outlives a
//! restart. Random histories, with and without crashes, are in `tests/crash/transactions/`.

use super::replay::replay;
use super::testing::{Disk, batch, records};
use super::{AbortedTransaction, AppendError, Isolation, LogConfig, LogReader, PartitionLog, SequenceError};
use crate::record::{BatchBuilder, Compression, EndOfTransaction, Marker, OVERHEAD, ProducedBatch};
use crate::storage::READ_BYTES_MAX;

fn transactional(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None).producer(id, epoch, sequence).transactional(true);
    for value in values {
        builder.append(1000, None, Some(value.as_bytes()), &[]).expect("small");
    }
    ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
}

fn append(log: &mut PartitionLog, batch: &ProducedBatch) -> i64 {
    let base_offset = log.append(batch, 0, 1000).expect("room").base_offset;
    roll_if_small(log);
    base_offset
}

fn put(log: &mut PartitionLog, id: i64, sequence: i32, values: &[&str]) -> i64 {
    append(log, &transactional(id, 0, sequence, values))
}

fn end(log: &mut PartitionLog, id: i64, marker: Marker) -> i64 {
    let end = EndOfTransaction { marker, coordinator_epoch: 0 };
    let base_offset = log.append_marker(id, 0, end, 0, 1000).expect("room").base_offset;
    roll_if_small(log);
    base_offset
}

fn roll_if_small(log: &mut PartitionLog) {
    if *log.config() == small() {
        log.roll(0, 0).expect("room");
    }
}

fn last_stable(log: &PartitionLog) -> i64 {
    log.watermarks().last_stable()
}

/// What one read of committed records from `offset` on gives: where it ends, and of whom it is told, by producer
/// and first offset.
fn told(reader: &LogReader, offset: i64) -> (i64, Vec<(i64, i64)>) {
    let read = reader.read(offset, 1 << 20, Isolation::Committed, true).expect("readable");
    (
        read.next_offset,
        read.aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect(),
    )
}

/// A segment of its own for every batch.
fn small() -> LogConfig {
    LogConfig { segment_bytes: 1024, index_interval_bytes: 1, ..LogConfig::default() }
}

#[test]
fn committed_reads_stop_at_the_oldest_open_transaction_until_its_end_is_durable() {
    for config in [LogConfig::default(), small()] {
        let disk = Disk::new();
        let (mut log, _) = disk.open(&config);
        append(&mut log, &batch(1000, &["a"]));
        assert_eq!(put(&mut log, 7, 0, &["b", "c"]), 1);
        append(&mut log, &batch(1000, &["d"]));
        log.flush().expect("healthy");
        assert_eq!((last_stable(&log), log.watermarks().high_watermark()), (1, 4));
        let reader = log.reader();
        assert_eq!(told(&reader, 0), (1, vec![]));
        assert_eq!(told(&reader, 1), (1, vec![]), "nothing yet");
        let latest = reader.max_timestamp(Isolation::Committed).expect("readable").expect("a record");
        assert_eq!(latest.offset, 0);
        let late = reader.offset_for_timestamp(1001, Isolation::Committed).expect("readable");
        assert_eq!(late, None);

        assert_eq!(end(&mut log, 7, Marker::Commit), 4);
        assert_eq!(last_stable(&log), 1, "a power cut could take the end back");
        log.flush().expect("healthy");
        assert_eq!(last_stable(&log), 5);
        let mut offset = 0;
        while offset < 5 {
            let (next, aborted) = told(&reader, offset);
            assert_eq!(aborted, []);
            offset = next;
        }
        assert_eq!(offset, 5);
    }
}

#[test]
fn readers_are_told_of_aborted_transactions_that_their_records_may_be_of() {
    for config in [LogConfig::default(), small()] {
        let disk = Disk::new();
        let (mut log, _) = disk.open(&config);
        put(&mut log, 7, 0, &["a"]);
        put(&mut log, 8, 0, &["b"]);
        put(&mut log, 9, 0, &["c"]);
        end(&mut log, 8, Marker::Abort);
        end(&mut log, 7, Marker::Abort);
        put(&mut log, 7, 1, &["d"]);
        end(&mut log, 9, Marker::Commit);
        end(&mut log, 7, Marker::Abort);
        append(&mut log, &batch(1000, &["e"]));
        let expected = [(8, 1, 3, 0), (7, 0, 4, 2), (7, 5, 7, 8)].map(
            |(producer_id, first_offset, last_offset, last_stable)| AbortedTransaction {
                producer_id,
                first_offset,
                last_offset,
                last_stable,
            },
        );
        let check = |log: &PartitionLog| {
            let whole = *log.config() != small();
            for offset in 0..9 {
                let read = log.reader().read(offset, 1 << 20, Isolation::Committed, true).expect("readable");
                assert_eq!(read.next_offset, if whole { 9 } else { offset + 1 });
                let mut overlap: Vec<AbortedTransaction> = expected
                    .into_iter()
                    .filter(|one| one.last_offset >= offset && one.first_offset < read.next_offset)
                    .collect();
                overlap.sort_by_key(|one| one.first_offset);
                assert_eq!(read.aborted, overlap, "from {offset} on");
                let all = log.reader().read(offset, 1, Isolation::Uncommitted, true).expect("readable");
                assert_eq!(all.aborted, []);
            }
        };
        log.flush().expect("healthy");
        check(&log);
        // After a crash, from the log alone; after a clean stop, from the files; with these closed again.
        drop(log);
        let (mut log, _) = disk.open(&config);
        check(&log);
        log.close().expect("healthy");
        drop(log);
        let (mut log, report) = disk.open(&config);
        assert_eq!(report.replayed_batches, 0);
        check(&log);
        let open: Vec<i64> = log.reader().open_segments().iter().map(|open| open.base_offset).collect();
        log.close_segments(&open);
        check(&log);
    }
}

#[test]
fn files_that_are_lost_or_damaged_are_made_anew() {
    let disk = Disk::new();
    let config = small();
    let (mut log, _) = disk.open(&config);
    for round in 0..4 {
        put(&mut log, 7, round, &["a"]);
        end(&mut log, 7, Marker::Abort);
    }
    append(&mut log, &batch(1000, &["b"]));
    log.close().expect("healthy");
    drop(log);
    let files = || {
        let mut files: Vec<String> =
            disk.names().into_iter().filter(|name| name.ends_with(".aborted")).collect();
        files.sort_unstable();
        files
    };
    assert_eq!(files().len(), 4, "one a segment that has any");
    let all = |log: &PartitionLog| (0..9).map(|offset| told(&log.reader(), offset)).collect::<Vec<_>>();
    let (log, _) = disk.open(&config);
    let expected = all(&log);
    assert_eq!(expected[0], (1, vec![(7, 0)]));
    assert_eq!(expected[8], (9, vec![]));
    drop(log);
    type Spoil = fn(&std::path::Path);
    let spoil: [(&str, Spoil); 4] = [
        ("lost", |path| std::fs::remove_file(path).expect("there")),
        ("too large to be read", |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).expect("there");
            file.set_len(READ_BYTES_MAX + 1).expect("a hole takes no room");
        }),
        ("empty", |path| std::fs::write(path, b"").expect("there")),
        ("damaged", |path| {
            let mut bytes = std::fs::read(path).expect("there");
            bytes[30] ^= 1;
            std::fs::write(path, bytes).expect("room");
        }),
    ];
    for (how, spoil) in spoil {
        for name in files() {
            spoil(&disk.path(&name));
            let (mut log, report) = disk.open(&config);
            assert_eq!(report.replayed_batches, 9, "{name} {how}");
            assert_eq!(all(&log), expected, "{name} {how}");
            log.close().expect("healthy");
            drop(log);
            let (log, report) = disk.open(&config);
            assert_eq!((report.replayed_batches, all(&log)), (0, expected.clone()), "{name} was {how}");
        }
    }
}

#[test]
fn an_open_transaction_outlives_a_restart_with_and_without_a_snapshot() {
    for clean in [true, false] {
        let disk = Disk::new();
        let (mut log, _) = disk.open(&LogConfig::default());
        append(&mut log, &batch(1000, &["a"]));
        put(&mut log, 7, 0, &["b"]);
        put(&mut log, 8, 0, &["c"]);
        log.flush().expect("healthy");
        if clean {
            log.close().expect("healthy");
        }
        drop(log);
        let (mut log, _) = disk.open(&LogConfig::default());
        assert_eq!(last_stable(&log), 1);
        assert_eq!(told(&log.reader(), 0), (1, vec![]));
        let outside = log.append(&super::testing::sequenced(7, 0, 1, &["x"]), 0, 1000);
        assert!(matches!(
            outside,
            Err(AppendError::Sequence { error: SequenceError::OutsideTransaction { first_offset: 1 }, .. })
        ));
        end(&mut log, 7, Marker::Abort);
        log.flush().expect("healthy");
        assert_eq!(last_stable(&log), 2, "the other one is open");
        end(&mut log, 8, Marker::Commit);
        log.flush().expect("healthy");
        assert_eq!(told(&log.reader(), 0), (5, vec![(7, 1)]));
    }
}

#[test]
fn what_is_fenced_is_refused_and_leaves_no_trace() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    put(&mut log, 7, 0, &["a"]);
    let marker = |log: &mut PartitionLog, epoch, coordinator_epoch| {
        let end = EndOfTransaction { marker: Marker::Commit, coordinator_epoch };
        log.append_marker(7, epoch, end, 0, 1000)
    };
    marker(&mut log, 1, 5).expect("the next epoch, as in the second version of the protocol");
    log.close().expect("healthy");
    drop(log);
    let (mut log, _) = disk.open(&LogConfig::default());
    let before = log.watermarks();
    let late = log.append(&transactional(7, 0, 1, &["late"]), 0, 1000).map(drop).unwrap_err();
    let old_epoch = marker(&mut log, 0, 5).map(drop).unwrap_err();
    for error in [late, old_epoch] {
        let expected = SequenceError::InvalidEpoch { epoch: 0, current: 1 };
        assert!(matches!(error, AppendError::Sequence { error, .. } if error == expected));
    }
    let old_coordinator = marker(&mut log, 1, 4).map(drop).unwrap_err();
    let expected = SequenceError::CoordinatorFenced { epoch: 4, current: 5 };
    assert!(matches!(old_coordinator, AppendError::Sequence { error, .. } if error == expected));
    assert_eq!(log.watermarks(), before);
}

#[test]
fn deletion_passes_an_open_transaction_by_and_takes_the_files_along() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small());
    put(&mut log, 7, 0, &["a"]);
    end(&mut log, 7, Marker::Abort);
    put(&mut log, 8, 0, &["b"]);
    for _ in 0..3 {
        append(&mut log, &batch(1000, &["c"]));
    }
    log.flush().expect("healthy");
    log.write_checkpoint().expect("healthy");
    assert_eq!(last_stable(&log), 2);
    assert!(disk.names().contains(&"00000000000000000001.aborted".to_owned()));
    log.delete_records(4).expect("healthy");
    assert_eq!(last_stable(&log), 4, "never below the log start");
    assert!(disk.names().iter().all(|name| !name.ends_with(".aborted")), "{:?}", disk.names());
    assert_eq!(told(&log.reader(), 4), (4, vec![]), "it is open still");
    drop(log);
    let (mut log, _) = disk.open(&small());
    assert_eq!(last_stable(&log), 4);
    assert_eq!(end(&mut log, 8, Marker::Abort), 6);
    log.flush().expect("healthy");
    assert_eq!(last_stable(&log), 7);
    let (next_offset, aborted) = told(&log.reader(), 4);
    assert_eq!((next_offset, aborted), (5, vec![(8, 2)]));
    let read = log.reader().read(4, 1, Isolation::Committed, true).expect("readable");
    assert_eq!(records(&read.records), [(4, "c".to_owned())]);
}

#[test]
fn control_batches_are_refused_from_whoever_is_not_a_coordinator() {
    use crate::record::{ProduceErrorKind, ValidateOptions, validate_produced};
    let end = EndOfTransaction { marker: Marker::Commit, coordinator_epoch: 0 };
    let refused = validate_produced(end.to_batch(7, 0, 1000).to_bytes(0, 0), &ValidateOptions::default());
    assert_eq!(refused.map(drop).unwrap_err().kind, ProduceErrorKind::InvalidRecord);
}

#[test]
fn what_a_start_reads_back_is_not_kept_until_it_is_durable() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    for sequence in 0..100 {
        put(&mut log, 7, sequence, &["a"]);
        end(&mut log, 7, Marker::Commit);
    }
    let bounds = log.bounds;
    let replayed = replay(&log.dir, &log.shared.segments.load_full(), bounds.log_end, 200).expect("healthy");
    assert_eq!(replayed.batches, 200);
    let mut settled = replayed.producers.clone();
    settled.last_stable(200);
    assert!(replayed.producers == settled);
}

/// A log with two transactions of a producer, from offset 1 and 3 on, each batch in a segment of its own; a start has to
/// read it anew.
fn two_transactions(ends: [Marker; 2]) -> Disk {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small());
    append(&mut log, &batch(1000, &["a"]));
    for ((sequence, value), marker) in (0..).zip(["b", "c"]).zip(ends) {
        put(&mut log, 7, sequence, &[value]);
        end(&mut log, 7, marker);
    }
    append(&mut log, &batch(1000, &["d"]));
    log.flush().expect("healthy");
    log.write_checkpoint().expect("healthy");
    drop(log);
    for snapshot in disk.names().into_iter().filter(|name| name.ends_with(".producers")) {
        std::fs::remove_file(disk.path(&snapshot)).expect("there");
    }
    disk
}

#[test]
fn an_end_past_a_segment_that_cannot_be_opened_makes_nothing_stable() {
    let disk = two_transactions([Marker::Abort, Marker::Commit]);
    let of_abort = disk.path("00000000000000000002.log");
    std::fs::rename(&of_abort, disk.path("elsewhere")).expect("there");
    std::fs::create_dir(&of_abort).expect("room");

    let (log, report) = disk.open(&small());
    assert!(report.corruption.is_some(), "it is told");
    assert_eq!(last_stable(&log), 1, "the commit of c is not the end of b");
}

#[test]
fn an_end_past_damage_makes_nothing_stable() {
    /// Where the last stable offset is after a start without a snapshot, with a byte of a segment changed.
    fn stable_with_damage(segment: i64, byte: usize) -> i64 {
        let disk = two_transactions([Marker::Commit, Marker::Abort]);
        let name = format!("{segment:020}.log");
        let mut bytes = std::fs::read(disk.path(&name)).expect("there");
        bytes[byte] ^= 1;
        std::fs::write(disk.path(&name), bytes).expect("room");

        let (mut log, report) = disk.open(&small());
        let damage = report.corruption.expect("it is told");
        assert!(damage.file.ends_with(&name), "{damage}");
        let more = log.append(&batch(1000, &["x"]), 0, 1000).map(drop);
        assert!(matches!(more, Err(AppendError::Corrupt(_))), "{more:?}");
        let reader = log.reader();
        let mut offset = 0;
        while offset < last_stable(&log) {
            offset = told(&reader, offset).0;
        }
        assert_eq!(offset, last_stable(&log), "what is stable can be read, and no more");
        offset
    }
    // The magic byte of a header, and the type of a control record.
    let (magic, control_type) = (16, OVERHEAD + 9);
    assert_eq!(stable_with_damage(1, magic), 1, "b may have been of a transaction or not");
    assert_eq!(stable_with_damage(2, magic), 1, "b was committed: the abort is not its end");
    assert_eq!(stable_with_damage(2, control_type), 1);
    assert_eq!(stable_with_damage(3, magic), 3, "what lies before it is decided");
    assert_eq!(stable_with_damage(4, magic), 3, "the end of c");
    assert_eq!(stable_with_damage(5, magic), 5);
}
