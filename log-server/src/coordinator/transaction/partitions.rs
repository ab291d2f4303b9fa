//! Partitions of a transaction: added by AddPartitionsToTxn or by writing to them, and asked about before a write.

use super::{
    AddPartitions, Decision, Event, Producer, Reply, State, Token, TopicPartition, TransactionCoordinator,
    TransactionError,
};
use crate::coordinator::machine::Now;

impl TransactionCoordinator {
    pub(super) fn add_partitions(&self, now: Now, token: Token, add: AddPartitions) -> Decision {
        let reply = |outcome| Decision::reply(token, Reply::AddPartitions(outcome));
        let transaction = match self.open_for(&add.transactional_id, add.producer) {
            Ok(transaction) => transaction,
            Err(error) => return reply(Err(error)),
        };
        let is_ongoing = transaction.state == State::Ongoing;
        if is_ongoing && transaction.has_all(&add.partitions) {
            return reply(Ok(()));
        }
        let next = transaction.with(&add.partitions, add.protocol, now);
        let deadline_ms = now.monotonic_ms.saturating_add(u64::from(next.timeout_ms.unsigned_abs()));
        let mut decision = self.store(&add.transactional_id, next);
        if !is_ongoing {
            let transactional_id = add.transactional_id;
            decision.events.push(Event::Started { transactional_id, deadline_ms });
        }
        decision.replies.push((token, Reply::AddPartitions(Ok(()))));
        decision
    }

    /// Which of `partitions` are in the open transaction of `producer`, in their order.
    ///
    /// # Errors
    /// It has none, or is not the one that may.
    pub fn verify(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<bool>, TransactionError> {
        let transaction = self.open_for(transactional_id, producer)?;
        let is_ongoing = transaction.state == State::Ongoing;
        Ok(partitions.iter().map(|it| is_ongoing && transaction.has(it)).collect())
    }

    /// The transaction that `producer` may write in, or may begin.
    fn open_for(
        &self,
        transactional_id: &str,
        producer: Producer,
    ) -> Result<&super::Transaction, TransactionError> {
        if transactional_id.is_empty() {
            return Err(TransactionError::InvalidTransactionalId);
        }
        let transaction =
            self.transaction(transactional_id).ok_or(TransactionError::InvalidProducerIdMapping)?;
        if transaction.told() == producer && transaction.next_id.is_some() {
            // It has been told of its next id, which becomes its own when the markers are written.
            return Err(TransactionError::Concurrent);
        }
        if transaction.producer.id != producer.id {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        if transaction.producer.epoch != producer.epoch {
            return Err(TransactionError::ProducerFenced);
        }
        match transaction.state {
            State::Prepare(_) => Err(TransactionError::Concurrent),
            State::Empty | State::Ongoing | State::Complete(_) => Ok(transaction),
        }
    }
}
