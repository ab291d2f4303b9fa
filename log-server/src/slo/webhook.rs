//! Tells of changes by HTTP: one POST of JSON for each, in the order in which they came.
//!
//! Nothing waits for it. Each URL has a task and a queue of its own, so one that hangs holds up no other; a queue that is
//! full drops what comes, and counts it. A POST that fails in a way that may pass (no connection, no answer within
//! [`ANSWER_WAIT`], 408, 429, 5xx) is tried again after 1, 2, 4 and 8 seconds. Any other answer is final: 2xx is
//! success, and a redirect is not followed. Where it may go is said in [`webhook_target`](super::webhook_target). A URL may
//! hold a token, so the log has its host and the notice nothing of it.
//!
//! Only `http`: the broker speaks TLS nowhere else, and a client for it with its roots would outweigh the rest of the
//! HTTP code. For `https` a proxy or a relay stands in between.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{Method, Request, StatusCode, Uri};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::board::{Event, Report};
use super::webhook_target::{AllowedHosts, Lookups, Place, Target};
use crate::metrics::Metrics;

/// How long a try may take, from connecting to the head of the answer.
pub const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The wait after the first try. It doubles with each further one.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Tries of one notice.
const TRIES_MAX: u32 = 5;
/// Notices that wait for one URL.
pub const QUEUE_MAX: usize = 64;
/// URLs that have a task. Beyond it, those whose queues are empty make room.
pub const URLS_MAX: usize = 64;

/// What is posted.
#[derive(Clone, Debug, Serialize)]
pub struct Notice<'a> {
    event: &'static str,
    cluster_id: &'a str,
    node_id: i32,
    from: &'static str,
    to: &'static str,
    #[serde(flatten)]
    report: Report,
}

