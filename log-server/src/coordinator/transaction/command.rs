//! What goes into the coordinator of transactions, what comes out, and what changes.

use super::{Outcome, Partitions, Producer, Protocol, TopicPartition, Transaction};
use crate::coordinator::machine::Token;
use std::sync::Arc;

/// What the coordinator can be asked to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// InitProducerId.
    Init(InitProducer),
    /// AddPartitionsToTxn, and what adds partitions by itself.
    AddPartitions(AddPartitions),
    /// EndTxn.
    End(EndTransaction),
    /// Whoever writes markers asks for transactions that are to be ended; answered once there is one.
    NextMarkers,
    /// All markers of a transaction are durable.
    MarkersWritten {
        /// Whose.
        transactional_id: Arc<str>,
        /// What the markers carried.
        producer: Producer,
    },
}

/// A producer asks for its id and epoch, and ends what an earlier one left open.
#[derive(Clone, Debug)]
pub struct InitProducer {
    /// Under which id it will write.
    pub transactional_id: Arc<str>,
    /// How long its transactions may be open, in milliseconds.
    pub timeout_ms: i32,
    /// Who it was before, if it goes on after an error (KIP-360).
    pub expected: Option<Producer>,
    /// A producer id that nobody has, once the coordinator has answered that it wants one.
    pub fresh_id: Option<i64>,
}

/// A transaction is about to touch partitions.
#[derive(Clone, Debug)]
pub struct AddPartitions {
    /// Whose transaction.
    pub transactional_id: Arc<str>,
    /// The producer, as it says.
    pub producer: Producer,
    /// Which.
    pub partitions: Vec<TopicPartition>,
    /// What the client speaks.
    pub protocol: Protocol,
}

/// A producer ends its transaction.
#[derive(Clone, Debug)]
pub struct EndTransaction {
    /// Whose transaction.
    pub transactional_id: Arc<str>,
    /// The producer, as it says.
    pub producer: Producer,
    /// How.
    pub outcome: Outcome,
    /// What the client speaks.
    pub protocol: Protocol,
    /// A producer id that nobody has, once the coordinator has answered that it wants one.
    pub fresh_id: Option<i64>,
}

/// The coordinator's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Command::Init`]: who the producer is from now on.
    Init(Result<Producer, TransactionError>),
    /// To [`Command::Init`] and [`Command::End`]: send it again with a fresh producer id. Nothing has happened.
    FreshIdWanted,
    /// To [`Command::AddPartitions`].
    AddPartitions(Result<(), TransactionError>),
    /// To [`Command::End`]: who the producer is from now on. The outcome is decided; markers may still be on their way.
    End(Result<Producer, TransactionError>),
    /// To [`Command::NextMarkers`]: never empty.
    Markers(Vec<Markers>),
    /// To [`Command::MarkersWritten`].
    MarkersWritten,
}

/// The markers that end one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Whose transaction.
    pub transactional_id: Arc<str>,
    /// What the markers carry.
    pub producer: Producer,
    /// How it ends.
    pub outcome: Outcome,
    /// Where they are to be written.
    pub partitions: Partitions,
}

/// Why a request is refused. Nothing has happened, unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The transactional id is empty.
    #[error("the transactional id is empty")]
    InvalidTransactionalId,
    /// Transactions may not be open for so long, or for no time at all.
    #[error("the transaction timeout is out of bounds")]
    InvalidTimeout,
    /// The transactional id is unknown, or another producer has it.
    #[error("the producer id is not the one of the transactional id")]
    InvalidProducerIdMapping,
    /// A newer producer has taken over, or the transaction was aborted because it took too long.
    #[error("a newer producer has the transactional id")]
    ProducerFenced,
    /// The last transaction is still being ended. InitProducerId may have begun to do that.
    #[error("the last transaction is still being ended")]
    Concurrent,
    /// The transaction is not in a state in which that can be done.
    #[error("the transaction is not in a state to do this")]
    InvalidState,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Durable: all that is known of a transactional id.
    Stored {
        /// Which.
        transactional_id: Arc<str>,
        /// What.
        transaction: Transaction,
    },
    /// Durable: a transactional id was not used for long enough.
    Forgotten {
        /// Which.
        transactional_id: Arc<str>,
    },
    /// Soft: a transaction has begun.
    Started {
        /// Whose.
        transactional_id: Arc<str>,
        /// When it times out, in monotonic milliseconds.
        deadline_ms: u64,
    },
    /// Soft: whoever writes markers has been told of these.
    Sent {
        /// Whose transactions.
        transactional_ids: Vec<Arc<str>>,
    },
    /// Soft: whoever writes markers waits for some.
    MarkerWriterWaits(Token),
    /// Soft: a transaction was aborted because it took too long.
    TimedOut,
    /// Soft: ids to forget were looked for.
    Swept {
        /// When that is to be done again, in monotonic milliseconds.
        next_ms: u64,
    },
}
