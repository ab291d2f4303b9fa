//! DeleteGroups (42), versions 0 to 2: groups without members are forgotten, with their offsets.
//!
//! - Each group by itself: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP while it has members. Durable when answered.

use std::sync::Arc;

use log_core::wire::messages::delete_groups_response::DeletableGroupResult;
use log_core::wire::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use log_core::wire::{ErrorCode, message};

use super::group_errors::code_of;
use super::group_requests::own;
use super::{Context, Request};
use crate::coordinator::group::{Command, Reply};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    _request: &Request,
    message: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let asked: Vec<_> = (message.groups_names.into_iter())
        .map(|group_id| {
            let answer = context.groups.submit(&group_id, Command::DeleteGroup(own(&group_id)));
            (group_id, answer)
        })
        .collect();
    let mut results = Vec::with_capacity(asked.len());
    for (group_id, answer) in asked {
        let error_code = match answer.await {
            Ok(Reply::DeleteGroup(outcome)) => code_of(outcome),
            Ok(_) => ErrorCode::UnknownServerError.code(),
            Err(error) => ErrorCode::from(error).code(),
        };
        results.push(message!(DeletableGroupResult { group_id: group_id, error_code: error_code }));
    }
    message!(DeleteGroupsResponse { results: results })
}
