//! ListTransactions (66), versions 0 to 2: the transactional ids that are known (KIP-664).
//!
//! - Filters, of which each lets everything pass if it is empty: states, by Kafka's names, of which unknown ones are told
//!   back; producer ids; v1, transactions that began longer ago than so many milliseconds, where -1 is no filter; v2
//!   (KIP-1152), a pattern in the syntax of RE2 for whole transactional ids, INVALID_REGULAR_EXPRESSION if it is none.
//! - Dead and PrepareEpochFence are states of Kafka's that nothing is ever in here.

use std::sync::Arc;

use log_core::wire::messages::list_transactions_response::TransactionState;
use log_core::wire::messages::{ListTransactionsRequest, ListTransactionsResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::transaction_errors::told;
use super::{Context, Request};
use crate::clock::now_ms;
use crate::coordinator::pattern;
use crate::coordinator::transaction::{State, TransactionCoordinator, TransactionListing};

/// States that Kafka knows besides.
const TRANSIENT: [&str; 2] = ["Dead", "PrepareEpochFence"];

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let refuse = |error: ErrorCode| {
        message!(ListTransactionsResponse { error_code: told(context, request, error).code() })
    };
    let pattern = message.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
    let Ok(pattern) = pattern.map(pattern::compile).transpose() else {
        return refuse(ErrorCode::InvalidRegularExpression);
    };
    let shards = match context.transactions.query_all(TransactionCoordinator::list).await {
        Ok(shards) => shards,
        Err(error) => return refuse(error.into()),
    };
    let now_ms = now_ms();
    let passes = |it: &TransactionListing| {
        let (states, ids) = (&message.state_filters, &message.producer_id_filters);
        let age_ms = now_ms.saturating_sub(it.started_at_ms.unwrap_or(-1));
        (states.is_empty() || states.iter().any(|state| **state == *it.state.name()))
            && (ids.is_empty() || ids.contains(&it.producer_id))
            && (message.duration_filter < 0 || age_ms > message.duration_filter)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(&it.transactional_id))
    };
    let mut transactions: Vec<_> = shards.into_iter().flatten().filter(passes).collect();
    transactions.sort_unstable_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
    let rows = transactions.into_iter().map(|it| {
        message!(TransactionState {
            transactional_id: StrBytes::from(&*it.transactional_id),
            producer_id: it.producer_id,
            transaction_state: StrBytes::from(it.state.name()),
        })
    });
    let is_known =
        |name: &str| State::ALL.iter().any(|state| state.name() == name) || TRANSIENT.contains(&name);
    let unknown_state_filters =
        message.state_filters.iter().filter(|name| !is_known(name)).cloned().collect();
    message!(ListTransactionsResponse { unknown_state_filters, transaction_states: rows.collect() })
}
