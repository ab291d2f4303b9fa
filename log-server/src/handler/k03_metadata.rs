//! Metadata (3), versions 0 to 13: brokers, topics, partitions. There is one broker, which leads everything.
//!
//! - Which topics: version 0 empty = all; later versions null = all, empty = none. By id from version 10 on; an
//!   unknown id is UNKNOWN_TOPIC_ID.
//! - A name that does not exist is created where the setting `auto_create_topics` and the request's flag (version 4
//!   and later, always on before) both allow, and is in this very answer. Otherwise UNKNOWN_TOPIC_OR_PARTITION.
//! - A name that breaks the rule is INVALID_TOPIC_EXCEPTION.
//! - The controller is this broker: clients send it what changes topics.
//! - Authorized operations are not computed without an authorizer: the answer says "unknown".

use std::collections::HashMap;
use std::sync::Arc;

use log_core::wire::messages::metadata_request::MetadataRequestTopic;
use log_core::wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use log_core::wire::messages::{MetadataRequest, MetadataResponse};
use log_core::wire::{ErrorCode, StrBytes, Uuid, message};

use super::{Context, Request};
use crate::partition::LEADER_EPOCH;
use crate::topic::{CreateError, NewTopic, Topic, name};

/// Answers one request.
pub async fn handle(context: &Arc<Context>, request: &Request, message: MetadataRequest) -> MetadataResponse {
    let version = request.version();
    let wanted = match message.topics {
        Some(topics) if version == 0 && topics.is_empty() => None,
        topics => topics,
    };
    let topics = match wanted {
        None => context.catalog.topics().iter().map(|topic| found(context, topic)).collect(),
        Some(wanted) => {
            let may_create =
                context.config.auto_create_topics && (version < 4 || message.allow_auto_topic_creation);
            let mut refused = match may_create {
                true => create_missing(context, &wanted).await,
                false => HashMap::new(),
            };
            wanted
                .into_iter()
                .map(|topic| {
                    if !topic.topic_id.is_zero() {
                        return match context.catalog.get_by_id(&topic.topic_id) {
                            Some(topic) => found(context, &topic),
                            None => missing(None, topic.topic_id, ErrorCode::UnknownTopicId, version),
                        };
                    }
                    let name = topic.name.unwrap_or_default();
                    match context.catalog.get(&name) {
                        Some(topic) => found(context, &topic),
                        None => {
                            let refused = refused.remove(name.as_str());
                            let error = refused.unwrap_or_else(|| match name::check(&name) {
                                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                                Err(_) => ErrorCode::InvalidTopic,
                            });
                            missing(Some(name), Uuid::ZERO, error, version)
                        }
                    }
                })
                .collect()
        }
    };
    let broker = message!(MetadataResponseBroker {
        node_id: context.config.node_id,
        host: context.advertised_host.as_str().into(),
        port: i32::from(context.advertised_port),
    });
    message!(MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some(context.cluster_id.as_str().into()),
        controller_id: context.config.node_id,
        topics,
    })
}

/// Creates the names that do not exist. Returns why some were not.
async fn create_missing(context: &Context, wanted: &[MetadataRequestTopic]) -> HashMap<String, ErrorCode> {
    let mut new: Vec<NewTopic> = wanted
        .iter()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name.as_deref())
        .filter(|name| context.catalog.get(name).is_none())
        .map(NewTopic::named)
        .collect();
    if new.is_empty() {
        return HashMap::new();
    }
    new.sort_by(|a, b| a.name.cmp(&b.name));
    new.dedup_by(|a, b| a.name == b.name);
    let names: Vec<String> = new.iter().map(|topic| topic.name.clone()).collect();
    let created = context.topics.create(new).await;
    let refused = names.into_iter().zip(created).filter_map(|(name, created)| {
        let error = match created.err()? {
            CreateError::Name(_) | CreateError::Collision(_) => ErrorCode::InvalidTopic,
            // Another connection was faster; the topic is there.
            CreateError::Exists(_) => return None,
            error => {
                tracing::warn!(topic = name, %error, "cannot create a topic");
                match error {
                    CreateError::Storage(_) => ErrorCode::KafkaStorageError,
                    _ => ErrorCode::InvalidPartitions,
                }
            }
        };
        Some((name, error))
    });
    refused.collect()
}

fn found(context: &Context, topic: &Topic) -> MetadataResponseTopic {
    let node = context.config.node_id;
    let partition = |index| {
        message!(MetadataResponsePartition {
            partition_index: index,
            leader_id: node,
            leader_epoch: LEADER_EPOCH,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
        })
    };
    message!(MetadataResponseTopic {
        name: Some((&*topic.name).into()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: (0..topic.partitions).map(partition).collect(),
    })
}

fn missing(name: Option<StrBytes>, id: Uuid, error: ErrorCode, version: i16) -> MetadataResponseTopic {
    // A null name is only understood from version 12 on.
    let name = if version < 12 { Some(name.unwrap_or_default()) } else { name };
    message!(MetadataResponseTopic { error_code: error.code(), name, topic_id: id })
}
