//! The way to a cluster: one client is shared by any number of producers, consumers and admins.
//!
//! It keeps one connection for each broker and [`Role`], made when it is first needed and again, after a
//! growing delay, when it was lost; and one snapshot of the cluster's metadata. It retries nothing by
//! itself but what has no effect (finding brokers, topics and coordinators): whether anything else may
//! be sent twice is for the operation to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use log_core::wire::messages::metadata_request::MetadataRequestTopic;
use log_core::wire::messages::{FindCoordinatorRequest, MetadataRequest};
use log_core::wire::{ErrorCode, RequestResponsePair, message};
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::connection::{Connection, ConnectionConfig};
use crate::error::ClientError;
use crate::metadata::{self, Metadata, Topic};

/// How long a topic may stay unknown before that is the answer. Brokers create topics a moment before
/// they all know of them.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(3);

/// What a coordinator coordinates; the discriminant is the type in FindCoordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Coordinates {
    /// A consumer group, by its id.
    Group = 0,
    /// The transactions of a transactional id.
    Transactions = 1,
}

impl Coordinates {
    const fn noun(self) -> &'static str {
        match self {
            Coordinates::Group => "group",
            Coordinates::Transactions => "transactional id",
        }
    }
}

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where to ask first, each `host:port`. One that answers is enough.
    pub bootstrap: Vec<String>,
    /// What the client calls itself; brokers log and meter by it.
    pub client_id: String,
    /// How long making a connection may take. Default 10 s.
    pub connect_timeout: Duration,
    /// How long a response may take, on top of what the request itself asks the broker to wait; then
    /// the connection is given up. Default 30 s.
    pub request_timeout: Duration,
    /// Delays between attempts. Default 50 ms to 1 s.
    pub backoff: Backoff,
    /// When metadata is asked for again although nothing failed. Default 5 min.
    pub metadata_age_max: Duration,
    /// The largest response that is accepted, in bytes. Default 256 MiB.
    pub response_bytes_max: usize,
}

impl ClientConfig {
    /// The defaults, with `bootstrap` a comma-separated list of `host:port`.
    pub fn new(bootstrap: &str) -> ClientConfig {
        let addresses = bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
        ClientConfig {
            bootstrap: addresses.map(str::to_owned).collect(),
            client_id: "highwater-client".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            backoff: Backoff::default(),
            metadata_age_max: Duration::from_secs(300),
            response_bytes_max: 256 << 20,
        }
    }
}

/// What a connection is used for. Answers come in the order of the requests, so what may wait long by
/// design has a connection to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Short questions.
    Control,
    /// Produce.
    Produce,
    /// Fetch, which polls, of the consumer with this number.
    Fetch(u64),
    /// JoinGroup and SyncGroup, which wait for other members, and Heartbeat, of the consumer with this
    /// number.
    Group(u64),
}

type Connecting = Shared<BoxFuture<'static, Result<Arc<Connection>, ClientError>>>;

/// One connection, or the attempt to make it.
struct Slot {
    connecting: Connecting,
    /// Attempts that failed in a row before this one.
    failures: u32,
}

