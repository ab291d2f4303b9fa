//! ListGroups (16), versions 0 to 5: which groups there are.
//!
//! - v4: only groups in given states (KIP-518); v5: only groups of given types (KIP-848), `classic` and `consumer`.
//!   Filters do not mind case, and what no group can match is no error. An empty filter lets everything pass.

use std::sync::Arc;

use log_core::wire::messages::list_groups_response::ListedGroup;
use log_core::wire::messages::{ListGroupsRequest, ListGroupsResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::{Context, Request};
use crate::coordinator::group::GroupCoordinator;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: ListGroupsRequest,
) -> ListGroupsResponse {
    let version = request.version();
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let shards = match context.groups.query_all(GroupCoordinator::list).await {
        Ok(shards) => shards,
        Err(error) => return message!(ListGroupsResponse { error_code: ErrorCode::from(error).code() }),
    };
    let mut groups: Vec<_> = (shards.into_iter().flatten())
        .filter(|group| {
            passes(&message.states_filter, group.state.name())
                && passes(&message.types_filter, group.kind.name())
        })
        .collect();
    groups.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
    let groups = groups.into_iter().map(|group| {
        message!(ListedGroup {
            group_id: StrBytes::from(&*group.group_id),
            protocol_type: StrBytes::from(&*group.protocol_type),
            group_state: if version >= 4 { StrBytes::from(group.state.name()) } else { StrBytes::default() },
            group_type: if version >= 5 { StrBytes::from(group.kind.name()) } else { StrBytes::default() },
        })
    });
    message!(ListGroupsResponse { groups: groups.collect() })
}
