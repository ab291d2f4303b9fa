//! The engine against a plain list of batches: random operations, reopens included, on the simulated
//! disk and on the real one.
//!
//! A failure names its seed; `MODEL_SEED=<seed> cargo test -p log-core --test model` runs that history
//! alone, and `MODEL_HISTORIES=<n>` makes the run longer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;
use log_core::log::{
    AppendError, DeleteRecordsError, DirHealth, Isolation, LogConfig, LogReader, OpenError, PartitionLog,
    ReadError, SequenceError, Watermarks,
};
use log_core::record::{BatchBuilder, Compression, DecompressLimits, ProducedBatch, batches};
use log_core::storage::sim::SimStorage;
use log_core::storage::{MmapStorage, Storage, WriteMode};

const PARTITION: &str = "topics/model-0";

/// What a record has to be when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    timestamp: i64,
    value: Vec<u8>,
}

/// A batch that was appended.
#[derive(Clone, Debug)]
struct Batch {
    base: i64,
    records: Vec<Record>,
    /// Producer, epoch and first sequence.
    producer: Option<(i64, i16, i32)>,
    leader_epoch: i32,
}

impl Batch {
    fn next(&self) -> i64 {
        self.base + self.records.len() as i64
    }

    fn produced(&self, compression: Compression) -> ProducedBatch {
        let mut builder = BatchBuilder::new(compression);
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(id, epoch, sequence);
        }
        for record in &self.records {
            builder.append(record.timestamp, None, Some(&record.value), &[]).expect("small");
        }
        ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
    }
}

/// The log as it should be.
#[derive(Clone, Debug, Default)]
struct Model {
    /// By base offset.
    batches: BTreeMap<i64, Batch>,
    log_start: i64,
    high_watermark: i64,
    log_end: i64,
    leader_epoch: i32,
    /// Producers may be forgotten as far as their batches lie below this: they had been deleted when
    /// the state was last made from the log.
    forgotten_below: i64,
}

impl Model {
    fn records(&self, range: Range<i64>) -> impl Iterator<Item = (i64, &Record)> {
        self.batches
            .values()
            .flat_map(|batch| (batch.base..).zip(&batch.records))
            .filter(move |(offset, _)| range.contains(offset))
    }

    fn bound(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::Uncommitted | Isolation::Committed => self.high_watermark,
            Isolation::LogEnd => self.log_end,
        }
    }

    /// The last batches of a producer, oldest first, five at most and of its newest epoch.
    fn remembered(&self, id: i64) -> Vec<&Batch> {
        let of = |batch: &&Batch| batch.producer.is_some_and(|(of, _, _)| of == id);
        let mut last: Vec<&Batch> = self.batches.values().filter(of).collect();
        let newest = last.last().and_then(|batch| batch.producer).map(|(_, epoch, _)| epoch);
        last.retain(|batch| batch.producer.map(|(_, epoch, _)| epoch) == newest);
        last.split_off(last.len().saturating_sub(5))
    }

    /// Epoch and next sequence of a producer.
    fn next_sequence(&self, id: i64) -> (i16, i32) {
        self.remembered(id).last().map_or((0, 0), |batch| {
            let (_, epoch, sequence) = batch.producer.expect("filtered by it");
            (epoch, sequence + batch.records.len() as i32)
        })
    }

    fn cut(&mut self, log_end: i64) {
        self.batches.retain(|&base, _| base < log_end);
        self.log_end = log_end;
    }
}

/// The disk under a history.
enum Disk {
    Simulated(SimStorage),
    Real(Arc<MmapStorage>),
}

impl Disk {
    fn storage(&self) -> Arc<dyn Storage> {
        match self {
            Disk::Simulated(disk) => Arc::new(disk.clone()),
            Disk::Real(disk) => Arc::clone(disk) as Arc<dyn Storage>,
        }
    }
}

