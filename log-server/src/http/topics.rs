//! Topics: what there is, creating, deleting.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use log_core::log::{CountBudget, Isolation, Search, kafka_id};
use log_core::wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use log_core::wire::messages::delete_topics_request::DeleteTopicState;
use log_core::wire::messages::{CreateTopicsRequest, DeleteTopicsRequest};
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
use crate::partition::{Partition, TrafficRates};
use crate::topic::{Priority, Topic};

/// How long creating or deleting may take, as Kafka's clients are used to.
const CHANGE_TIMEOUT_MS: i32 = 60_000;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new().routes(routes!(topics, create)).routes(routes!(topic, delete))
}

/// All topics, by name.
#[derive(Serialize, ToSchema)]
struct Topics {
    topics: Vec<TopicRow>,
}

/// A topic as a whole.
#[derive(Serialize, ToSchema)]
struct TopicRow {
    topic: Arc<str>,
    /// As Kafka's tools write it.
    topic_id: String,
    /// Whether it is the broker's own.
    internal: bool,
    partitions: usize,
    /// Offsets from the log start to the high watermark, of all partitions together.
    records: i64,
    /// On disk, of all partitions together.
    bytes: u64,
    /// The class that it is shed in: low, normal or high.
    priority: &'static str,
    produce_records_per_second: f64,
    produce_bytes_per_second: f64,
    fetch_bytes_per_second: f64,
}

/// A topic with its partitions.
#[derive(Serialize, ToSchema)]
struct TopicDetail {
    #[serde(flatten)]
    row: TopicRow,
    partition_list: Vec<PartitionRow>,
}

#[derive(Serialize, ToSchema)]
struct PartitionRow {
    partition: i32,
    log_start_offset: i64,
    high_watermark: i64,
    last_stable_offset: i64,
    log_end_offset: i64,
    bytes: u64,
    segments: usize,
    /// The time of the last record; null without one.
    newest_timestamp_ms: Option<i64>,
    produce_records_per_second: f64,
}

/// A topic to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTopic {
    topic: String,
    /// The broker's default without it.
    partitions: Option<i32>,
    /// By Kafka's names, such as `retention.ms`.
    #[serde(default)]
    configs: BTreeMap<String, String>,
}

impl TopicRow {
    fn of(topic: &Topic, partitions: &[Arc<Partition>]) -> TopicRow {
        let rates = partitions
            .iter()
            .fold(TrafficRates::default(), |sum, partition| sum + partition.traffic().rates());
        TopicRow {
            topic: topic.name.clone(),
            topic_id: kafka_id(uuid::Uuid::from_bytes(topic.id.to_bytes())),
            internal: topic.is_internal(),
            partitions: partitions.len(),
            records: partitions.iter().map(|partition| records(partition)).sum(),
            bytes: partitions.iter().map(|partition| partition.reader().size_bytes()).sum(),
            priority: Priority::of(topic).name(),
            produce_records_per_second: rates.produce_records_per_second,
            produce_bytes_per_second: rates.produce_bytes_per_second,
            fetch_bytes_per_second: rates.fetch_bytes_per_second,
        }
    }
}

fn records(partition: &Partition) -> i64 {
    let watermarks = partition.reader().watermarks();
    watermarks.high_watermark() - watermarks.log_start()
}

impl PartitionRow {
    /// Waits for the disk if it has to.
    fn of(partition: &Partition) -> PartitionRow {
        let reader = partition.reader();
        let watermarks = reader.watermarks();
        let last = watermarks.high_watermark() - 1;
        // A log that is damaged there has no newest record to speak of. One that ends with the end of a transaction has
        // it further back.
        let isolation = Isolation::Uncommitted;
        let newest = match reader.first_visible(last.max(0), isolation, &CountBudget::unlimited()) {
            Ok(Search::Found(newest)) => Ok(Some(newest)),
            Ok(_) => reader.max_timestamp(isolation),
            Err(error) => Err(error),
        };
        let newest = newest.ok().flatten();
        PartitionRow {
            partition: partition.index(),
            log_start_offset: watermarks.log_start(),
            high_watermark: watermarks.high_watermark(),
            last_stable_offset: watermarks.last_stable(),
            log_end_offset: watermarks.log_end(),
            bytes: reader.size_bytes(),
            segments: reader.segment_count(),
            newest_timestamp_ms: newest.map(|newest| newest.timestamp).filter(|timestamp| *timestamp >= 0),
            produce_records_per_second: partition.traffic().rates().produce_records_per_second,
        }
    }
}

