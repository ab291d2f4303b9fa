//! What happens inside a poll: requests are sent as far as they are due, and their answers change
//! positions, metadata and membership.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use log_core::record::BatchError;
use log_core::wire::ErrorCode;
use tokio::time::{Instant, sleep, sleep_until};

use super::config::OffsetReset;
use super::fetch::{Answer, Answers, fetch};
use super::fetched::Fetched;
use super::membership::{JoinError, Joined};
use super::positions::{Ask, StartAt};
use super::{ConsumeError, Consumer, Event};
use crate::client::Role;
use crate::error::ClientError;
use crate::offsets::{ByPartition, CommittedOffset, ListedOffset, OffsetSpec};
use crate::topic_partition::TopicPartition;

/// How often a subscribed topic that does not exist is looked for.
const MISSING_TOPIC_INTERVAL: Duration = Duration::from_secs(1);

type Asks<T> = Vec<Ask<T>>;

/// A request of the consumer that has been answered.
pub(super) enum Done {
    Fetched(Arc<str>, Asks<i64>, Result<Answers, ClientError>),
    Listed(Asks<StartAt>, ByPartition<Result<ListedOffset, ClientError>>),
    Committed(Asks<StartAt>, Result<ByPartition<CommittedOffset>, ClientError>),
    Refreshed(Result<(), ClientError>),
    Joined(Result<Joined, JoinError>),
    Commit {
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        answers: Result<ByPartition<ErrorCode>, ClientError>,
        /// Whether partitions are given up when it is done.
        before_revocation: bool,
    },
}

