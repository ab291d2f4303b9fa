//! Transcripts of groups that change their protocol while members work.

use super::testing::*;
use super::*;
use crate::coordinator::group::testing::{Driver, GROUP, commit_offsets, heartbeat, identity, join, leave};
use crate::coordinator::group::{
    Command, CommitOffsets, GroupConfig, GroupError, GroupState, JoinGroup, Joined, MigrationPolicy, Reply,
    SyncGroup, subscription,
};

fn joining(member_id: &str, new_id: &str, owned: &[i32]) -> Command {
    Command::Join(JoinGroup {
        member: identity(member_id),
        new_member_id: new_id.into(),
        protocols: vec![("cooperative-sticky".into(), said(owned))],
        ..join()
    })
}

fn joined(driver: &mut Driver, command: Command) -> Joined {
    let token = driver.send(command);
    driver.joined(token)
}

fn synced(driver: &mut Driver, member_id: &str, generation: i32) -> Vec<i32> {
    let sync = Command::Sync(SyncGroup {
        group_id: GROUP.into(),
        member: identity(member_id),
        generation,
        protocol_type: None,
        protocol: Some("cooperative-sticky".into()),
        assignments: Vec::new(),
    });
    match driver.call(sync) {
        Reply::Sync(Ok(synced)) => {
            subscription::assigned(&synced.assignment).unwrap().into_iter().map(|(_, index)| index).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn beat(driver: &mut Driver, member_id: &str, generation: i32) -> Result<(), GroupError> {
    match driver.call(heartbeat(member_id, generation)) {
        Reply::Heartbeat(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// A classic group of one member, `c`, that has all four partitions.
fn classic(config: GroupConfig) -> Driver {
    let mut driver = driver_with(&[4], config);
    assert_eq!(joined(&mut driver, joining("", "c", &[])).generation, 1);
    let all = subscription::encode_assigned(&[("t1".into(), vec![0, 1, 2, 3])]);
    driver.call(Command::Sync(SyncGroup {
        group_id: GROUP.into(),
        member: identity("c"),
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: vec![("c".into(), all)],
    }));
    driver
}

#[test]
fn a_group_goes_over_to_the_newer_protocol_and_back() {
    let mut driver = classic(GroupConfig::default());
    // Up: the newcomer waits for what the classic member has.
    assert_eq!(told(&mut driver, entering("n", &["t1"])), (2, Some(of(&[]))));
    assert!(driver.machine.describe(GROUP).is_none() && group(&driver).members.len() == 2);
    assert_eq!(beat(&mut driver, "c", 1), Err(GroupError::RebalanceInProgress));
    // It joins with what it has, is asked to give up two, and does.
    assert_eq!(joined(&mut driver, joining("c", "-", &[0, 1, 2, 3])).generation, 1);
    let keeps = synced(&mut driver, "c", 1);
    assert_eq!(keeps.len(), 2);
    assert_eq!(told(&mut driver, alive("n", 2)), (2, None), "not yet");
    assert_eq!(beat(&mut driver, "c", 1), Err(GroupError::RebalanceInProgress));
    assert_eq!(joined(&mut driver, joining("c", "-", &keeps)).generation, 2);
    assert_eq!(synced(&mut driver, "c", 2), keeps);
    assert_eq!(beat(&mut driver, "c", 2), Ok(()));
    assert_eq!(told(&mut driver, alive("n", 2)).1.map(|assigned| assigned.len()), Some(2));
    assert_eq!(group(&driver).state(), GroupState::Stable);
    driver.restart();
    assert_eq!(beat(&mut driver, "c", 2), Ok(()));
    // A second classic member comes to the mixed group.
    let other = joined(&mut driver, joining("", "d", &[]));
    assert_eq!((other.generation, &*other.leader), (3, ""));
    assert!(synced(&mut driver, "d", 3).is_empty());
    // Down: the last of the newer protocol goes, and the others join as they always did.
    told(&mut driver, alive("n", LEAVE_EPOCH));
    assert!(driver.machine.describe_consumers(GROUP).is_none());
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    let tokens = [driver.send(joining("c", "-", &keeps)), driver.send(joining("d", "-", &[]))];
    let generations = tokens.map(|token| driver.joined(token).generation);
    assert_eq!(generations, [4, 4], "the epoch was theirs already");
}

#[test]
fn what_a_member_joins_with_is_its_own_before_it_is_assigned_anything() {
    let mut driver = classic(GroupConfig::default());
    assert_eq!(joined(&mut driver, joining("c", "-", &[0, 1, 2, 3])).generation, 2);
    assert_eq!(told(&mut driver, entering("n", &["t1"])), (3, Some(of(&[]))));
}

#[test]
fn what_a_member_works_on_is_its_own_when_the_group_goes_back_and_comes_again() {
    let mut driver = classic(GroupConfig::default());
    told(&mut driver, entering("n", &["t1"]));
    told(&mut driver, alive("n", LEAVE_EPOCH));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert_eq!(told(&mut driver, entering("n", &["t1"])), (3, Some(of(&[]))), "c was asked for nothing yet");
}

#[test]
fn members_are_called_to_the_classic_group_after_a_restart_too() {
    let mut driver = classic(GroupConfig::default());
    told(&mut driver, entering("n", &["t1"]));
    joined(&mut driver, joining("c", "-", &[0, 1, 2, 3]));
    let keeps = synced(&mut driver, "c", 1);
    joined(&mut driver, joining("c", "-", &keeps));
    told(&mut driver, alive("n", LEAVE_EPOCH));
    driver.restart();
    assert_eq!(beat(&mut driver, "c", 2), Err(GroupError::RebalanceInProgress), "what n had is nobody's");
    assert_eq!(joined(&mut driver, joining("c", "-", &keeps)).generation, 3);
}

#[test]
fn who_was_put_out_gives_up_what_it_has_before_it_joins_again() {
    let mut driver = classic(GroupConfig::default());
    told(&mut driver, entering("n", &["t1"]));
    driver.advance(11_000);
    assert_eq!(driver.join_error(joining("c", "-", &[0, 1, 2, 3])), GroupError::UnknownMemberId);
    assert_eq!(joined(&mut driver, joining("", "c2", &[])).generation, 4);
}

#[test]
fn classic_members_are_fenced_as_they_are_used_to() {
    let mut driver = classic(GroupConfig::default());
    told(&mut driver, entering("n", &["t1"]));
    assert_eq!(beat(&mut driver, "c", 7), Err(GroupError::IllegalGeneration));
    assert_eq!(beat(&mut driver, "n", 2), Err(GroupError::UnknownMemberId), "it speaks the other protocol");
    let commit = |generation| Command::CommitOffsets(commit_offsets("c", generation, 5));
    assert_eq!(driver.call(commit(1)), Reply::CommitOffsets(Ok(vec![Ok(())])));
    assert_eq!(driver.call(commit(2)), Reply::CommitOffsets(Err(GroupError::IllegalGeneration)));
    let of_other = CommitOffsets { member: identity("n"), ..commit_offsets("n", 2, 5) };
    assert_eq!(
        driver.call(Command::CommitOffsets(of_other)),
        Reply::CommitOffsets(Err(GroupError::UnsupportedVersion))
    );
    let strange = Command::Join(JoinGroup { protocols: vec![("range".into(), said(&[]))], ..join() });
    assert_eq!(driver.join_error(strange), GroupError::InconsistentGroupProtocol);
    // Called and not coming: out.
    assert_eq!(beat(&mut driver, "c", 1), Err(GroupError::RebalanceInProgress));
    for _ in 0..13 {
        driver.advance(5_000);
        let _ = beat(&mut driver, "c", 1);
        let epoch = group(&driver).members["n"].current.epoch;
        told(&mut driver, alive("n", epoch));
    }
    assert_eq!(beat(&mut driver, "c", 1), Err(GroupError::UnknownMemberId));
    assert_eq!(group(&driver).members["n"].current.assigned, of(&[0, 1, 2, 3]));
}

#[test]
fn silent_and_leaving_classic_members_are_gone() {
    let mut driver = classic(GroupConfig::default());
    told(&mut driver, entering("n", &["t1"]));
    assert!(matches!(driver.call(leave(&[identity("n")])), Reply::Leave(Ok(one)) if one[0].is_err()));
    assert!(matches!(driver.call(leave(&[identity("c")])), Reply::Leave(Ok(one)) if one[0].is_ok()));
    assert_eq!(told(&mut driver, alive("n", 2)), (3, Some(of(&[0, 1, 2, 3]))));
    joined(&mut driver, joining("", "d", &[]));
    driver.advance(11_000);
    assert_eq!(
        beat(&mut driver, "d", 4),
        Err(GroupError::UnknownMemberId),
        "its own session timeout is 10 s"
    );
}

#[test]
fn who_waits_in_a_classic_group_is_called_again() {
    let mut driver = classic(GroupConfig::default());
    let waiting = driver.send(joining("", "d", &[]));
    told(&mut driver, entering("n", &["t1"]));
    let Some(Reply::Join(Err(refused))) = driver.answer(waiting) else { panic!("an answer") };
    assert_eq!((refused.error, &*refused.member_id), (GroupError::RebalanceInProgress, "d"));
    assert_eq!(group(&driver).members.len(), 3);
}

#[test]
fn policies_and_other_protocols_are_respected() {
    let policy = |consumer_migration| GroupConfig { consumer_migration, ..GroupConfig::default() };
    for off in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let mut driver = classic(policy(off));
        assert_eq!(send(&mut driver, entering("n", &["t1"])), Err(GroupError::GroupIdNotFound));
    }
    let mut driver = classic(policy(MigrationPolicy::Upgrade));
    told(&mut driver, entering("n", &["t1"]));
    told(&mut driver, alive("n", LEAVE_EPOCH));
    assert!(driver.machine.describe_consumers(GROUP).is_some(), "it does not go back");
    let mut driver = driver_with(&[4], GroupConfig::default());
    let connect = JoinGroup { protocol_type: "connect".into(), ..join() };
    let token = driver.send(Command::Join(connect));
    driver.joined(token);
    assert_eq!(send(&mut driver, entering("n", &["t1"])), Err(GroupError::GroupIdNotFound));
}
