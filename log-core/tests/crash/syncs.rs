//! The suite is alive: take any sync away from the engine, and it fails.
//!
//! Nothing in the engine is changed for this. The simulated disk lets chosen syncs answer `Ok` and do
//! nothing, which is what a crash sees of an engine without the call. That each call as it stands in
//! the source is needed is shown by docs/crash-testing.md, where every one was deleted in turn.

use log_core::storage::sim::SyncPoint;

use crate::history::History;
use crate::{Ignored, first_failure, run};

/// Histories after which a missing sync must have been noticed.
const HISTORIES_MAX: u64 = 6_000;

fn file(point: &SyncPoint<'_>, ending: &str) -> bool {
    !point.is_directory && !point.is_everything && point.path.ends_with(ending)
}

/// The sync of a directory after a name with this ending has come or gone.
fn name(point: &SyncPoint<'_>, ending: &str) -> bool {
    point.is_directory && point.changed_names.iter().any(|name| name.ends_with(ending))
}

const SYNCS: &[(&str, Ignored)] = &[
    ("the data of a segment", |point| file(point, ".log")),
    ("the name of a segment", |point| name(point, ".log")),
    ("a checkpoint's slot", |point| file(point, "/checkpoint")),
    ("the first checkpoint", |point| file(point, "/checkpoint.tmp")),
    ("the name of the checkpoint", |point| name(point, "checkpoint")),
    ("leader epochs", |point| file(point, "/leader-epochs.tmp")),
    ("the name of the leader epochs", |point| name(point, "leader-epochs")),
    ("a producer snapshot", |point| file(point, ".producers.tmp")),
    ("the name of a producer snapshot", |point| name(point, ".producers")),
    ("what is quarantined", |point| file(point, "") && point.path.starts_with("quarantine/")),
    ("the name of what is quarantined", |point| point.is_directory && point.path == "quarantine"),
    ("the name of the quarantine", |point| name(point, "quarantine")),
    ("the identity of the directory", |point| file(point, "meta.json.tmp")),
    ("the names of identity and topics", |point| point.is_directory && point.path.is_empty()),
    ("the identity of a partition", |point| file(point, "partition.json.tmp")),
    ("the name of a partition's identity", |point| name(point, "partition.json")),
    ("the names of partitions", |point| point.is_directory && point.path == "topics"),
    ("everything at once", |point| point.is_everything),
    ("the note of a clean shutdown", |point| file(point, "clean-shutdown.tmp")),
    ("the removal of that note", |point| point.is_directory && point.changed_names == ["clean-shutdown"]),
];

#[test]
fn every_sync_is_missed() {
    let mut unnoticed = Vec::new();
    for (what, ignored) in SYNCS {
        match first_failure(0, HISTORIES_MAX, |seed| run(seed, Some(*ignored), History::run).map(|_| ())) {
            Some((seed, broken)) => println!("without {what}: seed {seed}: {broken}"),
            None => unnoticed.push(*what),
        }
    }
    assert!(unnoticed.is_empty(), "nothing is missed without {unnoticed:?}");
}
