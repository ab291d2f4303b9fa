//! One Fetch: the question for a broker's partitions, and its answer sorted by partition.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use log_core::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use log_core::wire::fetch_response::{AbortedTransaction, FetchResponse};
use log_core::wire::{ApiKey, ErrorCode, IsolationLevel, TopicRef};

use super::config::ConsumerConfig;
use super::positions::Ask;
use crate::client::{Client, Role};
use crate::error::ClientError;

/// The last version of Fetch that names topics; the later ones take ids.
const FETCH_BY_NAME_MAX: i16 = 12;

/// What a broker says of one partition.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: ErrorCode,
    pub(super) high_watermark: i64,
    pub(super) records: Bytes,
    pub(super) aborted: Option<Vec<AbortedTransaction>>,
}

/// The answer to each question; `None` for a partition that the broker left out.
pub(super) type Answers = Vec<(Ask<i64>, Option<Answer>)>;

/// Fetches from one broker.
pub(super) async fn fetch(
    client: Client,
    role: Role,
    address: Arc<str>,
    asks: Vec<Ask<i64>>,
    config: Arc<ConsumerConfig>,
) -> Result<Answers, ClientError> {
    let connection = client.connection(&address, role).await?;
    let metadata = client.metadata();
    let topic_id = |name: &str| metadata.topics.get(name).map(|topic| topic.id).filter(|id| !id.is_zero());
    let has_ids = asks.iter().all(|ask| topic_id(&ask.partition.topic).is_some());
    let version = connection.version(ApiKey::Fetch, if has_ids { i16::MAX } else { FETCH_BY_NAME_MAX })?;
    let name = |topic: &str| match topic_id(topic) {
        Some(id) if version > FETCH_BY_NAME_MAX => TopicRef::Id(id),
        _ => TopicRef::from(topic),
    };

    let mut topics: Vec<FetchTopic> = Vec::new();
    for ask in &asks {
        let partition = FetchPartition {
            index: ask.partition.partition,
            current_leader_epoch: -1,
            fetch_offset: ask.what,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            max_bytes: config.partition_bytes_max,
        };
        let named = name(&ask.partition.topic);
        match topics.iter_mut().find(|topic| topic.topic == named) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic { topic: named, partitions: vec![partition] }),
        }
    }
    let request = FetchRequest {
        max_wait_ms: i32::try_from(config.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
        min_bytes: config.fetch_bytes_min,
        max_bytes: config.fetch_bytes_max,
        isolation_level: config.isolation.code(),
        topics,
        ..FetchRequest::default()
    };
    let body = request.encode(version).map_err(|error| ClientError::encode(ApiKey::Fetch, error))?;
    let mut pending = connection.send(ApiKey::Fetch, version, vec![body]).await?;
    pending.allow(config.fetch_wait_max);
    let body = pending.await_response().await?;
    let response = FetchResponse::decode(body, version)
        .map_err(|error| ClientError::decode(ApiKey::Fetch, connection.address(), error))?;
    ErrorCode::from(response.error_code)
        .into_result()
        .map_err(|code| ClientError::broker(format!("fetch from {address}"), code))?;

    let mut answers: HashMap<(TopicRef, i32), Answer> = HashMap::new();
    for topic in response.topics {
        for partition in topic.partitions {
            let answer = Answer {
                code: partition.error_code.into(),
                high_watermark: match config.isolation {
                    IsolationLevel::ReadUncommitted => partition.high_watermark,
                    IsolationLevel::ReadCommitted => partition.last_stable_offset,
                },
                records: partition.records.into_iter().next().unwrap_or_default(),
                aborted: partition.aborted_transactions,
            };
            answers.insert((topic.topic.clone(), partition.index), answer);
        }
    }
    let answered = asks.into_iter().map(|ask| {
        let answer = answers.remove(&(name(&ask.partition.topic), ask.partition.partition));
        (ask, answer)
    });
    Ok(answered.collect())
}
