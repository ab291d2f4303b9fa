//! Control batches: the ends of transactions, as the log holds them (KIP-98).
//!
//! ```text
//! batch   transactional and control, the producer's id and epoch, base sequence -1, one record:
//!   key    version i16 0 │ type i16: 0 abort, 1 commit
//!   value  version i16 0 │ coordinator epoch i32
//! ```
//! Clients never see one as a record. One of another type is passed over, as Kafka passes it over.

use super::batch::RecordBatch;
use super::builder::BatchBuilder;
use super::compression::{Compression, DecompressLimits};
use super::error::BatchError;
use super::validate::ProducedBatch;

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// The sequence that a batch outside of its producer's sequence bears.
const NO_SEQUENCE: i32 = -1;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Marker {
    /// Its records count.
    Commit,
    /// Its records are to be passed over.
    Abort,
}

/// What a control batch says of its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfTransaction {
    /// How it ended.
    pub marker: Marker,
    /// The epoch of the coordinator that decided it; -1 if the record does not say.
    pub coordinator_epoch: i32,
}

impl EndOfTransaction {
    /// The control batch of the producer's that says so, at `now_ms` (ms since the epoch).
    #[must_use]
    pub fn to_batch(&self, producer_id: i64, producer_epoch: i16, now_ms: i64) -> ProducedBatch {
        let kind = match self.marker {
            Marker::Abort => ABORT,
            Marker::Commit => COMMIT,
        };
        let key = [KEY_VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let value = [&VALUE_VERSION.to_be_bytes()[..], &self.coordinator_epoch.to_be_bytes()].concat();
        let mut builder = BatchBuilder::new(Compression::None)
            .producer(producer_id, producer_epoch, NO_SEQUENCE)
            .transactional(true)
            .control(true);
        builder.append(now_ms, Some(&key), Some(&value), &[]).expect("a record of ten bytes fits");
        let bytes = builder.build(0).expect("a batch of one record");
        ProducedBatch::internal(bytes).expect("one batch with a record for its one offset")
    }

    /// What a whole control batch says; `None` if it is not about the end of a transaction, or has lost its
    /// record to compaction.
    ///
    /// # Errors
    /// A record that cannot be decoded.
    pub fn of(batch: &RecordBatch<'_>) -> Result<Option<EndOfTransaction>, BatchError> {
        let payload = batch.decompressed_payload(DecompressLimits::default())?;
        let Some(record) = batch.record_refs(&payload).next().transpose()? else { return Ok(None) };
        // Later versions of key and value add to the end only.
        let marker = match record.key {
            Some([_, _, kind @ ..]) if kind.starts_with(&ABORT.to_be_bytes()) => Marker::Abort,
            Some([_, _, kind @ ..]) if kind.starts_with(&COMMIT.to_be_bytes()) => Marker::Commit,
            _ => return Ok(None),
        };
        let coordinator_epoch =
            record.value.and_then(|value| value.get(2..6)?.try_into().ok()).map_or(-1, i32::from_be_bytes);
        Ok(Some(EndOfTransaction { marker, coordinator_epoch }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written out by hand from the format's description, checksum apart.
    #[rustfmt::skip]
    const COMMIT_BATCH: [u8; 78] = [
        0, 0, 0, 0, 0, 0, 0, 0x2a,              // base offset 42
        0, 0, 0, 66,                            // length
        0, 0, 0, 5,                             // leader epoch
        2,                                      // magic
        0, 0, 0, 0,                             // checksum, see below
        0, 0x30,                                // attributes: transactional, control
        0, 0, 0, 0,                             // last offset delta
        0, 0, 0, 0, 0, 0, 0x03, 0xe8,           // base timestamp 1000
        0, 0, 0, 0, 0, 0, 0x03, 0xe8,           // max timestamp
        0, 0, 0, 0, 0, 0, 0, 7,                 // producer id
        0, 3,                                   // producer epoch
        0xff, 0xff, 0xff, 0xff,                 // base sequence -1
        0, 0, 0, 1,                             // records
        0x20,                                   // record of 16 bytes
        0, 0, 0,                                // attributes, timestamp and offset deltas
        0x08, 0, 0, 0, 1,                       // key: version 0, commit
        0x0c, 0, 0, 0, 0, 0, 9,                 // value: version 0, coordinator epoch 9
        0,                                      // headers
    ];

    #[test]
    fn the_bytes_are_those_of_the_format() {
        for (marker, kind) in [(Marker::Commit, 1), (Marker::Abort, 0)] {
            let end = EndOfTransaction { marker, coordinator_epoch: 9 };
            let bytes = end.to_batch(7, 3, 1000).to_bytes(42, 5);
            let mut expected = COMMIT_BATCH;
            expected[69] = kind;
            let crc = crate::record::crc32c(&expected[21..]);
            expected[17..21].copy_from_slice(&crc.to_be_bytes());
            assert_eq!(bytes[..], expected[..]);
            let batch = RecordBatch::parse(&bytes).expect("a batch");
            batch.verify_crc().expect("sound");
            assert_eq!(EndOfTransaction::of(&batch), Ok(Some(end)));
        }
    }

    #[test]
    fn other_control_records_say_nothing_of_transactions() {
        for (key, value) in [
            (Some(&[0, 0, 0, 3][..]), Some(&[0, 0][..])),
            (Some(&[0, 0, 0]), Some(&[0; 6])),
            (Some(&[]), None),
            (None, Some(&[0; 6])),
        ] {
            let mut builder = BatchBuilder::new(Compression::None).control(true);
            builder.append(1, key, value, &[]).expect("small");
            let bytes = builder.build(0).expect("small");
            assert_eq!(EndOfTransaction::of(&RecordBatch::parse(&bytes).expect("a batch")), Ok(None));
        }
        let mut builder = BatchBuilder::new(Compression::None).control(true);
        builder.append(1, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0]), &[]).expect("small");
        let bytes = builder.build(0).expect("small");
        let end = EndOfTransaction::of(&RecordBatch::parse(&bytes).expect("a batch"));
        let expected = EndOfTransaction { marker: Marker::Commit, coordinator_epoch: -1 };
        assert_eq!(end, Ok(Some(expected)), "a value that is cut short does not say who decided");
    }
}
