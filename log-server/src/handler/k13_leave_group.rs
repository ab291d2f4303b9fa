//! LeaveGroup (13), versions 0 to 5: members go away, and the others share their work at once.
//!
//! - Up to v2 one member leaves, and its error is the answer's.
//! - v3 and later: many leave, each with its own error (KIP-345). A static member may be named by its instance id alone,
//!   with an empty member id, which is how an operator removes one.
//! - v5: a reason, which is logged (KIP-800).

use std::sync::Arc;

use log_core::wire::messages::leave_group_response::MemberResponse;
use log_core::wire::messages::{LeaveGroupRequest, LeaveGroupResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::group_errors::code_of;
use super::group_requests::{own, own_option};
use super::{Context, Request};
use crate::coordinator::group::{Command, LeaveGroup, MemberIdentity, Reply};

/// Begins to answer one request.
pub fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: LeaveGroupRequest,
) -> impl Future<Output = LeaveGroupResponse> + Send + use<> {
    let version = request.version();
    let members: Vec<MemberIdentity> = if version < 3 {
        vec![MemberIdentity { member_id: own(&message.member_id), instance_id: None }]
    } else {
        let identity =
            |member: &log_core::wire::messages::leave_group_request::MemberIdentity| MemberIdentity {
                member_id: own(&member.member_id),
                instance_id: own_option(&member.group_instance_id),
            };
        message.members.iter().map(identity).collect()
    };
    for member in &message.members {
        if let Some(reason) = member.reason.as_deref().filter(|reason| !reason.is_empty()) {
            tracing::info!(group = %message.group_id, member = %member.member_id, reason, "a member leaves");
        }
    }
    let leave = LeaveGroup { group_id: own(&message.group_id), members: members.clone() };
    let answer = context.groups.submit(&message.group_id, Command::Leave(leave));
    async move {
        let outcomes = match answer.await {
            Ok(Reply::Leave(Ok(outcomes))) => outcomes,
            Ok(Reply::Leave(Err(error))) => return refused(error.into()),
            Ok(_) => return refused(ErrorCode::UnknownServerError),
            Err(error) => return refused(error.into()),
        };
        if version < 3 {
            let error_code = outcomes.into_iter().map(code_of).find(|code| *code != 0).unwrap_or(0);
            return message!(LeaveGroupResponse { error_code: error_code });
        }
        let members = members.iter().zip(outcomes).map(|(member, outcome)| {
            message!(MemberResponse {
                member_id: StrBytes::from(&*member.member_id),
                group_instance_id: member.instance_id.as_deref().map(StrBytes::from),
                error_code: code_of(outcome),
            })
        });
        message!(LeaveGroupResponse { members: members.collect() })
    }
}

fn refused(error: ErrorCode) -> LeaveGroupResponse {
    message!(LeaveGroupResponse { error_code: error.code() })
}
