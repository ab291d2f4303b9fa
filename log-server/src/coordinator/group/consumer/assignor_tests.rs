//! Assignors against what they promise, for random members and topics.

use super::assignor::{Problem, Subscriber};
use super::testing::id;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn problem(members: &[(&str, &[u8])], topics: &[i32]) -> Problem {
    let topics: BTreeMap<TopicId, i32> = (1u8..).map(id).zip(topics.iter().copied()).collect();
    let member = |(name, topics): &(&str, &[u8])| {
        let subscriber =
            Subscriber { topics: topics.iter().copied().map(id).collect(), ..Subscriber::default() };
        (Arc::from(*name), subscriber)
    };
    Problem { members: members.iter().map(member).collect(), topics }
}

/// As the next target's predecessor.
fn again(mut problem: Problem, targets: &BTreeMap<Arc<str>, Assignment>) -> Problem {
    for (name, member) in &mut problem.members {
        member.before = Arc::new(targets.get(name).cloned().unwrap_or_default());
    }
    problem
}

fn loads(targets: &BTreeMap<Arc<str>, Assignment>) -> Vec<usize> {
    targets.values().map(Assignment::len).collect()
}

#[test]
fn ranges_of_topics_with_the_same_subscribers_go_together() {
    let targets = Assignor::Range.assign(&problem(&[("a", &[1, 2]), ("b", &[1, 2])], &[3, 3]));
    let expected: Assignment = [(id(1), 0), (id(1), 1), (id(2), 0), (id(2), 1)].into_iter().collect();
    assert_eq!(targets["a"], expected);
    assert_eq!(targets["b"].len(), 2);
}

#[test]
fn ranges_follow_instance_ids_and_not_member_ids() {
    let mut problem = problem(&[("a", &[1]), ("b", &[1]), ("c", &[1])], &[3]);
    for (member, instance) in [("a", "two"), ("c", "one")] {
        problem.members.get_mut(member).unwrap().instance_id = Some(instance.into());
    }
    let targets = Assignor::Range.assign(&problem);
    for (index, member) in ["c", "a", "b"].into_iter().enumerate() {
        assert!(targets[member].contains(id(1), index as i32), "{targets:?}");
    }
}

#[test]
fn uniform_moves_no_more_than_it_has_to() {
    let before = Assignor::Uniform.assign(&problem(&[("a", &[1]), ("b", &[1]), ("c", &[1])], &[9]));
    assert_eq!(loads(&before), [3, 3, 3]);
    let more = again(problem(&[("a", &[1]), ("b", &[1]), ("c", &[1]), ("d", &[1])], &[9]), &before);
    let after = Assignor::Uniform.assign(&more);
    assert_eq!(after["d"].len(), 2);
    for member in ["a", "b", "c"] {
        assert!(after[member].is_subset_of(&before[member]), "{member} got something new");
    }
    let fewer = again(problem(&[("a", &[1]), ("b", &[1])], &[9]), &before);
    let after = Assignor::Uniform.assign(&fewer);
    assert!(["a", "b"].iter().all(|member| before[*member].is_subset_of(&after[*member])));
}

#[test]
fn uniform_evens_out_what_subscriptions_allow() {
    let targets = Assignor::Uniform.assign(&problem(&[("a", &[1]), ("b", &[1, 2])], &[4, 4]));
    assert_eq!(loads(&targets), [4, 4]);
}

#[test]
fn the_majority_chooses_and_uniform_wins_a_draw() {
    assert_eq!(Assignor::elect(["range", "range", "uniform"].into_iter()), Assignor::Range);
    assert_eq!(Assignor::elect(["range", "uniform"].into_iter()), Assignor::Uniform);
    assert_eq!(Assignor::elect([].into_iter()), Assignor::Uniform);
}

proptest! {
    #[test]
    fn everything_goes_to_one_subscriber_and_loads_are_even(
        counts in proptest::collection::vec(0..12i32, 1..6),
        subscriptions in proptest::collection::vec(proptest::collection::btree_set(1..6u8, 0..6), 1..8),
        others in proptest::collection::vec(proptest::collection::btree_set(1..6u8, 0..6), 1..8),
    ) {
        let existing = |topics: &BTreeSet<u8>| -> BTreeSet<TopicId> {
            topics.iter().filter(|topic| usize::from(**topic) <= counts.len()).copied().map(id).collect()
        };
        let make = |subscriptions: &[BTreeSet<u8>]| {
            let members = subscriptions.iter().enumerate().map(|(place, topics)| {
                let topics = existing(topics);
                (Arc::from(format!("m{place}")), Subscriber { topics, ..Subscriber::default() })
            });
            Problem {
                members: members.collect(),
                topics: (1u8..).map(id).zip(counts.iter().copied()).collect(),
            }
        };
        for assignor in Assignor::ALL {
            let first = assignor.assign(&make(&subscriptions));
            let problem = again(make(&others), &first);
            let targets = assignor.assign(&problem);
            let mut given = BTreeSet::new();
            for (member, target) in &targets {
                for partition in target.iter() {
                    prop_assert!(problem.members[member].topics.contains(&partition.0));
                    prop_assert!(given.insert(partition));
                }
            }
            let subscribed: BTreeSet<TopicId> =
                problem.members.values().flat_map(|it| it.topics.iter().copied()).collect();
            let wanted: usize = subscribed.iter().map(|topic| problem.topics[topic] as usize).sum();
            prop_assert_eq!(given.len(), wanted);
            if assignor == Assignor::Uniform {
                for (member, target) in &targets {
                    for (other, theirs) in &targets {
                        let could_move = target.topics().any(|(topic, _)| problem.members[other].topics.contains(&topic));
                        prop_assert!(
                            !could_move || target.len() <= theirs.len() + 1,
                            "{} has {} and {} has {}", member, target.len(), other, theirs.len()
                        );
                    }
                }
                let steady = again(make(&others), &targets);
                prop_assert_eq!(&assignor.assign(&steady), &targets, "nothing moves without a reason");
            }
        }
    }
}
