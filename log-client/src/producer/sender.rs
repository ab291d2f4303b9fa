//! The task that sends a producer's batches and acts on the answers.
//!
//! It loops: take what is due, send one request to each broker that has room for it, wait for whatever
//! comes first (an answer, a connection, new records, a deadline). Everything slow is a future among its
//! events, so that one broker that does not answer holds up none of the others.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use log_core::wire::messages::InitProducerIdRequest;
use log_core::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};
use log_core::wire::{ApiKey, ErrorCode, TopicRef, message};
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::accumulator::Route;
use super::batch::Batch;
use super::config::Acks;
use super::delivery::Ack;
use super::error::ProduceError;
use super::queue::Identity;
use super::transaction::{Admission, Protocol, TransactionError};
use super::verdict::{Verdict, judge};
use crate::client::Role;
use crate::connection::Connection;
use crate::error::ClientError;
use crate::topic_partition::TopicPartition;

/// The last version of Produce that names topics; the later ones take ids.
const PRODUCE_BY_NAME_MAX: i16 = 12;

/// The last version that adds no partitions to transactions.
const PRODUCE_EXPLICIT_MAX: i16 = 11;

/// Without a transaction the timeout is not used, but it has to be one that brokers take.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;

/// The task's state.
pub(super) struct Sender {
    shared: Arc<Shared>,
    lanes: HashMap<Arc<str>, Lane>,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    /// An InitProducerId is on its way.
    is_identifying: bool,
    identity_failures: u32,
    /// An AddPartitionsToTxn is on its way.
    is_adding: bool,
    /// Some partition's leader is not known, or turned out to be another.
    is_stale: bool,
    /// Metadata is being asked for.
    is_refreshing: bool,
    refresh_failures: u32,
}

/// A broker that batches go to.
#[derive(Default)]
struct Lane {
    connection: Option<Arc<Connection>>,
    is_connecting: bool,
    requests_in_flight: usize,
}

/// A batch in a request, and what the request calls its topic.
struct Sent {
    partition: TopicPartition,
    named: TopicRef,
    batch: Batch,
}

/// A broker's word on each partition of a request; `None` with acks=0.
type Answer = Option<HashMap<(TopicRef, i32), ProducePartitionResponse>>;

enum Event {
    Connected(Arc<str>, Result<Arc<Connection>, ClientError>),
    Answered(Arc<str>, Vec<Sent>, Result<Answer, ClientError>),
    Added(u64, Vec<TopicPartition>, Result<(), ClientError>),
    Identified(Result<Identity, ClientError>),
    Refreshed(Result<(), ClientError>),
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Sender {
        Sender {
            shared,
            lanes: HashMap::new(),
            events: FuturesUnordered::new(),
            is_identifying: false,
            identity_failures: 0,
            is_adding: false,
            is_stale: false,
            is_refreshing: false,
            refresh_failures: 0,
        }
    }

