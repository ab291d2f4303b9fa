//! FindCoordinator (10), versions 0 to 6: which broker serves a group, or a transactional id.
//!
//! - Key type 0 is a group (the only one before v1). There is one node, so it is this one; the internal topic that
//!   groups are kept in is made now, so that the group's first request finds its shard.
//! - Key type 1 is a transactional id, and its internal topic is made likewise. Other key types: INVALID_REQUEST.
//! - From v4 on many keys are asked for and answered at once (KIP-699); before that, one.
//! - An empty key is INVALID_GROUP_ID where it stands for a group.
//! - COORDINATOR_NOT_AVAILABLE when they cannot be served; loading is told by the other APIs themselves.

use std::sync::Arc;

use log_core::wire::messages::find_coordinator_response::Coordinator;
use log_core::wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::{Context, Request};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let key_type = if request.version() == 0 { GROUP } else { message.key_type };
    let served = match key_type {
        GROUP => context.groups.ensure_exists().await.map_err(ErrorCode::from),
        TRANSACTION => context.transactions.ensure_exists().await.map_err(ErrorCode::from),
        _ => Err(ErrorCode::InvalidRequest),
    };
    let find = |key: &StrBytes| match served {
        Ok(()) if key.is_empty() && key_type == GROUP => Err(ErrorCode::InvalidGroupId),
        served => served,
    };
    if request.version() < 4 {
        return match find(&message.key) {
            Ok(()) => message!(FindCoordinatorResponse {
                node_id: context.config.node_id,
                host: StrBytes::from(context.advertised_host.as_str()),
                port: i32::from(context.advertised_port),
            }),
            Err(error) => {
                let error_message = Some(StrBytes::from(reason(error)));
                message!(FindCoordinatorResponse {
                    error_code: error.code(),
                    error_message: error_message.filter(|_| request.version() >= 1),
                    node_id: -1,
                    port: -1,
                })
            }
        };
    }
    let coordinators = message.coordinator_keys.into_iter().map(|key| match find(&key) {
        Ok(()) => message!(Coordinator {
            key: key,
            node_id: context.config.node_id,
            host: StrBytes::from(context.advertised_host.as_str()),
            port: i32::from(context.advertised_port),
        }),
        Err(error) => message!(Coordinator {
            key: key,
            error_code: error.code(),
            error_message: Some(StrBytes::from(reason(error))),
            node_id: -1,
            port: -1,
        }),
    });
    message!(FindCoordinatorResponse { coordinators: coordinators.collect() })
}

fn reason(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::InvalidGroupId => "the group id is empty",
        ErrorCode::InvalidRequest => "there is no such type of key",
        _ => "there is no coordinator for this key",
    }
}
