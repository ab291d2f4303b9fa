//! Where a transactional producer stands, and what is said when it stands somewhere else. Pure.
//!
//! ```text
//! New ──init──► Ready ──begin──► Open ──commit──► Committing ──► Ready
//!                 ▲               │ │
//!                 │               │ └─something failed──► Abortable
//!                 └──── Aborting ◄┴───────abort───────────────┘
//! Fenced or failed for good, from anywhere: Ended
//! ```

use std::collections::BTreeSet;

use log_core::wire::ErrorCode;

use super::error::ProduceError;
use super::queue::Identity;
use crate::error::ClientError;
use crate::topic_partition::TopicPartition;

/// Why a transaction cannot go on, and what to do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// The producer has no transactional id. Set [`ProducerConfig::transactional_id`](super::ProducerConfig).
    #[error("the producer has no transactional id")]
    NotTransactional,
    /// The call does not fit where the producer stands: a mistake in the program.
    #[error("cannot {call} now: {stands}")]
    Misplaced {
        /// What was called.
        call: &'static str,
        /// Where the producer stands.
        stands: &'static str,
    },
    /// Another producer has initialised under the same transactional id. This one has to be closed, and what it was
    /// doing is the other one's to do.
    #[error("another producer has taken over the transactional id ({0}); close this one")]
    Fenced(ErrorCode),
    /// The transaction cannot be committed. [`abort_transaction`](super::Producer::abort_transaction), go back to
    /// where it began, and begin another one.
    #[error("the transaction has failed and has to be aborted: {0}")]
    Abortable(Box<ProduceError>),
    /// Nobody knows how the transaction ended. Make the same call again: that settles it.
    #[error("not answered, and may have happened; make the same call again: {0}")]
    Undecided(ClientError),
    /// The producer is of no use any more. Close it; another one under the same id goes on from the last commit.
    #[error("the producer cannot go on; close it and make another one: {0}")]
    Fatal(ClientError),
}

impl TransactionError {
    /// Whether aborting the transaction is the remedy.
    pub fn is_abortable(&self) -> bool {
        matches!(self, TransactionError::Abortable(_))
    }

    /// Whether the producer has to be closed.
    pub fn is_fatal(&self) -> bool {
        matches!(self, TransactionError::Fenced(_) | TransactionError::Fatal(_))
    }

    /// What an answer of a coordinator means. What may pass has been tried again for as long as that is sensible.
    pub(super) fn of_coordinator(error: ClientError) -> TransactionError {
        match error.code() {
            Some(code @ (ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch)) => {
                TransactionError::Fenced(code)
            }
            Some(
                ErrorCode::TransactionAbortable
                | ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::FencedInstanceId
                | ErrorCode::StaleMemberEpoch
                | ErrorCode::RebalanceInProgress
                | ErrorCode::GroupAuthorizationFailed
                | ErrorCode::TopicAuthorizationFailed
                | ErrorCode::OffsetMetadataTooLarge
                | ErrorCode::OperationNotAttempted,
            ) => TransactionError::Abortable(Box::new(error.into())),
            _ if error.is_retriable() => TransactionError::Abortable(Box::new(error.into())),
            _ => TransactionError::Fatal(error),
        }
    }

    /// What the answer to an attempt to end a transaction means: without one, nobody knows.
    pub(super) fn of_end(error: ClientError) -> TransactionError {
        match error.is_retriable() {
            true => TransactionError::Undecided(error),
            false => TransactionError::of_coordinator(error),
        }
    }
}

/// How the cluster does transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Partitions are added by requests of their own, and the epoch stays (KIP-98).
    #[default]
    Explicit,
    /// Writing adds partitions, and each transaction has an epoch of its own (KIP-890).
    Implicit,
}

/// What may be done with a batch now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may be sent.
    Send,
    /// Its partition has to be added first.
    Add,
    /// Not before something else has happened.
    Wait,
}

#[derive(Clone, Debug)]
enum Phase {
    New,
    Ready,
    Open,
    Committing,
    Aborting,
    Abortable(Box<ProduceError>),
    Ended(TransactionError),
}

/// What the coordinator has of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtCoordinator {
    /// It has not heard of it.
    Nothing,
    /// It knows of it, or may.
    Begun,
    /// It has aborted it, and owes the producer its next epoch.
    Aborted,
}

/// The transactions of one producer.
#[derive(Debug)]
pub(super) struct Transaction {
    phase: Phase,
    protocol: Protocol,
    identity: Option<Identity>,
    /// Counts up with every transaction, so that an answer can be told from one to an earlier transaction.
    number: u64,
    /// Partitions that the coordinator knows to be in the transaction.
    added: BTreeSet<TopicPartition>,
    at_coordinator: AtCoordinator,
}

