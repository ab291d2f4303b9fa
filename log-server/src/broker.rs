//! The composition root: what is started, in what order, and how it stops.
//!
//! Start: bind (so that a port in use is known before a file is touched), listen. Stop: no more connections, answer
//! what is in flight.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{BrokerConfig, ConfigError};
use crate::handler::Context;
use crate::metrics::Metrics;
use crate::net::Listener;

/// A running broker. Any number of them live in one process, each in its own directory.
///
/// Must be started within a tokio runtime with at least one worker thread.
pub struct Broker {
    context: Arc<Context>,
    kafka_addr: SocketAddr,
    tasks: TaskTracker,
}

/// Why a broker does not start. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address does not parse or resolve.
    #[error("--{setting} {value}: {reason}; write HOST:PORT, for example 127.0.0.1:9092")]
    Address {
        /// The setting's name as a flag.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", bind_hint(.source, .setting))]
    Bind {
        /// The setting's name as a flag.
        setting: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn bind_hint(error: &io::Error, setting: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another process, perhaps another broker, has this port. Stop it, or choose another with --{setting} HOST:PORT"
        ),
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need privileges, choose a higher one".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have that address. 0.0.0.0 listens on all it has".to_owned()
        }
        _ => String::new(),
    }
}

impl Broker {
    /// Starts a broker and returns once it accepts connections.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub async fn start(config: BrokerConfig) -> Result<Broker, StartError> {
        config.check()?;
        let listener = bind("listen", &config.listen, Listener::bind)?;
        let kafka_addr = listener.address();
        let (advertised_host, advertised_port) = advertised(&config, kafka_addr)?;
        let context = Arc::new(Context {
            config: Arc::new(config),
            metrics: Arc::new(Metrics::new()),
            advertised_host,
            advertised_port,
            shutdown: CancellationToken::new(),
        });
        let tasks = TaskTracker::new();
        tokio::spawn(listener.run(context.clone(), tasks.clone()));
        Ok(Broker { context, kafka_addr, tasks })
    }

    /// The address that Kafka clients connect to, with the port that was chosen for port 0.
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka_addr
    }

    /// What the handlers share; for tests and for what is built around a broker.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Stops: accepts no more, answers what is in flight (for `shutdown_wait_ms` at most).
    pub async fn shutdown(self) {
        self.context.shutdown.cancel();
        self.tasks.close();
        let wait = Duration::from_millis(self.context.config.shutdown_wait_ms);
        if tokio::time::timeout(wait, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "gave up waiting for requests in flight");
        }
    }
}

/// Binds the first address that `value` resolves to.
fn bind<T>(
    setting: &'static str,
    value: &str,
    bind: impl FnOnce(SocketAddr) -> io::Result<T>,
) -> Result<T, StartError> {
    let refuse = |reason: String| StartError::Address { setting, value: value.to_owned(), reason };
    let address = value
        .to_socket_addrs()
        .map_err(|error| refuse(error.to_string()))?
        .next()
        .ok_or_else(|| refuse("resolves to no address".to_owned()))?;
    bind(address).map_err(|source| StartError::Bind { setting, address, source })
}

/// What clients are told to connect to: `advertise`, or else the address that is listened on. The wildcard address
/// means nothing to a client, so there the machine's loopback name stands in.
fn advertised(config: &BrokerConfig, bound: SocketAddr) -> Result<(String, u16), StartError> {
    if config.advertise.is_empty() {
        let host = if bound.ip().is_unspecified() { "localhost".to_owned() } else { bound.ip().to_string() };
        return Ok((host, bound.port()));
    }
    let refuse = |reason: &str| StartError::Address {
        setting: "advertise",
        value: config.advertise.clone(),
        reason: reason.to_owned(),
    };
    let (host, port) = config.advertise.rsplit_once(':').ok_or_else(|| refuse("has no port"))?;
    let port = port.parse().map_err(|_| refuse("the port is not a number up to 65535"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(refuse("has no host"));
    }
    Ok((host.to_owned(), port))
}
