//! Offsets that wait for the end of a transaction: committed by AddOffsetsToTxn and TxnOffsetCommit, and shown by
//! OffsetFetch, in every version and across restarts.

mod support;

use std::sync::Arc;

use log_core::wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use log_core::wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use log_core::wire::messages::{
    AddOffsetsToTxnRequest, EndTxnRequest, InitProducerIdRequest, OffsetFetchRequest, OffsetFetchResponse,
    TxnOffsetCommitRequest,
};
use log_core::wire::{ApiKey, ErrorCode, StrBytes, Uuid, message};
use log_server::coordinator::group::{
    Command, CommitPendingOffsets, MemberIdentity, OffsetToCommit, Outcome, Reply,
};
use log_server::coordinator::transaction::Producer;
use log_server::runtime::{NotCompleted, partition_of};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};
use support::{Rig, ask, call, start};

const GROUP: &str = "readers";
const TOPIC: &str = "flights";
const PRODUCER: i64 = 4_000;
const ID: &str = "payments";

async fn create(rig: &Rig) -> Uuid {
    let new = NewTopic { partitions: Some(2), ..NewTopic::named(TOPIC) };
    rig.broker.context().topics.create(vec![new]).await.remove(0).unwrap().id
}

async fn restart(rig: Rig) -> Rig {
    let Rig { broker, dir } = rig;
    broker.shutdown().await;
    let broker = Broker::start(BrokerConfig::for_test(dir.path())).await.unwrap();
    let context = broker.context();
    while !(context.groups.is_ready() && context.transactions.is_ready()) {
        tokio::task::yield_now().await;
    }
    Rig { broker, dir }
}

async fn commit_pending(rig: &Rig, offset: i64) {
    let groups = &rig.broker.context().groups;
    let completions = groups.query(GROUP, |groups| groups.completions(PRODUCER)).await.unwrap();
    let commit = CommitPendingOffsets {
        group_id: GROUP.into(),
        member: MemberIdentity::default(),
        generation: -1,
        producer_id: PRODUCER,
        producer_epoch: 0,
        completions,
        offsets: vec![OffsetToCommit {
            topic: TOPIC.into(),
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: Arc::from(""),
        }],
    };
    let answer = groups.submit(GROUP, Command::CommitPendingOffsets(commit)).await;
    assert_eq!(answer, Ok(Reply::CommitPendingOffsets(Ok(vec![Ok(())]))));
}

async fn end(rig: &Rig, epoch: i16, outcome: Outcome) -> Result<(), NotCompleted> {
    let context = rig.broker.context();
    let count = usize::try_from(context.config.group_partitions).unwrap();
    let partition = i32::try_from(partition_of(GROUP, count)).unwrap();
    context.groups.complete_transaction(partition, PRODUCER, epoch, outcome).await
}

/// Offset and error of partition 0, asked for by its number or, with `all`, not at all.
async fn fetch(
    rig: &Rig,
    version: i16,
    id: Uuid,
    require_stable: bool,
    all: bool,
) -> Option<(i64, ErrorCode)> {
    let error = |code| ErrorCode::from_code(code).expect("a code that Kafka has");
    if version < 8 {
        let topic =
            message!(OffsetFetchRequestTopic { name: StrBytes::from(TOPIC), partition_indexes: vec![0] });
        let request = message!(OffsetFetchRequest {
            group_id: StrBytes::from(GROUP),
            topics: (!all).then(|| vec![topic]),
            require_stable: require_stable,
        });
        let answer: OffsetFetchResponse = ask(rig, ApiKey::OffsetFetch, version, &request).await;
        assert_eq!(answer.error_code, 0);
        let row = answer.topics.first()?.partitions.first()?;
        return Some((row.committed_offset, error(row.error_code)));
    }
    let topic = message!(OffsetFetchRequestTopics {
        name: StrBytes::from(if version < 10 { TOPIC } else { "" }),
        topic_id: if version < 10 { Uuid::ZERO } else { id },
        partition_indexes: vec![0],
    });
    let group = message!(OffsetFetchRequestGroup {
        group_id: StrBytes::from(GROUP),
        topics: (!all).then(|| vec![topic]),
    });
    let request = message!(OffsetFetchRequest { groups: vec![group], require_stable: require_stable });
    let answer: OffsetFetchResponse = ask(rig, ApiKey::OffsetFetch, version, &request).await;
    assert_eq!(answer.groups[0].error_code, 0);
    let row = answer.groups[0].topics.first()?.partitions.first()?;
    Some((row.committed_offset, error(row.error_code)))
}

