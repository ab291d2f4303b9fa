//! How far the scrub is, in a small file, so that a restart does not begin again: `scrub.json` in the data directory.
//!
//! A hint: without it, or with one that cannot be read, a pass begins at the beginning.

use std::io;
use std::time::Duration;

use log_core::storage::Storage;
use serde::{Deserialize, Serialize};

const FILE: &str = "scrub.json";
/// Damaged segments that are remembered. More of them are for the next pass to find.
const DAMAGED_MAX: usize = 1000;

/// A place in the order in which segments are read: by topic, partition and base offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Segments with this base offset or a higher one have not been read.
    pub(super) segment: i64,
}

impl Place {
    /// Behind all segments of a partition.
    pub(super) fn after_partition(topic: &str, partition: i32) -> Place {
        Place { topic: topic.to_owned(), partition: partition.saturating_add(1), segment: 0 }
    }

    /// Whether a partition is still to be read, or a part of it.
    pub(super) fn is_at_or_before(&self, topic: &str, partition: i32) -> bool {
        (&*self.topic, self.partition) <= (topic, partition)
    }

    /// The base offset to go on from in a partition that is still to be read.
    pub(super) fn segment_in(&self, topic: &str, partition: i32) -> i64 {
        if (&*self.topic, self.partition) == (topic, partition) { self.segment } else { 0 }
    }
}

/// A pass that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FinishedPass {
    /// In ms since the epoch, by the wall clock; so are the others.
    pub(super) begun_ms: i64,
    pub(super) ended_ms: i64,
    pub(super) bytes: u64,
}

/// The pass that is under way, and the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    pub(super) begun_ms: i64,
    /// Where to go on; `None` between two passes.
    pub(super) next: Option<Place>,
    /// Bytes that the pass has read.
    pub(super) bytes: u64,
    pub(super) last: Option<FinishedPass>,
    /// Segments that were damaged when they were last read. The next process reads them first, so that their partitions
    /// are read-only again before anybody writes much.
    pub(super) damaged: Vec<Place>,
}

impl Progress {
    pub(super) fn load(storage: &dyn Storage) -> Progress {
        match storage.read(FILE).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(progress)) => progress,
            Ok(Err(error)) => {
                tracing::warn!(%error, "{FILE} is damaged; the scrub begins anew");
                Progress::default()
            }
            Err(_) => Progress::default(),
        }
    }

    /// Writes it, durable on return.
    ///
    /// # Errors
    /// Of the disk; what was written before is still there.
    pub(super) fn save(&self, storage: &dyn Storage) -> io::Result<()> {
        storage.write_atomic(FILE, &serde_json::to_vec_pretty(self).expect("plain data"))
    }

    /// How long to wait for the next pass: a period after the last one began. A clock that went back is no reason to
    /// wait longer than that.
    pub(super) fn rest(&self, now_ms: i64, period: Duration) -> Duration {
        match &self.last {
            Some(last) if self.next.is_none() && now_ms >= last.begun_ms => {
                period.saturating_sub(between(last.begun_ms, now_ms))
            }
            _ => Duration::ZERO,
        }
    }

    /// Remembers a damaged segment. Answers whether that was news.
    pub(super) fn add_damaged(&mut self, place: Place) -> bool {
        let news = self.damaged.len() < DAMAGED_MAX && !self.damaged.contains(&place);
        if news {
            self.damaged.push(place);
        }
        news
    }

    /// Begins a pass, or goes on with the one that is under way. Answers how long ago it began.
    pub(super) fn begin_or_resume(&mut self, now_ms: i64) -> Duration {
        if self.next.is_none() {
            self.begun_ms = now_ms;
            self.bytes = 0;
            self.next = Some(Place { topic: String::new(), partition: 0, segment: 0 });
        }
        between(self.begun_ms, now_ms)
    }

    /// Ends the pass.
    pub(super) fn end(&mut self, now_ms: i64) {
        self.next = None;
        self.last = Some(FinishedPass { begun_ms: self.begun_ms, ended_ms: now_ms, bytes: self.bytes });
    }
}

/// The time between two readings of the wall clock, none if it went back.
fn between(from_ms: i64, to_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use log_core::storage::sim::SimStorage;

    const PERIOD: Duration = Duration::from_millis(1000);

    #[test]
    fn a_restart_goes_on_where_the_scrub_was() {
        let sim = SimStorage::new(1);
        let mut progress = Progress::load(&sim);
        assert_eq!(
            (progress.rest(5000, PERIOD), progress.begin_or_resume(5000)),
            (Duration::ZERO, Duration::ZERO)
        );
        progress.next = Some(Place { topic: "orders".to_owned(), partition: 3, segment: 400 });
        progress.bytes = 77;
        progress.save(&sim).unwrap();

        let mut resumed = Progress::load(&sim.crash(3));
        assert_eq!(resumed, progress);
        assert_eq!(resumed.rest(5400, PERIOD), Duration::ZERO);
        assert_eq!(resumed.begin_or_resume(5400), Duration::from_millis(400));
        assert_eq!(resumed, progress, "what was read stays read");
        resumed.end(5600);
        assert_eq!(resumed.rest(5700, PERIOD), Duration::from_millis(300), "a period after it began");
        resumed.save(&sim).unwrap();
        assert_eq!(Progress::load(&sim).rest(7000, PERIOD), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_goes_back_neither_hurries_nor_stops_it() {
        let mut progress = Progress::default();
        progress.begin_or_resume(5000);
        assert_eq!(progress.begin_or_resume(10), Duration::ZERO);
        progress.end(20);
        assert_eq!(progress.rest(10, PERIOD), Duration::ZERO);
    }

    #[test]
    fn damage_begins_anew() {
        let sim = SimStorage::new(1);
        for bytes in [&b""[..], b"{", b"[true]", b"{\"next\": 3}"] {
            sim.write_synced(FILE, bytes).unwrap();
            assert_eq!(Progress::load(&sim), Progress::default());
        }
    }
}
