//! The data plane: each partition a log under one lock, readers beside it, waiters, and the threads that sync.

mod checkpointer;
mod cold_reads;
mod fetch_session;
mod flusher;
mod idle_threads;
#[expect(clippy::module_inception, reason = "the room is named after its main noun")]
mod partition;
mod rate_window;
mod readers;
mod registry;
mod sync_choice;
mod traffic;
mod waiters;

pub use checkpointer::Checkpointer;
pub use cold_reads::ColdReads;
pub use fetch_session::{FetchSessions, SessionError, SessionFetch, SessionPartition};
pub use flusher::{Flusher, Turn};
pub use partition::{Asked, LEADER_EPOCH, NotDurable, Partition};
pub use rate_window::RATE_WINDOW;
pub use readers::{ReaderId, Readers};
pub use registry::Registry;
pub use traffic::{Traffic, TrafficRates, watch_traffic};
pub use waiters::{Awaited, Registration, Waiters};
