//! JoinGroup: newcomers, members that come back, and when a join phase ends.

use super::testing::*;
use super::*;

#[test]
fn a_lone_consumer_gets_its_generation_at_once() {
    let mut driver = Driver::new(GroupConfig::default());
    let token = driver.send(newcomer("m1"));
    let joined = driver.joined(token);
    assert_eq!((joined.generation, &*joined.leader, &*joined.member_id), (1, "m1", "m1"));
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(driver.state(), GroupState::CompletingRebalance);
}

#[test]
fn a_newcomer_of_version_4_has_to_come_back_with_its_id() {
    let mut driver = Driver::new(GroupConfig::default());
    let first = JoinGroup { require_known_member_id: true, ..join() };
    let Reply::Join(Err(refused)) = driver.call(Command::Join(first.clone())) else { panic!("let in") };
    assert_eq!((refused.error, &*refused.member_id), (GroupError::MemberIdRequired, "m1"));
    assert_eq!(driver.state(), GroupState::Empty);
    let token = driver.send(Command::Join(JoinGroup { member: identity("m1"), ..first }));
    assert_eq!(driver.joined(token).generation, 1);
}

#[test]
fn an_id_that_is_not_used_in_time_lapses() {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(Command::Join(JoinGroup { require_known_member_id: true, ..join() }));
    driver.advance(10_000);
    assert_eq!(driver.join_error(rejoin("m1")), GroupError::UnknownMemberId);
}

#[test]
fn a_pending_member_is_waited_for_until_its_id_lapses() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send(Command::Join(JoinGroup {
        require_known_member_id: true,
        new_member_id: "m2".into(),
        ..join()
    }));
    let leader = driver.send(rejoin("m1"));
    assert!(driver.answer(leader).is_none(), "m2 may come any moment");
    driver.advance(10_000);
    assert_eq!(driver.joined(leader).members.len(), 1);
}

#[test]
fn what_is_not_valid_is_refused() {
    let mut driver = Driver::new(GroupConfig::default());
    let refused = |driver: &mut Driver, join: JoinGroup| driver.join_error(Command::Join(join));
    assert_eq!(refused(&mut driver, JoinGroup { group_id: "".into(), ..join() }), GroupError::InvalidGroupId);
    for session_timeout_ms in [-1, 0, 5_999, 1_800_001] {
        let join = JoinGroup { session_timeout_ms, ..join() };
        assert_eq!(refused(&mut driver, join), GroupError::InvalidSessionTimeout);
    }
    let nobody = JoinGroup { member: identity("stranger"), ..join() };
    assert_eq!(refused(&mut driver, nobody.clone()), GroupError::UnknownMemberId);
    let none = JoinGroup { protocols: Vec::new(), ..join() };
    assert_eq!(refused(&mut driver, none), GroupError::InconsistentGroupProtocol);
    let untyped = JoinGroup { protocol_type: "".into(), ..join() };
    assert_eq!(refused(&mut driver, untyped), GroupError::InconsistentGroupProtocol);
    assert_eq!(driver.state(), GroupState::Dead, "a refused newcomer leaves no group behind");

    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    assert_eq!(refused(&mut driver, nobody), GroupError::UnknownMemberId);
    let connect = JoinGroup { protocol_type: "connect".into(), ..join() };
    assert_eq!(refused(&mut driver, connect), GroupError::InconsistentGroupProtocol);
    let sticky = JoinGroup { protocols: protocols(&["sticky"]), ..join() };
    assert_eq!(refused(&mut driver, sticky), GroupError::InconsistentGroupProtocol);
    assert_eq!(driver.state(), GroupState::Stable);
}

#[test]
fn a_second_member_makes_the_first_join_again_and_the_leader_learns_of_both() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    let second = driver.send(newcomer("m2"));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert!(driver.answer(second).is_none());
    assert_eq!(driver.call(heartbeat("m1", 1)), Reply::Heartbeat(Err(GroupError::RebalanceInProgress)));
    let first = driver.send(rejoin("m1"));
    let (first, second) = (driver.joined(first), driver.joined(second));
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((&*first.leader, &*second.leader), ("m1", "m1"));
    let told: Vec<_> = first.members.iter().map(|member| &*member.member_id).collect();
    assert_eq!(told, ["m1", "m2"]);
    assert!(second.members.is_empty());
}

#[test]
fn the_protocol_that_most_members_like_best_is_chosen_among_the_common_ones() {
    let mut driver = Driver::new(GroupConfig { initial_rebalance_delay_ms: 3_000, ..GroupConfig::default() });
    let likes: [&[&str]; 3] =
        [&["mine", "range", "sticky"], &["sticky", "range"], &["sticky", "range", "mine"]];
    let tokens: Vec<Token> = (likes.iter().enumerate())
        .map(|(i, names)| {
            let new_member_id = format!("m{i}").into();
            driver.send(Command::Join(JoinGroup { new_member_id, protocols: protocols(names), ..join() }))
        })
        .collect();
    driver.advance(9_000);
    for token in tokens {
        assert_eq!(driver.joined(token).protocol.as_deref(), Some("sticky"));
    }
}

