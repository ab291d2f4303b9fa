//! Transactions on the data path, by request values: what Produce takes and refuses, what Fetch and ListOffsets show of
//! it, and the ends that WriteTxnMarkers writes.

mod support;

use std::future::Future;
use std::task::{self, Waker};
use std::time::Duration;

use bytes::Bytes;
use log_core::log::{AppendError, OPEN_TRANSACTIONS_MAX, PRODUCERS_MAX, SequenceError};
use log_core::record::{
    BatchBuilder, Compression, DecompressLimits, EndOfTransaction, Marker, ProducedBatch, batches,
};
use log_core::wire::fetch::{FetchPartition, FetchTopic};
use log_core::wire::fetch_response::{AbortedTransaction, FetchPartitionResponse};
use log_core::wire::messages::describe_producers_request::TopicRequest;
use log_core::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use log_core::wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use log_core::wire::messages::{
    DescribeProducersRequest, ListOffsetsRequest, ListOffsetsResponse, WriteTxnMarkersRequest,
};
use log_core::wire::produce::{ProducePartition, ProducePartitionResponse, ProduceTopic};
use log_core::wire::{
    ApiKey, ErrorCode, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, TopicRef, message,
};
use log_server::coordinator::transaction::{Outcome, Producer, Protocol, State, TopicPartition};
use log_server::topic::NewTopic;
use log_server::topic::name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use support::{Rig, ask, body, call, dispatch, start};

/// A version of Produce whose clients speak the first protocol of transactions, and the first of the second.
const V1: i16 = 11;
const V2: i16 = 12;
const ID: &str = "tx";

/// A broker with a topic "t" of one partition, and a producer with a transactional id.
async fn rig() -> (Rig, Producer) {
    let rig = start().await;
    rig.broker.context().topics.create(vec![NewTopic::named("t")]).await.remove(0).unwrap();
    let producer = rig.broker.context().transactions.init(ID.into(), 60_000, None).await.unwrap();
    (rig, producer)
}

fn topic(version: i16) -> TopicRef {
    assert!(version < 13, "topics by name");
    TopicRef::Name("t".into())
}

fn batch(producer: Producer, sequence: i32, transactional: bool, values: &[&str]) -> Bytes {
    let builder = BatchBuilder::new(Compression::None).producer(producer.id, producer.epoch, sequence);
    let mut builder = builder.transactional(transactional);
    for value in values {
        builder.append(1000, None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.build(0).unwrap()
}

async fn produce_as(rig: &Rig, version: i16, id: Option<&str>, records: Bytes) -> ProducePartitionResponse {
    let request = ProduceRequest {
        transactional_id: id.map(Into::into),
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            topic: topic(version),
            partitions: vec![ProducePartition { index: 0, records: Some(records) }],
        }],
    };
    let reply = dispatch(rig, ApiKey::Produce, version, request.encode(version).unwrap()).await;
    let answer = ProduceResponse::decode(body(reply, ApiKey::Produce, version).await, version).unwrap();
    answer.topics[0].partitions[0].clone()
}

async fn produce(rig: &Rig, version: i16, records: Bytes) -> Result<i64, ErrorCode> {
    let answer = produce_as(rig, version, Some(ID), records).await;
    match ErrorCode::from_code(answer.error_code).unwrap() {
        ErrorCode::None => Ok(answer.base_offset),
        error => Err(error),
    }
}

/// Ends a transaction in the partition, as an operator would.
async fn mark(
    rig: &Rig,
    version: i16,
    producer: Producer,
    commit: bool,
    coordinator_epoch: i32,
) -> ErrorCode {
    let topic = message!(WritableTxnMarkerTopic { name: "t".into(), partition_indexes: vec![0] });
    let mut marker = message!(WritableTxnMarker {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        transaction_result: commit,
        coordinator_epoch,
        topics: vec![topic],
    });
    if version >= 2 {
        marker.transaction_version = 2;
    }
    let response = call(rig, version, message!(WriteTxnMarkersRequest { markers: vec![marker] })).await;
    ErrorCode::from_code(response.markers[0].topics[0].partitions[0].error_code).unwrap()
}

