//! AlterConfigs (33), versions 0 to 2: replaces a topic's whole configuration.
//!
//! - What the request does not list goes back to the broker's value. Clients that mean single entries use
//!   IncrementalAlterConfigs (44).
//! - Broker resources are INVALID_REQUEST: settings come from the file, the environment and flags.
//! - A resource listed twice is INVALID_REQUEST, each time; an unknown name or a bad value INVALID_CONFIG.
//! - `validate_only` answers the same and changes nothing.

use std::sync::Arc;

use log_core::wire::message;
use log_core::wire::messages::alter_configs_request::AlterConfigsResource;
use log_core::wire::messages::alter_configs_response::AlterConfigsResourceResponse;
use log_core::wire::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_resource::{alter, repeated, repetition, require_topic};
use super::{ApiFailure, Context, Request};
use crate::topic::config;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let listed = message.resources.iter().map(|resource| (resource.resource_type, &*resource.resource_name));
    let repeated = repeated(listed);
    let mut responses = Vec::with_capacity(message.resources.len());
    for (resource, repeated) in message.resources.into_iter().zip(repeated) {
        let altered = match repeated {
            true => Err(repetition()),
            false => replace(context, &resource, message.validate_only).await,
        };
        let mut response = message!(AlterConfigsResourceResponse {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        });
        if let Err(failure) = altered {
            failure.count(context, request);
            response.error_code = failure.code();
            response.error_message = failure.message();
        }
        responses.push(response);
    }
    message!(AlterConfigsResponse { responses })
}

async fn replace(
    context: &Context,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), ApiFailure> {
    require_topic(resource.resource_type)?;
    let entries: Vec<(String, Option<String>)> = resource
        .configs
        .iter()
        .map(|entry| (entry.name.to_string(), entry.value.as_ref().map(ToString::to_string)))
        .collect();
    alter(context, &resource.resource_name, validate_only, move |_before| {
        config::collect(entries.iter().map(|(name, value)| (name.as_str(), value.as_deref())))
    })
    .await
}
