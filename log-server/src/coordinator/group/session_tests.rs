//! SyncGroup, Heartbeat and LeaveGroup.

use super::testing::*;
use super::*;

fn synced(reply: Option<Reply>) -> Result<Synced, GroupError> {
    match reply {
        Some(Reply::Sync(outcome)) => outcome,
        other => panic!("expected the answer to a SyncGroup, got {other:?}"),
    }
}

/// Two members that know generation 2 and have not synced.
fn completing() -> Driver {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send(newcomer("m2"));
    driver.send(rejoin("m1"));
    driver.answers();
    assert_eq!(driver.state(), GroupState::CompletingRebalance);
    driver
}

#[test]
fn followers_wait_for_the_leader_and_get_what_it_assigned() {
    let mut driver = completing();
    let follower = driver.send(sync("m2", 2, Vec::new()));
    assert!(driver.answer(follower).is_none());
    let assignments =
        vec![("m1".into(), bytes("zero")), ("m2".into(), bytes("one")), ("stranger".into(), bytes("x"))];
    let leader = driver.send(sync("m1", 2, assignments));
    let (leader, follower) = (driver.answer(leader), driver.answer(follower));
    assert_eq!(synced(leader).expect("an assignment").assignment, bytes("zero"));
    let follower = synced(follower).expect("an assignment");
    assert_eq!((follower.assignment, follower.protocol.as_deref()), (bytes("one"), Some("range")));
    assert_eq!(driver.state(), GroupState::Stable);
}

#[test]
fn a_member_that_the_leader_forgot_gets_nothing_and_who_asks_again_gets_the_same() {
    let mut driver = completing();
    driver.send(sync("m1", 2, vec![("m1".into(), bytes("all"))]));
    for _ in 0..2 {
        let token = driver.send(sync("m2", 2, Vec::new()));
        let reply = driver.answer(token);
        assert_eq!(synced(reply).expect("an assignment").assignment, bytes(""));
    }
}

#[test]
fn a_sync_that_does_not_fit_is_refused() {
    let mut driver = completing();
    let mut refused = |command| synced(Some(driver.call(command))).expect_err("a refusal");
    assert_eq!(refused(sync("m1", 1, Vec::new())), GroupError::IllegalGeneration);
    assert_eq!(refused(sync("stranger", 2, Vec::new())), GroupError::UnknownMemberId);
    let with = |protocol_type: &str, protocol: &str| {
        Command::Sync(SyncGroup {
            group_id: GROUP.into(),
            member: identity("m1"),
            generation: 2,
            protocol_type: Some(protocol_type.into()),
            protocol: Some(protocol.into()),
            assignments: Vec::new(),
        })
    };
    assert_eq!(refused(with("connect", "range")), GroupError::InconsistentGroupProtocol);
    assert_eq!(refused(with("consumer", "sticky")), GroupError::InconsistentGroupProtocol);

    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send(newcomer("m2"));
    let reply = driver.call(sync("m1", 1, Vec::new()));
    assert_eq!(synced(Some(reply)), Err(GroupError::RebalanceInProgress));

    let mut driver = Driver::new(GroupConfig::default());
    let reply = driver.call(sync("m1", 1, Vec::new()));
    assert_eq!(synced(Some(reply)), Err(GroupError::UnknownMemberId), "there is no group");
}

#[test]
fn a_rebalance_sends_waiting_followers_to_join_again() {
    let mut driver = completing();
    let waiting = driver.send(sync("m2", 2, Vec::new()));
    driver.send(newcomer("m3"));
    let reply = driver.answer(waiting);
    assert_eq!(synced(reply), Err(GroupError::RebalanceInProgress));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
}

#[test]
fn members_that_do_not_sync_in_time_are_removed() {
    let mut driver = completing();
    let waiting = driver.send(sync("m2", 2, Vec::new()));
    for _ in 0..12 {
        driver.advance(5_000);
        driver.send(heartbeat("m1", 2));
    }
    let reply = driver.answer(waiting);
    assert_eq!(synced(reply), Err(GroupError::RebalanceInProgress));
    assert_eq!(driver.call(heartbeat("m1", 2)), Reply::Heartbeat(Err(GroupError::UnknownMemberId)));
    let second = driver.send(rejoin("m2"));
    assert_eq!(&*driver.joined(second).leader, "m2");
}

#[test]
fn heartbeats_keep_a_session_and_silence_ends_it() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    let generation = driver.membership().generation;
    for _ in 0..5 {
        driver.advance(6_000);
        assert_eq!(driver.call(heartbeat("m1", generation)), Reply::Heartbeat(Ok(())));
        if driver.state() == GroupState::PreparingRebalance {
            break;
        }
        driver.send(heartbeat("m2", generation));
    }
    assert_eq!(driver.state(), GroupState::Stable);
    driver.advance(6_000);
    driver.send(heartbeat("m1", generation));
    driver.advance(4_000);
    assert_eq!(driver.state(), GroupState::PreparingRebalance, "m2 was silent for 10 s");
    assert_eq!(
        driver.call(heartbeat("m1", generation)),
        Reply::Heartbeat(Err(GroupError::RebalanceInProgress))
    );
    assert_eq!(driver.call(heartbeat("m2", generation)), Reply::Heartbeat(Err(GroupError::UnknownMemberId)));
    driver.advance(10_000);
    assert_eq!(driver.state(), GroupState::Empty, "m1 fell silent as well");
}

