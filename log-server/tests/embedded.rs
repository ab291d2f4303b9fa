//! Brokers inside a test: a hundred at once, in a runtime and without one, stopped and dropped.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use log_client::consumer::StartAt;
use log_client::{
    Client, Consumer, ConsumerConfig, OffsetSpec, Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use log_server::EphemeralBroker;

const BROKERS: usize = 100;

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Produces a record and reads it back.
async fn serves(broker: &EphemeralBroker, value: &str) {
    let client = Client::connect(&broker.bootstrap()).await.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default());
    let delivery = producer.send(ProducerRecord::to("orders").value(value.to_owned())).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, Some(0));
    producer.close().await.unwrap();
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    consumer.assign(vec![(TopicPartition::new("orders", 0), StartAt::Log(OffsetSpec::Earliest))]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let [record] = consumer.poll(Duration::from_secs(1)).await.unwrap().as_slice() {
            assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
            return;
        }
        assert!(Instant::now() < deadline, "the record that was acknowledged does not come");
    }
}

fn data_dir(broker: &EphemeralBroker) -> PathBuf {
    broker.context().config.data_dir.clone()
}

#[tokio::test(flavor = "current_thread")]
async fn a_hundred_at_once_serve_and_stop() {
    let started = join_all((0..BROKERS).map(|_| EphemeralBroker::start())).await;
    let brokers: Vec<_> = started.into_iter().map(Result::unwrap).collect();
    join_all(brokers.iter().enumerate().map(|(n, broker)| async move {
        serves(broker, &format!("for broker {n}")).await;
    }))
    .await;
    let directories: Vec<_> = brokers.iter().map(data_dir).collect();
    let addresses: Vec<_> = brokers.iter().map(|broker| broker.kafka_addr()).collect();
    assert!(directories.iter().all(|directory| directory.join("topics/orders-0").is_dir()));
    join_all(brokers.into_iter().map(EphemeralBroker::stop)).await;
    for (directory, address) in directories.iter().zip(addresses) {
        assert!(!directory.exists(), "{} is left", directory.display());
        assert!(TcpStream::connect(address).is_err(), "something listens on {address} still");
    }
}

#[test]
fn without_a_runtime_it_starts_and_goes_when_it_is_dropped() {
    let broker = EphemeralBroker::start_with_blocking(|config| {
        config.partitions_default = 3;
        config.http = "off".to_owned();
    })
    .unwrap();
    assert_eq!((broker.context().config.partitions_default, broker.http_url()), (3, None));
    let (directory, address) = (data_dir(&broker), broker.kafka_addr());
    TcpStream::connect(address).unwrap();
    drop(broker);
    assert!(!directory.exists());
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "current_thread")]
async fn dropped_in_a_runtime_of_one_thread_it_stops_beside_clients_that_are_connected() {
    let broker = EphemeralBroker::start().await.unwrap();
    let directory = data_dir(&broker);
    let client = Client::connect(&broker.bootstrap()).await.unwrap();
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    consumer.assign(vec![(TopicPartition::new("orders", 0), StartAt::Log(OffsetSpec::Latest))]);
    let _ = consumer.poll(Duration::from_millis(10)).await;
    assert!(broker.http_url().is_some_and(|url| url.starts_with("http://127.0.0.1:")));
    drop(broker);
    assert!(!directory.exists());
}

#[test]
fn settings_that_do_not_work_leave_nothing() {
    let mut directory = PathBuf::new();
    let started = EphemeralBroker::start_with_blocking(|config| {
        directory = config.data_dir.clone();
        config.partitions_default = 0;
    });
    let refused = started.err().expect("no topic has no partition").to_string();
    assert!(refused.contains("partitions_default"), "{refused}");
    assert!(!directory.exists());
}
