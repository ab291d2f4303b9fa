//! A history of one log: random operations, reopens, crashes and compaction, each with the answer that the model
//! calls for.

use std::sync::Arc;

use fastrand::Rng;
use log_core::log::{
    AppendError, CleanupPolicy, CompactionError, DeleteRecordsError, DirHealth, Isolation, LogConfig,
    OffsetMap, OpenError, PartitionLog, SequenceError,
};
use log_core::record::{Compression, ProducedBatch};
use log_core::storage::sim::SimStorage;
use log_core::storage::{MmapStorage, Storage};

use crate::model::{Batch, Model, Record};

const PARTITION: &str = "topics/model-0";

const POLICIES: [CleanupPolicy; 3] =
    [CleanupPolicy::DELETE, CleanupPolicy::COMPACT, CleanupPolicy::COMPACT_AND_DELETE];
/// Room for the keys of every history, in bytes.
const BUDGET_BYTES: usize = 1 << 20;

/// The disk under a history.
pub enum Disk {
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

pub struct History {
    pub rng: Rng,
    disk: Disk,
    health: Arc<DirHealth>,
    pub config: LogConfig,
    pub log: PartitionLog,
    pub model: Model,
    pub clock_ms: i64,
}

impl History {
    pub fn new(seed: u64, disk: Disk) -> History {
        let mut rng = Rng::with_seed(seed);
        let config = LogConfig {
            segment_bytes: 2048,
            index_interval_bytes: 200,
            segment_ms: i64::MAX,
            retention_ms: -1,
            cleanup: rng.choice(POLICIES).expect("some"),
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

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.clock_ms += self.rng.i64(0..50);
            let step = self.rng.u32(0..100);
            match step {
                0..37 => self.append(),
                37..40 => self.compact(),
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

    fn append(&mut self) {
        if self.rng.u32(0..30) == 0 {
            self.model.leader_epoch += 1;
        }
        let mut batch = Batch::of(self.random_records(), self.model.leader_epoch);
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
                assert_eq!((appended.base_offset, appended.last_offset), (batch.base, batch.next - 1));
                self.model.append(batch);
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
                (batch.base, batch.next - 1, true)
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
        let mut batch = Batch::of(self.random_records(), 0);
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
        self.log.complete_flush(&flush);
        self.model.high_watermark = end;
    }

    /// A pass, most often with room for all keys. Without one that is due nothing changes.
    fn compact(&mut self) {
        let small = self.rng.u32(0..4) == 0;
        let budget_bytes = if small { OffsetMap::BUDGET_BYTES_MIN } else { BUDGET_BYTES };
        let report = self.log.compact(self.clock_ms, budget_bytes).expect("a healthy disk");
        self.model.high_watermark = self.model.log_end;
        let first_dirty = report.map_or(0, |report| report.first_dirty);
        self.take_over(first_dirty, first_dirty);
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
            // A segment that was written to when its last record was deleted goes now.
            assert_eq!(retained.log_start, self.model.log_start, "{before:?} became {left:?}");
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
        self.config.cleanup = self.rng.choice(POLICIES).expect("some");
        self.config.min_cleanable_dirty_millionths = self.rng.choice([0, 500_000]).expect("some");
        self.config.min_compaction_lag_ms = self.rng.choice([0, 0, 1000]).expect("some");
        self.config.delete_retention_ms = self.rng.choice([0, 500, 5000]).expect("some");
        self.log.set_config(self.config.clone());
    }

    /// A full disk refuses appends and compaction and nothing else, and they work again when it has room.
    fn fill_disk(&mut self) {
        let Disk::Simulated(disk) = &self.disk else { return };
        let disk = disk.clone();
        disk.set_capacity(0);
        let before = self.model.log_end;
        for _ in 0..30 {
            let batch = Batch::of(self.random_records(), self.model.leader_epoch);
            let produced = batch.produced(Compression::None);
            if produced.size_bytes() > self.config.segment_bytes as usize {
                continue;
            }
            match self.log.append(&produced, batch.leader_epoch, self.clock_ms) {
                Ok(_) => self.model.append(batch),
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
        match self.log.compact(self.clock_ms, BUDGET_BYTES) {
            Ok(_) | Err(CompactionError::Storage(_)) => {}
            Err(error) => panic!("compaction on a full disk: {error}"),
        }
        self.model.high_watermark = self.model.log_end;
        // What has made room for itself may have come into its place.
        self.take_over(0, self.model.log_end);
        assert!(!self.health.is_offline(), "nor has compaction broken it");
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
        self.log.complete_flush(&flush);
        self.check_watermarks();
        let batch = Batch::of(self.random_records(), 0);
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
        let boundary = log_end == 0 || self.model.batches.values().any(|batch| batch.next == log_end);
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

    /// Records that come next in the log: with one of a few keys or none, with a value or none.
    fn random_records(&mut self) -> Vec<Record> {
        let count = 1 + self.rng.usize(0..6);
        let spread = if self.rng.bool() { 20 } else { 5000 };
        (self.model.log_end..)
            .take(count)
            .map(|offset| {
                let len =
                    if self.rng.u32(0..20) == 0 { self.rng.usize(0..1200) } else { self.rng.usize(0..60) };
                let value = (0..len).map(|_| self.rng.u8(b'a'..b'e')).collect();
                Record {
                    offset,
                    timestamp: self.clock_ms - self.rng.i64(0..spread),
                    key: self.random_key(),
                    value: (self.rng.u32(0..8) > 0).then_some(value),
                }
            })
            .collect()
    }

    /// Few keys that come often, so that there is something to compact, and more than a small map holds.
    fn random_key(&mut self) -> Option<Vec<u8>> {
        let key = if self.rng.bool() { self.rng.u8(b'0'..b'6') } else { self.rng.u8(b'A'..b'z') };
        (self.rng.u32(0..10) > 0).then(|| vec![key])
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

    pub fn random_isolation(&mut self) -> Isolation {
        self.rng.choice([Isolation::Uncommitted, Isolation::Committed, Isolation::LogEnd]).expect("some")
    }

    fn one_record(&self) -> ProducedBatch {
        let record = Record { offset: 0, timestamp: 0, key: None, value: Some(Vec::new()) };
        Batch::of(vec![record], 0).produced(Compression::None)
    }
}