#[test]
fn newcomers_prolong_the_initial_delay_up_to_the_rebalance_timeout() {
    let mut driver = Driver::new(GroupConfig { initial_rebalance_delay_ms: 3_000, ..GroupConfig::default() });
    let quick = |id: &str| {
        Command::Join(JoinGroup { new_member_id: id.into(), rebalance_timeout_ms: 7_000, ..join() })
    };
    let first = driver.send(quick("m1"));
    driver.advance(2_000);
    driver.send(quick("m2"));
    driver.advance(2_000);
    assert!(driver.answer(first).is_none(), "m2 came, so the wait began anew at 3 s");
    driver.send(quick("m3"));
    driver.advance(2_900);
    assert!(driver.answer(first).is_none(), "m3 came, so it began anew at 6 s, for the second that was left");
    driver.send(quick("m4"));
    driver.advance(100);
    assert_eq!(driver.joined(first).members.len(), 4, "at 7 s the wait is over, whoever comes");
}

#[test]
fn who_does_not_join_in_time_is_left_behind() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    let generation = driver.membership().generation;
    let third = driver.send(newcomer("m3"));
    driver.send(rejoin("m2"));
    for _ in 0..12 {
        driver.advance(5_000);
        driver.send(heartbeat("m1", generation));
    }
    let joined = driver.joined(third);
    assert_eq!(
        (joined.generation, &*joined.leader),
        (generation + 1, "m2"),
        "the leader was left behind as well"
    );
    let reply = driver.call(heartbeat("m1", generation));
    assert_eq!(reply, Reply::Heartbeat(Err(GroupError::UnknownMemberId)));
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_the_present_generation() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    let generation = driver.membership().generation;
    let token = driver.send(rejoin("m2"));
    let joined = driver.joined(token);
    assert_eq!((joined.generation, joined.members.len()), (generation, 0));
    assert_eq!(driver.state(), GroupState::Stable);
}

#[test]
fn a_leader_that_joins_again_and_a_follower_that_changed_cause_a_rebalance() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    driver.send(rejoin("m1"));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);

    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    let changed = vec![("range".into(), subscription::encode(&["flights", "weather"]))];
    driver.send(Command::Join(JoinGroup { member: identity("m2"), protocols: changed, ..join() }));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_member_that_missed_the_end_of_the_join_phase_is_told_again() {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(newcomer("m1"));
    let again = driver.send(rejoin("m1"));
    let joined = driver.joined(again);
    assert_eq!((joined.generation, joined.members.len()), (1, 1));
    let changed =
        Command::Join(JoinGroup { member: identity("m1"), protocols: protocols(&["range"]), ..join() });
    let changed = driver.send(changed);
    assert_eq!(driver.joined(changed).generation, 2, "with another subscription it starts a new generation");
}

#[test]
fn a_request_that_is_sent_again_supersedes_the_parked_one() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send(newcomer("m2"));
    let parked = driver.membership().members["m2"].awaiting_join.expect("parked");
    let again = driver.send(rejoin("m2"));
    let Some(Reply::Join(Err(refused))) = driver.answer(parked) else { panic!("still parked") };
    assert_eq!(refused.error, GroupError::RebalanceInProgress);
    driver.send(rejoin("m1"));
    assert_eq!(driver.joined(again).generation, 2);
}

#[test]
fn a_full_group_takes_nobody_but_those_it_knows() {
    let config = GroupConfig { group_size_max: 2, ..GroupConfig::default() };
    let mut driver = Driver::stable(config, &["m1"]);
    driver.send(Command::Join(JoinGroup {
        require_known_member_id: true,
        new_member_id: "m2".into(),
        ..join()
    }));
    assert_eq!(driver.join_error(newcomer("m3")), GroupError::GroupMaxSizeReached, "m2's id counts");
    driver.send(rejoin("m2"));
    let first = driver.send(rejoin("m1"));
    assert_eq!(driver.joined(first).members.len(), 2);
    assert_eq!(driver.join_error(newcomer("m3")), GroupError::GroupMaxSizeReached);
}

#[test]
fn a_limit_that_was_lowered_shrinks_the_group_at_its_next_rebalance() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1", "m2"]);
    driver.machine.config.group_size_max = 1;
    let first = driver.send(rejoin("m1"));
    assert_eq!(driver.join_error(rejoin("m2")), GroupError::GroupMaxSizeReached);
    assert_eq!(driver.joined(first).members.len(), 1);
}

#[test]
fn a_new_member_whose_client_went_away_does_not_hold_the_join_phase_for_ever() {
    let config = GroupConfig { new_member_join_timeout_ms: 20_000, ..GroupConfig::default() };
    let mut driver = Driver::stable(config, &["m1"]);
    let generation = driver.membership().generation;
    let gone = driver.send(newcomer("m2"));
    for _ in 0..4 {
        driver.advance(5_000);
        driver.send(heartbeat("m1", generation));
    }
    let Some(Reply::Join(Err(refused))) = driver.answer(gone) else { panic!("still parked") };
    assert_eq!(refused.error, GroupError::UnknownMemberId);
}

#[test]
fn a_join_that_cannot_be_logged_has_not_happened() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    driver.send_to_full_disk(leave(&[identity("m1")]));
    assert_eq!(driver.state(), GroupState::Stable);
    assert_eq!(driver.call(heartbeat("m1", driver.membership().generation)), Reply::Heartbeat(Ok(())));
}
