//! What clients ask of a group, free of the protocol's versions: a handler fills in what an old version leaves out.

use super::{ConsumerHeartbeat, Outcome, TopicImage};
use bytes::Bytes;
use std::sync::Arc;

/// A request that may change a group. Each is answered by the variant of [`Reply`](super::Reply) of the same name.
#[derive(Clone, Debug)]
pub enum Command {
    /// A member enters, or answers the call of, a rebalance. Parked until the join phase is over.
    Join(JoinGroup),
    /// A member asks for its assignment; the leader brings everybody's. Parked until the leader has spoken.
    Sync(SyncGroup),
    /// A member is alive.
    Heartbeat(Heartbeat),
    /// A member of a consumer group enters, is alive, or goes away.
    ConsumerHeartbeat(Box<ConsumerHeartbeat>),
    /// Members go away.
    Leave(LeaveGroup),
    /// Offsets are remembered.
    CommitOffsets(CommitOffsets),
    /// Offsets are remembered, if the transaction that they belong to is committed.
    CommitPendingOffsets(CommitPendingOffsets),
    /// A transaction has come to its end. Sent to the shard of each offsets partition that takes part in it.
    CompleteTransaction(CompleteTransaction),
    /// Offsets are forgotten on request.
    DeleteOffsets(DeleteOffsets),
    /// A group is forgotten on request.
    DeleteGroup(Arc<str>),
    /// Topics are gone, and with them every group's offsets in them. Sent to each shard.
    ForgetTopics(Vec<Arc<str>>),
    /// These are the topics from now on. Sent to each shard.
    SetTopics(Arc<TopicImage>),
}

/// Who a member says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberIdentity {
    /// Given by the coordinator; empty before that.
    pub member_id: Arc<str>,
    /// `group.instance.id`, chosen by a static member's operator (KIP-345).
    pub instance_id: Option<Arc<str>>,
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// Whose group.
    pub group_id: Arc<str>,
    /// Who; the member id is empty for a newcomer.
    pub member: MemberIdentity,
    /// The id to give to a newcomer. Made outside, since a machine that decides cannot roll dice; has to be unique.
    pub new_member_id: Arc<str>,
    /// Whether a dynamic newcomer has to come back with its id before it counts (version 4 and later, KIP-394).
    pub require_known_member_id: bool,
    /// Whether the client understands "you lead, and need not assign" (version 9, KIP-814).
    pub supports_skip_assignment: bool,
    /// `client.id` of the request.
    pub client_id: Arc<str>,
    /// Where the request came from, as Kafka prints it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// Silence after which the member counts as gone.
    pub session_timeout_ms: i32,
    /// How long the member may take to join again once a rebalance has begun.
    pub rebalance_timeout_ms: i32,
    /// `consumer` for consumers, `connect` for Connect workers.
    pub protocol_type: Arc<str>,
    /// Assignors that the member knows, best first, each with the member's subscription in its terms.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// Whose group.
    pub group_id: Arc<str>,
    /// Who.
    pub member: MemberIdentity,
    /// The generation that the member was told.
    pub generation: i32,
    /// What the member takes the group's protocol type to be, if it says (version 5 and later).
    pub protocol_type: Option<Arc<str>>,
    /// What the member takes the chosen protocol to be, if it says (version 5 and later).
    pub protocol: Option<Arc<str>>,
    /// Assignments by member id; only the leader brings any.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Whose group.
    pub group_id: Arc<str>,
    /// Who.
    pub member: MemberIdentity,
    /// The generation that the member lives in.
    pub generation: i32,
}

/// LeaveGroup, for one member or (version 3 and later) many.
#[derive(Clone, Debug)]
pub struct LeaveGroup {
    /// Whose group.
    pub group_id: Arc<str>,
    /// Who leaves. A static member may be named by its instance id alone.
    pub members: Vec<MemberIdentity>,
}

/// OffsetCommit.
#[derive(Clone, Debug)]
pub struct CommitOffsets {
    /// Whose group.
    pub group_id: Arc<str>,
    /// Who; empty for a consumer that assigns itself and for tools.
    pub member: MemberIdentity,
    /// The generation that the member lives in; -1 for a consumer that assigns itself and for tools.
    pub generation: i32,
    /// Whether the client knows the error GROUP_ID_NOT_FOUND here (version 9 and later).
    pub knows_group_not_found: bool,
    /// How long to keep the offsets, when the client says so (versions 2 to 4).
    pub retention_ms: Option<i64>,
    /// What to remember.
    pub offsets: Vec<OffsetToCommit>,
}

/// TxnOffsetCommit.
#[derive(Clone, Debug)]
pub struct CommitPendingOffsets {
    /// Whose group.
    pub group_id: Arc<str>,
    /// Who; empty if the producer does not say (versions before 3).
    pub member: MemberIdentity,
    /// The generation or member epoch that the member lives in; -1 if the producer does not say.
    pub generation: i32,
    /// Whose transaction.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// What [`completions`](super::GroupCoordinator::completions) was before the transaction coordinator was asked
    /// whether the transaction is open.
    pub completions: u64,
    /// What to remember.
    pub offsets: Vec<OffsetToCommit>,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct CompleteTransaction {
    /// Whose transaction.
    pub producer_id: i64,
    /// The producer's epoch, which fences older ones from now on.
    pub producer_epoch: i16,
    /// How it ended.
    pub outcome: Outcome,
}

/// One partition's offset of a [`CommitOffsets`] or a [`CommitPendingOffsets`].
#[derive(Clone, Debug)]
pub struct OffsetToCommit {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition index.
    pub partition: i32,
    /// The next offset that the group wants to read.
    pub offset: i64,
    /// Leader epoch of the last record consumed, -1 if unknown.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Arc<str>,
}

/// OffsetDelete.
#[derive(Clone, Debug)]
pub struct DeleteOffsets {
    /// Whose group.
    pub group_id: Arc<str>,
    /// Topic and partition of each offset to forget.
    pub partitions: Vec<(Arc<str>, i32)>,
}
