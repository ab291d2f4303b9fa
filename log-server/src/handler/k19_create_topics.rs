//! CreateTopics (19), versions 2 to 7.
//!
//! - Partitions and replication factor -1 take the broker's defaults; 0 or less is INVALID_PARTITIONS or
//!   INVALID_REPLICATION_FACTOR.
//! - There is one node. A replication factor above 1 is clamped, with a line in the log, because Connect and Streams
//!   ask for 3 by default; the setting `replication_strict` refuses it instead.
//! - A manual assignment counts partitions from 0 and names this node, or is INVALID_REPLICA_ASSIGNMENT. It excludes
//!   a number of partitions or replicas: INVALID_REQUEST.
//! - A name given twice is INVALID_REQUEST, each time. Otherwise every topic stands for itself.
//! - `validate_only` answers the same and creates nothing.
//! - From version 5 on the answer has the effective configuration; empty with an error, never null, on which the Java
//!   client 4.3 fails.

use std::collections::HashMap;
use std::sync::Arc;

use log_core::wire::messages::create_topics_request::CreatableTopic;
use log_core::wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use log_core::wire::messages::{CreateTopicsRequest, CreateTopicsResponse};
use log_core::wire::{ErrorCode, StrBytes, Uuid, message};

use super::config_resource::topic_standings;
use super::{ApiFailure, Context, Request};
use crate::topic::config;
use crate::topic::{CreateError, NewTopic};

/// The answer's replication factor: there is one node.
const REPLICATION_FACTOR: i16 = 1;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times: HashMap<StrBytes, usize> = HashMap::new();
    for topic in &message.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let planned = message.topics.iter().map(|topic| match times[&topic.name] {
        1 => plan(context, topic),
        _ => Err(ApiFailure::new(ErrorCode::InvalidRequest, "the topic is in this request more than once")),
    });
    let mut results: Vec<Result<Created, ApiFailure>> = Vec::new();
    let (mut new, mut positions) = (Vec::new(), Vec::new());
    for planned in planned {
        match planned {
            Err(failure) => results.push(Err(failure)),
            Ok(topic) if message.validate_only => {
                results.push(
                    context
                        .topics
                        .check_create(&topic)
                        .map_err(failure)
                        .map(|()| Created::planned(context, topic)),
                );
            }
            Ok(topic) => {
                positions.push(results.len());
                results.push(Ok(Created::planned(context, topic.clone())));
                new.push(topic);
            }
        }
    }
    let created = if new.is_empty() { Vec::new() } else { context.topics.create(new).await };
    for (position, created) in positions.into_iter().zip(created) {
        match (created, &mut results[position]) {
            (Ok(topic), Ok(result)) => result.id = topic.id,
            (Ok(_), Err(_)) => {}
            (Err(error), result) => *result = Err(failure(error)),
        }
    }
    let topics = message.topics.into_iter().zip(results).map(|(topic, result)| match result {
        Ok(created) => created.result(context, topic.name),
        Err(failure) => {
            failure.count(context, request);
            message!(CreatableTopicResult {
                name: topic.name,
                error_code: failure.code(),
                error_message: failure.message(),
                num_partitions: -1,
                replication_factor: -1,
                configs: Some(Vec::new()),
            })
        }
    });
    message!(CreateTopicsResponse { topics: topics.collect() })
}

/// A topic that was, or would be, created.
struct Created {
    id: Uuid,
    partitions: i32,
    topic: NewTopic,
}

impl Created {
    fn planned(context: &Context, topic: NewTopic) -> Created {
        let partitions = topic.partitions.unwrap_or(context.config.partitions_default);
        Created { id: Uuid::ZERO, partitions, topic }
    }

    fn result(self, context: &Context, name: StrBytes) -> CreatableTopicResult {
        let configs = config::definitions().iter().map(|definition| {
            let standings = topic_standings(context, definition, &self.topic.config);
            let (_, value, source) = standings.into_iter().next().expect("a default always stands");
            message!(CreatableTopicConfigs {
                name: definition.name.into(),
                value: Some(value.into()),
                config_source: source as i8,
            })
        });
        message!(CreatableTopicResult {
            name,
            topic_id: self.id,
            num_partitions: self.partitions,
            replication_factor: REPLICATION_FACTOR,
            configs: Some(configs.collect()),
        })
    }
}

/// What is to be created, from what was asked for. Name and limits are the manager's to check.
fn plan(context: &Context, topic: &CreatableTopic) -> Result<NewTopic, ApiFailure> {
    let entries = topic.configs.iter().map(|entry| (entry.name.as_str(), entry.value.as_deref()));
    let config =
        config::collect(entries).map_err(|error| ApiFailure::new(ErrorCode::InvalidConfig, error))?;
    let partitions = if topic.assignments.is_empty() {
        check_replication_factor(context, topic)?;
        (topic.num_partitions != -1).then_some(topic.num_partitions)
    } else {
        Some(check_assignment(context, topic)?)
    };
    Ok(NewTopic { name: topic.name.to_string(), partitions, config })
}

fn check_replication_factor(context: &Context, topic: &CreatableTopic) -> Result<(), ApiFailure> {
    let refused = |reason: &str| Err(ApiFailure::new(ErrorCode::InvalidReplicationFactor, reason));
    match topic.replication_factor {
        -1 | 1 => Ok(()),
        ..1 => refused("the replication factor must be at least 1"),
        _ if context.config.replication_strict => refused(
            "there is one broker, so the replication factor can only be 1 (setting replication_strict)",
        ),
        wanted => {
            tracing::info!(topic = %topic.name, wanted, "there is one node: the replication factor is clamped to 1");
            Ok(())
        }
    }
}

fn check_assignment(context: &Context, topic: &CreatableTopic) -> Result<i32, ApiFailure> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err(ApiFailure::new(
            ErrorCode::InvalidRequest,
            "a manual assignment leaves number of partitions and replication factor at -1",
        ));
    }
    let mut indexes: Vec<i32> =
        topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    let consecutive = (0..).zip(&indexes).all(|(expected, &index)| expected == index);
    let here = [context.config.node_id];
    if !consecutive || topic.assignments.iter().any(|assignment| assignment.broker_ids != here) {
        return Err(ApiFailure::new(
            ErrorCode::InvalidReplicaAssignment,
            format!("partitions must be numbered from 0 and assigned to broker {}, the only one", here[0]),
        ));
    }
    Ok(topic.assignments.len() as i32)
}

fn failure(error: CreateError) -> ApiFailure {
    let code = match &error {
        CreateError::Name(_) | CreateError::Collision(_) => ErrorCode::InvalidTopic,
        CreateError::Exists(_) => ErrorCode::TopicAlreadyExists,
        CreateError::Partitions(_) => ErrorCode::InvalidPartitions,
        CreateError::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
        CreateError::Config(_) => ErrorCode::InvalidConfig,
        CreateError::Storage(_) => ErrorCode::KafkaStorageError,
    };
    ApiFailure::new(code, error)
}