impl Consumer {
    /// Waits up to `wait` for what comes next: records, or a change of the group's assignment. Cancelling
    /// it loses nothing.
    ///
    /// # Errors
    /// What does not pass by itself; calling again goes on.
    pub async fn event(&mut self, wait: Duration) -> Result<Option<Event>, ConsumeError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(group) = &self.group {
                group.touch();
            }
            self.drive_group();
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            self.auto_commit();
            let records = self.positions.read(self.config.poll_records_max.max(1), &self.read_options);
            let records = records.map_err(|(partition, offset, source)| ConsumeError::Corrupt {
                partition,
                offset,
                source,
            })?;
            self.ask();
            // A first look at what was just asked puts the requests on the wire, so that the answers
            // come while the application works on these records.
            let mut was_answered = false;
            while let Some(Some(done)) = self.tasks.next().now_or_never() {
                self.handle(done);
                was_answered = true;
            }
            if !records.is_empty() {
                return Ok(Some(Event::Records(records)));
            }
            if was_answered {
                continue;
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.wait_until(deadline).await;
        }
    }

    async fn wait_until(&mut self, deadline: Instant) {
        let now = Instant::now();
        let group_due = self.group.as_ref().and_then(|group| group.due());
        let refresh_due = (!self.is_refreshing).then_some(self.refresh_at);
        let dues = [self.positions.next_unblocked(now), group_due, refresh_due];
        let wake = dues.into_iter().flatten().fold(deadline, Instant::min);
        let mut signal = self.group.as_ref().and_then(|group| group.signal());
        let signalled = async {
            // Ended without a word, or nobody to say one: wait for the rest.
            let has_spoken = match &mut signal {
                Some(signal) => signal.changed().await.is_ok(),
                None => false,
            };
            if !has_spoken {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            Some(done) = self.tasks.next(), if !self.tasks.is_empty() => self.handle(done),
            () = signalled => {}
            () = sleep_until(wake) => {}
        }
    }

    /// Sends what is due: metadata, positions, fetches.
    fn ask(&mut self) {
        let now = Instant::now();
        if now >= self.refresh_at && !self.is_refreshing {
            self.refresh();
        }
        self.resolve_positions(now);
        if self.positions.buffered_bytes() > self.config.buffer_bytes_max {
            return;
        }
        let mut by_leader: BTreeMap<Arc<str>, Asks<i64>> = BTreeMap::new();
        let fetchable: Vec<_> = self.positions.fetchable(now).collect();
        for ask in fetchable {
            match self.client.leader_address(&ask.partition.topic, ask.partition.partition) {
                Ok(address) => by_leader.entry(address).or_default().push(ask),
                Err(_) => self.is_stale(now),
            }
        }
        for (address, mut asks) in by_leader {
            if !self.fetching.insert(address.clone()) {
                continue;
            }
            // The answer's size is limited: in turn, each partition is the first to be served.
            let first = fastrand::usize(0..asks.len());
            asks.rotate_left(first);
            let (client, role, config) = (self.client.clone(), self.fetch_role(), self.config.clone());
            let task = async move {
                let answers = fetch(client, role, address.clone(), asks.clone(), config).await;
                Done::Fetched(address, asks, answers)
            };
            self.tasks.push(task.boxed());
        }
    }

    fn resolve_positions(&mut self, now: Instant) {
        let (mut by_log, mut by_group) = (Vec::new(), Vec::new());
        for ask in self.positions.take_unresolved(now) {
            match ask.what {
                StartAt::Committed if self.group.is_some() => by_group.push(ask),
                _ => by_log.push(ask),
            }
        }
        if !by_log.is_empty() {
            let (client, isolation) = (self.client.clone(), self.config.isolation);
            let asked: Vec<_> =
                by_log.iter().map(|ask| (ask.partition.clone(), self.spec(ask.what))).collect();
            let task = async move { Done::Listed(by_log, client.list_offsets(&asked, isolation).await) };
            self.tasks.push(task.boxed());
        }
        if let (Some(group), false) = (&self.group, by_group.is_empty()) {
            let (client, id) = (self.client.clone(), group.config.id.clone());
            let partitions: Vec<_> = by_group.iter().map(|ask| ask.partition.clone()).collect();
            let task = async move {
                Done::Committed(by_group, client.committed_offsets(&id, Some(&partitions)).await)
            };
            self.tasks.push(task.boxed());
        }
    }

    fn spec(&self, start: StartAt) -> OffsetSpec {
        match (start, self.config.offset_reset) {
            (StartAt::Log(spec), _) => spec,
            (_, OffsetReset::Earliest) => OffsetSpec::Earliest,
            (_, _) => OffsetSpec::Latest,
        }
    }

    fn refresh(&mut self) {
        let mut topics: Vec<Arc<str>> =
            self.positions.partitions().map(|partition| partition.topic.clone()).collect();
        topics.extend(self.subscription.iter().cloned());
        topics.sort();
        topics.dedup();
        self.is_refreshing = true;
        let client = self.client.clone();
        let task = async move {
            let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            Done::Refreshed(client.refresh(&topics, false).await.map(drop))
        };
        self.tasks.push(task.boxed());
    }

    /// Something turned out to be otherwise than the metadata say: look soon.
    fn is_stale(&mut self, now: Instant) {
        let soon = now + self.client.config().backoff.delay(self.refresh_failures.max(1));
        if self.refresh_at > soon {
            self.refresh_at = soon;
            self.refresh_failures = self.refresh_failures.saturating_add(1);
        }
    }

    fn handle(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Fetched(address, asks, answers) => {
                self.fetching.remove(&address);
                match answers {
                    Ok(answers) => {
                        answers.into_iter().for_each(|(ask, answer)| self.fetched(ask, answer, now))
                    }
                    Err(error) => self.failed(&asks, &error, now),
                }
            }
            Done::Listed(asks, answers) => {
                let mut answers: BTreeMap<_, _> = answers.into_iter().collect();
                for ask in asks {
                    match answers.remove(&ask.partition) {
                        Some(Ok(listed)) => self.listed(ask, listed),
                        Some(Err(error)) => self.failed(&[ask], &error, now),
                        None => {}
                    }
                }
            }
            Done::Committed(asks, Err(error)) => self.failed(&asks, &error, now),
            Done::Committed(asks, Ok(committed)) => {
                let committed: BTreeMap<_, _> = committed.into_iter().collect();
                for ask in asks {
                    let reset = self.config.offset_reset;
                    let Some(state) = self.positions.if_current(&ask) else { continue };
                    match (committed.get(&ask.partition), reset) {
                        (Some(committed), _) => state.resolve(committed.offset),
                        (None, OffsetReset::None) => {
                            state.restart(StartAt::Committed);
                            self.block(&ask, now);
                            self.errors.push_back(ConsumeError::NoCommittedOffset(ask.partition));
                        }
                        (None, OffsetReset::Earliest) => state.restart(StartAt::Log(OffsetSpec::Earliest)),
                        (None, OffsetReset::Latest) => state.restart(StartAt::Log(OffsetSpec::Latest)),
                    }
                }
            }
            Done::Refreshed(outcome) => self.refreshed(outcome, now),
            Done::Joined(outcome) => self.joined(outcome, now),
            Done::Commit { offsets, answers, before_revocation } => {
                self.commit_done(&offsets, answers, before_revocation);
            }
        }
    }

    fn listed(&mut self, ask: Ask<StartAt>, listed: ListedOffset) {
        match (listed.offset, ask.what) {
            (Some(offset), _) => {
                if let Some(state) = self.positions.if_current(&ask) {
                    state.resolve(offset);
                }
            }
            // No record is as late as that: begin with the next one.
            (None, _) => {
                if let Some(state) = self.positions.if_current(&ask) {
                    state.restart(StartAt::Log(OffsetSpec::Latest));
                }
            }
        }
    }

    fn fetched(&mut self, ask: Ask<i64>, answer: Option<Answer>, now: Instant) {
        let offset = ask.what;
        let Some(state) = self.positions.if_current(&ask).filter(|state| state.awaits(offset)) else {
            return;
        };
        let Some(answer) = answer else { return self.retry(&ask, now) };
        match answer.code {
            ErrorCode::None => {
                state.high_watermark = Some(answer.high_watermark);
                state.failures = 0;
                let bytes = answer.records.len();
                match Fetched::new(answer.records, offset, answer.aborted) {
                    Some(fetched) => state.add(fetched),
                    None if bytes == 0 => {}
                    None => {
                        let source = BatchError::Truncated { needed: bytes + 1, have: bytes };
                        let partition = ask.partition.clone();
                        self.block(&ask, now);
                        self.errors.push_back(ConsumeError::Corrupt { partition, offset, source });
                    }
                }
            }
            // What was fetched before is read first; then the same answer comes again.
            ErrorCode::OffsetOutOfRange if !state.is_drained() => self.block(&ask, now),
            ErrorCode::OffsetOutOfRange => match self.config.offset_reset {
                OffsetReset::Earliest => state.restart(StartAt::Log(OffsetSpec::Earliest)),
                OffsetReset::Latest => state.restart(StartAt::Log(OffsetSpec::Latest)),
                OffsetReset::None => {
                    self.block(&ask, now);
                    let partition = ask.partition;
                    self.errors.push_back(ConsumeError::OffsetOutOfRange { partition, offset });
                }
            },
            code if code.is_retriable() => self.retry(&ask, now),
            code => {
                self.block(&ask, now);
                self.errors.push_back(ConsumeError::Refused { partition: ask.partition, code });
            }
        }
    }

    /// A request for these partitions came to nothing.
    fn failed<T>(&mut self, asks: &[Ask<T>], error: &ClientError, now: Instant) {
        if error.is_retriable() {
            tracing::debug!(%error, "will be asked again");
        } else {
            self.errors.push_back(error.clone().into());
        }
        asks.iter().for_each(|ask| self.retry(ask, now));
    }

    /// Asks again later, by new metadata.
    fn retry<T>(&mut self, ask: &Ask<T>, now: Instant) {
        self.block(ask, now);
        self.is_stale(now);
    }

    /// Leaves a partition alone for a while.
    fn block<T>(&mut self, ask: &Ask<T>, now: Instant) {
        let backoff = self.client.config().backoff;
        if let Some(state) = self.positions.if_current(ask) {
            state.is_resolving = false;
            state.failures = state.failures.saturating_add(1);
            state.blocked_until = Some(now + backoff.delay(state.failures));
        }
    }

    fn refreshed(&mut self, outcome: Result<(), ClientError>, now: Instant) {
        self.is_refreshing = false;
        let metadata = self.client.metadata();
        let is_missing = self.subscription.iter().any(|topic| !metadata.topics.contains_key(topic));
        let next = match &outcome {
            Err(error) => {
                tracing::debug!(%error, "cannot refresh metadata");
                self.refresh_failures = self.refresh_failures.saturating_add(1);
                self.client.config().backoff.delay(self.refresh_failures)
            }
            Ok(()) if is_missing => MISSING_TOPIC_INTERVAL,
            Ok(()) => {
                self.refresh_failures = 0;
                self.client.config().metadata_age_max
            }
        };
        self.refresh_at = now + next;
    }

    pub(super) fn fetch_role(&self) -> Role {
        Role::Fetch(self.id)
    }

    pub(super) fn group_role(&self) -> Role {
        Role::Group(self.id)
    }
}

/// A pause that a task begins with.
pub(super) async fn pause_until(until: Instant) {
    if until > Instant::now() {
        sleep(until.saturating_duration_since(Instant::now())).await;
    }
}
