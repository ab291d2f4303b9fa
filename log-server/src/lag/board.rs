//! The board: the newest sample of every group's lag, and who waits for the next.
//!
//! A task takes a sample every `lag_sample_interval_ms`. However many groups there are, it spends a twentieth of the
//! time of one thread at most: after a sample that took long, the next one is taken later.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use log_core::wire::Uuid;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::allowance::Allowance;
use super::cache::Recent;
use super::compute::{Measure, Waiting, reachable_overviews};
use super::history::{Histories, LagHistory};
use super::meter::Meters;
use super::sample::{LagSample, PartitionLag};
use crate::clock::now_ms;
use crate::coordinator::group::GroupOverview;
use crate::handler::Context;
use crate::partition::{ReaderId, Registry};
use crate::runtime::Unavailable;

/// A sample that took some time is followed by a rest of this many times as long.
const REST_FACTOR: u32 = 19;

/// Bytes of log that one sample may go through to count what rates are made of. Nearly all of it has been counted when
/// the rates' turn comes.
const RATES_BYTES_MAX: u64 = 16 << 20;

/// Looks that are taken at a time because somebody asks. Others wait for their turn.
const LOOKS_MAX: usize = 2;

/// Where the lag of all groups is to be had without computing it.
pub struct Board {
    latest: ArcSwap<LagSample>,
    /// The number of the newest sample.
    ticks: watch::Sender<u64>,
    /// What rates are made of. Held while a sample is computed, by the one task that takes samples.
    meters: Mutex<Meters>,
    /// What groups were behind by. Held while a sample is taken in, and while one history is read.
    histories: Mutex<Histories>,
    /// What groups wait for: at most 131,072 entries of some 70 bytes each.
    waiting: Recent<Place, Waiting>,
    /// Who has committed last without being a member, by group: as many. By a hash of the group's name, which clients
    /// choose and which may be long. That two groups have the same one is unlikely, and would matter little.
    committers: Recent<u64, ReaderId>,
    /// Makes those hashes. A client cannot know them.
    hasher: RandomState,
    /// The place that the next look begins with, as a number within those that it looks at.
    first_place: AtomicUsize,
    /// Set when the broker stops: a look ends with what it knows then.
    stopping: Arc<AtomicBool>,
    /// Looks at all groups at a time, but for the one that takes samples.
    looks: Arc<Semaphore>,
}

/// A place in a log and what a consumer that stands there sees. The record that it waits at is another one only once
/// compaction has been there; a topic that is created again has another id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) topic: Uuid,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Whether the consumer sees committed records only.
    pub(super) committed: bool,
    /// See [`LogReader::compactions`](log_core::log::LogReader::compactions).
    pub(super) compactions: u64,
}

impl Default for Board {
    fn default() -> Self {
        Board {
            latest: ArcSwap::default(),
            ticks: watch::Sender::new(0),
            meters: Mutex::default(),
            histories: Mutex::default(),
            waiting: Recent::default(),
            committers: Recent::default(),
            hasher: RandomState::new(),
            first_place: AtomicUsize::new(0),
            stopping: Arc::default(),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
        }
    }
}

impl Board {
    /// The newest sample: of no groups until the first one is taken.
    pub fn latest(&self) -> Arc<LagSample> {
        self.latest.load_full()
    }

