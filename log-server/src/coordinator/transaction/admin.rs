//! Questions about transactions, for ListTransactions, DescribeTransactions and metrics.

use super::{Partitions, Producer, State, Transaction, TransactionCoordinator};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A transactional id in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionListing {
    /// Which.
    pub transactional_id: Arc<str>,
    /// The id of its producer.
    pub producer_id: i64,
    /// Where it stands.
    pub state: State,
    /// When its last transaction began, by the wall clock in milliseconds.
    pub started_at_ms: Option<i64>,
}

/// A transactional id in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Its producer.
    pub producer: Producer,
    /// Where it stands.
    pub state: State,
    /// How long its transactions may be open, in milliseconds.
    pub timeout_ms: i32,
    /// When its last transaction began, by the wall clock in milliseconds.
    pub started_at_ms: Option<i64>,
    /// What the transaction has touched and is yet to be ended in.
    pub partitions: Partitions,
}

impl TransactionCoordinator {
    /// All transactional ids.
    pub fn list(&self) -> Vec<TransactionListing> {
        let listing = |(transactional_id, entry): (&Arc<str>, &super::Entry)| TransactionListing {
            transactional_id: transactional_id.clone(),
            producer_id: entry.transaction.producer.id,
            state: entry.transaction.state,
            started_at_ms: entry.transaction.started_at_ms,
        };
        self.entries.iter().map(listing).collect()
    }

    /// One transactional id, if it is known.
    pub fn describe(&self, transactional_id: &str) -> Option<TransactionDescription> {
        let Transaction { producer, state, timeout_ms, started_at_ms, ref partitions, .. } =
            *self.transaction(transactional_id)?;
        Some(TransactionDescription {
            producer,
            state,
            timeout_ms,
            started_at_ms,
            partitions: partitions.clone(),
        })
    }

    /// How many transactional ids there are in each state.
    pub fn count_by_state(&self) -> BTreeMap<State, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.values() {
            *counts.entry(entry.transaction.state).or_default() += 1;
        }
        counts
    }

    /// How many transactions were aborted because they took too long, since the coordinator was loaded.
    pub fn timed_out(&self) -> u64 {
        self.timed_out
    }

    /// How many partitions still lack the markers of transactions whose outcome is decided.
    pub fn markers_pending(&self) -> usize {
        let prepared =
            (self.entries.values()).filter(|entry| matches!(entry.transaction.state, State::Prepare(_)));
        prepared.flat_map(|entry| entry.transaction.partitions.values()).map(|indexes| indexes.len()).sum()
    }
}
