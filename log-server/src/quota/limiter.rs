//! Holds clients to their quotas: a bucket for each client id and direction that has one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_core::storage::Storage;
use parking_lot::Mutex;

use super::bucket::{Bucket, Limit};
use super::store::QuotaStore;
use crate::metrics::Metrics;

/// Client ids with a bucket of their own. Beyond it they share one, so that a client that changes its id with every
/// request neither fills the memory nor escapes the default quota.
const CLIENTS_MAX: usize = 10_000;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Produce requests.
    Produce,
    /// Records in answers to Fetch.
    Fetch,
}

impl Direction {
    /// Its label in metrics.
    fn label(self) -> &'static str {
        match self {
            Direction::Produce => "produce",
            Direction::Fetch => "fetch",
        }
    }
}

/// The quotas of all clients, and where each of them stands.
#[derive(Debug)]
pub struct Quotas {
    store: QuotaStore,
    window: Duration,
    metrics: Arc<Metrics>,
    /// Guards the buckets. Held for a look-up and a subtraction, and only for clients that have a quota.
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_client: HashMap<(Direction, Box<str>), Bucket>,
    /// The one that clients beyond [`CLIENTS_MAX`] share.
    shared: HashMap<Direction, Bucket>,
}

impl Quotas {
    /// Opens the quotas of a data directory. Rates are averaged over `window`.
    ///
    /// # Errors
    /// See [`QuotaStore::open`].
    pub fn open(
        storage: Arc<dyn Storage>,
        window: Duration,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Quotas> {
        let store = QuotaStore::open(storage)?;
        Ok(Quotas { store, window, metrics, buckets: Mutex::default() })
    }

    /// What was set.
    pub fn store(&self) -> &QuotaStore {
        &self.store
    }

    /// Charges bytes that a client has sent. Returns how long to hold it up for them.
    pub fn spend(&self, direction: Direction, client_id: &str, bytes: u64) -> Duration {
        let Some(limit) = self.limit(direction, client_id) else { return Duration::ZERO };
        let hold =
            self.with_bucket(direction, client_id, limit, |bucket, now| bucket.spend(limit, now, bytes));
        if !hold.is_zero() {
            self.metrics.throttled(direction.label(), client_id, hold);
        }
        hold
    }

    /// Charges bytes that are to be sent to a client, if its quota has them.
    ///
    /// # Errors
    /// How long to hold the client up before it may ask again; nothing is charged.
    pub fn try_spend(&self, direction: Direction, client_id: &str, bytes: u64) -> Result<(), Duration> {
        let Some(limit) = self.limit(direction, client_id) else { return Ok(()) };
        let spent =
            self.with_bucket(direction, client_id, limit, |bucket, now| bucket.try_spend(limit, now, bytes));
        if let Err(hold) = spent {
            self.metrics.throttled(direction.label(), client_id, hold);
        }
        spent
    }

    /// The most that a client may have at once, if that is limited: what fits into its window.
    pub fn window_bytes(&self, direction: Direction, client_id: &str) -> Option<usize> {
        self.limit(direction, client_id).map(|limit| limit.capacity() as usize)
    }

    fn limit(&self, direction: Direction, client_id: &str) -> Option<Limit> {
        let rates = self.store.effective(client_id);
        let rate = match direction {
            Direction::Produce => rates.producer_byte_rate,
            Direction::Fetch => rates.consumer_byte_rate,
        };
        rate.map(|rate| Limit::new(rate, self.window))
    }

    fn with_bucket<T>(
        &self,
        direction: Direction,
        client_id: &str,
        limit: Limit,
        spend: impl FnOnce(&mut Bucket, Instant) -> T,
    ) -> T {
        let mut buckets = self.buckets.lock();
        // Under the lock, so that time never goes back within a bucket.
        let now = Instant::now();
        let key = (direction, client_id.into());
        if !buckets.by_client.contains_key(&key) && buckets.by_client.len() >= CLIENTS_MAX {
            buckets.forget_the_silent(now, |direction, client_id| self.limit(direction, client_id));
        }
        let full = buckets.by_client.len() >= CLIENTS_MAX;
        let bucket = match full && !buckets.by_client.contains_key(&key) {
            true => buckets.shared.entry(direction).or_insert_with(|| Bucket::full(limit, now)),
            false => buckets.by_client.entry(key).or_insert_with(|| Bucket::full(limit, now)),
        };
        spend(bucket, now)
    }
}

impl Buckets {
    /// Drops the buckets that are full again, and those without a quota.
    fn forget_the_silent(&mut self, now: Instant, limit: impl Fn(Direction, &str) -> Option<Limit>) {
        self.by_client.retain(|(direction, client_id), bucket| {
            limit(*direction, client_id).is_some_and(|limit| !bucket.is_full(limit, now))
        });
    }
}

#[cfg(test)]
mod tests {
    use log_core::storage::{MmapStorage, WriteMode};

    use super::*;
    use crate::quota::{Entity, Rates};

    fn quotas(dir: &tempfile::TempDir, producer_byte_rate: f64) -> Quotas {
        let storage = Arc::new(MmapStorage::open(dir.path(), WriteMode::Mapped).unwrap());
        // A window that does not fill up again while a test runs.
        let quotas = Quotas::open(storage, Duration::from_secs(1000), Arc::default()).unwrap();
        let rates = Rates { producer_byte_rate: Some(producer_byte_rate), consumer_byte_rate: None };
        quotas.store().update(|all| all.extend([(Entity::Default, rates)])).unwrap();
        quotas
    }

    #[test]
    fn each_client_has_its_own_bucket_and_what_is_not_limited_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let quotas = quotas(&dir, 1.0);
        assert_eq!(quotas.spend(Direction::Produce, "a", 1000), Duration::ZERO);
        assert!(quotas.spend(Direction::Produce, "a", 100) > Duration::from_secs(90));
        assert_eq!(quotas.spend(Direction::Produce, "b", 1000), Duration::ZERO);
        assert_eq!(quotas.spend(Direction::Fetch, "a", u64::MAX), Duration::ZERO);
        let text = quotas.metrics.encode();
        assert!(
            text.contains(r#"highwater_throttle_seconds_total{quota="produce",client_id="a"}"#),
            "{text}"
        );
        assert!(!text.contains(r#"client_id="b""#), "{text}");
    }

    #[test]
    fn a_client_that_changes_its_id_does_not_escape() {
        let dir = tempfile::tempdir().unwrap();
        let quotas = quotas(&dir, 1.0);
        // None of them is full again, so none of them is forgotten.
        for client in 0..CLIENTS_MAX {
            assert_eq!(quotas.spend(Direction::Produce, &client.to_string(), 500), Duration::ZERO);
        }
        assert_eq!(quotas.spend(Direction::Produce, "one more", 900), Duration::ZERO);
        assert!(quotas.spend(Direction::Produce, "and another", 900) > Duration::from_secs(700));
        assert_eq!(quotas.buckets.lock().by_client.len(), CLIENTS_MAX);
    }
}
