//! Batches and logs for the tests of this module.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{BatchBuilder, Compression, ProducedBatch, batches};
use crate::storage::{MmapStorage, Storage, WriteMode};

use super::{DirHealth, LogConfig, LogReader, PartitionLog, RecoveryReport};

/// A data directory that goes with the test.
pub(super) struct Disk {
    pub(super) root: tempfile::TempDir,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) health: Arc<DirHealth>,
}

pub(super) const PARTITION: &str = "topics/orders-0";

impl Disk {
    pub(super) fn new() -> Disk {
        let root = tempfile::tempdir().expect("a temporary directory");
        let storage = Arc::new(MmapStorage::open(root.path(), WriteMode::Mapped).expect("opens"));
        Disk { root, storage, health: Arc::default() }
    }

    pub(super) fn open(&self, config: &LogConfig) -> (PartitionLog, RecoveryReport) {
        self.storage.create_dir_all(PARTITION).expect("room");
        PartitionLog::open(Arc::clone(&self.storage), PARTITION, Arc::clone(&self.health), config.clone())
            .expect("a healthy disk")
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(PARTITION).join(name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.storage.list_dir(PARTITION).expect("there")
    }
}

/// A batch of `values` as records with consecutive timestamps from `timestamp` on.
pub(super) fn batch(timestamp: i64, values: &[&str]) -> ProducedBatch {
    produced(BatchBuilder::new(Compression::None), timestamp, values)
}

/// A batch of an idempotent producer.
pub(super) fn sequenced(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> ProducedBatch {
    produced(BatchBuilder::new(Compression::None).producer(id, epoch, sequence), 1000, values)
}

fn produced(mut builder: BatchBuilder, timestamp: i64, values: &[&str]) -> ProducedBatch {
    for (value, timestamp) in values.iter().zip(timestamp..) {
        builder.append(timestamp, None, Some(value.as_bytes()), &[]).expect("small");
    }
    ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
}

/// The offsets and values of all records of whole batches.
pub(super) fn records(bytes: &Bytes) -> Vec<(i64, String)> {
    batches(bytes)
        .flat_map(|batch| {
            let batch = batch.expect("whole batches");
            batch.verify_crc().expect("sound");
            batch.records(Default::default()).expect("sound").map(|record| record.expect("sound"))
        })
        .map(|record| {
            let value = record.value.expect("a value");
            (record.offset, String::from_utf8(value.to_vec()).expect("text"))
        })
        .collect()
}

/// Everything that a consumer from `offset` on gets.
pub(super) fn read_all(reader: &LogReader, mut offset: i64) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    loop {
        let read = reader.read(offset, 1 << 20, super::Isolation::Uncommitted, true).expect("readable");
        if read.records.is_empty() {
            return all;
        }
        all.extend(records(&read.records).into_iter().filter(|(of, _)| *of >= offset));
        offset = read.next_offset;
    }
}

/// Segments that hold a dozen of the batches of `fill`.
pub(super) fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 1024, index_interval_bytes: 128, ..LogConfig::default() }
}

/// The records of `fill`, as `read_all` gives them.
pub(super) fn numbered(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|n| (n, format!("value {n}"))).collect()
}

/// Appends a record a batch at the offsets of `range`, which is where the log ends.
pub(super) fn fill(log: &mut PartitionLog, range: std::ops::Range<i64>) {
    for n in range {
        let appended = log.append(&batch(1000 + n, &[&format!("value {n}")]), 0, 1000 + n).expect("room");
        assert_eq!(appended.base_offset, n);
    }
}
