//! The log's owner, its flusher, its compactor and its readers, run one step at a time by a scheduler that decides at
//! every atomic, lock and swapped pointer who goes on.
//!
//! `cargo test -p log-core --features shuttle --test races`; `RACES_SCHEDULES=<n>` tries more
//! schedules than the default. A failure prints its schedule, and `RACES_REPLAY=<schedule>` runs that
//! one alone, with the one test that it is of.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;

use bytes::Bytes;
use log_core::log::{
    AppendError, CleanupPolicy, CompactionError, CountBudget, DeleteRecordsError, DirHealth, Isolation,
    LogConfig, LogReader, PartitionLog, ReadError,
};
use log_core::record::{BatchBuilder, Compression, DecompressLimits, ProducedBatch, batches};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::sync::Mutex;
use shuttle::{Config, Runner, thread};

const PARTITION: &str = "topics/races-0";
/// Two batches of one record fill a segment.
const VALUE_BYTES: usize = 400;
/// Keys of the records, one after another.
const KEYS: i64 = 2;
/// Readers of a schedule, each with its own way through the log.
const READERS: usize = 2;

/// Of each thread of a schedule. The checker's own default is too small for opening a log.
const STACK_BYTES: usize = 1 << 20;

/// Tries `test` under schedules by chance, then under such as switch seldom but at the worst moments.
fn check(test: fn()) {
    if let Ok(schedule) = env::var("RACES_REPLAY") {
        return run(test, ReplayScheduler::new_from_encoded(&schedule));
    }
    let schedules = env::var("RACES_SCHEDULES").map_or(4000, |n| n.parse().expect("a number"));
    run(test, RandomScheduler::new(schedules));
    run(test, PctScheduler::new(3, schedules));
}

fn run(test: fn(), scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    Runner::new(scheduler, config).run(test);
}

/// What the record at an offset has to be.
fn value(offset: i64) -> Vec<u8> {
    format!("{offset:0VALUE_BYTES$}").into_bytes()
}

/// The key of the record at an offset.
fn key(offset: i64) -> [u8; 1] {
    [b'a' + (offset % KEYS) as u8]
}

/// A log that the threads of one schedule share.
struct Rig {
    health: Arc<DirHealth>,
    log: Mutex<PartitionLog>,
    reader: LogReader,
}

impl Rig {
    fn new() -> Arc<Rig> {
        Rig::open(Arc::new(SimStorage::new(0)))
    }

    fn open(storage: Arc<dyn Storage>) -> Arc<Rig> {
        let health = Arc::<DirHealth>::default();
        let config = LogConfig {
            segment_bytes: LogConfig::SEGMENT_BYTES_MIN,
            index_interval_bytes: 1,
            cleanup: CleanupPolicy::COMPACT_AND_DELETE,
            min_cleanable_dirty_millionths: 0,
            ..LogConfig::default()
        };
        storage.create_dir_all(PARTITION).expect("room");
        ["topics", ""].iter().for_each(|parent| storage.sync_dir(parent).expect("a healthy disk"));
        let (log, _) =
            PartitionLog::open(storage, PARTITION, Arc::clone(&health), config).expect("a healthy disk");
        Arc::new(Rig { health, reader: log.reader(), log: Mutex::new(log) })
    }

    /// Runs `part` on a thread of its own.
    fn spawn(self: &Arc<Self>, part: impl FnOnce(&Rig) + Send + 'static) -> thread::JoinHandle<()> {
        let rig = Arc::clone(self);
        thread::spawn(move || part(&rig))
    }

