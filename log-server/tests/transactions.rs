//! The APIs of the transaction coordinator, by request values, in every version.

mod support;

use std::sync::Arc;

use log_core::wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use log_core::wire::messages::*;
use log_core::wire::{ApiKey, ErrorCode, StrBytes, message};
use log_server::coordinator::transaction::{Outcome, Producer, State};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};
use support::{Rig, call, start, start_with};

const ID: &str = "payments";
const TRANSACTION: i8 = 1;

async fn create(rig: &Rig, topic: &str, partitions: i32) {
    let new = NewTopic { partitions: Some(partitions), ..NewTopic::named(topic) };
    rig.broker.context().topics.create(vec![new]).await.remove(0).unwrap();
}

async fn init_as(rig: &Rig, version: i16, expected: Option<Producer>) -> InitProducerIdResponse {
    let mut request =
        message!(InitProducerIdRequest { transactional_id: Some(ID.into()), transaction_timeout_ms: 60_000 });
    if let Some(Producer { id, epoch }) = expected {
        (request.producer_id, request.producer_epoch) = (id, epoch);
    }
    call(rig, version, request).await
}

async fn init(rig: &Rig) -> Producer {
    let response = init_as(rig, 5, None).await;
    assert_eq!(response.error_code, 0);
    Producer { id: response.producer_id, epoch: response.producer_epoch }
}

fn topics(wanted: &[(&str, &[i32])]) -> Vec<AddPartitionsToTxnTopic> {
    let topic = |&(name, partitions): &(&str, &[i32])| {
        message!(AddPartitionsToTxnTopic { name: name.into(), partitions: partitions.to_vec() })
    };
    wanted.iter().map(topic).collect()
}

/// Adds partitions as a client does; the error of each, in order.
async fn add_as(rig: &Rig, version: i16, producer: Producer, wanted: &[(&str, &[i32])]) -> Vec<ErrorCode> {
    let request = message!(AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: ID.into(),
        v3_and_below_producer_id: producer.id,
        v3_and_below_producer_epoch: producer.epoch,
        v3_and_below_topics: topics(wanted),
    });
    let response = call(rig, version, request).await;
    errors(response.results_by_topic_v3_and_below)
}

/// The same as brokers do among each other.
async fn ask_as(
    rig: &Rig,
    version: i16,
    producer: Producer,
    verify_only: bool,
    wanted: &[(&str, &[i32])],
) -> Vec<ErrorCode> {
    let transaction = message!(AddPartitionsToTxnTransaction {
        transactional_id: ID.into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        verify_only,
        topics: topics(wanted),
    });
    let request = message!(AddPartitionsToTxnRequest { transactions: vec![transaction] });
    let mut response = call(rig, version, request).await;
    assert_eq!((response.error_code, response.results_by_transaction.len()), (0, 1));
    let result = response.results_by_transaction.remove(0);
    assert_eq!(&*result.transactional_id, ID);
    errors(result.topic_results)
}

fn errors(results: Vec<add_partitions_to_txn_response::AddPartitionsToTxnTopicResult>) -> Vec<ErrorCode> {
    let partitions = results.into_iter().flat_map(|topic| topic.results_by_partition);
    partitions.map(|it| ErrorCode::from_code(it.partition_error_code).expect("a known code")).collect()
}

async fn end_as(rig: &Rig, version: i16, producer: Producer, committed: bool) -> EndTxnResponse {
    let request = message!(EndTxnRequest {
        transactional_id: ID.into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        committed,
    });
    call(rig, version, request).await
}

async fn describe(rig: &Rig, id: &str) -> describe_transactions_response::TransactionState {
    let request = message!(DescribeTransactionsRequest { transactional_ids: vec![id.into()] });
    call(rig, 0, request).await.transaction_states.remove(0)
}

