//! A data directory with one file in it that holds anything: the directory opens or is refused, and what
//! is understood of it is sane and is what the next start understands.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use log_core::log::{CleanShutdown, LogConfig, LogDir, LogDirOptions, PartitionIdentity};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;
use log_server::producer_ids::ProducerIds;
use log_server::topic::{Catalog, Topic};
use uuid::Uuid;

const FILES: [&str; 5] =
    ["meta.json", "catalog.json", "producer-ids.json", "clean-shutdown", "topics/orders-0/partition.json"];

const OPTIONS: LogDirOptions = LogDirOptions { node_id: 1, cluster_id: None };

static SOUND: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let sim = SimStorage::new(0);
    let dir = LogDir::open(Arc::new(sim.clone()), &OPTIONS).expect("a new directory");
    let topic = Topic {
        name: "orders".into(),
        id: log_core::wire::Uuid::from_bytes(Uuid::from_u128(7).into_bytes()),
        partitions: 1,
        config: [("retention.ms".to_owned(), "-1".to_owned())].into(),
    };
    let partition = topic.partition_identity(0);
    let log = dir.create_partition(&partition, LogConfig::default()).expect("room");
    Catalog::create(Arc::new(sim.clone())).and_then(|catalog| catalog.put(vec![topic])).expect("room");
    ProducerIds::open(Arc::new(sim.clone())).and_then(|ids| ids.allocate()).expect("room");
    let mut clean = CleanShutdown::default();
    clean.add(partition.directory_name(), log.watermarks().log_end());
    dir.close_clean(&clean).expect("room");
    FILES.map(|file| (file, sim.read(file).expect("written"))).to_vec()
});

/// What a start makes of the directory.
#[derive(Debug, PartialEq)]
struct Understood {
    cluster_id: String,
    partitions: Vec<PartitionIdentity>,
    topics: Option<Vec<String>>,
}

fn understand(storage: Arc<dyn Storage>) -> Option<Understood> {
    let topics = Catalog::open(Arc::clone(&storage)).ok()?;
    let topics = topics.map(|catalog| {
        let topics = catalog.topics();
        let mut names: Vec<String> = topics.iter().map(|topic| topic.name.to_string()).collect();
        names.sort_unstable();
        names
    });
    if let Ok(ids) = ProducerIds::open(Arc::clone(&storage)) {
        let first = ids.allocate();
        assert!(first.as_ref().map_or(true, |&id| id >= 0), "{first:?}");
    }
    let dir = LogDir::open(Arc::clone(&storage), &OPTIONS).ok()?;
    let partitions = dir.partitions().expect("a healthy disk").partitions;
    for partition in &partitions {
        assert!(partition.is_valid());
        drop(dir.open_partition(partition, LogConfig::default()));
    }
    Some(Understood { cluster_id: dir.cluster_id().to_owned(), partitions, topics })
}

fuzz_target!(|input: (u8, u16, bool, Vec<u8>)| {
    let (file, at, whole, bytes) = input;
    let sim = SimStorage::new(0);
    sim.create_dir_all("topics/orders-0").expect("room");
    for (index, (path, sound)) in SOUND.iter().enumerate() {
        let mut content = sound.clone();
        if index == usize::from(file) % FILES.len() {
            if whole {
                content.clear();
            }
            let at = usize::from(at) % (content.len() + 1);
            let end = (at + bytes.len()).min(content.len());
            content.splice(at..end, bytes.iter().copied());
        }
        sim.write_synced(path, &content).expect("room");
    }
    let Some(first) = understand(Arc::new(sim.clone())) else { return };
    assert_eq!(understand(Arc::new(sim.restart())).as_ref(), Some(&first), "two starts in a row differ");
});
