//! The plain list: every record that was appended, and the batches that producers may send again.

use log_core::record::{BatchBuilder, Compression, ProducedBatch};

use super::history::History;

/// A record as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
}

/// A batch of an idempotent producer.
#[derive(Clone, Debug)]
pub(super) struct Stamped {
    pub(super) base: i64,
    pub(super) producer: i64,
    pub(super) sequence: i32,
    pub(super) records: Vec<Sent>,
}

impl History {
    pub(super) fn note(&mut self, base: i64, (records, stamped): (Vec<Sent>, Option<Stamped>)) {
        self.sent.extend((base..).zip(records));
        self.stamped.extend(stamped);
    }

    pub(super) fn next_sequence(&self, producer: i64) -> i32 {
        let last = self.stamped.iter().rfind(|batch| batch.producer == producer);
        last.map_or(0, |batch| batch.sequence + batch.records.len() as i32)
    }
}

pub(super) fn produced(
    codec: Compression,
    append_time: Option<i64>,
    stamped: Option<&Stamped>,
    records: &[Sent],
) -> ProducedBatch {
    let mut builder = BatchBuilder::new(codec);
    if let Some(batch) = stamped {
        builder = builder.producer(batch.producer, 0, batch.sequence);
    }
    if let Some(now_ms) = append_time {
        builder = builder.log_append_time(now_ms);
    }
    for Sent { timestamp, key, value } in records {
        builder.append(*timestamp, key.as_deref(), value.as_deref(), &[]).expect("small");
    }
    ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
}