impl<'a> Notice<'a> {
    /// The notice of a change.
    pub fn of(event: &Event, cluster_id: &'a str, node_id: i32) -> Notice<'a> {
        Notice {
            event: "slo_state_changed",
            cluster_id,
            node_id,
            from: event.change.from.name(),
            to: event.change.to.name(),
            report: Report { webhook: None, ..event.report.clone() },
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// What became of notices.
#[derive(Clone, Default)]
struct Results(Family<ResultLabels, Counter>);

impl Results {
    const DELIVERED: &'static str = "delivered";
    const FAILED: &'static str = "failed";
    const DROPPED: &'static str = "dropped";

    fn register(metrics: &Metrics) -> Results {
        let results = Results::default();
        for result in [Results::DELIVERED, Results::FAILED, Results::DROPPED] {
            // There from the start, so that a rate has something to begin with.
            results.0.get_or_create_owned(&ResultLabels { result });
        }
        let family = results.0.clone();
        metrics.register(|registry| {
            registry.register("slo_webhooks", "Changes of objectives told by HTTP, by result", family);
        });
        results
    }

    fn count(&self, result: &'static str) {
        self.0.get_or_create_owned(&ResultLabels { result }).inc();
    }
}

/// Where notices are posted.
pub struct Webhooks {
    /// A queue for each URL. Held for a look-up.
    queues: Mutex<HashMap<Target, mpsc::Sender<Bytes>>>,
    hosts: AllowedHosts,
    lookups: Lookups,
    results: Results,
    patience: Patience,
    stop: CancellationToken,
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
struct Patience {
    answer: Duration,
    retry: Duration,
}

impl Webhooks {
    /// Posts nothing yet, and what groups want to be posted only to `hosts`. Ends with `stop`, and what has not been
    /// posted by then is not.
    pub fn new(hosts: AllowedHosts, metrics: &Metrics, stop: CancellationToken) -> Webhooks {
        let patience = Patience { answer: ANSWER_WAIT, retry: RETRY_WAIT };
        let (queues, lookups) = (Mutex::default(), Lookups::default());
        Webhooks { queues, hosts, lookups, results: Results::register(metrics), patience, stop }
    }

    /// Has a notice posted. Returns at once. Needs a tokio runtime.
    pub fn post(&self, target: &Target, notice: &Notice<'_>) {
        let body = Bytes::from(serde_json::to_vec(notice).expect("strings and finite numbers always encode"));
        let mut queues = self.queues.lock();
        if !queues.contains_key(target) && queues.len() >= URLS_MAX {
            queues.retain(|_, queue| queue.capacity() < queue.max_capacity());
        }
        let room = queues.len() < URLS_MAX;
        let posted = match queues.get(target) {
            Some(queue) => queue.try_send(body).is_ok(),
            None if room => self.start(target).is_some_and(|queue| {
                let posted = queue.try_send(body).is_ok();
                queues.insert(target.clone(), queue);
                posted
            }),
            None => false,
        };
        drop(queues);
        if !posted {
            self.results.count(Results::DROPPED);
            let group = &notice.report.group;
            tracing::warn!(%group, "webhooks are too many or too slow: a change is not told");
        }
    }

    /// Starts the task of one URL, which ends when its queue is given up; `None` for what is no URL.
    fn start(&self, target: &Target) -> Option<mpsc::Sender<Bytes>> {
        let mut courier = self.courier(target)?;
        let (queue, mut notices) = mpsc::channel::<Bytes>(QUEUE_MAX);
        let (results, stop) = (self.results.clone(), self.stop.clone());
        let work = async move {
            while let Some(body) = notices.recv().await {
                let delivered = courier.deliver(&body).await;
                results.count(if delivered { Results::DELIVERED } else { Results::FAILED });
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
        Some(queue)
    }

    fn courier(&self, target: &Target) -> Option<Courier> {
        let uri: Uri = target.url.parse().ok()?;
        let place = Place::of(&uri, self.lookups.clone())?;
        let hosts = (!target.is_operators).then(|| self.hosts.clone());
        Some(Courier { uri, place, hosts, patience: self.patience })
    }
}

/// Posts to one URL.
struct Courier {
    uri: Uri,
    place: Place,
    /// What may be posted to, unless the operator says where.
    hosts: Option<AllowedHosts>,
    patience: Patience,
}

/// Why a try has failed.
enum Failure {
    /// It may pass.
    Passing(String),
    /// It will not.
    Final(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Passing(error.to_string())
    }
}

impl Courier {
    /// Posts one notice, with retries. False if it was given up.
    async fn deliver(&mut self, body: &Bytes) -> bool {
        for tried in 1..=TRIES_MAX {
            let outcome = tokio::time::timeout(self.patience.answer, self.post_once(body.clone())).await;
            let host = self.place.host();
            let reason = match outcome {
                Ok(Ok(())) => return true,
                Ok(Err(Failure::Final(reason))) => {
                    tracing::warn!(host, reason, "a webhook does not take a change");
                    return false;
                }
                Ok(Err(Failure::Passing(reason))) => reason,
                Err(_) => "no answer in time".to_owned(),
            };
            if tried == TRIES_MAX {
                tracing::warn!(host, reason, "a webhook cannot be reached: a change is not told");
                return false;
            }
            tracing::debug!(host, reason, "a webhook is tried again");
            tokio::time::sleep(self.patience.retry * (1 << (tried - 1))).await;
        }
        false
    }

    /// One POST on a connection of its own. The answer's body is not read.
    async fn post_once(&mut self, body: Bytes) -> Result<(), Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, self.uri.authority().map_or("", |authority| authority.as_str()))
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("highwater/", env!("CARGO_PKG_VERSION")))
            .body(Body::from(body))?;
        let answer = sender.send_request(request);
        tokio::pin!(connection, answer);
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer?,
            // The connection has ended; the answer says why, or has come with its end.
            _ = &mut connection => answer.await?,
        };
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if may_pass(status) => Err(Failure::Passing(status.to_string())),
            status => Err(Failure::Final(status.to_string())),
        }
    }

    /// Connects to one of the host's addresses, if it is none that may not be posted to.
    async fn connect(&mut self) -> Result<TcpStream, Failure> {
        let addresses = self.place.addresses().await?;
        let forbidden = self.hosts.as_ref().and_then(|hosts| {
            addresses.iter().find_map(|address| hosts.forbids(self.place.host(), address.ip()))
        });
        if let Some(reason) = forbidden {
            return Err(Failure::Final(reason.to_owned()));
        }
        let stream = TcpStream::connect(&*addresses).await?;
        let (local, peer) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
        match self.hosts.as_ref().and_then(|hosts| hosts.forbids_connection(local, peer)) {
            Some(reason) => Err(Failure::Final(reason.to_owned())),
            None => Ok(stream),
        }
    }
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
