//! Transcripts of members that enter, rebalance, fall silent and leave.

use super::testing::*;
use super::*;
use crate::coordinator::group::testing::{
    GROUP, commit_offsets, committed, heartbeat as classic_heartbeat, newcomer,
};
use crate::coordinator::group::{
    Command, CommitOffsets, DeleteOffsets, GroupConfig, GroupError, GroupState, MemberIdentity, Reply,
};
use crate::coordinator::machine::StateMachine;
use std::sync::Arc;

fn state(driver: &super::super::testing::Driver) -> GroupState {
    group(driver).state()
}

#[test]
fn partitions_move_without_ever_having_two_owners() {
    let mut driver = driver(&[4]);
    assert_eq!(told(&mut driver, entering("a", &["t1"])), (1, Some(of(&[0, 1, 2, 3]))));
    assert_eq!(told(&mut driver, holding("a", 1, &of(&[0, 1, 2, 3]))), (1, None), "nothing is new");
    // b has to wait for what a has.
    assert_eq!(told(&mut driver, entering("b", &["t1"])), (2, Some(of(&[]))));
    assert_eq!(state(&driver), GroupState::Reconciling);
    assert_eq!(told(&mut driver, alive("b", 2)), (2, None));
    // a is asked to give up, keeps its epoch until it says that it has, and does not repeat itself.
    assert_eq!(told(&mut driver, alive("a", 1)), (1, Some(of(&[0, 1]))));
    assert_eq!(told(&mut driver, holding("a", 1, &of(&[0, 1, 2, 3]))), (1, None));
    assert_eq!(told(&mut driver, alive("b", 2)), (2, None), "not yet");
    assert_eq!(told(&mut driver, holding("a", 1, &of(&[0, 1]))), (2, None));
    assert_eq!(told(&mut driver, alive("b", 2)), (2, Some(of(&[2, 3]))));
    assert_eq!(state(&driver), GroupState::Stable);
    // A member that leaves leaves at once.
    assert_eq!(told(&mut driver, alive("a", LEAVE_EPOCH)), (LEAVE_EPOCH, None));
    assert_eq!(told(&mut driver, holding("b", 2, &of(&[2, 3]))), (3, Some(of(&[0, 1, 2, 3]))));
    assert_eq!(told(&mut driver, alive("b", LEAVE_EPOCH)), (LEAVE_EPOCH, None));
    assert_eq!(state(&driver), GroupState::Empty);
}

#[test]
fn an_epoch_has_to_be_the_one_that_was_told() {
    let mut driver = driver(&[4]);
    told(&mut driver, entering("a", &["t1"]));
    for epoch in [2, 7] {
        assert_eq!(send(&mut driver, alive("a", epoch)), Err(GroupError::FencedMemberEpoch));
    }
    assert_eq!(send(&mut driver, alive("nobody", 1)), Err(GroupError::UnknownMemberId));
    assert_eq!(send(&mut driver, alive("nobody", LEAVE_EPOCH)), Err(GroupError::UnknownMemberId));
    // The answer with epoch 2 was lost: the member shows the one before, and only what it may have.
    told(
        &mut driver,
        ConsumerHeartbeat { topic_names: Some(["t1".into(), "t2".into()].into()), ..alive("a", 1) },
    );
    assert_eq!(
        send(&mut driver, alive("a", 1)),
        Err(GroupError::FencedMemberEpoch),
        "it does not say what it has"
    );
    assert_eq!(send(&mut driver, holding("a", 1, &of(&[9]))), Err(GroupError::FencedMemberEpoch));
    assert_eq!(told(&mut driver, holding("a", 1, &of(&[0]))).0, 2);
    // Who was fenced enters again, under its old id.
    assert_eq!(told(&mut driver, entering("a", &["t1", "t2"])), (2, Some(of(&[0, 1, 2, 3]))));
    let mut other = alive("a", 1);
    other.group_id = "another".into();
    assert_eq!(send(&mut driver, other), Err(GroupError::UnknownMemberId));
}

#[test]
fn silence_and_dawdling_put_members_out() {
    let mut driver = driver(&[2]);
    told(&mut driver, entering("a", &["t1"]));
    told(&mut driver, entering("b", &["t1"]));
    driver.advance(44_000);
    told(&mut driver, alive("b", 2));
    driver.advance(2_000);
    assert_eq!(send(&mut driver, alive("a", 1)), Err(GroupError::UnknownMemberId));
    assert_eq!(told(&mut driver, alive("b", 2)), (3, Some(of(&[0, 1]))));
    // b is asked for a partition and does not give it up, though it is not silent.
    told(&mut driver, entering("c", &["t1"]));
    assert_eq!(told(&mut driver, alive("b", 3)), (3, Some(of(&[0]))));
    for _ in 0..6 {
        driver.advance(9_900);
        told(&mut driver, alive("b", 3));
        told(&mut driver, alive("c", 4));
    }
    driver.advance(1_000);
    assert_eq!(send(&mut driver, alive("b", 3)), Err(GroupError::UnknownMemberId));
    assert_eq!(told(&mut driver, alive("c", 4)), (5, Some(of(&[0, 1]))));
}

