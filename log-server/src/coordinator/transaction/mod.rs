//! Transactions: which producer may write under a transactional id, what its transaction touches, and how it ends.
//!
//! [`TransactionCoordinator`] is the state machine of one shard of all transactional ids. Its rules are those of Kafka's
//! transaction coordinator, with the KIPs that shaped them: 98 (transactions), 360 (a producer goes on after an error),
//! 588 (what a fenced producer is told), 664 (finding and ending transactions that hang), 890 (the second protocol: the
//! epoch rises with every transaction).
//!
//! ```text
//!               AddPartitions                EndTxn                  markers written
//! Empty ───────────────────────► Ongoing ──────────────► Prepare ──────────────────────► Complete
//!   ▲                              ▲  │   timeout, or      │  Commit or Abort              │  │
//!   │ InitProducerId               │  └─ InitProducerId: ──┘                               │  │
//!   │                              │     Abort, epoch + 2                                  │  │
//!   │                              └───────────────── AddPartitions ───────────────────────┘  │
//!   └──────────────────────────────────── InitProducerId ─────────────────────────────────────┘
//! ```
//! Kafka has two more states, Dead and PrepareEpochFence, for what takes it two steps: to forget an id, and to bump the
//! epoch of a transaction that is then aborted. Here either is one decision.
//!
//! A transaction without partitions has nothing to write markers to and is Complete as soon as it ends.
//!
//! **Durable**: everything about a transactional id. Whoever finds a Prepare in the log completes it: the outcome was
//! decided when that was written.
//!
//! **Soft, lost on restart**: who has been told to write which markers (they are told again: a second marker changes
//! nothing).

mod admin;
mod command;
mod config;
mod end;
mod expiry;
mod init;
mod partitions;
mod record;
mod state;

#[cfg(test)]
mod end_tests;
#[cfg(test)]
mod expiry_tests;
#[cfg(test)]
mod init_tests;
#[cfg(test)]
mod partition_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod testing;

pub use admin::{TransactionDescription, TransactionListing};
pub use command::{
    AddPartitions, Command, EndTransaction, Event, InitProducer, Markers, Reply, TransactionError,
};
pub use config::TransactionConfig;
pub use state::{EPOCH_LAST, Outcome, Partitions, Producer, Protocol, State, TopicPartition, Transaction};

use super::field;
use super::machine::{self, EntryError, LogEntry, Now, StateMachine, Token};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A decision about transactions.
pub type Decision = machine::Decision<Event, Reply>;

/// Transactions whose markers are asked for by one answer at most.
const MARKERS_PER_ANSWER_MAX: usize = 64;

/// The transactional ids of one shard.
#[derive(Debug)]
pub struct TransactionCoordinator {
    config: TransactionConfig,
    entries: HashMap<Arc<str>, Entry>,
    /// When transactions time out, in monotonic milliseconds.
    deadlines: BTreeSet<(u64, Arc<str>)>,
    /// Transactions in Prepare whose markers nobody was told to write yet.
    unsent: BTreeSet<Arc<str>>,
    /// Who waits for transactions to write the markers of.
    marker_writer: Option<Token>,
    sweep_at_ms: u64,
    timed_out: u64,
}

#[derive(Debug)]
struct Entry {
    transaction: Transaction,
    /// The entry's place in `deadlines`; set exactly while the transaction is ongoing and the machine is loaded.
    deadline_ms: Option<u64>,
}

impl TransactionCoordinator {
    /// A coordinator of no transactional ids yet.
    pub fn new(config: TransactionConfig) -> Self {
        TransactionCoordinator {
            config,
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
            unsent: BTreeSet::new(),
            marker_writer: None,
            sweep_at_ms: u64::MAX,
            timed_out: 0,
        }
    }

    fn transaction(&self, transactional_id: &str) -> Option<&Transaction> {
        self.entries.get(transactional_id).map(|entry| &entry.transaction)
    }

    /// The decision that `transactional_id` is now `transaction`, which whoever writes markers is told of if there are
    /// any to be written.
    fn store(&self, transactional_id: &Arc<str>, transaction: Transaction) -> Decision {
        let mut decision = Decision::none();
        if let Some(token) = self.marker_writer
            && let Some(markers) = markers_of(transactional_id, &transaction)
        {
            decision.replies.push((token, Reply::Markers(vec![markers])));
            decision.events.push(Event::Sent { transactional_ids: vec![transactional_id.clone()] });
        }
        // The order matters: what is stored counts as unsent until it is said to be sent.
        decision.events.insert(0, Event::Stored { transactional_id: transactional_id.clone(), transaction });
        decision
    }

