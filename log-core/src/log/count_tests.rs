use super::super::testing::{Disk, batch};
use super::super::{CleanupPolicy, LogConfig, PartitionLog};
use super::*;
use crate::record::{BatchBuilder, Compression, EndOfTransaction, Marker, ProducedBatch};

const BUDGET_BYTES: usize = 1 << 20;

fn count(log: &PartitionLog, offsets: Range<i64>, isolation: Isolation) -> u64 {
    let count = log.reader().count(offsets, isolation, &CountBudget::unlimited()).expect("sound");
    assert!(count.exact);
    count.records
}

fn first(log: &PartitionLog, offset: i64, isolation: Isolation) -> Option<i64> {
    let found = log.reader().first_visible(offset, isolation, &CountBudget::unlimited()).expect("sound");
    found.found().map(|found| found.offset)
}

/// A batch of three records with these keys.
fn keyed(builder: BatchBuilder, keys: [&str; 3]) -> ProducedBatch {
    let mut builder = builder;
    for key in keys {
        builder.append(1000, Some(key.as_bytes()), Some(&[7; 300]), &[]).expect("small");
    }
    ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
}

fn transactional(log: &mut PartitionLog, id: i64, sequence: i32) {
    let builder = BatchBuilder::new(Compression::None).producer(id, 0, sequence).transactional(true);
    log.append(&keyed(builder, ["a", "b", "c"]), 0, 1000).expect("room");
}

fn end(log: &mut PartitionLog, id: i64, marker: Marker) {
    let end = EndOfTransaction { marker, coordinator_epoch: 0 };
    log.append_marker(id, 0, end, 0, 1000).expect("room");
}

#[test]
fn a_log_of_produced_batches_is_not_looked_into() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig { segment_bytes: 1024, ..LogConfig::default() });
    for _ in 0..50 {
        log.append(&batch(1000, &["one", "two", "three"]), 0, 1000).expect("room");
    }
    log.flush().expect("healthy");
    let nothing = CountBudget::bytes(0);
    let counted = log.reader().count(7..150, Isolation::Committed, &nothing).expect("sound");
    assert_eq!(counted, Count { records: 143, exact: true });
    log.close().expect("healthy");

    // A process that has not appended it has to, a piece at a time.
    let (log, _) = disk.open(log.config());
    let counted = log.reader().count(7..150, Isolation::Uncommitted, &nothing).expect("sound");
    assert_eq!((counted.records, counted.exact), (143, false));
    let mut looks = 0;
    let done = loop {
        looks += 1;
        let budget = CountBudget::bytes(10 * HEADER_COST_BYTES);
        let counted = log.reader().count(7..150, Isolation::Uncommitted, &budget).expect("sound");
        if counted.exact {
            break counted;
        }
    };
    assert_eq!(done.records, 143);
    assert!((5..=6).contains(&looks), "ten of fifty batches a look, and that of the start twice: {looks}");
    let counted = log.reader().count(7..150, Isolation::Uncommitted, &nothing).expect("sound");
    assert_eq!(counted, done, "it is remembered");
}

#[test]
fn what_is_of_control_or_aborted_is_passed_over() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    log.append(&keyed(BatchBuilder::default(), ["a", "b", "c"]), 0, 1000).expect("room"); // 0 to 2
    transactional(&mut log, 7, 0); // 3 to 5
    transactional(&mut log, 8, 0); // 6 to 8
    end(&mut log, 7, Marker::Abort); // 9
    end(&mut log, 8, Marker::Commit); // 10
    transactional(&mut log, 7, 3); // 11 to 13, open
    log.flush().expect("healthy");
    assert_eq!(log.watermarks().last_stable(), 11);
    assert_eq!(count(&log, 0..100, Isolation::Uncommitted), 12);
    assert_eq!(count(&log, 0..100, Isolation::Committed), 6);
    assert_eq!(count(&log, 1..4, Isolation::Uncommitted), 3);
    assert_eq!(count(&log, 1..4, Isolation::Committed), 2);
    assert_eq!(first(&log, 4, Isolation::Uncommitted), Some(4));
    assert_eq!(first(&log, 4, Isolation::Committed), Some(6));
    assert_eq!(first(&log, 9, Isolation::Uncommitted), Some(11), "ends are nothing to wait for");
    assert_eq!(first(&log, 9, Isolation::Committed), None);
    end(&mut log, 7, Marker::Abort); // 14
    log.flush().expect("healthy");
    assert_eq!(count(&log, 9..15, Isolation::Uncommitted), 3);
    assert_eq!(count(&log, 9..15, Isolation::Committed), 0);
    assert_eq!(first(&log, 9, Isolation::Committed), None);
}

#[test]
fn what_compaction_took_out_is_no_record_and_was_one_before() {
    let disk = Disk::new();
    let config = LogConfig {
        segment_bytes: 1024,
        cleanup: CleanupPolicy::COMPACT,
        min_cleanable_dirty_millionths: 0,
        ..LogConfig::default()
    };
    let (mut log, _) = disk.open(&config);
    for codec in [Compression::None, Compression::Lz4, Compression::None, Compression::Zstd] {
        // Three records a segment; of the first batches nothing but b stays.
        let keys = if codec == Compression::Lz4 { ["a", "b", "c"] } else { ["a", "c", "d"] };
        log.append(&keyed(BatchBuilder::new(codec), keys), 0, 1000).expect("room");
        log.roll(0, 0).expect("room");
    }
    log.flush().expect("healthy");
    assert_eq!(count(&log, 0..12, Isolation::Uncommitted), 12);
    log.compact(2000, BUDGET_BYTES).expect("healthy").expect("due");
    assert_eq!(count(&log, 0..12, Isolation::Uncommitted), 4, "b, and the last of a, c and d");
    for (offset, left) in [(0, 4), (4, 4), (5, 3), (9, 3), (10, 2), (12, 0)] {
        assert_eq!(count(&log, offset..12, Isolation::Uncommitted), left, "from {offset}");
    }
    assert_eq!(first(&log, 0, Isolation::Uncommitted), Some(4));
    assert_eq!(first(&log, 5, Isolation::Uncommitted), Some(9));
}

