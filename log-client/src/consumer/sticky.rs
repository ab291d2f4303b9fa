//! The cooperative sticky strategy: as even as can be, moving as little as can be, in two steps.
//!
//! A partition that is to change hands is in nobody's share the first time. Its owner sees that it is
//! missing, lets go of it and joins again; in that rebalance it has no owner and goes to its new member
//! (KIP-429). So nobody ever consumes what another may still be working on, and nobody stops consuming
//! what it keeps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::assignor::{Member, Shares};
use crate::topic_partition::TopicPartition;

/// Members are indexes into the sorted list.
type Owners = BTreeMap<TopicPartition, usize>;

pub(super) fn assign(members: &[&Member], partition_counts: &BTreeMap<Arc<str>, usize>) -> Shares {
    let owned = owners(members, partition_counts);
    let mut balanced = owned.clone();
    let mut loads = vec![0usize; members.len()];
    balanced.values().for_each(|&member| loads[member] += 1);
    let wanting: HashMap<&str, Vec<usize>> =
        partition_counts.keys().map(|topic| (&**topic, wanting(members, topic))).collect();

    // What nobody has, those with the fewest choices first.
    let mut free: Vec<TopicPartition> =
        partitions(partition_counts).filter(|p| !owned.contains_key(p)).collect();
    free.sort_by_key(|partition| wanting[&*partition.topic].len());
    for partition in free {
        let least = wanting[&*partition.topic].iter().min_by_key(|&&member| loads[member]);
        if let Some(&member) = least {
            loads[member] += 1;
            balanced.insert(partition, member);
        }
    }
    level(&mut balanced, &mut loads, &wanting);

    let mut shares: Shares = members.iter().map(|member| (member.id.clone(), Vec::new())).collect();
    for (partition, member) in balanced {
        // Still another's: in nobody's share until that member has let go.
        if owned.get(&partition).is_some_and(|&owner| owner != member) {
            continue;
        }
        shares.entry(members[member].id.clone()).or_default().push(partition);
    }
    shares
}

/// Moves partitions from members with more to members with at least two fewer, until there are none.
fn level(balanced: &mut Owners, loads: &mut [usize], wanting: &HashMap<&str, Vec<usize>>) {
    // Each move makes the sum of squares of the loads smaller, so this ends.
    loop {
        let mut moved = false;
        for (partition, owner) in balanced.iter_mut() {
            let least = wanting[&*partition.topic].iter().copied().min_by_key(|&member| loads[member]);
            if let Some(least) = least.filter(|&least| loads[*owner] >= loads[least] + 2) {
                loads[*owner] -= 1;
                loads[least] += 1;
                *owner = least;
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

/// Who has what now, by the members' own word. Of two that claim the same, the one of the later
/// generation is right; of the same generation neither is.
fn owners(members: &[&Member], partition_counts: &BTreeMap<Arc<str>, usize>) -> Owners {
    let mut claims: BTreeMap<TopicPartition, (i32, usize)> = BTreeMap::new();
    let mut disputed: BTreeSet<TopicPartition> = BTreeSet::new();
    for (index, member) in members.iter().enumerate() {
        let generation = member.subscription.generation;
        for partition in &member.subscription.owned {
            let count = partition_counts.get(&partition.topic).copied().unwrap_or(0);
            let exists = usize::try_from(partition.partition).is_ok_and(|number| number < count);
            if !exists || !member.subscription.topics.contains(&partition.topic) {
                continue;
            }
            match claims.get(partition) {
                Some(&(other, _)) if other > generation => {}
                Some(&(other, _)) if other == generation => {
                    disputed.insert(partition.clone());
                }
                _ => {
                    disputed.remove(partition);
                    claims.insert(partition.clone(), (generation, index));
                }
            }
        }
    }
    claims.retain(|partition, _| !disputed.contains(partition));
    claims.into_iter().map(|(partition, (_, member))| (partition, member)).collect()
}

fn wanting(members: &[&Member], topic: &Arc<str>) -> Vec<usize> {
    let wants = |&index: &usize| members[index].subscription.topics.contains(topic);
    (0..members.len()).filter(wants).collect()
}

fn partitions(partition_counts: &BTreeMap<Arc<str>, usize>) -> impl Iterator<Item = TopicPartition> {
    partition_counts.iter().flat_map(|(topic, &count)| {
        (0..count).map(|number| TopicPartition::new(topic.clone(), number as i32))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consumer::protocol::Subscription;

    fn member(id: usize, owned: Vec<TopicPartition>, generation: i32) -> Member {
        let subscription = Subscription { topics: vec!["t".into()], owned, generation };
        Member { id: format!("m{id}"), instance_id: None, subscription }
    }

    fn run(members: &[Member], count: usize) -> Shares {
        assign(&members.iter().collect::<Vec<_>>(), &BTreeMap::from([("t".into(), count)]))
    }

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("t", number)
    }

    #[test]
    fn a_newcomer_waits_until_partitions_are_let_go() {
        let members = [member(0, (0..4).map(partition).collect(), 1), member(1, Vec::new(), -1)];
        let first = run(&members, 4);
        assert_eq!(first["m0"].len(), 2);
        assert!(first["m1"].is_empty(), "its two are still m0's");
        let members = [member(0, first["m0"].clone(), 2), member(1, Vec::new(), 2)];
        let second = run(&members, 4);
        assert_eq!(second["m0"], first["m0"], "what is kept does not move");
        assert_eq!(second["m1"].len(), 2);
    }

    #[test]
    fn the_later_generation_is_believed() {
        let members = [member(0, vec![partition(0)], 3), member(1, vec![partition(0)], 2)];
        assert_eq!(run(&members, 1)["m0"], [partition(0)]);
        // Both say so for the same generation: nobody's, so it can be given at once.
        let members = [member(0, vec![partition(0)], 3), member(1, vec![partition(0)], 3)];
        let shares = run(&members, 1);
        assert_eq!(shares.values().map(Vec::len).sum::<usize>(), 1);
    }

    proptest! {
        #[test]
        fn two_rebalances_settle_evenly_with_nothing_twice(
            count in 0usize..20,
            owners in prop::collection::vec(0usize..6, 20),
            member_count in 1usize..6,
        ) {
            let owned = |id| (0..count).filter(|&p| owners[p] == id).map(|p| partition(p as i32)).collect();
            let members: Vec<_> = (0..member_count).map(|id| member(id, owned(id), 1)).collect();
            let first = run(&members, count);
            let mut seen = BTreeSet::new();
            for (member, share) in &first {
                for p in share {
                    prop_assert!(seen.insert(p.clone()), "twice");
                    let owner = owners[p.partition as usize];
                    prop_assert!(owner >= member_count || *member == format!("m{owner}"), "taken from its owner");
                }
            }
            let members: Vec<_> = (0..member_count).map(|id| member(id, first[&format!("m{id}")].clone(), 2)).collect();
            let second = run(&members, count);
            let sizes: Vec<_> = second.values().map(Vec::len).collect();
            prop_assert_eq!(sizes.iter().sum::<usize>(), count);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            for (member, share) in &first {
                prop_assert!(share.iter().all(|p| second[member].contains(p)), "moved without need");
            }
        }
    }
}