    /// Runs until the producer is closed or dropped; then gives up what is left.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let next_due = self.send_what_is_due().await;
            let due = async {
                match next_due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.ended.cancelled() => break,
                Some(event) = self.events.next(), if !self.events.is_empty() => self.handle(event),
                () = shared.wake.notified() => {}
                () = due => {}
            }
        }
        self.end(ProduceError::Closed);
    }

    async fn send_what_is_due(&mut self) -> Option<Instant> {
        loop {
            let (lanes, client) = (&mut self.lanes, &self.shared.client);
            let requests_max = self.shared.config.requests_in_flight_max.max(1);
            let mut to_connect = Vec::new();
            let mut to_add = Vec::new();
            let transactional = self.shared.transactional.as_ref();
            let admit = |partition: &TopicPartition| match transactional {
                Some(transactional) => transactional.state.lock().admit(partition),
                None => Admission::Send,
            };
            let drained = self.shared.accumulator.lock().drain(Instant::now(), |partition| {
                match admit(partition) {
                    Admission::Send => {}
                    Admission::Add => {
                        to_add.push(partition.clone());
                        return Route::Busy;
                    }
                    Admission::Wait => return Route::Busy,
                }
                let Ok(address) = client.leader_address(&partition.topic, partition.partition) else {
                    return Route::Unknown;
                };
                let lane = lanes.entry(address.clone()).or_default();
                match &lane.connection {
                    Some(connection) if connection.is_open() => {
                        return if lane.requests_in_flight < requests_max {
                            Route::To(address)
                        } else {
                            Route::Busy
                        };
                    }
                    _ => lane.connection = None,
                }
                if !lane.is_connecting {
                    lane.is_connecting = true;
                    to_connect.push(address);
                }
                Route::Busy
            });
            to_connect.into_iter().for_each(|address| self.connect(address));
            for (partition, batch) in drained.lost {
                self.give_up(&partition, batch);
            }
            if !to_add.is_empty() {
                self.add_to_transaction(to_add);
            }
            // A transactional producer has its identity from before its first record.
            if drained.needs_identity && self.shared.transactional.is_none() {
                self.identify();
            }
            self.is_stale |= !drained.leaderless.is_empty();
            if self.is_stale {
                self.refresh();
            }
            if drained.batches.is_empty() {
                return drained.next_due;
            }
            let mut requests: HashMap<Arc<str>, Vec<(TopicPartition, Batch)>> = HashMap::new();
            for (address, partition, batch) in drained.batches {
                requests.entry(address).or_default().push((partition, batch));
            }
            for (address, batches) in requests {
                self.send(address, batches).await;
            }
        }
    }

    /// Sends one request. The connection takes requests in this order; the answer is an event.
    async fn send(&mut self, address: Arc<str>, batches: Vec<(TopicPartition, Batch)>) {
        let lane = self.lanes.get_mut(&address).expect("drained by way of its lane");
        let connection = lane.connection.clone().expect("drained because it was connected");
        lane.requests_in_flight += 1;

        let metadata = self.shared.client.metadata();
        let topic_id =
            |topic: &str| metadata.topics.get(topic).map(|topic| topic.id).filter(|id| !id.is_zero());
        let has_ids = batches.iter().all(|(partition, _)| topic_id(&partition.topic).is_some());
        let version = connection.version(ApiKey::Produce, self.version_max(has_ids));
        let version = version.unwrap_or(PRODUCE_BY_NAME_MAX);

        let mut topics: Vec<ProduceTopic> = Vec::new();
        let mut sent = Vec::with_capacity(batches.len());
        for (partition, mut batch) in batches {
            let records = match batch.build() {
                Ok(records) => records,
                Err(error) => {
                    self.shared.accumulator.lock().queue(&partition).gave_up(&batch);
                    self.resolve(batch, Err(error.into()));
                    continue;
                }
            };
            let named = match topic_id(&partition.topic) {
                Some(id) if version > PRODUCE_BY_NAME_MAX => TopicRef::Id(id),
                _ => TopicRef::from(&*partition.topic),
            };
            let produced = ProducePartition { index: partition.partition, records: Some(records) };
            match topics.iter_mut().find(|topic| topic.topic == named) {
                Some(topic) => topic.partitions.push(produced),
                None => topics.push(ProduceTopic { topic: named.clone(), partitions: vec![produced] }),
            }
            sent.push(Sent { partition, named, batch });
        }

        let config = &self.shared.config;
        let (acks, acks_timeout) = (config.acks, config.acks_timeout);
        let request = ProduceRequest {
            transactional_id: self.shared.transactional.as_ref().map(|it| (&*it.id).into()),
            acks: acks.code(),
            timeout_ms: i32::try_from(acks_timeout.as_millis()).unwrap_or(i32::MAX),
            topics,
        };
        let queued = match request.encode(version) {
            Ok(body) if acks == Acks::None => connection.send_oneway(ApiKey::Produce, version, body).await,
            Ok(body) => connection.send(ApiKey::Produce, version, body).await,
            Err(error) => Err(ClientError::encode(ApiKey::Produce, error)),
        };
        let event = async move {
            let answer = async {
                let mut pending = queued?;
                pending.allow(acks_timeout);
                let body = pending.await_response().await?;
                if acks == Acks::None {
                    return Ok(None);
                }
                let response = ProduceResponse::decode(body, version);
                let response =
                    response.map_err(|error| ClientError::decode(ApiKey::Produce, &address, error))?;
                let topics = response.topics.into_iter();
                let partitions = topics.flat_map(|topic| {
                    topic
                        .partitions
                        .into_iter()
                        .map(move |partition| ((topic.topic.clone(), partition.index), partition))
                });
                Ok(Some(partitions.collect()))
            };
            let answer = answer.await;
            Event::Answered(address, sent, answer)
        };
        self.events.push(event.boxed());
    }

    /// The last version of Produce that says what is meant.
    fn version_max(&self, has_ids: bool) -> i16 {
        let transactional = self.shared.transactional.as_ref();
        match transactional.map(|it| it.state.lock().protocol()) {
            Some(Protocol::Explicit) => PRODUCE_EXPLICIT_MAX,
            _ if has_ids => i16::MAX,
            _ => PRODUCE_BY_NAME_MAX,
        }
    }

    /// Adds partitions to the open transaction, unless that is under way.
    fn add_to_transaction(&mut self, partitions: Vec<TopicPartition>) {
        let transactional = self.shared.transactional.as_ref();
        let Some(number) = transactional.and_then(|it| it.state.lock().open_number()) else { return };
        if std::mem::replace(&mut self.is_adding, true) {
            return;
        }
        let shared = self.shared.clone();
        let event = async move {
            let transactional = shared.transactional.as_ref().expect("only a transaction wants partitions");
            let outcome = transactional.add_partitions(&shared.client, number, &partitions).await;
            Event::Added(number, partitions, outcome)
        };
        self.events.push(event.boxed());
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(address, outcome) => {
                let lane = self.lanes.entry(address).or_default();
                lane.is_connecting = false;
                match outcome {
                    Ok(connection) => lane.connection = Some(connection),
                    Err(error) => {
                        tracing::debug!(%error, "cannot produce to a broker");
                        // It may be gone for good, and its partitions led by another.
                        self.is_stale = true;
                    }
                }
            }
            Event::Answered(address, sent, answer) => {
                self.lanes.entry(address).or_default().requests_in_flight -= 1;
                match answer {
                    Ok(answer) => sent.into_iter().for_each(|sent| self.answered(sent, answer.as_ref())),
                    Err(error) => sent.into_iter().for_each(|sent| self.unanswered(sent, &error)),
                }
            }
            Event::Added(number, partitions, outcome) => {
                self.is_adding = false;
                let transactional = self.shared.transactional.as_ref().expect("it was asked for one");
                let is_open = transactional.state.lock().open_number() == Some(number);
                match outcome {
                    Ok(()) => transactional.state.lock().added(number, partitions),
                    Err(error) if !is_open => tracing::debug!(%error, "no partitions were added"),
                    Err(error) => {
                        let error = self.shared.note(TransactionError::of_coordinator(error));
                        self.give_up_transaction(&ProduceError::Transaction(error));
                    }
                }
            }
            Event::Identified(outcome) => self.identified(outcome),
            Event::Refreshed(outcome) => {
                self.is_refreshing = false;
                match outcome {
                    Ok(()) => self.is_stale = false,
                    Err(error) => tracing::debug!(%error, "cannot refresh metadata"),
                }
            }
        }
    }

    fn unanswered(&mut self, mut sent: Sent, error: &ClientError) {
        self.is_stale = true;
        if matches!(error, ClientError::Encode { .. } | ClientError::UnsupportedApi { .. }) {
            self.shared.accumulator.lock().queue(&sent.partition).gave_up(&sent.batch);
            return self.resolve(sent.batch, Err(error.clone().into()));
        }
        sent.batch.outcome_unknown |= error.outcome_unknown();
        self.retry(sent, error.to_string());
    }

    fn answered(
        &mut self,
        mut sent: Sent,
        answer: Option<&HashMap<(TopicRef, i32), ProducePartitionResponse>>,
    ) {
        let appended = ProducePartitionResponse::error(sent.partition.partition, ErrorCode::None.code());
        let response = match answer {
            None => &appended,
            Some(partitions) => match partitions.get(&(sent.named.clone(), sent.partition.partition)) {
                Some(response) => response,
                None => {
                    sent.batch.outcome_unknown = true;
                    return self.retry(sent, "the broker left the partition out of its answer".to_owned());
                }
            },
        };
        let code = ErrorCode::from(response.error_code);
        let may_renew = self.shared.config.may_renew();
        let mut accumulator = self.shared.accumulator.lock();
        let has_older = accumulator.queue(&sent.partition).has_older(sent.batch.id);
        match judge(response, may_renew, has_older, sent.batch.record_count()) {
            Verdict::Appended(ack) => {
                accumulator.queue(&sent.partition).succeeded(&sent.batch);
                drop(accumulator);
                self.refresh_failures = 0;
                self.resolve(sent.batch, Ok(ack));
            }
            Verdict::Retry { is_misrouted } => {
                drop(accumulator);
                self.is_stale |= is_misrouted;
                self.retry(sent, code.to_string());
            }
            Verdict::Disowned => {
                sent.batch.last_error = Some(code.to_string().into());
                accumulator.disowned(&sent.partition, sent.batch, Instant::now());
            }
            // Nobody would discard its halves.
            Verdict::Split if self.is_aborting() => {
                accumulator.queue(&sent.partition).gave_up(&sent.batch);
                drop(accumulator);
                self.resolve(sent.batch, Err(ProduceError::Aborted));
            }
            Verdict::Split => {
                let id = sent.batch.id;
                match sent.batch.split() {
                    Ok(halves) => accumulator.queue(&sent.partition).split(id, halves),
                    Err(batch) => {
                        accumulator.queue(&sent.partition).gave_up(&batch);
                        drop(accumulator);
                        self.refuse(sent.partition, batch, code, None);
                    }
                }
            }
            Verdict::Refused(code) => {
                accumulator.queue(&sent.partition).gave_up(&sent.batch);
                drop(accumulator);
                let message = response.record_errors.iter().find_map(|error| error.message.as_deref());
                let message = response.error_message.as_deref().or(message);
                self.refuse(sent.partition, sent.batch, code, message);
            }
        }
    }

    fn retry(&mut self, mut sent: Sent, error: String) {
        tracing::debug!(partition = %sent.partition, error, "batch will be sent again");
        sent.batch.last_error = Some(error.into());
        let now = Instant::now();
        let mut accumulator = self.shared.accumulator.lock();
        // Under the lock, as above: what is put back before an abort is discarded by it.
        if self.is_aborting() {
            accumulator.queue(&sent.partition).gave_up(&sent.batch);
            drop(accumulator);
            return self.resolve(sent.batch, Err(ProduceError::Aborted));
        }
        if sent.batch.deadline <= now {
            accumulator.queue(&sent.partition).gave_up(&sent.batch);
            drop(accumulator);
            return self.give_up(&sent.partition, sent.batch);
        }
        accumulator.failed(&sent.partition, sent.batch, now);
    }

    fn is_aborting(&self) -> bool {
        self.shared.transactional.as_ref().is_some_and(|it| it.state.lock().is_aborting())
    }

    fn refuse(&self, partition: TopicPartition, batch: Batch, code: ErrorCode, message: Option<&str>) {
        let message = message.map(Arc::from);
        self.resolve(batch, Err(ProduceError::Refused { partition, code, message }));
    }

    fn give_up(&self, partition: &TopicPartition, batch: Batch) {
        let last = batch.last_error.clone();
        let error = ProduceError::DeliveryTimeout {
            partition: partition.clone(),
            after: self.shared.config.delivery_timeout,
            last: last.unwrap_or_else(|| "it could not be sent".into()),
            outcome_unknown: batch.outcome_unknown,
        };
        self.resolve(batch, Err(error));
    }

    fn resolve(&self, batch: Batch, outcome: Result<Ack, ProduceError>) {
        self.shared.resolve(batch, outcome);
    }

    /// What waits will not be sent in this transaction, which has failed.
    fn give_up_transaction(&self, error: &ProduceError) {
        let waiting = self.shared.accumulator.lock().discard();
        waiting.into_iter().for_each(|batch| self.resolve(batch, Err(error.clone())));
    }

    fn connect(&mut self, address: Arc<str>) {
        let client = self.shared.client.clone();
        let event = async move {
            let connection = client.connection(&address, Role::Produce).await;
            Event::Connected(address, connection)
        };
        self.events.push(event.boxed());
    }

    /// Asks for a producer id (KIP-98), unless that is under way.
    fn identify(&mut self) {
        if std::mem::replace(&mut self.is_identifying, true) {
            return;
        }
        let client = self.shared.client.clone();
        let delay = client.config().backoff.delay(self.identity_failures);
        let event = async move {
            sleep(delay).await;
            let asked = client
                .call_any(|_| {
                    message!(InitProducerIdRequest {
                        transactional_id: None,
                        transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
                        producer_id: -1,
                        producer_epoch: -1,
                    })
                })
                .await;
            Event::Identified(asked.and_then(|response| match ErrorCode::from(response.error_code) {
                ErrorCode::None => {
                    Ok(Identity { producer_id: response.producer_id, epoch: response.producer_epoch })
                }
                code => Err(ClientError::broker("producer id", code)),
            }))
        };
        self.events.push(event.boxed());
    }

    fn identified(&mut self, outcome: Result<Identity, ClientError>) {
        self.is_identifying = false;
        match outcome {
            Ok(identity) => {
                self.identity_failures = 0;
                self.shared.accumulator.lock().identity = Some(identity);
            }
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "cannot get a producer id");
                self.identity_failures = self.identity_failures.saturating_add(1);
            }
            Err(error) => self.end(error.into()),
        }
    }

    /// Asks for the leaders of everything that was ever sent to, unless that is under way.
    fn refresh(&mut self) {
        if std::mem::replace(&mut self.is_refreshing, true) {
            return;
        }
        let client = self.shared.client.clone();
        let topics = self.shared.accumulator.lock().topics();
        // The first look comes at once; those that did not help are spaced out.
        let delay = client.config().backoff.delay(self.refresh_failures);
        self.refresh_failures = self.refresh_failures.saturating_add(1);
        let event = async move {
            sleep(delay).await;
            let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            Event::Refreshed(client.refresh(&topics, false).await.map(drop))
        };
        self.events.push(event.boxed());
    }

    /// Takes nothing more and gives up what has not been sent.
    fn end(&mut self, reason: ProduceError) {
        let left = self.shared.accumulator.lock().close(reason.clone());
        left.into_iter().for_each(|batch| self.resolve(batch, Err(reason.clone())));
        // Wakes those that wait for memory.
        self.shared.memory.close();
    }
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
