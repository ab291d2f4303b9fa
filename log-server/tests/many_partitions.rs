//! What five thousand partitions take of the machine: files, maps, memory, disk. Not time, which the benchmarks measure.
//!
//! In a process of their own, because the limits and the figures are the process's, and one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use log_core::log::Isolation;
use log_core::record::{BatchBuilder, Compression, ProducedBatch};
use log_server::limits::{Limits, open_files};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};

const PARTITIONS: usize = 5_000;
/// Memory of the process's own that an idle partition may take, in bytes, in a debug build too.
const BYTES_PER_PARTITION_MAX: usize = 12 << 10;

/// Held by each test: what one maps is not to be counted by the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_partitions_stay_within_their_budget() {
    let _alone = ALONE.lock().await;
    let limits = Limits::raise();
    let partitions = PARTITIONS.min(limits.partitions_max(PARTITIONS).count);
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig::for_test(dir.path());
    let broker = Broker::start(config.clone()).await.unwrap();
    let (files, maps, memory) = (open_files().unwrap(), log_core::storage::maps(), anonymous_bytes());
    let topic = NewTopic { partitions: Some(partitions as i32), ..NewTopic::named("many") };
    for created in broker.context().topics.create(vec![topic]).await {
        created.unwrap();
    }

    assert_eq!(log_core::storage::maps() - maps, partitions, "maps: the active segment of each");
    assert!(log_core::storage::maps() < limits.segments_mapped_max(0));
    let opened = open_files().unwrap() - files;
    assert!(opened <= 2 * partitions + 16, "{opened} files: the active segment and the checkpoint of each");
    let per_partition = anonymous_bytes().saturating_sub(memory) / partitions;
    assert!(per_partition <= BYTES_PER_PARTITION_MAX, "{per_partition} bytes of memory a partition");
    assert_eq!(segment_blocks(dir.path()), 0, "nobody has written anything");

    broker.shutdown().await;
    let broker = Broker::start(config.clone()).await.unwrap();
    assert_eq!(broker.context().partitions.all().len(), partitions, "after a clean shutdown");
    assert_eq!(log_core::storage::maps() - maps, partitions);
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_nobody_reads_are_closed_above_the_limit() {
    const SEGMENTS_MAX: usize = 8;
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        segments_mapped_max: SEGMENTS_MAX,
        housekeeping_interval_ms: 10,
        ..BrokerConfig::for_test(dir.path())
    };
    let broker = Broker::start(config).await.unwrap();
    let settings = BTreeMap::from([("segment.bytes".to_owned(), "1024".to_owned())]);
    let topic = NewTopic { partitions: Some(1), config: settings, ..NewTopic::named("long") };
    for created in broker.context().topics.create(vec![topic]).await {
        created.unwrap();
    }
    let partition = broker.context().partitions.get("long", 0).unwrap();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(i64::MAX / 2, None, Some(&[0x5a; 600]), &[]).unwrap();
    let batch = ProducedBatch::internal(builder.build(0).unwrap()).unwrap();
    for _ in 0..50 {
        partition.append(&batch, 0, true).unwrap();
    }
    partition.wait_durable(50).await.unwrap();
    // All 50 segments were open when they were written. Flushed and indexed, they are closed one after the other.
    let closed = async {
        // They are counted when all of them are closed.
        while log_core::storage::maps() > SEGMENTS_MAX || broker.context().metrics.segments_closed.get() < 42
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), closed).await.expect("what nobody reads is closed");
    for offset in 0..50 {
        let read = partition.reader().read(offset, 1, Isolation::Uncommitted, true).unwrap();
        assert_eq!(read.next_offset, offset + 1, "a closed segment is opened again");
    }
    broker.shutdown().await;
}

/// `RssAnon`: what the process has of memory that no file is behind.
fn anonymous_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Blocks of 512 bytes behind all segments.
fn segment_blocks(data_dir: &Path) -> u64 {
    let directories = fs::read_dir(data_dir.join("topics")).unwrap();
    let files = directories.flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap());
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "log")).map(blocks).sum()
}

fn blocks(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).unwrap().blocks()
}
