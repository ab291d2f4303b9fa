//! The producers of a bench: records at their times, and what becomes of each.
//!
//! A producer keeps to its schedule whether or not the broker keeps up: what could not be sent when it was due has
//! been late from then on. So the figures leave out no wait (coordinated omission).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log_client::producer::{Delivery, ProduceError};
use log_client::{Producer, ProducerRecord};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::meter::{Acknowledged, Meter};
use super::payload::Payloads;
use super::plan::Plan;

/// Records of a producer that may be unanswered, in all partitions, beside the bound on their bytes.
const IN_FLIGHT_MAX: usize = 100_000;

/// Deliveries that are looked at in one go.
const GROUP_MAX: usize = 1000;

/// How soon a stop is noticed while nothing is due.
const NAP: Duration = Duration::from_millis(50);

/// A record on its way.
struct Sent {
    due: Duration,
    bytes: usize,
    delivery: Delivery,
}

/// One producer's part of the load.
pub struct Load {
    pub plan: Arc<Plan>,
    /// Which of the plan's producers it is.
    pub number: usize,
    pub producer: Producer,
    pub topic: Arc<str>,
    pub partitions: usize,
    pub payloads: Payloads,
    pub meter: Arc<Meter>,
    /// Ends the load early.
    pub stop: CancellationToken,
}

impl Load {
    /// Sends until the plan is fulfilled or stopped, and returns when every record is acknowledged or given up.
    /// `start` is when the first record is due, on the meter's clock. The first failure stops all of the load.
    pub async fn run(self, start: Duration) {
        let mut settling = JoinSet::new();
        let room = (IN_FLIGHT_MAX / self.partitions).max(GROUP_MAX);
        // One more for partitions that the topic is given meanwhile: nobody waits for their records.
        let settlers: Vec<_> = (0..=self.partitions)
            .map(|partition| {
                let (sender, receiver) = mpsc::channel(room);
                settling.spawn(settle(receiver, partition, self.meter.clone(), self.stop.clone()));
                sender
            })
            .collect();
        let (meter, stop) = (self.meter.clone(), self.stop.clone());
        // A thread of its own: it sleeps to within microseconds, where the runtime's timers have a millisecond.
        let runtime = Handle::current();
        let sending = tokio::task::spawn_blocking(move || runtime.block_on(self.send(start, settlers)));
        match sending.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                meter.failed(error);
                stop.cancel();
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        settling.join_all().await;
    }

    async fn send(mut self, start: Duration, settlers: Vec<mpsc::Sender<Sent>>) -> Result<(), ProduceError> {
        let total = self.plan.records_total().unwrap_or(u64::MAX);
        let step = self.plan.producers as u64;
        let end = start.saturating_add(self.plan.end());
        let mut number = self.number as u64;
        while number < total {
            let due = match self.plan.due(number) {
                Some(due) => start + due,
                None => self.meter.now(),
            };
            if !self.sleep_until(due) || self.meter.now() >= end {
                break;
            }
            let value = self.payloads.next(due);
            let bytes = value.len();
            let delivery = self.producer.send(ProducerRecord::to(self.topic.clone()).value(value)).await?;
            let partition = delivery.partition().partition.clamp(0, self.partitions as i32) as usize;
            // It ends with its sender only.
            settlers[partition].send(Sent { due, bytes, delivery }).await.ok();
            number += step;
        }
        // Each delivery tells its own failure.
        self.producer.flush().await.ok();
        Ok(())
    }

    /// False when the load is stopped.
    fn sleep_until(&self, due: Duration) -> bool {
        loop {
            if self.stop.is_cancelled() {
                return false;
            }
            match due.saturating_sub(self.meter.now()) {
                Duration::ZERO => return true,
                left => thread::sleep(left.min(NAP)),
            }
        }
    }
}

/// Waits for what becomes of one partition's records, which are answered in the order of sending.
async fn settle(
    mut sent: mpsc::Receiver<Sent>,
    partition: usize,
    meter: Arc<Meter>,
    stop: CancellationToken,
) {
    let mut group = Vec::new();
    let mut acknowledged = Vec::new();
    while sent.recv_many(&mut group, GROUP_MAX).await > 0 {
        for Sent { due, bytes, delivery } in group.drain(..) {
            match delivery.await {
                Ok(_) => acknowledged.push(Acknowledged { due, at: meter.now(), bytes }),
                Err(error) => {
                    meter.failed(error);
                    stop.cancel();
                }
            }
        }
        meter.acknowledged(partition, &acknowledged);
        acknowledged.clear();
    }
}
