//! JoinGroup (11), versions 0 to 9: a member enters a group, or answers the call of a rebalance.
//!
//! - The answer waits until the join phase is over.
//! - v0 has no rebalance timeout: the session timeout stands for it.
//! - v4 and later: a newcomer without `group.instance.id` gets MEMBER_ID_REQUIRED and its id, and joins again (KIP-394).
//! - v5: static members (KIP-345). v7: the protocol type is answered. v8: a reason, which is logged (KIP-800).
//! - v9: a leader may be told to skip the assignment (KIP-814).
//! - Up to v6 the protocol name is never null, but empty.

use std::sync::Arc;

use bytes::Bytes;
use log_core::wire::messages::join_group_response::JoinGroupResponseMember;
use log_core::wire::messages::{JoinGroupRequest, JoinGroupResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::group_requests::{client_host, member_id_for, own, own_option};
use super::{Context, Request};
use crate::coordinator::group::{Command, JoinGroup, JoinRefused, Joined, MemberIdentity, Reply};
use crate::runtime::Unavailable;

/// Begins to answer one request.
pub fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: JoinGroupRequest,
) -> impl Future<Output = JoinGroupResponse> + Send + use<> {
    let version = request.version();
    let member = MemberIdentity {
        member_id: own(&message.member_id),
        instance_id: own_option(&message.group_instance_id),
    };
    if let Some(reason) = message.reason.as_deref().filter(|reason| !reason.is_empty()) {
        tracing::info!(group = %message.group_id, member = %member.member_id, reason, "a member joins");
    }
    let asked_with = member.member_id.clone();
    // The subscription outlives the request, whose bytes go back to the connection: it is copied.
    let protocols = (message.protocols.iter())
        .map(|protocol| (own(&protocol.name), Bytes::copy_from_slice(&protocol.metadata)))
        .collect();
    let join = JoinGroup {
        group_id: own(&message.group_id),
        new_member_id: member_id_for(member.instance_id.as_deref().unwrap_or_else(|| request.client_id())),
        require_known_member_id: version >= 4 && member.instance_id.is_none(),
        supports_skip_assignment: version >= 9,
        member,
        client_id: request.client_id().into(),
        client_host: client_host(request),
        session_timeout_ms: message.session_timeout_ms,
        rebalance_timeout_ms: if version >= 1 {
            message.rebalance_timeout_ms
        } else {
            message.session_timeout_ms
        },
        protocol_type: own(&message.protocol_type),
        protocols,
    };
    let metrics = context.metrics.clone();
    let api = request.api;
    let answer = context.groups.submit(&message.group_id, Command::Join(join));
    async move {
        match answer.await {
            Ok(Reply::Join(Ok(joined))) => joined_response(joined, version),
            Ok(Reply::Join(Err(JoinRefused { error, member_id }))) => {
                let error = ErrorCode::from(error);
                metrics.error_answered(api, error.name());
                refused_response(error, &member_id, version)
            }
            Ok(_) => refused_response(ErrorCode::UnknownServerError, &asked_with, version),
            Err(error) => refused_response(Unavailable::into(error), &asked_with, version),
        }
    }
}

fn joined_response(joined: Joined, version: i16) -> JoinGroupResponse {
    let members = joined.members.iter().map(|member| {
        message!(JoinGroupResponseMember {
            member_id: StrBytes::from(&*member.member_id),
            group_instance_id: member.instance_id.as_deref().map(StrBytes::from).filter(|_| version >= 5),
            metadata: member.subscription.clone(),
        })
    });
    message!(JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.as_deref().map(StrBytes::from).filter(|_| version >= 7),
        protocol_name: Some(StrBytes::from(joined.protocol.as_deref().unwrap_or_default())),
        leader: StrBytes::from(&*joined.leader),
        skip_assignment: joined.skip_assignment && version >= 9,
        member_id: StrBytes::from(&*joined.member_id),
        members: members.collect(),
    })
}

fn refused_response(error: ErrorCode, member_id: &str, version: i16) -> JoinGroupResponse {
    message!(JoinGroupResponse {
        error_code: error.code(),
        generation_id: -1,
        protocol_name: (version < 7).then(StrBytes::default),
        member_id: StrBytes::from(member_id),
    })
}
