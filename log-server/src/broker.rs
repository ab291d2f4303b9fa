//! The composition root: what is started, in what order, and how it stops.
//!
//! Start: bind (a port in use is known before a file is touched), lock and open the data directory, recover the
//! partitions, start what runs beside requests, accept. Stop: accept no more, answer what is in flight, stop what runs
//! beside requests, sync and close every log, write the clean marker last.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_core::log::{CleanShutdown, LogDir, LogDirError, LogDirOptions, for_all};
use log_core::storage::{MmapStorage, Storage};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::now_ms;
use crate::compactor::{CompactionLimits, Compactor};
use crate::config::{BrokerConfig, ConfigError, WriteMode};
use crate::dynamic::DynamicConfig;
use crate::handler::Context;
use crate::housekeeping::Housekeeping;
use crate::http::HttpListener;
use crate::lag::Board;
use crate::limits::{Limits, PartitionsMax};
use crate::map_budget::MapBudget;
use crate::metrics::Metrics;
use crate::net::{Connections, Listener};
use crate::partition::{Checkpointer, ColdReads, FetchSessions, Flusher, Registry, watch_traffic};
use crate::producer_ids::ProducerIds;
use crate::quota::Quotas;
use crate::resource_config::ResourceConfigs;
use crate::runtime::{GroupRouter, Surroundings, Transactions};
use crate::scrub::{ScrubLimits, Scrubber};
use crate::shedding::Shedding;
use crate::slo;
use crate::space::Space;
use crate::spans::Spans;
use crate::telemetry;
use crate::topic::{Catalog, CatalogError, DISK_THREADS, TopicManager};

/// A running broker. Any number of them live in one process, each in its own directory.
///
/// Must be started within a tokio runtime with at least one worker thread. Dropping it without
/// [`shutdown`](Broker::shutdown) stops it without a word to the disk: the next start recovers, as after a crash.
pub struct Broker {
    context: Arc<Context>,
    kafka_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    /// HTTP goes on while connections are drained, so that it can be asked whether the broker is ready.
    http_stop: CancellationToken,
    connections: TaskTracker,
    background: TaskTracker,
    flusher: Arc<Flusher>,
    checkpointer: Arc<Checkpointer>,
    compactor: Arc<Compactor>,
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
    /// The data directory cannot be made or written to.
    #[error("cannot use the data directory {}: {source}; it has to be writable, choose it with --data-dir DIR", .path.display())]
    DataDir {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be opened: locked by another process, of another cluster, damaged.
    #[error("cannot open the data directory {}: {source}", .path.display())]
    LogDir {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: LogDirError,
    },
    /// A partition's log cannot be opened.
    #[error("cannot open a partition's log: {0}")]
    Partition(#[from] LogDirError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// There are partitions and no catalog that says what they are.
    #[error(
        "the data directory {} holds partitions but no catalog.json; restore that file from a backup, nothing was \
         changed",
        .0.display()
    )]
    CatalogMissing(PathBuf),
    /// The system does not let this process have what so many partitions need.
    #[error(
        "there are {there} partitions, and room for {} of them ({})",
        .max.count, .max.because
    )]
    TooManyPartitions {
        /// In the catalog.
        there: usize,
        /// What there may be.
        max: PartitionsMax,
    },
    /// The system has no thread to give.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
}

