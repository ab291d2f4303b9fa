//! ConsumerGroupDescribe (69), versions 0 and 1: who is in a consumer group, what they work on and are to work on
//! (KIP-848).
//!
//! - GROUP_ID_NOT_FOUND for what is no consumer group, a classic one included: tools then ask DescribeGroups.
//! - v1: which protocol each member speaks (KIP-1099): 0 the classic one, 1 this one.
//! - Authorized operations are not told: there is no authorizer.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::wire::messages::consumer_group_describe_response::{
    Assignment as Assigned, DescribedGroup, Member, TopicPartitions,
};
use log_core::wire::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use log_core::wire::{ErrorCode, StrBytes, Uuid, message};

use super::{Context, Request};
use crate::coordinator::group::{Assignment, ConsumerGroupDescription, ConsumerMemberDescription, TopicId};
use crate::runtime::Unavailable;

/// Stands for "not told".
const OPERATIONS_UNKNOWN: i32 = i32::MIN;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let version = request.version();
    let asked: Vec<_> = (message.group_ids.into_iter())
        .map(|group_id| {
            let name = group_id.to_string();
            let answer = context.groups.query(&group_id, move |groups| groups.describe_consumers(&name));
            (group_id, answer)
        })
        .collect();
    let mut groups = Vec::with_capacity(asked.len());
    for (group_id, answer) in asked {
        groups.push(described(group_id, answer.await, version));
    }
    message!(ConsumerGroupDescribeResponse { groups: groups })
}

fn described(
    group_id: StrBytes,
    answer: Result<Option<ConsumerGroupDescription>, Unavailable>,
    version: i16,
) -> DescribedGroup {
    let group = match answer {
        Ok(Some(group)) => group,
        Ok(None) => {
            let reason = StrBytes::from(format!("Group {group_id} is not a consumer group."));
            return refused(group_id, ErrorCode::GroupIdNotFound, reason);
        }
        Err(error) => return refused(group_id, error.into(), StrBytes::from(error.to_string())),
    };
    let members = group.members.iter().map(|member| described_member(member, &group.topic_names, version));
    message!(DescribedGroup {
        group_id: group_id,
        group_state: StrBytes::from(group.state.name()),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: StrBytes::from(group.assignor),
        members: members.collect(),
        authorized_operations: OPERATIONS_UNKNOWN,
    })
}

fn refused(group_id: StrBytes, error: ErrorCode, reason: StrBytes) -> DescribedGroup {
    message!(DescribedGroup {
        group_id: group_id,
        error_code: error.code(),
        error_message: Some(reason),
        authorized_operations: OPERATIONS_UNKNOWN,
    })
}

fn described_member(
    member: &ConsumerMemberDescription,
    topic_names: &BTreeMap<TopicId, Arc<str>>,
    version: i16,
) -> Member {
    let metadata = &member.metadata;
    let option = |text: &Option<Arc<str>>| text.as_deref().map(StrBytes::from);
    // A topic that was deleted has no name any more, and what is left of it in an assignment is not shown.
    let partitions = |assignment: &Assignment| {
        let topics = assignment.topics().filter_map(|(topic, partitions)| {
            Some(message!(TopicPartitions {
                topic_id: Uuid::from_bytes(topic.0),
                topic_name: StrBytes::from(&**topic_names.get(&topic)?),
                partitions: partitions.iter().copied().collect(),
            }))
        });
        message!(Assigned { topic_partitions: topics.collect() })
    };
    message!(Member {
        member_id: StrBytes::from(&*member.member_id),
        instance_id: option(&metadata.instance_id),
        rack_id: option(&metadata.rack_id),
        member_epoch: member.epoch,
        client_id: StrBytes::from(&*metadata.client_id),
        client_host: StrBytes::from(&*metadata.client_host),
        subscribed_topic_names: metadata.topic_names.iter().map(|name| StrBytes::from(&**name)).collect(),
        subscribed_topic_regex: option(&metadata.topic_regex),
        assignment: partitions(&member.assigned),
        target_assignment: partitions(&member.target),
        // -1, which stands for unknown, is all that the first version can say.
        member_type: if version >= 1 { i8::from(metadata.classic.is_none()) } else { -1 },
    })
}
