//! DescribeCluster (60), versions 0 to 2: the cluster's id and its brokers, of which there is one.
//!
//! - Endpoint type (version 1 and later): 1 asks for brokers. 2 asks for controllers, which a broker's listener answers
//!   with MISMATCHED_ENDPOINT_TYPE; anything else is UNSUPPORTED_ENDPOINT_TYPE (KIP-919).
//! - Authorized operations are not computed without an authorizer: the answer says "unknown".

use std::sync::Arc;

use log_core::wire::messages::describe_cluster_response::DescribeClusterBroker;
use log_core::wire::messages::{DescribeClusterRequest, DescribeClusterResponse};
use log_core::wire::{ErrorCode, message};

use super::{Context, Request};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let refused = match message.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((ErrorCode::MismatchedEndpointType, "this is a broker's listener")),
        _ => Some((ErrorCode::UnsupportedEndpointType, "endpoint types are 1 (brokers) and 2 (controllers)")),
    };
    if let Some((error, reason)) = refused {
        context.metrics.error_answered(request.api, error.name());
        return message!(DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some(reason.into()),
        });
    }
    let broker = message!(DescribeClusterBroker {
        broker_id: context.config.node_id,
        host: context.advertised_host.as_str().into(),
        port: i32::from(context.advertised_port),
    });
    message!(DescribeClusterResponse {
        cluster_id: context.cluster_id.as_str().into(),
        controller_id: context.config.node_id,
        brokers: vec![broker],
    })
}
