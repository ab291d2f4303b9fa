//! Static members (KIP-345): they keep their place while they restart, and whoever they replace is fenced.

use super::testing::*;
use super::*;

fn static_join(instance_id: &str, new_member_id: &str) -> JoinGroup {
    JoinGroup {
        member: static_identity("", instance_id),
        new_member_id: new_member_id.into(),
        require_known_member_id: true,
        ..join()
    }
}

/// A stable group of two static members, `a-1` (which leads) and `b-1`.
fn stable() -> Driver {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(Command::Join(static_join("a", "a-1")));
    driver.send(Command::Join(static_join("b", "b-1")));
    driver.send(Command::Join(JoinGroup { member: static_identity("a-1", "a"), ..join() }));
    let assignments = vec![("a-1".into(), bytes("zero")), ("b-1".into(), bytes("one"))];
    driver.send(static_sync("b-1", "b", Vec::new()));
    driver.send(static_sync("a-1", "a", assignments));
    driver.answers();
    assert_eq!((driver.state(), driver.membership().generation), (GroupState::Stable, 2));
    driver
}

fn static_sync(member_id: &str, instance_id: &str, assignments: Vec<(Arc<str>, bytes::Bytes)>) -> Command {
    Command::Sync(SyncGroup {
        group_id: GROUP.into(),
        member: static_identity(member_id, instance_id),
        generation: 2,
        protocol_type: None,
        protocol: None,
        assignments,
    })
}

#[test]
fn a_static_member_needs_no_second_request_to_get_in() {
    let mut driver = Driver::new(GroupConfig::default());
    let token = driver.send(Command::Join(static_join("a", "a-1")));
    assert_eq!(driver.joined(token).members[0].instance_id.as_deref(), Some("a"));
}

#[test]
fn a_restarted_follower_gets_its_assignment_back_without_a_rebalance() {
    let mut driver = stable();
    let token = driver.send(Command::Join(static_join("b", "b-2")));
    let joined = driver.joined(token);
    assert_eq!((joined.generation, &*joined.member_id, &*joined.leader), (2, "b-2", "a-1"));
    assert_eq!(driver.state(), GroupState::Stable);
    let reply = driver.call(static_sync("b-2", "b", Vec::new()));
    let Reply::Sync(Ok(synced)) = reply else { panic!("{reply:?}") };
    assert_eq!(synced.assignment, bytes("one"));
    driver.restart();
    assert!(driver.membership().members.contains_key("b-2"), "the log knows the new id");
}

#[test]
fn a_restarted_leader_is_kept_from_assigning_anew() {
    let mut driver = stable();
    let token = driver.send(Command::Join(static_join("a", "a-2")));
    let joined = driver.joined(token);
    assert_eq!((&*joined.leader, joined.members.len(), joined.skip_assignment), ("a-1", 0, false));
    assert!(driver.membership().is_leader("a-2"));

    let mut driver = stable();
    let modern = JoinGroup { supports_skip_assignment: true, ..static_join("a", "a-2") };
    let token = driver.send(Command::Join(modern));
    let joined = driver.joined(token);
    assert_eq!((&*joined.leader, joined.members.len(), joined.skip_assignment), ("a-2", 2, true));
    assert_eq!(driver.state(), GroupState::Stable);
}

#[test]
fn whoever_was_replaced_is_fenced_everywhere() {
    let mut driver = stable();
    driver.send(Command::Join(static_join("b", "b-2")));
    let old = static_identity("b-1", "b");
    let fenced = GroupError::FencedInstanceId;
    let heartbeat = Heartbeat { group_id: GROUP.into(), member: old.clone(), generation: 2 };
    assert_eq!(driver.call(Command::Heartbeat(heartbeat)), Reply::Heartbeat(Err(fenced)));
    assert_eq!(driver.call(static_sync("b-1", "b", Vec::new())), Reply::Sync(Err(fenced)));
    assert_eq!(driver.join_error(Command::Join(JoinGroup { member: old.clone(), ..join() })), fenced);
    let commit = CommitOffsets { member: old.clone(), ..commit_offsets("b-1", 2, 1) };
    assert_eq!(driver.call(Command::CommitOffsets(commit)), Reply::CommitOffsets(Err(fenced)));
    assert_eq!(driver.call(leave(&[old])), Reply::Leave(Ok(vec![Err(fenced)])));
    let stranger = static_identity("c-1", "c");
    let heartbeat = Heartbeat { group_id: GROUP.into(), member: stranger, generation: 2 };
    assert_eq!(
        driver.call(Command::Heartbeat(heartbeat)),
        Reply::Heartbeat(Err(GroupError::UnknownMemberId))
    );
}

