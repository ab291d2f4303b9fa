//! The gate that produced batches pass, and the ladder that moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log_core::record::RecordBatch;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use utoipa::ToSchema;

use super::gaps::{Gaps, Place, Sent};
use super::ladder::{Action, Ladder, Pace, Pressure, action_at};
use super::spared::{Pressed, Spared};
use crate::config::BrokerConfig;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::topic::{Catalog, Priority, Topic, Topics, name};

/// A batch of an idempotent producer, as batches that are missing are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    place: Place,
    sent: Sent,
}

impl Stamp {
    /// The stamp of a batch; `None` for one without a producer id, which may come in any order, and for what does not
    /// parse, which is refused by whoever checks it.
    pub fn of(partition: &Partition, records: &[u8]) -> Option<Stamp> {
        let batch = RecordBatch::parse(records).ok().filter(|batch| batch.producer_id() >= 0)?;
        let place = (partition.topic_id(), partition.index(), batch.producer_id());
        Some(Stamp { place, sent: Sent { epoch: batch.producer_epoch(), sequence: batch.base_sequence() } })
    }

    /// The producer's id.
    pub fn producer_id(self) -> i64 {
        self.place.2
    }
}

/// Why load is shed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The disk has passed its soft limit.
    Disk,
    /// The objective of this group is violated.
    Group(Arc<str>),
}

/// What load is to be shed for, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// For which classes.
    pub pressure: Pressure,
    /// What presses most, if anything presses.
    pub reason: Option<Reason>,
    /// The groups that suffer or soon may, whose own output is not shed.
    pub groups: Vec<Pressed>,
}

/// Sheds load, or does not.
pub struct Shedding {
    /// The ladder's level, for the path of every batch. Relaxed: one that is read a moment late has a batch taken or
    /// refused that came at that moment.
    level: AtomicU8,
    /// Whether `gaps` has any. Relaxed: what was sent behind a refused batch is read from the same connection, by the
    /// task that has refused it.
    has_gaps: AtomicBool,
    /// Batches that were refused. Held for a look-up.
    gaps: Mutex<Gaps>,
    /// Whose batches are taken all the same.
    spared: Spared,
    /// Where the ladder stands and since when. Held for a step, and for a question.
    stand: Mutex<Stand>,
    enabled: bool,
    throttle: Duration,
    counters: Counters,
}

struct Stand {
    ladder: Ladder,
    since_ms: i64,
    reason: Option<Reason>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabels {
    priority: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StepLabels {
    direction: &'static str,
}

#[derive(Default)]
struct Counters {
    level: Gauge,
    actions: Family<ClassLabels, Gauge>,
    steps: Family<StepLabels, Counter>,
    throttled: Family<ClassLabels, Counter>,
    throttle_seconds: Family<ClassLabels, Counter<f64, AtomicU64>>,
    refused: Family<ClassLabels, Counter>,
    refused_bytes: Family<ClassLabels, Counter>,
}

/// What is shed now, as the API shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Status {
    /// Whether anything is shed.
    pub active: bool,
    /// Steps taken; see [`ladder`](super::ladder).
    pub level: u8,
    /// Why, while it is active.
    pub reason: Option<String>,
    /// Since when the level is what it is, in ms since the epoch.
    pub since_ms: i64,
    /// The classes, the lowest first.
    pub classes: Vec<ClassStatus>,
}

/// What is done to one class.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClassStatus {
    /// Its name.
    pub priority: &'static str,
    /// What is done.
    pub action: &'static str,
    /// How many topics are in it, without the broker's own.
    pub topics: usize,
    /// Produce requests that were held up since the start.
    pub throttled_total: u64,
    /// Batches that were refused since the start.
    pub refused_total: u64,
}

impl Shedding {
    /// A gate that is open.
    pub fn new(config: &BrokerConfig, metrics: &Metrics, wall_ms: i64) -> Shedding {
        let counters = Counters::default();
        counters.register(metrics);
        let pace = Pace {
            step: Duration::from_millis(config.shedding_step_ms),
            heal: Duration::from_millis(config.shedding_heal_ms),
        };
        Shedding {
            level: AtomicU8::new(0),
            has_gaps: AtomicBool::new(false),
            gaps: Mutex::default(),
            spared: Spared::default(),
            stand: Mutex::new(Stand { ladder: Ladder::new(pace), since_ms: wall_ms, reason: None }),
            enabled: config.shedding,
            throttle: Duration::from_millis(config.shedding_throttle_ms),
            counters,
        }
    }

    /// The class of a topic and what is done to its producers; `None` while nothing is shed, and for the broker's own
    /// topics, which never are.
    pub fn action(&self, catalog: &Catalog, topic: &str) -> Option<(Priority, Action)> {
        let level = self.level.load(Ordering::Relaxed);
        if level == 0 || name::is_internal(topic) {
            return None;
        }
        let class = catalog.topics().get(topic).map_or_else(Priority::default, |topic| Priority::of(topic));
        Some((class, action_at(level, class)))
    }

    /// Whose batches are taken whatever the class.
    pub fn spared(&self) -> &Spared {
        &self.spared
    }

    /// How long to hold up a client whose request was taken and went to a throttled class.
    pub fn throttle(&self, class: Priority) -> Duration {
        let labels = ClassLabels { priority: class.name() };
        self.counters.throttled.get_or_create(&labels).inc();
        self.counters.throttle_seconds.get_or_create(&labels).inc_by(self.throttle.as_secs_f64());
        self.throttle
    }

    /// Counts a batch that is refused, of so many bytes.
    pub fn count_refused(&self, class: Priority, bytes: usize) {
        let labels = ClassLabels { priority: class.name() };
        self.counters.refused.get_or_create(&labels).inc();
        self.counters.refused_bytes.get_or_create(&labels).inc_by(bytes as u64);
    }

