//! Sizes, offsets and traffic of topics and partitions, as metrics.
//!
//! Labels multiply: with many partitions these would be most of what a scraper has to keep. So
//! `metrics_partitions_max` bounds the partitions that have series of their own, and [`TOPICS_MAX`] the topics; what is
//! beyond is counted, and the topics beyond share the label `(others)`. It is decided by name, so that a series does
//! not come and go with the traffic.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use crate::partition::{Partition, Registry};

/// Topics that have series of their own.
const TOPICS_MAX: usize = 1000;

/// The label that all others share. No topic's name may have brackets.
const OTHER_TOPICS: &str = "(others)";

/// Name, type and meaning of a metric, and how to read it.
type Row<T> = (&'static str, &'static str, &'static str, fn(&T) -> i128);

const OF_TOPICS: [Row<TopicSums>; 6] = [
    ("topic_partitions", "gauge", "Partitions", |topic| topic.partitions.into()),
    ("topic_log_bytes", "gauge", "Bytes of batches in the logs", |topic| topic.log_bytes.into()),
    ("topic_log_offsets", "gauge", "Offsets from the log start to the high watermark", |topic| {
        topic.offsets.into()
    }),
    ("topic_produced_records", "counter", "Records appended by clients", |topic| {
        topic.produced_records.into()
    }),
    ("topic_produced_bytes", "counter", "Bytes of batches appended by clients", |topic| {
        topic.produced_bytes.into()
    }),
    ("topic_fetched_bytes", "counter", "Bytes of batches fetched by clients", |topic| {
        topic.fetched_bytes.into()
    }),
];

const OF_PARTITIONS: [Row<Partition>; 6] = [
    ("partition_log_bytes", "gauge", "Bytes of batches in the log", |partition| {
        partition.reader().size_bytes().into()
    }),
    ("partition_segments", "gauge", "Segments of the log", |partition| {
        partition.reader().segment_count() as i128
    }),
    ("partition_log_start_offset", "gauge", "The first offset that is left", |partition| {
        partition.reader().watermarks().log_start().into()
    }),
    (
        "partition_last_stable_offset",
        "gauge",
        "The offset that readers of committed records may read up to",
        |it| it.reader().watermarks().last_stable().into(),
    ),
    (
        "partition_high_watermark",
        "gauge",
        "The offset that readers may read up to: all below is durable",
        |it| it.reader().watermarks().high_watermark().into(),
    ),
    ("partition_log_end_offset", "gauge", "The offset that the next record will have", |partition| {
        partition.reader().watermarks().log_end().into()
    }),
];

/// The sums of a topic's partitions.
#[derive(Debug, Default, PartialEq, Eq)]
struct TopicSums {
    partitions: u64,
    log_bytes: u64,
    offsets: i64,
    produced_records: u64,
    produced_bytes: u64,
    fetched_bytes: u64,
}

impl TopicSums {
    fn add(&mut self, partition: &Partition) {
        let (reader, traffic) = (partition.reader(), partition.traffic());
        let watermarks = reader.watermarks();
        self.partitions += 1;
        self.log_bytes += reader.size_bytes();
        self.offsets += watermarks.high_watermark() - watermarks.log_start();
        self.produced_records += traffic.produced_records();
        self.produced_bytes += traffic.produced_bytes();
        self.fetched_bytes += traffic.fetched_bytes();
    }
}

/// Writes them behind the metrics in `text`, with series of their own for `partitions_max` partitions.
pub(super) fn append_partitions(text: &mut String, registry: &Registry, partitions_max: usize) {
    let mut partitions = registry.all();
    partitions.sort_unstable_by(|a, b| (a.topic(), a.index()).cmp(&(b.topic(), b.index())));
    let topics = by_topic(&partitions, TOPICS_MAX);
    for (name, kind, help, value) in OF_TOPICS {
        family(text, name, kind, help);
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (topic, sums) in &topics {
            line(text, format_args!("highwater_{name}{suffix}{{topic=\"{topic}\"}} {}", value(sums)));
        }
    }
    let shown = &partitions[..partitions.len().min(partitions_max)];
    for (name, kind, help, value) in OF_PARTITIONS {
        family(text, name, kind, help);
        for partition in shown {
            let (topic, index) = (partition.topic(), partition.index());
            let value = value(partition);
            line(text, format_args!("highwater_{name}{{topic=\"{topic}\",partition=\"{index}\"}} {value}"));
        }
    }
    let name = "partitions_without_series";
    family(
        text,
        name,
        "gauge",
        "Partitions beyond metrics_partitions_max, which are in the sums of topics only",
    );
    line(text, format_args!("highwater_{name} {}", partitions.len() - shown.len()));
}

/// The sums of the first `topics_max` topics, and of all others together.
fn by_topic(partitions: &[Arc<Partition>], topics_max: usize) -> BTreeMap<&str, TopicSums> {
    let mut topics: BTreeMap<&str, TopicSums> = BTreeMap::new();
    for partition in partitions {
        let topic: &str = partition.topic();
        let own = topics.contains_key(topic) || topics.len() < topics_max;
        topics.entry(if own { topic } else { OTHER_TOPICS }).or_default().add(partition);
    }
    topics
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP highwater_{name} {help}.\n# TYPE highwater_{name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes whatever is written to it");
}
