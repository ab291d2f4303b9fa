//! Where a replay writes: a topic, of the same cluster or another, or a file of records in JSON.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use log_client::admin::ConfigResource;
use log_client::producer::{Delivery, ProduceError};
use log_client::{
    Admin, Client, Compression, ConsumerRecord, ErrorCode, Producer, ProducerConfig, ProducerRecord,
};

use super::stops::Stops;
use crate::connect::text;
use crate::format::Format;

/// Unanswered records that are remembered. Beyond that, writing waits for the oldest.
const DELIVERIES_MAX: usize = 100_000;

/// Where records go.
pub enum Target {
    Topic(Box<TopicTarget>),
    File(FileTarget),
}

/// A topic and what is on its way there.
pub struct TopicTarget {
    producer: Producer,
    topic: Arc<str>,
    by_key: bool,
    /// Partition and offset at the source, in the order of sending, and the answer to come.
    in_flight: VecDeque<(i32, i64, Delivery)>,
}

/// A file and what is written to it but not yet safe there.
pub struct FileTarget {
    out: BufWriter<Box<dyn Write + Send>>,
    /// For syncing; standard output has nothing to sync.
    file: Option<File>,
    name: String,
    written: BTreeMap<i32, i64>,
}

impl Target {
    /// A topic that is there and has the partitions that will be named.
    ///
    /// # Errors
    /// It is not there, or has fewer.
    pub async fn topic(
        client: &Client,
        name: &str,
        partitions_needed: i32,
        by_key: bool,
        compression: Compression,
    ) -> Result<Target, String> {
        let described = Admin::new(client).describe_topic(name).await.map_err(|error| match error.code() {
            Some(ErrorCode::UnknownTopicOrPartition) => format!(
                "{error}\n  Create it first: highwater topic create {name} --partitions {partitions_needed}"
            ),
            _ => text(error),
        })?;
        let count = described.partitions.len() as i32;
        if !by_key && count < partitions_needed {
            return Err(format!(
                "topic {name} has {count} partitions, and records of partition {} are to be copied.\n  \
                 Choose partitions by key with --by-key, or add some: highwater topic add-partitions {name} \
                 {partitions_needed}",
                partitions_needed - 1
            ));
        }
        let config = ProducerConfig {
            compression,
            batch_bytes_max: 512 << 10,
            // What a broker took before is not refused here; whether the other one takes it is for it to say.
            record_bytes_max: 30 << 20,
            linger: Duration::from_millis(20),
            create_topics: false,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(client, config);
        let in_flight = VecDeque::new();
        Ok(Target::Topic(Box::new(TopicTarget {
            producer,
            topic: described.name.clone(),
            by_key,
            in_flight,
        })))
    }

    /// A new file, or with `append` one that is written on; `-` is standard output.
    ///
    /// # Errors
    /// It is there already, or cannot be written.
    pub fn file(path: &Path, append: bool) -> Result<Target, String> {
        let name = path.display().to_string();
        let open = || -> io::Result<(Box<dyn Write + Send>, Option<File>)> {
            if path.as_os_str() == "-" {
                return Ok((Box::new(io::stdout()), None));
            }
            let file = OpenOptions::new().append(true).create(append).create_new(!append).open(path)?;
            Ok((Box::new(file.try_clone()?), Some(file)))
        };
        let (out, file) = open().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{name} is there already. Remove it, or go on in it with --state or --resume.")
            }
            _ => format!("cannot write {name}: {error}"),
        })?;
        let out = BufWriter::with_capacity(256 << 10, out);
        Ok(Target::File(FileTarget { out, file, name, written: BTreeMap::new() }))
    }

    /// Hands a record over. `next` follows what is safe.
    ///
    /// # Errors
    /// Of this record or of one before it.
    pub async fn put(&mut self, record: ConsumerRecord, next: &mut Stops) -> Result<(), String> {
        let (partition, offset) = (record.partition, record.offset);
        match self {
            Target::File(target) => {
                Format::Json.write(&mut target.out, &record).map_err(|error| target.failure(error))?;
                target.written.insert(partition, offset + 1);
            }
            Target::Topic(target) => {
                let sent = ProducerRecord {
                    topic: target.topic.clone(),
                    partition: (!target.by_key).then_some(partition),
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                    timestamp_ms: Some(record.timestamp_ms).filter(|&timestamp| timestamp >= 0),
                };
                let delivery = target.producer.send(sent).await.map_err(failure)?;
                target.in_flight.push_back((partition, offset, delivery));
                target.settle(next)?;
                if target.in_flight.len() >= DELIVERIES_MAX {
                    target.settle_one(next).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until all that was handed over is safe.
    ///
    /// # Errors
    /// The first that is not; `next` stays before it.
    pub async fn flush(&mut self, next: &mut Stops) -> Result<(), String> {
        match self {
            Target::File(target) => {
                target.out.flush().map_err(|error| target.failure(error))?;
                let synced = target.file.as_ref().map_or(Ok(()), File::sync_data);
                synced.map_err(|error| target.failure(error))?;
                next.0.append(&mut target.written);
            }
            Target::Topic(target) => {
                // Each delivery tells its own failure.
                target.producer.flush().await.ok();
                while !target.in_flight.is_empty() {
                    target.settle_one(next).await?;
                }
            }
        }
        Ok(())
    }
}

impl TopicTarget {
    /// Takes note of what has been answered. In order of sending, so that what lies before `next` is safe.
    fn settle(&mut self, next: &mut Stops) -> Result<(), String> {
        while let Some((partition, offset, delivery)) = self.in_flight.front_mut() {
            let Some(answer) = delivery.now_or_never() else { break };
            answer.map_err(failure)?;
            next.0.insert(*partition, *offset + 1);
            self.in_flight.pop_front();
        }
        Ok(())
    }

    async fn settle_one(&mut self, next: &mut Stops) -> Result<(), String> {
        if let Some((partition, offset, delivery)) = self.in_flight.front_mut() {
            delivery.await.map_err(failure)?;
            next.0.insert(*partition, *offset + 1);
            self.in_flight.pop_front();
        }
        Ok(())
    }
}

impl FileTarget {
    fn failure(&self, error: io::Error) -> String {
        format!("cannot write {}: {error}", self.name)
    }
}

fn failure(error: ProduceError) -> String {
    format!("cannot write to the target: {error}")
}

/// What the target would do to records of such a time, if it is not what one expects of a copy.
pub async fn warning(client: &Client, topic: &str, oldest_ms: i64, now_ms: i64) -> Option<String> {
    let resource = ConfigResource::Topic(topic.to_owned());
    let entries = Admin::new(client).describe_configs(&resource).await.ok()?;
    let value = |name: &str| entries.iter().find(|entry| entry.name == name)?.value.as_deref();
    if value("message.timestamp.type") == Some("LogAppendTime") {
        return Some(format!(
            "topic {topic} replaces times by its own (message.timestamp.type=LogAppendTime), so the copy will not have those of the records"
        ));
    }
    let retention_ms: i64 = value("retention.ms")?.parse().ok()?;
    let is_kept = retention_ms < 0 || now_ms.saturating_sub(oldest_ms) < retention_ms;
    let deletes = value("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    (deletes && !is_kept).then(|| {
        format!(
            "topic {topic} deletes records that are as old as these (retention.ms={retention_ms}): \
             highwater topic alter {topic} --set retention.ms=-1 keeps them"
        )
    })
}
