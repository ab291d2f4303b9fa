//! Heartbeat (12), versions 0 to 4: a member is alive, and learns whether it has to join again.
//!
//! - REBALANCE_IN_PROGRESS calls the member to join again; it counts as alive all the same.
//! - v3: static members (KIP-345): FENCED_INSTANCE_ID when another member has the instance id.

use std::sync::Arc;

use log_core::wire::messages::{HeartbeatRequest, HeartbeatResponse};
use log_core::wire::{ErrorCode, message};

use super::group_errors::code_of;
use super::group_requests::{own, own_option};
use super::{Context, Request};
use crate::coordinator::group::{Command, Heartbeat, MemberIdentity, Reply};

/// Begins to answer one request.
pub fn handle(
    context: &Arc<Context>,
    _request: &Request,
    message: HeartbeatRequest,
) -> impl Future<Output = HeartbeatResponse> + Send + use<> {
    let heartbeat = Heartbeat {
        group_id: own(&message.group_id),
        member: MemberIdentity {
            member_id: own(&message.member_id),
            instance_id: own_option(&message.group_instance_id),
        },
        generation: message.generation_id,
    };
    let answer = context.groups.submit(&message.group_id, Command::Heartbeat(heartbeat));
    async move {
        let error_code = match answer.await {
            Ok(Reply::Heartbeat(outcome)) => code_of(outcome),
            Ok(_) => ErrorCode::UnknownServerError.code(),
            Err(error) => ErrorCode::from(error).code(),
        };
        message!(HeartbeatResponse { error_code: error_code })
    }
}