    /// Tells the number of each new sample, once [`latest`](Board::latest) has it.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.ticks.subscribe()
    }

    /// What a group was behind by in the last `seconds`, in `points_max` points at most; `None` if it has no history:
    /// there is no such group, or more than `lag_history_groups_max`.
    pub fn history(&self, group: &str, seconds: u32, points_max: u32) -> Option<LagHistory> {
        self.histories.lock().read(group, now_ms(), seconds, points_max)
    }

    /// Notes that somebody who is no member has committed for a group, so that it can be told how the group reads.
    pub fn note_committer(&self, group: &str, reader: ReaderId) {
        self.committers.insert(self.hasher.hash_one(group), reader);
    }

    /// Who has committed last for the group without being a member.
    pub(super) fn committer(&self, group: &str) -> Option<ReaderId> {
        self.committers.get(&self.hasher.hash_one(group))
    }

    /// What groups wait for.
    pub(super) fn waiting(&self) -> &Recent<Place, Waiting> {
        &self.waiting
    }

    /// The place that a look begins with.
    pub(super) fn first_place(&self) -> usize {
        // Relaxed, as below: any place will do, and nothing is published with it.
        self.first_place.load(Ordering::Relaxed)
    }

    /// Has the next look begin with a place that this one has nothing left for.
    pub(super) fn begin_next_with(&self, place: usize) {
        self.first_place.store(place, Ordering::Relaxed);
    }

    /// What ends a look early.
    pub(super) fn stopping(&self) -> &Arc<AtomicBool> {
        &self.stopping
    }

    /// Waits for a turn to look at groups and logs, which is over when what is returned is dropped.
    pub(super) async fn turn(&self) -> OwnedSemaphorePermit {
        self.looks.clone().acquire_owned().await.expect("never closed")
    }

    /// Takes samples until the broker stops, and then has the looks end that are being taken.
    pub async fn run(context: Arc<Context>) {
        let stop = async {
            context.shutdown.cancelled().await;
            // Relaxed: nothing is published with it.
            context.lag.stopping.store(true, Ordering::Relaxed);
        };
        tokio::join!(Board::take_samples(&context), stop);
    }

    async fn take_samples(context: &Arc<Context>) {
        let interval = Duration::from_millis(context.config.lag_sample_interval_ms);
        loop {
            let began = Instant::now();
            let looked = Board::sample(context).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "no sample of lag");
                Duration::ZERO
            });
            // For the coordinators, who answer when their log is synced, it was waited and nothing spent.
            let rest = interval.saturating_sub(began.elapsed()).max(looked.saturating_mul(REST_FACTOR));
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Takes one sample, and answers with how long the look has taken.
    ///
    /// # Errors
    /// No coordinator answers. The newest sample stays what it was.
    async fn sample(context: &Arc<Context>) -> Result<Duration, Unavailable> {
        let overviews = reachable_overviews(&context.groups).await?;
        let (partitions, board) = (context.partitions.clone(), context.lag.clone());
        let history_groups_max = context.config.lag_history_groups_max;
        let began = Instant::now();
        look(move || board.publish(&partitions, overviews, history_groups_max)).await;
        Ok(began.elapsed())
    }

    pub(super) fn publish(
        &self,
        partitions: &Registry,
        overviews: Vec<GroupOverview>,
        history_groups_max: usize,
    ) {
        let measure = Measure::new(partitions, self);
        let number = self.latest.load().number + 1;
        let mut groups = measure.groups(overviews);
        let places = groups.iter().map(|lag| lag.partitions.len()).sum::<usize>();
        // Of what a group has committed, and of what has come in.
        let rates = Allowance::new(RATES_BYTES_MAX, 2 * places, self.stopping.clone());
        let count = |lag: &PartitionLag, offsets: Range<i64>| {
            rates.turn(|budget| measure.count(lag, offsets, budget).records)
        };
        let mut meters = self.meters.lock();
        for lag in &mut groups {
            meters.observe(lag, number, measure.now_ms, count);
        }
        meters.forget_before(number);
        drop(meters);
        // Relaxed: nothing is published with it.
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        self.histories.lock().observe(&groups, measure.now_ms, history_groups_max);
        self.latest.store(Arc::new(LagSample { number, sampled_at_ms: measure.now_ms, groups }));
        self.ticks.send_replace(number);
    }
}

/// Takes a look off the runtime's threads. One that panics is a bug of which the log tells; the next look may well
/// succeed, and a sampler that had ended would leave everybody with the last sample for ever.
async fn look(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "a look at the groups' lag was cut short");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_that_panics_is_not_the_last_one() {
        look(|| panic!("a bug, on purpose")).await;
        let (told, looked) = std::sync::mpsc::channel();
        look(move || told.send(()).unwrap()).await;
        assert_eq!(looked.recv(), Ok(()));
    }
}
