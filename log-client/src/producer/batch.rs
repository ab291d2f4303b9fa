//! A batch on its way: filled, built once, sent perhaps several times.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use log_core::record::{
    BatchBuilder, BuildError, Compression, DecompressLimits, Header, ProducerStamp, RecordBatch, Records,
    set_producer_stamp,
};
use tokio::time::Instant;

use super::delivery::{Ack, AckReceiver, AckSender, ack};
use super::error::ProduceError;

/// Distance between the ids of batches. A batch can be divided as many times as this can be halved,
/// which is more than its records can.
pub(super) const ID_SPAN: u64 = 1 << 31;

/// How batches are made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchStyle {
    pub(super) compression: Compression,
    /// Whether they are part of transactions.
    pub(super) transactional: bool,
}

/// Records of one partition that share an acknowledgement.
#[derive(Debug)]
pub(super) struct Batch {
    /// Rises with the order of creation within a producer: the order in which a partition's records
    /// were sent.
    pub(super) id: u64,
    /// How many ids from there on are its own, for the pieces it may be divided into.
    id_span: u64,
    contents: Contents,
    record_count: i32,
    /// Bytes of buffer memory that its records hold.
    pub(super) reserved_bytes: usize,
    /// When its first record came.
    pub(super) created_at: Instant,
    /// When it is given up.
    pub(super) deadline: Instant,
    /// Its place in the partition's sequence, from when it is first sent.
    stamp: Option<ProducerStamp>,
    /// Whether an attempt went unanswered, so that the broker may have it.
    pub(super) outcome_unknown: bool,
    /// Why it was not appended so far.
    pub(super) last_error: Option<Arc<str>>,
    sender: AckSender,
    receiver: AckReceiver,
}

#[derive(Debug)]
enum Contents {
    Open(BatchBuilder),
    Built(Bytes),
}

impl Batch {
    pub(super) fn new(id: u64, style: BatchStyle, created_at: Instant, deadline: Instant) -> Batch {
        let (sender, receiver) = ack();
        Batch {
            id,
            id_span: ID_SPAN,
            contents: Contents::Open(BatchBuilder::new(style.compression).transactional(style.transactional)),
            record_count: 0,
            reserved_bytes: 0,
            created_at,
            deadline,
            stamp: None,
            outcome_unknown: false,
            last_error: None,
            sender,
            receiver,
        }
    }

    /// Adds a record and returns its index; `None` if it has to go into the next batch.
    pub(super) fn append(
        &mut self,
        bytes_max: usize,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<Option<i32>, BuildError> {
        let Contents::Open(builder) = &mut self.contents else { return Ok(None) };
        if !builder.is_empty() {
            let grown = builder.estimated_bytes() + builder.record_bytes(timestamp_ms, key, value, headers);
            if grown > bytes_max {
                return Ok(None);
            }
        }
        match builder.append(timestamp_ms, key, value, headers) {
            Ok(index) => {
                self.record_count += 1;
                Ok(Some(index))
            }
            // Too far from the batch's first record, but not from its own.
            Err(BuildError::TimestampOutOfRange) if !builder.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn record_count(&self) -> i32 {
        self.record_count
    }

    pub(super) fn estimated_bytes(&self) -> usize {
        match &self.contents {
            Contents::Open(builder) => builder.estimated_bytes(),
            Contents::Built(bytes) => bytes.len(),
        }
    }

    pub(super) fn receiver(&self) -> AckReceiver {
        self.receiver.clone()
    }

    pub(super) fn stamp(&self) -> Option<ProducerStamp> {
        self.stamp
    }

    /// Gives the batch its place, or a new one after its old one was abandoned.
    pub(super) fn set_stamp(&mut self, stamp: ProducerStamp) {
        self.stamp = Some(stamp);
        match &mut self.contents {
            Contents::Open(builder) => builder.set_producer(stamp),
            Contents::Built(bytes) => {
                let mut restamped = BytesMut::from(&bytes[..]);
                set_producer_stamp(&mut restamped, stamp);
                *bytes = restamped.freeze();
            }
        }
    }

    /// Takes its place away; it gets another when it is next sent.
    pub(super) fn clear_stamp(&mut self) {
        self.stamp = None;
    }

    /// The batch as it goes over the wire. Compresses the first time.
    pub(super) fn build(&mut self) -> Result<Bytes, BuildError> {
        if let Contents::Open(builder) = &mut self.contents {
            let builder = std::mem::replace(builder, BatchBuilder::new(Compression::None));
            self.contents = Contents::Built(builder.build(0)?);
        }
        match &self.contents {
            Contents::Built(bytes) => Ok(bytes.clone()),
            Contents::Open(_) => unreachable!("built above"),
        }
    }

    pub(super) fn resolve(self, outcome: Result<Ack, ProduceError>) {
        // Nobody may be waiting: deliveries can be dropped.
        self.sender.send(outcome).ok();
    }

    /// Two batches of half the records each, which keep their places in the sequence and in the order of
    /// ids; the batch itself resolves to them. A single record cannot be divided and comes back.
    #[expect(clippy::result_large_err, reason = "the batch that comes back is the one that was given")]
    pub(super) fn split(self) -> Result<[Batch; 2], Batch> {
        let Contents::Built(bytes) = &self.contents else { return Err(self) };
        let attributes = RecordBatch::parse(bytes).map(|batch| batch.attributes());
        let style = BatchStyle {
            compression: attributes.clone().and_then(|it| it.compression()).unwrap_or_default(),
            transactional: attributes.is_ok_and(|it| it.is_transactional()),
        };
        let limits = DecompressLimits { output_bytes_max: usize::MAX, ratio_max: usize::MAX };
        let records = Records::of(bytes, limits).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let middle = self.record_count / 2;
        let (Ok(records), 1..) = (records, middle) else { return Err(self) };

        let half = |id, range: std::ops::Range<usize>| {
            let mut batch = Batch::new(id, style, self.created_at, self.deadline);
            batch.id_span = self.id_span / 2;
            for record in &records[range.clone()] {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let added =
                    batch.append(usize::MAX, record.timestamp, key, value, &record.headers).ok()??;
                debug_assert_eq!(added + 1, batch.record_count);
            }
            if let Some(stamp) = self.stamp {
                let base_sequence = advance_sequence(stamp.base_sequence, range.start as i32);
                batch.set_stamp(ProducerStamp { base_sequence, ..stamp });
            }
            Some(batch)
        };
        let middle = middle as usize;
        let halves = (half(self.id, 0..middle), half(self.id + self.id_span / 2, middle..records.len()));
        let (Some(mut first), Some(mut second)) = halves else { return Err(self) };
        first.reserved_bytes = self.reserved_bytes / 2;
        second.reserved_bytes = self.reserved_bytes - first.reserved_bytes;
        let pieces = [(0, first.receiver()), (middle as i32, second.receiver())];
        self.resolve(Ok(Ack::Split(pieces.into())));
        Ok([first, second])
    }
}

/// The sequence number `count` records after `sequence`: 2³¹-1 is followed by 0.
pub(super) fn advance_sequence(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}
