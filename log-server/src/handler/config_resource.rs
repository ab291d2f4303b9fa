//! What the configuration APIs (32, 33, 44) are about, and what the two that alter have in common.

use std::collections::{BTreeMap, HashMap};

use log_core::wire::ErrorCode;

use super::{ApiFailure, Context};
use crate::topic::config::InvalidTopicConfig;
use crate::topic::{TopicError, name};

/// The kinds of resources, as numbered on the wire.
pub const TOPIC: i8 = 2;
/// See [`TOPIC`].
pub const BROKER: i8 = 4;

/// Refuses a resource whose configuration cannot be changed by clients: everything but topics.
///
/// # Errors
/// INVALID_REQUEST, with where the setting is to be changed instead.
pub fn require_topic(resource_type: i8) -> Result<(), ApiFailure> {
    match resource_type {
        TOPIC => Ok(()),
        BROKER => Err(ApiFailure::new(
            ErrorCode::InvalidRequest,
            "the broker's settings are read when it starts: change its file, environment or flags and restart it",
        )),
        other => Err(unsupported(other)),
    }
}

/// The answer for a kind of resource that is not known here.
pub fn unsupported(resource_type: i8) -> ApiFailure {
    ApiFailure::new(
        ErrorCode::InvalidRequest,
        format!("resource type {resource_type} has no configuration here; topics (2) and brokers (4) have"),
    )
}

/// The code for a topic that is not found under `topic`.
pub fn unknown_topic(topic: &str) -> ApiFailure {
    match name::check(topic) {
        Ok(()) => ApiFailure::new(ErrorCode::UnknownTopicOrPartition, format!("there is no topic {topic}")),
        Err(error) => ApiFailure::new(ErrorCode::InvalidTopic, error),
    }
}

/// Changes a topic's configuration by `change`, or only checks that this could be done.
///
/// # Errors
/// What `change` refuses, an unknown or internal topic, the disk.
pub async fn alter(
    context: &Context,
    topic: &str,
    validate_only: bool,
    change: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidTopicConfig>
    + Send
    + 'static,
) -> Result<(), ApiFailure> {
    let Some(before) = context.catalog.get(topic) else { return Err(unknown_topic(topic)) };
    if validate_only {
        let error = change(&before.config).err();
        return error.map_or(Ok(()), |error| Err(ApiFailure::new(ErrorCode::InvalidConfig, error)));
    }
    context.topics.reconfigure(topic, change).await.map_err(|error| {
        let code = match &error {
            TopicError::Unknown(_) => ErrorCode::UnknownTopicOrPartition,
            TopicError::Internal(_) => ErrorCode::InvalidRequest,
            TopicError::Config(_) => ErrorCode::InvalidConfig,
            TopicError::Storage(_) => ErrorCode::KafkaStorageError,
        };
        ApiFailure::new(code, error)
    })
}

/// Which of `resources` are in it more than once; Kafka refuses each of them.
pub fn repeated<'a>(resources: impl Iterator<Item = (i8, &'a str)> + Clone) -> Vec<bool> {
    let mut times: HashMap<(i8, &str), usize> = HashMap::new();
    for resource in resources.clone() {
        *times.entry(resource).or_default() += 1;
    }
    resources.map(|resource| times[&resource] > 1).collect()
}

/// The answer for a resource that is in a request more than once.
pub fn repetition() -> ApiFailure {
    ApiFailure::new(ErrorCode::InvalidRequest, "the resource is in this request more than once")
}
