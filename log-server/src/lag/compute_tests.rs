use std::sync::atomic::Ordering;

use log_core::record::{BatchBuilder, Compression, EndOfTransaction, Marker, ProducedBatch};

use super::*;
use crate::coordinator::group::{GroupProtocol, GroupState};
use crate::topic::NewTopic;
use crate::{Broker, BrokerConfig};

/// Aborted batches before the records that a group waits for.
const ABORTED: i32 = 40;

/// A broker that takes no samples but those of the test after its first, with a topic in each of whose partitions there are aborted
/// batches of one record each, a marker, and two records a minute old.
struct Bench {
    broker: Broker,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(partitions: i32) -> Bench {
        Bench::with_records_of(1000, partitions).await
    }

    async fn with_records_of(bytes: usize, partitions: i32) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::for_test(dir.path());
        config.lag_sample_interval_ms = 3_600_000;
        let broker = Broker::start(config).await.unwrap();
        broker.context().lag.subscribe().wait_for(|number| *number > 0).await.unwrap();
        let topic = NewTopic { partitions: Some(partitions), ..NewTopic::named("flights") };
        broker.context().topics.create(vec![topic]).await.remove(0).unwrap();
        let bench = Bench { broker, _dir: dir };
        for index in 0..partitions {
            bench.fill(index, bytes).await;
        }
        bench
    }

    async fn fill(&self, index: i32, bytes: usize) {
        let partition = self.broker.context().partitions.get("flights", index).unwrap();
        let append = |builder: BatchBuilder, transactional: bool| {
            let mut builder = builder;
            builder.append(now_ms() - 60_000, None, Some(&vec![7; bytes]), &[]).unwrap();
            let batch = ProducedBatch::internal(builder.build(0).unwrap()).unwrap();
            let asked = transactional.then(|| partition.ask_about(7, 0, false));
            partition.append_asked(&batch, asked, now_ms(), true).unwrap()
        };
        for sequence in 0..ABORTED {
            let builder = BatchBuilder::new(Compression::None).producer(7, 0, sequence);
            append(builder.transactional(true), true);
        }
        let end = EndOfTransaction { marker: Marker::Abort, coordinator_epoch: 0 };
        partition.append_marker(7, 0, end, now_ms()).unwrap();
        append(BatchBuilder::new(Compression::None), false);
        let last = append(BatchBuilder::new(Compression::None), false);
        partition.wait_durable(last.last_offset + 1).await.unwrap();
        // As a group that reads committed records is known to.
        partition.readers().note(reader(), Isolation::Committed);
        self.board().note_committer("app", reader());
    }

    fn board(&self) -> &Board {
        &self.broker.context().lag
    }

    /// One look that may go through so many bytes, at a group that stands at `offset` in each partition.
    fn look(&self, offset: i64, bytes_max: u64) -> GroupLag {
        self.look_at(|_| offset, bytes_max)
    }

    /// The same at a group that stands at an offset of its own in each partition.
    fn look_at(&self, offset: impl Fn(i32) -> i64, bytes_max: u64) -> GroupLag {
        let partitions = &self.broker.context().partitions;
        let measure = Measure { bytes_max, ..Measure::new(partitions, self.board()) };
        measure.groups(vec![self.overview_at(offset)]).remove(0)
    }

    fn overview(&self, offset: i64) -> GroupOverview {
        self.overview_at(|_| offset)
    }

    fn overview_at(&self, offset: impl Fn(i32) -> i64) -> GroupOverview {
        let partitions = self.broker.context().partitions.topic("flights").unwrap();
        let offsets = partitions.iter().map(|partition| OffsetOverview {
            topic: partition.topic().clone(),
            partition: partition.index(),
            offset: offset(partition.index()),
            committed_at_ms: 0,
        });
        GroupOverview {
            group_id: "app".into(),
            state: GroupState::Empty,
            protocol_type: "".into(),
            protocol: GroupProtocol::OffsetsOnly,
            members: Vec::new(),
            offsets: offsets.collect(),
        }
    }
}

fn reader() -> ReaderId {
    ReaderId::new("app", [127, 0, 0, 1].into())
}

