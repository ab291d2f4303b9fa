//! The last records of partitions with batches of every size, by a whole broker's partitions.

use bytes::Bytes;
use log_core::log::{Isolation, LogReader};
use log_core::record::{BatchBuilder, Compression, ProducedBatch};

use super::*;
use crate::http::records::page::{self, Page, Wanted};
use crate::topic::NewTopic;
use crate::{Broker, BrokerConfig};

const MIB: usize = 1 << 20;

struct Rig {
    broker: Broker,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn start(partitions: i32) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        // The records are of 1970.
        let config = BrokerConfig { retention_ms: -1, ..BrokerConfig::for_test(dir.path()) };
        let broker = Broker::start(config).await.unwrap();
        let topic = NewTopic { partitions: Some(partitions), ..NewTopic::named("t") };
        broker.context().topics.create(vec![topic]).await.remove(0).unwrap();
        Rig { broker, _dir: dir }
    }

    fn partition(&self, index: i32) -> Arc<Partition> {
        self.broker.context().partitions.get("t", index).unwrap()
    }

    /// Appends a batch of records with these times, each of so many bytes.
    async fn append(&self, index: i32, times: impl IntoIterator<Item = i64>, bytes: usize) {
        let mut builder = BatchBuilder::new(Compression::None);
        let value = vec![b'x'; bytes];
        for time in times {
            builder.append(time, Some(b"key"), Some(&value), &[]).unwrap();
        }
        self.append_built(index, builder).await;
    }

    async fn append_built(&self, index: i32, builder: BatchBuilder) {
        let batch = ProducedBatch::internal(builder.build(0).unwrap()).unwrap();
        let appended = self.partition(index).append(&batch, 0, true).unwrap();
        self.partition(index).wait_durable(appended.last_offset + 1).await.unwrap();
    }

    /// The last records of all partitions.
    fn last(&self, records_max: usize, scan: &mut Scan) -> Page {
        page::last(&self.wanted(records_max), scan).unwrap()
    }

    fn wanted(&self, records_max: usize) -> Wanted {
        let from = (0..).map_while(|index| self.broker.context().partitions.get("t", index));
        Wanted {
            from: from.map(|partition| (partition, 0)).collect(),
            records_max,
            bytes_max: 8 * MIB,
            value_bytes_max: 10,
        }
    }
}

fn scan(bytes_left: usize) -> Scan {
    Scan { read_log: LogReader::read, isolation: Isolation::Uncommitted, key: None, bytes_left }
}

fn times(page: &Page) -> Vec<i64> {
    page.records.iter().map(|found| found.record.timestamp).collect()
}

#[tokio::test]
async fn large_records_of_one_partition_leave_room_for_those_of_another() {
    let rig = Rig::start(2).await;
    for time in 0..20 {
        rig.append((time % 2) as i32, [time], MIB).await;
    }
    let page = rig.last(12, &mut scan(16 * MIB));
    assert_eq!(times(&page), (8..20).collect::<Vec<_>>());
    assert!(!page.incomplete);
}

#[tokio::test]
async fn what_lies_too_far_back_is_missing_and_that_is_said() {
    let rig = Rig::start(1).await;
    for time in 0..20 {
        rig.append(0, [time], MIB).await;
    }
    let page = rig.last(20, &mut scan(8 * MIB));
    assert_eq!(times(&page), (12..20).collect::<Vec<_>>());
    assert!(page.incomplete);
    let page = rig.last(8, &mut scan(8 * MIB));
    assert_eq!((times(&page).len(), page.incomplete), (8, false), "no more was asked for");
}

#[tokio::test]
async fn a_partition_that_was_not_come_to_is_missing_from_a_full_page() {
    let rig = Rig::start(4).await;
    for index in 0..4 {
        rig.append(index, [i64::from(index)], MIB).await;
    }
    let page = rig.last(2, &mut scan(2 * MIB));
    assert_eq!((times(&page), page.incomplete), (vec![0, 1], true), "the last ones are 2 and 3");
}

#[tokio::test]
async fn all_of_a_short_log_is_complete() {
    let rig = Rig::start(3).await;
    rig.append(1, 0..3, 10).await;
    let page = rig.last(100, &mut scan(MIB));
    assert_eq!((times(&page), page.incomplete), (vec![0, 1, 2], false));
}

#[tokio::test]
async fn large_records_before_small_ones_are_found() {
    let rig = Rig::start(1).await;
    for time in 0..60 {
        rig.append(0, [time], MIB).await;
    }
    for time in 60..360 {
        rig.append(0, [time], 10).await;
    }
    let page = rig.last(310, &mut scan(32 * MIB));
    assert_eq!(times(&page), (50..360).collect::<Vec<_>>());
    assert!(!page.incomplete);
}

#[tokio::test]
async fn records_without_the_key_are_gone_back_over() {
    let rig = Rig::start(1).await;
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(7, Some(b"wanted"), None, &[]).unwrap();
    rig.append_built(0, builder).await;
    for time in 0..500 {
        rig.append(0, [time], 10).await;
    }
    let mut scan = scan(MIB);
    scan.key = Some(Bytes::from_static(b"wanted"));
    let page = rig.last(1, &mut scan);
    assert_eq!((times(&page), page.incomplete), (vec![7], false));
}

#[tokio::test]
async fn few_records_are_held_of_a_batch_of_many() {
    let rig = Rig::start(1).await;
    rig.append(0, 0..20_000, 0).await;
    let wanted = rig.wanted(10_000);
    let mut tail = Tail::new(rig.partition(0), 0, 20_000);
    assert_eq!(tail.advance(&mut scan(32 * MIB), &Room::of(&wanted)).unwrap(), Next::Record);
    assert_eq!(tail.found.len(), RECORDS_AHEAD);
    let page = rig.last(3000, &mut scan(32 * MIB));
    assert_eq!(times(&page), (17_000..20_000).collect::<Vec<_>>());
    assert!(!page.incomplete);
}

#[tokio::test]
async fn records_that_the_answer_has_no_room_for_are_not_held() {
    let rig = Rig::start(1).await;
    rig.append(0, 0..50, 1000).await;
    let wanted = Wanted { bytes_max: 3000, value_bytes_max: 1000, ..rig.wanted(50) };
    let mut tail = Tail::new(rig.partition(0), 0, 50);
    tail.advance(&mut scan(MIB), &Room::of(&wanted)).unwrap();
    assert_eq!(tail.found.len(), 2);
    let page = page::last(&wanted, &mut scan(MIB)).unwrap();
    assert_eq!((times(&page), page.incomplete), (vec![48, 49], false));
}
