//! InitProducerId (22), versions 0 to 5: an id for an idempotent producer, epoch 0.
//!
//! - Every call without a transactional id gets a new id; what the request says of an earlier id and epoch (version 3
//!   and later, KIP-360) only matters to transactions.
//! - Transactions are not served yet. A transactional id is TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the one error that
//!   every producer takes as final; after most others librdkafka asks again for ever. (FindCoordinator says the same
//!   earlier.)
//! - KAFKA_STORAGE_ERROR, which producers retry, when the disk refuses to remember the ids.

use std::sync::Arc;

use log_core::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use log_core::wire::{ErrorCode, message};

use super::{Context, Request};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if message.transactional_id.is_some() {
        tracing::warn!(
            client = request.client_id(),
            "refused a transactional producer: transactions are not supported"
        );
        return refusal(context, request, ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let shared = context.clone();
    // Reserving a block of ids syncs, which a thread of the runtime must not wait for.
    match tokio::task::spawn_blocking(move || shared.producer_ids.allocate()).await {
        Ok(Ok(producer_id)) => message!(InitProducerIdResponse { producer_id, producer_epoch: 0 }),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot allocate a producer id");
            refusal(context, request, ErrorCode::KafkaStorageError)
        }
        Err(_) => refusal(context, request, ErrorCode::UnknownServerError),
    }
}

fn refusal(context: &Context, request: &Request, error: ErrorCode) -> InitProducerIdResponse {
    context.metrics.error_answered(request.api, error.name());
    message!(InitProducerIdResponse { error_code: error.code(), producer_id: -1, producer_epoch: -1 })
}
