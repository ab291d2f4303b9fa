//! How long offsets and groups are kept (KIP-211).

use super::testing::*;
use super::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const CHECK_MS: u64 = 600_000;

#[test]
fn offsets_of_a_group_without_members_lapse_a_week_after_the_commit() {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(commit("", -1, 1));
    driver.advance(6 * DAY_MS);
    driver.send(commit("", -1, 2));
    driver.advance(6 * DAY_MS);
    assert_eq!(committed(&driver), Some(2));
    driver.advance(DAY_MS + CHECK_MS);
    assert_eq!((committed(&driver), driver.state()), (None, GroupState::Dead));
}

#[test]
fn offsets_of_a_group_with_members_lapse_a_week_after_the_last_one_left() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send(commit("m1", 1, 1));
    for _ in 0..(8 * DAY_MS / 9_000) {
        driver.now.monotonic_ms += 9_000;
        driver.now.wall_ms += 9_000;
        let Command::Heartbeat(beat) = heartbeat("m1", 1) else { unreachable!() };
        for event in driver.machine.handle(driver.now, Token(u64::MAX), Command::Heartbeat(beat)).events {
            driver.machine.apply(event);
        }
    }
    driver.advance(0);
    assert_eq!(committed(&driver), Some(1), "the topic is read, however old the commit");
    driver.send(leave(&[identity("m1")]));
    driver.advance(7 * DAY_MS - CHECK_MS);
    assert_eq!(committed(&driver), Some(1));
    driver.advance(2 * CHECK_MS);
    assert_eq!((committed(&driver), driver.state()), (None, GroupState::Dead));
    driver.restart();
    assert_eq!(driver.state(), GroupState::Dead);
}

#[test]
fn a_time_of_expiry_chosen_by_the_client_comes_before_the_brokers_retention() {
    let mut driver = Driver::new(GroupConfig::default());
    let short = CommitOffsets { retention_ms: Some(3_600_000), ..commit_offsets("", -1, 9) };
    driver.send(Command::CommitOffsets(short));
    driver.restart();
    driver.advance(3_600_000 - CHECK_MS);
    assert_eq!(committed(&driver), Some(9));
    driver.advance(2 * CHECK_MS);
    assert_eq!(committed(&driver), None);
}

#[test]
fn a_clock_that_was_set_back_forgets_nothing() {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(commit("", -1, 1));
    driver.now.wall_ms -= 30 * DAY_MS as i64;
    driver.advance(8 * DAY_MS);
    assert_eq!(committed(&driver), Some(1));
}

#[test]
fn many_old_offsets_are_forgotten_a_bounded_number_at_a_time() {
    let mut driver = Driver::new(GroupConfig::default());
    let mut request = commit_offsets("", -1, 1);
    let one = request.offsets[0].clone();
    request.offsets.extend((1..5_000).map(|partition| OffsetToCommit { partition, ..one.clone() }));
    driver.send(Command::CommitOffsets(request));
    driver.now.monotonic_ms += 8 * DAY_MS;
    driver.now.wall_ms += 8 * DAY_MS as i64;
    let first = driver.machine.handle_timeout(driver.now);
    let removed = first.events.iter().filter(|event| matches!(event, Event::OffsetRemoved { .. })).count();
    assert_eq!(removed, REMOVALS_PER_DECISION_MAX);
    driver.advance(0);
    assert_eq!(driver.state(), GroupState::Dead);
}

#[test]
fn many_groups_that_expire_at_once_are_dealt_with_one_after_the_other() {
    let mut driver = Driver::new(GroupConfig::default());
    for i in 0..100 {
        let group_id = format!("group-{i}").into();
        driver.send(Command::Join(JoinGroup { group_id, ..join() }));
    }
    driver.advance(60_000);
    let states: BTreeSet<GroupState> = driver.machine.list().into_iter().map(|group| group.state).collect();
    assert_eq!(states, BTreeSet::from([GroupState::Empty]));
}
