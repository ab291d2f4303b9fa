//! The assignor `uniform`: loads differ by one at most where subscriptions allow it, and what need not move stays.
//!
//! Members keep what they had and still subscribe to; what nobody has goes to whoever has least; then partitions move
//! from members with much to members with at least two less, until there are none such. Each move makes the sum of the
//! squared loads smaller, so this ends. Where everybody subscribes to the same, loads are even at the end; where not,
//! no single move could make them more even.

use super::assignor::{Problem, Subscriber};
use super::{Assignment, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) fn assign(problem: &Problem) -> BTreeMap<Arc<str>, Assignment> {
    let mut plan = Plan::keeping(problem);
    plan.hand_out(problem);
    while plan.level() {}
    let ids = problem.members.keys().cloned();
    ids.zip(plan.targets).collect()
}

/// Members by their place in the problem.
struct Plan<'a> {
    members: Vec<&'a Subscriber>,
    targets: Vec<Assignment>,
    loads: Vec<usize>,
    /// Who subscribes to a topic, each behind its load: the first has least.
    subscribers: BTreeMap<TopicId, BTreeSet<(usize, usize)>>,
}

impl<'a> Plan<'a> {
    /// What everybody had and may keep.
    fn keeping(problem: &'a Problem) -> Self {
        let mut taken = Assignment::default();
        let members: Vec<&Subscriber> = problem.members.values().collect();
        let mut plan = Plan { members, targets: Vec::new(), loads: Vec::new(), subscribers: BTreeMap::new() };
        for (place, member) in problem.members.values().enumerate() {
            let mut target = Assignment::default();
            for (topic, index) in member.before.iter() {
                let exists = problem.topics.get(&topic).is_some_and(|count| (0..*count).contains(&index));
                if exists && member.topics.contains(&topic) && !taken.contains(topic, index) {
                    taken.insert(topic, index);
                    target.insert(topic, index);
                }
            }
            let load = target.len();
            for topic in &member.topics {
                plan.subscribers.entry(*topic).or_default().insert((load, place));
            }
            plan.targets.push(target);
            plan.loads.push(load);
        }
        plan
    }

    /// Gives what nobody has to whoever has least. Topics of few subscribers come first: they have the least choice.
    fn hand_out(&mut self, problem: &Problem) {
        let owned: BTreeSet<(TopicId, i32)> = self.targets.iter().flat_map(Assignment::iter).collect();
        let mut topics: Vec<TopicId> = self.subscribers.keys().copied().collect();
        topics.sort_by_key(|topic| (self.subscribers[topic].len(), *topic));
        for topic in topics {
            for index in 0..problem.topics.get(&topic).copied().unwrap_or(0) {
                if !owned.contains(&(topic, index))
                    && let Some((_, place)) = self.least(topic)
                {
                    self.targets[place].insert(topic, index);
                    self.set_load(place, self.loads[place] + 1);
                }
            }
        }
    }

    /// Moves partitions from members with much to members with at least two less. True if it moved any.
    fn level(&mut self) -> bool {
        let mut moved = false;
        let mut places: Vec<usize> = (0..self.targets.len()).collect();
        places.sort_by_key(|place| (std::cmp::Reverse(self.loads[*place]), *place));
        for place in places {
            // The last go first, so that a member keeps the beginning of what it had.
            let partitions: Vec<_> = self.targets[place].iter().collect();
            for (topic, index) in partitions.into_iter().rev() {
                let Some((load, to)) = self.least(topic) else { continue };
                if load + 1 < self.loads[place] {
                    self.targets[place].remove(topic, index);
                    self.targets[to].insert(topic, index);
                    self.set_load(place, self.loads[place] - 1);
                    self.set_load(to, load + 1);
                    moved = true;
                }
            }
        }
        moved
    }

    fn least(&self, topic: TopicId) -> Option<(usize, usize)> {
        self.subscribers.get(&topic)?.first().copied()
    }

    fn set_load(&mut self, place: usize, load: usize) {
        let before = std::mem::replace(&mut self.loads[place], load);
        for topic in &self.members[place].topics {
            if let Some(subscribers) = self.subscribers.get_mut(topic) {
                subscribers.remove(&(before, place));
                subscribers.insert((load, place));
            }
        }
    }
}