/// Where the transactional id stands.
async fn state(rig: &Rig) -> State {
    let described = rig.broker.context().transactions.query(ID, |machine| machine.describe(ID)).await;
    described.unwrap().unwrap().state
}

/// Waits until the markers of the last transaction are written.
async fn complete(rig: &Rig) {
    while state(rig).await != State::Complete(Outcome::Commit) {
        tokio::task::yield_now().await;
    }
}

fn fetch_request(offset: i64, committed: bool) -> FetchRequest {
    let partition = FetchPartition {
        index: 0,
        current_leader_epoch: -1,
        fetch_offset: offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1 << 20,
    };
    FetchRequest {
        isolation_level: i8::from(committed),
        topics: vec![FetchTopic { topic: topic(4), partitions: vec![partition] }],
        ..FetchRequest::default()
    }
}

async fn fetch_as(rig: &Rig, version: i16, request: &FetchRequest) -> FetchPartitionResponse {
    let reply = dispatch(rig, ApiKey::Fetch, version, vec![request.encode(version).unwrap()]).await;
    let answer = FetchResponse::decode(body(reply, ApiKey::Fetch, version).await, version).unwrap();
    answer.topics[0].partitions[0].clone()
}

/// The values that a consumer of committed records takes out of an answer, in the way that librdkafka does: a list of
/// first offsets by producer, of which each of its abort markers takes one off.
fn committed_values(answer: &FetchPartitionResponse) -> Vec<String> {
    let mut aborted = answer.aborted_transactions.clone().expect("a list, if an empty one");
    let bytes = answer.records.concat();
    let mut values = Vec::new();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        let first = aborted.iter().position(|aborted| aborted.producer_id == batch.producer_id());
        let is_aborted = first.is_some_and(|at| batch.base_offset() >= aborted[at].first_offset);
        if batch.attributes().is_control() {
            let records: Vec<_> = batch.records(DecompressLimits::default()).unwrap().collect();
            let abort = records[0].as_ref().unwrap().key.as_deref() == Some(&[0, 0, 0, 0]);
            if abort && is_aborted {
                aborted.remove(first.unwrap());
            }
        } else if !(batch.attributes().is_transactional() && is_aborted) {
            let records = batch.records(DecompressLimits::default()).unwrap();
            values.extend(
                records.map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()),
            );
        }
    }
    values
}

async fn list_offset(rig: &Rig, timestamp: i64, committed: bool) -> i64 {
    let partition = message!(ListOffsetsPartition { timestamp, current_leader_epoch: -1 });
    let topic = message!(ListOffsetsTopic { name: "t".into(), partitions: vec![partition] });
    let request = message!(ListOffsetsRequest { isolation_level: i8::from(committed), topics: vec![topic] });
    let answer: ListOffsetsResponse = ask(rig, ApiKey::ListOffsets, 8, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    answer.topics[0].partitions[0].offset
}

#[tokio::test]
async fn every_version_of_fetch_shows_committed_records_and_names_the_aborted() {
    let (rig, producer) = rig().await;
    let other = rig.broker.context().transactions.init("other".into(), 60_000, None).await.unwrap();
    assert_eq!(produce(&rig, V2, batch(producer, 0, true, &["a", "b"])).await, Ok(0));
    let answer = produce_as(&rig, V2, Some("other"), batch(other, 0, true, &["c"])).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 2));
    let next = Producer { epoch: producer.epoch + 1, ..producer };
    assert_eq!(mark(&rig, 2, next, false, 0).await, ErrorCode::None);
    let plain = produce_as(&rig, V2, None, batch(Producer { id: 900, epoch: 0 }, 0, false, &["d"])).await;
    assert_eq!(plain.base_offset, 4);

    // The other one is open: what it has written is the end of what is shown, in records and in offsets.
    let open = fetch_as(&rig, 12, &fetch_request(0, true)).await;
    assert_eq!((open.last_stable_offset, open.high_watermark), (2, 5));
    assert_eq!(
        open.aborted_transactions,
        Some(vec![AbortedTransaction { producer_id: producer.id, first_offset: 0 }])
    );
    assert_eq!(committed_values(&open), Vec::<String>::new());
    assert_eq!((list_offset(&rig, -1, true).await, list_offset(&rig, -1, false).await), (2, 5));
    assert_eq!((list_offset(&rig, -3, true).await, list_offset(&rig, 1001, true).await), (0, -1));

    let other_next = Producer { epoch: other.epoch + 1, ..other };
    assert_eq!(mark(&rig, 2, other_next, true, 0).await, ErrorCode::None);
    for version in ApiKey::Fetch.served().iter().filter(|version| *version < 13) {
        let answer = fetch_as(&rig, version, &fetch_request(0, true)).await;
        assert_eq!(committed_values(&answer), ["c", "d"], "version {version}");
        let all = fetch_as(&rig, version, &fetch_request(0, false)).await;
        assert_eq!((all.aborted_transactions.clone(), all.records.concat()), (None, answer.records.concat()));
    }
    let late = fetch_as(&rig, 12, &fetch_request(4, true)).await;
    assert_eq!(late.aborted_transactions, Some(vec![]), "its end lies before what is asked for");
}

