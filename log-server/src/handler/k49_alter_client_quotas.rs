//! AlterClientQuotas (49), versions 0 to 1: sets and removes quotas (KIP-546).
//!
//! - `producer_byte_rate` and `consumer_byte_rate`, in whole bytes a second above 0, of a client id or, with a null
//!   name, of every client id that has none of its own. They act on the next request and are durable when answered.
//! - Users, addresses and Kafka's other quotas are INVALID_REQUEST with the reason (see `quota_entity.rs`); so are an
//!   entity that is listed twice and a value that is no rate.
//! - Each entity is changed as a whole or not at all, and stands for itself. `validate_only` answers the same and
//!   changes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use log_core::wire::messages::alter_client_quotas_request::{EntryData as Wanted, OpData};
use log_core::wire::messages::alter_client_quotas_response::{EntityData, EntryData};
use log_core::wire::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use log_core::wire::{ErrorCode, message};

use super::quota_entity::{PRODUCER_BYTE_RATE, check_key, entity};
use super::{ApiFailure, Context, Request};
use crate::quota::{Entity, QuotaError, Rates};

/// The changes of one entity, checked.
struct Change {
    entity: Entity,
    /// Quota and rate, `None` to remove it.
    rates: Vec<(String, Option<f64>)>,
}

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let mut changes: Vec<Result<Change, ApiFailure>> = message.entries.iter().map(plan).collect();
    let mut times: HashMap<Entity, usize> = HashMap::new();
    for change in changes.iter().flatten() {
        *times.entry(change.entity.clone()).or_default() += 1;
    }
    for change in &mut changes {
        if change.as_ref().is_ok_and(|change| times[&change.entity] > 1) {
            *change = Err(invalid("the entity is in this request more than once"));
        }
    }
    let (mut planned, mut outcomes) = (Vec::new(), Vec::new());
    for change in changes {
        outcomes.push(match change {
            Ok(change) => {
                planned.push(change);
                Ok(())
            }
            Err(failure) => Err(failure),
        });
    }
    if !message.validate_only
        && !planned.is_empty()
        && let Err(failure) = apply(context, planned).await
    {
        outcomes
            .iter_mut()
            .filter(|outcome| outcome.is_ok())
            .for_each(|outcome| *outcome = Err(failure.clone()));
    }
    let entries = message.entries.into_iter().zip(outcomes).map(|(entry, outcome)| {
        let entity = entry.entity.into_iter().map(|part| {
            message!(EntityData { entity_type: part.entity_type, entity_name: part.entity_name })
        });
        let mut answer = message!(EntryData { entity: entity.collect(), error_message: None });
        if let Err(failure) = outcome {
            failure.count(context, request);
            answer.error_code = failure.code();
            answer.error_message = failure.message();
        }
        answer
    });
    message!(AlterClientQuotasResponse { entries: entries.collect() })
}

fn plan(entry: &Wanted) -> Result<Change, ApiFailure> {
    let parts = entry.entity.iter().map(|part| (part.entity_type.as_str(), part.entity_name.as_deref()));
    let entity = entity(parts)?;
    let rates = entry.ops.iter().map(rate).collect::<Result<Vec<_>, _>>()?;
    Ok(Change { entity, rates })
}

fn rate(op: &OpData) -> Result<(String, Option<f64>), ApiFailure> {
    let key = op.key.as_str();
    check_key(key)?;
    let rate = match op.value {
        _ if op.remove => None,
        value if !(value.is_finite() && value > 0.0) => {
            return Err(invalid(format!("Quota {key} must be greater than 0")));
        }
        value if value.fract() != 0.0 => return Err(invalid(format!("{key} cannot be a fractional value."))),
        value => Some(value),
    };
    Ok((key.to_owned(), rate))
}

async fn apply(context: &Arc<Context>, changes: Vec<Change>) -> Result<(), ApiFailure> {
    let quotas = context.quotas.clone();
    let updated = tokio::task::spawn_blocking(move || {
        quotas.store().update(|all| {
            for Change { entity, rates } in changes {
                let set = all.entry(entity).or_insert_with(Rates::default);
                for (key, rate) in rates {
                    match key.as_str() {
                        PRODUCER_BYTE_RATE => set.producer_byte_rate = rate,
                        _ => set.consumer_byte_rate = rate,
                    }
                }
            }
        })
    });
    match updated.await {
        Ok(updated) => updated.map_err(|error| match error {
            QuotaError::Io(_) => ApiFailure::new(ErrorCode::KafkaStorageError, error),
            QuotaError::TooMany => ApiFailure::new(ErrorCode::PolicyViolation, error),
        }),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn invalid(reason: impl std::fmt::Display) -> ApiFailure {
    ApiFailure::new(ErrorCode::InvalidRequest, reason)
}