fn bind_hint(error: &io::Error, setting: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another process, perhaps another broker, has this port. Stop it, or choose another with \
             --{setting} HOST:PORT"
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
        Broker::start_on(Disk::Synced, config).await
    }

    pub(crate) async fn start_on(disk: Disk, config: BrokerConfig) -> Result<Broker, StartError> {
        config.check()?;
        let listener = bind("listen", &config.listen, Listener::bind)?;
        let kafka_addr = listener.address();
        let http =
            config.http_address().map(|address| bind("http", address, HttpListener::bind)).transpose()?;
        let http_addr = http.as_ref().map(HttpListener::address);
        let (advertised_host, advertised_port) = advertised(&config, kafka_addr)?;
        let metrics = Arc::new(Metrics::new());
        let spans = spans(&config, format!("{advertised_host}:{advertised_port}"), &metrics)?;
        let cold_reads = ColdReads::new(config.cold_reads_max, metrics.cold_reads.clone());
        let cold_reads = cold_reads.map_err(StartError::Threads)?;
        let config = Arc::new(config);

        let opening = Opening { disk, config: config.clone(), metrics: metrics.clone() };
        let opened = match tokio::task::spawn_blocking(move || opening.run()).await {
            Ok(opened) => opened?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let shutdown = CancellationToken::new();
        let background = TaskTracker::new();
        let space = Arc::new(Space::new(config.clone(), metrics.clone(), opened.log_dir.health().clone()));
        let housekeeping = Housekeeping {
            config: config.clone(),
            metrics: metrics.clone(),
            partitions: opened.partitions.clone(),
            space: space.clone(),
            storage: opened.storage,
            map_budget: MapBudget::new(
                opened.partitions.clone(),
                metrics.clone(),
                opened.allowed.segments_mapped_max(config.segments_mapped_max),
            ),
        };
        // Before anybody is answered: the disk may be full already.
        housekeeping.look_at_space();
        background.spawn(housekeeping.run(shutdown.clone()));
        let surroundings = Surroundings {
            topics: opened.topics.clone(),
            partitions: opened.partitions.clone(),
            tasks: background.clone(),
            shutdown: shutdown.clone(),
        };
        let groups = GroupRouter::start(&config, surroundings.clone());
        let transactions = Transactions::start(&config, surroundings, opened.producer_ids, groups.clone());
        let context = Arc::new(Context {
            started_at_ms: now_ms(),
            started_at: Instant::now(),
            cluster_id: opened.log_dir.cluster_id().to_owned(),
            advertised_host,
            advertised_port,
            log_dir: opened.log_dir,
            catalog: opened.topics.catalog().clone(),
            topics: opened.topics,
            partitions: opened.partitions,
            groups,
            transactions,
            lag: Arc::default(),
            slos: Arc::new(slo::Slos::new(Duration::from_millis(config.shedding_patience_ms))),
            shedding: Arc::new(Shedding::new(&config, &metrics, now_ms())),
            quotas: Arc::new(opened.quotas),
            resource_configs: Arc::new(opened.resource_configs),
            dynamic: opened.dynamic,
            telemetry: telemetry::Clients::new(
                telemetry::Subscription::new(
                    &config.telemetry_metrics,
                    Duration::from_millis(config.telemetry_push_interval_ms),
                ),
                config.telemetry_clients_max,
            ),
            connections: Connections::default(),
            fetch_sessions: FetchSessions::new(config.fetch_sessions_max, metrics.fetch_sessions.clone()),
            cold_reads,
            scrubber: opened.scrubber,
            space,
            spans,
            shutdown,
            metrics,
            config,
        });
        background.spawn(watch_traffic(context.partitions.clone(), context.shutdown.clone()));
        let slo_metrics = slo::SloMetrics(context.slos.clone());
        context.metrics.register(|registry| registry.register_collector(Box::new(slo_metrics)));
        let connections = TaskTracker::new();
        background.spawn(listener.run(context.clone(), connections.clone()));
        background.spawn(Board::run(context.clone()));
        background.spawn(slo::watch::run(context.clone()));
        let http_stop = CancellationToken::new();
        if let Some(http) = http {
            background.spawn(http.run(context.clone(), http_stop.clone()));
        }
        Ok(Broker {
            context,
            kafka_addr,
            http_addr,
            http_stop,
            connections,
            background,
            flusher: opened.flusher,
            checkpointer: opened.checkpointer,
            compactor: opened.compactor,
        })
    }

    /// The address that Kafka clients connect to, with the port that was chosen for port 0.
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka_addr
    }

    /// The address that HTTP is served on, unless it is switched off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// What the handlers share; for tests and for what is built around a broker.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Stops: accepts no more, answers what is in flight (for `shutdown_wait_ms` at most), makes everything durable,
    /// and leaves the marker that spares the next start a recovery.
    pub async fn shutdown(self) {
        let context = self.context.clone();
        context.shutdown.cancel();
        self.connections.close();
        self.background.close();
        let wait = Duration::from_millis(context.config.shutdown_wait_ms);
        if tokio::time::timeout(wait, self.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "gave up waiting for requests in flight");
        }
        self.http_stop.cancel();
        self.background.wait().await;
        let (flusher, checkpointer) = (self.flusher.clone(), self.checkpointer.clone());
        let compactor = self.compactor.clone();
        context.scrubber.request_stop();
        compactor.request_stop();
        // Beside the logs, so that a collector that hangs keeps nothing waiting but the process.
        let last_spans = context.spans.clone().map(|spans| tokio::task::spawn_blocking(move || spans.stop()));
        // The context and all it holds is given up before this returns, the directory's lock included.
        drop(self);
        let closed = tokio::task::spawn_blocking(move || {
            context.scrubber.stop();
            compactor.stop();
            flusher.stop();
            checkpointer.stop();
            close_logs(&context)
        });
        let closed = closed.await;
        if let Some(sent) = last_spans
            && let Err(panic) = sent.await
        {
            std::panic::resume_unwind(panic.into_panic());
        }
        match closed {
            Ok(true) => tracing::info!("stopped cleanly"),
            Ok(false) => tracing::error!("stopped, and not cleanly: the next start recovers"),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
        self.http_stop.cancel();
        self.context.scrubber.request_stop();
        self.compactor.request_stop();
        self.flusher.request_stop();
        self.checkpointer.request_stop();
    }
}

