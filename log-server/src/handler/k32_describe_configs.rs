//! DescribeConfigs (32), versions 1 to 4: the effective configuration of topics and of this broker.
//!
//! - The whole set is returned, or the names that were asked for; a name that does not exist is left out.
//! - The source says who has set a value: the topic, the broker's settings, or nobody. It is never unknown: Kafka
//!   Connect fails at start on -1.
//! - Synonyms, when asked for, are every place where a value could come from and one stands, the strongest first.
//!   Types and documentation are there from version 3 on.
//! - A broker is asked for by its id; another id is INVALID_REQUEST. An empty name stands for cluster-wide dynamic
//!   settings, of which there are none.
//! - An unknown topic is UNKNOWN_TOPIC_OR_PARTITION; other kinds of resources are INVALID_REQUEST.

use std::sync::Arc;

use log_core::wire::messages::describe_configs_request::DescribeConfigsResource;
use log_core::wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use log_core::wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use log_core::wire::{ErrorCode, message};

use super::broker_entries::{BrokerEntry, broker_entries};
use super::config_resource::{BROKER, TOPIC, unknown_topic, unsupported};
use super::{ApiFailure, Context, Request};
use crate::topic::Topic;
use crate::topic::config::{self, Definition, Source};

/// What goes along with the values.
#[derive(Clone, Copy)]
struct Extras {
    synonyms: bool,
    documentation: bool,
}

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let extras = Extras { synonyms: message.include_synonyms, documentation: message.include_documentation };
    let results = message.resources.into_iter().map(|resource| {
        let mut result = message!(DescribeConfigsResult { resource_type: resource.resource_type });
        match describe(context, &resource, extras) {
            Ok(configs) => result.configs = configs,
            Err(failure) => {
                failure.count(context, request);
                result.error_code = failure.code();
                result.error_message = failure.message();
            }
        }
        result.resource_name = resource.resource_name;
        result
    });
    message!(DescribeConfigsResponse { results: results.collect() })
}

fn describe(
    context: &Context,
    resource: &DescribeConfigsResource,
    extras: Extras,
) -> Result<Vec<DescribeConfigsResourceResult>, ApiFailure> {
    let name = resource.resource_name.as_str();
    let wanted = |entry: &str| {
        resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == entry))
    };
    match resource.resource_type {
        TOPIC => {
            let topic = context.catalog.get(name).ok_or_else(|| unknown_topic(name))?;
            let definitions = config::definitions().iter().filter(|definition| wanted(definition.name));
            Ok(definitions.map(|definition| topic_entry(context, &topic, definition, extras)).collect())
        }
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER if name == context.config.node_id.to_string() => Ok(broker_entries(context)
            .into_iter()
            .filter(|entry| wanted(entry.name))
            .map(|entry| broker_entry(entry, extras))
            .collect()),
        BROKER => Err(ApiFailure::new(
            ErrorCode::InvalidRequest,
            format!("this is broker {}, not {name}", context.config.node_id),
        )),
        other => Err(unsupported(other)),
    }
}

fn topic_entry(
    context: &Context,
    topic: &Topic,
    definition: &Definition,
    extras: Extras,
) -> DescribeConfigsResourceResult {
    let effective = definition.effective(&topic.config, &context.config);
    let mut synonyms = Vec::new();
    if extras.synonyms {
        let synonym = |name: &'static str, value: String, source: Source| {
            message!(DescribeConfigsSynonym {
                name: name.into(),
                value: Some(value.into()),
                source: source as i8,
            })
        };
        if effective.source == Source::Topic {
            synonyms.push(synonym(definition.name, effective.value.clone(), Source::Topic));
        }
        let broker = definition.broker_effective(&context.config);
        let broker_name = definition.broker_name.unwrap_or(definition.name);
        if broker.source == Source::Broker {
            synonyms.push(synonym(broker_name, broker.value, Source::Broker));
        }
        synonyms.push(synonym(broker_name, definition.default_value(), Source::Default));
    }
    message!(DescribeConfigsResourceResult {
        name: definition.name.into(),
        value: Some(effective.value.into()),
        config_source: effective.source as i8,
        synonyms,
        config_type: definition.config_type() as i8,
        documentation: extras.documentation.then(|| definition.doc.into()),
    })
}

fn broker_entry(entry: BrokerEntry, extras: Extras) -> DescribeConfigsResourceResult {
    let synonym = message!(DescribeConfigsSynonym {
        name: entry.name.into(),
        value: Some(entry.value.as_str().into()),
        source: entry.source as i8,
    });
    message!(DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: Some(entry.value.into()),
        read_only: true,
        config_source: entry.source as i8,
        synonyms: if extras.synonyms { vec![synonym] } else { Vec::new() },
        config_type: entry.config_type as i8,
        documentation: extras.documentation.then(|| entry.documentation.into()),
    })
}