#[test]
fn a_replacement_during_a_rebalance_fences_the_parked_request() {
    let mut driver = stable();
    driver.send(newcomer("m3"));
    let old = driver.send(Command::Join(JoinGroup { member: static_identity("b-1", "b"), ..join() }));
    assert!(driver.answer(old).is_none());
    let new = driver.send(Command::Join(static_join("b", "b-2")));
    let Some(Reply::Join(Err(refused))) = driver.answer(old) else { panic!("still parked") };
    assert_eq!(refused.error, GroupError::FencedInstanceId);
    driver.send(Command::Join(JoinGroup { member: static_identity("a-1", "a"), ..join() }));
    let joined = driver.joined(new);
    assert_eq!((&*joined.member_id, joined.generation), ("b-2", 3));
}

#[test]
fn a_replacement_while_the_leader_assigns_starts_over() {
    let mut driver = stable();
    driver.send(Command::Join(JoinGroup { member: static_identity("a-1", "a"), ..join() }));
    driver.send(Command::Join(JoinGroup { member: static_identity("b-1", "b"), ..join() }));
    assert_eq!(driver.state(), GroupState::CompletingRebalance);
    driver.send(Command::Join(static_join("b", "b-2")));
    assert_eq!(driver.state(), GroupState::PreparingRebalance, "the leader was told of b-1");
}

#[test]
fn a_replacement_that_changes_the_vote_causes_a_rebalance() {
    let mut driver = stable();
    let other = JoinGroup { protocols: protocols(&["roundrobin"]), ..static_join("b", "b-2") };
    driver.send(Command::Join(other));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
}

#[test]
fn absent_static_members_outlast_the_join_phase_and_another_member_leads() {
    let mut driver = stable();
    driver.machine.config.session_timeout_max_ms = i32::MAX;
    let long = |id: &str, member_id: &str| {
        let member = static_identity(member_id, id);
        Command::Join(JoinGroup { member, session_timeout_ms: 500_000, ..join() })
    };
    driver.send(long("a", "a-1"));
    driver.send(long("b", "b-1"));
    driver.answers();
    driver.send(static_sync_of_generation("b-1", "b", 3));
    driver.send(static_sync_of_generation("a-1", "a", 3));
    assert_eq!(driver.state(), GroupState::Stable);
    let third = driver.send(newcomer("m3"));
    driver.advance(60_000);
    let joined = driver.joined(third);
    assert_eq!(
        (&*joined.leader, joined.members.len()),
        ("m3", 3),
        "a and b are kept, but nobody waits for them"
    );
}

fn static_sync_of_generation(member_id: &str, instance_id: &str, generation: i32) -> Command {
    let Command::Sync(sync) = static_sync(member_id, instance_id, Vec::new()) else { unreachable!() };
    Command::Sync(SyncGroup { generation, ..sync })
}

#[test]
fn an_operator_removes_static_members_by_their_instance_ids() {
    let mut driver = stable();
    let who = [static_identity("", "b"), static_identity("", "nobody")];
    let reply = driver.call(leave(&who));
    assert_eq!(reply, Reply::Leave(Ok(vec![Ok(()), Err(GroupError::UnknownMemberId)])));
    assert!(!driver.membership().static_members.contains_key("b"));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
}

#[test]
fn fencing_survives_a_restart() {
    let mut driver = stable();
    driver.send(Command::Join(static_join("b", "b-2")));
    driver.restart();
    let heartbeat = |member_id: &str| {
        Command::Heartbeat(Heartbeat {
            group_id: GROUP.into(),
            member: static_identity(member_id, "b"),
            generation: 2,
        })
    };
    assert_eq!(driver.call(heartbeat("b-1")), Reply::Heartbeat(Err(GroupError::FencedInstanceId)));
    assert_eq!(driver.call(heartbeat("b-2")), Reply::Heartbeat(Ok(())));
}
