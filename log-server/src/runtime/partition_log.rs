//! A shard's log is a partition: its batches are the decisions, its records the entries.

use std::sync::Arc;

use log_core::log::Isolation;
use log_core::record::{BatchBuilder, Compression, DecompressLimits, ProducedBatch, Records, batches};

use super::shard_log::{Chunk, NotWritten, Offline, ReadFailed, ShardLog, Written};
use crate::coordinator::machine::LogEntry;
use crate::partition::Partition;

/// Bytes that are read at a time while replaying.
const READ_BYTES: usize = 1 << 20;

/// A partition of an internal topic, as the log of a shard.
#[derive(Clone, Debug)]
pub struct PartitionShardLog {
    partition: Arc<Partition>,
}

impl PartitionShardLog {
    /// Takes over the writing of `partition`.
    pub fn new(partition: Arc<Partition>) -> Self {
        PartitionShardLog { partition }
    }
}

impl ShardLog for PartitionShardLog {
    fn append(&self, entries: Vec<LogEntry>, now_ms: i64) -> Result<Written, NotWritten> {
        let refused = |error: &dyn std::fmt::Display| NotWritten(error.to_string());
        let mut builder = BatchBuilder::new(Compression::None);
        for entry in &entries {
            builder
                .append(now_ms, Some(&entry.key), entry.value.as_deref(), &[])
                .map_err(|error| refused(&error))?;
        }
        let bytes = builder.build(0).map_err(|error| refused(&error))?;
        let batch = ProducedBatch::internal(bytes).map_err(|error| refused(&error))?;
        // Urgent: somebody waits for the answer.
        let appended = self.partition.append(&batch, now_ms, true).map_err(|error| refused(&error))?;
        Ok(Written { end: appended.last_offset + 1, bytes: batch.size_bytes() as u64 })
    }

    async fn wait_durable(&self, offset: i64) -> Result<(), Offline> {
        self.partition.wait_durable(offset).await.map_err(|_| Offline)
    }

    fn start(&self) -> i64 {
        self.partition.reader().watermarks().log_start()
    }

    fn durable_end(&self) -> i64 {
        self.partition.reader().watermarks().high_watermark()
    }

    fn end(&self) -> i64 {
        self.partition.reader().watermarks().log_end()
    }

    fn read(&self, offset: i64) -> Result<Chunk, ReadFailed> {
        let failed = |reason: &dyn std::fmt::Display| ReadFailed { offset, reason: reason.to_string() };
        let read = (self.partition.reader())
            .read(offset, READ_BYTES, Isolation::LogEnd, true)
            .map_err(|error| failed(&error))?;
        let mut entries = Vec::new();
        for batch in batches(&read.records) {
            let batch = batch.map_err(|error| failed(&error))?;
            batch.verify_crc().map_err(|error| failed(&error))?;
            let bytes = read.records.slice_ref(batch.as_bytes());
            for record in Records::of(&bytes, DecompressLimits::default()).map_err(|error| failed(&error))? {
                let record = record.map_err(|error| failed(&error))?;
                // A record without a key is none of ours, and one below the offset was deleted.
                if let Some(key) = record.key.filter(|_| record.offset >= offset) {
                    entries.push(LogEntry { key, value: record.value });
                }
            }
        }
        Ok(Chunk { entries, next: read.next_offset, bytes: read.records.len() as u64 })
    }

    fn delete_before(&self, offset: i64) -> Result<(), String> {
        self.partition.log().delete_records(offset).map(drop).map_err(|error| error.to_string())
    }
}
