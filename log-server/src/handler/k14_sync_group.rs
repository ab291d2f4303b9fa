//! SyncGroup (14), versions 0 to 5: a member asks what to work on; the leader brings what everybody is to work on.
//!
//! - The answer waits until the leader has spoken.
//! - v3: static members (KIP-345). v5: protocol type and name are checked and answered (KIP-559):
//!   INCONSISTENT_GROUP_PROTOCOL when they are not the group's. The Java client closes the connection if they are
//!   missing from the answer.

use std::sync::Arc;

use bytes::Bytes;
use log_core::wire::messages::{SyncGroupRequest, SyncGroupResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::group_requests::{own, own_option};
use super::{Context, Request};
use crate::coordinator::group::{Command, MemberIdentity, Reply, SyncGroup};

/// Begins to answer one request.
pub fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: SyncGroupRequest,
) -> impl Future<Output = SyncGroupResponse> + Send + use<> {
    let version = request.version();
    // The assignment outlives the request, whose bytes go back to the connection: it is copied.
    let assignments = (message.assignments.iter())
        .map(|assigned| (own(&assigned.member_id), Bytes::copy_from_slice(&assigned.assignment)))
        .collect();
    let sync = SyncGroup {
        group_id: own(&message.group_id),
        member: MemberIdentity {
            member_id: own(&message.member_id),
            instance_id: own_option(&message.group_instance_id),
        },
        generation: message.generation_id,
        protocol_type: message.protocol_type.as_ref().map(own),
        protocol: message.protocol_name.as_ref().map(own),
        assignments,
    };
    let answer = context.groups.submit(&message.group_id, Command::Sync(sync));
    async move {
        match answer.await {
            Ok(Reply::Sync(Ok(synced))) => message!(SyncGroupResponse {
                protocol_type: synced.protocol_type.as_deref().map(StrBytes::from).filter(|_| version >= 5),
                protocol_name: synced.protocol.as_deref().map(StrBytes::from).filter(|_| version >= 5),
                assignment: synced.assignment,
            }),
            Ok(Reply::Sync(Err(error))) => refused(error.into()),
            Ok(_) => refused(ErrorCode::UnknownServerError),
            Err(error) => refused(error.into()),
        }
    }
}

fn refused(error: ErrorCode) -> SyncGroupResponse {
    message!(SyncGroupResponse { error_code: error.code() })
}
