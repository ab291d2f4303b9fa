//! What all handlers share.

use std::sync::Arc;
use std::time::Instant;

use log_core::log::LogDir;
use tokio_util::sync::CancellationToken;

use crate::config::BrokerConfig;
use crate::dynamic::DynamicConfig;
use crate::lag::Board;
use crate::metrics::Metrics;
use crate::net::Connections;
use crate::partition::{ColdReads, FetchSessions, Registry};
use crate::quota::Quotas;
use crate::resource_config::ResourceConfigs;
use crate::runtime::{GroupRouter, Transactions};
use crate::scrub::Scrubber;
use crate::shedding::Shedding;
use crate::slo::Slos;
use crate::space::Space;
use crate::spans::Spans;
use crate::telemetry::Clients;
use crate::topic::{Catalog, TopicManager};

/// The broker as its handlers see it. Built once by [`Broker`](crate::Broker), shared by every connection.
pub struct Context {
    /// The settings that the broker was started with.
    pub config: Arc<BrokerConfig>,
    /// The settings of this moment: those, with what was changed since.
    pub dynamic: Arc<DynamicConfig>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// When the broker was started, by the wall clock, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// The same moment by the clock that never goes back.
    pub started_at: Instant,
    /// The cluster's id, fixed when the data directory was made.
    pub cluster_id: String,
    /// The host that clients are told to connect to.
    pub advertised_host: String,
    /// The port that clients are told to connect to.
    pub advertised_port: u16,
    /// The data directory: its identity and its health.
    pub log_dir: Arc<LogDir>,
    /// Which topics there are.
    pub catalog: Arc<Catalog>,
    /// Changes which topics there are.
    pub topics: Arc<TopicManager>,
    /// The partitions that are served.
    pub partitions: Arc<Registry>,
    /// The coordinators of consumer groups.
    pub groups: Arc<GroupRouter>,
    /// The coordinators of transactions.
    pub transactions: Arc<Transactions>,
    /// What every group is behind by, as of the newest sample.
    pub lag: Arc<Board>,
    /// Where the lag objectives of groups stand.
    pub slos: Arc<Slos>,
    /// Which producers are held up or refused for the sake of others.
    pub shedding: Arc<Shedding>,
    /// What clients may produce and fetch, and have.
    pub quotas: Arc<Quotas>,
    /// What was set for groups and for subscriptions to clients' metrics.
    pub resource_configs: Arc<ResourceConfigs>,
    /// Clients that push their metrics, and what they pushed.
    pub telemetry: Clients,
    /// Who is connected.
    pub connections: Connections,
    /// Incremental fetch sessions.
    pub fetch_sessions: FetchSessions,
    /// Where reads go that have to wait for the disk.
    pub cold_reads: ColdReads,
    /// What reads sealed segments again and again.
    pub scrubber: Arc<Scrubber>,
    /// Whether the disk has room for more.
    pub space: Arc<Space>,
    /// What sends traces, if it is on.
    pub spans: Option<Arc<Spans>>,
    /// Cancelled when the broker begins to stop: waits end early with what there is.
    pub shutdown: CancellationToken,
}
