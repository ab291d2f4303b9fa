//! EndTxn (26), versions 0 to 5: a producer commits or aborts its transaction.
//!
//! - The answer comes when the outcome is durable. Markers are written behind it; until they are, the next transaction is
//!   told CONCURRENT_TRANSACTIONS.
//! - v5 is the second protocol (KIP-890): the epoch rises, and the answer has the new one, with another producer id when
//!   the epochs are used up. A retry is known by the epoch before. Aborting what has not begun is no error there.
//! - To end a transaction as it has ended is no error; otherwise than it has, or one that was not begun, is
//!   INVALID_TXN_STATE.
//! - A fenced producer is PRODUCER_FENCED, up to v1 INVALID_PRODUCER_EPOCH (KIP-588); one that has not the
//!   transactional id, INVALID_PRODUCER_ID_MAPPING.

use std::sync::Arc;

use log_core::wire::message;
use log_core::wire::messages::{EndTxnRequest, EndTxnResponse};

use super::transaction_errors::told;
use super::{Context, Request};
use crate::coordinator::transaction::{Outcome, Producer, Protocol};

/// The first version of the second protocol.
const SECOND_PROTOCOL_SINCE: i16 = 5;

/// Answers one request.
pub async fn handle(context: &Arc<Context>, request: &Request, message: EndTxnRequest) -> EndTxnResponse {
    let producer = Producer { id: message.producer_id, epoch: message.producer_epoch };
    let outcome = if message.committed { Outcome::Commit } else { Outcome::Abort };
    let is_second = request.version() >= SECOND_PROTOCOL_SINCE;
    let protocol = if is_second { Protocol::V2 } else { Protocol::V1 };
    let transactional_id = Arc::from(&*message.transactional_id);
    match context.transactions.end(transactional_id, producer, outcome, protocol).await {
        Ok(Producer { id, epoch }) if is_second => {
            message!(EndTxnResponse { producer_id: id, producer_epoch: epoch })
        }
        Ok(_) => message!(EndTxnResponse {}),
        Err(refused) => message!(EndTxnResponse { error_code: told(context, request, refused).code() }),
    }
}
