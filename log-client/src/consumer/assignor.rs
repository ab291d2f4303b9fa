//! How a group's leader shares partitions out among its members.
//!
//! Every strategy is a pure function of the members and the partitions, and gives the same answer for
//! the same input whatever its order, since any member may be the leader next.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::protocol::Subscription;
use super::sticky;
use crate::topic_partition::TopicPartition;

/// A way to share partitions out. A group uses the first one in its members' lists that all of them
/// have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Topic by topic, each member a contiguous range: partitions of the same number in different
    /// topics come to the same member.
    Range,
    /// All partitions in turn: shares differ by one at most where all members want the same topics.
    RoundRobin,
    /// Shares as even as with round robin, but members keep what they have, and go on consuming it
    /// during a rebalance (KIP-429). A member that lists other strategies as well revokes everything
    /// all the same, because the group might choose one of those.
    CooperativeSticky,
}

/// A member and what it wants.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) subscription: Subscription,
}

impl Member {
    /// Static members first and by their own names, so that they keep their ranges across restarts.
    fn order(&self) -> (bool, &str) {
        match &self.instance_id {
            Some(instance_id) => (false, instance_id),
            None => (true, &self.id),
        }
    }
}

/// By member id.
pub(crate) type Shares = HashMap<String, Vec<TopicPartition>>;

impl Assignor {
    /// Its name in JoinGroup, the same in every client.
    pub const fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Shares out the partitions of the topics that are in `partition_counts`; others do not exist.
    pub(crate) fn assign(self, members: &[Member], partition_counts: &BTreeMap<Arc<str>, usize>) -> Shares {
        let mut sorted: Vec<&Member> = members.iter().collect();
        sorted.sort_by(|a, b| a.order().cmp(&b.order()));
        match self {
            Assignor::Range => range(&sorted, partition_counts),
            Assignor::RoundRobin => round_robin(&sorted, partition_counts),
            Assignor::CooperativeSticky => sticky::assign(&sorted, partition_counts),
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of the strategies'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown assignor '{0}': expected range, roundrobin or cooperative-sticky")]
pub struct UnknownAssignor(pub String);

impl FromStr for Assignor {
    type Err = UnknownAssignor;

    fn from_str(name: &str) -> Result<Assignor, UnknownAssignor> {
        let all = [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky];
        all.into_iter()
            .find(|assignor| assignor.name() == name)
            .ok_or_else(|| UnknownAssignor(name.to_owned()))
    }
}

fn empty_shares(members: &[&Member]) -> Shares {
    members.iter().map(|member| (member.id.clone(), Vec::new())).collect()
}

fn range(members: &[&Member], partition_counts: &BTreeMap<Arc<str>, usize>) -> Shares {
    let mut shares = empty_shares(members);
    for (topic, &count) in partition_counts {
        let wanting: Vec<_> =
            members.iter().filter(|member| member.subscription.topics.contains(topic)).collect();
        let mut next = 0;
        for (index, member) in wanting.iter().enumerate() {
            // The first members take one more each where it does not divide evenly.
            let size = count / wanting.len() + usize::from(index < count % wanting.len());
            let share = shares.entry(member.id.clone()).or_default();
            share.extend((next..next + size).map(|number| TopicPartition::new(topic.clone(), number as i32)));
            next += size;
        }
    }
    shares
}

fn round_robin(members: &[&Member], partition_counts: &BTreeMap<Arc<str>, usize>) -> Shares {
    let mut shares = empty_shares(members);
    let mut next = 0;
    for (topic, &count) in partition_counts {
        for number in 0..count {
            let turns = (0..members.len()).map(|turn| (next + turn) % members.len());
            let wanting = turns.into_iter().find(|&index| members[index].subscription.topics.contains(topic));
            let Some(index) = wanting else { break };
            let share = shares.entry(members[index].id.clone()).or_default();
            share.push(TopicPartition::new(topic.clone(), number as i32));
            next = index + 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn member(id: &str, topics: &[&str]) -> Member {
        let topics = topics.iter().map(|&topic| topic.into()).collect();
        let subscription = Subscription { topics, generation: -1, ..Subscription::default() };
        Member { id: id.to_owned(), instance_id: None, subscription }
    }

    fn counts(topics: &[(&str, usize)]) -> BTreeMap<Arc<str>, usize> {
        topics.iter().map(|&(topic, count)| (topic.into(), count)).collect()
    }

    fn share(shares: &Shares, id: &str) -> Vec<String> {
        shares[id].iter().map(TopicPartition::to_string).collect()
    }

    #[test]
    fn ranges_are_contiguous_and_the_first_take_the_rest() {
        let members = [member("b", &["t", "u"]), member("a", &["t", "u"])];
        let shares = Assignor::Range.assign(&members, &counts(&[("t", 3), ("u", 3)]));
        assert_eq!(share(&shares, "a"), ["t-0", "t-1", "u-0", "u-1"]);
        assert_eq!(share(&shares, "b"), ["t-2", "u-2"]);
    }

    #[test]
    fn static_members_come_first_by_their_own_names() {
        let mut late = member("z", &["t"]);
        late.instance_id = Some("worker-1".to_owned());
        let shares = Assignor::Range.assign(&[member("a", &["t"]), late], &counts(&[("t", 1)]));
        assert_eq!(share(&shares, "z"), ["t-0"]);
        assert!(shares["a"].is_empty());
    }

    #[test]
    fn round_robin_takes_turns_across_topics_and_skips_who_does_not_want() {
        let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
        let shares = Assignor::RoundRobin.assign(&members, &counts(&[("t", 3), ("u", 3)]));
        assert_eq!(share(&shares, "a"), ["t-0", "t-2", "u-1"]);
        assert_eq!(share(&shares, "b"), ["t-1", "u-0", "u-2"]);

        let members = [member("a", &["t"]), member("b", &["t", "u"]), member("c", &[])];
        let shares = Assignor::RoundRobin.assign(&members, &counts(&[("t", 1), ("u", 2), ("unwanted", 1)]));
        assert_eq!(share(&shares, "a"), ["t-0"]);
        assert_eq!(share(&shares, "b"), ["u-0", "u-1"]);
        assert!(shares["c"].is_empty());
    }

    #[test]
    fn nobody_and_nothing_are_shares_too() {
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
            assert!(assignor.assign(&[], &counts(&[("t", 2)])).is_empty());
            let shares = assignor.assign(&[member("a", &["missing"])], &counts(&[]));
            assert!(shares["a"].is_empty());
            assert_eq!(assignor.name().parse(), Ok(assignor));
        }
    }
}
