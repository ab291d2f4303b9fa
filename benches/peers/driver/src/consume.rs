//! Loads that consume.

use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::json;

use crate::Outcome;
use crate::latency::{Latencies, Pace};
use crate::payload::{self, Payload};
use crate::produce::Failures;
use crate::settings::{Producing, Target};

/// How long a consumer waits for one record before the load has failed.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Consume {
    #[command(flatten)]
    target: Target,
    /// How many records to see.
    #[arg(long)]
    records: u64,
}

impl Consume {
    /// The clock starts with the first record, so that connecting is not in it.
    pub fn run(self) -> Outcome {
        let consumer = assigned(&self.target, Offset::Beginning)?;
        let first = next(&consumer)?;
        let started = Instant::now();
        let mut bytes = first as u64;
        for _ in 1..self.records {
            bytes += next(&consumer)? as u64;
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(json!({
            "records": self.records, "bytes": bytes, "seconds": seconds,
            "records_per_s": self.records as f64 / seconds, "mib_per_s": bytes as f64 / f64::from(1 << 20) / seconds,
        }))
    }
}

/// The length of the next record's value.
fn next(consumer: &BaseConsumer) -> Result<usize, Box<dyn std::error::Error>> {
    let message = consumer.poll(PATIENCE).ok_or("no record came")??;
    Ok(message.payload().map_or(0, <[u8]>::len))
}

fn assigned(target: &Target, from: Offset) -> Result<BaseConsumer, Box<dyn std::error::Error>> {
    let consumer: BaseConsumer = target.consumer().create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..target.partitions {
        partitions.add_partition_offset(&target.topic, partition, from)?;
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}

#[derive(Args)]
pub struct EndToEnd {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    producing: Producing,
    /// Records a second.
    #[arg(long, default_value_t = 5000)]
    rate: u32,
}

impl EndToEnd {
    /// Producer and consumer are in this one process, so that both look at the same clock.
    pub fn run(self) -> Outcome {
        if self.producing.record_bytes < 8 {
            return Err("a record of an end-to-end load has its time in it: 8 bytes at least".into());
        }
        let failures = Failures::default();
        let config = self.target.producer(&self.producing, 0);
        let producer: ThreadedProducer<Failures> = config.create_with_context(failures.clone())?;
        producer.client().fetch_metadata(Some(&self.target.topic), PATIENCE)?;
        let consumer = assigned(&self.target, Offset::Beginning)?;
        let payload = Payload::new(self.producing.record_bytes);
        let count = (self.producing.seconds * f64::from(self.rate)) as u32;
        // The consumer's first fetches, and the connections, take the first second; it is not counted.
        let warm_up = self.rate;
        let start = Instant::now();
        let pace = Pace::new(start, self.rate);
        let latencies = std::thread::scope(|scope| -> Result<Latencies, Box<dyn std::error::Error>> {
            let target = &self.target;
            let producing = scope.spawn(move || -> Result<(), String> {
                for number in 0..warm_up + count {
                    let due_us = pace.wait(number);
                    let value = payload.stamped(u64::from(number), due_us);
                    let record = BaseRecord::<(), [u8], usize>::with_opaque_to(&target.topic, 0)
                        .partition(number as i32 % target.partitions)
                        .payload(&value);
                    producer.send(record).map_err(|(error, _)| error.to_string())?;
                }
                producer.flush(PATIENCE).map_err(|error| error.to_string())
            });
            let mut latencies = Latencies::new();
            for number in 0..warm_up + count {
                let message = consumer.poll(PATIENCE).ok_or("no record came")??;
                let now_us = start.elapsed().as_micros() as u64;
                let due_us =
                    message.payload().and_then(payload::due_us).ok_or("a record without its time")?;
                if number >= warm_up {
                    latencies.record(now_us.saturating_sub(due_us));
                }
            }
            producing.join().expect("the producing thread does not panic")?;
            Ok(latencies)
        })?;
        failures.check()?;
        Ok(latencies.figures())
    }
}
