//! What clients are told, free of the protocol's versions.

use super::HeartbeatAnswer;
use bytes::Bytes;
use std::sync::Arc;

/// The answer to a [`Command`](super::Command).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Join`.
    Join(Result<Joined, JoinRefused>),
    /// To `Sync`.
    Sync(Result<Synced, GroupError>),
    /// To `ConsumerHeartbeat`.
    ConsumerHeartbeat(Result<HeartbeatAnswer, GroupError>),
    /// To `Heartbeat`.
    Heartbeat(Result<(), GroupError>),
    /// To `Leave`: an outcome for each member in the order of the request.
    Leave(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To `CommitOffsets`: an outcome for each offset in the order of the request.
    CommitOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To `CommitPendingOffsets`: an outcome for each offset in the order of the request.
    CommitPendingOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To `CompleteTransaction`.
    CompleteTransaction(Result<(), GroupError>),
    /// To `DeleteOffsets`: an outcome for each partition in the order of the request.
    DeleteOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To `DeleteGroup`.
    DeleteGroup(Result<(), GroupError>),
    /// To `ForgetTopics`: how many offsets were forgotten.
    ForgetTopics(usize),
    /// To `SetTopics`.
    SetTopics,
}

/// A generation, as told to one member at the end of the join phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation's number.
    pub generation: i32,
    /// Of the group.
    pub protocol_type: Option<Arc<str>>,
    /// The one that was voted for.
    pub protocol: Option<Arc<str>>,
    /// Member id of the leader, who assigns.
    pub leader: Arc<str>,
    /// The leader need not assign: the assignment stands.
    pub skip_assignment: bool,
    /// The member that is told.
    pub member_id: Arc<str>,
    /// Everybody, for the leader; nobody, for others.
    pub members: Vec<JoinedMember>,
}

/// A member, as told to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The member's subscription in terms of the chosen protocol.
    pub subscription: Bytes,
}

/// A member that is not let in, and the id that it should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The id to come back with when the error is `MemberIdRequired`; otherwise the one that the request bore.
    pub member_id: Arc<str>,
}

/// What a member is to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Of the group.
    pub protocol_type: Option<Arc<str>>,
    /// In whose terms the assignment is written.
    pub protocol: Option<Arc<str>>,
    /// The leader's words, passed on unread.
    pub assignment: Bytes,
}

/// Why a group refuses. Handlers turn each into the protocol's error code of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GroupError {
    /// Empty where the protocol wants a name.
    #[error("the group id is not valid")]
    InvalidGroupId,
    /// Outside `group.min.session.timeout.ms ..= group.max.session.timeout.ms`.
    #[error("the session timeout is outside the range that this broker allows")]
    InvalidSessionTimeout,
    /// The id is nobody's in this group.
    #[error("the member is unknown to the group")]
    UnknownMemberId,
    /// Come back with the id that goes with this error.
    #[error("the member has to join again with the id that it was given")]
    MemberIdRequired,
    /// The instance id belongs to another member by now.
    #[error("another member with the same instance id has taken this one's place")]
    FencedInstanceId,
    /// The member lives in the past.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// The member and the group have no protocol in common.
    #[error("the protocols do not match those of the group's members")]
    InconsistentGroupProtocol,
    /// The member has to join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// `group.max.size` members already.
    #[error("the group has as many members as it may have")]
    GroupMaxSizeReached,
    /// No such group.
    #[error("the group does not exist")]
    GroupIdNotFound,
    /// The group has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// Members of the group read the topic.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The member's epoch is not the one that it was told: it has to give everything up and enter again.
    #[error("the member epoch is not the one that the group knows; abandon all partitions and join again")]
    FencedMemberEpoch,
    /// The member's epoch has moved on; it will learn the new one from its heartbeat.
    #[error("the member epoch is not the current one")]
    StaleMemberEpoch,
    /// The instance id belongs to another member, which has not gone away.
    #[error("another member with the same instance id is in the group")]
    UnreleasedInstanceId,
    /// No assignor of that name.
    #[error("the assignor is none of uniform, range")]
    UnsupportedAssignor,
    /// Not in the syntax of RE2, too long or too large.
    #[error("the subscription's regular expression is not valid")]
    InvalidRegularExpression,
    /// A member of a consumer group uses a version that does not know epochs.
    #[error("members of a consumer group have to use version 9 or above")]
    UnsupportedVersion,
    /// A newer epoch of the producer has been seen.
    #[error("the producer's epoch is an old one")]
    ProducerFenced,
    /// The transaction of a commit has ended before the commit could be taken.
    #[error("the transaction has ended")]
    TransactionEnded,
    /// More than `offset.metadata.max.bytes`.
    #[error("the metadata stored with the offset is too large")]
    OffsetMetadataTooLarge,
}
