//! The errors of answers that are put together in many places, counted where they are sent: one for each partition,
//! topic, group or member that has one, as in the answers of the other handlers.

use log_core::wire::messages::{
    ConsumerGroupDescribeResponse, DeleteGroupsResponse, DescribeGroupsResponse,
    DescribeTopicPartitionsResponse, FindCoordinatorResponse, HeartbeatResponse, LeaveGroupResponse,
    MetadataResponse, OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse, SyncGroupResponse,
};
use log_core::wire::{ApiKey, ErrorCode};

use super::Context;

/// An answer that knows its error codes.
pub(super) trait AnsweredErrors {
    /// Every code in it, 0 for what went well.
    fn codes(&self) -> impl Iterator<Item = i16>;
}

/// Counts the errors of an answer.
pub(super) fn count(context: &Context, api: ApiKey, answer: &impl AnsweredErrors) {
    for code in answer.codes().filter(|code| *code != 0) {
        let error = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
        context.metrics.error_answered(api, error.name());
    }
}

macro_rules! answered {
    ($($answer:ident: |$it:ident| $codes:expr;)*) => {
        $(impl AnsweredErrors for $answer {
            fn codes(&self) -> impl Iterator<Item = i16> {
                let $it = self;
                $codes
            }
        })*
    };
}

answered! {
    ConsumerGroupDescribeResponse: |it| it.groups.iter().map(|group| group.error_code);
    DeleteGroupsResponse: |it| it.results.iter().map(|group| group.error_code);
    DescribeGroupsResponse: |it| it.groups.iter().map(|group| group.error_code);
    DescribeTopicPartitionsResponse: |it| it.topics.iter().map(|topic| topic.error_code);
    // From version 4 on it has a list instead.
    FindCoordinatorResponse: |it| [it.error_code].into_iter()
        .chain(it.coordinators.iter().map(|coordinator| coordinator.error_code));
    HeartbeatResponse: |it| [it.error_code].into_iter();
    LeaveGroupResponse: |it| [it.error_code].into_iter()
        .chain(it.members.iter().map(|member| member.error_code));
    MetadataResponse: |it| it.topics.iter().map(|topic| topic.error_code);
    OffsetCommitResponse: |it| it.topics.iter().flat_map(|topic| &topic.partitions)
        .map(|partition| partition.error_code);
    OffsetDeleteResponse: |it| [it.error_code].into_iter()
        .chain(it.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code));
    // From version 8 on it has a list of groups instead.
    OffsetFetchResponse: |it| [it.error_code].into_iter()
        .chain(it.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code))
        .chain(it.groups.iter().map(|group| group.error_code))
        .chain(it.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions)
            .map(|partition| partition.error_code));
    SyncGroupResponse: |it| [it.error_code].into_iter();
}
