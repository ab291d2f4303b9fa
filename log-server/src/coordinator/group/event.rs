//! What changes a coordinator's state: durable events, which the log keeps, and soft ones, which a restart loses.

use super::{Completion, ConsumerGroup, ConsumerRecord, Membership, PendingOffset, TopicImage};
use bytes::Bytes;
use std::sync::Arc;

/// One change. See `record.rs` for the encoding of the durable ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Durable: the group came to a new stable or empty generation, or a static member took over another's place.
    GroupStored {
        /// The group.
        group_id: Arc<str>,
        /// All that a restart needs to go on with the group.
        record: GroupRecord,
    },
    /// Durable: the classic group is forgotten, and with it everything if it has no offsets and is no consumer group.
    GroupRemoved {
        /// The group.
        group_id: Arc<str>,
    },
    /// Durable: a part of a consumer group is like this now.
    ConsumerStored {
        /// The group.
        group_id: Arc<str>,
        /// The part.
        record: ConsumerRecord,
    },
    /// Soft: this is what the consumer group looks like now. Its durable part is what `ConsumerStored` made of it.
    ConsumerChanged {
        /// The group.
        group_id: Arc<str>,
        /// All of it.
        group: Box<ConsumerGroup>,
    },
    /// Soft: these are the topics now.
    TopicsSet(Arc<TopicImage>),
    /// Durable: the group has an offset in a partition. Makes the group, if there is none.
    OffsetCommitted {
        /// The group.
        group_id: Arc<str>,
        /// Topic name.
        topic: Arc<str>,
        /// Partition index.
        partition: i32,
        /// The offset with what is known about it.
        committed: CommittedOffset,
    },
    /// Durable: the group has no offset in a partition any more.
    OffsetRemoved {
        /// The group.
        group_id: Arc<str>,
        /// Topic name.
        topic: Arc<str>,
        /// Partition index.
        partition: i32,
    },
    /// Durable: an offset waits for the end of the transaction that it was committed in, or is overtaken while it
    /// waits. Makes the group, if there is none.
    OffsetPending {
        /// The group.
        group_id: Arc<str>,
        /// Topic name.
        topic: Arc<str>,
        /// Partition index.
        partition: i32,
        /// Whose transaction.
        producer_id: i64,
        /// What waits.
        pending: PendingOffset,
    },
    /// Durable: an offset does not wait any more.
    PendingOffsetRemoved {
        /// The group.
        group_id: Arc<str>,
        /// Topic name.
        topic: Arc<str>,
        /// Partition index.
        partition: i32,
        /// Whose transaction.
        producer_id: i64,
    },
    /// Durable: a producer's transaction has come to its end, or (`None`) the producer is forgotten.
    ProducerCompleted {
        /// Which producer.
        producer_id: i64,
        /// With which epoch, and when.
        completion: Option<Completion>,
    },
    /// Soft: this is what the group looks like now. Its durable part never differs from what the last
    /// `GroupStored` says, unless the group is in the middle of a rebalance.
    MembershipChanged(Box<Membership>),
    /// Soft: a member was heard of.
    MemberSeen {
        /// The group.
        group_id: Arc<str>,
        /// The member.
        member_id: Arc<str>,
        /// Monotonic milliseconds at which its session ends if nothing more is heard.
        session_deadline_ms: u64,
    },
    /// Soft: the group's deadline came and nothing was due, because members were heard of since it was noted.
    DeadlinePassed {
        /// The group.
        group_id: Arc<str>,
    },
    /// Soft: a group that left nothing in the log is gone.
    GroupDropped {
        /// The group.
        group_id: Arc<str>,
    },
    /// Soft: old offsets were looked for.
    Swept {
        /// Monotonic milliseconds at which to look again.
        next_ms: u64,
    },
}

/// What the log remembers of a group's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// `None` in a group that never had members.
    pub protocol_type: Option<Arc<str>>,
    /// The generation's number.
    pub generation: i32,
    /// The chosen protocol; `None` without members.
    pub protocol: Option<Arc<str>>,
    /// Member id of the leader; `None` without members, and where those of a former consumer group have yet to join.
    pub leader: Option<Arc<str>>,
    /// Since when the group is stable or empty, in wall-clock milliseconds; unknown in records of old Kafka brokers.
    pub state_since_ms: Option<i64>,
    /// In the order of their ids.
    pub members: Vec<MemberRecord>,
}

/// What the log remembers of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Given by the coordinator.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// How long it may take to join again.
    pub rebalance_timeout_ms: i32,
    /// Silence after which it counts as gone.
    pub session_timeout_ms: i32,
    /// Its subscription in the terms of the chosen protocol.
    pub subscription: Bytes,
    /// What the leader gave it.
    pub assignment: Bytes,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset that the group wants to read.
    pub offset: i64,
    /// Leader epoch of the last record consumed, -1 if unknown.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Arc<str>,
    /// When it was committed, in wall-clock milliseconds.
    pub committed_at_ms: i64,
    /// When it is to be forgotten, in wall-clock milliseconds, if the client said so; otherwise the broker's
    /// retention applies.
    pub expires_at_ms: Option<i64>,
}
