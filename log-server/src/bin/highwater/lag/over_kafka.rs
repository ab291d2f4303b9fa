//! Lag by way of Kafka's protocol alone, so that it can be had of any cluster: what is committed, where the log ends,
//! and the timestamp of the first record that has not been consumed. Records are offsets here.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use log_client::consumer::{OffsetReset, StartAt};
use log_client::{Admin, Client, Consumer, ConsumerConfig, OffsetSpec, TopicPartition};
use tokio::time::Instant;

use super::{Row, nothing_committed};
use crate::connect::text;

/// How long to wait for the first unconsumed records. A partition that does not answer shows no seconds.
const TIMESTAMPS_PATIENCE: Duration = Duration::from_secs(5);

/// The lag of `groups`, of all if there are none, in `topic` or everywhere.
///
/// # Errors
/// The cluster does not answer, or one of `groups` has committed nothing.
pub async fn measure(client: &Client, groups: &[String], topic: Option<&str>) -> Result<Vec<Row>, String> {
    let admin = Admin::new(client);
    let all = match groups.is_empty() {
        false => groups.to_vec(),
        true => admin.list_groups().await.map_err(text)?.into_iter().map(|group| group.id).collect(),
    };
    admin.describe_cluster().await.map_err(text)?;
    let mut rows = Vec::new();
    for group in &all {
        let committed = admin.group_offsets(group).await.map_err(text)?;
        let wanted = committed
            .into_iter()
            .filter(|(partition, _)| topic.is_none_or(|topic| topic == &*partition.topic));
        let committed: BTreeMap<_, _> =
            wanted.map(|(partition, committed)| (partition, committed.offset)).collect();
        if committed.is_empty() && !groups.is_empty() {
            return Err(nothing_committed(group, topic));
        }
        rows.extend(measure_group(client, &admin, group, &committed).await?);
    }
    Ok(rows)
}

async fn measure_group(
    client: &Client,
    admin: &Admin,
    group: &str,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<Row>, String> {
    let ask = async |spec| {
        let asked: Vec<_> = committed.keys().map(|partition| (partition.clone(), spec)).collect();
        let answers = admin.list_offsets(&asked).await.into_iter();
        answers
            .filter_map(|(partition, answer)| Some((partition, answer.ok()?.offset?)))
            .collect::<BTreeMap<_, _>>()
    };
    let (first, end) = (ask(OffsetSpec::Earliest).await, ask(OffsetSpec::Latest).await);
    // What retention has deleted under the group is neither to be consumed nor to be waited for.
    let next =
        |partition: &TopicPartition, offset: i64| offset.max(first.get(partition).copied().unwrap_or(0));
    let behind: BTreeMap<TopicPartition, i64> = committed
        .iter()
        .filter(|(partition, offset)| end.get(*partition).is_some_and(|&end| next(partition, **offset) < end))
        .map(|(partition, &offset)| (partition.clone(), next(partition, offset)))
        .collect();
    let timestamps = timestamps(client, &behind).await.map_err(text)?;
    let now = Timestamp::now().as_millisecond();
    let rows = committed.iter().filter_map(|(partition, &offset)| {
        // Gone with its topic.
        let end = *end.get(partition)?;
        let lag_seconds = match behind.contains_key(partition) {
            false => Some(0.0),
            true => timestamps.get(partition).map(|timestamp| (now - timestamp).max(0) as f64 / 1000.0),
        };
        Some(Row {
            group: group.to_owned(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
            committed_offset: offset,
            log_end_offset: end,
            lag_records: (end - next(partition, offset)).max(0),
            lag_seconds,
            ..Row::default()
        })
    });
    Ok(rows.collect())
}

/// The timestamp of the record at or after each offset.
pub async fn timestamps(
    client: &Client,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, i64>, log_client::consumer::ConsumeError> {
    let config = ConsumerConfig {
        // One batch of each partition is enough.
        partition_bytes_max: 64 << 10,
        poll_records_max: 1,
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(client, config);
    consumer.assign(offsets.iter().map(|(partition, &offset)| (partition.clone(), StartAt::Offset(offset))));
    let mut timestamps = BTreeMap::new();
    let deadline = Instant::now() + TIMESTAMPS_PATIENCE;
    while timestamps.len() < offsets.len() && Instant::now() < deadline {
        for record in consumer.poll(Duration::from_millis(200)).await? {
            consumer.pause(&record.topic_partition())?;
            timestamps.entry(record.topic_partition()).or_insert(record.timestamp_ms);
        }
    }
    Ok(timestamps)
}
