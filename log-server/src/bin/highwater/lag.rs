//! `highwater lag`: what each group is behind by, in records and in seconds.
//!
//! By way of Kafka's protocol alone, so that it works on any cluster: what is committed, where the log
//! ends, and the timestamp of the first record that has not been consumed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use log_client::consumer::{OffsetReset, StartAt};
use log_client::{Admin, Client, Consumer, ConsumerConfig, OffsetSpec, TopicPartition};
use serde::Serialize;
use tokio::time::Instant;

use crate::Outcome;
use crate::connect::{self, Bootstrap, text};
use crate::human;
use crate::say;
use crate::table::table;

/// How long to wait for the first unconsumed records. A partition that does not answer shows no seconds.
const TIMESTAMPS_PATIENCE: Duration = Duration::from_secs(5);

/// Show how far groups are behind, in records and in seconds.
///
/// Seconds are the age of the first record that the group has not consumed; 0 when it has caught up.
#[derive(Args)]
pub struct Lag {
    /// Groups to show; all without it
    groups: Vec<String>,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Only this topic
    #[arg(long, short)]
    topic: Option<String>,
    /// One line a group instead of one a partition
    #[arg(long)]
    summary: bool,
    /// Show again and again, every so many seconds
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
    /// JSON instead of a table, one object a partition and line
    #[arg(long)]
    json: bool,
}

/// What a group is behind by in one partition.
#[derive(Clone, Debug, Serialize)]
struct Row {
    group: String,
    topic: String,
    partition: i32,
    committed_offset: i64,
    log_end_offset: i64,
    lag_records: i64,
    /// `None` where the first unconsumed record could not be had.
    lag_seconds: Option<f64>,
}

impl Lag {
    /// Shows it once, or until interrupted.
    pub fn run(self) -> Outcome {
        connect::run(async move {
            tokio::select! {
                outcome = self.show() => outcome,
                _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
            }
        })
    }

    async fn show(&self) -> Outcome {
        let client = self.bootstrap.connect().await?;
        loop {
            let rows = self.measure(&client).await?;
            if self.watch.is_some() && !self.json {
                // Home, and clear from there: less flicker than clearing first.
                say!("\x1b[H\x1b[J{}\n", human::time(Timestamp::now().as_millisecond()));
            }
            self.print(&rows)?;
            match self.watch {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    async fn measure(&self, client: &Client) -> Result<Vec<Row>, String> {
        let admin = Admin::new(client);
        let groups = match self.groups.is_empty() {
            false => self.groups.clone(),
            true => admin.list_groups().await.map_err(text)?.into_iter().map(|group| group.id).collect(),
        };
        admin.describe_cluster().await.map_err(text)?;
        let mut rows = Vec::new();
        for group in &groups {
            let committed = admin.group_offsets(group).await.map_err(text)?;
            let wanted = committed
                .into_iter()
                .filter(|(partition, _)| self.topic.as_ref().is_none_or(|topic| **topic == *partition.topic));
            let committed: BTreeMap<_, _> =
                wanted.map(|(partition, committed)| (partition, committed.offset)).collect();
            if committed.is_empty() && !self.groups.is_empty() {
                return Err(format!(
                    "group {group} has committed nothing{}\n  `highwater group list` shows the groups that there are.",
                    self.topic.as_ref().map(|topic| format!(" for topic {topic}")).unwrap_or_default()
                ));
            }
            rows.extend(measure_group(client, &admin, group, &committed).await?);
        }
        Ok(rows)
    }

    fn print(&self, rows: &[Row]) -> Result<(), String> {
        if self.json {
            for row in rows {
                say!("{}", serde_json::to_string(row).map_err(text)?);
            }
            return Ok(());
        }
        if self.summary {
            let mut shown = table(&["GROUP", "#PARTITIONS", "#LAG RECORDS", "#LAG SECONDS"]);
            let groups: BTreeSet<&str> = rows.iter().map(|row| row.group.as_str()).collect();
            for group in groups {
                let of_group = || rows.iter().filter(|row| row.group == group);
                let records = of_group().map(|row| row.lag_records).sum();
                let seconds = of_group().filter_map(|row| row.lag_seconds).fold(0.0, f64::max);
                let partitions = of_group().count().to_string();
                shown.add_row([group.to_owned(), partitions, human::count(records), format!("{seconds:.1}")]);
            }
            say!("{shown}");
            return Ok(());
        }
        let mut shown =
            table(&["GROUP", "TOPIC", "#PARTITION", "#COMMITTED", "#END", "#LAG RECORDS", "#LAG SECONDS"]);
        for row in rows {
            shown.add_row([
                row.group.clone(),
                row.topic.clone(),
                row.partition.to_string(),
                human::count(row.committed_offset),
                human::count(row.log_end_offset),
                human::count(row.lag_records),
                row.lag_seconds.map_or("?".to_owned(), |seconds| format!("{seconds:.1}")),
            ]);
        }
        say!("{shown}");
        Ok(())
    }
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
        })
    });
    Ok(rows.collect())
}

/// The timestamp of the record at or after each offset.
async fn timestamps(
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
