//! The consumers of a bench: one group that reads what the load writes, while it writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log_client::consumer::OffsetReset;
use log_client::{Client, Consumer, ConsumerConfig};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::meter::Meter;
use super::stage::Stage;
use crate::connect::text;

/// How long one look for records lasts.
const POLL: Duration = Duration::from_millis(100);

/// How often it is looked whether the group is ready.
const READY_INTERVAL: Duration = Duration::from_millis(10);

/// How long the group may take until it has shared out all partitions.
const ASSIGNMENT_PATIENCE: Duration = Duration::from_secs(60);

/// The group's members.
pub struct Readers {
    tasks: Vec<JoinHandle<Result<(), String>>>,
    /// How many partitions each member is ready to read from.
    ready: Vec<Arc<AtomicUsize>>,
    /// Ends the members when it is dropped.
    stop: DropGuard,
}

/// What a member needs.
struct Reader {
    consumer: Consumer,
    meter: Arc<Meter>,
    ready: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Readers {
    /// So many members of the stage's group, which have shared out all partitions when this returns.
    ///
    /// # Errors
    /// One of them could not join, or they took too long.
    pub async fn start(
        client: &Client,
        stage: &Stage,
        members: usize,
        meter: &Arc<Meter>,
    ) -> Result<Readers, String> {
        let stop = CancellationToken::new();
        let mut readers = Readers { tasks: Vec::new(), ready: Vec::new(), stop: stop.clone().drop_guard() };
        for _ in 0..members {
            let config = ConsumerConfig {
                offset_reset: OffsetReset::Earliest,
                poll_records_max: 5000,
                ..ConsumerConfig::in_group(&stage.group)
            };
            let mut consumer = Consumer::new(client, config);
            consumer.subscribe([stage.topic.clone()]).map_err(text)?;
            let (meter, ready, stop) = (meter.clone(), Arc::default(), stop.clone());
            readers.ready.push(Arc::clone(&ready));
            readers.tasks.push(tokio::spawn(Reader { consumer, meter, ready, stop }.run()));
        }
        if timeout(ASSIGNMENT_PATIENCE, readers.wait_ready(stage.partitions)).await.is_err() {
            let seconds = ASSIGNMENT_PATIENCE.as_secs();
            return Err(format!("group {} has not shared out its topic within {seconds} s", stage.group));
        }
        if readers.have_failed() {
            readers.stop().await?;
            return Err(format!("a member of group {} ended", stage.group));
        }
        Ok(readers)
    }

    /// Returns when every partition is some member's, or one has failed.
    async fn wait_ready(&self, partitions: usize) {
        // Relaxed: counts that are looked at until they are right.
        let ready = |member: &Arc<AtomicUsize>| member.load(Ordering::Relaxed);
        while self.ready.iter().map(ready).sum::<usize>() < partitions && !self.have_failed() {
            sleep(READY_INTERVAL).await;
        }
    }

    /// Whether a member has ended by itself, which it does at an error only.
    pub fn have_failed(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Ends the members: they commit and leave.
    ///
    /// # Errors
    /// What the first of them stopped at.
    pub async fn stop(self) -> Result<(), String> {
        drop(self.stop);
        let mut outcome = Ok(());
        for task in self.tasks {
            outcome = outcome.and(task.await.map_err(text).flatten());
        }
        outcome
    }
}

impl Reader {
    async fn run(mut self) -> Result<(), String> {
        loop {
            let records = tokio::select! {
                records = self.consumer.poll(POLL) => records.map_err(text)?,
                () = self.stop.cancelled() => break,
            };
            self.meter.received(&records);
            let assigned = self.consumer.assignment();
            let ready = assigned.iter().filter(|partition| self.consumer.position(partition).is_some());
            self.ready.store(ready.count(), Ordering::Relaxed);
        }
        self.consumer.close().await.map_err(text)
    }
}
