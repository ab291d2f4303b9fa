//! Entries of the log that groups are kept in: each is understood or refused, whatever is understood can
//! be applied in any order, and a snapshot of the state replays to the same state.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use log_server::coordinator::group::{GroupConfig, GroupCoordinator};
use log_server::coordinator::machine::{LogEntry, Now, StateMachine};

fn replay(entries: impl Iterator<Item = LogEntry>) -> GroupCoordinator {
    let mut groups = GroupCoordinator::new(GroupConfig::default());
    for entry in entries {
        if let Ok(Some(event)) = GroupCoordinator::decode(&entry) {
            groups.apply(event);
        }
    }
    groups
}

fn snapshot(groups: &GroupCoordinator) -> Vec<(Bytes, Option<Bytes>)> {
    let mut entries: Vec<_> = groups.snapshot().map(|entry| (entry.key, entry.value)).collect();
    entries.sort();
    entries
}

fuzz_target!(|input: Vec<(Vec<u8>, Option<Vec<u8>>)>| {
    let entries =
        input.into_iter().map(|(key, value)| LogEntry { key: key.into(), value: value.map(Bytes::from) });
    let mut groups = replay(entries);
    let state = snapshot(&groups);
    assert_eq!(snapshot(&replay(groups.snapshot())), state, "a snapshot lost something");
    groups.loaded(Now { monotonic_ms: 0, wall_ms: 0 });
    let due = groups.handle_timeout(Now { monotonic_ms: u64::MAX / 2, wall_ms: i64::MAX / 2 });
    due.events.into_iter().for_each(|event| groups.apply(event));
});