#[tokio::test]
async fn the_first_protocol_wants_partitions_added_before_they_are_written_to() {
    let (rig, producer) = rig().await;
    let transactions = &rig.broker.context().transactions;
    let first = batch(producer, 0, true, &["a"]);
    assert_eq!(produce(&rig, 9, first.clone()).await, Err(ErrorCode::InvalidTxnState));
    assert_eq!(produce(&rig, V1, first.clone()).await, Err(ErrorCode::TransactionAbortable));
    let partition = TopicPartition { topic: "t".into(), partition: 0 };
    transactions.add_partitions(ID, producer, vec![partition], Protocol::V1).await.unwrap();
    assert_eq!(produce(&rig, V1, first.clone()).await, Ok(0));
    assert_eq!(produce(&rig, V1, first).await, Ok(0), "sent twice, stored once");
    assert_eq!(produce(&rig, V1, batch(producer, 1, true, &["b"])).await, Ok(1));
    assert_eq!(produce(&rig, V1, batch(producer, 2, false, &["x"])).await, Err(ErrorCode::InvalidTxnState));

    // The epoch stays, so only the coordinator knows that a batch comes too late.
    transactions.end(ID.into(), producer, Outcome::Commit, Protocol::V1).await.unwrap();
    assert_eq!(mark(&rig, 1, producer, true, 0).await, ErrorCode::None);
    let late = produce(&rig, V1, batch(producer, 2, true, &["late"])).await;
    assert!(
        matches!(late, Err(ErrorCode::NotEnoughReplicas | ErrorCode::TransactionAbortable)),
        "{late:?}: nobody would end it"
    );
    let answer = fetch_as(&rig, 12, &fetch_request(0, true)).await;
    assert_eq!(committed_values(&answer), ["a", "b"]);
}

/// The end of the transaction in partition 0, without the coordinator: as if it had come from it just now.
fn end_at_once(rig: &Rig, producer: Producer) {
    let partition = rig.broker.context().partitions.get("t", 0).unwrap();
    let end = EndOfTransaction { marker: Marker::Abort, coordinator_epoch: 0 };
    partition.append_marker(producer.id, producer.epoch, end, 1000).unwrap();
}

#[tokio::test]
async fn a_batch_that_its_transaction_ends_before_begins_no_other() {
    let (rig, producer) = rig().await;
    let partitions = &rig.broker.context().partitions;
    let added = vec![TopicPartition { topic: "t".into(), partition: 0 }];
    rig.broker.context().transactions.add_partitions(ID, producer, added, Protocol::V1).await.unwrap();
    assert_eq!(produce(&rig, V1, batch(producer, 0, true, &["a"])).await, Ok(0));
    let partition = partitions.get("t", 0).unwrap();
    let late = ProducedBatch::internal(batch(producer, 1, true, &["late"])).unwrap();
    let asked = partition.ask_about(producer.id, producer.epoch, false);
    assert!(!asked.needs_coordinator(), "the transaction is open");
    end_at_once(&rig, producer);
    let refused = partition.append_asked(&late, Some(asked), 1000, true).unwrap_err();
    let expected = SequenceError::TransactionEnded { offset: 1 };
    assert!(matches!(refused, AppendError::Sequence { error, .. } if error == expected), "{refused}");
    assert!(!partition.is_in_transaction(producer.id, producer.epoch));
}

