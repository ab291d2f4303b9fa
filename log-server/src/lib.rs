//! The Highwater broker: everything between a socket and the log.
//!
//! A request passes these rooms, in this order, and none of them knows the one before it:
//!
//! ```text
//! net        frames in, frames out, in order; limits and deadlines
//! handler    one file per API: Kafka's rules and error codes
//! partition  one log under its lock, its readers, its waiters; the flusher
//! topic      which topics there are and how they are configured
//! runtime    drives the coordinators, which are pure state machines (coordinator)
//! lag        what every group is behind by
//! slo        where that stands against the groups' objectives
//! shedding   which producers are held up or refused for it
//! http       metrics, health and a JSON API, beside all that
//! ```
//! [`Broker`] builds them and takes them down again. Without the feature `broker` only the coordinators are left,
//! which need neither a runtime nor a socket, and with `files` the files that are not logs.

#[cfg(feature = "broker")]
pub mod broker;
#[cfg(feature = "broker")]
mod clock;
#[cfg(feature = "broker")]
mod compactor;
#[cfg(feature = "broker")]
pub mod config;
pub mod coordinator;
#[cfg(feature = "broker")]
pub mod dynamic;
#[cfg(feature = "broker")]
pub mod embedded;
#[cfg(feature = "broker")]
pub mod handler;
#[cfg(feature = "broker")]
mod housekeeping;
#[cfg(feature = "broker")]
pub mod http;
#[cfg(feature = "broker")]
pub mod lag;
#[cfg(feature = "broker")]
pub mod limits;
#[cfg(feature = "broker")]
mod map_budget;
#[cfg(feature = "broker")]
pub mod metrics;
#[cfg(feature = "broker")]
pub mod net;
#[cfg(feature = "broker")]
pub mod partition;
#[cfg(feature = "broker")]
pub mod pressure;
#[cfg(feature = "files")]
pub mod producer_ids;
#[cfg(feature = "broker")]
pub mod quota;
#[cfg(feature = "broker")]
pub mod resource_config;
#[cfg(feature = "broker")]
pub mod runtime;
#[cfg(feature = "broker")]
pub mod scrub;
#[cfg(feature = "broker")]
pub mod shedding;
#[cfg(feature = "broker")]
pub mod slo;
#[cfg(feature = "broker")]
pub mod space;
#[cfg(feature = "broker")]
pub mod spans;
#[cfg(feature = "broker")]
pub mod telemetry;
#[cfg(feature = "files")]
pub mod topic;

#[cfg(feature = "broker")]
pub use broker::Broker;
#[cfg(feature = "broker")]
pub use config::BrokerConfig;
#[cfg(feature = "broker")]
pub use embedded::EphemeralBroker;