#[tokio::test]
async fn who_wants_stable_offsets_is_told_to_come_back_until_the_transaction_ends() {
    let mut rig = start().await;
    let id = create(&rig).await;
    commit_pending(&rig, 10).await;
    end(&rig, 0, Outcome::Commit).await.unwrap();
    commit_pending(&rig, 20).await;
    for restarted in [false, true] {
        if restarted {
            rig = restart(rig).await;
        }
        for version in ApiKey::OffsetFetch.served().iter() {
            for all in [false, true] {
                if all && version < 2 {
                    continue;
                }
                let before = fetch(&rig, version, id, false, all).await;
                assert_eq!(before, Some((10, ErrorCode::None)), "version {version}");
                if version >= 7 {
                    let stable = fetch(&rig, version, id, true, all).await;
                    assert_eq!(stable, Some((-1, ErrorCode::UnstableOffsetCommit)), "version {version}");
                }
            }
        }
    }
    end(&rig, 0, Outcome::Commit).await.unwrap();
    for version in 7..=ApiKey::OffsetFetch.served().max {
        assert_eq!(fetch(&rig, version, id, true, false).await, Some((20, ErrorCode::None)));
    }
}

#[tokio::test]
async fn a_transaction_ends_where_it_is_told_to_and_an_older_epoch_ends_nothing() {
    let rig = start().await;
    let id = create(&rig).await;
    assert_eq!(end(&rig, 5, Outcome::Abort).await, Ok(()), "there is no topic of offsets yet");
    commit_pending(&rig, 10).await;
    let groups = &rig.broker.context().groups;
    for nowhere in [-1, 1_000_000] {
        assert_eq!(groups.complete_transaction(nowhere, PRODUCER, 0, Outcome::Commit).await, Ok(()));
    }
    assert_eq!(fetch(&rig, 9, id, true, false).await, Some((-1, ErrorCode::UnstableOffsetCommit)));
    end(&rig, 1, Outcome::Abort).await.unwrap();
    assert_eq!(end(&rig, 0, Outcome::Commit).await, Err(NotCompleted::Fenced));
    assert_eq!(fetch(&rig, 9, id, true, false).await, Some((-1, ErrorCode::None)));
}

async fn init(rig: &Rig) -> Producer {
    let request =
        message!(InitProducerIdRequest { transactional_id: Some(ID.into()), transaction_timeout_ms: 60_000 });
    loop {
        let response = call(rig, 4, request.clone()).await;
        match error(response.error_code) {
            ErrorCode::None => return Producer { id: response.producer_id, epoch: response.producer_epoch },
            ErrorCode::ConcurrentTransactions => tokio::task::yield_now().await,
            other => panic!("{other}"),
        }
    }
}

async fn add_offsets(rig: &Rig, version: i16, producer: Producer, group: &str) -> ErrorCode {
    let request = message!(AddOffsetsToTxnRequest {
        transactional_id: ID.into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        group_id: group.into(),
    });
    error(call(rig, version, request).await.error_code)
}

fn txn_commit(producer: Producer, offset: i64) -> TxnOffsetCommitRequest {
    let partition = |partition_index| {
        message!(TxnOffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            committed_metadata: Some("".into()),
        })
    };
    let topic = |name: &str, index| {
        message!(TxnOffsetCommitRequestTopic { name: name.into(), partitions: vec![partition(index)] })
    };
    message!(TxnOffsetCommitRequest {
        transactional_id: ID.into(),
        group_id: GROUP.into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        generation_id_or_member_epoch: -1,
        topics: vec![topic(TOPIC, 0), topic(TOPIC, 99), topic("nowhere", 0)],
    })
}

