//! Consumer lag: what every group is behind by, in records and in seconds.
//!
//! For each partition in which a group has an offset:
//!
//! - *log end*: the high watermark, up to which a consumer can read;
//! - *lag in records*: from the offset to the log end. What was deleted before the group came to it cannot be consumed
//!   any more and does not count;
//! - *lag in seconds*: the age, by this broker's clock, of the first record that the group has not consumed; 0 when it
//!   has consumed everything. A consumer that stops under a steady load falls behind by one second per second.
//!
//! A record's age counts from its timestamp, which the producer sets, or the broker where the topic says so. Without a
//! timestamp, or with one from the future, it is 0.
//!
//! Both may take reading the log: to tell how many of the offsets are records that the group will see, and which is
//! the first. What was found is remembered, and one look reads so much at most, shared out by an
//! [`Allowance`](allowance::Allowance). What a look does not come to is never called 0: records count by offsets, and
//! seconds go on from what they were, or are not known. Decision 18 has the reasons.

mod allowance;
mod board;
mod cache;
mod compute;
mod history;
mod meter;
mod rate;
mod sample;

pub use board::Board;
pub use compute::{of_all_groups, of_group};
pub use history::{HistoryPoint, LagHistory};
pub use rate::{ConsumeRate, ProduceRate, catch_up_seconds};
pub use sample::{GroupLag, LagSample, PartitionLag, Rates};