/// All topics, by name, internal ones included.
#[utoipa::path(get, path = "/api/v1/topics", tag = "topics", responses((status = 200, body = Topics)))]
async fn topics(State(context): State<Arc<Context>>) -> Json<Topics> {
    let topics = context.catalog.topics();
    // A topic that is being created or deleted may be in one of the two and not in the other.
    let rows = topics.iter().filter_map(|topic| {
        let partitions = context.partitions.topic(&topic.name)?;
        Some(TopicRow::of(topic, &partitions))
    });
    Json(Topics { topics: rows.collect() })
}

/// One topic, with its partitions.
#[utoipa::path(
    get, path = "/api/v1/topics/{topic}", tag = "topics",
    params(("topic", description = "The topic's name")),
    responses(
        (status = 200, body = TopicDetail),
        (status = 404, description = "There is no such topic", body = ErrorBody),
    ),
)]
async fn topic(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<Json<TopicDetail>, ApiError> {
    detail(&context, &name).await.map(Json)
}

/// Creates a topic. It is durable when this is answered.
#[utoipa::path(
    post, path = "/api/v1/topics", tag = "topics", request_body = NewTopic,
    responses(
        (status = 201, body = TopicDetail),
        (status = 400, description = "A name, a count or a configuration that is not accepted", body = ErrorBody),
        (status = 403, description = "More partitions than the broker may have", body = ErrorBody),
        (status = 409, description = "There is one of that name", body = ErrorBody),
        (status = 503, description = "Not ready, or the disk refused", body = ErrorBody),
    ),
)]
async fn create(
    State(context): State<Arc<Context>>,
    JsonBody(new): JsonBody<NewTopic>,
) -> Result<(StatusCode, Json<TopicDetail>), ApiError> {
    check_ready(&context)?;
    let configs = new.configs.into_iter().map(|(name, value)| {
        message!(CreatableTopicConfig { name: StrBytes::from(name), value: Some(StrBytes::from(value)) })
    });
    let topic = message!(CreatableTopic {
        name: StrBytes::from(new.topic.as_str()),
        num_partitions: new.partitions.unwrap_or(-1),
        replication_factor: -1,
        configs: configs.collect(),
    });
    let request = message!(CreateTopicsRequest { topics: vec![topic], timeout_ms: CHANGE_TIMEOUT_MS });
    for result in call(&context, request).await?.topics {
        outcome(result.error_code, result.error_message.as_deref())?;
    }
    Ok((StatusCode::CREATED, Json(detail(&context, &new.topic).await?)))
}

/// Deletes a topic with all its records. It is gone for good when this is answered.
#[utoipa::path(
    delete, path = "/api/v1/topics/{topic}", tag = "topics",
    params(("topic", description = "The topic's name")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "The broker's own", body = ErrorBody),
        (status = 404, description = "There is no such topic", body = ErrorBody),
        (status = 503, description = "Not ready, or the disk refused", body = ErrorBody),
    ),
)]
async fn delete(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    check_ready(&context)?;
    let topic = message!(DeleteTopicState { name: Some(StrBytes::from(name)) });
    let request = message!(DeleteTopicsRequest { topics: vec![topic], timeout_ms: CHANGE_TIMEOUT_MS });
    for result in call(&context, request).await?.responses {
        outcome(result.error_code, result.error_message.as_deref())?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn detail(context: &Context, name: &str) -> Result<TopicDetail, ApiError> {
    let (topic, partitions) = find(context, name)?;
    let row = TopicRow::of(&topic, &partitions);
    let list = move || partitions.iter().map(|partition| PartitionRow::of(partition)).collect();
    let partition_list = context.cold_reads.run(list).await;
    Ok(TopicDetail { row, partition_list })
}

/// The partitions of a topic, by index.
type Partitions = Arc<[Arc<Partition>]>;

/// A topic and its partitions.
///
/// # Errors
/// 404.
pub(super) fn find(context: &Context, name: &str) -> Result<(Arc<Topic>, Partitions), ApiError> {
    context
        .catalog
        .get(name)
        .zip(context.partitions.topic(name))
        .ok_or_else(|| ApiError::not_found(format!("there is no topic {name}")))
}
