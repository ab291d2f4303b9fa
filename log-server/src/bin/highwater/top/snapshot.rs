//! What one look at the broker brings: the broker, its topics, the hottest partitions, and the groups.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::http::{HttpAddress, HttpError};

/// Topics whose partitions are asked for: those with the highest rates.
const TOPICS_ASKED_MAX: usize = 8;

/// The broker as a whole.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Broker {
    pub version: String,
    pub uptime_seconds: f64,
    pub health: String,
    pub disk: Option<Disk>,
    pub memory: Option<Memory>,
    pub connections: i64,
    pub partitions: usize,
    pub produce: Produce,
    pub fetch: Fetch,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Disk {
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub state: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Memory {
    pub resident_bytes: u64,
    pub own_bytes: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Produce {
    pub records_per_second: f64,
    pub bytes_per_second: f64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Fetch {
    pub bytes_per_second: f64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Topic {
    pub topic: String,
    pub internal: bool,
    pub partitions: usize,
    pub records: i64,
    pub bytes: u64,
    pub produce_records_per_second: f64,
    pub produce_bytes_per_second: f64,
    pub fetch_bytes_per_second: f64,
}

#[derive(Debug, Deserialize)]
struct TopicDetail {
    topic: String,
    partition_list: Vec<PartitionDetail>,
}

#[derive(Debug, Deserialize)]
struct PartitionDetail {
    partition: i32,
    bytes: u64,
    high_watermark: i64,
    produce_records_per_second: f64,
}

/// A partition and how much comes in. `name` is `topic-N`.
#[derive(Debug, Default, Serialize)]
pub struct Partition {
    pub name: String,
    pub produce_records_per_second: f64,
    pub high_watermark: i64,
    pub bytes: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Group {
    pub group: String,
    pub state: String,
    pub members: usize,
    pub lag_records: i64,
    pub lag_seconds: Option<f64>,
    pub consume_records_per_second: Option<f64>,
    pub catch_up_seconds: Option<f64>,
    pub slo_state: Option<String>,
}

#[derive(Deserialize)]
struct Topics {
    topics: Vec<Topic>,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub broker: Broker,
    pub topics: Vec<Topic>,
    /// Of the busiest topics, the busiest first.
    pub partitions: Vec<Partition>,
    pub groups: Vec<Group>,
}

impl Snapshot {
    /// Asks for it.
    ///
    /// # Errors
    /// HTTP is off, or does not answer as the API says.
    pub async fn take(http: &HttpAddress) -> Result<Snapshot, HttpError> {
        let broker: Broker = http.get("/api/v1/broker").await?;
        let Topics { topics } = http.get("/api/v1/topics").await?;
        let Groups { groups } = http.get("/api/v1/groups").await?;
        let mut busiest: Vec<&Topic> = topics.iter().filter(|topic| topic.partitions > 0).collect();
        busiest.sort_by_key(|topic| Reverse(rank(topic.produce_records_per_second)));
        let mut partitions = Vec::new();
        for topic in busiest.into_iter().take(TOPICS_ASKED_MAX) {
            // One that has been deleted since is left out.
            let detail: Result<TopicDetail, _> = http.get(&format!("/api/v1/topics/{}", topic.topic)).await;
            let Ok(detail) = detail else { continue };
            partitions.extend(detail.partition_list.into_iter().map(|it| Partition {
                name: format!("{}-{}", detail.topic, it.partition),
                produce_records_per_second: it.produce_records_per_second,
                high_watermark: it.high_watermark,
                bytes: it.bytes,
            }));
        }
        partitions.sort_by_key(|it| (Reverse(rank(it.produce_records_per_second)), Reverse(it.bytes)));
        Ok(Snapshot { broker, topics, partitions, groups })
    }
}

/// A rate as a number that can be ordered, to a thousandth.
pub fn rank(rate: f64) -> u64 {
    (rate.max(0.0) * 1000.0) as u64
}