/// The code of the partition that there is. Those that there are not are refused by themselves, unless all are.
async fn commit_as(rig: &Rig, version: i16, request: &TxnOffsetCommitRequest) -> ErrorCode {
    let response = call(rig, version, request.clone()).await;
    let codes: Vec<ErrorCode> =
        response.topics.iter().map(|topic| error(topic.partitions[0].error_code)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let expected = if codes[0].is_ok() { unknown } else { codes[0] };
    assert_eq!(codes[1..], [expected, expected]);
    codes[0]
}

async fn end_as(rig: &Rig, version: i16, producer: Producer, committed: bool) -> Producer {
    let request = message!(EndTxnRequest {
        transactional_id: ID.into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        committed,
    });
    let response = call(rig, version, request).await;
    assert_eq!(error(response.error_code), ErrorCode::None);
    match version {
        5.. => Producer { id: response.producer_id, epoch: response.producer_epoch },
        _ => producer,
    }
}

/// The stable offset, once the markers are written.
async fn settled(rig: &Rig, id: Uuid) -> i64 {
    loop {
        match fetch(rig, 9, id, true, false).await {
            Some((offset, ErrorCode::None)) => return offset,
            Some((_, ErrorCode::UnstableOffsetCommit)) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
}

/// Commits in a new transaction; who comes while the last one is being ended has to ask again.
async fn commit_once_it_may(rig: &Rig, version: i16, producer: Producer, offset: i64) {
    if version < 5 {
        while add_offsets(rig, 4, producer, GROUP).await == ErrorCode::ConcurrentTransactions {
            tokio::task::yield_now().await;
        }
    }
    let request = txn_commit(producer, offset);
    loop {
        match commit_as(rig, version, &request).await {
            ErrorCode::None => return,
            ErrorCode::ConcurrentTransactions => tokio::task::yield_now().await,
            other => panic!("{other}"),
        }
    }
}

fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code that Kafka has")
}

#[tokio::test]
async fn offsets_count_when_their_transaction_is_committed_in_every_version() {
    let mut rig = start().await;
    let id = create(&rig).await;
    let mut producer = init(&rig).await;
    for version in ApiKey::TxnOffsetCommit.served().iter() {
        let end_version = if version >= 5 { 5 } else { 1 };
        let before = if version == 0 { -1 } else { i64::from(version) * 10 - 10 };
        for committed in [false, true] {
            commit_once_it_may(&rig, version, producer, i64::from(version) * 10).await;
            let pending = fetch(&rig, 9, id, true, false).await;
            assert_eq!(pending, Some((-1, ErrorCode::UnstableOffsetCommit)), "version {version}");
            assert_eq!(fetch(&rig, 9, id, false, false).await, Some((before, ErrorCode::None)));
            if committed && version % 2 == 1 {
                rig = restart(rig).await;
            }
            producer = end_as(&rig, end_version, producer, committed).await;
            let expected = if committed { i64::from(version) * 10 } else { before };
            assert_eq!(settled(&rig, id).await, expected, "version {version}, committed: {committed}");
        }
    }
}

#[tokio::test]
async fn a_commit_that_adds_itself_waits_for_the_markers_of_the_transaction_before() {
    let rig = start().await;
    let id = create(&rig).await;
    let producer = init(&rig).await;
    commit_once_it_may(&rig, 5, producer, 10).await;
    let next = Producer { epoch: producer.epoch + 1, ..producer };
    // The second one asks behind the first, whose end is decided then and has no marker yet.
    let (ended, ()) = tokio::join!(end_as(&rig, 5, producer, true), commit_once_it_may(&rig, 5, next, 20));
    assert_eq!(ended, next);
    end_as(&rig, 5, next, true).await;
    assert_eq!(settled(&rig, id).await, 20);
}

#[tokio::test]
async fn offsets_outside_of_the_transaction_are_refused_unless_the_commit_adds_them() {
    let rig = start().await;
    let id = create(&rig).await;
    let producer = init(&rig).await;
    for version in 0..=4 {
        let expected =
            if version >= 4 { ErrorCode::TransactionAbortable } else { ErrorCode::InvalidTxnState };
        assert_eq!(commit_as(&rig, version, &txn_commit(producer, 1)).await, expected, "version {version}");
    }
    assert_eq!(fetch(&rig, 9, id, true, false).await, Some((-1, ErrorCode::None)));
    assert_eq!(commit_as(&rig, 5, &txn_commit(producer, 1)).await, ErrorCode::None);
    assert_eq!(fetch(&rig, 9, id, true, false).await, Some((-1, ErrorCode::UnstableOffsetCommit)));
}

#[tokio::test]
async fn who_was_replaced_or_has_not_the_id_adds_and_commits_nothing() {
    let rig = start().await;
    create(&rig).await;
    let old = init(&rig).await;
    assert_eq!(add_offsets(&rig, 4, old, GROUP).await, ErrorCode::None);
    let new = init(&rig).await;
    assert!(new.epoch > old.epoch);
    let stranger = Producer { id: new.id + 1, epoch: 0 };
    for version in ApiKey::AddOffsetsToTxn.served().iter() {
        let fenced = if version < 2 { ErrorCode::InvalidProducerEpoch } else { ErrorCode::ProducerFenced };
        assert_eq!(add_offsets(&rig, version, old, GROUP).await, fenced);
        let mapping = ErrorCode::InvalidProducerIdMapping;
        assert_eq!(add_offsets(&rig, version, stranger, GROUP).await, mapping);
        assert_eq!(add_offsets(&rig, version, new, "").await, ErrorCode::InvalidGroupId);
    }
    for version in ApiKey::TxnOffsetCommit.served().iter() {
        let fenced = commit_as(&rig, version, &txn_commit(old, 1)).await;
        assert_eq!(fenced, ErrorCode::InvalidProducerEpoch, "version {version}");
        let counted =
            format!("{{api=\"TxnOffsetCommit\",error=\"INVALID_PRODUCER_EPOCH\"}} {}\n", version + 1);
        let metrics = rig.broker.context().metrics.encode();
        assert!(metrics.contains(&counted), "once a request: {metrics}");
        let unknown = commit_as(&rig, version, &txn_commit(stranger, 1)).await;
        assert_eq!(unknown, ErrorCode::InvalidProducerIdMapping, "version {version}");
    }
}

#[tokio::test]
async fn a_member_that_the_group_does_not_have_commits_nothing() {
    let rig = start().await;
    create(&rig).await;
    let producer = init(&rig).await;
    for version in 3..=5 {
        let mut request = txn_commit(producer, 1);
        request.member_id = "somebody".into();
        request.generation_id_or_member_epoch = 1;
        assert_eq!(add_offsets(&rig, 4, producer, GROUP).await, ErrorCode::None);
        assert_eq!(
            commit_as(&rig, version, &request).await,
            ErrorCode::IllegalGeneration,
            "version {version}"
        );
        request.group_id = "".into();
        assert_eq!(commit_as(&rig, version, &request).await, ErrorCode::InvalidGroupId, "version {version}");
    }
}