/// A handle to a cluster. Clones share everything.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    connection_config: ConnectionConfig,
    bootstrap: Vec<Arc<str>>,
    /// Guards only the table: what is awaited is cloned out of it.
    slots: Mutex<HashMap<(Arc<str>, Role), Slot>>,
    metadata: RwLock<Arc<Metadata>>,
    /// Addresses of coordinators, each until a request to it fails.
    coordinators: Mutex<HashMap<(Coordinates, String), Arc<str>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("bootstrap", &self.inner.bootstrap).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the cluster at `config.bootstrap`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::InvalidBootstrap`].
    pub fn new(config: ClientConfig) -> Result<Client, ClientError> {
        let valid = |address: &String| {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            match port.map(str::parse::<u16>) {
                Some(Ok(_)) => Ok(Arc::from(address.as_str())),
                _ => Err(ClientError::InvalidBootstrap(address.clone())),
            }
        };
        let bootstrap = config.bootstrap.iter().map(valid).collect::<Result<Vec<Arc<str>>, _>>()?;
        if bootstrap.is_empty() {
            return Err(ClientError::InvalidBootstrap(String::new()));
        }
        let connection_config = ConnectionConfig {
            client_id: config.client_id.as_str().into(),
            connect_timeout: config.connect_timeout,
            request_timeout: config.request_timeout,
            response_bytes_max: config.response_bytes_max,
        };
        let inner = Inner {
            config,
            connection_config,
            bootstrap,
            slots: Mutex::default(),
            metadata: RwLock::default(),
            coordinators: Mutex::default(),
        };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// A client with the default settings and one round trip made, so that a wrong address is an error
    /// here.
    ///
    /// # Errors
    /// No broker of the comma-separated `bootstrap` answered.
    pub async fn connect(bootstrap: &str) -> Result<Client, ClientError> {
        let client = Client::new(ClientConfig::new(bootstrap))?;
        client.refresh(&[], false).await?;
        Ok(client)
    }

    /// The settings it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// The cluster as it is known now.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.inner.metadata.read().clone()
    }

    /// Asks for `topics` and the brokers, and returns the topics that have an error. With `create`, a
    /// broker that is set to creates the topics it does not know.
    ///
    /// # Errors
    /// No broker answered.
    pub async fn refresh(
        &self,
        topics: &[&str],
        create: bool,
    ) -> Result<Vec<(Arc<str>, ErrorCode)>, ClientError> {
        let topics = topics.iter().map(|&name| message!(MetadataRequestTopic { name: Some(name.into()) }));
        self.refresh_with(Some(topics.collect()), create).await
    }

    /// Asks for every topic.
    ///
    /// # Errors
    /// No broker answered.
    pub async fn refresh_all(&self) -> Result<Vec<(Arc<str>, ErrorCode)>, ClientError> {
        self.refresh_with(None, false).await
    }

    async fn refresh_with(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
        allow_auto_topic_creation: bool,
    ) -> Result<Vec<(Arc<str>, ErrorCode)>, ClientError> {
        let all = topics.is_none();
        let asked_at = Instant::now();
        let response = self
            .call_any(|_| {
                let topics = topics.clone();
                message!(MetadataRequest { topics, allow_auto_topic_creation })
            })
            .await?;
        let mut current = self.inner.metadata.write();
        let (merged, errors) = current.merge(&response, all, asked_at);
        *current = Arc::new(merged);
        Ok(errors)
    }

    /// The topic, from the cache if it is there and not old, else from a broker, asked again for up to
    /// `patience` while the answer is one that may change.
    ///
    /// # Errors
    /// The topic does not exist (after three seconds of asking, since topics take a moment to appear),
    /// may not be seen, or no broker answered.
    pub async fn topic(
        &self,
        name: &str,
        patience: Duration,
        create: bool,
    ) -> Result<Arc<Topic>, ClientError> {
        match self.cached_topic(name) {
            Some(topic) => Ok(topic),
            None => self.fetch_topic(name, patience, create).await,
        }
    }

    /// As [`topic`](Client::topic), past the cache.
    pub(crate) async fn fetch_topic(
        &self,
        name: &str,
        patience: Duration,
        create: bool,
    ) -> Result<Arc<Topic>, ClientError> {
        let started = Instant::now();
        let mut failures = 0;
        loop {
            let error = match self.refresh(&[name], create).await {
                Ok(errors) => match (self.metadata().topics.get(name), errors.first()) {
                    (_, Some(&(_, code))) => ClientError::broker(format!("topic {name}"), code),
                    (Some(topic), None) => return Ok(topic.clone()),
                    (None, None) => {
                        ClientError::broker(format!("topic {name}"), ErrorCode::UnknownTopicOrPartition)
                    }
                },
                Err(error) => error,
            };
            let patience = match error.code() {
                Some(ErrorCode::UnknownTopicOrPartition) => patience.min(UNKNOWN_TOPIC_PATIENCE),
                _ => patience,
            };
            failures += 1;
            let delay = self.inner.config.backoff.delay(failures);
            if !error.is_retriable() || started.elapsed() + delay >= patience {
                return Err(error);
            }
            sleep(delay).await;
        }
    }

    /// The topic, if it was asked for no longer ago than metadata may be old.
    pub(crate) fn cached_topic(&self, name: &str) -> Option<Arc<Topic>> {
        let metadata = self.inner.metadata.read();
        let topic = metadata.topics.get(name)?;
        (topic.fetched_at.elapsed() < self.inner.config.metadata_age_max).then(|| topic.clone())
    }

    /// The address of a partition's leader, from the cache.
    pub(crate) fn leader_address(&self, topic: &str, partition: i32) -> Result<Arc<str>, ClientError> {
        let metadata = self.inner.metadata.read();
        let broker = metadata.leader(topic, partition).and_then(|id| metadata.brokers.get(&id));
        broker
            .map(|broker| broker.address.clone())
            .ok_or_else(|| ClientError::NoBroker(format!("partition {topic}-{partition}").into()))
    }

    /// The address of the broker that coordinates a group, asked for until one is named.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<Arc<str>, ClientError> {
        self.coordinator_of(Coordinates::Group, group).await
    }

    /// As [`coordinator`](Client::coordinator), of whatever it coordinates.
    pub(crate) async fn coordinator_of(
        &self,
        what: Coordinates,
        name: &str,
    ) -> Result<Arc<str>, ClientError> {
        let key = (what, name.to_owned());
        if let Some(address) = self.inner.coordinators.lock().get(&key) {
            return Ok(address.clone());
        }
        let started = Instant::now();
        let mut failures = 0;
        loop {
            let error = match self.find_coordinator(what, name).await {
                Ok(address) => {
                    self.inner.coordinators.lock().insert(key, address.clone());
                    return Ok(address);
                }
                Err(error) => error,
            };
            failures += 1;
            let delay = self.inner.config.backoff.delay(failures);
            if !error.is_retriable() || started.elapsed() + delay >= self.inner.config.request_timeout {
                return Err(error);
            }
            sleep(delay).await;
        }
    }

    async fn find_coordinator(&self, what: Coordinates, name: &str) -> Result<Arc<str>, ClientError> {
        let response = self
            .call_any(|_| {
                let coordinator_keys = vec![name.into()];
                message!(FindCoordinatorRequest { key_type: what as i8, coordinator_keys })
            })
            .await?;
        let context = || format!("coordinator of {} {name}", what.noun());
        let found = response.coordinators.iter().find(|coordinator| &*coordinator.key == name);
        let found = found.ok_or_else(|| ClientError::NoBroker(context().into()))?;
        match ErrorCode::from(found.error_code) {
            ErrorCode::None => Ok(metadata::address(&found.host, found.port)),
            code => Err(ClientError::broker(context(), code)),
        }
    }

    /// Forgets who coordinates a group, after it said that it does not or did not answer.
    pub(crate) fn forget_coordinator(&self, group: &str) {
        self.forget_coordinator_of(Coordinates::Group, group);
    }

    /// As [`forget_coordinator`](Client::forget_coordinator), of whatever it coordinates.
    pub(crate) fn forget_coordinator_of(&self, what: Coordinates, name: &str) {
        self.inner.coordinators.lock().remove(&(what, name.to_owned()));
    }

    /// One request to any broker: those with an open connection first, then the others that are known,
    /// then the bootstrap addresses.
    pub(crate) async fn call_any<R: RequestResponsePair>(
        &self,
        build: impl Fn(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let mut last = None;
        for address in self.candidates() {
            match self.call(&address, Role::Control, Duration::ZERO, &build).await {
                Err(error) if error.is_retriable() => last = Some(error),
                done => return done,
            }
        }
        Err(last.expect("there is a bootstrap address"))
    }

    fn candidates(&self) -> Vec<Arc<str>> {
        let mut known: Vec<Arc<str>> =
            self.inner.metadata.read().brokers.values().map(|broker| broker.address.clone()).collect();
        fastrand::shuffle(&mut known);
        let slots = self.inner.slots.lock();
        let is_open = |address: &Arc<str>| {
            let slot = slots.get(&(address.clone(), Role::Control));
            slot.is_some_and(
                |slot| matches!(slot.connecting.peek(), Some(Ok(connection)) if connection.is_open()),
            )
        };
        known.sort_by_key(|address| !is_open(address));
        let unknown = self.inner.bootstrap.iter().filter(|address| !known.contains(address));
        let unknown: Vec<_> = unknown.cloned().collect();
        known.extend(unknown);
        known
    }

    /// One request to the broker that serves administrative requests.
    pub(crate) async fn call_controller<R: RequestResponsePair>(
        &self,
        wait: Duration,
        build: impl Fn(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        if self.metadata().controller_id.is_none() {
            self.refresh(&[], false).await?;
        }
        let metadata = self.metadata();
        let controller = metadata.controller_id.and_then(|id| metadata.brokers.get(&id));
        let controller = controller.ok_or_else(|| ClientError::NoBroker("the controller".into()))?;
        self.call(&controller.address, Role::Control, wait, build).await
    }

    /// One request to the broker at `address`. `wait` is how long that broker may take by design.
    pub(crate) async fn call<R: RequestResponsePair>(
        &self,
        address: &Arc<str>,
        role: Role,
        wait: Duration,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        self.connection(address, role).await?.call(wait, build).await
    }

    /// The connection to `address` for `role`, made if there is none. Attempts after a failure wait
    /// first, longer each time.
    pub(crate) async fn connection(
        &self,
        address: &Arc<str>,
        role: Role,
    ) -> Result<Arc<Connection>, ClientError> {
        let connecting = {
            let mut slots = self.inner.slots.lock();
            let slot = slots.get(&(address.clone(), role));
            match slot.map(|slot| (slot.connecting.peek(), slot)) {
                Some((None, slot)) => slot.connecting.clone(),
                Some((Some(Ok(connection)), _)) if connection.is_open() => return Ok(connection.clone()),
                other => {
                    let failures = match other {
                        Some((Some(Err(_)), slot)) => slot.failures + 1,
                        _ => 0,
                    };
                    let connecting = self.attempt(address.clone(), failures);
                    let slot = Slot { connecting: connecting.clone(), failures };
                    slots.insert((address.clone(), role), slot);
                    connecting
                }
            }
        };
        connecting.await
    }

    /// Closes the connections of a role that is not needed any more.
    pub(crate) fn release(&self, role: Role) {
        self.inner.slots.lock().retain(|(_, kept), _| *kept != role);
    }

    fn attempt(&self, address: Arc<str>, failures: u32) -> Connecting {
        let config = self.inner.connection_config.clone();
        let delay = self.inner.config.backoff.delay(failures);
        async move {
            if !delay.is_zero() {
                sleep(delay).await;
            }
            Connection::open(address, &config).await.map(Arc::new)
        }
        .boxed()
        .shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_is_checked_before_anything_is_sent() {
        for bad in ["", "localhost", "localhost:port", ":9092", "a:1,b"] {
            assert!(Client::new(ClientConfig::new(bad)).is_err(), "{bad:?}");
        }
        let client = Client::new(ClientConfig::new(" a:1, [::1]:9092 ,")).unwrap();
        assert_eq!(client.inner.bootstrap, ["a:1".into(), "[::1]:9092".into()]);
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        // Bound and dropped, so that nothing listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = Client::connect(&format!("127.0.0.1:{port}")).await.unwrap_err();
        assert!(error.is_retriable() && error.to_string().contains(&port.to_string()), "{error}");
    }
}