struct History {
    rng: Rng,
    disk: Disk,
    health: Arc<DirHealth>,
    config: LogConfig,
    log: PartitionLog,
    model: Model,
    clock_ms: i64,
}

impl History {
    fn new(seed: u64, disk: Disk) -> History {
        let rng = Rng::with_seed(seed);
        let config = LogConfig {
            segment_bytes: 2048,
            index_interval_bytes: 200,
            segment_ms: i64::MAX,
            retention_ms: -1,
            ..LogConfig::default()
        };
        let health = Arc::new(DirHealth::default());
        disk.storage().create_dir_all(PARTITION).expect("an empty disk");
        disk.storage().sync_dir("").expect("a healthy disk");
        disk.storage().sync_dir("topics").expect("a healthy disk");
        let (log, _) = PartitionLog::open(disk.storage(), PARTITION, Arc::clone(&health), config.clone())
            .expect("an empty disk");
        History { rng, disk, health, config, log, model: Model::default(), clock_ms: 1_000_000 }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.clock_ms += self.rng.i64(0..50);
            let step = self.rng.u32(0..100);
            match step {
                0..40 => self.append(),
                40..44 => self.append_again(),
                44..47 => self.append_out_of_sequence(),
                47..62 => self.read(),
                62..70 => self.find_times(),
                70..77 => self.flush(),
                77..80 => self.log.write_checkpoint().expect("a healthy disk"),
                80..83 => self.delete_records(),
                83..86 => self.retain(),
                86..88 => drop(self.log.roll_if_due(self.clock_ms).expect("a healthy disk")),
                88..90 => self.configure(),
                90..92 => self.fill_disk(),
                92..94 => self.fail_sync(),
                94..96 => self.reopen_clean(),
                96..98 => self.restart(),
                _ => self.crash(),
            }
            self.check_watermarks();
        }
        self.read_everything();
    }

    fn random_records(&mut self) -> Vec<Record> {
        let count = 1 + self.rng.usize(0..6);
        let spread = if self.rng.bool() { 20 } else { 5000 };
        (0..count)
            .map(|_| {
                let len =
                    if self.rng.u32(0..20) == 0 { self.rng.usize(0..1200) } else { self.rng.usize(0..60) };
                let value = (0..len).map(|_| self.rng.u8(b'a'..b'e')).collect();
                Record { timestamp: self.clock_ms - self.rng.i64(0..spread), value }
            })
            .collect()
    }

    fn random_compression(&mut self) -> Compression {
        self.rng
            .choice([
                Compression::None,
                Compression::None,
                Compression::Lz4,
                Compression::Zstd,
                Compression::Gzip,
            ])
            .expect("some")
    }

    fn append(&mut self) {
        if self.rng.u32(0..30) == 0 {
            self.model.leader_epoch += 1;
        }
        let mut batch = Batch {
            base: self.model.log_end,
            records: self.random_records(),
            producer: None,
            leader_epoch: self.model.leader_epoch,
        };
        if self.rng.bool() {
            let id = self.rng.i64(0..3);
            let (epoch, sequence) = self.model.next_sequence(id);
            let anew = self.rng.u32(0..10) == 0;
            batch.producer = Some(if anew { (id, epoch + 1, 0) } else { (id, epoch, sequence) });
        }
        let produced = batch.produced(self.random_compression());
        let fits = produced.size_bytes() <= self.config.segment_bytes as usize;
        match self.log.append(&produced, batch.leader_epoch, self.clock_ms) {
            Ok(appended) => {
                assert!(fits && !appended.duplicate);
                assert_eq!((appended.base_offset, appended.last_offset), (batch.base, batch.next() - 1));
                self.model.log_end = batch.next();
                self.model.batches.insert(batch.base, batch);
            }
            Err(AppendError::TooLarge { .. }) => assert!(!fits),
            Err(error) => panic!("append: {error}"),
        }
    }

    /// A batch that is sent again has the offset that it got the first time.
    fn append_again(&mut self) {
        let id = self.rng.i64(0..3);
        let certain = |batch: &&Batch| batch.base >= self.model.forgotten_below;
        let remembered: Vec<Batch> = self.model.remembered(id).into_iter().filter(certain).cloned().collect();
        if let Some(batch) = self.rng.choice(&remembered) {
            let again = self
                .log
                .append(&batch.produced(Compression::None), self.model.leader_epoch, self.clock_ms)
                .expect("a duplicate");
            assert_eq!(
                (again.base_offset, again.last_offset, again.duplicate),
                (batch.base, batch.next() - 1, true)
            );
        }
    }

    fn append_out_of_sequence(&mut self) {
        let id = self.rng.i64(0..3);
        if self.model.remembered(id).last().is_none_or(|last| last.base < self.model.forgotten_below) {
            return;
        }
        let (epoch, expected) = self.model.next_sequence(id);
        let stale = epoch > 0 && self.rng.bool();
        let mut batch = Batch { base: 0, records: self.random_records(), producer: None, leader_epoch: 0 };
        batch.producer = Some(if stale { (id, epoch - 1, 0) } else { (id, epoch, expected + 1) });
        let refused = self.log.append(&batch.produced(Compression::None), 0, self.clock_ms);
        match refused {
            Err(AppendError::Sequence { producer_id, error }) => {
                assert_eq!(producer_id, id);
                let as_expected = match error {
                    SequenceError::InvalidEpoch { current, .. } => stale && current == epoch,
                    SequenceError::OutOfOrder { expected: due, .. } => !stale && due == expected,
                    SequenceError::OutsideTransaction { .. }
                    | SequenceError::TransactionEnded { .. }
                    | SequenceError::CoordinatorFenced { .. }
                    | SequenceError::TooManyTransactions => false,
                };
                assert!(as_expected, "{error}");
            }
            other => panic!("a batch out of sequence was answered with {other:?}"),
        }
    }

    fn random_isolation(&mut self) -> Isolation {
        self.rng.choice([Isolation::Uncommitted, Isolation::Committed, Isolation::LogEnd]).expect("some")
    }

    fn read(&mut self) {
        let isolation = self.random_isolation();
        let offset = self.rng.i64(-1..self.model.log_end + 3);
        let max_bytes = if self.rng.bool() { self.rng.usize(0..400) } else { self.rng.usize(0..20_000) };
        let force = self.rng.bool();
        let reader = self.log.reader();
        let read = match reader.read(offset, max_bytes, isolation, force) {
            Ok(read) => read,
            Err(ReadError::OutOfRange { .. }) => {
                assert!(offset < self.model.log_start || offset > self.model.log_end, "offset {offset}");
                return;
            }
            Err(error) => panic!("read at {offset}: {error}"),
        };
        assert!((self.model.log_start..=self.model.log_end).contains(&offset));
        let bound = self.model.bound(isolation);
        if read.records.is_empty() {
            assert_eq!(read.next_offset, offset);
            assert!(offset >= bound || !force, "nothing at {offset} although there is something");
            return;
        }
        let mut at = None;
        for batch in batches(&read.records) {
            let batch = batch.expect("whole batches");
            batch.verify_crc().expect("sound");
            let expected = &self.model.batches[&batch.base_offset()];
            assert!(at.is_none_or(|at| at == batch.base_offset()), "batches follow each other");
            if at.is_none() {
                assert!((expected.base..expected.next()).contains(&offset), "starts at the right batch");
            }
            assert_eq!(batch.partition_leader_epoch(), expected.leader_epoch);
            let records: Vec<Record> = batch
                .records(DecompressLimits::default())
                .expect("sound")
                .map(|record| record.expect("sound"))
                .map(|record| Record {
                    timestamp: record.timestamp,
                    value: record.value.expect("a value").to_vec(),
                })
                .collect();
            assert_eq!(records, expected.records);
            at = Some(expected.next());
        }
        assert_eq!(at, Some(read.next_offset));
        assert!(read.next_offset <= bound);
        let single = self.model.batches.range(..=offset).next_back().expect("there").1.next();
        assert!(read.records.len() <= max_bytes || (force && read.next_offset == single));
    }

    fn find_times(&mut self) {
        let isolation = self.random_isolation();
        let visible = self.model.log_start..self.model.bound(isolation);
        let reader = self.log.reader();
        let timestamp = self.clock_ms - self.rng.i64(-10..20_000);
        let found = reader.offset_for_timestamp(timestamp, isolation).expect("sound");
        let expected = self.model.records(visible.clone()).find(|(_, record)| record.timestamp >= timestamp);
        assert_eq!(
            found.map(|found| (found.offset, found.timestamp)),
            expected.map(|(offset, record)| (offset, record.timestamp)),
            "first record at or after {timestamp}"
        );

        let found = reader.max_timestamp(isolation).expect("sound");
        let newest = self.model.records(visible.clone()).map(|(_, record)| record.timestamp).max();
        let expected =
            self.model.records(visible.clone()).find(|(_, record)| Some(record.timestamp) == newest);
        assert_eq!(
            found.map(|found| (found.offset, found.timestamp)),
            expected.map(|(offset, record)| (offset, record.timestamp)),
            "the largest timestamp"
        );

        let offset = self.rng.i64(0..self.model.log_end + 2);
        let found = reader.record_timestamp(offset, isolation).expect("sound");
        let expected = self.model.records(visible).find(|(of, _)| *of >= offset);
        assert_eq!(
            found.map(|found| (found.offset, found.timestamp)),
            expected.map(|(offset, record)| (offset, record.timestamp)),
            "the record at {offset}"
        );
    }

    fn flush(&mut self) {
        let Some(flush) = self.log.begin_flush() else {
            assert_eq!(self.model.high_watermark, self.model.log_end);
            return;
        };
        let end = self.model.log_end;
        for _ in 0..self.rng.usize(0..3) {
            self.append();
        }
        flush.run().expect("a healthy disk");
        self.check_watermarks();
        self.log.complete_flush(flush);
        self.model.high_watermark = end;
    }

    fn delete_records(&mut self) {
        let before = self.rng.i64(-1..self.model.log_end + 2);
        let target = if before == -1 { self.model.high_watermark } else { before };
        match self.log.delete_records(before) {
            Ok(log_start) => {
                self.model.log_start = self.model.log_start.max(target);
                assert_eq!(log_start, self.model.log_start);
            }
            Err(DeleteRecordsError::OutOfRange { .. }) => assert!(target > self.model.high_watermark),
            Err(error) => panic!("delete_records({before}): {error}"),
        }
    }

    fn retain(&mut self) {
        let config = LogConfig {
            retention_ms: self.rng.choice([-1, 0, 1000, 8000]).expect("some"),
            retention_bytes: self.rng.choice([-1, 0, 3000, 9000]).expect("some"),
            ..self.config.clone()
        };
        self.log.set_config(config.clone());
        let before = self.log.segments();
        let retained = self.log.enforce_retention(self.clock_ms).expect("a healthy disk");
        self.log.set_config(self.config.clone());
        assert!(retained.log_start >= self.model.log_start);
        assert!(retained.log_start <= self.model.high_watermark, "only durable records are deleted");
        let left = self.log.segments();
        for gone in &before[..retained.segments_deleted] {
            let next = before.iter().find(|other| other.base_offset > gone.base_offset);
            let end = next.map_or(self.model.log_end, |next| next.base_offset);
            assert!(end <= retained.log_start);
        }
        if config.retention_ms < 0 && config.retention_bytes < 0 {
            assert_eq!(retained.segments_deleted, 0, "{before:?} became {left:?}");
        }
        self.model.log_start = retained.log_start;
        // Nobody reads here, so nothing is in the way of unlinking.
        let names = self.disk.storage().list_dir(PARTITION).expect("there");
        assert!(!names.iter().any(|name| name.ends_with(".deleted")), "{names:?}");
    }

    fn configure(&mut self) {
        self.config.segment_bytes = self.rng.u32(1024..6000);
        self.config.index_interval_bytes = self.rng.u32(0..1000);
        self.config.segment_ms = self.rng.choice([i64::MAX, 1000, 5000]).expect("some");
        self.log.set_config(self.config.clone());
    }

    /// A full disk refuses appends and nothing else, and they work again when it has room.
    fn fill_disk(&mut self) {
        let Disk::Simulated(disk) = &self.disk else { return };
        let disk = disk.clone();
        disk.set_capacity(0);
        let before = self.model.log_end;
        for _ in 0..30 {
            let batch = Batch {
                base: self.model.log_end,
                records: self.random_records(),
                producer: None,
                leader_epoch: self.model.leader_epoch,
            };
            let produced = batch.produced(Compression::None);
            if produced.size_bytes() > self.config.segment_bytes as usize {
                continue;
            }
            match self.log.append(&produced, batch.leader_epoch, self.clock_ms) {
                Ok(_) => {
                    self.model.log_end = batch.next();
                    self.model.batches.insert(batch.base, batch);
                }
                Err(AppendError::Storage(_)) => break,
                Err(error) => panic!("append on a full disk: {error}"),
            }
            self.check_watermarks();
        }
        assert!(!self.health.is_offline(), "a full disk is no broken one");
        if self.model.log_end > before {
            self.log.flush().expect("syncing needs no room");
            self.model.high_watermark = self.model.log_end;
        }
        self.read();
        disk.set_capacity(u64::MAX);
        self.append();
    }

    /// After the first failed sync nothing becomes durable, and the next process finds no more than
    /// what may be there.
    fn fail_sync(&mut self) {
        let Disk::Simulated(disk) = &self.disk else { return };
        let disk = disk.clone();
        self.append();
        let Some(flush) = self.log.begin_flush() else { return };
        disk.fail_sync(disk.syncs());
        flush.run().expect_err("the sync was to fail");
        self.log.complete_flush(flush);
        self.check_watermarks();
        let batch = Batch { base: 0, records: self.random_records(), producer: None, leader_epoch: 0 };
        let refused = self.log.append(&batch.produced(Compression::None), 0, self.clock_ms);
        assert!(matches!(refused, Err(AppendError::Offline { .. })), "{refused:?}");
        self.log.flush().expect_err("no second try");
        self.read();
        self.restart();
    }

    fn reopen_clean(&mut self) {
        self.log.close().expect("a healthy disk");
        assert!(matches!(self.log.append(&self.one_record(), 0, 0), Err(AppendError::Closed)));
        let report = self.open();
        assert_eq!(report, (0, 0), "nothing to scan after a clean shutdown");
        self.model.high_watermark = self.model.log_end;
    }

    fn one_record(&self) -> ProducedBatch {
        let records = vec![Record { timestamp: 0, value: Vec::new() }];
        Batch { base: 0, records, producer: None, leader_epoch: 0 }.produced(Compression::None)
    }

    /// The process is killed: what it had written is all there, on the disk or on its way to it.
    fn restart(&mut self) {
        if let Disk::Simulated(disk) = &self.disk {
            self.disk = Disk::Simulated(disk.restart());
        }
        self.health = Arc::new(DirHealth::default());
        self.open();
        self.model.high_watermark = self.model.log_end;
    }

    /// The power goes: what was durable is there, and of the rest some first part.
    fn crash(&mut self) {
        let Disk::Simulated(disk) = &self.disk else { return self.restart() };
        self.disk = Disk::Simulated(disk.crash(self.rng.u64(..)));
        self.health = Arc::new(DirHealth::default());
        self.open();
        let log_end = self.log.watermarks().log_end();
        assert!(log_end >= self.model.high_watermark, "durable records were lost");
        assert!(log_end <= self.model.log_end);
        let boundary = log_end == 0 || self.model.batches.values().any(|batch| batch.next() == log_end);
        assert!(boundary, "the log ends inside a batch, at {log_end}");
        self.model.cut(log_end);
        self.model.high_watermark = log_end;
    }

    /// Opens the log again; answers with the bytes that were scanned and cut.
    fn open(&mut self) -> (u64, u64) {
        let opened =
            PartitionLog::open(self.disk.storage(), PARTITION, Arc::clone(&self.health), self.config.clone());
        let (log, report) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Storage { path, source }) => panic!("open: {path}: {source}"),
            Err(error) => panic!("open: {error}"),
        };
        assert_eq!(report.corruption, None);
        self.log = log;
        self.model.forgotten_below = self.model.log_start;
        (report.scanned_bytes, report.truncated_bytes)
    }

    fn check_watermarks(&self) {
        let model = &self.model;
        assert_eq!(
            self.log.watermarks(),
            Watermarks::new(model.log_start, model.high_watermark, model.high_watermark, model.log_end)
        );
        assert_eq!(self.log.reader().watermarks(), self.log.watermarks());
    }

    fn read_everything(&mut self) {
        self.log.flush().expect("a healthy disk");
        self.model.high_watermark = self.model.log_end;
        let read = consume(&self.log.reader(), self.model.log_start);
        let expected: Vec<(i64, Record)> = self
            .model
            .records(self.model.log_start..self.model.log_end)
            .map(|(offset, record)| (offset, record.clone()))
            .collect();
        assert_eq!(read, expected);
        let epochs = self.log.reader();
        if let Some(batch) =
            self.model.batches.range(self.model.log_start..).next_back().map(|(_, batch)| batch)
        {
            assert_eq!(
                epochs.epoch_end_offset(batch.leader_epoch),
                Some((batch.leader_epoch, self.model.log_end))
            );
        }
    }
}