    fn next_markers(&self, token: Token) -> Decision {
        let transactional_ids: Vec<_> = self.unsent.iter().take(MARKERS_PER_ANSWER_MAX).cloned().collect();
        if transactional_ids.is_empty() {
            return Decision { events: vec![Event::MarkerWriterWaits(token)], replies: Vec::new() };
        }
        let markers = (transactional_ids.iter())
            .filter_map(|id| markers_of(id, &self.entries[id].transaction))
            .collect();
        let events = vec![Event::Sent { transactional_ids }];
        Decision { events, replies: vec![(token, Reply::Markers(markers))] }
    }

    fn set_deadline(&mut self, transactional_id: &Arc<str>, deadline_ms: Option<u64>) {
        let Some(entry) = self.entries.get_mut(transactional_id) else { return };
        if let Some(before) = std::mem::replace(&mut entry.deadline_ms, deadline_ms) {
            self.deadlines.remove(&(before, transactional_id.clone()));
        }
        self.deadlines.extend(deadline_ms.map(|deadline_ms| (deadline_ms, transactional_id.clone())));
    }
}

/// What is to be written to end `transaction`; `None` if it is not being ended.
fn markers_of(transactional_id: &Arc<str>, transaction: &Transaction) -> Option<Markers> {
    let State::Prepare(outcome) = transaction.state else { return None };
    Some(Markers {
        transactional_id: transactional_id.clone(),
        producer: transaction.producer,
        outcome,
        partitions: transaction.partitions.clone(),
    })
}

impl StateMachine for TransactionCoordinator {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;

    fn handle(&self, now: Now, token: Token, command: Command) -> Decision {
        match command {
            Command::Init(init) => self.init(now, token, init),
            Command::AddPartitions(add) => self.add_partitions(now, token, add),
            Command::End(end) => self.end(now, token, end),
            Command::NextMarkers => self.next_markers(token),
            Command::MarkersWritten { transactional_id, producer } => {
                self.markers_written(now, token, &transactional_id, producer)
            }
        }
    }

    fn handle_timeout(&self, now: Now) -> Decision {
        self.expire(now)
    }

    fn poll_timeout(&self) -> Option<u64> {
        let transaction = self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms);
        let sweep = (!self.entries.is_empty()).then_some(self.sweep_at_ms);
        transaction.into_iter().chain(sweep).min()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Stored { transactional_id, transaction } => {
                if matches!(transaction.state, State::Prepare(_)) {
                    self.unsent.insert(transactional_id.clone());
                } else {
                    self.unsent.remove(&transactional_id);
                }
                if transaction.state != State::Ongoing {
                    self.set_deadline(&transactional_id, None);
                }
                match self.entries.get_mut(&transactional_id) {
                    Some(entry) => entry.transaction = transaction,
                    None => {
                        self.entries.insert(transactional_id, Entry { transaction, deadline_ms: None });
                    }
                }
            }
            Event::Forgotten { transactional_id } => {
                self.set_deadline(&transactional_id, None);
                self.unsent.remove(&transactional_id);
                self.entries.remove(&transactional_id);
            }
            Event::Started { transactional_id, deadline_ms } => {
                self.set_deadline(&transactional_id, Some(deadline_ms));
            }
            Event::Sent { transactional_ids } => {
                for transactional_id in &transactional_ids {
                    self.unsent.remove(transactional_id);
                }
                self.marker_writer = None;
            }
            Event::MarkerWriterWaits(token) => self.marker_writer = Some(token),
            Event::TimedOut => self.timed_out += 1,
            Event::Swept { next_ms } => self.sweep_at_ms = next_ms,
        }
    }

    fn encode(event: &Event) -> Option<LogEntry> {
        record::encode(event)
    }

    fn decode(entry: &LogEntry) -> Result<Option<Event>, EntryError> {
        record::decode(entry).map(Some)
    }

    fn snapshot(&self) -> Box<dyn Iterator<Item = LogEntry> + '_> {
        Box::new(self.entries.iter().map(|(id, entry)| record::encode_transaction(id, &entry.transaction)))
    }

    fn loaded(&mut self, now: Now) {
        self.sweep_at_ms = now.monotonic_ms.saturating_add(self.config.expiration_check_interval_ms);
        let ongoing: Vec<_> = (self.entries.iter())
            .filter(|(_, entry)| entry.transaction.state == State::Ongoing)
            .map(|(id, entry)| (id.clone(), entry.transaction.deadline_ms(now)))
            .collect();
        for (transactional_id, deadline_ms) in ongoing {
            self.set_deadline(&transactional_id, Some(deadline_ms));
        }
    }
}
