//! The log as it should be: the batches that were appended, in a map by their first offsets.

use std::collections::BTreeMap;
use std::ops::Range;

use log_core::log::Isolation;
use log_core::record::{BatchBuilder, Compression, DecompressLimits, ProducedBatch, RecordBatch};

/// What a record has to be when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// A batch that was appended, or what compaction has left of it.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base: i64,
    /// The offset after it.
    pub next: i64,
    pub records: Vec<Record>,
    /// Producer, epoch and first sequence.
    pub producer: Option<(i64, i16, i32)>,
    pub leader_epoch: i32,
    /// When its tombstones may go, if a pass has seen them.
    pub horizon_ms: Option<i64>,
}

impl Batch {
    /// A batch that nobody has numbered, by no producer.
    pub fn of(records: Vec<Record>, leader_epoch: i32) -> Batch {
        let base = records[0].offset;
        let next = base + records.len() as i64;
        Batch { base, next, records, producer: None, leader_epoch, horizon_ms: None }
    }

    /// What a reader finds.
    pub fn found(batch: &RecordBatch<'_>) -> Batch {
        batch.verify_crc().expect("sound");
        Batch {
            base: batch.base_offset(),
            next: batch.next_offset(),
            records: records_of(batch),
            producer: None,
            leader_epoch: batch.partition_leader_epoch(),
            horizon_ms: batch.attributes().has_delete_horizon().then(|| batch.base_timestamp()),
        }
    }

    pub fn produced(&self, compression: Compression) -> ProducedBatch {
        let mut builder = BatchBuilder::new(compression);
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(id, epoch, sequence);
        }
        for record in &self.records {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.append(record.timestamp, key, value, &[]).expect("small");
        }
        ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
    }
}

/// The log as it should be.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What is in the log, by base offset.
    pub batches: BTreeMap<i64, Batch>,
    /// What was appended: compaction does not change what producers are known by.
    pub appended: BTreeMap<i64, Batch>,
    pub log_start: i64,
    pub high_watermark: i64,
    pub log_end: i64,
    pub leader_epoch: i32,
    /// Producers may be forgotten as far as their batches lie below this: they had been deleted when
    /// the state was last made from the log.
    pub forgotten_below: i64,
}

impl Model {
    pub fn append(&mut self, batch: Batch) {
        self.log_end = batch.next;
        self.batches.insert(batch.base, batch.clone());
        self.appended.insert(batch.base, batch);
    }

    pub fn records(&self, range: Range<i64>) -> impl Iterator<Item = &Record> {
        let records = self.batches.values().flat_map(|batch| &batch.records);
        records.filter(move |record| range.contains(&record.offset))
    }

    pub fn bound(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::Uncommitted | Isolation::Committed => self.high_watermark,
            Isolation::LogEnd => self.log_end,
        }
    }

    /// The last batches of a producer, oldest first, five at most and of its newest epoch.
    pub fn remembered(&self, id: i64) -> Vec<&Batch> {
        let of = |batch: &&Batch| batch.producer.is_some_and(|(of, _, _)| of == id);
        let mut last: Vec<&Batch> = self.appended.values().filter(of).collect();
        let newest = last.last().and_then(|batch| batch.producer).map(|(_, epoch, _)| epoch);
        last.retain(|batch| batch.producer.map(|(_, epoch, _)| epoch) == newest);
        last.split_off(last.len().saturating_sub(5))
    }

    /// Epoch and next sequence of a producer.
    pub fn next_sequence(&self, id: i64) -> (i16, i32) {
        self.remembered(id).last().map_or((0, 0), |batch| {
            let (_, epoch, sequence) = batch.producer.expect("filtered by it");
            (epoch, sequence + batch.records.len() as i32)
        })
    }

    pub fn cut(&mut self, log_end: i64) {
        self.batches.retain(|&base, _| base < log_end);
        self.appended.retain(|&base, _| base < log_end);
        self.log_end = log_end;
    }
}

fn records_of(batch: &RecordBatch<'_>) -> Vec<Record> {
    batch
        .records(DecompressLimits::default())
        .expect("sound")
        .map(|record| record.expect("sound"))
        .map(|record| Record {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(|key| key.to_vec()),
            value: record.value.map(|value| value.to_vec()),
        })
        .collect()
}
