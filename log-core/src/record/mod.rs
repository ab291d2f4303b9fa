//! Record batches, format v2 (KIP-98): the bytes that producers send, segments store and consumers
//! read, all the same.
//!
//! [`RecordBatch`] is a view of a batch where it lies, [`Records`] iterates over what is inside,
//! [`BatchBuilder`] makes one and [`validate_produced`] is what a broker checks of one before it is
//! appended. Nothing here does I/O, and nothing panics or allocates beyond a stated limit on account
//! of the bytes it is given.

mod batch;
mod builder;
mod compression;
mod control;
mod error;
mod lookup;
mod partitioner;
#[expect(clippy::module_inception, reason = "one noun a file: a record is the noun of this one")]
mod record;
mod remnant;
mod validate;
pub mod varint;

pub use batch::{
    Attributes, Batches, LENGTH_FIELD_END, OVERHEAD, RecordBatch, TimestampType, batches, crc32c,
    set_log_append_time, write_prefix,
};
#[cfg(feature = "storage")]
pub(crate) use batch::{MAGIC, MAGIC_AT};
pub use builder::{BatchBuilder, BuildError, ProducerStamp, set_producer_stamp};
pub use compression::{
    Compression, CompressionLevels, DecompressError, DecompressLimits, UnknownCompression,
};
pub use control::{EndOfTransaction, Marker};
pub use error::BatchError;
pub use lookup::TimestampedOffset;
pub use partitioner::partition_of_key;
pub use record::{Header, Record, RecordRef, RecordRefs, Records};
pub use remnant::{Remnant, empty_batch, filler};
pub use validate::{
    ProduceErrorKind, ProduceRejection, ProducedBatch, RECORD_ERRORS_MAX, RecordError, ValidateOptions,
    validate_produced,
};
