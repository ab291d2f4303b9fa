//! Configurations of groups and of subscriptions to clients' metrics: what can be set by name, and what was.
//!
//! Names and types are Kafka's ([GroupConfig], KIP-714). They are kept apart from topics', which live in the catalog, and
//! from the broker's ([`crate::dynamic`]): a group may be configured before it exists.
//!
//! [GroupConfig]: https://kafka.apache.org/documentation/#groupconfigs

mod definition;
pub mod objective;
mod store;

pub use definition::{Definition, InvalidConfig, MATCH_KEYS, check, collect, definition, definitions};
pub use store::{ResourceConfigError, ResourceConfigs};

/// What is configured, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum Kind {
    /// A subscription to clients' metrics (KIP-714).
    ClientMetrics = 16,
    /// A group of consumers.
    Group = 32,
}

impl Kind {
    /// The kind of that number.
    pub fn from_wire(number: i8) -> Option<Kind> {
        [Kind::ClientMetrics, Kind::Group].into_iter().find(|kind| *kind as i8 == number)
    }
}
