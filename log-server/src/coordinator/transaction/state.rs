//! What is known of a transactional id, and the steps from one state to the next.
//!
//! A step is a function from a [`Transaction`] to the next one that assumes it is legal; what is legal is decided in
//! `init.rs`, `partitions.rs`, `end.rs` and `expiry.rs`.

use crate::coordinator::machine::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The highest epoch that a producer is given. The one above it is left to fence that producer.
pub const EPOCH_LAST: i16 = i16::MAX - 1;

/// A producer as it names itself in every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The producer id.
    pub id: i64,
    /// Which incarnation: an older one is fenced.
    pub epoch: i16,
}

impl Producer {
    /// Whether no incarnation can come after this one: the next one gets another id.
    pub fn is_exhausted(self) -> bool {
        self.epoch >= EPOCH_LAST
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// What it wrote counts.
    Commit,
    /// What it wrote does not.
    Abort,
}

/// Which of the two protocols a client speaks, told by the versions of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The classic one: the client adds partitions, and its epoch lasts until it is initialised again.
    V1,
    /// That of KIP-890: writing adds partitions, and every end of a transaction bumps the epoch.
    V2,
}

/// Where a transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It has a producer, which has not begun a transaction.
    Empty,
    /// A transaction with partitions is open.
    Ongoing,
    /// The outcome is decided, and markers are being written.
    Prepare(Outcome),
    /// All markers are written.
    Complete(Outcome),
}

impl State {
    /// All of them.
    pub const ALL: [State; 6] = [
        State::Empty,
        State::Ongoing,
        State::Prepare(Outcome::Commit),
        State::Prepare(Outcome::Abort),
        State::Complete(Outcome::Commit),
        State::Complete(Outcome::Abort),
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::Prepare(Outcome::Commit) => "PrepareCommit",
            State::Prepare(Outcome::Abort) => "PrepareAbort",
            State::Complete(Outcome::Commit) => "CompleteCommit",
            State::Complete(Outcome::Abort) => "CompleteAbort",
        }
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index.
    pub partition: i32,
}

/// Partitions by topic.
pub type Partitions = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// All that is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Who may write under it. While markers are written, those carry it.
    pub producer: Producer,
    /// The id that the producer had before its epochs were used up, until its next step.
    pub previous_id: Option<i64>,
    /// The id that the producer gets once the markers are written, as its epochs are used up.
    pub next_id: Option<i64>,
    /// The epoch that the producer had before, if it went on after an error (KIP-360): its request may be a retry.
    pub last_epoch: Option<i16>,
    /// How long a transaction may be open, in milliseconds.
    pub timeout_ms: i32,
    /// Where it stands.
    pub state: State,
    /// What the transaction has touched; empty unless it is ongoing or being ended.
    pub partitions: Partitions,
    /// When the transaction began, by the wall clock in milliseconds; kept when it is complete.
    pub started_at_ms: Option<i64>,
    /// When anything changed, by the wall clock in milliseconds.
    pub updated_at_ms: i64,
    /// The protocol of the client's last step.
    pub protocol: Protocol,
}

impl Transaction {
    /// A new transactional id.
    pub(super) fn new(producer_id: i64, timeout_ms: i32, now: Now) -> Self {
        Transaction {
            producer: Producer { id: producer_id, epoch: 0 },
            previous_id: None,
            next_id: None,
            last_epoch: None,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::new(),
            started_at_ms: None,
            updated_at_ms: now.wall_ms,
            protocol: Protocol::V1,
        }
    }

    /// Initialised anew for `producer`.
    pub(super) fn initialised(
        &self,
        producer: Producer,
        last_epoch: Option<i16>,
        timeout_ms: i32,
        now: Now,
    ) -> Self {
        let previous_id =
            if producer.id == self.producer.id { self.previous_id } else { Some(self.producer.id) };
        Transaction {
            producer,
            previous_id,
            last_epoch,
            protocol: self.protocol,
            ..Transaction::new(producer.id, timeout_ms, now)
        }
    }

