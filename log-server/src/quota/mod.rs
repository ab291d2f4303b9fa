//! Quotas: how many bytes a second a client may produce and fetch, by the id that it calls itself by (KIP-13, KIP-219,
//! KIP-546).
//!
//! - [`store`]: what was set, durable in `quotas.json`.
//! - [`bucket`]: how much of its rate a client has left. Pure; time is an argument.
//! - [`limiter`]: a bucket for every client id that has a quota, and how long each was held up.
//!
//! Handlers charge a client's bytes and are told how long to hold it up; the answer says so, and the connection is not
//! read for that long.

mod bucket;
mod limiter;
mod store;

pub use bucket::{Bucket, Limit};
pub use limiter::{Direction, Quotas};
pub use store::{Entity, MAX_ENTITIES, QuotaError, QuotaStore, Rates};