    /// Keeps what was sent after a refused batch from being taken before it.
    pub fn open_gap(&self, stamp: Stamp, now: Instant) {
        let mut gaps = self.gaps.lock();
        gaps.open(stamp.place, stamp.sent, now);
        self.has_gaps.store(!gaps.is_empty(), Ordering::Relaxed);
    }

    /// Whether a batch may be taken: not while one is missing that was refused before it.
    pub fn admits(&self, stamp: Stamp, now: Instant) -> bool {
        !self.has_gaps.load(Ordering::Relaxed) || self.gaps.lock().admits(stamp.place, stamp.sent, now)
    }

    /// Notes a batch that is in the log: what was sent after it may come.
    pub fn close_gap(&self, stamp: Stamp) {
        if self.has_gaps.load(Ordering::Relaxed) {
            let mut gaps = self.gaps.lock();
            gaps.close(stamp.place, stamp.sent);
            self.has_gaps.store(!gaps.is_empty(), Ordering::Relaxed);
        }
    }

    /// Forgets the gaps of producers that are gone, once a minute however often it is asked to.
    pub fn sweep_gaps(&self, now: Instant) {
        if self.has_gaps.load(Ordering::Relaxed) {
            let mut gaps = self.gaps.lock();
            gaps.sweep(now);
            self.has_gaps.store(!gaps.is_empty(), Ordering::Relaxed);
        }
    }

    /// Takes a step up or down if one is due.
    pub fn step(&self, demand: Demand, topics: &Topics, now: Instant, wall_ms: i64) {
        if !self.enabled {
            return;
        }
        let mut stand = self.stand.lock();
        let before = stand.ladder.level();
        let level =
            stand.ladder.step(now, demand.pressure, |class| topics_of(topics, class).next().is_some());
        if demand.reason.is_some() {
            stand.reason = demand.reason;
        }
        match stand.ladder.level() {
            0 => self.spared.clear(),
            _ => self.spared.add(demand.groups),
        }
        let Some(level) = level else {
            if before == 0 {
                stand.reason = None;
            }
            return;
        };
        stand.since_ms = wall_ms;
        self.level.store(level, Ordering::Relaxed);
        self.show(before, level);
        let reason = stand.reason.as_ref().map(Reason::to_string);
        let reason = reason.as_deref().unwrap_or_default();
        match level > before {
            true => tracing::warn!(level, reason, "shedding load: a step up"),
            false => tracing::info!(level, reason, "shedding load: a step down"),
        }
        if level == 0 {
            stand.reason = None;
        }
    }

    fn show(&self, before: u8, level: u8) {
        self.counters.level.set(i64::from(level));
        let direction = if level > before { "up" } else { "down" };
        self.counters.steps.get_or_create(&StepLabels { direction }).inc();
        for class in Priority::ALL {
            let action = action_at(level, class) as i64;
            self.counters.actions.get_or_create(&ClassLabels { priority: class.name() }).set(action);
        }
    }

    /// What is shed now.
    pub fn status(&self, topics: &Topics) -> Status {
        let stand = self.stand.lock();
        let level = stand.ladder.level();
        let (since_ms, reason) = (stand.since_ms, stand.reason.as_ref().map(Reason::to_string));
        drop(stand);
        let classes = Priority::ALL.map(|class| {
            let labels = ClassLabels { priority: class.name() };
            ClassStatus {
                priority: class.name(),
                action: action_at(level, class).name(),
                topics: topics_of(topics, class).count(),
                throttled_total: self.counters.throttled.get_or_create(&labels).get(),
                refused_total: self.counters.refused.get_or_create(&labels).get(),
            }
        });
        let reason = reason.filter(|_| level > 0);
        Status { active: level > 0, level, reason, since_ms, classes: classes.into() }
    }
}

/// The topics of a class that can be shed.
fn topics_of(topics: &Topics, class: Priority) -> impl Iterator<Item = &Arc<Topic>> {
    topics.iter().filter(move |topic| !topic.is_internal() && Priority::of(topic) == class)
}

impl Counters {
    fn register(&self, metrics: &Metrics) {
        for class in Priority::ALL {
            // There from the start, so that a rate has something to begin with.
            let labels = ClassLabels { priority: class.name() };
            self.actions.get_or_create_owned(&labels);
            self.throttled.get_or_create_owned(&labels);
            self.throttle_seconds.get_or_create_owned(&labels);
            self.refused.get_or_create_owned(&labels);
            self.refused_bytes.get_or_create_owned(&labels);
        }
        for direction in ["up", "down"] {
            self.steps.get_or_create_owned(&StepLabels { direction });
        }
        metrics.register(|registry| {
            registry.register("shedding_level", "Steps of load shedding taken", self.level.clone());
            registry.register(
                "shedding_action",
                "What is done to producers of a class: 0 nothing, 1 throttled, 2 refused",
                self.actions.clone(),
            );
            registry.register("shedding_steps", "Steps of load shedding, up and down", self.steps.clone());
            registry.register(
                "shedding_throttled_requests",
                "Produce requests held up by load shedding",
                self.throttled.clone(),
            );
            registry.register(
                "shedding_throttle_seconds",
                "Time that producers were held up by load shedding",
                self.throttle_seconds.clone(),
            );
            registry.register(
                "shedding_refused_batches",
                "Batches refused by load shedding",
                self.refused.clone(),
            );
            registry.register(
                "shedding_refused_bytes",
                "Bytes of batches refused by load shedding",
                self.refused_bytes.clone(),
            );
        });
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Disk => f.write_str("the disk has passed its soft limit"),
            Reason::Group(group) => write!(f, "the lag objective of group {group} is violated"),
        }
    }
}
