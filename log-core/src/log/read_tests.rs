//! Reading what is not in memory, what the disk cannot bring, and what it brings changed.

use super::super::testing::{Disk, PARTITION, batch, read_all, records};
use super::super::{AppendError, CountBudget, DirHealth, LogConfig, PartitionLog};
use super::*;
use crate::storage::Storage;
use crate::storage::sim::SimStorage;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

const FIRST_LOG: &str = "00000000000000000000.log";
const EVERYTHING: usize = 1 << 30;

/// A log of 100 batches of one record each, 300 bytes or so, all durable.
fn filled(storage: Arc<dyn Storage>, segment_bytes: u32) -> PartitionLog {
    storage.create_dir_all(PARTITION).expect("room");
    let config = LogConfig { segment_bytes, index_interval_bytes: 1024, ..LogConfig::default() };
    let (mut log, _) =
        PartitionLog::open(storage, PARTITION, Arc::new(DirHealth::default()), config).expect("opens");
    for n in 0..100 {
        log.append(&batch(1000 + n, &[&value(n)]), 0, 1).expect("room");
    }
    log.flush().expect("a healthy disk");
    log
}

fn value(n: i64) -> String {
    format!("{n:0230}")
}

fn numbered(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|n| (n, value(n))).collect()
}

fn first_log() -> String {
    format!("{PARTITION}/{FIRST_LOG}")
}

#[test]
fn what_is_not_in_memory_is_refused_or_waited_for() {
    let sim = SimStorage::new(1);
    let log = filled(Arc::new(sim.clone()), 1 << 20);
    let reader = log.reader();
    let resident = |offset| reader.read_resident(offset, 4096, Isolation::Uncommitted, true);
    let hot = resident(50).expect("it was just written");

    sim.evict(&first_log()).expect("there");
    assert!(matches!(resident(50), Err(ReadError::Cold)));
    assert!(matches!(resident(50), Err(ReadError::Cold)), "refusing brings nothing in");
    assert!(resident(100).expect("the end").records.is_empty(), "nothing has to be read for that");

    let waited = reader.read(50, 4096, Isolation::Uncommitted, true).expect("a healthy disk");
    assert_eq!(records(&waited.records), records(&hot.records));
    assert_eq!(resident(50).expect("brought in").next_offset, hot.next_offset);
    assert!(matches!(resident(0), Err(ReadError::Cold)), "only that was brought in");
}

#[test]
fn a_reader_that_goes_on_waits_for_the_disk_twice() {
    let sim = SimStorage::new(1);
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    storage.create_dir_all(PARTITION).expect("room");
    let (mut log, _) =
        PartitionLog::open(storage, PARTITION, Arc::new(DirHealth::default()), LogConfig::default())
            .expect("opens");
    let large = "x".repeat(256 << 10);
    for _ in 0..120 {
        log.append(&batch(1000, &[&large]), 0, 1).expect("room");
    }
    log.flush().expect("a healthy disk");
    sim.evict(&first_log()).expect("there");
    let reader = log.reader();
    let mut waited = Vec::new();
    for offset in 10..120 {
        let read = match reader.read_resident(offset, 1, Isolation::Uncommitted, true) {
            Err(ReadError::Cold) => {
                waited.push(offset);
                reader.read(offset, 1, Isolation::Uncommitted, true)
            }
            read => read,
        };
        if let Some(ahead) = read.expect("a healthy disk").ahead {
            ahead.run();
        }
    }
    assert_eq!(waited, [10, 11], "once unknown, once to become known");
}

#[test]
fn a_segment_that_is_not_open_is_not_in_memory() {
    let sim = SimStorage::new(1);
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    filled(Arc::clone(&storage), 8 << 10).close().expect("a healthy disk");
    let (log, _) = PartitionLog::open(
        storage,
        PARTITION,
        Arc::new(DirHealth::default()),
        LogConfig { segment_bytes: 8 << 10, ..LogConfig::default() },
    )
    .expect("opens");
    let reader = log.reader();
    let resident = |offset| reader.read_resident(offset, EVERYTHING, Isolation::Uncommitted, true);
    assert!(matches!(resident(0), Err(ReadError::Cold)));
    let waited = reader.read(0, EVERYTHING, Isolation::Uncommitted, true).expect("a healthy disk");
    assert_eq!(resident(0).expect("open now").records, waited.records);
}

#[test]
fn a_read_error_costs_the_read_and_not_the_process() {
    let sim = SimStorage::new(1);
    let log = filled(Arc::new(sim.clone()), 1 << 20);
    let reader = log.reader();
    let path = first_log();
    sim.evict(&path).expect("there");
    sim.fail_reads(&path, 8192..8193).expect("there");
    let read = |offset, max| reader.read(offset, max, Isolation::Uncommitted, true);

    let before = read(0, 8000).expect("readable");
    assert_eq!(records(&before.records)[0].0, 0);
    let up_to = read(0, EVERYTHING).expect("the first batch is readable");
    assert_eq!(
        records(&up_to.records),
        numbered(0..up_to.next_offset),
        "what lies before the page is served"
    );

    let failed = (0..100).filter(|&offset| read(offset, 1).is_err()).collect::<Vec<_>>();
    assert!((10..20).contains(&failed.len()), "the batches of one page: {failed:?}");
    for &offset in &failed {
        assert!(matches!(read(offset, 1), Err(ReadError::Storage(_))), "offset {offset}");
        let found = reader.first_visible(offset, Isolation::Uncommitted, &CountBudget::unlimited());
        assert!(matches!(found, Err(ReadError::Storage(_))), "offset {offset}");
    }
    assert!(reader.corruption().is_none(), "what cannot be read is not thereby damaged");
    assert_eq!(records(&read(90, EVERYTHING).expect("behind it").records), numbered(90..100));
}