/// Closes every log and, if all of them are, writes the clean marker. Blocks.
fn close_logs(context: &Context) -> bool {
    let mut clean = true;
    let mut note = CleanShutdown::default();
    let partitions = context.partitions.all();
    let closed = for_all(&partitions, DISK_THREADS, |partition| {
        let mut log = partition.log();
        let closed = log.close();
        let log_end = log.watermarks().log_end();
        drop(log);
        partition.close();
        closed.map(|()| log_end)
    });
    for (partition, closed) in partitions.iter().zip(closed) {
        let note = closed.map(|log_end| {
            note.add(format!("{}-{}", partition.topic(), partition.index()), log_end);
        });
        if let Err(error) = note {
            tracing::error!(?partition, %error, "cannot close a log");
            clean = false;
        }
    }
    if clean && let Err(error) = context.log_dir.close_clean(&note) {
        tracing::error!(%error, "cannot write the clean marker");
        clean = false;
    }
    clean
}

/// What is asked of the disk.
#[derive(Clone, Copy)]
pub(crate) enum Disk {
    /// That what is acknowledged outlives a power cut.
    Synced,
    /// Nothing: the directory goes with the broker.
    Unsynced,
}

/// What has to be opened before requests can be served. Reading logs blocks.
struct Opening {
    disk: Disk,
    config: Arc<BrokerConfig>,
    metrics: Arc<Metrics>,
}

struct Opened {
    storage: Arc<dyn Storage>,
    allowed: Limits,
    log_dir: Arc<LogDir>,
    partitions: Arc<Registry>,
    topics: Arc<TopicManager>,
    producer_ids: Arc<ProducerIds>,
    quotas: Quotas,
    resource_configs: ResourceConfigs,
    dynamic: Arc<DynamicConfig>,
    scrubber: Arc<Scrubber>,
    compactor: Arc<Compactor>,
    flusher: Arc<Flusher>,
    checkpointer: Arc<Checkpointer>,
}

