//! DescribeGroups (15), versions 0 to 6: who is in a group, and what they work on.
//!
//! - A group that does not exist is `Dead` without an error, and from v6 on GROUP_ID_NOT_FOUND with a message (KIP-1043).
//! - v3: authorized operations, which are not told: there is no authorizer. v4: instance ids.

use std::sync::Arc;

use log_core::wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use log_core::wire::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::{Context, Request};
use crate::coordinator::group::{GroupDescription, GroupState};
use crate::runtime::Unavailable;

/// Stands for "not told".
const OPERATIONS_UNKNOWN: i32 = i32::MIN;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let version = request.version();
    let asked: Vec<_> = (message.groups.into_iter())
        .map(|group_id| {
            let name = group_id.to_string();
            let answer = context.groups.query(&group_id, move |groups| groups.describe(&name));
            (group_id, answer)
        })
        .collect();
    let mut groups = Vec::with_capacity(asked.len());
    for (group_id, answer) in asked {
        groups.push(described(group_id, answer.await, version));
    }
    message!(DescribeGroupsResponse { groups: groups })
}

fn described(
    group_id: StrBytes,
    answer: Result<Option<GroupDescription>, Unavailable>,
    version: i16,
) -> DescribedGroup {
    let group = match answer {
        Ok(Some(group)) => group,
        Ok(None) => {
            let modern = version >= 6;
            let error_message = modern.then(|| StrBytes::from(format!("Group {group_id} not found.")));
            return message!(DescribedGroup {
                group_id: group_id,
                group_state: StrBytes::from(GroupState::Dead.name()),
                error_code: if modern { ErrorCode::GroupIdNotFound.code() } else { ErrorCode::None.code() },
                error_message: error_message,
                authorized_operations: OPERATIONS_UNKNOWN,
            });
        }
        Err(error) => {
            return message!(DescribedGroup {
                group_id: group_id,
                error_code: ErrorCode::from(error).code(),
                authorized_operations: OPERATIONS_UNKNOWN,
            });
        }
    };
    let members = group.members.iter().map(|member| {
        message!(DescribedGroupMember {
            member_id: StrBytes::from(&*member.member_id),
            group_instance_id: member.instance_id.as_deref().map(StrBytes::from).filter(|_| version >= 4),
            client_id: StrBytes::from(&*member.client_id),
            client_host: StrBytes::from(&*member.client_host),
            member_metadata: member.subscription.clone(),
            member_assignment: member.assignment.clone(),
        })
    });
    message!(DescribedGroup {
        group_id: group_id,
        group_state: StrBytes::from(group.state.name()),
        protocol_type: StrBytes::from(&*group.protocol_type),
        protocol_data: StrBytes::from(&*group.protocol),
        members: members.collect(),
        authorized_operations: OPERATIONS_UNKNOWN,
    })
}