fn consume(reader: &LogReader, from: i64) -> Vec<(i64, Record)> {
    let mut all = Vec::new();
    let mut offset = from;
    loop {
        let read = reader.read(offset, 700, Isolation::Uncommitted, true).expect("in range");
        if read.records.is_empty() {
            return all;
        }
        for batch in batches(&read.records) {
            for record in batch.expect("whole").records(DecompressLimits::default()).expect("sound") {
                let record = record.expect("sound");
                if record.offset >= from {
                    let value = record.value.expect("a value").to_vec();
                    all.push((record.offset, Record { timestamp: record.timestamp, value }));
                }
            }
        }
        offset = read.next_offset;
    }
}

/// Names the seed when a history fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the history of MODEL_SEED={} failed", self.0);
        }
    }
}

fn seeds(default_histories: u64) -> Vec<u64> {
    let from_env = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match from_env("MODEL_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = fastrand::u64(..u64::MAX / 2);
            (first..first + from_env("MODEL_HISTORIES").unwrap_or(default_histories)).collect()
        }
    }
}

#[test]
fn histories_on_the_simulated_disk() {
    for seed in seeds(60) {
        let _named = Named(seed);
        History::new(seed, Disk::Simulated(SimStorage::new(seed))).run(200);
    }
}

#[test]
fn histories_on_the_real_disk() {
    for seed in seeds(4) {
        let _named = Named(seed);
        for mode in [WriteMode::Mapped, WriteMode::Pwrite] {
            let root = tempfile::tempdir().expect("a temporary directory");
            let disk = Arc::new(MmapStorage::open(root.path(), mode).expect("opens"));
            History::new(seed, Disk::Real(disk)).run(200);
        }
    }
}
