//! The seam between a shard and the log that remembers for it: a partition of an internal topic, or memory in tests.

use std::fmt;

use crate::coordinator::machine::LogEntry;

/// The log of one shard. It has one writer, the shard's task; its methods that are not async do not wait for a disk to
/// sync, except [`read`](Self::read) and [`delete_before`](Self::delete_before), which belong on a blocking thread.
pub trait ShardLog: fmt::Debug + Send + Sync + 'static {
    /// Appends `entries` as one batch: a crash keeps all of them or none. They are not durable yet.
    ///
    /// # Errors
    /// Nothing was appended, and a later attempt may succeed.
    fn append(&self, entries: Vec<LogEntry>, now_ms: i64) -> Result<Written, NotWritten>;

    /// Waits until everything below `offset` is durable.
    ///
    /// # Errors
    /// It never will be.
    fn wait_durable(&self, offset: i64) -> impl Future<Output = Result<(), Offline>> + Send;

    /// The first offset that is still there.
    fn start(&self) -> i64;

    /// The offset after the last one that is durable.
    fn durable_end(&self) -> i64;

    /// The offset after the last one.
    fn end(&self) -> i64;

    /// Entries from `offset` on, at least one batch if there is one, and the offset to go on from; at the end, none
    /// and the offset itself.
    ///
    /// # Errors
    /// The bytes cannot be read or are not what was written.
    fn read(&self, offset: i64) -> Result<Chunk, ReadFailed>;

    /// Forgets what lies below `offset`, which is durable.
    ///
    /// # Errors
    /// The reason; the log is as it was, or begins anywhere up to `offset`.
    fn delete_before(&self, offset: i64) -> Result<(), String>;
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The offset after the batch.
    pub end: i64,
    /// How much longer the log is.
    pub bytes: u64,
}

/// A piece of a log.
#[derive(Debug)]
pub struct Chunk {
    /// In order.
    pub entries: Vec<LogEntry>,
    /// Where the next piece begins.
    pub next: i64,
    /// How many bytes of the log this was.
    pub bytes: u64,
}

/// Why an append has not happened: no space, or a log that takes no appends any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotWritten(pub String);

/// Why a log cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset}: {reason}")]
pub struct ReadFailed {
    /// Where.
    pub offset: i64,
    /// What is wrong.
    pub reason: String,
}

/// The log takes and promises nothing any more: a sync failed, or it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log is offline")]
pub struct Offline;