impl Transaction {
    pub(super) fn new() -> Transaction {
        Transaction {
            phase: Phase::New,
            protocol: Protocol::default(),
            identity: None,
            number: 0,
            added: BTreeSet::new(),
            at_coordinator: AtCoordinator::Nothing,
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// What there is at the coordinator to be ended.
    pub(super) fn at_coordinator(&self) -> AtCoordinator {
        self.at_coordinator
    }

    pub(super) fn check_init(&self) -> Result<(), TransactionError> {
        match &self.phase {
            Phase::New => Ok(()),
            _ => Err(self.misplaced("initialise transactions")),
        }
    }

    /// The producer has its epoch.
    pub(super) fn initialised(&mut self, identity: Identity, protocol: Protocol) {
        self.protocol = protocol;
        self.ended(Some(identity));
    }

    pub(super) fn begin(&mut self) -> Result<(), TransactionError> {
        match &self.phase {
            Phase::Ready => {
                self.phase = Phase::Open;
                self.number += 1;
                Ok(())
            }
            _ => Err(self.misplaced("begin a transaction")),
        }
    }

    /// Whether records and offsets are taken, and the number of the transaction that takes them.
    pub(super) fn check_open(&self, call: &'static str) -> Result<u64, TransactionError> {
        match &self.phase {
            Phase::Open => Ok(self.number),
            _ => Err(self.misplaced(call)),
        }
    }

    /// As [`check_open`](Transaction::check_open), for what was meant for the transaction of that number.
    pub(super) fn check_still_open(&self, call: &'static str, number: u64) -> Result<(), TransactionError> {
        match self.check_open(call)? {
            open if open == number => Ok(()),
            _ => Err(TransactionError::Misplaced { call, stands: "the transaction it was for is over" }),
        }
    }

    /// From now on the transaction is being committed, unless it has failed meanwhile.
    pub(super) fn commit(&mut self) -> Result<(), TransactionError> {
        match &self.phase {
            Phase::Open | Phase::Committing => {
                self.phase = Phase::Committing;
                Ok(())
            }
            _ => Err(self.misplaced("commit a transaction")),
        }
    }

    /// From now on the transaction is being aborted.
    pub(super) fn abort(&mut self) -> Result<(), TransactionError> {
        match &self.phase {
            Phase::Open | Phase::Abortable(_) | Phase::Aborting => {
                self.phase = Phase::Aborting;
                Ok(())
            }
            _ => Err(self.misplaced("abort a transaction")),
        }
    }

    /// The transaction is over, and the producer goes on as `identity`, if that has changed.
    pub(super) fn ended(&mut self, identity: Option<Identity>) {
        self.phase = Phase::Ready;
        self.identity = identity.or(self.identity);
        self.added.clear();
        self.at_coordinator = AtCoordinator::Nothing;
    }

    pub(super) fn is_aborting(&self) -> bool {
        matches!(self.phase, Phase::Aborting)
    }

    /// Something that belongs to the transaction has failed.
    pub(super) fn failed(&mut self, error: &ProduceError) {
        if let Phase::Open | Phase::Committing = self.phase {
            self.phase = Phase::Abortable(Box::new(error.clone()));
        }
    }

    /// Takes note of what a coordinator has answered.
    pub(super) fn refused(&mut self, error: &TransactionError) {
        match error {
            TransactionError::Abortable(cause) => self.failed(cause),
            _ if error.is_fatal() => self.phase = Phase::Ended(error.clone()),
            _ => {}
        }
    }

    /// Whether a batch of `partition` may be sent.
    pub(super) fn admit(&mut self, partition: &TopicPartition) -> Admission {
        match (&self.phase, self.protocol) {
            (Phase::Open | Phase::Committing, Protocol::Implicit) => {
                self.begins();
                Admission::Send
            }
            (Phase::Open | Phase::Committing, Protocol::Explicit) if self.added.contains(partition) => {
                Admission::Send
            }
            (Phase::Open | Phase::Committing, Protocol::Explicit) => Admission::Add,
            _ => Admission::Wait,
        }
    }

    /// The coordinator is about to hear of the transaction.
    pub(super) fn begins(&mut self) {
        self.at_coordinator = AtCoordinator::Begun;
    }

    /// The coordinator has aborted the transaction: should what follows fail, that is not to be done again.
    pub(super) fn aborted(&mut self) {
        self.at_coordinator = AtCoordinator::Aborted;
    }

    /// The number of the transaction that takes partitions now.
    pub(super) fn open_number(&self) -> Option<u64> {
        matches!(self.phase, Phase::Open | Phase::Committing).then_some(self.number)
    }

    /// The coordinator has added these partitions to the transaction of that number.
    pub(super) fn added(&mut self, number: u64, partitions: Vec<TopicPartition>) {
        if self.open_number() == Some(number) {
            self.added.extend(partitions);
        }
    }

    fn misplaced(&self, call: &'static str) -> TransactionError {
        let stands = match &self.phase {
            Phase::Ended(error) => return error.clone(),
            Phase::Abortable(cause) => return TransactionError::Abortable(cause.clone()),
            Phase::New => "transactions have not been initialised",
            Phase::Ready => "no transaction is open",
            Phase::Open => "a transaction is open",
            Phase::Committing => "a transaction is being committed",
            Phase::Aborting => "a transaction is being aborted",
        };
        TransactionError::Misplaced { call, stands }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity { producer_id: 7, epoch: 1 };

    fn ready(protocol: Protocol) -> Transaction {
        let mut transaction = Transaction::new();
        transaction.initialised(IDENTITY, protocol);
        transaction
    }

    #[test]
    fn calls_out_of_place_are_refused_and_change_nothing() {
        let mut transaction = Transaction::new();
        assert!(matches!(transaction.begin(), Err(TransactionError::Misplaced { .. })));
        assert!(transaction.commit().is_err() && transaction.abort().is_err());
        transaction.initialised(IDENTITY, Protocol::Explicit);
        assert!(transaction.check_init().is_err() && transaction.check_open("send").is_err());
        assert!(transaction.commit().is_err() && transaction.abort().is_err());
        transaction.begin().unwrap();
        let again = transaction.begin().unwrap_err().to_string();
        assert!(again.contains("a transaction is open"), "{again}");
        transaction.commit().unwrap();
        assert!(transaction.abort().is_err(), "the coordinator may have committed it");
        transaction.commit().unwrap();
    }

    #[test]
    fn a_failure_leaves_aborting_as_the_only_way_out() {
        let mut transaction = ready(Protocol::Explicit);
        transaction.begin().unwrap();
        transaction.failed(&ProduceError::Closed);
        assert!(transaction.commit().unwrap_err().is_abortable());
        assert!(transaction.check_open("send").unwrap_err().is_abortable());
        assert_eq!(transaction.admit(&TopicPartition::new("t", 0)), Admission::Wait);
        transaction.abort().unwrap();
        transaction.ended(None);
        transaction.begin().unwrap();
    }

    #[test]
    fn partitions_are_added_anew_in_every_transaction_unless_writing_adds_them() {
        let partition = TopicPartition::new("t", 0);
        let mut transaction = ready(Protocol::Explicit);
        for _ in 0..2 {
            assert_eq!(transaction.admit(&partition), Admission::Wait);
            transaction.begin().unwrap();
            assert_eq!(transaction.admit(&partition), Admission::Add);
            let number = transaction.open_number().unwrap();
            transaction.added(number - 1, vec![partition.clone()]);
            assert_eq!(transaction.admit(&partition), Admission::Add, "that was another transaction");
            transaction.added(number, vec![partition.clone()]);
            assert_eq!(transaction.admit(&partition), Admission::Send);
            transaction.ended(None);
        }
        let mut transaction = ready(Protocol::Implicit);
        transaction.begin().unwrap();
        assert_eq!(transaction.at_coordinator(), AtCoordinator::Nothing);
        assert_eq!(transaction.admit(&partition), Admission::Send);
        assert_eq!(transaction.at_coordinator(), AtCoordinator::Begun, "the broker adds it with the write");
    }

    #[test]
    fn who_is_fenced_stays_so() {
        let mut transaction = ready(Protocol::Implicit);
        transaction.begin().unwrap();
        let code = ErrorCode::ProducerFenced;
        transaction.refused(&TransactionError::of_coordinator(ClientError::broker("x", code)));
        transaction.failed(&ProduceError::Closed);
        for outcome in [transaction.begin(), transaction.commit(), transaction.abort()] {
            assert!(matches!(outcome, Err(TransactionError::Fenced(fenced)) if fenced == code));
        }
    }

    #[test]
    fn each_code_has_its_remedy() {
        let judged = |code| TransactionError::of_coordinator(ClientError::broker("x", code));
        assert!(judged(ErrorCode::IllegalGeneration).is_abortable());
        assert!(judged(ErrorCode::TransactionAbortable).is_abortable());
        assert!(judged(ErrorCode::InvalidProducerIdMapping).is_fatal());
        assert!(judged(ErrorCode::TransactionalIdAuthorizationFailed).is_fatal());
        let ended = |code| TransactionError::of_end(ClientError::broker("x", code));
        assert!(matches!(ended(ErrorCode::ConcurrentTransactions), TransactionError::Undecided(_)));
        assert!(ended(ErrorCode::InvalidTxnState).is_fatal());
    }
}
