//! One pass of the scrub over all that is sealed, or over what an earlier process has left of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_core::log::{Hole, ScrubEnd, ScrubEvent, SealedSegment};

use super::findings::Key;
use super::pace::{self, Pace};
use super::progress::Place;
use super::{Scrubber, status};
use crate::clock::now_ms;
use crate::partition::Partition;

/// How often progress is written down at most. A restart repeats what was read since.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often what is left is counted again: segments are rolled and deleted all the time.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// Pauses shorter than this are saved up.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// See the module's documentation.
pub(super) struct Pass<'a> {
    scrubber: &'a Scrubber,
    pace: Pace,
    begun: Instant,
    saved: Instant,
    counted: Option<Instant>,
    /// Pauses that were too short to be worth it so far.
    owed: Duration,
}

impl<'a> Pass<'a> {
    pub(super) fn new(scrubber: &'a Scrubber, pace: Pace) -> Pass<'a> {
        let begun = Instant::now();
        Pass { scrubber, pace, begun, saved: begun, counted: None, owed: Duration::ZERO }
    }

    /// Goes on to the end of the pass.
    pub(super) fn run(mut self) -> ControlFlow<()> {
        for (topic, index) in self.names_left() {
            // By name: a partition that is deleted meanwhile is not held on to.
            if let Some(partition) = self.scrubber.partitions.get(&topic, index) {
                self.scrub_partition(&partition)?;
            }
            self.go_on_at(Place::after_partition(&topic, index));
        }
        let pass = {
            let mut state = self.scrubber.state.lock();
            state.progress.end(now_ms());
            state.left_bytes = 0;
            state.progress.last.clone().expect("a pass has just ended")
        };
        self.scrubber.metrics.pass_percent.set(100.0);
        self.scrubber.metrics.bytes_per_second.set(0);
        self.scrubber.metrics.last_pass_seconds.set(pass.ended_ms / 1000);
        if pass.bytes > 0 {
            tracing::info!(bytes = pass.bytes, "scrubbed all sealed segments");
            self.scrubber.save();
        }
        ControlFlow::Continue(())
    }

    fn go_on_at(&self, place: Place) {
        self.scrubber.state.lock().progress.next = Some(place);
    }

    fn place(&self) -> Place {
        self.scrubber.state.lock().progress.next.clone().expect("a pass is under way")
    }

    /// The partitions that the pass has not been through, in its order. Those that come later are the next pass's.
    fn names_left(&self) -> Vec<(Arc<str>, i32)> {
        let place = self.place();
        let all = self.scrubber.partitions.all();
        let mut names: Vec<_> =
            all.iter().map(|partition| (partition.topic().clone(), partition.index())).collect();
        names.retain(|(topic, index)| place.is_at_or_before(topic, *index));
        names.sort_unstable();
        names
    }

    fn scrub_partition(&mut self, partition: &Partition) -> ControlFlow<()> {
        let (topic, index) = (partition.topic(), partition.index());
        let from = self.place().segment_in(topic, index);
        let sealed = partition.reader().sealed_segments();
        for segment in sealed.iter().filter(|segment| segment.base_offset() >= from) {
            self.scrub_segment(partition, segment)?;
            let topic = topic.to_string();
            self.go_on_at(Place { topic, partition: index, segment: segment.base_offset() + 1 });
            if self.saved.elapsed() >= SAVE_INTERVAL {
                self.scrubber.save();
                self.saved = Instant::now();
            }
        }
        ControlFlow::Continue(())
    }

    fn scrub_segment(&mut self, partition: &Partition, segment: &SealedSegment) -> ControlFlow<()> {
        let (topic, index, base) = (partition.topic(), partition.index(), segment.base_offset());
        let key = key_of(partition);
        self.scrubber.with_findings(|findings| findings.begin(&key, base));
        let (mut ended, mut damaged) = (ControlFlow::Continue(()), false);
        let scrubbed = partition.reader().scrub(segment, &mut |event| {
            let bytes = match event {
                ScrubEvent::Sound { bytes } => bytes,
                ScrubEvent::Flaky(hole) => self.report_flaky(partition, &hole),
                ScrubEvent::Hole(hole) => {
                    damaged = true;
                    take_hole(self.scrubber, partition, base, &hole)
                }
            };
            ended = self.wait_after(bytes);
            ended
        });
        match scrubbed {
            Ok(ScrubEnd::Whole) => self.scrubber.with_findings(|findings| findings.end(&key, base)),
            Ok(ScrubEnd::Gone) => self.scrubber.with_findings(|findings| findings.forget(&key, base)),
            Ok(ScrubEnd::Stopped) | Err(_) => {}
        }
        match scrubbed {
            // Read to its end, and sound: a file that was restored, say.
            Ok(ScrubEnd::Whole | ScrubEnd::Gone) if !damaged => {
                let same = |place: &Place| {
                    (&*place.topic, place.partition, place.segment) == (&**topic, index, base)
                };
                self.scrubber.state.lock().progress.damaged.retain(|place| !same(place));
            }
            Ok(_) => {}
            Err(error) => {
                self.scrubber.metrics.failures.inc();
                tracing::warn!(?partition, segment = base, %error, "cannot scrub a segment");
            }
        }
        ended
    }

    fn report_flaky(&self, partition: &Partition, hole: &Hole) -> u64 {
        self.scrubber.metrics.flaky_reads.inc();
        tracing::warn!(
            ?partition,
            file = hole.file,
            position = hole.positions.start,
            reason = hole.reason,
            "damaged when it was read, and sound when it was read again: memory, cable or disk may be failing"
        );
        hole.positions.end - hole.positions.start
    }

    /// Takes note of bytes that were read, and waits until more may be.
    fn wait_after(&mut self, bytes: u64) -> ControlFlow<()> {
        if self.scrubber.health.is_offline() {
            return ControlFlow::Break(());
        }
        self.count_what_is_left();
        let mut state = self.scrubber.state.lock();
        state.progress.bytes += bytes;
        state.left_bytes = state.left_bytes.saturating_sub(bytes);
        state.bytes_per_second = self.pace.bytes_per_second(state.left_bytes, self.begun.elapsed());
        self.owed += pace::duration(bytes, state.bytes_per_second);
        let metrics = &self.scrubber.metrics;
        metrics.bytes.inc_by(bytes);
        metrics.bytes_per_second.set(i64::try_from(state.bytes_per_second).unwrap_or(i64::MAX));
        metrics.pass_percent.set(status::percent(state.progress.bytes, state.left_bytes));
        drop(state);
        let due = if self.owed < PAUSE_MIN { Duration::ZERO } else { std::mem::take(&mut self.owed) };
        self.scrubber.pause(due)
    }

    /// Counts the bytes that are left, from time to time.
    fn count_what_is_left(&mut self) {
        if self.counted.is_some_and(|counted| counted.elapsed() < COUNT_INTERVAL) {
            return;
        }
        self.scrubber.forget_what_is_gone();
        let place = self.place();
        let mut left_bytes = 0;
        for partition in self.scrubber.partitions.all() {
            let (topic, index) = (partition.topic(), partition.index());
            if place.is_at_or_before(topic, index) {
                let from = place.segment_in(topic, index);
                let sealed = partition.reader().sealed_segments();
                let left = sealed.iter().filter(|segment| segment.base_offset() >= from);
                left_bytes += left.map(SealedSegment::size_bytes).sum::<u64>();
            }
        }
        self.scrubber.state.lock().left_bytes = left_bytes;
        self.counted = Some(Instant::now());
    }
}

/// Reads again what was damaged when the last process read it: it takes a reader, or this, to make a partition
/// read-only after a restart.
pub(super) fn revisit(scrubber: &Scrubber) -> ControlFlow<()> {
    let damaged = scrubber.state.lock().progress.damaged.clone();
    for place in damaged {
        let Some(partition) = scrubber.partitions.get(&place.topic, place.partition) else { continue };
        let sealed = partition.reader().sealed_segments();
        for segment in sealed.iter().filter(|segment| segment.base_offset() == place.segment) {
            let scrubbed = partition.reader().scrub(segment, &mut |event| {
                if let ScrubEvent::Hole(hole) = event {
                    take_hole(scrubber, &partition, place.segment, &hole);
                }
                scrubber.pause(Duration::ZERO)
            });
            if let Err(error) = scrubbed {
                tracing::warn!(?partition, segment = place.segment, %error, "cannot scrub a segment");
            }
        }
        scrubber.pause(Duration::ZERO)?;
    }
    ControlFlow::Continue(())
}

fn key_of(partition: &Partition) -> Key {
    Key { topic: partition.topic().clone(), topic_id: partition.topic_id(), partition: partition.index() }
}

/// Names a hole in the log and remembers it, for the next process too. Answers how many bytes it is.
fn take_hole(scrubber: &Scrubber, partition: &Partition, segment: i64, hole: &Hole) -> u64 {
    let bytes = hole.positions.end - hole.positions.start;
    tracing::error!(
        topic = %partition.topic(),
        partition = partition.index(),
        file = hole.file,
        position = hole.positions.start,
        bytes,
        first_offset = hole.offsets.start,
        last_offset = hole.offsets.end - 1,
        reason = hole.reason,
        "the scrub has found damage: what lies there cannot be read, and the partition takes no more writes"
    );
    scrubber.with_findings(|findings| findings.see(&key_of(partition), segment, hole));
    let place = Place { topic: partition.topic().to_string(), partition: partition.index(), segment };
    let news = scrubber.state.lock().progress.add_damaged(place);
    if news {
        scrubber.save();
    }
    bytes
}
