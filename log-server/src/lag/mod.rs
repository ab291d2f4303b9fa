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
//! Looking up a timestamp reads the log, once for each offset: the result is kept in a [`LagCache`] until the group
//! moves on.

mod cache;
mod compute;

pub use cache::LagCache;
pub use compute::{GroupLag, PartitionLag, of_all_groups, of_group};
