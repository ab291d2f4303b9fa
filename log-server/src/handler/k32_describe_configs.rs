//! DescribeConfigs (32), versions 1 to 4: the effective configuration of topics and of this broker.
//!
//! - The whole set is returned, or the names that were asked for; a name that does not exist is left out.
//! - The source says who has set a value: the topic, the broker's settings, or nobody. It is never unknown: Kafka
//!   Connect fails at start on -1.
//! - Synonyms, when asked for, are every place where a value could come from and one stands, the strongest first.
//!   Types and documentation are there from version 3 on.
//! - A broker is asked for by its id; another id is INVALID_REQUEST. An empty name stands for what was set for the
//!   cluster while it ran, and shows that alone.
//! - A group shows what holds for it, whether it exists or not; so does a subscription to clients' metrics, by name.
//! - An unknown topic is UNKNOWN_TOPIC_OR_PARTITION; other kinds of resources are INVALID_REQUEST.

use std::sync::Arc;

use log_core::wire::message;
use log_core::wire::messages::describe_configs_request::DescribeConfigsResource;
use log_core::wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use log_core::wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::broker_entries::{BrokerEntry, broker_entries};
use super::config_resource::{
    BROKER, Standing, TOPIC, other_broker, resource_standings, topic_standings, unknown_topic, unsupported,
};
use super::{ApiFailure, Context, Request};
use crate::resource_config::{self, Kind};
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
        BROKER if name.is_empty() => {
            let entries = broker_entries(context).into_iter().filter(|entry| wanted(entry.name));
            let set = entries.filter_map(|mut entry| {
                entry.standings.retain(|(_, _, source)| *source == Source::DynamicDefault);
                (!entry.standings.is_empty()).then(|| broker_entry(entry, extras))
            });
            Ok(set.collect())
        }
        BROKER if name == context.config.node_id.to_string() => Ok(broker_entries(context)
            .into_iter()
            .filter(|entry| wanted(entry.name))
            .map(|entry| broker_entry(entry, extras))
            .collect()),
        BROKER => Err(other_broker(context, name)),
        other => {
            let kind = Kind::from_wire(other).ok_or_else(|| unsupported(other))?;
            let set = context.resource_configs.get(kind, name);
            let definitions = resource_config::definitions(kind).filter(|definition| wanted(definition.name));
            let entries = definitions.map(|definition| {
                let standings = resource_standings(context, kind, definition, &set);
                let mut result = entry(definition.name, standings, extras);
                result.config_type = definition.config_type() as i8;
                result.documentation = extras.documentation.then(|| definition.doc.into());
                if definition.is_sensitive() {
                    conceal(&mut result);
                }
                result
            });
            Ok(entries.collect())
        }
    }
}

fn topic_entry(
    context: &Context,
    topic: &Topic,
    definition: &Definition,
    extras: Extras,
) -> DescribeConfigsResourceResult {
    let standings = topic_standings(context, definition, &topic.config);
    let mut result = entry(definition.name, standings, extras);
    result.config_type = definition.config_type() as i8;
    result.documentation = extras.documentation.then(|| definition.doc.into());
    result
}

fn broker_entry(broker: BrokerEntry, extras: Extras) -> DescribeConfigsResourceResult {
    let mut result = entry(broker.name, broker.standings, extras);
    result.read_only = broker.read_only;
    result.config_type = broker.config_type as i8;
    result.documentation = extras.documentation.then(|| broker.documentation.into());
    result
}

/// Takes the values out of an entry that is not for everybody who may read it, as Kafka does.
fn conceal(result: &mut DescribeConfigsResourceResult) {
    result.is_sensitive = true;
    result.value = None;
    for synonym in &mut result.synonyms {
        synonym.value = None;
    }
}

/// What both have in common: the value that counts, and where else one stands.
fn entry(name: &str, standings: Vec<Standing>, extras: Extras) -> DescribeConfigsResourceResult {
    let (_, value, source) = standings.first().expect("a value stands somewhere");
    let mut result = message!(DescribeConfigsResourceResult {
        name: name.into(),
        value: Some(value.as_str().into()),
        config_source: *source as i8,
    });
    if extras.synonyms {
        let synonym = |(name, value, source): Standing| {
            message!(DescribeConfigsSynonym {
                name: name.into(),
                value: Some(value.into()),
                source: source as i8,
            })
        };
        result.synonyms = standings.into_iter().map(synonym).collect();
    }
    result
}
