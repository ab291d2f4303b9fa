//! Committed offsets: who may commit when, and how they are deleted.

use super::testing::*;
use super::*;

fn outcome(reply: Reply) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    match reply {
        Reply::CommitOffsets(outcome) | Reply::DeleteOffsets(outcome) => outcome,
        other => panic!("expected outcomes of offsets, got {other:?}"),
    }
}

#[test]
fn a_consumer_that_assigns_itself_commits_into_a_group_without_members() {
    let mut driver = Driver::new(GroupConfig::default());
    assert_eq!(outcome(driver.call(commit("", -1, 42))), Ok(vec![Ok(())]));
    let kept = driver.machine.committed(GROUP, "flights", 0).expect("an offset");
    assert_eq!((kept.offset, kept.leader_epoch, &*kept.metadata), (42, 3, "note"));
    assert_eq!(driver.state(), GroupState::Empty);
    driver.restart();
    assert_eq!(committed(&driver), Some(42));
}

#[test]
fn members_commit_in_their_generation_only() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    assert_eq!(outcome(driver.call(commit("m1", 1, 1))), Ok(vec![Ok(())]));
    assert_eq!(outcome(driver.call(commit("m1", 0, 2))), Err(GroupError::IllegalGeneration));
    assert_eq!(outcome(driver.call(commit("stranger", 1, 2))), Err(GroupError::UnknownMemberId));
    assert_eq!(
        outcome(driver.call(commit("", -1, 2))),
        Err(GroupError::UnknownMemberId),
        "the group has members"
    );
    assert_eq!(committed(&driver), Some(1));
}

#[test]
fn commits_pass_during_the_join_phase_and_not_while_the_leader_assigns() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send(newcomer("m2"));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert_eq!(outcome(driver.call(commit("m1", 1, 5))), Ok(vec![Ok(())]));
    driver.send(rejoin("m1"));
    assert_eq!(driver.state(), GroupState::CompletingRebalance);
    assert_eq!(outcome(driver.call(commit("m1", 2, 6))), Err(GroupError::RebalanceInProgress));
    assert_eq!(outcome(driver.call(commit("m1", 1, 6))), Err(GroupError::IllegalGeneration));
    assert_eq!(committed(&driver), Some(5));
}

#[test]
fn a_generation_of_a_group_that_is_not_there_is_refused() {
    let mut driver = Driver::new(GroupConfig::default());
    assert_eq!(outcome(driver.call(commit("m1", 1, 1))), Err(GroupError::IllegalGeneration));
    let modern = CommitOffsets { knows_group_not_found: true, ..commit_offsets("m1", 1, 1) };
    assert_eq!(outcome(driver.call(Command::CommitOffsets(modern))), Err(GroupError::GroupIdNotFound));
    assert_eq!(driver.state(), GroupState::Dead);
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    for offset in 0..5 {
        driver.advance(8_000);
        assert_eq!(outcome(driver.call(commit("m1", 1, offset))), Ok(vec![Ok(())]));
    }
}

#[test]
fn metadata_over_the_limit_is_refused_for_its_partition_alone() {
    let mut driver = Driver::new(GroupConfig::default());
    let mut request = commit_offsets("", -1, 1);
    let long =
        OffsetToCommit { partition: 1, metadata: "x".repeat(4_097).into(), ..request.offsets[0].clone() };
    request.offsets.insert(0, long);
    let reply = driver.call(Command::CommitOffsets(request));
    assert_eq!(outcome(reply), Ok(vec![Err(GroupError::OffsetMetadataTooLarge), Ok(())]));
    assert_eq!(committed(&driver), Some(1));
}

#[test]
fn a_commit_that_cannot_be_logged_is_not_kept() {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(commit("", -1, 1));
    driver.send_to_full_disk(commit("", -1, 2));
    assert_eq!(committed(&driver), Some(1));
}

fn delete(topic: &str) -> Command {
    Command::DeleteOffsets(DeleteOffsets { group_id: GROUP.into(), partitions: vec![(topic.into(), 0)] })
}

#[test]
fn offsets_are_deleted_unless_members_read_the_topic() {
    let mut driver = Driver::new(GroupConfig::default());
    assert_eq!(outcome(driver.call(delete("flights"))), Err(GroupError::GroupIdNotFound));
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send(commit("m1", 1, 1));
    assert_eq!(outcome(driver.call(delete("flights"))), Ok(vec![Err(GroupError::GroupSubscribedToTopic)]));
    assert_eq!(outcome(driver.call(delete("weather"))), Ok(vec![Ok(())]), "there is none to delete");
    driver.send(leave(&[identity("m1")]));
    assert_eq!(outcome(driver.call(delete("flights"))), Ok(vec![Ok(())]));
    assert_eq!(committed(&driver), None);
}

#[test]
fn offsets_of_an_occupied_group_that_is_no_consumers_cannot_be_deleted() {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(Command::Join(JoinGroup { protocol_type: "connect".into(), ..join() }));
    assert_eq!(outcome(driver.call(delete("flights"))), Err(GroupError::NonEmptyGroup));
}

#[test]
fn a_subscription_that_cannot_be_read_counts_as_every_topic() {
    let mut driver = Driver::new(GroupConfig::default());
    let protocols = vec![("range".into(), bytes("?"))];
    driver.send(Command::Join(JoinGroup { protocols, ..join() }));
    assert_eq!(outcome(driver.call(delete("flights"))), Ok(vec![Err(GroupError::GroupSubscribedToTopic)]));
}

#[test]
fn only_an_empty_group_is_deleted_and_its_offsets_with_it() {
    let delete = || Command::DeleteGroup(GROUP.into());
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send(commit("m1", 1, 1));
    assert_eq!(driver.call(delete()), Reply::DeleteGroup(Err(GroupError::NonEmptyGroup)));
    driver.send(leave(&[identity("m1")]));
    assert_eq!(driver.call(delete()), Reply::DeleteGroup(Ok(())));
    assert_eq!((driver.state(), committed(&driver)), (GroupState::Dead, None));
    assert_eq!(driver.call(delete()), Reply::DeleteGroup(Err(GroupError::GroupIdNotFound)));
    driver.restart();
    assert_eq!(driver.state(), GroupState::Dead);
}

#[test]
fn deleting_a_topic_forgets_every_groups_offsets_in_it_a_bounded_number_at_a_time() {
    let mut driver = Driver::new(GroupConfig::default());
    let mut request = commit_offsets("", -1, 1);
    let one = request.offsets[0].clone();
    request.offsets.extend((1..3_000).map(|partition| OffsetToCommit { partition, ..one.clone() }));
    request.offsets.push(OffsetToCommit { topic: "weather".into(), ..one });
    driver.send(Command::CommitOffsets(request));
    let forget = || Command::ForgetTopics(vec!["flights".into(), "unknown".into()]);
    assert_eq!(driver.call(forget()), Reply::ForgetTopics(REMOVALS_PER_DECISION_MAX));
    assert_eq!(driver.call(forget()), Reply::ForgetTopics(1_000));
    assert_eq!(driver.call(forget()), Reply::ForgetTopics(0));
    let left: Vec<_> =
        driver.machine.committed_all(GROUP).expect("a group").map(|(topic, ..)| &**topic).collect();
    assert_eq!(left, ["weather"]);
}
