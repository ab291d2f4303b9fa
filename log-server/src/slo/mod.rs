//! Lag objectives: how far behind a group may be, where it stands, and what follows from it.
//!
//! An objective is part of its group's configuration ([`objective`](crate::resource_config::objective)), durable with it.
//!
//! - [`monitor`]: where one objective stands. Pure; time is an argument.
//! - [`budget`]: how much of the time it was missed. Pure.
//! - [`arrivals`]: since when records have waited for it. Pure.
//! - [`relief`]: whether load is shed for it, which is as long as that helps. Pure.
//! - [`scale`]: how many workers its group needs. Pure.
//! - [`board`]: all of them, judged by every sample of lag.
//! - [`metrics`]: what is shown of them on `/metrics`.
//! - [`webhook`]: tells of changes by HTTP.
//! - [`webhook_target`]: where that may go.
//! - [`watch`]: the task that does all that, and has load shed.

mod arrivals;
mod board;
mod budget;
mod metrics;
mod monitor;
mod relief;
mod scale;
pub mod watch;
mod webhook;
mod webhook_target;

pub use board::{Event, Judgement, NoScale, Report, Scale, Slos};
pub use budget::Budget;
pub use metrics::SloMetrics;
pub use monitor::{BETTER_READINGS, Change, FAST_BURN, MISSING_READINGS, Monitor, State, WORSE_READINGS};
pub use scale::{Capacity, Load};
pub use webhook::{ANSWER_WAIT, Notice, QUEUE_MAX, URLS_MAX, Webhooks};
pub use webhook_target::{AllowedHosts, Target};