#[test]
fn restarts_keep_members_and_give_them_a_whole_session() {
    let mut driver = driver(&[4]);
    told(&mut driver, entering("a", &["t1"]));
    told(&mut driver, entering("b", &["t1"]));
    told(&mut driver, alive("a", 1));
    driver.advance(40_000);
    driver.restart();
    driver.advance(40_000);
    assert_eq!(told(&mut driver, holding("a", 1, &of(&[0, 1]))), (2, None), "a goes on giving up");
    assert_eq!(told(&mut driver, alive("b", 2)), (2, Some(of(&[2, 3]))));
    driver.advance(46_000);
    assert_eq!(state(&driver), GroupState::Empty);
}

#[test]
fn what_was_set_for_the_group_counts() {
    let mut driver = driver(&[4]);
    let own = |heartbeat| ConsumerHeartbeat { session_timeout_ms: Some(10_000), ..heartbeat };
    told(&mut driver, own(entering("a", &["t1"])));
    driver.advance(9_000);
    told(&mut driver, own(alive("a", 1)));
    driver.advance(9_000);
    assert_eq!(state(&driver), GroupState::Stable);
    driver.advance(2_000);
    assert_eq!(state(&driver), GroupState::Empty);
}

#[test]
fn topics_that_change_change_the_assignment() {
    let mut driver = driver(&[2]);
    told(&mut driver, entering("a", &["t1", "t2"]));
    driver.call(Command::SetTopics(image(&[3])));
    driver.advance(0);
    assert_eq!(told(&mut driver, alive("a", 1)), (2, Some(of(&[0, 1, 2]))));
    driver.call(Command::SetTopics(image(&[3, 1])));
    driver.advance(0);
    let both: Assignment = of(&[0, 1, 2]).iter().chain([(id(2), 0)]).collect();
    assert_eq!(told(&mut driver, alive("a", 2)), (3, Some(both)));
    driver.call(Command::SetTopics(image(&[0, 1])));
    driver.advance(0);
    let rest: Assignment = [(id(2), 0)].into_iter().collect();
    assert_eq!(told(&mut driver, holding("a", 3, &rest)), (4, Some(rest)));
    // What does not concern the group does not bother it.
    driver.call(Command::SetTopics(image(&[0, 1, 5])));
    driver.advance(0);
    assert_eq!(told(&mut driver, alive("a", 4)), (4, None));
    // A heartbeat looks at the topics as well.
    driver.call(Command::SetTopics(image(&[0, 2, 5])));
    assert_eq!(told(&mut driver, alive("a", 4)).0, 5);
}

#[test]
fn patterns_find_topics_and_those_that_come_later() {
    let mut driver = driver(&[1, 1]);
    let by_pattern = |pattern: &str| ConsumerHeartbeat {
        topic_names: None,
        topic_regex: Some(pattern.into()),
        ..entering("a", &[])
    };
    assert_eq!(send(&mut driver, by_pattern("[")), Err(GroupError::InvalidRegularExpression));
    let (epoch, found) = told(&mut driver, by_pattern("t[13]"));
    assert_eq!((epoch, found), (1, Some(of(&[0]))));
    assert!(group(&driver).is_subscribed_to("t1") && !group(&driver).is_subscribed_to("t2"));
    driver.call(Command::SetTopics(image(&[1, 1, 1])));
    driver.advance(0);
    let both: Assignment = [(id(1), 0), (id(3), 0)].into_iter().collect();
    assert_eq!(told(&mut driver, alive("a", 1)), (2, Some(both)));
    assert_eq!(group(&driver).regexes.len(), 1);
    // An empty pattern ends it; the member goes on by name.
    let by_name = ConsumerHeartbeat {
        topic_regex: Some("".into()),
        topic_names: Some(["t2".into()].into()),
        ..holding("a", 2, &of(&[]))
    };
    let other: Assignment = [(id(2), 0)].into_iter().collect();
    assert_eq!(told(&mut driver, by_name), (3, Some(other)));
    assert!(group(&driver).regexes.is_empty());
}

