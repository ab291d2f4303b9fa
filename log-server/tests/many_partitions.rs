//! What five thousand partitions take of the machine: files, maps, memory, disk. Not time, which the benchmarks measure.
//!
//! Alone in its process, because the limits and the figures are the process's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use log_server::limits::{Limits, open_files};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};

const PARTITIONS: usize = 5_000;
/// Memory of the process's own that an idle partition may take, in bytes, in a debug build too.
const BYTES_PER_PARTITION_MAX: usize = 12 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_partitions_stay_within_their_budget() {
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
    assert!(log_core::storage::maps() < limits.segments_mapped_max());
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
