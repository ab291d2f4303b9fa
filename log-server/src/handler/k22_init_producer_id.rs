//! InitProducerId (22), versions 0 to 5: the id and the epoch of a producer.
//!
//! - Without a transactional id every call gets a new id, at epoch 0: that of an idempotent producer.
//! - With one, the producer takes it over: the epoch rises, which fences whoever had it, and what that one left open is
//!   aborted. Until that is done the answer is CONCURRENT_TRANSACTIONS, and clients ask again.
//! - v3: a producer that goes on after an error says who it was (KIP-360), both id and epoch, else INVALID_REQUEST. One
//!   that was fenced meanwhile is PRODUCER_FENCED, up to v3 INVALID_PRODUCER_EPOCH (KIP-588).
//! - INVALID_TRANSACTION_TIMEOUT above `transaction_timeout_max_ms`; INVALID_REQUEST for an empty transactional id.
//! - COORDINATOR_NOT_AVAILABLE, which producers retry, when the disk refuses to remember. To an idempotent one that is
//!   KAFKA_STORAGE_ERROR.
//! - v6, which has two-phase commits (KIP-939), is not served: Kafka itself does not count it as stable.

use std::sync::Arc;

use log_core::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use log_core::wire::{ErrorCode, message};

use super::transaction_errors::told;
use super::{Context, Request};
use crate::coordinator::transaction::Producer;

/// What stands for no producer id, and for no epoch.
const NONE: i16 = -1;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let initialised = match expected(&message) {
        Ok(expected) => init(context, &message, expected).await,
        Err(error) => Err(error),
    };
    match initialised {
        Ok(Producer { id, epoch }) => {
            message!(InitProducerIdResponse { producer_id: id, producer_epoch: epoch })
        }
        Err(error) => message!(InitProducerIdResponse {
            error_code: told(context, request, error).code(),
            producer_id: NONE.into(),
            producer_epoch: NONE,
        }),
    }
}

async fn init(
    context: &Context,
    message: &InitProducerIdRequest,
    expected: Option<Producer>,
) -> Result<Producer, ErrorCode> {
    let Some(transactional_id) = &message.transactional_id else {
        let id = context.transactions.fresh_producer_id().await;
        return id.map(|id| Producer { id, epoch: 0 }).ok_or(ErrorCode::KafkaStorageError);
    };
    let transactional_id = Arc::from(&**transactional_id);
    Ok(context.transactions.init(transactional_id, message.transaction_timeout_ms, expected).await?)
}

/// Who the producer was before, if it says so.
fn expected(message: &InitProducerIdRequest) -> Result<Option<Producer>, ErrorCode> {
    let (id, epoch) = (message.producer_id, message.producer_epoch);
    match (id == i64::from(NONE), epoch == NONE) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(Producer { id, epoch })),
        _ => Err(ErrorCode::InvalidRequest),
    }
}
