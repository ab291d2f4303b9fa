//! The names that the quota APIs (48, 49) use, and what stands behind them here.

use log_core::wire::ErrorCode;

use super::ApiFailure;
use crate::quota::Entity;

/// The type of entity that has quotas.
pub const CLIENT_ID: &str = "client-id";
/// The one that would have them with authentication.
pub const USER: &str = "user";
/// The one whose connections Kafka limits.
pub const IP: &str = "ip";
/// All types of entities in Kafka.
pub const ENTITY_TYPES: [&str; 3] = [CLIENT_ID, USER, IP];

/// Bytes a second of Produce requests.
pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
/// Bytes a second of records in answers to Fetch.
pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";

/// Kafka's other quotas, each with the reason why it is not there.
const OTHER_QUOTAS: [(&str, &str); 3] = [
    ("request_percentage", "the time that requests take is not measured by client; limit its bytes instead"),
    ("controller_mutation_rate", "changes of topics are not limited by client"),
    ("connection_creation_rate", "connections are limited by connections_per_address_max"),
];

/// The entity of these types and names, `None` standing for the default of a type.
///
/// # Errors
/// INVALID_REQUEST for what has no quotas.
pub fn entity<'a>(
    parts: impl ExactSizeIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<Entity, ApiFailure> {
    let invalid = |reason: String| Err(ApiFailure::new(ErrorCode::InvalidRequest, reason));
    let mut found = None;
    for (entity_type, name) in parts {
        match (entity_type, name) {
            _ if !ENTITY_TYPES.contains(&entity_type) => {
                return invalid(format!("Unhandled client quota entity type: {entity_type}"));
            }
            (USER, _) => {
                return invalid(
                    "there are no users without authentication; set the quota of a client-id".into(),
                );
            }
            (IP, _) => {
                return invalid("addresses have no quotas; connections_per_address_max limits them".into());
            }
            (_, Some("")) => return invalid("a client-id has a name; null stands for the default".into()),
            _ if found.is_some() => return invalid(format!("{entity_type} is in the entity more than once")),
            (_, name) => found = Some(name),
        }
    }
    match found {
        None => invalid("Invalid empty client quota entity".to_owned()),
        Some(None) => Ok(Entity::Default),
        Some(Some(name)) => Ok(Entity::Client(name.to_owned())),
    }
}

/// Refuses what is no quota on bytes.
///
/// # Errors
/// INVALID_REQUEST, with the reason where it is a quota in Kafka.
pub fn check_key(key: &str) -> Result<(), ApiFailure> {
    if [PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE].contains(&key) {
        return Ok(());
    }
    let reason = match OTHER_QUOTAS.iter().find(|(name, _)| *name == key) {
        Some((name, reason)) => format!("{name} is not supported: {reason}"),
        None => format!("Invalid configuration key {key}"),
    };
    Err(ApiFailure::new(ErrorCode::InvalidRequest, reason))
}
