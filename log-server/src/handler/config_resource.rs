//! What the configuration APIs (32, 33, 44) are about, and what the two that alter have in common.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use log_core::wire::ErrorCode;

use super::{ApiFailure, Context};
use crate::config::BrokerConfig;
use crate::dynamic::{DynamicError, Overrides, Scope};
use crate::resource_config::{self, InvalidConfig, Kind, ResourceConfigError};
use crate::topic::config::{Definition, InvalidTopicConfig, Source};
use crate::topic::{TopicError, name};

/// The kinds of resources, as numbered on the wire.
pub const TOPIC: i8 = 2;
/// See [`TOPIC`].
pub const BROKER: i8 = 4;

/// Subscriptions to clients' metrics.
pub const CLIENT_METRICS: i8 = Kind::ClientMetrics as i8;
/// Groups.
pub const GROUP: i8 = Kind::Group as i8;

/// A place where a value stands: the name that it has there, the value, and who has put it there.
pub type Standing = (&'static str, String, Source);

/// Every place where a broker's setting stands, the strongest first.
pub fn broker_standings(overrides: &Overrides, name: &'static str, fixed: Vec<Standing>) -> Vec<Standing> {
    let scopes = [(Scope::Broker, Source::DynamicBroker), (Scope::Cluster, Source::DynamicDefault)];
    let dynamic = scopes
        .into_iter()
        .filter_map(|(scope, source)| Some((name, overrides.of(scope).get(name)?.clone(), source)));
    dynamic.chain(fixed).collect()
}

/// Every place where a topic's value stands, the strongest first. There is at least the default.
pub fn topic_standings(
    context: &Context,
    definition: &Definition,
    topic: &BTreeMap<String, String>,
) -> Vec<Standing> {
    let own = topic.get(definition.name).map(|value| (definition.name, value.clone(), Source::Topic));
    let name = definition.broker_name.unwrap_or(definition.name);
    let mut fixed = Vec::new();
    let broker = definition.broker_effective(&context.config);
    if broker.source == Source::Broker {
        fixed.push((name, broker.value, Source::Broker));
    }
    fixed.push((name, definition.default_value(), Source::Default));
    own.into_iter().chain(broker_standings(&context.dynamic.overrides(), name, fixed)).collect()
}

/// Every place where a value of a group or of a subscription stands, the strongest first. There is at least the default.
pub fn resource_standings(
    context: &Context,
    kind: Kind,
    definition: &resource_config::Definition,
    set: &BTreeMap<String, String>,
) -> Vec<Standing> {
    let source = match kind {
        Kind::Group => Source::Group,
        Kind::ClientMetrics => Source::ClientMetrics,
    };
    let own = set.get(definition.name).map(|value| (definition.name, value.clone(), source));
    let name = definition.broker_name.unwrap_or(definition.name);
    let value = definition.broker_value(&context.config);
    let default = definition.broker_value(&BrokerConfig::default());
    let broker = (value != default).then_some((name, value, Source::Broker));
    own.into_iter().chain(broker).chain([(name, default, Source::Default)]).collect()
}

/// Changes what is set for a group or a subscription by `change`, or only checks that this could be done.
///
/// # Errors
/// INVALID_REQUEST for no name, since there is no default that all share; INVALID_CONFIG for what does not work; the
/// disk's.
pub async fn alter_resource(
    context: &Arc<Context>,
    kind: Kind,
    name: &str,
    validate_only: bool,
    change: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidConfig>
    + Send
    + 'static,
) -> Result<(), ApiFailure> {
    if name.is_empty() {
        return Err(ApiFailure::new(ErrorCode::InvalidRequest, "a group or a subscription has a name"));
    }
    let (context, name) = (context.clone(), name.to_owned());
    let updated = tokio::task::spawn_blocking(move || {
        context.resource_configs.update(kind, &name, &context.config, validate_only, change)
    });
    match updated.await {
        Ok(updated) => updated.map_err(|error| {
            let code = match &error {
                ResourceConfigError::Invalid(_) => ErrorCode::InvalidConfig,
                ResourceConfigError::TooMany => ErrorCode::PolicyViolation,
                ResourceConfigError::Io(_) => ErrorCode::KafkaStorageError,
            };
            ApiFailure::new(code, error)
        }),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Changes the broker's settings in the scope that `name` stands for: this broker's id, or nothing for the cluster.
///
/// # Errors
/// INVALID_REQUEST for another broker, for what cannot be changed while the broker runs, and, as in Kafka
/// (KAFKA-13609), for a value that does not work; the disk's.
pub async fn alter_broker(
    context: &Arc<Context>,
    name: &str,
    validate_only: bool,
    change: impl FnOnce(&mut BTreeMap<String, String>) + Send + 'static,
) -> Result<(), ApiFailure> {
    let scope = match name {
        "" => Scope::Cluster,
        _ if name == context.config.node_id.to_string() => Scope::Broker,
        _ => return Err(other_broker(context, name)),
    };
    let dynamic = context.dynamic.clone();
    let updated = tokio::task::spawn_blocking(move || dynamic.update(scope, validate_only, change));
    match updated.await {
        Ok(Ok(())) => context.topics.refresh().await,
        Ok(Err(error)) => {
            let code = match &error {
                DynamicError::Fixed(_) | DynamicError::Value { .. } => ErrorCode::InvalidRequest,
                DynamicError::Io(_) => ErrorCode::KafkaStorageError,
            };
            return Err(ApiFailure::new(code, error));
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
    Ok(())
}

/// The answer for a broker that is not this one.
pub fn other_broker(context: &Context, name: &str) -> ApiFailure {
    ApiFailure::new(
        ErrorCode::InvalidRequest,
        format!("this is broker {}, not {name}", context.config.node_id),
    )
}

/// The answer for a kind of resource that is not known here.
pub fn unsupported(resource_type: i8) -> ApiFailure {
    ApiFailure::new(
        ErrorCode::InvalidRequest,
        format!(
            "resource type {resource_type} has no configuration here; topics (2), brokers (4), clients' metrics (16) \
             and groups (32) have"
        ),
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