#[tokio::test]
async fn the_end_may_come_while_the_coordinator_is_asked_about_another_partition() {
    let rig = start().await;
    let wide = NewTopic { partitions: Some(2), ..NewTopic::named("t") };
    rig.broker.context().topics.create(vec![wide]).await.remove(0).unwrap();
    let transactions = &rig.broker.context().transactions;
    let producer = transactions.init(ID.into(), 60_000, None).await.unwrap();
    let both = [0, 1].map(|partition| TopicPartition { topic: "t".into(), partition });
    transactions.add_partitions(ID, producer, both.to_vec(), Protocol::V1).await.unwrap();
    assert_eq!(produce(&rig, V1, batch(producer, 0, true, &["a"])).await, Ok(0));
    let wanted = |(index, sequence)| {
        let records = Some(batch(producer, sequence, true, &["late"]));
        ProducePartition { index, records }
    };
    let request = ProduceRequest {
        transactional_id: Some(ID.into()),
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic { topic: topic(V1), partitions: [(0, 1), (1, 0)].map(wanted).to_vec() }],
    };
    let body_of = request.encode(V1).unwrap();
    let mut asking = Box::pin(dispatch(&rig, ApiKey::Produce, V1, body_of));
    // The coordinator is a task of this thread, which cannot answer before this one waits.
    assert!(asking.as_mut().poll(&mut task::Context::from_waker(Waker::noop())).is_pending());
    end_at_once(&rig, producer);
    let answer = ProduceResponse::decode(body(asking.await, ApiKey::Produce, V1).await, V1).unwrap();
    let codes: Vec<i16> = answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidTxnState.code(), 0]);
    let partition = rig.broker.context().partitions.get("t", 0).unwrap();
    assert!(!partition.is_in_transaction(producer.id, producer.epoch));
}

#[tokio::test]
async fn the_second_protocol_waits_for_the_markers_of_the_transaction_before() {
    let (rig, producer) = rig().await;
    assert_eq!(produce(&rig, V2, batch(producer, 0, true, &["a"])).await, Ok(0));
    let transactions = &rig.broker.context().transactions;
    let next = Producer { epoch: producer.epoch + 1, ..producer };
    // The second one asks behind the first, whose end is decided then and has no marker yet.
    let (ended, mut answer) = tokio::join!(
        transactions.end(ID.into(), producer, Outcome::Commit, Protocol::V2),
        produce(&rig, V2, batch(next, 0, true, &["b"]))
    );
    assert_eq!(ended, Ok(next));
    while answer == Err(ErrorCode::ConcurrentTransactions) {
        answer = produce(&rig, V2, batch(next, 0, true, &["b"])).await;
    }
    assert_eq!(answer, Ok(2), "behind the marker");
}

#[tokio::test]
async fn of_two_batches_on_their_way_the_second_does_not_begin_the_transaction() {
    let (rig, producer) = rig().await;
    let [first, second] = [0, 1].map(|sequence| batch(producer, sequence, true, &["x"]));
    let early = produce(&rig, V2, second.clone()).await;
    assert_eq!(early, Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(produce(&rig, V2, first).await, Ok(0));
    assert_eq!(produce(&rig, V2, second).await, Ok(1));
    // In the first version what a partition knows of a producer may have been deleted since.
    let other = rig.broker.context().transactions.init("other".into(), 60_000, None).await.unwrap();
    let partition = vec![TopicPartition { topic: "t".into(), partition: 0 }];
    rig.broker.context().transactions.add_partitions("other", other, partition, Protocol::V1).await.unwrap();
    let answer = produce_as(&rig, V1, Some("other"), batch(other, 5, true, &["y"])).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 2));
}

