//! TxnOffsetCommit (28), versions 0 to 5: offsets of a group that count if the transaction is committed.
//!
//! - The transaction has to be open and to have the group's partition of `__consumer_offsets` in it: versions 0 to 4
//!   expect AddOffsetsToTxn before, version 5 adds it by itself (KIP-890). Without it, a commit that was late on its way
//!   would begin a transaction that nobody ends: INVALID_TXN_STATE, from version 4 on TRANSACTION_ABORTABLE.
//! - Version 3 says which member commits (KIP-447): ILLEGAL_GENERATION, for an old member epoch, too;
//!   UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID. Who does not say is trusted.
//! - A producer that was replaced is told INVALID_PRODUCER_EPOCH, as with Produce.
//! - While the transaction before is still being ended: CONCURRENT_TRANSACTIONS in version 5, else
//!   COORDINATOR_LOAD_IN_PROGRESS, which older producers ask again after.
//! - UNKNOWN_TOPIC_OR_PARTITION, OFFSET_METADATA_TOO_LARGE: for one partition. Other errors stand at each partition.
//! - Answered once it is on disk.

use std::sync::Arc;

use log_core::wire::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use log_core::wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use log_core::wire::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use log_core::wire::{ApiKey, ErrorCode, StrBytes, message};

use super::group_errors::code_of;
use super::group_requests::{own, own_option};
use super::transaction_errors::told_as;
use super::{Context, Request};
use crate::coordinator::group::{
    Command, CommitPendingOffsets, GroupError, MemberIdentity, OffsetToCommit, Reply,
};
use crate::coordinator::transaction::{Producer, Protocol, TopicPartition};

/// The first version whose commit adds the group's offsets to the transaction.
const IMPLICIT_FROM: i16 = 5;

/// The first version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_FROM: i16 = 4;

/// Begins to answer one request.
pub fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: TxnOffsetCommitRequest,
) -> impl Future<Output = TxnOffsetCommitResponse> + Send + use<> {
    let context = context.clone();
    let version = request.version();
    let transactional_id = own(&message.transactional_id);
    let mut offsets = Vec::new();
    let topics = message.topics.into_iter().map(|topic| check(&context, topic, &mut offsets));
    let mut response = message!(TxnOffsetCommitResponse { topics: topics.collect() });
    let reader = request.reader_id();
    let commit = CommitPendingOffsets {
        group_id: own(&message.group_id),
        member: MemberIdentity {
            member_id: own(&message.member_id),
            instance_id: own_option(&message.group_instance_id),
        },
        generation: message.generation_id_or_member_epoch,
        producer_id: message.producer_id,
        producer_epoch: message.producer_epoch,
        completions: 0,
        offsets,
    };
    let committer = commit.member.member_id.is_empty().then(|| commit.group_id.clone());
    async move {
        let outcomes = match commit_pending(&context, version, &transactional_id, commit).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let error = in_words_of(version, error);
                return refuse_all(response, told_as(&context, ApiKey::TxnOffsetCommit, version, error));
            }
        };
        if let Some(group) = committer.filter(|_| outcomes.contains(&0)) {
            context.lag.note_committer(&group, reader);
        }
        let accepted = (response.topics.iter_mut())
            .flat_map(|topic| &mut topic.partitions)
            .filter(|partition| partition.error_code == 0);
        for (partition, outcome) in accepted.zip(outcomes) {
            partition.error_code = outcome;
        }
        response
    }
}

/// Makes sure that the transaction is open, and hands the offsets to the group. The outcome of each, as a code.
///
/// If a transaction of the producer's has ended in between, that may have been the one before, whose end the coordinator
/// has waited for. So a commit that adds its partition is tried once more: then the next end is the transaction's own,
/// and what comes after it is late.
async fn commit_pending(
    context: &Context,
    version: i16,
    transactional_id: &str,
    mut commit: CommitPendingOffsets,
) -> Result<Vec<i16>, ErrorCode> {
    let group_id = commit.group_id.clone();
    if group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let partition = context.groups.offsets_partition(&group_id).await?;
    let producer = Producer { id: commit.producer_id, epoch: commit.producer_epoch };
    let mut tries_left = if version >= IMPLICIT_FROM { 2 } else { 1 };
    loop {
        // Before the transaction is looked at: if it ends between the look and the commit, the group notices.
        commit.completions = context.groups.query(&group_id, move |it| it.completions(producer.id)).await?;
        check_transaction(context, version, transactional_id, producer, partition.clone()).await?;
        tries_left -= 1;
        match context.groups.submit(&group_id, Command::CommitPendingOffsets(commit.clone())).await? {
            Reply::CommitPendingOffsets(Ok(outcomes)) => {
                context.shedding.spared().note_committer(producer.id, &group_id);
                return Ok(outcomes.into_iter().map(code_of).collect());
            }
            Reply::CommitPendingOffsets(Err(GroupError::TransactionEnded)) if tries_left > 0 => {}
            Reply::CommitPendingOffsets(Err(error)) => return Err(error.into()),
            _ => return Err(ErrorCode::UnknownServerError),
        }
    }
}

/// Makes sure that the transaction is open and has `partition` in it.
async fn check_transaction(
    context: &Context,
    version: i16,
    transactional_id: &str,
    producer: Producer,
    partition: TopicPartition,
) -> Result<(), ErrorCode> {
    let (transactions, partitions) = (&context.transactions, vec![partition]);
    let checked = if version >= IMPLICIT_FROM {
        transactions.add_partitions(transactional_id, producer, partitions, Protocol::V2).await
    } else {
        match transactions.verify(transactional_id, producer, partitions).await {
            Ok(found) if found == [true] => Ok(()),
            Ok(_) => return Err(ErrorCode::InvalidTxnState),
            Err(error) => Err(error),
        }
    };
    Ok(checked?)
}

/// An error as clients of this version know it.
fn in_words_of(version: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::ConcurrentTransactions if version < IMPLICIT_FROM => ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::InvalidTxnState if version >= ABORTABLE_FROM => ErrorCode::TransactionAbortable,
        error => error,
    }
}

/// The answer for a topic as far as it is known already; what the group has to decide on goes to `offsets`, in order.
fn check(
    context: &Context,
    topic: TxnOffsetCommitRequestTopic,
    offsets: &mut Vec<OffsetToCommit>,
) -> TxnOffsetCommitResponseTopic {
    let found = context.catalog.get(&topic.name);
    let partitions = topic.partitions.into_iter().map(|wanted| {
        let index = wanted.partition_index;
        let error = match &found {
            Some(found) if (0..found.partitions).contains(&index) => {
                offsets.push(OffsetToCommit {
                    topic: found.name.clone(),
                    partition: index,
                    offset: wanted.committed_offset,
                    leader_epoch: wanted.committed_leader_epoch,
                    metadata: wanted.committed_metadata.as_ref().map_or_else(|| Arc::from(""), own),
                });
                ErrorCode::None
            }
            _ => ErrorCode::UnknownTopicOrPartition,
        };
        message!(TxnOffsetCommitResponsePartition { partition_index: index, error_code: error.code() })
    });
    let partitions = partitions.collect();
    // The name is a slice of the connection's buffer, which has to be free for the next request.
    message!(TxnOffsetCommitResponseTopic { name: StrBytes::from(&*topic.name), partitions: partitions })
}

fn refuse_all(mut response: TxnOffsetCommitResponse, error: ErrorCode) -> TxnOffsetCommitResponse {
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = error.code();
    }
    response
}
