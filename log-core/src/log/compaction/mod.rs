//! Compaction: of every key the latest record stays (`cleanup.policy=compact`).
//!
//! The log has a head, which is never touched: the active segment, what is not durable, what lies past the
//! last stable offset, what is younger than `min.compaction.lag.ms`. Behind it are segments that came since
//! the last pass (dirty) and those that it left (clean).
//!
//! ```text
//! log start        first dirty               head
//!     │  clean         │  dirty                │
//!     ├────────────────┼───────────────────────┼─────────────
//!     │                │ 1. each key's last    │
//!     │                │    offset into a map  │
//!     │ 2. records that have a later one go    │
//! ```
//!
//! A pass is made of values that work without the log's lock, like a flush:
//!
//! 1. [`PartitionLog::compactable`](super::PartitionLog::compactable) takes a look, and
//!    [`Compactable::dirtiness`] says whether a pass is due.
//! 2. [`PartitionLog::begin_compaction`](super::PartitionLog::begin_compaction), then
//!    [`Compaction::prepare`] reads the dirty segments into an [`OffsetMap`], as many as fit.
//! 3. [`Compaction::next`] writes the next group of segments as one [`Cleaned`], and
//!    [`PartitionLog::take_cleaned`](super::PartitionLog::take_cleaned) puts it in their place; until there
//!    is none.
//! 4. [`Compaction::finish`] leaves the hint, and
//!    [`PartitionLog::finish_compaction`](super::PartitionLog::finish_compaction) takes note.
//!
//! Groups go from the oldest on, so what a pass that is cut short has removed is what later records, which
//! are durable, stand for; and a tombstone goes in a later pass than everything that it deletes.

mod candidate;
mod error;
mod hint;
mod offset_map;
mod pass;
mod rules;
pub(super) mod swap;
mod take;
#[cfg(test)]
mod tests;
mod transactions;
mod writer;

pub use candidate::{Compactable, Dirtiness};
pub use error::CompactionError;
pub(super) use hint::load as first_dirty;
pub use offset_map::OffsetMap;
pub use pass::{Cleaned, Compaction, CompactionReport};
