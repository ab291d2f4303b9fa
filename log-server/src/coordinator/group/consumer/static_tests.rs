//! Transcripts of static members (KIP-345 in the terms of KIP-848).

use super::testing::*;
use super::*;
use crate::coordinator::group::GroupError;

fn is(heartbeat: ConsumerHeartbeat, instance_id: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat { instance_id: Some(instance_id.into()), ..heartbeat }
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut driver = driver(&[4]);
    told(&mut driver, is(entering("a", &["t1"]), "one"));
    told(&mut driver, is(entering("b", &["t1"]), "two"));
    told(&mut driver, alive("a", 1));
    told(&mut driver, holding("a", 1, &of(&[0, 1])));
    told(&mut driver, alive("b", 2));
    assert_eq!(send(&mut driver, is(entering("b2", &["t1"]), "two")), Err(GroupError::UnreleasedInstanceId));
    assert_eq!(told(&mut driver, is(alive("b", LEAVE_STATIC_EPOCH), "two")).0, LEAVE_STATIC_EPOCH);
    assert_eq!(send(&mut driver, alive("b", 2)), Err(GroupError::FencedMemberEpoch), "it has gone");
    assert_eq!(told(&mut driver, alive("a", 2)), (2, None), "nobody gets what it had");
    driver.restart();
    // The same epoch: nobody else is bothered.
    assert_eq!(told(&mut driver, is(entering("b2", &["t1"]), "two")), (2, Some(of(&[2, 3]))));
    assert_eq!(send(&mut driver, is(alive("b", 2), "two")), Err(GroupError::FencedInstanceId));
    assert_eq!(send(&mut driver, is(alive("b", LEAVE_EPOCH), "two")), Err(GroupError::FencedInstanceId));
    assert_eq!(send(&mut driver, is(alive("c", 2), "three")), Err(GroupError::UnknownMemberId));
    assert_eq!(group(&driver).members.len(), 2);
}

#[test]
fn a_static_member_that_does_not_come_back_is_put_out() {
    let mut driver = driver(&[2]);
    told(&mut driver, is(entering("a", &["t1"]), "one"));
    told(&mut driver, is(entering("b", &["t1"]), "two"));
    told(&mut driver, is(alive("a", LEAVE_STATIC_EPOCH), "one"));
    driver.advance(40_000);
    told(&mut driver, alive("b", 2));
    driver.advance(10_000);
    assert_eq!(told(&mut driver, alive("b", 2)), (3, Some(of(&[0, 1]))));
}

#[test]
fn who_was_fenced_enters_again_under_its_ids() {
    let mut driver = driver(&[2]);
    told(&mut driver, is(entering("a", &["t1"]), "one"));
    assert_eq!(send(&mut driver, is(alive("a", 9), "one")), Err(GroupError::FencedMemberEpoch));
    assert_eq!(told(&mut driver, is(entering("a", &["t1"]), "one")), (1, Some(of(&[0, 1]))));
    // A dynamic member's id does not become a static one's.
    told(&mut driver, entering("b", &["t1"]));
    assert_eq!(send(&mut driver, is(entering("b", &["t1"]), "two")), Err(GroupError::FencedInstanceId));
}

#[test]
fn away_it_gives_up_what_it_was_asked_for() {
    let mut driver = driver(&[2]);
    told(&mut driver, is(entering("a", &["t1"]), "one"));
    told(&mut driver, entering("b", &["t1"]));
    assert_eq!(told(&mut driver, alive("a", 1)), (1, Some(of(&[0]))));
    told(&mut driver, is(alive("a", LEAVE_STATIC_EPOCH), "one"));
    assert_eq!(told(&mut driver, alive("b", 2)), (2, Some(of(&[1]))));
    assert_eq!(told(&mut driver, is(entering("a2", &["t1"]), "one")), (2, Some(of(&[0]))));
}
