//! Consumer groups of the protocol of KIP-848: members say by heartbeats what they subscribe to and what they hold, and
//! the coordinator decides who gets what.
//!
//! Three epochs order everything. The *group's* counts up with every change that asks for a new assignment: members,
//! subscriptions, topics. The *target assignment's* is the group's for which it was computed, which is done at once.
//! A *member's* is the one of the target that it has come to: it moves there by itself, giving up partitions first and
//! getting new ones when their former owners have given them up (`reconcile.rs`). So no partition ever has two owners,
//! and a member that is not concerned goes on working.
//!
//! **Durable**: everything but deadlines. **Soft**: when each member was last heard of, and until when it has to give up
//! what it was asked for; a restart begins both anew.

mod assignment;
mod assignor;
mod assignor_range;
mod assignor_uniform;
mod classic_member;
mod describe;
mod draft;
mod group;
mod heartbeat;
mod member;
mod migration;
mod reconcile;
mod record;
mod regex;
mod topics;

#[cfg(test)]
mod assignor_tests;
#[cfg(test)]
mod heartbeat_tests;
#[cfg(test)]
mod migration_property_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod static_tests;
#[cfg(test)]
pub(super) mod testing;

pub use assignment::Assignment;
pub use assignor::Assignor;
pub use describe::{ConsumerGroupDescription, ConsumerMemberDescription};
pub use group::{ConsumerGroup, ConsumerRecord, ResolvedRegex};
pub use heartbeat::{ConsumerHeartbeat, HeartbeatAnswer, LEAVE_EPOCH, LEAVE_STATIC_EPOCH};
pub use member::{ClassicMember, ConsumerMember, Current, MemberMetadata, MemberState};
pub use topics::{TopicId, TopicImage, TopicInfo};

pub(super) use draft::record_events;
pub(super) use record::{decode, encode};
