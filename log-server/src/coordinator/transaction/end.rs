//! EndTxn, and what comes of it once the markers are written.
//!
//! In the second protocol the epoch tells a retry from the next transaction, as every end bumps it:
//!
//! ```text
//!                     with the epoch before the last bump      with the current epoch
//!                     commit           abort                   commit           abort
//! Empty               fenced           fenced                  invalid state    aborted, bump
//! Ongoing             fenced           fenced                  committed, bump  aborted, bump
//! Prepare(o)          concurrent if it is o, else invalid      concurrent       concurrent
//! Complete(o)         done if it is o, else invalid            invalid state    aborted, bump
//! ```
//! The current epoch in Prepare is that of a producer that has gone on to its next transaction, and aborts it before it
//! has written anything; so is the id that it has been told when its epochs are used up.
//!
//! In the first one the epoch is the current one or the producer is fenced, Empty is an invalid state, and Complete(o) is
//! done if the outcome is o.

use super::{
    Decision, EPOCH_LAST, EndTransaction, Outcome, Producer, Protocol, Reply, State, Token, Transaction,
    TransactionCoordinator, TransactionError,
};
use crate::coordinator::machine::Now;
use std::sync::Arc;

/// What becomes of a transaction whose producer ends it.
enum Next {
    /// It ends.
    End,
    /// It has ended like that before.
    Done,
}

impl TransactionCoordinator {
    pub(super) fn end(&self, now: Now, token: Token, end: EndTransaction) -> Decision {
        let refuse = |error| Decision::reply(token, Reply::End(Err(error)));
        if end.transactional_id.is_empty() {
            return refuse(TransactionError::InvalidTransactionalId);
        }
        let Some(known) = self.transaction(&end.transactional_id) else {
            return refuse(TransactionError::InvalidProducerIdMapping);
        };
        let next = match end.protocol {
            Protocol::V1 => next_v1(known, end.producer, end.outcome),
            Protocol::V2 => next_v2(known, end.producer, end.outcome),
        };
        match next {
            Err(error) => return refuse(error),
            Ok(Next::Done) => return Decision::reply(token, Reply::End(Ok(known.told()))),
            Ok(Next::End) => {}
        }
        let next_id = match known.producer.is_exhausted() && end.protocol == Protocol::V2 {
            true if end.fresh_id.is_none() => return Decision::reply(token, Reply::FreshIdWanted),
            true => end.fresh_id,
            false => None,
        };
        let ended = known.ended(end.outcome, end.protocol, next_id, now);
        let told = ended.told();
        let mut decision = self.store(&end.transactional_id, ended);
        decision.replies.push((token, Reply::End(Ok(told))));
        decision
    }

    pub(super) fn markers_written(
        &self,
        now: Now,
        token: Token,
        transactional_id: &Arc<str>,
        producer: Producer,
    ) -> Decision {
        let mut decision = match self.transaction(transactional_id) {
            Some(known) if known.producer == producer && matches!(known.state, State::Prepare(_)) => {
                self.store(transactional_id, known.completed(now))
            }
            // Told twice.
            _ => Decision::none(),
        };
        decision.replies.push((token, Reply::MarkersWritten));
        decision
    }
}

fn next_v1(known: &Transaction, producer: Producer, outcome: Outcome) -> Result<Next, TransactionError> {
    if known.producer.id != producer.id {
        return Err(TransactionError::InvalidProducerIdMapping);
    }
    if known.producer.epoch != producer.epoch {
        return Err(TransactionError::ProducerFenced);
    }
    match known.state {
        State::Ongoing => Ok(Next::End),
        State::Complete(before) if before == outcome => Ok(Next::Done),
        State::Prepare(before) if before == outcome => Err(TransactionError::Concurrent),
        State::Empty | State::Prepare(_) | State::Complete(_) => Err(TransactionError::InvalidState),
    }
}

fn next_v2(known: &Transaction, producer: Producer, outcome: Outcome) -> Result<Next, TransactionError> {
    let current = known.producer;
    // Its epochs were used up, and it has not heard of its new id.
    let is_retry_of_last = known.previous_id == Some(producer.id)
        && producer.epoch == EPOCH_LAST
        && current.epoch == 0
        && matches!(known.state, State::Complete(_));
    if known.next_id.is_some() && known.told() == producer {
        return Err(TransactionError::Concurrent);
    }
    if current.id != producer.id && !is_retry_of_last {
        return Err(TransactionError::InvalidProducerIdMapping);
    }
    // A producer that was fenced is two epochs behind, or one at the very end, where no id was put aside for it.
    let was_bumped = known.protocol == Protocol::V2 && known.last_epoch == Some(producer.epoch);
    let is_retry = is_retry_of_last || (was_bumped && current.id == producer.id);
    let is_current = producer == current;
    match known.state {
        State::Prepare(before) if is_retry => match before == outcome {
            true => Err(TransactionError::Concurrent),
            false => Err(TransactionError::InvalidState),
        },
        State::Complete(before) if is_retry => match before == outcome {
            true => Ok(Next::Done),
            false => Err(TransactionError::InvalidState),
        },
        _ if !is_current => Err(TransactionError::ProducerFenced),
        State::Prepare(_) => Err(TransactionError::Concurrent),
        State::Ongoing => Ok(Next::End),
        State::Empty | State::Complete(_) => match outcome {
            Outcome::Abort => Ok(Next::End),
            Outcome::Commit => Err(TransactionError::InvalidState),
        },
    }
}
