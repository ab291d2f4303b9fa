//! Transactions at a coordinator that refuses, and does not answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_core::record::RecordBatch;
use log_core::wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use log_core::wire::messages::{
    AddPartitionsToTxnResponse, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
};
use log_core::wire::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
};
use log_core::wire::{ApiKey, ErrorCode, message};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{ProduceError, Producer, ProducerConfig, ProducerRecord, TransactionError};
use crate::client::{Client, ClientConfig};
use crate::fake_broker::{Asked, TOPIC, client_of};

/// A coordinator and leader of the first protocol, and what it has seen.
struct Broker {
    epoch: i16,
    /// The epoch and the base sequence of each batch.
    batches: Vec<(i16, i32)>,
    ends: usize,
    /// What is answered to each API instead of success.
    init: ErrorCode,
    add: ErrorCode,
    produce: ErrorCode,
    end: ErrorCode,
}

impl Broker {
    fn new() -> Broker {
        let fine = ErrorCode::None;
        Broker { epoch: 0, batches: Vec::new(), ends: 0, init: fine, add: fine, produce: fine, end: fine }
    }

    fn answer(&mut self, asked: &Asked) -> Vec<Bytes> {
        match asked.api {
            ApiKey::InitProducerId => {
                let is_next = asked.decode::<InitProducerIdRequest>().producer_id >= 0;
                self.epoch += i16::from(is_next && self.init.is_ok());
                asked.answer(&message!(InitProducerIdResponse {
                    error_code: self.init.code(),
                    producer_id: 7,
                    producer_epoch: self.epoch,
                }))
            }
            ApiKey::AddPartitionsToTxn => {
                let result =
                    message!(AddPartitionsToTxnPartitionResult { partition_error_code: self.add.code() });
                let topic = message!(AddPartitionsToTxnTopicResult {
                    name: TOPIC.into(),
                    results_by_partition: vec![result],
                });
                asked.answer(&message!(AddPartitionsToTxnResponse {
                    results_by_topic_v3_and_below: vec![topic]
                }))
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(asked.body.clone(), asked.version).unwrap();
                let [topic] = &request.topics[..] else { panic!("one topic") };
                let records = topic.partitions[0].records.as_ref().unwrap();
                let batch = RecordBatch::parse(records).unwrap();
                self.batches.push((batch.producer_epoch(), batch.base_sequence()));
                let partitions = vec![ProducePartitionResponse::error(0, self.produce.code())];
                let topics = vec![ProduceTopicResponse { topic: topic.topic.clone(), partitions }];
                ProduceResponse { topics, throttle_time_ms: 0 }.encode(asked.version).unwrap()
            }
            ApiKey::EndTxn => {
                self.ends += 1;
                asked.answer(&message!(EndTxnResponse { error_code: self.end.code() }))
            }
            _ => vec![Bytes::new()],
        }
    }
}

/// A broker, and a client that gives up after `patience`.
async fn broker(patience: Duration) -> (Arc<Mutex<Broker>>, Client) {
    let broker = Arc::new(Mutex::new(Broker::new()));
    let answering = broker.clone();
    let client = client_of(0, move |asked| answering.lock().answer(asked)).await;
    let config = ClientConfig { request_timeout: patience, ..client.config().clone() };
    (broker, Client::new(config).unwrap())
}

async fn producer(client: &Client) -> Producer {
    let config = ProducerConfig { transactional_id: Some("id".to_owned()), ..ProducerConfig::default() };
    let producer = Producer::new(client, config);
    producer.init_transactions().await.unwrap();
    producer
}

async fn send(producer: &Producer) {
    drop(producer.send(ProducerRecord::to(TOPIC).value("x")).await.unwrap());
}

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_abort_that_the_coordinator_does_not_hear_of_leaves_the_sequence_as_it_is() {
    let (broker, client) = broker(PATIENCE).await;
    let producer = producer(&client).await;
    producer.begin_transaction().unwrap();
    send(&producer).await;
    producer.commit_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    producer.abort_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    send(&producer).await;
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.lock().batches, [(0, 0), (0, 1)], "numbered anew, the second would be a duplicate");
}

#[tokio::test]
async fn a_transaction_that_the_coordinator_refused_to_begin_can_be_aborted() {
    let (broker, client) = broker(PATIENCE).await;
    let producer = producer(&client).await;
    broker.lock().add = ErrorCode::TopicAuthorizationFailed;
    broker.lock().end = ErrorCode::InvalidTxnState;
    producer.begin_transaction().unwrap();
    send(&producer).await;
    producer.flush().await.unwrap_err();
    assert!(producer.commit_transaction().await.unwrap_err().is_abortable());
    producer.abort_transaction().await.unwrap();
    broker.lock().add = ErrorCode::None;
    broker.lock().end = ErrorCode::None;
    producer.begin_transaction().unwrap();
    send(&producer).await;
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.lock().batches, [(1, 0)]);
}

#[tokio::test]
async fn an_abort_that_lacks_only_the_next_epoch_is_not_made_again() {
    let (broker, client) = broker(Duration::from_secs(2)).await;
    let producer = producer(&client).await;
    producer.begin_transaction().unwrap();
    send(&producer).await;
    producer.flush().await.unwrap();
    broker.lock().init = ErrorCode::ConcurrentTransactions;
    let undecided = producer.abort_transaction().await;
    assert!(matches!(undecided, Err(TransactionError::Undecided(_))), "{undecided:?}");
    assert_eq!(broker.lock().ends, 1);
    // The epoch that the first attempt to end it was made under may be over by now.
    broker.lock().init = ErrorCode::None;
    broker.lock().end = ErrorCode::ProducerFenced;
    producer.abort_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    let broker = broker.lock();
    assert_eq!((broker.ends, broker.epoch), (1, 1));
}

#[tokio::test]
async fn a_record_that_waited_for_memory_does_not_slip_into_the_next_transaction() {
    let broker = Arc::new(Mutex::new(Broker { produce: ErrorCode::KafkaStorageError, ..Broker::new() }));
    let (answering, produced) = (broker.clone(), Arc::new(Notify::new()));
    let tell = produced.clone();
    let client = client_of(0, move |asked| {
        if asked.api == ApiKey::Produce {
            tell.notify_one();
        }
        answering.lock().answer(asked)
    })
    .await;
    let producer = Producer::new(
        &client,
        ProducerConfig {
            transactional_id: Some("id".to_owned()),
            buffer_bytes_max: 100,
            linger: Duration::from_secs(3600),
            ..ProducerConfig::default()
        },
    );
    producer.init_transactions().await.unwrap();
    producer.begin_transaction().unwrap();
    let record = || ProducerRecord::to(TOPIC).value(vec![b'x'; 60]);
    drop(producer.send(record()).await.unwrap());
    let second = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(record()).await }
    });
    // The first is sent only because the second waits for its memory.
    produced.notified().await;
    producer.abort_transaction().await.unwrap();
    let refused = second.await.unwrap();
    assert!(matches!(refused, Err(ProduceError::Transaction(_))), "{refused:?}");
    broker.lock().batches.clear();
    producer.begin_transaction().unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.lock().batches, []);
}