/// Waits until the markers of the last transaction are written.
async fn complete(rig: &Rig, outcome: Outcome) {
    let state = State::Complete(outcome).name();
    while &*describe(rig, ID).await.transaction_state != state {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn code(error: ErrorCode) -> i16 {
    error.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transactional_id_finds_its_coordinator() {
    let rig = start().await;
    for version in ApiKey::FindCoordinator.served().iter().filter(|version| *version >= 1) {
        let mut request = message!(FindCoordinatorRequest { key_type: TRANSACTION });
        if version >= 4 {
            request.coordinator_keys = vec![ID.into()];
        } else {
            request.key = ID.into();
        }
        let response = call(&rig, version, request).await;
        let (error_code, node_id, port) = match response.coordinators.first() {
            Some(found) => (found.error_code, found.node_id, found.port),
            None => (response.error_code, response.node_id, response.port),
        };
        assert_eq!((error_code, node_id, port as u16), (0, 1, rig.broker.kafka_addr().port()), "{version}");
    }
    let topic = rig.broker.context().catalog.get("__transaction_state").expect("it is made by asking");
    assert!(topic.is_internal());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_initialises_a_producer() {
    let rig = start().await;
    let mut epoch = -1;
    for version in ApiKey::InitProducerId.served().iter() {
        let response = init_as(&rig, version, None).await;
        epoch += 1;
        assert_eq!((response.error_code, response.producer_epoch), (0, epoch), "{version}");
    }
    let without = message!(InitProducerIdRequest { transactional_id: None });
    assert_eq!(call(&rig, 5, without).await.producer_epoch, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_producers_are_refused_for() {
    let rig = start().await;
    let current = init(&rig).await;
    let cases = [
        (Producer { id: current.id, epoch: -1 }, ErrorCode::InvalidRequest),
        (Producer { id: -1, epoch: 0 }, ErrorCode::InvalidRequest),
        (Producer { id: current.id + 1, epoch: 0 }, ErrorCode::ProducerFenced),
    ];
    for (expected, error) in cases {
        for version in 3..=5 {
            let told = init_as(&rig, version, Some(expected)).await.error_code;
            let is_old = error == ErrorCode::ProducerFenced && version < 4;
            let error = if is_old { ErrorCode::InvalidProducerEpoch } else { error };
            assert_eq!(told, code(error), "{version} {expected:?}");
        }
    }
    for (id, timeout_ms, error) in [
        (ID, 0, ErrorCode::InvalidTransactionTimeout),
        (ID, 900_001, ErrorCode::InvalidTransactionTimeout),
        ("", 1_000, ErrorCode::InvalidRequest),
    ] {
        let request = message!(InitProducerIdRequest {
            transactional_id: Some(id.into()),
            transaction_timeout_ms: timeout_ms,
        });
        let response = call(&rig, 5, request).await;
        assert_eq!((response.error_code, response.producer_id), (code(error), -1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_adds_partitions_and_ends_the_transaction() {
    let rig = start().await;
    create(&rig, "orders", 2).await;
    let mut producer = init(&rig).await;
    for version in ApiKey::AddPartitionsToTxn.served().iter() {
        let wanted: &[(&str, &[i32])] = &[("orders", &[1, 0])];
        let added = match version {
            ..4 => add_as(&rig, version, producer, wanted).await,
            _ => ask_as(&rig, version, producer, false, wanted).await,
        };
        assert_eq!(added, [ErrorCode::None; 2], "{version}");
        let described = describe(&rig, ID).await;
        assert_eq!(&*described.transaction_state, "Ongoing");
        assert_eq!(
            (&*described.topics[0].topic, &described.topics[0].partitions[..]),
            ("orders", &[0, 1][..])
        );
        assert!(described.transaction_start_time_ms > 0 && described.transaction_timeout_ms == 60_000);
        // As many versions of one as of the other.
        let ended = end_as(&rig, version, producer, true).await;
        assert_eq!(ended.error_code, 0, "{version}");
        if version >= 5 {
            assert_eq!((ended.producer_id, ended.producer_epoch), (producer.id, producer.epoch + 1));
            producer.epoch += 1;
        }
        complete(&rig, Outcome::Commit).await;
    }
    assert_eq!(end_as(&rig, 4, producer, true).await.error_code, 0, "it has ended like that");
    assert_eq!(end_as(&rig, 4, producer, false).await.error_code, code(ErrorCode::InvalidTxnState));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_partitions_are_added_or_none() {
    let rig = start().await;
    create(&rig, "orders", 1).await;
    let producer = init(&rig).await;
    for version in 0..4 {
        let wanted: &[(&str, &[i32])] = &[("orders", &[0, 7]), ("none", &[0]), ("__transaction_state", &[0])];
        let expected = [
            ErrorCode::OperationNotAttempted,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::TopicAuthorizationFailed,
        ];
        assert_eq!(add_as(&rig, version, producer, wanted).await, expected, "{version}");
    }
    for version in [4, 5] {
        let wanted: &[(&str, &[i32])] = &[("orders", &[0]), ("__transaction_state", &[0])];
        let expected = [ErrorCode::OperationNotAttempted, ErrorCode::TopicAuthorizationFailed];
        assert_eq!(ask_as(&rig, version, producer, false, wanted).await, expected, "{version}");
    }
    assert_eq!(&*describe(&rig, ID).await.transaction_state, "Empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_producer_is_told_so_in_the_words_of_its_version() {
    let rig = start().await;
    create(&rig, "orders", 1).await;
    let zombie = init(&rig).await;
    let current = init(&rig).await;
    for version in 0..=5 {
        let fenced = if version < 2 { ErrorCode::InvalidProducerEpoch } else { ErrorCode::ProducerFenced };
        if version < 4 {
            assert_eq!(add_as(&rig, version, zombie, &[("orders", &[0])]).await, [fenced]);
        }
        assert_eq!(end_as(&rig, version, zombie, false).await.error_code, code(fenced));
        let stranger = Producer { id: current.id + 1, ..current };
        let unknown = code(ErrorCode::InvalidProducerIdMapping);
        assert_eq!(end_as(&rig, version, stranger, false).await.error_code, unknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_says_what_is_in_the_transaction_and_adds_nothing() {
    let rig = start().await;
    create(&rig, "orders", 2).await;
    let producer = init(&rig).await;
    add_as(&rig, 3, producer, &[("orders", &[1])]).await;
    for version in [4, 5] {
        let verified = ask_as(&rig, version, producer, true, &[("orders", &[0, 1])]).await;
        assert_eq!(verified, [ErrorCode::TransactionAbortable, ErrorCode::None]);
    }
    assert_eq!(describe(&rig, ID).await.topics[0].partitions, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_known_where_no_transaction_ever_was() {
    let rig = start().await;
    let producer = Producer { id: 1, epoch: 0 };
    create(&rig, "orders", 1).await;
    let unknown = ErrorCode::InvalidProducerIdMapping;
    assert_eq!(add_as(&rig, 3, producer, &[("orders", &[0])]).await, [unknown]);
    assert_eq!(end_as(&rig, 5, producer, true).await.error_code, code(unknown));
    let refused = describe(&rig, ID).await.error_code;
    assert_eq!(refused, code(ErrorCode::TransactionalIdNotFound));
    assert_eq!(describe(&rig, "").await.error_code, code(ErrorCode::InvalidRequest));
    assert!(call(&rig, 2, ListTransactionsRequest::default()).await.transaction_states.is_empty());
    assert!(rig.broker.context().catalog.get("__transaction_state").is_none(), "asking makes no topic");
}

async fn list(rig: &Rig, version: i16, request: ListTransactionsRequest) -> Vec<String> {
    let response = call(rig, version, request).await;
    assert_eq!(response.error_code, 0);
    response.transaction_states.iter().map(|it| it.transactional_id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered() {
    let rig = start().await;
    create(&rig, "orders", 1).await;
    let producer = init(&rig).await;
    add_as(&rig, 3, producer, &[("orders", &[0])]).await;
    let other = message!(InitProducerIdRequest {
        transactional_id: Some("refunds".into()),
        transaction_timeout_ms: 1_000,
    });
    call(&rig, 5, other).await;
    let all = ["payments", "refunds"];
    let filter = |states: &[&str], ids: &[i64], duration_filter, pattern: Option<&str>| {
        message!(ListTransactionsRequest {
            state_filters: states.iter().map(|state| StrBytes::from(*state)).collect(),
            producer_id_filters: ids.to_vec(),
            duration_filter,
            transactional_id_pattern: pattern.map(StrBytes::from),
        })
    };
    for version in 0..=2 {
        assert_eq!(list(&rig, version, filter(&[], &[], -1, None)).await, all);
        assert_eq!(list(&rig, version, filter(&["Ongoing", "Dead"], &[], -1, None)).await, ["payments"]);
        assert_eq!(list(&rig, version, filter(&[], &[producer.id], -1, None)).await, ["payments"]);
    }
    // One that never had a transaction counts as old, as in Kafka.
    assert_eq!(list(&rig, 1, filter(&[], &[], 3_600_000, None)).await, ["refunds"]);
    assert_eq!(list(&rig, 2, filter(&[], &[], -1, Some("pay.*"))).await, ["payments"]);
    assert_eq!(list(&rig, 2, filter(&[], &[], -1, Some("pay"))).await, [""; 0], "whole ids match");
    assert_eq!(list(&rig, 2, filter(&[], &[], -1, Some(""))).await, all);
    let refused = call(&rig, 2, filter(&[], &[], -1, Some("["))).await.error_code;
    assert_eq!(refused, code(ErrorCode::InvalidRegularExpression));
    let unknown = call(&rig, 0, filter(&["ongoing"], &[], -1, None)).await;
    assert_eq!(unknown.unknown_state_filters, [StrBytes::from("ongoing")]);
    assert!(unknown.transaction_states.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_deleted_meanwhile_are_passed_over() {
    let rig = start().await;
    create(&rig, "orders", 1).await;
    create(&rig, "gone", 1).await;
    let producer = init(&rig).await;
    let added = add_as(&rig, 3, producer, &[("orders", &[0]), ("gone", &[0])]).await;
    assert_eq!(added, [ErrorCode::None; 2]);
    let delete = message!(DeleteTopicsRequest { topic_names: vec!["gone".into()], timeout_ms: 1_000 });
    assert_eq!(call(&rig, 5, delete).await.responses[0].error_code, 0);
    assert_eq!(end_as(&rig, 4, producer, true).await.error_code, 0);
    complete(&rig, Outcome::Commit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_knows_producers_and_ends_what_was_decided() {
    let rig = start_with(|config| config.transaction_partitions = 3).await;
    create(&rig, "orders", 1).await;
    let producer = init(&rig).await;
    add_as(&rig, 3, producer, &[("orders", &[0])]).await;
    end_as(&rig, 4, producer, true).await;
    let Rig { broker, dir } = rig;
    broker.shutdown().await;
    let rig = Rig { broker: Broker::start(BrokerConfig::for_test(dir.path())).await.unwrap(), dir };
    while !rig.broker.context().transactions.is_ready() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    complete(&rig, Outcome::Commit).await;
    assert_eq!(init(&rig).await, Producer { epoch: producer.epoch + 1, ..producer });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_takes_too_long_is_aborted() {
    let rig = start().await;
    create(&rig, "orders", 1).await;
    let request =
        message!(InitProducerIdRequest { transactional_id: Some(ID.into()), transaction_timeout_ms: 1 });
    let response = call(&rig, 5, request).await;
    let producer = Producer { id: response.producer_id, epoch: response.producer_epoch };
    assert_eq!(add_as(&rig, 3, producer, &[("orders", &[0])]).await, [ErrorCode::None]);
    complete(&rig, Outcome::Abort).await;
    assert_eq!(end_as(&rig, 4, producer, true).await.error_code, code(ErrorCode::ProducerFenced));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_transaction_waits_for_the_markers_of_the_last_one() {
    let rig = start().await;
    create(&rig, "orders", 3).await;
    let mut producer = init(&rig).await;
    for round in 0..50 {
        let asked = std::time::Instant::now();
        let added = add_as(&rig, 3, producer, &[("orders", &[0, 1, 2])]).await;
        // A disk that takes longer than the wait has clients ask again.
        if added != [ErrorCode::None; 3] {
            assert_eq!(added, [ErrorCode::ConcurrentTransactions; 3]);
            assert!(asked.elapsed() >= std::time::Duration::from_millis(100));
            continue;
        }
        let version = if round % 2 == 0 { 4 } else { 5 };
        assert_eq!(end_as(&rig, version, producer, true).await.error_code, 0);
        producer.epoch += i16::from(version == 5);
    }
    let zombie = producer;
    let added = async {
        loop {
            let added = add_as(&rig, 3, zombie, &[("orders", &[0])]).await;
            if added == [ErrorCode::None] {
                break;
            }
            assert_eq!(added, [ErrorCode::ConcurrentTransactions]);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), added)
        .await
        .expect("the last one comes to its end");
    let next = init_as(&rig, 5, None).await;
    assert!(next.error_code == 0 || next.error_code == code(ErrorCode::ConcurrentTransactions));
    let fenced = end_as(&rig, 5, zombie, true).await.error_code;
    assert_eq!(fenced, code(ErrorCode::ProducerFenced));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_transactions_at_once_end_each_in_its_own_way() {
    let rig = Arc::new(start().await);
    create(&rig, "orders", 4).await;
    rig.broker.context().transactions.ensure_exists().await.unwrap();
    let workers = (0..16).map(|worker| {
        let rig = rig.clone();
        tokio::spawn(async move {
            let transactions = rig.broker.context().transactions.clone();
            let id: Arc<str> = format!("worker-{worker}").into();
            let producer = transactions.init(id.clone(), 60_000, None).await.unwrap();
            let outcome = if worker % 2 == 0 { Outcome::Commit } else { Outcome::Abort };
            let partition = log_server::coordinator::transaction::TopicPartition {
                topic: "orders".into(),
                partition: worker % 4,
            };
            let protocol = log_server::coordinator::transaction::Protocol::V2;
            transactions.add_partitions(&id, producer, vec![partition], protocol).await.unwrap();
            let next = transactions.end(id.clone(), producer, outcome, protocol).await.unwrap();
            assert_eq!(next, Producer { epoch: 1, ..producer });
            let state = || transactions.query(&id, |machine| machine.list());
            let name = id.clone();
            while state()
                .await
                .unwrap()
                .iter()
                .any(|it| it.transactional_id == name && it.state != State::Complete(outcome))
            {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        tokio::time::timeout(support::PATIENCE, worker).await.expect("markers are written").unwrap();
    }
}