#[test]
fn ages_are_never_negative() {
    assert_eq!(age_seconds(1_000, 31_500), 30.5);
    assert_eq!(age_seconds(1_000, 1_000), 0.0);
    assert_eq!(age_seconds(5_000, 1_000), 0.0, "the clock went back, or the producer's is ahead");
    assert_eq!(age_seconds(-1, 1_000), 0.0, "the record has no timestamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_that_a_look_does_not_come_to_is_unknown_and_never_nothing() {
    let bench = Bench::new(1).await;
    let spent = bench.look(0, 0);
    assert_eq!((spent.lag_seconds(), spent.is_exact()), (None, false));
    assert_eq!(spent.lag_records(), i64::from(ABORTED) + 3, "offsets, as nobody has looked");
    let known = bench.look(0, LOOK_BYTES_MAX);
    assert!(known.lag_seconds().is_some_and(|seconds| seconds >= 60.0), "{known:?}");
    assert_eq!((known.lag_records(), known.is_exact()), (2, true));
    assert!(bench.look(0, 0).lag_seconds().is_some_and(|seconds| seconds >= 60.0), "it is remembered");
    assert_eq!(bench.look(i64::from(ABORTED) + 3, 0).lag_seconds(), Some(0.0), "at the end there is nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_goes_on_from_what_it_was_while_the_log_is_looked_through() {
    let bench = Bench::new(1).await;
    let context = bench.broker.context();
    bench.board().publish(&context.partitions, vec![bench.overview(0)], 1);
    let before = bench.board().latest();
    let seconds_before = before.groups[0].lag_seconds().expect("known");
    let further = bench.look(1, 0);
    let waited = (now_ms() - before.sampled_at_ms) as f64 / 1_000.0;
    let told = further.lag_seconds().expect("no more than that");
    assert!((seconds_before..=seconds_before + waited).contains(&told), "{told}");
    assert!(!further.is_exact());
    let mut past = before.groups[0].partitions[0].clone();
    let now = past.clone();
    assert_eq!(aged_seconds(&past, 2_000, &now), Some(past.lag_seconds.unwrap() + 2.0));
    past.committed_offset += 1;
    assert_eq!(aged_seconds(&past, 2_000, &now), None, "it went back: to what is older");
    past.committed_offset -= 1;
    past.isolation = Isolation::Uncommitted;
    assert_eq!(aged_seconds(&past, 2_000, &now), None, "it reads other records");
    past.isolation = now.isolation;
    past.lag_seconds = None;
    assert_eq!(aged_seconds(&past, 2_000, &now), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_take_turns_until_everything_is_known() {
    let bench = Bench::new(5).await;
    // A part of the aborted batches: the first place needs it all.
    let firsts: Vec<usize> = (0..5)
        .map(|_| {
            bench.look(0, 20_000);
            bench.board().first_place()
        })
        .collect();
    assert_eq!(firsts, [1, 2, 3, 4, 0]);
    let mut looks = 0;
    while bench.look(0, 20_000).lag_seconds().is_none() {
        looks += 1;
        assert!(looks < 5 * (2 * ABORTED + 4), "a batch a look would be enough");
    }
    let whole = bench.look(0, LOOK_BYTES_MAX);
    assert_eq!((whole.lag_records(), whole.is_exact()), (10, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_others_have_not_needed_is_there_in_the_same_look() {
    let bench = Bench::with_records_of(10_000, 2).await;
    // A turn is a quarter of it: 25 of the 40 aborted batches of the first place. The second stands at its end.
    let end = i64::from(ABORTED) + 3;
    let found = bench.look_at(|index| if index == 0 { 0 } else { end }, 1 << 20);
    assert_eq!((found.lag_records(), found.is_exact()), (2, true));
    assert!(found.lag_seconds().is_some_and(|seconds| seconds >= 60.0), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_ends_when_the_broker_stops() {
    let bench = Bench::new(1).await;
    bench.board().stopping().store(true, Ordering::Relaxed);
    let cut_short = bench.look(0, LOOK_BYTES_MAX);
    assert_eq!((cut_short.lag_seconds(), cut_short.is_exact()), (None, false));
    bench.board().publish(&bench.broker.context().partitions, vec![bench.overview(0)], 1);
    assert_eq!(bench.board().latest().group("app"), None, "what was cut short is no sample");
}