/// A log that a process has opened which did not write it: 60 aborted batches of three records, of which one has the
/// same key, and three records behind them.
fn aborted_and_then_records(disk: &Disk) -> PartitionLog {
    let (mut log, _) = disk.open(&LogConfig::default());
    for number in 0..60 {
        transactional(&mut log, 7, 3 * number);
    }
    end(&mut log, 7, Marker::Abort); // 180
    log.append(&keyed(BatchBuilder::new(Compression::Zstd), ["a", "b", "c"]), 0, 1000).expect("room"); // 181 to 183
    log.flush().expect("healthy");
    log.close().expect("healthy");
    disk.open(log.config()).0
}

#[test]
fn a_search_goes_on_where_the_last_one_has_stopped() {
    let disk = Disk::new();
    let log = aborted_and_then_records(&disk);
    let search = |offset, bytes| {
        log.reader().first_visible(offset, Isolation::Committed, &CountBudget::bytes(bytes)).expect("sound")
    };
    assert_eq!(search(4, 0), Search::Unfinished(4));
    assert_eq!(search(4, 1), Search::Unfinished(6), "one batch, however little there is");
    let mut offset = 4;
    for looks in 1.. {
        match search(offset, 10 * 900) {
            Search::Unfinished(next) => offset = next,
            found => {
                assert_eq!(found.found().map(|found| found.offset), Some(181));
                assert!((6..=8).contains(&looks), "ten of sixty batches a look: {looks}");
                break;
            }
        }
    }
    assert_eq!(search(184, 1), Search::Nothing);
}

#[test]
fn what_is_checked_and_unpacked_costs_its_size() {
    let disk = Disk::new();
    let log = aborted_and_then_records(&disk);
    let cost = |offset| {
        let budget = CountBudget::bytes(1 << 20);
        log.reader()
            .first_visible(offset, Isolation::Uncommitted, &budget)
            .expect("sound")
            .found()
            .expect("there");
        (1 << 20) - budget.left()
    };
    let header_and_checksum = cost(0);
    assert!((2 * 900..2 * 1100).contains(&header_and_checksum), "{header_and_checksum}");
    let packed = cost(181);
    assert!(
        (HEADER_COST_BYTES + 900..HEADER_COST_BYTES + 1500).contains(&packed),
        "unpacked it is 900: {packed}"
    );
}

#[test]
fn a_budget_is_spent_as_soon_as_somebody_says_so() {
    let disk = Disk::new();
    let log = aborted_and_then_records(&disk);
    let stop = Arc::new(AtomicBool::new(false));
    let budget = CountBudget::unlimited().until(stop.clone());
    let exact = |budget| log.reader().count(0..184, Isolation::Committed, budget).expect("sound").exact;
    stop.store(true, Ordering::Relaxed);
    assert!(!exact(&budget));
    let found = log.reader().first_visible(0, Isolation::Committed, &budget).expect("sound");
    assert_eq!(found, Search::Unfinished(0));
    stop.store(false, Ordering::Relaxed);
    assert!(exact(&CountBudget::unlimited().until(stop)));
}

/// The marks are 16 batches apart, so that an offset in between takes a second walk.
#[test]
fn a_second_walk_is_paid_for_and_what_it_does_not_reach_counts() {
    let disk = Disk::new();
    let config = LogConfig {
        cleanup: CleanupPolicy::COMPACT,
        min_cleanable_dirty_millionths: 0,
        ..LogConfig::default()
    };
    let (mut log, _) = disk.open(&config);
    for number in 0..40 {
        let own = format!("own {number}");
        log.append(&keyed(BatchBuilder::default(), ["a", &own, "b"]), 0, 1000).expect("room");
    }
    log.roll(0, 0).expect("room");
    log.append(&keyed(BatchBuilder::default(), ["a", "b", "c"]), 0, 1000).expect("room");
    log.roll(0, 0).expect("room");
    log.flush().expect("healthy");
    log.compact(2000, BUDGET_BYTES).expect("healthy").expect("due");
    let from = |offset, bytes| {
        let budget = CountBudget::bytes(bytes);
        let counted = log.reader().count(offset..120, Isolation::Uncommitted, &budget).expect("sound");
        (counted, budget.left())
    };
    assert_eq!(from(0, u64::MAX).0, Count { records: 40, exact: true });
    assert_eq!(from(0, 0).0, Count { records: 40, exact: true }, "the marks know");
    let (counted, left) = from(40, 1 << 20);
    assert_eq!(counted, Count { records: 27, exact: true });
    assert!(left < 1 << 20);
    for bytes in [0, 1, HEADER_COST_BYTES + 1, 6 * HEADER_COST_BYTES] {
        let (counted, left) = from(40, bytes);
        assert!(!counted.exact && counted.records >= 27 && left == 0, "{counted:?} with {bytes}");
    }
}
