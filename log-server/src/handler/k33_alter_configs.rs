//! AlterConfigs (33), versions 0 to 2: replaces the whole configuration of a topic, a group or a subscription to clients'
//! metrics, or all that was set for the broker while it runs.
//!
//! - What the request does not list goes back to the broker's value. Clients that mean single entries use
//!   IncrementalAlterConfigs (44).
//! - A broker is named by its id, the cluster's default by nothing. What cannot be changed while the broker runs
//!   ([`crate::dynamic`]), and a value that does not work, are INVALID_REQUEST.
//! - A resource listed twice is INVALID_REQUEST, each time; an unknown name or a bad value INVALID_CONFIG.
//! - `validate_only` answers the same and changes nothing.

use std::sync::Arc;

use log_core::wire::message;
use log_core::wire::messages::alter_configs_request::AlterConfigsResource;
use log_core::wire::messages::alter_configs_response::AlterConfigsResourceResponse;
use log_core::wire::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_resource::{
    BROKER, TOPIC, alter, alter_broker, alter_resource, repeated, repetition, unsupported,
};
use super::{ApiFailure, Context, Request};
use crate::resource_config::{self, Kind};
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
    context: &Arc<Context>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), ApiFailure> {
    let entries: Vec<(String, Option<String>)> = resource
        .configs
        .iter()
        .map(|entry| (entry.name.to_string(), entry.value.as_ref().map(ToString::to_string)))
        .collect();
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            alter(context, name, validate_only, move |_before| {
                config::collect(entries.iter().map(|(name, value)| (name.as_str(), value.as_deref())))
            })
            .await
        }
        BROKER => {
            alter_broker(context, name, validate_only, move |before| {
                *before = entries.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            })
            .await
        }
        other => {
            let kind = Kind::from_wire(other).ok_or_else(|| unsupported(other))?;
            alter_resource(context, kind, name, validate_only, move |_before| {
                resource_config::collect(kind, entries)
            })
            .await
        }
    }
}