impl Opening {
    fn run(self) -> Result<Opened, StartError> {
        let path = &self.config.data_dir;
        let data_dir = |source| StartError::DataDir { path: path.clone(), source };
        let mode = match self.config.write_mode {
            WriteMode::Mapped => log_core::storage::WriteMode::Mapped,
            WriteMode::Pwrite => log_core::storage::WriteMode::Pwrite,
        };
        let storage = match self.disk {
            Disk::Synced => MmapStorage::open(path, mode),
            Disk::Unsynced => MmapStorage::open_without_syncs(path, mode),
        };
        let storage: Arc<dyn Storage> = Arc::new(storage.map_err(data_dir)?);
        let options = LogDirOptions { node_id: self.config.node_id, cluster_id: None };
        let log_dir_error = |source| StartError::LogDir { path: path.clone(), source };
        let log_dir = Arc::new(LogDir::open(storage.clone(), &options).map_err(log_dir_error)?);
        let catalog = match Catalog::open(storage.clone())? {
            Some(catalog) => catalog,
            None if log_dir.partitions().map_err(log_dir_error)?.partitions.is_empty() => {
                Catalog::create(storage.clone())?
            }
            None => return Err(StartError::CatalogMissing(path.clone())),
        };
        let allowed = Limits::raise();
        let partitions_max = allowed.partitions_max(self.config.partitions_max);
        let (there, fits) = (catalog.topics().partitions(), allowed.partitions_max(usize::MAX));
        if there > fits.count {
            return Err(StartError::TooManyPartitions { there, max: fits });
        }
        self.metrics.maps_max.set(i64::try_from(allowed.maps).unwrap_or(i64::MAX));
        let checkpointer = Checkpointer::start(
            storage.clone(),
            Duration::from_millis(self.config.checkpoint_interval_ms),
            self.metrics.clone(),
        )
        .map_err(StartError::Threads)?;
        let flusher = Flusher::start(
            self.config.flush_threads,
            Duration::from_millis(self.config.flush_linger_ms),
            storage.clone(),
            log_dir.health().clone(),
            checkpointer.clone(),
            self.metrics.clone(),
        )
        .map_err(StartError::Threads)?;
        let partitions = Arc::new(Registry::default());
        let threads = StopUnlessOpened(Some((&flusher, &checkpointer)));
        let dynamic = DynamicConfig::open(storage.clone(), self.config.clone()).map_err(data_dir)?;
        let dynamic = Arc::new(dynamic);
        let topics = TopicManager::open(
            dynamic.clone(),
            log_dir.clone(),
            Arc::new(catalog),
            partitions.clone(),
            flusher.clone(),
            partitions_max,
        )?;
        let producer_ids = Arc::new(ProducerIds::open(storage.clone()).map_err(data_dir)?);
        let window = Duration::from_millis(self.config.quota_window_ms);
        let quotas = Quotas::open(storage.clone(), window, self.metrics.clone()).map_err(data_dir)?;
        let resource_configs = ResourceConfigs::open(storage.clone()).map_err(data_dir)?;
        let limits = ScrubLimits {
            period: Duration::from_millis(self.config.scrub_period_ms),
            bytes_per_second_max: self.config.scrub_bytes_per_second_max,
        };
        let (directory, health) = (storage.clone(), log_dir.health().clone());
        let scrubber = Scrubber::start(limits, partitions.clone(), directory, health, &self.metrics)
            .map_err(StartError::Threads)?;
        let limits = CompactionLimits {
            interval: Duration::from_millis(self.config.compaction_interval_ms),
            buffer_bytes: usize::try_from(self.config.compaction_buffer_bytes).unwrap_or(usize::MAX),
            bytes_per_second_max: self.config.compaction_bytes_per_second_max,
        };
        let compactor =
            Compactor::start(limits, partitions.clone(), &self.metrics).map_err(StartError::Threads)?;
        threads.opened();
        Ok(Opened {
            storage,
            allowed,
            log_dir,
            partitions,
            topics: Arc::new(topics),
            producer_ids,
            quotas,
            resource_configs,
            dynamic,
            scrubber,
            compactor,
            flusher,
            checkpointer,
        })
    }
}

/// Ends the threads again when what comes after them cannot be opened.
struct StopUnlessOpened<'a>(Option<(&'a Flusher, &'a Checkpointer)>);

impl StopUnlessOpened<'_> {
    fn opened(mut self) {
        self.0 = None;
    }
}

impl Drop for StopUnlessOpened<'_> {
    fn drop(&mut self) {
        if let Some((flusher, checkpointer)) = self.0 {
            flusher.request_stop();
            checkpointer.request_stop();
        }
    }
}

/// What sends traces, if the settings say where to.
fn spans(
    config: &BrokerConfig,
    instance: String,
    metrics: &Metrics,
) -> Result<Option<Arc<Spans>>, ConfigError> {
    if config.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let started = Spans::start(&config.otlp_endpoint, instance, Handle::current(), metrics.spans.clone());
    started.map(Some).map_err(|error| ConfigError::Value {
        name: "otlp_endpoint",
        value: config.otlp_endpoint.clone(),
        reason: error.to_string(),
    })
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