    /// Appends one record, whose value and time say which offset it has to get.
    fn append(&self) {
        let mut log = self.log.lock().expect("no panic");
        let offset = log.watermarks().log_end();
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(offset, Some(&key(offset)), Some(&value(offset)), &[]).expect("small");
        let batch = ProducedBatch::internal(builder.build(0).expect("small")).expect("well made");
        match log.append(&batch, 0, 0) {
            Ok(appended) => assert_eq!(appended.base_offset, offset),
            Err(AppendError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A flush in its three steps, of which the middle one runs beside everything else.
    fn flush(&self) {
        let flush = self.log.lock().expect("no panic").begin_flush();
        if let Some(flush) = flush {
            flush.run().expect("a healthy disk");
            self.log.lock().expect("no panic").complete_flush(&flush);
        }
    }

    fn checkpoint(&self) {
        let checkpoint = self.log.lock().expect("no panic").begin_checkpoint();
        if let Some(checkpoint) = checkpoint {
            checkpoint.run().expect("a healthy disk");
        }
    }

    /// Deletes what lies `keep` records or more before the high watermark.
    fn delete(&self, keep: i64) {
        let mut log = self.log.lock().expect("no panic");
        let before = (log.watermarks().high_watermark() - keep).max(0);
        match log.delete_records(before) {
            Ok(log_start) => assert!(log_start >= before),
            Err(DeleteRecordsError::Unwritable(AppendError::Closed)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A pass of compaction, which holds the log's lock only where it changes the log.
    fn compact(&self) {
        match self.compact_in_steps() {
            Ok(()) | Err(CompactionError::Overtaken | CompactionError::Unsettled) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn compact_in_steps(&self) -> Result<(), CompactionError> {
        let log = || self.log.lock().expect("no panic");
        let view = log().compactable(0).expect("its settings ask for it");
        let unhurried = &mut |_: u64| true;
        let mut pass = log().begin_compaction(view);
        pass.prepare(1 << 10, unhurried)?;
        while let Some(cleaned) = pass.next(unhurried)? {
            log().take_cleaned(cleaned)?;
        }
        let report = pass.finish()?;
        log().finish_compaction(&report);
        Ok(())
    }

    /// Reads the log as a consumer does, from its start up to what is durable when it begins, and checks
    /// that it has come by the latest record of every key. Answers with the bytes that it has read.
    fn read_compacted(&self) -> Vec<Bytes> {
        let before = self.reader.watermarks();
        let (mut held, mut latest) = (Vec::new(), BTreeMap::new());
        let mut offset = before.log_start();
        while offset < before.high_watermark() {
            let read = match self.reader.read(offset, 1, Isolation::Uncommitted, true) {
                Ok(read) => read,
                Err(ReadError::OutOfRange { watermarks, .. }) => {
                    assert!(offset < watermarks.log_start(), "{offset} is there");
                    offset = watermarks.log_start();
                    continue;
                }
                Err(error) => panic!("at {offset}: {error}"),
            };
            assert!(read.next_offset > offset, "nothing at {offset}");
            latest.extend(offsets(&read.records).into_iter().map(|offset| (key(offset), offset)));
            held.push(read.records);
            offset = read.next_offset;
        }
        let after = self.reader.watermarks();
        for offset in (before.high_watermark() - KEYS).max(after.log_start())..before.high_watermark() {
            // Or a later one has come since, which is durable, and has taken its place.
            let there = latest.get(&key(offset)) == Some(&offset);
            assert!(there || offset + KEYS < after.high_watermark(), "{offset} is the latest of its key");
        }
        held
    }

    /// Reads what is at `offset`, if anything is, and checks all that may be checked while others work
    /// on the log. The slice stays good for as long as it is held.
    fn read(&self, offset: i64, isolation: Isolation) -> Option<(Bytes, i64)> {
        let before = self.reader.watermarks();
        match self.reader.read(offset, 1, isolation, true) {
            Ok(read) => {
                let seen = read.watermarks;
                assert!(seen.log_start() >= before.log_start());
                assert!(seen.high_watermark() >= before.high_watermark());
                assert!(seen.log_end() >= before.log_end());
                let limit = match isolation {
                    Isolation::LogEnd => seen.log_end(),
                    Isolation::Uncommitted | Isolation::Committed => seen.high_watermark(),
                };
                assert!(read.next_offset <= limit.max(offset), "past what may be seen");
                assert_eq!(read.records.is_empty(), offset >= limit, "at {offset} of {limit}");
                check_records(&read.records, offset);
                Some((read.records, offset))
            }
            Err(ReadError::OutOfRange { watermarks, .. }) => {
                assert!(offset < watermarks.log_start() || offset > before.log_end(), "{offset} is there");
                None
            }
            Err(ReadError::Closed) => None,
            Err(error) => panic!("at {offset}: {error}"),
        }
    }
}

/// `bytes` are nothing, or the batch of the one record at `offset`.
fn check_records(bytes: &Bytes, offset: i64) {
    assert!(offsets(bytes).into_iter().all(|found| found == offset));
}

/// The offsets of the records in whole batches, each of which is as it was appended.
fn offsets(bytes: &Bytes) -> Vec<i64> {
    let mut offsets = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.expect("whole batches");
        batch.verify_crc().expect("sound");
        for record in batch.records(DecompressLimits::default()).expect("sound") {
            let record = record.expect("sound");
            assert_eq!(record.timestamp, record.offset);
            assert_eq!(record.value.as_deref(), Some(&value(record.offset)[..]));
            offsets.push(record.offset);
        }
    }
    offsets
}

/// Follows the log from its start, and holds on to what it has read until the end.
fn follow(rig: &Rig, reads: usize, isolation: Isolation) {
    let mut held = Vec::new();
    let mut offset = 0;
    for _ in 0..reads {
        match rig.read(offset, isolation) {
            Some((records, _)) if records.is_empty() => {}
            Some(read) => {
                held.push(read);
                offset += 1;
            }
            None => offset = rig.reader.watermarks().log_start().max(offset),
        }
    }
    for (records, offset) in held {
        check_records(&records, offset);
    }
}

/// Looks records up by their times, which are their offsets.
fn look_up(rig: &Rig, times: i64) {
    for time in 0..times {
        let before = rig.reader.watermarks();
        let found = rig.reader.offset_for_timestamp(time, Isolation::Uncommitted).expect("sound");
        let after = rig.reader.watermarks();
        match found {
            Some(found) => {
                assert_eq!(found.offset, found.timestamp);
                assert!(found.offset >= time.max(before.log_start()), "{found:?} for {time}");
                assert!(found.offset <= time.max(after.log_start()), "{found:?} for {time}");
            }
            None => assert!(before.high_watermark() <= time.max(after.log_start()), "{time} is there"),
        }
    }
}

#[test]
fn readers_beside_appends_rolls_and_flushes() {
    check(|| {
        let rig = Rig::new();
        let threads = [
            rig.spawn(|rig| (0..5).for_each(|_| rig.append())),
            rig.spawn(|rig| (0..3).for_each(|_| rig.flush())),
            rig.spawn(|rig| follow(rig, 5, Isolation::LogEnd)),
            rig.spawn(|rig| follow(rig, 5, Isolation::Uncommitted)),
            rig.spawn(|rig| look_up(rig, 3)),
        ];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn readers_beside_deletion() {
    check(|| {
        let rig = Rig::new();
        (0..5).for_each(|_| rig.append());
        rig.flush();
        let mut threads = vec![
            rig.spawn(|rig| {
                rig.append();
                rig.flush();
            }),
            rig.spawn(|rig| {
                rig.delete(3);
                rig.checkpoint();
                rig.delete(0);
            }),
            rig.spawn(|rig| look_up(rig, 4)),
        ];
        threads.extend((0..READERS).map(|_| rig.spawn(|rig| follow(rig, 6, Isolation::Uncommitted))));
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn a_reader_that_is_first_to_open_a_segment_that_is_deleted() {
    check(|| {
        let storage: Arc<dyn Storage> = Arc::new(SimStorage::new(0));
        let rig = Rig::open(Arc::clone(&storage));
        (0..3).for_each(|_| rig.append());
        rig.log.lock().expect("no panic").close().expect("a healthy disk");
        let rig = Rig::open(storage);
        let threads = [
            rig.spawn(|rig| rig.delete(0)),
            rig.spawn(|rig| drop(rig.read(0, Isolation::Uncommitted))),
            rig.spawn(|rig| look_up(rig, 1)),
        ];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn what_is_flushed_beside_appends_and_checkpoints_is_there_after_a_power_cut() {
    check(|| {
        let disk = SimStorage::new(0);
        let rig = Rig::open(Arc::new(disk.clone()));
        let threads = [
            rig.spawn(|rig| (0..5).for_each(|_| rig.append())),
            rig.spawn(|rig| (0..2).for_each(|_| rig.flush())),
            rig.spawn(|rig| (0..2).for_each(|_| rig.flush())),
            rig.spawn(|rig| (0..2).for_each(|_| rig.checkpoint())),
            rig.spawn(|rig| rig.delete(1)),
        ];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let seen = rig.reader.watermarks();
        assert!(!rig.health.is_offline());
        let rig = Rig::open(Arc::new(disk.crash(shuttle::rand::thread_rng().r#gen())));
        let found = rig.reader.watermarks();
        assert!(found.log_end() >= seen.high_watermark(), "{found:?} after {seen:?}");
        assert!(found.log_start() >= seen.log_start(), "{found:?} after {seen:?}");
        (found.log_start()..found.high_watermark()).for_each(|offset| {
            assert!(rig.read(offset, Isolation::Uncommitted).is_some());
        });
    });
}

#[test]
fn a_checkpoint_that_comes_late_does_not_bring_a_log_start_back() {
    check(|| {
        let disk = SimStorage::new(0);
        let rig = Rig::open(Arc::new(disk.clone()));
        (0..2).for_each(|_| rig.append());
        rig.flush();
        let threads = [rig.spawn(|rig| rig.checkpoint()), rig.spawn(|rig| rig.delete(1))];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let seen = rig.reader.watermarks();
        let found = Rig::open(Arc::new(disk.crash(0))).reader.watermarks();
        assert_eq!(found.log_start(), seen.log_start());
    });
}

#[test]
fn readers_beside_the_close() {
    check(|| {
        let rig = Rig::new();
        (0..3).for_each(|_| rig.append());
        let threads = [
            rig.spawn(|rig| (0..2).for_each(|_| rig.append())),
            rig.spawn(|rig| follow(rig, 4, Isolation::Uncommitted)),
            rig.spawn(|rig| rig.log.lock().expect("no panic").close().expect("a healthy disk")),
            rig.spawn(|rig| rig.flush()),
        ];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

/// Seven records in four segments, of which three may be compacted.
fn dirty(rig: &Rig) {
    (0..7).for_each(|_| rig.append());
    rig.flush();
}

/// Counts, whatever is known from before a pass, what is there to be read.
fn check_count(rig: &Rig) {
    let seen = rig.reader.watermarks();
    let held = rig.read_compacted();
    let there = held.iter().flat_map(offsets).filter(|offset| *offset >= seen.log_start()).count();
    let offsets = 0..seen.high_watermark();
    let count = rig.reader.count(offsets, Isolation::Uncommitted, &CountBudget::unlimited()).expect("sound");
    assert_eq!((count.records, count.exact), (there as u64, true));
}

#[test]
fn readers_beside_compaction_and_appends() {
    check(|| {
        let rig = Rig::new();
        dirty(&rig);
        let threads = [
            rig.spawn(Rig::compact),
            rig.spawn(|rig| {
                rig.append();
                rig.flush();
                rig.append();
            }),
            rig.spawn(|rig| {
                let held = rig.read_compacted();
                rig.read_compacted();
                held.iter().for_each(|bytes| drop(offsets(bytes)));
            }),
            rig.spawn(|rig| {
                let end = rig.reader.watermarks().high_watermark();
                let budget = CountBudget::unlimited();
                let count = rig.reader.count(0..end, Isolation::Uncommitted, &budget).expect("sound");
                assert!(count.exact && (1..=end as u64).contains(&count.records), "{count:?}");
                let found = rig.reader.offset_for_timestamp(2, Isolation::Uncommitted).expect("sound");
                assert!(found.is_some_and(|found| found.offset == found.timestamp && found.offset >= 2));
            }),
        ];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        check_count(&rig);
    });
}

#[test]
fn compaction_beside_deletion() {
    check(|| {
        let rig = Rig::new();
        dirty(&rig);
        let threads = [
            rig.spawn(Rig::compact),
            rig.spawn(|rig| {
                rig.delete(4);
                rig.checkpoint();
                rig.delete(2);
            }),
            rig.spawn(|rig| drop(rig.read_compacted())),
        ];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        check_count(&rig);
    });
}

#[test]
fn a_compacted_log_is_there_after_a_power_cut() {
    check(|| {
        let disk = SimStorage::new(0);
        let rig = Rig::open(Arc::new(disk.clone()));
        dirty(&rig);
        let threads = [
            rig.spawn(Rig::compact),
            rig.spawn(|rig| rig.delete(3)),
            rig.spawn(|rig| {
                rig.append();
                rig.flush();
                rig.checkpoint();
            }),
        ];
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let seen = rig.reader.watermarks();
        let there: Vec<i64> = rig.read_compacted().iter().flat_map(offsets).collect();
        let rig = Rig::open(Arc::new(disk.crash(shuttle::rand::thread_rng().r#gen())));
        let found = rig.reader.watermarks();
        assert_eq!((found.log_start(), found.log_end()), (seen.log_start(), seen.log_end()));
        assert_eq!(rig.read_compacted().iter().flat_map(offsets).collect::<Vec<_>>(), there);
    });
}
