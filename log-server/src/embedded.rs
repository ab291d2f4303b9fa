//! A broker inside a test: on a free port, in a temporary directory, gone at the end.
//!
//! Any Kafka client can be tested against it, in any runtime or none: all ephemeral brokers of a process share a
//! runtime of their own, so that neither a blocking client nor a test on one thread keeps them from answering.
//!
//! ```
//! use log_client::{Client, Producer, ProducerConfig, ProducerRecord};
//! use log_server::EphemeralBroker;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = EphemeralBroker::start().await?;
//! let client = Client::connect(&broker.bootstrap()).await?;
//! let producer = Producer::new(&client, ProducerConfig::default());
//! let delivery = producer.send(ProducerRecord::to("orders").key("42").value("paid")).await?;
//! assert_eq!(delivery.await?.offset, Some(0));
//! broker.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! In a test without a runtime, the same with `_blocking`:
//!
//! ```
//! # use log_server::EphemeralBroker;
//! let broker = EphemeralBroker::start_with_blocking(|config| config.partitions_default = 4).unwrap();
//! let bootstrap_servers = broker.bootstrap();
//! # assert!(bootstrap_servers.starts_with("127.0.0.1:"));
//! drop(broker); // stops it and removes its directory
//! ```

use std::ops::Deref;
use std::sync::mpsc;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::broker::{Broker, Disk, StartError};
use crate::config::BrokerConfig;

/// A broker on free ports of loopback, in a temporary directory that goes with it.
///
/// It is a [`Broker`] like any other, and has that one's methods. It differs in two things:
///
/// - It leaves out every sync, since its directory is not to outlive it: acknowledged does not mean durable here. What
///   waits for a sync elsewhere, such as a record until consumers see it, takes the same way and waits for nothing.
/// - Some settings: one partition for committed offsets and one for transactions, no scrubbing, records kept for ever,
///   produce refused only when the disk has nothing left.
///
/// A test about durability starts a [`Broker`] in a directory of its own.
///
/// Dropping it stops it as [`stop_blocking`](EphemeralBroker::stop_blocking) does.
pub struct EphemeralBroker {
    /// Taken when it stops.
    running: Option<Running>,
}

struct Running {
    broker: Broker,
    data: TempDir,
}

impl Running {
    async fn stop(self) {
        self.broker.shutdown().await;
        let data = self.data;
        // Best effort: what stays lies where the system keeps what may go.
        let _ = tokio::task::spawn_blocking(move || data.close()).await;
    }
}

impl EphemeralBroker {
    /// Starts a broker and returns once it accepts connections.
    ///
    /// # Errors
    /// See [`StartError`]: no room for a temporary directory, or the system has no threads or ports to give.
    pub async fn start() -> Result<EphemeralBroker, StartError> {
        EphemeralBroker::start_with(|_| ()).await
    }

    /// Starts a broker with other settings.
    ///
    /// # Errors
    /// As [`start`](EphemeralBroker::start), and for settings that do not work.
    pub async fn start_with(adjust: impl FnOnce(&mut BrokerConfig)) -> Result<EphemeralBroker, StartError> {
        let (config, data) = prepare(adjust)?;
        let started = runtime()?.spawn(Broker::start_on(Disk::Unsynced, config)).await;
        let broker = started.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(EphemeralBroker { running: Some(Running { broker, data }) })
    }

    /// [`start`](EphemeralBroker::start) for a thread that may wait.
    ///
    /// # Errors
    /// As there.
    pub fn start_blocking() -> Result<EphemeralBroker, StartError> {
        EphemeralBroker::start_with_blocking(|_| ())
    }

    /// [`start_with`](EphemeralBroker::start_with) for a thread that may wait.
    ///
    /// # Errors
    /// As there.
    pub fn start_with_blocking(
        adjust: impl FnOnce(&mut BrokerConfig),
    ) -> Result<EphemeralBroker, StartError> {
        let (config, data) = prepare(adjust)?;
        let broker = wait_for(runtime()?, Broker::start_on(Disk::Unsynced, config));
        let broker = broker.expect("a start does not panic")?;
        Ok(EphemeralBroker { running: Some(Running { broker, data }) })
    }

    /// What clients connect to, as `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.kafka_addr().to_string()
    }

    /// Where HTTP is served, such as `http://127.0.0.1:40123`, unless it was switched off.
    pub fn http_url(&self) -> Option<String> {
        self.http_addr().map(|address| format!("http://{address}"))
    }

    /// Answers what is in flight, stops, and removes the directory.
    pub async fn stop(mut self) {
        if let (Some(running), Ok(runtime)) = (self.running.take(), runtime()) {
            let stopped = runtime.spawn(running.stop()).await;
            stopped.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        }
    }

    /// [`stop`](EphemeralBroker::stop) for a thread that may wait.
    pub fn stop_blocking(self) {}
}

impl Deref for EphemeralBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.running.as_ref().expect("it is taken only by what consumes or drops this").broker
    }
}

impl Drop for EphemeralBroker {
    fn drop(&mut self) {
        if let (Some(running), Ok(runtime)) = (self.running.take(), runtime()) {
            // What has panicked has said so, and this may be running because of a panic.
            let _ = wait_for(runtime, running.stop());
        }
    }
}

fn prepare(adjust: impl FnOnce(&mut BrokerConfig)) -> Result<(BrokerConfig, TempDir), StartError> {
    let temporary = tempfile::Builder::new().prefix("highwater-").tempdir();
    let data = temporary.map_err(|source| StartError::DataDir { path: std::env::temp_dir(), source })?;
    let mut config = BrokerConfig {
        group_partitions: 1,
        transaction_partitions: 1,
        group_reserve_bytes: 0,
        flush_threads: 1,
        scrub_period_ms: 0,
        retention_ms: -1,
        disk_free_hard_bytes: 1,
        ..BrokerConfig::for_test(data.path())
    };
    adjust(&mut config);
    Ok((config, data))
}

/// The runtime of all ephemeral brokers. It lasts as long as the process: a runtime cannot be taken down from within
/// another one, which is where a test drops its broker. So those who come first at once make one, and not one each.
fn runtime() -> Result<&'static Runtime, StartError> {
    static RUNTIME: Mutex<Option<&'static Runtime>> = Mutex::new(None);
    let mut made = RUNTIME.lock();
    if let Some(runtime) = *made {
        return Ok(runtime);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().thread_name("highwater-io").enable_all().build();
    let runtime = Box::leak(Box::new(runtime.map_err(StartError::Threads)?));
    *made = Some(runtime);
    Ok(runtime)
}

/// Runs a future on that runtime and blocks until it is through, whatever thread this is. `None` if it has panicked.
fn wait_for<T: Send + 'static>(
    runtime: &Runtime,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (done, outcome) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        let _ = done.send(future.await);
    });
    outcome.recv().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn those_who_come_first_at_once_share_one_runtime() {
        const FIRST: usize = 16;
        let together = Barrier::new(FIRST);
        let addresses: Vec<usize> = std::thread::scope(|threads| {
            let started: Vec<_> = (0..FIRST)
                .map(|_| {
                    threads.spawn(|| {
                        let test = tokio::runtime::Builder::new_current_thread().build().unwrap();
                        together.wait();
                        test.block_on(async { std::ptr::from_ref(runtime().unwrap()).addr() })
                    })
                })
                .collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:x?}");
    }
}
