//! What all handlers share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::BrokerConfig;
use crate::metrics::Metrics;

/// The broker as its handlers see it. Built once by [`Broker`](crate::Broker), shared by every connection.
pub struct Context {
    /// The settings.
    pub config: Arc<BrokerConfig>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The host that clients are told to connect to.
    pub advertised_host: String,
    /// The port that clients are told to connect to.
    pub advertised_port: u16,
    /// Cancelled when the broker begins to stop: waits end early with what there is.
    pub shutdown: CancellationToken,
}
