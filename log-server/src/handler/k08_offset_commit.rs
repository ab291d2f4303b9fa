//! OffsetCommit (8), versions 2 to 10: a group remembers how far it has read.
//!
//! - Answered once the offsets are on disk.
//! - v2 to v4 carry a retention time; -1 leaves it to the broker (KIP-211 took it away).
//! - v6: leader epochs. v7: static members. v9: GROUP_ID_NOT_FOUND instead of ILLEGAL_GENERATION where there is no such
//!   group (KIP-848). v10: topics by id, UNKNOWN_TOPIC_ID where there is none.
//! - Members of a consumer group have to use v9 or later (UNSUPPORTED_VERSION) and show their epoch
//!   (STALE_MEMBER_EPOCH), where others show their generation. An older epoch will do for partitions that the member
//!   has held since then (KIP-1251).
//! - UNKNOWN_TOPIC_OR_PARTITION for partitions that are not there, OFFSET_METADATA_TOO_LARGE for too long a text: both
//!   refuse one partition. Errors of the group are told for each partition, as the answer has no place of its own.

use std::sync::Arc;

use log_core::wire::messages::offset_commit_request::OffsetCommitRequestTopic;
use log_core::wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use log_core::wire::messages::{OffsetCommitRequest, OffsetCommitResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::group_errors::code_of;
use super::group_requests::{own, own_option};
use super::{Context, Request};
use crate::coordinator::group::{Command, CommitOffsets, MemberIdentity, OffsetToCommit, Reply};

/// Begins to answer one request.
pub fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: OffsetCommitRequest,
) -> impl Future<Output = OffsetCommitResponse> + Send + use<> {
    let version = request.version();
    let mut offsets = Vec::new();
    let topics = message.topics.into_iter().map(|topic| check(context, version, topic, &mut offsets));
    let mut response = message!(OffsetCommitResponse { topics: topics.collect() });
    let retention_ms = Some(message.retention_time_ms).filter(|ms| (2..=4).contains(&version) && *ms >= 0);
    let commit = CommitOffsets {
        group_id: own(&message.group_id),
        member: MemberIdentity {
            member_id: own(&message.member_id),
            instance_id: own_option(&message.group_instance_id),
        },
        generation: message.generation_id_or_member_epoch,
        knows_group_not_found: version >= 9,
        retention_ms,
        offsets,
    };
    let lag = context.lag.clone();
    let committer =
        commit.member.member_id.is_empty().then(|| (commit.group_id.clone(), request.reader_id()));
    let answer = context.groups.submit(&message.group_id, Command::CommitOffsets(commit));
    async move {
        let outcomes: Vec<i16> = match answer.await {
            Ok(Reply::CommitOffsets(Ok(outcomes))) => outcomes.into_iter().map(code_of).collect(),
            Ok(Reply::CommitOffsets(Err(error))) => return refuse_all(response, error.into()),
            Ok(_) => return refuse_all(response, ErrorCode::UnknownServerError),
            Err(error) => return refuse_all(response, error.into()),
        };
        if let Some((group, reader)) = committer.filter(|_| outcomes.contains(&0)) {
            lag.note_committer(&group, reader);
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

/// The answer for a topic as far as it is known already; what the group has to decide on goes to `offsets`, in order.
fn check(
    context: &Context,
    version: i16,
    topic: OffsetCommitRequestTopic,
    offsets: &mut Vec<OffsetToCommit>,
) -> OffsetCommitResponseTopic {
    let found = match version {
        10.. => context.catalog.get_by_id(&topic.topic_id),
        _ => context.catalog.get(&topic.name),
    };
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
            Some(_) => ErrorCode::UnknownTopicOrPartition,
            None if version >= 10 => ErrorCode::UnknownTopicId,
            None => ErrorCode::UnknownTopicOrPartition,
        };
        message!(OffsetCommitResponsePartition { partition_index: index, error_code: error.code() })
    });
    let partitions = partitions.collect();
    // The name is a slice of the connection's buffer, which has to be free for the next request.
    let name = StrBytes::from(&*topic.name);
    message!(OffsetCommitResponseTopic { name: name, topic_id: topic.topic_id, partitions: partitions })
}

fn refuse_all(mut response: OffsetCommitResponse, error: ErrorCode) -> OffsetCommitResponse {
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = error.code();
    }
    response
}