#[test]
fn internal_topics_are_found_by_name_only() {
    let mut driver = driver(&[]);
    let mut topics = TopicImage::clone(&image(&[1, 1]));
    topics.internal = ["t2".into()].into();
    driver.call(Command::SetTopics(Arc::new(topics)));
    let by_pattern = ConsumerHeartbeat { topic_regex: Some(".*".into()), ..entering("a", &[]) };
    assert_eq!(told(&mut driver, by_pattern).1, Some(of(&[0])));
    let internal: Assignment = [(id(2), 0)].into_iter().collect();
    assert_eq!(told(&mut driver, entering("b", &["t2"])).1, Some(internal));
}

#[test]
fn limits_and_wishes() {
    let config = GroupConfig { consumer_group_size_max: 1, ..GroupConfig::default() };
    let mut driver = driver_with(&[2], config);
    let wish =
        |assignor: &str| ConsumerHeartbeat { assignor: Some(assignor.into()), ..entering("a", &["t1"]) };
    assert_eq!(send(&mut driver, wish("sticky")), Err(GroupError::UnsupportedAssignor));
    let answer = send(&mut driver, wish("range")).unwrap();
    assert_eq!(answer.heartbeat_interval_ms, 5_000);
    assert_eq!(driver.machine.describe_consumers(GROUP).unwrap().assignor, "range");
    assert_eq!(send(&mut driver, entering("b", &["t1"])), Err(GroupError::GroupMaxSizeReached));
    assert!(send(&mut driver, entering("a", &["t1"])).is_ok(), "a member has its place");
}

#[test]
fn commits_and_fetches_show_the_epoch() {
    let mut driver = driver(&[2]);
    told(&mut driver, entering("a", &["t1"]));
    let commit = |member: &str, epoch, new| {
        Command::CommitOffsets(CommitOffsets {
            knows_group_not_found: new,
            ..commit_offsets(member, epoch, 5)
        })
    };
    let outcome = |error| Reply::CommitOffsets(Err(error));
    assert_eq!(driver.call(commit("a", 0, true)), outcome(GroupError::StaleMemberEpoch));
    assert_eq!(driver.call(commit("a", 1, false)), outcome(GroupError::UnsupportedVersion));
    assert_eq!(driver.call(commit("b", 1, true)), outcome(GroupError::UnknownMemberId));
    assert_eq!(
        driver.call(commit("", -1, true)),
        outcome(GroupError::UnknownMemberId),
        "a tool, while it is in use"
    );
    assert_eq!(driver.call(commit("a", 1, true)), Reply::CommitOffsets(Ok(vec![Ok(())])));
    let fetch = |driver: &super::super::testing::Driver, member, epoch| {
        driver.machine.check_fetch(GROUP, member, epoch)
    };
    assert_eq!(fetch(&driver, None, -1), Ok(()), "a tool");
    assert_eq!(fetch(&driver, Some("a"), 1), Ok(()));
    assert_eq!(fetch(&driver, Some("a"), 2), Err(GroupError::StaleMemberEpoch));
    assert_eq!(fetch(&driver, Some("b"), 1), Err(GroupError::UnknownMemberId));
    let delete = |topic: &str| {
        Command::DeleteOffsets(DeleteOffsets { group_id: GROUP.into(), partitions: vec![(topic.into(), 0)] })
    };
    let deleted = |outcome| Reply::DeleteOffsets(Ok(vec![outcome]));
    assert_eq!(driver.call(delete("t1")), deleted(Err(GroupError::GroupSubscribedToTopic)));
    assert_eq!(driver.call(delete("flights")), deleted(Ok(())));
    let delete_group = Command::DeleteGroup(GROUP.into());
    assert_eq!(driver.call(delete_group.clone()), Reply::DeleteGroup(Err(GroupError::NonEmptyGroup)));
    told(&mut driver, alive("a", LEAVE_EPOCH));
    assert_eq!(driver.call(commit("", -1, true)), Reply::CommitOffsets(Ok(vec![Ok(())])));
    assert_eq!(driver.call(delete_group), Reply::DeleteGroup(Ok(())));
    assert!(driver.machine.describe_consumers(GROUP).is_none());
}

