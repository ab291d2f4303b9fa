//! ListConfigResources (74), versions 0 to 1: what has a configuration (KIP-1000, KIP-1142).
//!
//! - Topics (2), brokers (4), subscriptions to clients' metrics (16) and groups (32): of the last two, those for which
//!   something is set.
//! - No type stands for all of them. Version 0 asks for subscriptions only. Any other type is UNSUPPORTED_VERSION.

use std::sync::Arc;

use log_core::wire::messages::list_config_resources_response::ConfigResource;
use log_core::wire::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use log_core::wire::{ErrorCode, message};

use super::config_resource::{BROKER, CLIENT_METRICS, GROUP, TOPIC};
use super::{Context, Request};
use crate::resource_config::Kind;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let wanted = match message.resource_types {
        _ if request.version() == 0 => vec![CLIENT_METRICS],
        types if types.is_empty() => vec![TOPIC, BROKER, CLIENT_METRICS, GROUP],
        types => types,
    };
    let mut response = ListConfigResourcesResponse::default();
    for resource_type in wanted {
        let names: Vec<String> = match resource_type {
            TOPIC => context.catalog.topics().iter().map(|topic| topic.name.to_string()).collect(),
            BROKER => vec![context.config.node_id.to_string()],
            CLIENT_METRICS => context.resource_configs.all(Kind::ClientMetrics).into_keys().collect(),
            GROUP => context.resource_configs.all(Kind::Group).into_keys().collect(),
            _ => {
                let error = ErrorCode::UnsupportedVersion;
                context.metrics.error_answered(request.api, error.name());
                return message!(ListConfigResourcesResponse { error_code: error.code() });
            }
        };
        response.config_resources.extend(
            names
                .into_iter()
                .map(|name| message!(ConfigResource { resource_name: name.as_str().into(), resource_type })),
        );
    }
    response
}
