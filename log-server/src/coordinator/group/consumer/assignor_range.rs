//! The assignor `range`: of each topic, its subscribers get ranges of the same size, give or take one.
//!
//! Subscribers are taken by their instance ids, which stay over a restart, and then by their member ids. Topics of the
//! same partitions and subscribers are cut alike, so partitions of the same number end up with the same member.

use super::assignor::Problem;
use super::{Assignment, TopicId};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn assign(problem: &Problem) -> BTreeMap<Arc<str>, Assignment> {
    let mut targets: BTreeMap<Arc<str>, Assignment> =
        problem.members.keys().map(|member| (member.clone(), Assignment::default())).collect();
    let mut members: Vec<_> = problem.members.iter().collect();
    // None comes before Some: static members are to come first.
    members.sort_by_key(|(id, member)| {
        (member.instance_id.is_none(), member.instance_id.clone(), (*id).clone())
    });
    let mut subscribers: BTreeMap<TopicId, Vec<&Arc<str>>> = BTreeMap::new();
    for (id, member) in members {
        for topic in &member.topics {
            subscribers.entry(*topic).or_default().push(id);
        }
    }
    for (topic, subscribers) in subscribers {
        let partitions = problem.topics.get(&topic).copied().unwrap_or(0);
        let count = i32::try_from(subscribers.len()).unwrap_or(i32::MAX);
        let (each, more) = (partitions / count, partitions % count);
        let mut next = 0;
        for (place, member) in (0..).zip(subscribers) {
            let end = next + each + i32::from(place < more);
            let target = targets.get_mut(member).expect("every member has a target");
            target.extend((next..end).map(|index| (topic, index)));
            next = end;
        }
    }
    targets
}
