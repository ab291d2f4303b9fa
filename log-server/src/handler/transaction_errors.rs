//! How what the coordinator of transactions says is told to clients.

use log_core::wire::{ApiKey, ErrorCode};

use super::{Context, Request};
use crate::coordinator::transaction::TransactionError;
use crate::runtime::TransactionRefused;

impl From<TransactionError> for ErrorCode {
    fn from(error: TransactionError) -> ErrorCode {
        match error {
            TransactionError::InvalidTransactionalId => ErrorCode::InvalidRequest,
            TransactionError::InvalidTimeout => ErrorCode::InvalidTransactionTimeout,
            TransactionError::InvalidProducerIdMapping => ErrorCode::InvalidProducerIdMapping,
            TransactionError::ProducerFenced => ErrorCode::ProducerFenced,
            TransactionError::Concurrent => ErrorCode::ConcurrentTransactions,
            TransactionError::InvalidState => ErrorCode::InvalidTxnState,
        }
    }
}

impl From<TransactionRefused> for ErrorCode {
    fn from(refused: TransactionRefused) -> ErrorCode {
        match refused {
            TransactionRefused::Coordinator(error) => error.into(),
            TransactionRefused::Unavailable(error) => error.into(),
            // Retriable, and nothing has happened.
            TransactionRefused::NoProducerId => ErrorCode::CoordinatorNotAvailable,
        }
    }
}

/// The first version of an API whose clients know PRODUCER_FENCED (KIP-588); those of older ones know only what they
/// were told before.
const fn fenced_since(api: ApiKey) -> i16 {
    match api {
        ApiKey::InitProducerId => 4,
        ApiKey::AddPartitionsToTxn | ApiKey::AddOffsetsToTxn | ApiKey::EndTxn => 2,
        // As with Produce, none does.
        ApiKey::TxnOffsetCommit => i16::MAX,
        _ => 0,
    }
}

/// The code that the client of `request` is told, which is counted.
pub(super) fn told(context: &Context, request: &Request, refused: impl Into<ErrorCode>) -> ErrorCode {
    told_as(context, request.api, request.version(), refused)
}

/// As [`told`], in an answer that comes when the request itself is gone.
pub(super) fn told_as(
    context: &Context,
    api: ApiKey,
    version: i16,
    refused: impl Into<ErrorCode>,
) -> ErrorCode {
    let error = match refused.into() {
        ErrorCode::ProducerFenced if version < fenced_since(api) => ErrorCode::InvalidProducerEpoch,
        error => error,
    };
    context.metrics.error_answered(api, error.name());
    error
}