#[test]
fn a_file_that_has_become_shorter_is_an_error_and_not_a_signal() {
    let disk = Disk::new();
    let log = filled(Arc::clone(&disk.storage), 1 << 20);
    let reader = log.reader();
    assert_eq!(read_all(&reader, 0), numbered(0..100));
    let file = std::fs::File::options().write(true).open(disk.path(FIRST_LOG)).expect("there");
    file.set_len(8192).expect("a healthy disk");
    assert!(matches!(reader.read_resident(90, 1, Isolation::Uncommitted, true), Err(ReadError::Cold)));
    assert!(matches!(reader.read(90, 1, Isolation::Uncommitted, true), Err(ReadError::Storage(_))));
    assert_eq!(
        records(&reader.read(0, 1, Isolation::Uncommitted, true).expect("there").records),
        numbered(0..1)
    );
}

#[test]
fn a_bit_that_flips_after_a_read_is_not_served_by_the_next() {
    let disk = Disk::new();
    let mut log = filled(Arc::clone(&disk.storage), 8 << 10);
    let reader = log.reader();
    assert_eq!(read_all(&reader, 0), numbered(0..100));
    let victim = log.segments()[1].base_offset;
    flip(&disk, &format!("{victim:020}.log"), 70 * 8);
    let error = reader.read_resident(victim, EVERYTHING, Isolation::Uncommitted, true).unwrap_err();
    let ReadError::Corrupt(found) = error else { panic!("{error}") };
    assert_eq!(
        (&*found.file, found.position, found.offset),
        (&*format!("{PARTITION}/{victim:020}.log"), 0, victim)
    );
    assert!(matches!(log.append(&batch(1, &["x"]), 0, 1), Err(AppendError::Corrupt(_))));
    assert_eq!(read_all(&reader, victim + 1), numbered(victim + 1..100), "what is sound can still be read");
}

#[test]
fn no_bit_of_a_header_goes_unnoticed() {
    let disk = Disk::new();
    let log = filled(Arc::clone(&disk.storage), 8 << 10);
    let reader = log.reader();
    for bit in 0..8 * crate::record::OVERHEAD as u64 {
        flip(&disk, FIRST_LOG, bit);
        let read = reader.read(0, EVERYTHING, Isolation::Uncommitted, true);
        assert!(matches!(read, Err(ReadError::Corrupt(_))), "bit {bit}: {read:?}");
        flip(&disk, FIRST_LOG, bit);
    }
    assert_eq!(read_all(&reader, 0), numbered(0..100), "all is as it was");
}

/// Flips a bit of a file through another descriptor: the page cache, which the map shows, has it at once.
fn flip(disk: &Disk, name: &str, bit: u64) {
    let file = std::fs::File::options().read(true).write(true).open(disk.path(name)).expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).expect("in the file");
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8).expect("room");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Any bit of a sealed segment, under a log that has been read before: header fields that no checksum
    /// covers (offset, length, leader epoch) included.
    #[test]
    fn no_flipped_bit_is_ever_served(bit in any::<prop::sample::Index>(), read_before in any::<bool>(), max in 1usize..10_000) {
        let disk = Disk::new();
        let log = filled(Arc::clone(&disk.storage), 8 << 10);
        let reader = log.reader();
        if read_before {
            read_all(&reader, 0);
        }
        let sealed: Vec<_> = log.segments().into_iter().filter(|segment| !segment.active).collect();
        let bits: u64 = sealed.iter().map(|segment| segment.size_bytes * 8).sum();
        let mut at = bit.index(bits as usize) as u64;
        let mut segments = sealed.iter();
        let segment = loop {
            let segment = segments.next().expect("within the bits of all");
            match at.checked_sub(segment.size_bytes * 8) {
                Some(rest) => at = rest,
                None => break segment,
            }
        };
        flip(&disk, &format!("{:020}.log", segment.base_offset), at);
        let mut damaged = Vec::new();
        for offset in 0..100 {
            match reader.read(offset, max, Isolation::Uncommitted, true) {
                Ok(read) => {
                    let served: Vec<_> = records(&read.records);
                    prop_assert_eq!(&served, &numbered(offset..read.next_offset));
                    let epochs = crate::record::batches(&read.records).map(|batch| batch.unwrap().partition_leader_epoch());
                    prop_assert!(epochs.into_iter().all(|epoch| epoch == 0));
                }
                Err(ReadError::Corrupt(_)) => damaged.push(offset),
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert!(!damaged.is_empty(), "a flipped bit was overlooked");
        prop_assert!(reader.corruption().is_some());
    }
}
