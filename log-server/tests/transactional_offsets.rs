//! Offsets that wait for the end of a transaction, as OffsetFetch shows them in every version, and across restarts.

mod support;

use std::sync::Arc;

use log_core::wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use log_core::wire::messages::{OffsetFetchRequest, OffsetFetchResponse};
use log_core::wire::{ApiKey, ErrorCode, StrBytes, Uuid, message};
use log_server::coordinator::group::{
    Command, CommitPendingOffsets, MemberIdentity, OffsetToCommit, Outcome, Reply,
};
use log_server::runtime::{NotCompleted, partition_of};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};
use support::{Rig, ask, start};

const GROUP: &str = "readers";
const TOPIC: &str = "flights";
const PRODUCER: i64 = 4_000;

async fn create(rig: &Rig) -> Uuid {
    let new = NewTopic { partitions: Some(2), ..NewTopic::named(TOPIC) };
    rig.broker.context().topics.create(vec![new]).await.remove(0).unwrap().id
}

async fn restart(rig: Rig) -> Rig {
    let Rig { broker, dir } = rig;
    broker.shutdown().await;
    let broker = Broker::start(BrokerConfig::for_test(dir.path())).await.unwrap();
    let groups = &broker.context().groups;
    while !groups.is_ready() {
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