#[tokio::test]
async fn as_many_transactions_as_may_be_are_told_in_words_that_the_client_knows() {
    let (rig, producer) = rig().await;
    let partition = rig.broker.context().partitions.get("t", 0).unwrap();
    for id in 0..OPEN_TRANSACTIONS_MAX as i64 {
        let open = batch(Producer { id: 1_000_000 + id, epoch: 0 }, 0, true, &["x"]);
        partition.append(&ProducedBatch::internal(open).unwrap(), 1000, false).unwrap();
    }
    let first = batch(producer, 0, true, &["a"]);
    assert_eq!(produce(&rig, V2, first.clone()).await, Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(produce(&rig, V1, first).await, Err(ErrorCode::NotEnoughReplicas));
}

#[tokio::test]
async fn the_producers_of_a_partition_are_described_once_and_no_more_than_an_answer_holds() {
    let rig = start().await;
    let wide = NewTopic { partitions: Some(10), ..NewTopic::named("t") };
    rig.broker.context().topics.create(vec![wide]).await.remove(0).unwrap();
    let ask = async |indexes: Vec<i32>| {
        let topic = || message!(TopicRequest { name: "t".into(), partition_indexes: indexes.clone() });
        let request = message!(DescribeProducersRequest { topics: vec![topic(), topic()] });
        let answer = call(&rig, 0, request).await;
        let all = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        all.map(|partition| (partition.partition_index, partition.error_code)).collect::<Vec<_>>()
    };
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(ask(vec![0, 0, 10, 1, 10, 0]).await, [(0, 0), (10, unknown), (1, 0)]);
    for index in 0..9 {
        let partition = rig.broker.context().partitions.get("t", index).unwrap();
        for id in 0..PRODUCERS_MAX as i64 {
            let first = batch(Producer { id, epoch: 0 }, 0, false, &["x"]);
            partition.append(&ProducedBatch::internal(first).unwrap(), 1000, false).unwrap();
        }
    }
    let answers = ask((0..10).collect()).await;
    let codes: Vec<i16> = answers.iter().map(|(_, code)| *code).collect();
    let mut expected = [0; 10];
    expected[8] = ErrorCode::InvalidRequest.code();
    assert_eq!(codes, expected, "the last one has no producers");
}

#[tokio::test]
async fn what_is_no_part_of_a_transaction_is_refused_as_in_kafka() {
    let (rig, producer) = rig().await;
    let of = |producer| batch(producer, 0, true, &["x"]);
    let no_id = produce_as(&rig, V2, None, of(producer)).await;
    assert_eq!(no_id.error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
    let ahead = Producer { epoch: producer.epoch + 5, ..producer };
    assert_eq!(produce(&rig, V2, of(ahead)).await, Err(ErrorCode::InvalidProducerEpoch));
    let stranger = Producer { id: producer.id + 1000, ..producer };
    for version in [9, V1, V2] {
        assert_eq!(produce(&rig, version, of(stranger)).await, Err(ErrorCode::InvalidProducerIdMapping));
    }
    let unknown = produce_as(&rig, V2, Some("nobody's"), of(producer)).await;
    assert_eq!(unknown.error_code, ErrorCode::InvalidProducerIdMapping.code());
    let plain = produce(&rig, V2, batch(producer, 0, false, &["plain"])).await;
    assert_eq!(plain, Ok(0), "an id alone makes no transaction");
}

#[tokio::test]
async fn ends_are_fenced_by_epochs_and_shown_by_describe_producers() {
    let (rig, producer) = rig().await;
    assert_eq!(produce(&rig, V2, batch(producer, 0, true, &["a"])).await, Ok(0));
    let describe = async || {
        let topic = message!(TopicRequest { name: "t".into(), partition_indexes: vec![0] });
        let answer = call(&rig, 0, message!(DescribeProducersRequest { topics: vec![topic] })).await;
        let row = &answer.topics[0].partitions[0].active_producers[0];
        (row.producer_epoch, row.last_sequence, row.coordinator_epoch, row.current_txn_start_offset)
    };
    let epoch = i32::from(producer.epoch);
    assert_eq!(describe().await, (epoch, 0, -1, 0));
    assert_eq!(mark(&rig, 2, producer, true, 5).await, ErrorCode::InvalidProducerEpoch, "it has to rise");
    let next = Producer { epoch: producer.epoch + 1, ..producer };
    assert_eq!(mark(&rig, 2, next, true, 5).await, ErrorCode::None);
    assert_eq!(mark(&rig, 2, next, true, 5).await, ErrorCode::None, "told again");
    assert_eq!(describe().await, (epoch + 1, -1, 5, -1));
    assert_eq!(mark(&rig, 1, next, true, 4).await, ErrorCode::TransactionCoordinatorFenced);
    assert_eq!(mark(&rig, 1, producer, true, 5).await, ErrorCode::InvalidProducerEpoch);
    let answer = fetch_as(&rig, 12, &fetch_request(0, true)).await;
    assert_eq!(committed_values(&answer), ["a"]);
}

#[tokio::test]
async fn an_operators_coordinator_epoch_does_not_fence_the_broker() {
    let (rig, producer) = rig().await;
    let transactions = &rig.broker.context().transactions;
    assert_eq!(produce(&rig, V2, batch(producer, 0, true, &["a"])).await, Ok(0));
    let next = Producer { epoch: producer.epoch + 1, ..producer };
    assert_eq!(mark(&rig, 2, next, true, 7).await, ErrorCode::None);
    transactions.end(ID.into(), producer, Outcome::Commit, Protocol::V2).await.unwrap();
    complete(&rig).await;
    assert_eq!(produce(&rig, V2, batch(next, 0, true, &["b"])).await, Ok(3));
    transactions.end(ID.into(), next, Outcome::Commit, Protocol::V2).await.unwrap();
    complete(&rig).await;
    let answer = fetch_as(&rig, 12, &fetch_request(0, true)).await;
    assert_eq!((committed_values(&answer), answer.last_stable_offset), (vec!["a".into(), "b".into()], 5));
}

#[tokio::test]
async fn nobody_and_no_epoch_end_no_transaction() {
    let (rig, producer) = rig().await;
    for nobody in [Producer { id: -1, ..producer }, Producer { epoch: -1, ..producer }] {
        for topic in ["t", CONSUMER_OFFSETS] {
            let topics =
                vec![message!(WritableTxnMarkerTopic { name: topic.into(), partition_indexes: vec![0] })];
            let marker = message!(WritableTxnMarker {
                producer_id: nobody.id,
                producer_epoch: nobody.epoch,
                transaction_result: true,
                topics,
            });
            let response = call(&rig, 1, message!(WriteTxnMarkersRequest { markers: vec![marker] })).await;
            let error = response.markers[0].topics[0].partitions[0].error_code;
            assert_eq!(error, ErrorCode::InvalidProducerEpoch.code(), "{nobody:?} in {topic}");
        }
    }
}

#[tokio::test]
async fn nothing_is_added_to_a_transaction_that_cannot_be_written() {
    let (rig, producer) = rig().await;
    let (internal, index) = (rig.broker.context().catalog.get(TRANSACTION_STATE).unwrap().name.clone(), 0);
    let request = ProduceRequest {
        transactional_id: Some(ID.into()),
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            topic: TopicRef::Name((&*internal).into()),
            partitions: vec![ProducePartition { index, records: Some(batch(producer, 0, true, &["x"])) }],
        }],
    };
    let reply = dispatch(&rig, ApiKey::Produce, V2, request.encode(V2).unwrap()).await;
    let answer = ProduceResponse::decode(body(reply, ApiKey::Produce, V2).await, V2).unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::InvalidTopic.code());
    assert_eq!(state(&rig).await, State::Empty, "no transaction has begun");
}

#[tokio::test]
async fn a_consumer_of_committed_records_is_woken_by_the_end_of_a_transaction() {
    let (rig, producer) = rig().await;
    assert_eq!(produce(&rig, V2, batch(producer, 0, true, &["a"])).await, Ok(0));
    let poll = FetchRequest { max_wait_ms: 60_000, min_bytes: 1, ..fetch_request(0, true) };
    let next = Producer { epoch: producer.epoch + 1, ..producer };
    let mut polling = Box::pin(fetch_as(&rig, 12, &poll));
    // Whether it waits already when the end comes is chance; either way it ends long before its deadline.
    let early = tokio::time::timeout(Duration::from_millis(50), &mut polling).await;
    assert!(early.is_err(), "there is nothing to see yet");
    assert_eq!(mark(&rig, 2, next, true, 0).await, ErrorCode::None);
    assert_eq!(committed_values(&polling.await), ["a"]);
}
