//! Configurations of topics and of this broker: what holds, where it comes from, and changing it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use log_core::wire::messages::describe_configs_request::DescribeConfigsResource;
use log_core::wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use log_core::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use log_core::wire::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use log_core::wire::{StrBytes, message};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::call::{call, outcome};
use super::extract::{JsonBody, Path};
use super::health::check_ready;
use super::{ApiError, ErrorBody};
use crate::handler::Context;
use crate::topic::config::{ConfigType, Source};

/// The kinds of resources, as Kafka numbers them.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// What is done to an entry, as Kafka numbers it.
const SET: i8 = 0;
const UNSET: i8 = 1;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new()
        .routes(routes!(topic_configs, change_topic_configs))
        .routes(routes!(broker_configs, change_broker_configs))
}

/// Every configuration that there is, by name.
#[derive(Serialize, ToSchema)]
struct Configs {
    configs: Vec<Config>,
}

#[derive(Serialize, ToSchema)]
struct Config {
    /// Kafka's name.
    name: String,
    /// The value that counts.
    value: Option<String>,
    /// The value that would without any setting.
    default: Option<String>,
    /// Who has set it: `topic`, `dynamic_broker`, `dynamic_default`, `broker` (its file, environment or flags), or
    /// `default` for nobody.
    source: &'static str,
    /// Whether it is read at the start only.
    read_only: bool,
    /// `boolean`, `string`, `int`, `long`, `double` or `list`.
    r#type: &'static str,
    documentation: Option<String>,
}

/// Entries to be changed; all of them, or none if one is not accepted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Names with their new values.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Names that go back to what holds without them.
    #[serde(default)]
    unset: Vec<String>,
}

impl Config {
    fn of(result: DescribeConfigsResourceResult) -> Config {
        let default = result.synonyms.iter().find(|synonym| synonym.source == Source::Default as i8);
        Config {
            default: default.and_then(|synonym| synonym.value.as_deref()).map(str::to_owned),
            name: result.name.to_string(),
            value: result.value.as_deref().map(str::to_owned),
            source: source_name(result.config_source),
            read_only: result.read_only,
            r#type: type_name(result.config_type),
            documentation: result.documentation.as_deref().map(str::to_owned),
        }
    }
}

fn source_name(source: i8) -> &'static str {
    const NAMES: [(Source, &str); 7] = [
        (Source::Topic, "topic"),
        (Source::DynamicBroker, "dynamic_broker"),
        (Source::DynamicDefault, "dynamic_default"),
        (Source::Broker, "broker"),
        (Source::Default, "default"),
        (Source::ClientMetrics, "client_metrics"),
        (Source::Group, "group"),
    ];
    NAMES.iter().find(|(known, _)| *known as i8 == source).map_or("unknown", |(_, name)| name)
}

fn type_name(config_type: i8) -> &'static str {
    const NAMES: [(ConfigType, &str); 6] = [
        (ConfigType::Boolean, "boolean"),
        (ConfigType::String, "string"),
        (ConfigType::Int, "int"),
        (ConfigType::Long, "long"),
        (ConfigType::Double, "double"),
        (ConfigType::List, "list"),
    ];
    NAMES.iter().find(|(known, _)| *known as i8 == config_type).map_or("unknown", |(_, name)| name)
}

/// A topic's configuration.
#[utoipa::path(
    get, path = "/api/v1/topics/{topic}/configs", tag = "topics",
    params(("topic", description = "The topic's name")),
    responses(
        (status = 200, body = Configs),
        (status = 404, description = "There is no such topic", body = ErrorBody),
    ),
)]
async fn topic_configs(
    State(context): State<Arc<Context>>,
    Path(topic): Path<String>,
) -> Result<Json<Configs>, ApiError> {
    describe(&context, TOPIC, &topic).await
}

/// Changes a topic's configuration. It acts, and is durable, when this is answered with what holds then.
#[utoipa::path(
    patch, path = "/api/v1/topics/{topic}/configs", tag = "topics", request_body = Change,
    params(("topic", description = "The topic's name")),
    responses(
        (status = 200, body = Configs),
        (status = 400, description = "A name or a value that is not accepted; nothing has changed", body = ErrorBody),
        (status = 404, description = "There is no such topic", body = ErrorBody),
        (status = 503, description = "Not ready, or the disk refused", body = ErrorBody),
    ),
)]
async fn change_topic_configs(
    State(context): State<Arc<Context>>,
    Path(topic): Path<String>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<Configs>, ApiError> {
    alter(&context, TOPIC, &topic, change).await
}

/// This broker's configuration, by Kafka's names.
#[utoipa::path(get, path = "/api/v1/broker/configs", tag = "broker", responses((status = 200, body = Configs)))]
async fn broker_configs(State(context): State<Arc<Context>>) -> Result<Json<Configs>, ApiError> {
    describe(&context, BROKER, &context.config.node_id.to_string()).await
}

/// Changes this broker's configuration, where that is possible while it runs.
#[utoipa::path(
    patch, path = "/api/v1/broker/configs", tag = "broker", request_body = Change,
    responses(
        (status = 200, body = Configs),
        (status = 400, description = "A name or a value that is not accepted; nothing has changed", body = ErrorBody),
        (status = 503, description = "Not ready, or the disk refused", body = ErrorBody),
    ),
)]
async fn change_broker_configs(
    State(context): State<Arc<Context>>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<Configs>, ApiError> {
    alter(&context, BROKER, &context.config.node_id.to_string(), change).await
}

async fn describe(context: &Arc<Context>, kind: i8, name: &str) -> Result<Json<Configs>, ApiError> {
    let resource = message!(DescribeConfigsResource {
        resource_type: kind,
        resource_name: StrBytes::from(name),
        configuration_keys: None,
    });
    let request = message!(DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    });
    let mut configs = Vec::new();
    for result in call(context, request).await?.results {
        outcome(result.error_code, result.error_message.as_deref())?;
        configs.extend(result.configs.into_iter().map(Config::of));
    }
    configs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(Configs { configs }))
}

async fn alter(
    context: &Arc<Context>,
    kind: i8,
    name: &str,
    change: Change,
) -> Result<Json<Configs>, ApiError> {
    check_ready(context)?;
    let set = change.set.into_iter().map(|(name, value)| (name, SET, Some(StrBytes::from(value))));
    let unset = change.unset.into_iter().map(|name| (name, UNSET, None));
    let configs = set.chain(unset).map(|(name, config_operation, value)| {
        message!(AlterableConfig { name: StrBytes::from(name), config_operation, value })
    });
    let resource = message!(AlterConfigsResource {
        resource_type: kind,
        resource_name: StrBytes::from(name),
        configs: configs.collect(),
    });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource] });
    for result in call(context, request).await?.responses {
        outcome(result.error_code, result.error_message.as_deref())?;
    }
    describe(context, kind, name).await
}