    /// With more partitions; this begins a transaction if none is open.
    pub(super) fn with(&self, partitions: &[TopicPartition], protocol: Protocol, now: Now) -> Self {
        let mut next =
            Transaction { previous_id: None, updated_at_ms: now.wall_ms, protocol, ..self.clone() };
        if self.state != State::Ongoing {
            next.state = State::Ongoing;
            next.started_at_ms = Some(now.wall_ms);
        }
        for TopicPartition { topic, partition } in partitions {
            next.partitions.entry(topic.clone()).or_default().insert(*partition);
        }
        next
    }

    /// On its way to `outcome` by its own producer. Under the second protocol that bumps the epoch; `next_id` is for a
    /// producer whose epochs are used up by that.
    pub(super) fn ended(&self, outcome: Outcome, protocol: Protocol, next_id: Option<i64>, now: Now) -> Self {
        let mut next = self.preparing(outcome, protocol, now);
        if protocol == Protocol::V2 {
            next.last_epoch = Some(self.producer.epoch);
            next.producer.epoch = self.producer.epoch.saturating_add(1);
            next.next_id = next_id;
        }
        next.complete_if_trivial(now)
    }

    /// On its way to an abort that its producer did not ask for, who is fenced by it.
    ///
    /// The epoch rises by two, as in Kafka: one above the producer's own is what that producer would have after ending
    /// the transaction itself, and its request to do so would be taken for a retry.
    pub(super) fn fenced(&self, now: Now) -> Self {
        let mut next = self.preparing(Outcome::Abort, Protocol::V2, now);
        next.last_epoch = None;
        next.producer.epoch = self.producer.epoch.saturating_add(2);
        next.complete_if_trivial(now)
    }

    fn preparing(&self, outcome: Outcome, protocol: Protocol, now: Now) -> Self {
        Transaction {
            state: State::Prepare(outcome),
            previous_id: None,
            next_id: None,
            started_at_ms: if self.state == State::Ongoing { self.started_at_ms } else { Some(now.wall_ms) },
            updated_at_ms: now.wall_ms,
            protocol,
            ..self.clone()
        }
    }

    fn complete_if_trivial(self, now: Now) -> Self {
        if self.partitions.is_empty() { self.completed(now) } else { self }
    }

    /// With all markers written.
    pub(super) fn completed(&self, now: Now) -> Self {
        let State::Prepare(outcome) = self.state else { return self.clone() };
        let mut next = Transaction {
            state: State::Complete(outcome),
            next_id: None,
            partitions: Partitions::new(),
            updated_at_ms: now.wall_ms,
            ..self.clone()
        };
        if let Some(id) = self.next_id {
            next.previous_id = Some(self.producer.id);
            next.producer = Producer { id, epoch: 0 };
        }
        next
    }

    /// What the producer is told that it is after it has ended the transaction.
    pub(super) fn told(&self) -> Producer {
        self.next_id.map_or(self.producer, |id| Producer { id, epoch: 0 })
    }

    /// Whether all of `partitions` are in it.
    pub(super) fn has_all(&self, partitions: &[TopicPartition]) -> bool {
        partitions.iter().all(|it| self.has(it))
    }

    /// Whether `partition` is in it.
    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(&partition.topic).is_some_and(|indexes| indexes.contains(&partition.partition))
    }

    /// When it times out, in monotonic milliseconds, for one that is found in the log.
    pub(super) fn deadline_ms(&self, now: Now) -> u64 {
        let ends_at_ms = self.started_at_ms.unwrap_or(now.wall_ms).saturating_add(i64::from(self.timeout_ms));
        // A clock that was set back must not make it last longer than it may.
        let left_ms = ends_at_ms.saturating_sub(now.wall_ms).clamp(0, i64::from(self.timeout_ms.max(0)));
        now.monotonic_ms.saturating_add(left_ms.unsigned_abs())
    }
}
