//! ConsumerGroupHeartbeat (68), versions 0 and 1: a member of a consumer group enters, is alive, and goes away
//! (KIP-848).
//!
//! - Epoch 0 enters, -1 leaves, -2 is a static member that will be back. What is null or -1 has not changed.
//! - v1: the client chooses its id (KIP-1082), and may subscribe by a pattern in the syntax of RE2. In v0 a newcomer
//!   without an id gets one.
//! - Who enters has to say everything: INVALID_REQUEST.
//! - FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER_ID: the member gives everything up and enters again. UNRELEASED_INSTANCE_ID,
//!   FENCED_INSTANCE_ID: another member has its instance id. UNSUPPORTED_ASSIGNOR, INVALID_REGULAR_EXPRESSION,
//!   GROUP_MAX_SIZE_REACHED. GROUP_ID_NOT_FOUND: the group is a classic one that cannot
//!   become a consumer group: its members are no consumers, or the policy is against it.
//! - What was set for the group (`consumer.session.timeout.ms`, `consumer.heartbeat.interval.ms`) acts from the next
//!   heartbeat on.
//! - The assignment is told when it changed and to members that say everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::wire::messages::consumer_group_heartbeat_request::TopicPartitions as OwnedPartitions;
use log_core::wire::messages::consumer_group_heartbeat_response::{Assignment as Assigned, TopicPartitions};
use log_core::wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use log_core::wire::{ErrorCode, StrBytes, Uuid, message};

use super::group_requests::{client_host, own, own_option};
use super::{Context, Request};
use crate::coordinator::group::{
    Assignment, Command, ConsumerHeartbeat, HeartbeatAnswer, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, Reply, TopicId,
};
use crate::resource_config::Kind;

/// Begins to answer one request.
pub fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: ConsumerGroupHeartbeatRequest,
) -> impl Future<Output = ConsumerGroupHeartbeatResponse> + Send + use<> {
    let metrics = context.metrics.clone();
    let api = request.api;
    let answer = check(request.version(), &message).map(|()| {
        let heartbeat = Box::new(heartbeat(context, request, &message));
        context.groups.submit(&message.group_id, Command::ConsumerHeartbeat(heartbeat))
    });
    async move {
        let (error, reason) = match answer {
            Err(reason) => (ErrorCode::InvalidRequest, reason.to_owned()),
            Ok(answer) => match answer.await {
                Ok(Reply::ConsumerHeartbeat(Ok(answer))) => return answered(&answer),
                Ok(Reply::ConsumerHeartbeat(Err(error))) => (error.into(), error.to_string()),
                Ok(_) => (ErrorCode::UnknownServerError, String::new()),
                Err(error) => (error.into(), error.to_string()),
            },
        };
        metrics.error_answered(api, error.name());
        message!(ConsumerGroupHeartbeatResponse {
            error_code: error.code(),
            error_message: Some(StrBytes::from(reason)),
        })
    }
}

/// What makes no sense whatever the group is.
fn check(version: i16, message: &ConsumerGroupHeartbeatRequest) -> Result<(), &'static str> {
    let is_blank = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    if message.group_id.trim().is_empty() {
        return Err("the group id is empty");
    }
    if is_blank(&message.instance_id) || is_blank(&message.rack_id) {
        return Err("an instance id or a rack id is empty");
    }
    // Only a newcomer of version 0 has no id yet.
    if message.member_id.trim().is_empty() && (version >= 1 || message.member_epoch != 0) {
        return Err("the member id is empty");
    }
    match message.member_epoch {
        0 if message.rebalance_timeout_ms == -1 => Err("who enters has to say its rebalance timeout"),
        0 if message.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            Err("who enters has to say that it has no partitions")
        }
        0 if message.subscribed_topic_names.is_none() && message.subscribed_topic_regex.is_none() => {
            Err("who enters has to say what it subscribes to")
        }
        LEAVE_STATIC_EPOCH if message.instance_id.is_none() => {
            Err("only a static member can leave and be back")
        }
        LEAVE_STATIC_EPOCH | LEAVE_EPOCH | 0.. => Ok(()),
        _ => Err("the member epoch is below -2"),
    }
}

fn heartbeat(
    context: &Context,
    request: &Request,
    message: &ConsumerGroupHeartbeatRequest,
) -> ConsumerHeartbeat {
    let member_id = match message.member_id.as_str() {
        "" => uuid::Uuid::new_v4().to_string().into(),
        given => given.into(),
    };
    let config = context.resource_configs.get(Kind::Group, &message.group_id);
    let number = |name: &str| config.get(name).and_then(|value| value.trim().parse().ok());
    let names = |names: &Vec<StrBytes>| names.iter().map(own).collect::<BTreeSet<_>>();
    ConsumerHeartbeat {
        group_id: own(&message.group_id),
        member_id,
        epoch: message.member_epoch,
        instance_id: own_option(&message.instance_id),
        rack_id: own_option(&message.rack_id),
        rebalance_timeout_ms: Some(message.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topic_names: message.subscribed_topic_names.as_ref().map(names),
        topic_regex: message.subscribed_topic_regex.as_ref().map(own),
        assignor: message.server_assignor.as_ref().map(own),
        owned: message.topic_partitions.as_deref().map(owned),
        client_id: request.client_id().into(),
        client_host: client_host(request),
        session_timeout_ms: number("consumer.session.timeout.ms"),
        heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
    }
}

fn owned(topics: &[OwnedPartitions]) -> Assignment {
    let partitions = topics.iter().flat_map(|topic| {
        let id = TopicId(topic.topic_id.to_bytes());
        topic.partitions.iter().map(move |index| (id, *index))
    });
    partitions.collect()
}

fn answered(answer: &HeartbeatAnswer) -> ConsumerGroupHeartbeatResponse {
    let assigned = |assignment: &Assignment| {
        let topics = assignment.topics().map(|(topic, partitions)| {
            message!(TopicPartitions {
                topic_id: Uuid::from_bytes(topic.0),
                partitions: partitions.iter().copied().collect(),
            })
        });
        message!(Assigned { topic_partitions: topics.collect() })
    };
    message!(ConsumerGroupHeartbeatResponse {
        member_id: Some(StrBytes::from(&*answer.member_id)),
        member_epoch: answer.epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        assignment: answer.assignment.as_ref().map(assigned),
    })
}
