//! Producing: records become a batch for each partition, and go the way of a Kafka producer's with acks=all.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use log_core::record::{BatchBuilder, Compression, partition_of_key};
use log_core::wire::produce::{ProducePartition, ProducePartitionResponse, ProduceTopic};
use log_core::wire::{ApiKey, ProduceRequest, ProduceResponse, TopicRef};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::input::{NewRecord, NewRecords};
use crate::clock::now_ms;
use crate::handler::Context;
use crate::http::call::{ask, outcome};
use crate::http::extract::{Path, Query, Shared, Whole, parse_json};
use crate::http::gate::Gate;
use crate::http::health::check_ready;
use crate::http::topics::find;
use crate::http::{ApiError, ErrorBody};

/// Bytes of a body that are made into batches at once, in well under a millisecond. A larger one has a thread that may
/// take its time.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// How long to wait for the disk, as Kafka's producers do by default.
const TIMEOUT_MS: i32 = 30_000;

/// Of a record whose value is the whole body.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Place {
    /// The key of a record whose value is the whole body.
    key: Option<String>,
    /// Its partition; the one that the key belongs to without it.
    partition: Option<i32>,
}

/// Where the records are, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(super) struct Produced {
    offsets: Vec<ProducedRecord>,
}

#[derive(Serialize, ToSchema)]
struct ProducedRecord {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
}

/// Produces records. They are on disk when this is answered.
///
/// JSON is a list of records; a body of any other content type is the value of one. The records of one partition are
/// written all or none. Everything holds that holds for a Kafka producer: `max.message.bytes`, `compression.type`,
/// compacted topics, quotas (client id `http`), a full disk.
#[utoipa::path(
    post, path = "/api/v1/topics/{topic}/records", tag = "records",
    params(("topic", description = "The topic's name"), Place),
    request_body(content((NewRecords = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, body = Produced),
        (status = 400, description = "A record that is not accepted; nothing of its partition is written", body = ErrorBody),
        (status = 404, description = "There is no such topic or partition", body = ErrorBody),
        (status = 413, description = "The body, or the records of a partition, are too large", body = ErrorBody),
        (status = 429, description = "The quota of client id `http` is spent", body = ErrorBody),
        (status = 503, description = "Not ready, a full disk, or load that is shed: try again", body = ErrorBody),
        (status = 504, description = "Not on disk in time; the records may be there later", body = ErrorBody),
    ),
)]
pub(super) async fn produce(
    State(context): State<Arc<Context>>,
    Shared(gate): Shared,
    Path(topic): Path<String>,
    Query(place): Query<Place>,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Json<Produced>, ApiError> {
    check_ready(&context)?;
    let (topic, partitions) = find(&context, &topic)?;
    let (body, partitions, turns) = (whole.body, partitions.len(), gate.clone());
    let batches =
        unhurried(body.len(), move || Batches::of(records(place, &headers, body)?, partitions, &turns))
            .await?;
    let connection = gate.producer().await?;
    let version = ApiKey::Produce.served().max;
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: TIMEOUT_MS,
        // By id: a topic that is created again under the name is another one.
        topics: vec![ProduceTopic { topic: TopicRef::Id(topic.id), partitions: batches.partitions }],
    };
    let body = request.encode(version).map_err(ApiError::bad_request)?.concat();
    let answer = ask(&context, ApiKey::Produce, version, body.into(), connection).await?;
    drop(whole.share);
    let answer = ProduceResponse::decode(answer, version).map_err(ApiError::bad_request)?;
    let answers = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    let mut written: BTreeMap<i32, ProducePartitionResponse> = BTreeMap::new();
    for answer in answers {
        accepted(&answer)?;
        written.insert(answer.index, answer);
    }
    let offsets = batches.places.into_iter().filter_map(|place| {
        let answer = written.get(&place.partition)?;
        let append_time = answer.log_append_time_ms;
        Some(ProducedRecord {
            partition: place.partition,
            offset: answer.base_offset + place.delta,
            timestamp_ms: if append_time < 0 { place.timestamp_ms } else { append_time },
        })
    });
    Ok(Json(Produced { offsets: offsets.collect() }))
}

/// Runs what takes its time by `bytes`: on a blocking thread if those are many.
async fn unhurried<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= AT_ONCE_BYTES_MAX {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The records that a request brings.
fn records(place: Place, headers: &HeaderMap, body: Bytes) -> Result<Vec<NewRecord>, ApiError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let key = place.key.map(Bytes::from);
        let (partition, value) = (place.partition, Some(body));
        return Ok(vec![NewRecord { partition, key, value, headers: Vec::new(), timestamp_ms: None }]);
    }
    if place.key.is_some() || place.partition.is_some() {
        return Err(ApiError::bad_request("with JSON, key and partition belong to each record"));
    }
    let new: NewRecords = parse_json(&body)?;
    if new.records.is_empty() {
        return Err(ApiError::bad_request("there is no record in records"));
    }
    Ok(new.records)
}

/// What becomes of a partition's batch.
fn accepted(answer: &ProducePartitionResponse) -> Result<(), ApiError> {
    let mut why = answer.error_message.as_deref().map(str::to_owned);
    for record in &answer.record_errors {
        let of_record = record.message.as_deref().unwrap_or("not accepted");
        let before = why.map(|why| why + "; ").unwrap_or_default();
        why = Some(format!("{before}its record {}: {of_record}", record.batch_index));
    }
    let why = why.map(|why| format!("nothing was written to partition {}: {why}", answer.index));
    outcome(answer.error_code, why.as_deref())
}

/// The place of a record: its partition, and its number within the partition's batch.
struct RecordPlace {
    partition: i32,
    delta: i64,
    timestamp_ms: i64,
}

/// Batches by partition, and where each record is in them.
struct Batches {
    partitions: Vec<ProducePartition>,
    places: Vec<RecordPlace>,
}

impl Batches {
    fn of(records: Vec<NewRecord>, partitions: usize, gate: &Gate) -> Result<Batches, ApiError> {
        let now_ms = now_ms();
        let mut builders: BTreeMap<i32, BatchBuilder> = BTreeMap::new();
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let partition = match (record.partition, &record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partition_of_key(key, partitions),
                (None, None) => gate.next_partition(partitions) as i32,
            };
            if !usize::try_from(partition).is_ok_and(|partition| partition < partitions) {
                return Err(ApiError::not_found(format!(
                    "there is no partition {partition}; the topic has {partitions} of them"
                )));
            }
            let timestamp_ms = record.timestamp_ms.unwrap_or(now_ms);
            let builder = builders.entry(partition).or_insert_with(|| BatchBuilder::new(Compression::None));
            let delta = builder
                .append(timestamp_ms, record.key.as_deref(), record.value.as_deref(), &record.headers)
                .map_err(ApiError::bad_request)?;
            places.push(RecordPlace { partition, delta: delta.into(), timestamp_ms });
        }
        let built = builders.into_iter().map(|(index, builder)| {
            let records = builder.build(0).map_err(ApiError::bad_request)?;
            Ok(ProducePartition { index, records: Some(records) })
        });
        Ok(Batches { partitions: built.collect::<Result<_, ApiError>>()?, places })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn only_what_is_large_leaves_the_thread_that_answers() {
        let here = thread::current().id();
        assert_eq!(unhurried(AT_ONCE_BYTES_MAX, || thread::current().id()).await, here);
        assert_ne!(unhurried(AT_ONCE_BYTES_MAX + 1, || thread::current().id()).await, here);
    }
}