#[test]
fn a_commit_may_cross_the_answer_that_moves_the_epoch() {
    let mut driver = driver(&[2]);
    told(&mut driver, entering("a", &["t1"]));
    driver.call(Command::SetTopics(image(&[3])));
    assert_eq!(told(&mut driver, holding("a", 1, &of(&[0, 1]))), (2, Some(of(&[0, 1, 2]))));
    let commit = |epoch, partitions: &[i32]| Command::CommitOffsets(commit_in("a", epoch, &of(partitions)));
    let stale = Reply::CommitOffsets(Err(GroupError::StaleMemberEpoch));
    let taken = |count| Reply::CommitOffsets(Ok(vec![Ok(()); count]));
    for restarts in 0..2 {
        assert_eq!(driver.call(commit(1, &[0, 1])), taken(2), "what it has held all along");
        assert_eq!(driver.call(commit(1, &[0, 2])), stale, "what it has since the newer epoch");
        assert_eq!(driver.call(commit(0, &[0])), stale);
        assert_eq!(driver.call(commit(3, &[0])), stale);
        assert_eq!(driver.call(commit(2, &[0, 2, 9])), taken(3));
        if restarts == 0 {
            driver.restart();
        }
    }
    // It gives up 1 and 2, another one has them, and it gets them back: what it sent before is too old.
    told(&mut driver, entering("b", &["t1"]));
    let (_, Some(kept)) = told(&mut driver, alive("a", 2)) else { panic!("it is to give up") };
    let given_up = of(&[0, 1, 2]).difference(&kept).iter().next().expect("one of them").1;
    assert_eq!(driver.call(commit(2, &[given_up])), taken(1), "it still holds it");
    told(&mut driver, holding("a", 2, &kept));
    assert_eq!(driver.call(commit(2, &[given_up])), stale);
    told(&mut driver, alive("b", 3));
    told(&mut driver, alive("b", LEAVE_EPOCH));
    assert_eq!(told(&mut driver, holding("a", 3, &kept)), (4, Some(of(&[0, 1, 2]))));
    assert_eq!(driver.call(commit(2, &[given_up])), stale);
    assert_eq!(driver.call(commit(2, &[0])), taken(1));
}

#[test]
fn offsets_outlive_the_kind_of_an_empty_group() {
    let mut driver = driver(&[2]);
    driver.send(newcomer("m1"));
    driver.answers();
    let identity = MemberIdentity { member_id: "m1".into(), instance_id: None };
    driver.call(super::super::testing::commit("m1", 1, 7));
    driver.call(super::super::testing::leave(&[identity]));
    driver.call(super::super::testing::commit("", -1, 7));
    assert_eq!(told(&mut driver, entering("a", &["t1"])).1, Some(of(&[0, 1])));
    assert_eq!(committed(&driver), Some(7));
    assert!(driver.machine.describe(GROUP).is_none(), "no classic group any more");
    let Reply::Heartbeat(answer) = driver.call(classic_heartbeat("m1", 1)) else { panic!() };
    assert_eq!(answer, Err(GroupError::UnknownMemberId));
    told(&mut driver, alive("a", LEAVE_EPOCH));
    let token = driver.send(newcomer("m3"));
    assert_eq!(driver.joined(token).generation, 1);
    assert_eq!(committed(&driver), Some(7));
    driver.restart();
    assert_eq!(driver.state(), GroupState::Empty, "a rebalance in progress is forgotten");
}

#[test]
fn a_full_disk_changes_nothing() {
    let mut driver = driver(&[2]);
    driver.send_to_full_disk(Command::ConsumerHeartbeat(Box::new(entering("a", &["t1"]))));
    assert!(driver.machine.describe_consumers(GROUP).is_none());
    told(&mut driver, entering("a", &["t1"]));
    driver.send_to_full_disk(Command::ConsumerHeartbeat(Box::new(alive("a", LEAVE_EPOCH))));
    assert_eq!(told(&mut driver, alive("a", 1)), (1, None), "a heartbeat needs no disk");
    assert!(driver.machine.poll_timeout().is_some());
}

#[test]
fn offsets_are_kept_while_somebody_subscribes() {
    let config = GroupConfig { offsets_retention_ms: 1_000_000, ..GroupConfig::default() };
    let mut driver = driver_with(&[2], config);
    let mut topics = TopicImage::clone(&image(&[2]));
    topics.by_name.insert("flights".into(), TopicInfo { id: id(9), partitions: 1 });
    driver.call(Command::SetTopics(Arc::new(topics)));
    told(&mut driver, entering("a", &["flights"]));
    driver.call(Command::CommitOffsets(CommitOffsets {
        knows_group_not_found: true,
        ..commit_offsets("a", 1, 5)
    }));
    for _ in 0..60 {
        driver.advance(30_000);
        told(&mut driver, alive("a", 1));
    }
    assert_eq!(committed(&driver), Some(5));
    told(&mut driver, alive("a", LEAVE_EPOCH));
    driver.advance(2_000_000);
    assert_eq!(committed(&driver), None);
    assert!(driver.machine.describe_consumers(GROUP).is_none(), "and the group is forgotten");
}
