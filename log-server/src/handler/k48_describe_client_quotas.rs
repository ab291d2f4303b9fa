//! DescribeClientQuotas (48), versions 0 to 1: the quotas that were set (KIP-546).
//!
//! - A filter has components: a type of entity with a name (0), with its default (1), or with either (2). Quotas of
//!   entities that match every component are answered; `strict` leaves out those that have types besides.
//! - Only client ids have quotas here ([`quota`](crate::quota)), so that a filter by user or by address finds nothing.
//! - A type that does not exist is UNSUPPORTED_VERSION, as in Kafka, where it means "from the future"; a type listed
//!   twice, a name that is missing or too much, and an address beside another type are INVALID_REQUEST.

use std::sync::Arc;

use log_core::wire::messages::describe_client_quotas_request::ComponentData;
use log_core::wire::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use log_core::wire::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use log_core::wire::{ErrorCode, message};

use super::quota_entity::{CLIENT_ID, CONSUMER_BYTE_RATE, ENTITY_TYPES, IP, PRODUCER_BYTE_RATE};
use super::{ApiFailure, Context, Request};
use crate::quota::{Entity, Rates};

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    match Filter::new(&message) {
        Ok(filter) => {
            let quotas = context.quotas.store().all();
            let found = quotas.iter().filter(|(entity, _)| filter.matches(entity));
            let entries = found.map(|(entity, rates)| entry(entity, rates)).collect();
            message!(DescribeClientQuotasResponse { entries: Some(entries), error_message: None })
        }
        Err(failure) => {
            failure.count(context, request);
            message!(DescribeClientQuotasResponse {
                error_code: failure.code(),
                error_message: failure.message(),
                entries: None,
            })
        }
    }
}

/// What a request asks for, of what there can be: quotas of client ids.
enum Filter {
    Nothing,
    All,
    Default,
    Client(String),
}

impl Filter {
    fn new(message: &DescribeClientQuotasRequest) -> Result<Filter, ApiFailure> {
        let components = &message.components;
        for (at, component) in components.iter().enumerate() {
            check(component)?;
            let entity_type = component.entity_type.as_str();
            if components[..at].iter().any(|earlier| earlier.entity_type == component.entity_type) {
                return Err(invalid(format!("entity type {entity_type} is in the filter more than once")));
            }
            if entity_type == IP && components.len() > 1 {
                return Err(invalid("an address is not combined with other types of entities".to_owned()));
            }
        }
        Ok(match components.as_slice() {
            [] if message.strict => Filter::Nothing,
            [] => Filter::All,
            [one] if one.entity_type.as_str() == CLIENT_ID => match (one.match_type, &one.match_) {
                (EXACT, Some(name)) => Filter::Client(name.to_string()),
                (DEFAULT, _) => Filter::Default,
                _ => Filter::All,
            },
            // Whatever else is asked for would have a user or an address.
            _ => Filter::Nothing,
        })
    }

    fn matches(&self, entity: &Entity) -> bool {
        match (self, entity) {
            (Filter::Nothing, _) => false,
            (Filter::All, _) => true,
            (Filter::Default, entity) => *entity == Entity::Default,
            (Filter::Client(wanted), Entity::Client(name)) => wanted == name,
            (Filter::Client(_), Entity::Default) => false,
        }
    }
}

fn check(component: &ComponentData) -> Result<(), ApiFailure> {
    let entity_type = component.entity_type.as_str();
    if entity_type.is_empty() {
        return Err(invalid("a component of the filter has no type of entity".to_owned()));
    }
    if !ENTITY_TYPES.contains(&entity_type) {
        let reason = format!("Custom entity type '{entity_type}' not supported");
        return Err(ApiFailure::new(ErrorCode::UnsupportedVersion, reason));
    }
    match (component.match_type, &component.match_) {
        (EXACT, None) => Err(invalid(format!("the filter for {entity_type} has no name to match"))),
        (DEFAULT | ANY, Some(_)) => Err(invalid(format!("the filter for {entity_type} has a name too much"))),
        (EXACT | DEFAULT | ANY, _) => Ok(()),
        (other, _) => Err(invalid(format!("{other} is no way to match an entity"))),
    }
}

fn invalid(reason: String) -> ApiFailure {
    ApiFailure::new(ErrorCode::InvalidRequest, reason)
}

fn entry(entity: &Entity, rates: &Rates) -> EntryData {
    let entity_name = match entity {
        Entity::Default => None,
        Entity::Client(name) => Some(name.as_str().into()),
    };
    let entity = message!(EntityData { entity_type: CLIENT_ID.into(), entity_name });
    let rates =
        [(PRODUCER_BYTE_RATE, rates.producer_byte_rate), (CONSUMER_BYTE_RATE, rates.consumer_byte_rate)];
    let values = rates.into_iter().filter_map(|(key, rate)| {
        let value = rate?;
        Some(message!(ValueData { key: key.into(), value }))
    });
    message!(EntryData { entity: vec![entity], values: values.collect() })
}