#[test]
fn a_heartbeat_that_does_not_fit_is_refused() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    let refused = |error| Reply::Heartbeat(Err(error));
    assert_eq!(driver.call(heartbeat("m1", 7)), refused(GroupError::IllegalGeneration));
    assert_eq!(driver.call(heartbeat("stranger", 1)), refused(GroupError::UnknownMemberId));
    driver.send(leave(&[identity("m1")]));
    assert_eq!(driver.state(), GroupState::Empty);
    assert_eq!(driver.call(heartbeat("m1", 1)), refused(GroupError::UnknownMemberId));
    let unnamed = Heartbeat { group_id: "".into(), member: identity("m1"), generation: 1 };
    assert_eq!(driver.call(Command::Heartbeat(unnamed)), refused(GroupError::InvalidGroupId));
    let elsewhere = Heartbeat { group_id: "others".into(), member: identity("m1"), generation: 1 };
    assert_eq!(driver.call(Command::Heartbeat(elsewhere)), refused(GroupError::UnknownMemberId));
}

#[test]
fn heartbeats_count_while_the_leader_assigns() {
    let mut driver = completing();
    assert_eq!(driver.call(heartbeat("m2", 2)), Reply::Heartbeat(Ok(())));
}

#[test]
fn the_last_member_that_leaves_ends_the_generation() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    let generation = driver.membership().generation;
    let reply = driver.call(leave(&[identity("m1"), identity("stranger"), identity("m2")]));
    assert_eq!(reply, Reply::Leave(Ok(vec![Ok(()), Err(GroupError::UnknownMemberId), Ok(())])));
    assert_eq!((driver.state(), driver.membership().generation), (GroupState::Empty, generation + 1));
    assert_eq!(driver.membership().protocol_type.as_deref(), Some("consumer"), "which outlives the members");
    let again = driver.send(newcomer("m3"));
    assert_eq!(driver.joined(again).generation, generation + 2);
}

#[test]
fn a_member_that_leaves_makes_the_others_join_again_and_another_one_leads() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    driver.send(leave(&[identity("m1")]));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    let second = driver.send(rejoin("m2"));
    let joined = driver.joined(second);
    assert_eq!((&*joined.leader, joined.members.len()), ("m2", 1));
}

#[test]
fn leaving_ends_a_join_phase_that_only_waited_for_the_one_who_leaves() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    let leader = driver.send(rejoin("m1"));
    assert!(driver.answer(leader).is_none());
    driver.send(leave(&[identity("m2")]));
    assert_eq!(driver.joined(leader).members.len(), 1);
}

#[test]
fn whoever_leaves_with_a_parked_request_gets_an_answer_to_it() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    let parked = driver.send(newcomer("m2"));
    driver.send(leave(&[identity("m2")]));
    let Some(Reply::Join(Err(refused))) = driver.answer(parked) else { panic!("still parked") };
    assert_eq!(refused.error, GroupError::UnknownMemberId);
}

#[test]
fn a_pending_member_can_leave() {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(Command::Join(JoinGroup { require_known_member_id: true, ..join() }));
    assert_eq!(driver.call(leave(&[identity("m1")])), Reply::Leave(Ok(vec![Ok(())])));
    assert_eq!(driver.join_error(rejoin("m1")), GroupError::UnknownMemberId);
}

#[test]
fn nobody_leaves_a_group_that_is_not_there() {
    let mut driver = Driver::new(GroupConfig::default());
    assert_eq!(driver.call(leave(&[identity("m1")])), Reply::Leave(Err(GroupError::UnknownMemberId)));
}

#[test]
fn a_restart_keeps_a_stable_group_working() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    let generation = driver.membership().generation;
    driver.advance(9_000);
    driver.restart();
    driver.advance(9_000);
    assert_eq!(
        driver.call(heartbeat("m1", generation)),
        Reply::Heartbeat(Ok(())),
        "with a whole session from the start"
    );
    assert_eq!(driver.call(heartbeat("m2", generation)), Reply::Heartbeat(Ok(())));
    let token = driver.send(sync("m2", generation, Vec::new()));
    let reply = driver.answer(token);
    assert_eq!(synced(reply).expect("an assignment").assignment, bytes("m2"));
}

#[test]
fn a_restart_during_a_rebalance_goes_back_to_the_last_stable_generation() {
    let mut driver = completing();
    driver.restart();
    assert_eq!((driver.state(), driver.membership().generation), (GroupState::Stable, 1));
    assert_eq!(driver.call(heartbeat("m1", 2)), Reply::Heartbeat(Err(GroupError::IllegalGeneration)));
    assert_eq!(driver.call(heartbeat("m2", 2)), Reply::Heartbeat(Err(GroupError::UnknownMemberId)));
}
