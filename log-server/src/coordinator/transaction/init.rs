//! InitProducerId: a producer takes a transactional id over.

use super::{
    Decision, InitProducer, Producer, Reply, State, Token, Transaction, TransactionCoordinator,
    TransactionError,
};
use crate::coordinator::machine::Now;

/// What becomes of a transactional id that is initialised.
enum Next {
    /// The producer gets this id and epoch, and the epoch that a retry would come with is kept.
    Producer(Producer, Option<i16>),
    /// The epochs are used up: another id is needed.
    FreshId(Option<i16>),
    /// What is open is aborted first.
    Abort,
}

impl TransactionCoordinator {
    pub(super) fn init(&self, now: Now, token: Token, init: InitProducer) -> Decision {
        let refuse = |error| Decision::reply(token, Reply::Init(Err(error)));
        if init.transactional_id.is_empty() {
            return refuse(TransactionError::InvalidTransactionalId);
        }
        if init.timeout_ms <= 0 || init.timeout_ms > self.config.timeout_max_ms {
            return refuse(TransactionError::InvalidTimeout);
        }
        let known = self.transaction(&init.transactional_id);
        let next = match known.map_or(Ok(Next::FreshId(None)), |known| next(known, init.expected)) {
            Ok(next) => next,
            Err(error) => return refuse(error),
        };
        let (producer, last_epoch) = match (next, init.fresh_id) {
            (Next::Producer(producer, last_epoch), _) => (producer, last_epoch),
            (Next::FreshId(last_epoch), Some(id)) => (Producer { id, epoch: 0 }, last_epoch),
            (Next::FreshId(_), None) => return Decision::reply(token, Reply::FreshIdWanted),
            (Next::Abort, _) => {
                let aborted = known.map(|known| self.store(&init.transactional_id, known.fenced(now)));
                let mut decision = aborted.unwrap_or_default();
                // The producer asks again until the markers are written.
                decision.replies.push((token, Reply::Init(Err(TransactionError::Concurrent))));
                return decision;
            }
        };
        let transaction = match known {
            Some(known) => known.initialised(producer, last_epoch, init.timeout_ms, now),
            None => Transaction::new(producer.id, init.timeout_ms, now),
        };
        let mut decision = self.store(&init.transactional_id, transaction);
        decision.replies.push((token, Reply::Init(Ok(producer))));
        decision
    }
}

fn next(known: &Transaction, expected: Option<Producer>) -> Result<Next, TransactionError> {
    let current = known.producer;
    if let Some(expected) = expected {
        // A producer that was told of its new id, and did not hear it, comes with the old one.
        let is_former = known.previous_id == Some(expected.id) && expected.is_exhausted();
        if expected.id != current.id && !is_former {
            return Err(TransactionError::ProducerFenced);
        }
    }
    match known.state {
        State::Prepare(_) => Err(TransactionError::Concurrent),
        // Only the producer itself, or one that says nothing of an earlier one, ends what is open. Kafka does not look
        // at the epoch here, so that a fenced producer can abort the transaction of the one that fenced it.
        State::Ongoing if expected.is_some_and(|expected| expected != current) => {
            Err(TransactionError::ProducerFenced)
        }
        State::Ongoing => Ok(Next::Abort),
        State::Empty | State::Complete(_) => match expected {
            Some(expected) if expected == current => match current.is_exhausted() {
                true => Ok(Next::FreshId(Some(current.epoch))),
                false => Ok(Next::Producer(bumped(current), Some(current.epoch))),
            },
            // A retry: nobody else came in between, or the last epoch would be gone.
            Some(expected) if known.last_epoch == Some(expected.epoch) => {
                Ok(Next::Producer(current, known.last_epoch))
            }
            Some(_) => Err(TransactionError::ProducerFenced),
            None if current.is_exhausted() => Ok(Next::FreshId(None)),
            None => Ok(Next::Producer(bumped(current), None)),
        },
    }
}

fn bumped(producer: Producer) -> Producer {
    Producer { epoch: producer.epoch + 1, ..producer }
}
