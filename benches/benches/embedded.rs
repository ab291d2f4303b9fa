//! A hundred brokers in one process: until all of them accept connections, until each has served a record, until all
//! of them have stopped.
//!
//!     cargo bench -p benches --bench embedded
//!
//! Ephemeral ones, as a test starts them, beside ordinary ones, which sync what they write. The two take turns; a figure
//! is the median round's.

use std::time::{Duration, Instant};

use benches::figures::{directory, head, is_smoke, median, row};
use log_client::{Client, Producer, ProducerConfig, ProducerRecord};
use log_server::{Broker, BrokerConfig, EphemeralBroker};
use tokio::task::JoinSet;

/// How long starting, serving and stopping took.
type Round = [Duration; 3];

fn main() {
    let (brokers, rounds) = if is_smoke() { (5, 1) } else { (100, 7) };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (mut ephemeral, mut ordinary): (Vec<Round>, Vec<Round>) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ephemeral.push(runtime.block_on(round_of_ephemeral(brokers)));
        ordinary.push(runtime.block_on(round_of_ordinary(brokers)));
    }
    head(1, &[&format!("{brokers} at once, ms"), "ephemeral", "ordinary"]);
    for (step, name) in ["start", "a record each, acks=all", "stop"].into_iter().enumerate() {
        let cells = [&ephemeral, &ordinary].map(|rounds| {
            let median = median(rounds.iter().map(|round| round[step]).collect());
            format!("{:.0}", median.as_secs_f64() * 1e3)
        });
        row([name.to_owned()].into_iter().chain(cells));
    }
}

async fn round_of_ephemeral(brokers: usize) -> Round {
    let start = |_| async { EphemeralBroker::start().await.expect("room") };
    measure((0..brokers).map(start), |broker| broker.bootstrap(), EphemeralBroker::stop).await
}

async fn round_of_ordinary(brokers: usize) -> Round {
    let data = directory();
    let configs: Vec<_> =
        (0..brokers).map(|n| BrokerConfig::for_test(data.path().join(n.to_string()))).collect();
    let start = |config| async { Broker::start(config).await.expect("room") };
    measure(configs.into_iter().map(start), |broker| broker.kafka_addr().to_string(), Broker::shutdown).await
}

async fn measure<B: Send + 'static, S: Future<Output = ()> + Send + 'static>(
    starts: impl Iterator<Item = impl Future<Output = B> + Send + 'static>,
    bootstrap: impl Fn(&B) -> String,
    stop: impl Fn(B) -> S,
) -> Round {
    let began = Instant::now();
    let brokers = starts.collect::<JoinSet<_>>().join_all().await;
    let started = Instant::now();
    brokers.iter().map(|broker| serve(bootstrap(broker))).collect::<JoinSet<_>>().join_all().await;
    let served = Instant::now();
    brokers.into_iter().map(stop).collect::<JoinSet<_>>().join_all().await;
    [started - began, served - started, served.elapsed()]
}

/// Produces the first record of a topic, which is made for it.
async fn serve(bootstrap: String) {
    let client = Client::connect(&bootstrap).await.expect("the broker answers");
    let producer = Producer::new(&client, ProducerConfig::default());
    let delivery = producer.send(ProducerRecord::to("orders").value("paid")).await.expect("room");
    assert_eq!(delivery.await.expect("acknowledged").offset, Some(0));
}
