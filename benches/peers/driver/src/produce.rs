//! Loads that produce.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde_json::json;

use crate::Outcome;
use crate::latency::{Latencies, Pace};
use crate::payload::Payload;
use crate::settings::{Producing, Target};

/// How long a batch is held back for company where throughput is what counts, in milliseconds: librdkafka's default.
const LINGER_MS: u32 = 5;
const FLUSH: Duration = Duration::from_secs(120);

#[derive(Args)]
pub struct Produce {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    producing: Producing,
    /// Stop at this many records, if that comes before the time.
    #[arg(long, default_value_t = u64::MAX)]
    records: u64,
}

impl Produce {
    /// The clock stops when the last record has been acknowledged.
    pub fn run(self) -> Outcome {
        let mut config = self.target.producer(&self.producing, LINGER_MS);
        // A report for every record would be a good part of the client's work.
        config.set("delivery.report.only.error", "true");
        let failed = Failures::default();
        let producer: BaseProducer<Failures> = config.create_with_context(failed.clone())?;
        producer.client().fetch_metadata(Some(&self.target.topic), FLUSH)?;
        let payload = Payload::new(self.producing.record_bytes);
        let started = Instant::now();
        let for_long = Duration::from_secs_f64(self.producing.seconds);
        let mut number = 0_u64;
        // The clock is looked at every so often only: a look costs as much as a small record.
        while number < self.records && (!number.is_multiple_of(64) || started.elapsed() < for_long) {
            let record = BaseRecord::<(), [u8], usize>::with_opaque_to(&self.target.topic, 0)
                .partition((number % self.target.partitions as u64) as i32)
                .payload(payload.of(number));
            match producer.send(record) {
                Ok(()) => number += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        producer.flush(FLUSH)?;
        let seconds = started.elapsed().as_secs_f64();
        failed.check()?;
        let bytes = number * self.producing.record_bytes as u64;
        Ok(json!({
            "records": number, "bytes": bytes, "seconds": seconds,
            "records_per_s": number as f64 / seconds, "mib_per_s": bytes as f64 / f64::from(1 << 20) / seconds,
        }))
    }
}

#[derive(Args)]
pub struct Paced {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    producing: Producing,
    /// Records a second.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
}

impl Paced {
    pub fn run(self) -> Outcome {
        let start = Instant::now();
        let acknowledged = Acknowledged {
            start,
            latencies: Arc::new(Mutex::new(Latencies::new())),
            failures: Failures::default(),
        };
        let config = self.target.producer(&self.producing, 0);
        let producer: ThreadedProducer<Acknowledged> = config.create_with_context(acknowledged.clone())?;
        producer.client().fetch_metadata(Some(&self.target.topic), FLUSH)?;
        let payload = Payload::new(self.producing.record_bytes);
        let count = (self.producing.seconds * f64::from(self.rate)) as u32;
        // Connections and caches take the first records; they are not counted.
        let warm_up = self.rate.min(count);
        let first = start.elapsed();
        let pace = Pace::new(start + first, self.rate);
        for number in 0..warm_up + count {
            let due_us = first.as_micros() as u64 + pace.wait(number);
            let opaque = if number < warm_up { 0 } else { due_us as usize };
            let record = BaseRecord::<(), [u8], usize>::with_opaque_to(&self.target.topic, opaque)
                .partition(number as i32 % self.target.partitions)
                .payload(payload.of(u64::from(number)));
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(FLUSH)?;
        acknowledged.failures.check()?;
        let latencies = acknowledged.latencies.lock().expect("no callback panics");
        if latencies.count() != u64::from(count) {
            return Err(format!("{} of {count} records were acknowledged", latencies.count()).into());
        }
        Ok(latencies.figures())
    }
}

/// Keeps the first error of a delivery.
#[derive(Clone, Default)]
pub struct Failures(Arc<Mutex<Option<String>>>);

impl Failures {
    fn note(&self, result: &DeliveryResult<'_>) {
        if let Err((error, _)) = result {
            self.0.lock().expect("no callback panics").get_or_insert(error.to_string());
        }
    }

    /// The error, if there was one.
    pub fn check(&self) -> Result<(), String> {
        match self.0.lock().expect("no callback panics").take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _: usize) {
        self.note(result);
    }
}

/// Notes how long each record took: its opaque is when it was due, in microseconds since `start`, 0 if it does not
/// count.
#[derive(Clone)]
struct Acknowledged {
    start: Instant,
    latencies: Arc<Mutex<Latencies>>,
    failures: Failures,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due_us: usize) {
        self.failures.note(result);
        if due_us > 0 {
            let now_us = self.start.elapsed().as_micros() as u64;
            self.latencies.lock().expect("no callback panics").record(now_us.saturating_sub(due_us as u64));
        }
    }
}
