//! The log of a partition: segments, what is known about them, and the directory they lie in.

mod aborted_index;
mod append;
mod append_only;
mod checkpoint;
mod clean_shutdown;
mod compaction;
mod config;
mod count;
#[cfg(test)]
mod damage_tests;
mod error;
mod flush;
mod for_all;
mod health;
mod identity;
mod index_file;
mod index_tail;
mod inspect;
mod known_damage;
mod leader_epoch;
mod log_dir;
mod log_dir_bulk;
mod losses;
mod offset_index;
mod open_segments;
mod partition_log;
#[cfg(test)]
mod partition_log_tests;
mod pressure;
mod producer_snapshot;
mod producer_state;
mod quarantine;
mod read;
mod read_ahead;
mod recovery;
mod repair;
mod replay;
#[cfg(test)]
mod restart_tests;
mod retention;
#[cfg(test)]
mod retention_tests;
mod scan;
mod scrub;
mod segment;
mod segment_read;
mod segments;
mod survey;
mod tally;
#[cfg(test)]
mod testing;
mod time_index;
mod transactions;
#[cfg(test)]
mod transactions_tests;
mod view;
mod watermarks;

pub use aborted_index::AbortedTransaction;
pub use append::Appended;
pub use checkpoint::{Checkpoint, CheckpointFile, LastBatch};
pub use clean_shutdown::CleanShutdown;
pub use compaction::{
    Cleaned, Compactable, Compaction, CompactionError, CompactionReport, Dirtiness, OffsetMap,
};
pub use config::{CleanupPolicy, LogConfig};
pub use count::{Count, CountBudget, Search};
pub use error::{AppendError, Corruption, DeleteRecordsError, OpenError, ReadError};
pub use flush::{CheckpointWrite, Flush};
pub use for_all::for_all;
pub use health::DirHealth;
pub use identity::{DIRECTORY_FORMAT, DirectoryIdentity, PartitionIdentity, kafka_id};
pub use inspect::{Finding, InspectedSegment, Inspection, Severity, inspect};
pub use leader_epoch::{EpochStart, LeaderEpochs};
pub use log_dir::{Discovery, LogDir, LogDirError, LogDirOptions};
pub use log_dir_bulk::Wanted;
pub use losses::Loss;
pub use offset_index::OffsetEntry;
pub use open_segments::{OpenSegment, advance_read_clock};
pub use partition_log::{PartitionLog, SegmentInfo};
pub use pressure::OldSegment;
pub use producer_snapshot::ProducerSnapshot;
pub use producer_state::{
    BATCHES_REMEMBERED, EXPIRATION_MS, OPEN_TRANSACTIONS_MAX, PRODUCERS_MAX, ProducerBatch, ProducerState,
    ProducerStates, SequenceCheck, SequenceError, next_sequence,
};
pub use read::{Isolation, LogReader, ReadResult};
pub use read_ahead::ReadAhead;
pub use recovery::RecoveryReport;
pub use repair::{losses, skip_holes};
pub use retention::Retained;
pub use scrub::{ScrubEnd, ScrubEvent, SealedSegment};
pub use survey::Hole;
pub use time_index::TimeEntry;
pub use watermarks::Watermarks;
