//! Tests of [`LogDir`](super::LogDir) on a real directory.

use super::*;
use crate::storage::{MmapStorage, WriteMode};

const OPTIONS: LogDirOptions = LogDirOptions { node_id: 1, cluster_id: None };

fn storage(dir: &tempfile::TempDir) -> Arc<dyn Storage> {
    Arc::new(MmapStorage::open(dir.path(), WriteMode::Mapped).expect("a directory opens"))
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn orders(topic_id: u128) -> PartitionIdentity {
    PartitionIdentity { topic_id: Uuid::from_u128(topic_id), topic: "orders".into(), partition: 3 }
}

#[test]
fn a_directory_keeps_its_identity_and_refuses_others() {
    let dir = temporary();
    let first = LogDir::open(storage(&dir), &OPTIONS).expect("new");
    let identity = first.identity().clone();
    assert_eq!(identity.cluster_id.len(), 22);
    drop(first);
    assert_eq!(*LogDir::open(storage(&dir), &OPTIONS).expect("ours").identity(), identity);

    let other = LogDirOptions { node_id: 2, cluster_id: None };
    let error = LogDir::open(storage(&dir), &other).unwrap_err();
    assert!(matches!(error, LogDirError::WrongNode { found: 1, expected: 2 }), "{error}");
    let other = LogDirOptions { node_id: 1, cluster_id: Some("another".into()) };
    let error = LogDir::open(storage(&dir), &other).unwrap_err();
    assert!(matches!(error, LogDirError::WrongCluster { .. }), "{error}");

    storage(&dir).write_atomic(META_FILE, br#"{"format": 2, "shape": "round"}"#).expect("room");
    let error = LogDir::open(storage(&dir), &OPTIONS).unwrap_err();
    assert!(matches!(error, LogDirError::WrongFormat { found: 2 }), "{error}");
}

#[test]
fn one_process_at_a_time() {
    let dir = temporary();
    let first = LogDir::open(storage(&dir), &OPTIONS).expect("new");
    let error = LogDir::open(storage(&dir), &OPTIONS).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    LogDir::open(storage(&dir), &OPTIONS).expect("free again");
}

#[test]
fn partitions_are_found_with_their_identity() {
    let dir = temporary();
    let log_dir = LogDir::open(storage(&dir), &OPTIONS).expect("new");
    let config = LogConfig::default;
    log_dir.create_partition(&orders(5), config()).expect("room");
    assert!(log_dir.storage().exists("topics/orders-3/partition.json").expect("readable"));
    log_dir.create_partition(&orders(5), config()).expect("there");
    let error = log_dir.create_partition(&orders(6), config()).unwrap_err();
    assert!(matches!(error, LogDirError::PartitionExists { .. }), "{error}");
    let error =
        log_dir.create_partition_dir(&PartitionIdentity { topic: "../x".into(), ..orders(7) }).unwrap_err();
    assert!(matches!(error, LogDirError::InvalidName { .. }), "{error}");

    let storage = log_dir.storage();
    storage.create_dir_all("topics/half-0").expect("room");
    storage.create_dir_all("topics/renamed-0").expect("room");
    storage.write_atomic("topics/renamed-0/partition.json", &to_json(&orders(5))).expect("room");
    storage.write_atomic("topics/file", b"").expect("room");
    let found = log_dir.partitions().expect("readable");
    assert_eq!(found.partitions, [orders(5)]);
    let strays: Vec<&str> = found.strays.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(strays, ["file", "half-0", "renamed-0"]);
}

#[test]
fn a_deleted_partition_is_gone_and_its_name_is_free() {
    let dir = temporary();
    let log_dir = LogDir::open(storage(&dir), &OPTIONS).expect("new");
    log_dir.create_partition(&orders(5), LogConfig::default()).expect("room");
    log_dir.delete_partition(&orders(5)).expect("there");
    log_dir.delete_partition(&orders(5)).expect("gone is gone");
    assert!(log_dir.storage().list_dir("topics").expect("there").is_empty());
    log_dir.create_partition(&orders(6), LogConfig::default()).expect("free");
    // As if the process had died on the way.
    log_dir.storage().rename("topics/orders-3", "topics/0-3.deleted").expect("there");
    log_dir.storage().write_synced("catalog.json.tmp", b"half").expect("room");
    drop(log_dir);
    let log_dir = LogDir::open(storage(&dir), &OPTIONS).expect("ours");
    assert!(log_dir.storage().list_dir("topics").expect("there").is_empty());
    assert!(!log_dir.storage().exists("catalog.json.tmp").expect("readable"));
}

#[test]
fn the_note_of_a_clean_shutdown_serves_once() {
    let dir = temporary();
    let log_dir = LogDir::open(storage(&dir), &OPTIONS).expect("new");
    assert!(!log_dir.was_clean());
    let mut clean = CleanShutdown::default();
    clean.add("orders-3", 42);
    log_dir.close_clean(&clean).expect("room");
    drop(log_dir);
    let log_dir = LogDir::open(storage(&dir), &OPTIONS).expect("ours");
    assert!(log_dir.was_clean());
    assert_eq!(log_dir.clean_log_end(&orders(5)), Some(42));
    drop(log_dir);
    assert!(!LogDir::open(storage(&dir), &OPTIONS).expect("ours").was_clean());
}

#[test]
fn a_directory_that_went_offline_is_never_clean() {
    let dir = temporary();
    let log_dir = LogDir::open(storage(&dir), &OPTIONS).expect("new");
    log_dir.health().poison("sync failed");
    log_dir.close_clean(&CleanShutdown::default()).expect_err("offline");
    drop(log_dir);
    assert!(!LogDir::open(storage(&dir), &OPTIONS).expect("ours").was_clean());
}

#[test]
fn partitions_without_an_owner_are_not_taken_over() {
    let dir = temporary();
    let log_dir = LogDir::open(storage(&dir), &OPTIONS).expect("new");
    log_dir.create_partition(&orders(5), LogConfig::default()).expect("room");
    log_dir.storage().remove_file(META_FILE).expect("there");
    drop(log_dir);
    let error = LogDir::open(storage(&dir), &OPTIONS).unwrap_err();
    assert!(matches!(error, LogDirError::Damaged { .. }), "{error}");
}
