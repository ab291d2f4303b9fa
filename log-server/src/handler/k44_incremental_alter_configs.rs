//! IncrementalAlterConfigs (44), versions 0 to 1: changes single entries of a configuration, of topics
//! (KIP-339), of groups and of subscriptions to clients' metrics, and, while it runs, of the broker (KIP-226).
//!
//! | operation | effect |
//! |---|---|
//! | 0 set | the entry gets the value |
//! | 1 delete | the entry goes back to the broker's value |
//! | 2 append | a list gets the value's words that it does not have |
//! | 3 subtract | a list loses the value's words |
//!
//! - Append and subtract on what is no list are INVALID_CONFIG; a name listed twice in a resource, an operation that
//!   does not exist, and a resource listed twice are INVALID_REQUEST.
//! - A broker is named by its id, the cluster's default by nothing. What cannot be changed while the broker runs
//!   ([`crate::dynamic`]), and a value that does not work, are INVALID_REQUEST; deleting what is not set is fine.
//! - All entries of a resource are changed, or none. `validate_only` answers the same and changes nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use log_core::wire::messages::incremental_alter_configs_request::AlterConfigsResource;
use log_core::wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use log_core::wire::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use log_core::wire::{ErrorCode, message};

use super::config_resource::{
    BROKER, TOPIC, alter, alter_broker, alter_resource, repeated, repetition, unsupported,
};
use super::{ApiFailure, Context, Request};
use crate::resource_config::{self, InvalidConfig, Kind};
use crate::topic::config::{self, InvalidTopicConfig};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let listed = message.resources.iter().map(|resource| (resource.resource_type, &*resource.resource_name));
    let repeated = repeated(listed);
    let mut responses = Vec::with_capacity(message.resources.len());
    for (resource, repeated) in message.resources.into_iter().zip(repeated) {
        let altered = match repeated {
            true => Err(repetition()),
            false => change(context, &resource, message.validate_only).await,
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
    message!(IncrementalAlterConfigsResponse { responses })
}

#[derive(Clone, Copy)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

struct Change {
    name: String,
    operation: Operation,
    value: Option<String>,
}

async fn change(
    context: &Arc<Context>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), ApiFailure> {
    let invalid = |reason: String| ApiFailure::new(ErrorCode::InvalidRequest, reason);
    let mut names = HashSet::new();
    let mut changes = Vec::with_capacity(resource.configs.len());
    for entry in &resource.configs {
        if !names.insert(&entry.name) {
            return Err(invalid(format!("{} is in this request more than once", entry.name)));
        }
        let operation = match entry.config_operation {
            0 => Operation::Set,
            1 => Operation::Delete,
            2 => Operation::Append,
            3 => Operation::Subtract,
            other => return Err(invalid(format!("{other} is no operation on a configuration"))),
        };
        let value = entry.value.as_ref().map(ToString::to_string);
        changes.push(Change { name: entry.name.to_string(), operation, value });
    }
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            alter(context, name, validate_only, move |before| {
                let mut config = before.clone();
                changes.iter().try_for_each(|change| apply(&mut config, change))?;
                Ok(config)
            })
            .await
        }
        BROKER => {
            let changes = changes.into_iter().map(broker_change).collect::<Result<Vec<_>, _>>()?;
            alter_broker(context, name, validate_only, move |config| {
                for (name, value) in changes {
                    match value {
                        Some(value) => config.insert(name, value),
                        None => config.remove(&name),
                    };
                }
            })
            .await
        }
        other => {
            let kind = Kind::from_wire(other).ok_or_else(|| unsupported(other))?;
            alter_resource(context, kind, name, validate_only, move |before| {
                let mut config = before.clone();
                changes.iter().try_for_each(|change| apply_to_resource(kind, &mut config, change))?;
                Ok(config)
            })
            .await
        }
    }
}

/// A setting of the broker with its new value, `None` to delete it. None that can be changed is a list.
fn broker_change(change: Change) -> Result<(String, Option<String>), ApiFailure> {
    match (change.operation, change.value) {
        (Operation::Delete, _) => Ok((change.name, None)),
        (Operation::Set, Some(value)) => Ok((change.name, Some(value))),
        (Operation::Set, None) => {
            let reason = format!("Null value not supported for broker configs: {}", change.name);
            Err(ApiFailure::new(ErrorCode::InvalidRequest, reason))
        }
        (Operation::Append | Operation::Subtract, _) => {
            let reason = format!("{} is no list, which could be appended to or subtracted from", change.name);
            Err(ApiFailure::new(ErrorCode::InvalidConfig, reason))
        }
    }
}

fn apply(config: &mut BTreeMap<String, String>, change: &Change) -> Result<(), InvalidTopicConfig> {
    let definition = config::definition(&change.name)?;
    if let Operation::Delete = change.operation {
        config.remove(definition.name);
        return Ok(());
    }
    let value = change.value.as_deref().ok_or_else(|| InvalidTopicConfig::Null(change.name.clone()))?;
    let is_list = definition.config_type() == config::ConfigType::List;
    let before = config.get(definition.name).cloned().unwrap_or_else(|| definition.default_value());
    let value =
        changed(change.operation, is_list, &before, value).map_err(|why| definition.invalid(value, why))?;
    definition.check(&value)?;
    config.insert(definition.name.to_owned(), value);
    Ok(())
}

fn apply_to_resource(
    kind: Kind,
    config: &mut BTreeMap<String, String>,
    change: &Change,
) -> Result<(), InvalidConfig> {
    let definition = resource_config::definition(kind, &change.name)?;
    if let Operation::Delete = change.operation {
        config.remove(definition.name);
        return Ok(());
    }
    let value = change.value.as_deref().ok_or_else(|| InvalidConfig::Null(change.name.clone()))?;
    let is_list = definition.config_type() == config::ConfigType::List;
    let before = config.get(definition.name).cloned().unwrap_or_default();
    let value =
        changed(change.operation, is_list, &before, value).map_err(|why| definition.invalid(value, why))?;
    definition.check(&value)?;
    config.insert(definition.name.to_owned(), value);
    Ok(())
}

/// What an operation other than delete makes of a value, or why it cannot.
fn changed(operation: Operation, is_list: bool, before: &str, value: &str) -> Result<String, &'static str> {
    if let Operation::Set | Operation::Delete = operation {
        return Ok(value.to_owned());
    }
    if !is_list {
        return Err("only lists can be appended to or subtracted from");
    }
    let mut words = words(before);
    match operation {
        Operation::Subtract => words.retain(|word| !self::words(value).contains(word)),
        _ => {
            let new: Vec<&str> =
                self::words(value).into_iter().filter(|word| !words.contains(word)).collect();
            words.extend(new);
        }
    }
    Ok(words.join(","))
}

fn words(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
}
