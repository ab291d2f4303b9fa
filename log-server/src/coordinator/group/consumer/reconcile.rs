//! One step of a member towards the target: it gives up first, then gets what is free, then waits for the rest.

use super::{Assignment, Current, MemberState, TopicId};

/// Where a member is to come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The target's epoch.
    pub(super) epoch: i32,
    /// What it gives the member.
    pub(super) partitions: &'a Assignment,
}

/// Where a member stands after a heartbeat in which it said that it holds `owned`; `None` if it did not say. A
/// partition that `is_held` by another member is not given away.
pub(super) fn reconcile(
    current: &Current,
    target: Target<'_>,
    owned: Option<&Assignment>,
    is_held: impl Fn(TopicId, i32) -> bool,
) -> Current {
    match current.state {
        MemberState::Stable if current.epoch == target.epoch => current.clone(),
        MemberState::Stable | MemberState::UnreleasedPartitions => {
            advance(current, current.epoch, target, owned, is_held)
        }
        MemberState::UnrevokedPartitions if still_holds(owned, &current.pending_revocation) => {
            current.clone()
        }
        // What it was asked for is given up, which is an epoch by itself: its commits for that are over.
        MemberState::UnrevokedPartitions => {
            advance(current, current.epoch.saturating_add(1), target, owned, is_held)
        }
    }
}

fn advance(
    current: &Current,
    epoch: i32,
    target: Target<'_>,
    owned: Option<&Assignment>,
    is_held: impl Fn(TopicId, i32) -> bool,
) -> Current {
    let mut assigned = current.assigned.intersection(target.partitions);
    let pending_revocation = current.assigned.difference(&assigned);
    if !pending_revocation.is_empty() && still_holds(owned, &pending_revocation) {
        let next = Current {
            epoch,
            previous_epoch: current.epoch,
            state: MemberState::UnrevokedPartitions,
            assigned,
            pending_revocation,
            ..Current::default()
        };
        return with_epochs(next, current);
    }
    let wanted = target.partitions.difference(&assigned);
    let free: Vec<_> = wanted.iter().filter(|(topic, index)| !is_held(*topic, *index)).collect();
    let all = free.len() == wanted.len();
    assigned.extend(free);
    let state = if all { MemberState::Stable } else { MemberState::UnreleasedPartitions };
    let next =
        Current { epoch: target.epoch, previous_epoch: current.epoch, state, assigned, ..Current::default() };
    // A member that waits and got nothing stands where it stood: the log need not hear of it.
    let waits =
        next.epoch == current.epoch && next.state == current.state && next.assigned == current.assigned;
    if waits { current.clone() } else { with_epochs(next, current) }
}

/// `next` with the epochs at which the member got what it holds: earlier where it has had it all along, and not where it
/// has just given it up.
fn with_epochs(next: Current, before: &Current) -> Current {
    let since = |(topic, index)| {
        let kept = before.assigned.contains(topic, index);
        let known = before.assignment_epochs.get(&(topic, index)).filter(|_| kept);
        known.copied().unwrap_or(next.epoch)
    };
    let assignment_epochs = next.held().map(|partition| (partition, since(partition))).collect();
    Current { assignment_epochs, ..next }
}

/// Whether a member may still work on any of `partitions`. One that does not say what it has, does.
fn still_holds(owned: Option<&Assignment>, partitions: &Assignment) -> bool {
    owned.is_none_or(|owned| owned.intersects(partitions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TOPIC: TopicId = TopicId([7; 16]);

    fn of(partitions: &[i32]) -> Assignment {
        partitions.iter().map(|index| (TOPIC, *index)).collect()
    }

    fn at(epoch: i32, assigned: &[i32]) -> Current {
        let assignment_epochs = epochs(&[(epoch, assigned)]);
        Current {
            epoch,
            previous_epoch: epoch,
            assigned: of(assigned),
            assignment_epochs,
            ..Current::default()
        }
    }

    fn epochs(since: &[(i32, &[i32])]) -> BTreeMap<(TopicId, i32), i32> {
        let each = since.iter().flat_map(|(epoch, held)| held.iter().map(|index| ((TOPIC, *index), *epoch)));
        each.collect()
    }

    #[test]
    fn what_is_free_is_given_at_once() {
        let target = of(&[1, 2]);
        let next = reconcile(&at(1, &[1]), Target { epoch: 2, partitions: &target }, None, |_, _| false);
        let assignment_epochs = epochs(&[(1, &[1]), (2, &[2])]);
        assert_eq!(next, Current { previous_epoch: 1, assignment_epochs, ..at(2, &[1, 2]) });
    }

    #[test]
    fn what_is_taken_away_is_asked_for_before_anything_is_given() {
        let target = Target { epoch: 3, partitions: &of(&[2, 3]) };
        let asked = reconcile(&at(1, &[1, 2]), target, None, |_, _| false);
        assert_eq!((asked.epoch, asked.state), (1, MemberState::UnrevokedPartitions));
        assert_eq!((&asked.assigned, &asked.pending_revocation), (&of(&[2]), &of(&[1])));
        for owned in [None, Some(of(&[1, 2]))] {
            assert_eq!(reconcile(&asked, target, owned.as_ref(), |_, _| false), asked, "still has it");
        }
        let done = reconcile(&asked, target, Some(&of(&[2])), |_, _| false);
        assert_eq!((done.epoch, done.state, done.assigned), (3, MemberState::Stable, of(&[2, 3])));
        assert!(done.pending_revocation.is_empty());
        assert_eq!(asked.assignment_epochs, epochs(&[(1, &[1, 2])]));
        assert_eq!(done.assignment_epochs, epochs(&[(1, &[2]), (3, &[3])]));
    }

    #[test]
    fn a_further_target_asks_for_more_at_the_next_epoch() {
        let asked =
            reconcile(&at(1, &[1, 2]), Target { epoch: 3, partitions: &of(&[2]) }, None, |_, _| false);
        let nothing = Assignment::default();
        let target = Target { epoch: 5, partitions: &nothing };
        let more = reconcile(&asked, target, Some(&of(&[2])), |_, _| false);
        assert_eq!((more.epoch, more.state), (2, MemberState::UnrevokedPartitions));
        assert_eq!(more.pending_revocation, of(&[2]));
    }

    #[test]
    fn what_was_given_up_and_comes_back_is_new() {
        let asked =
            reconcile(&at(1, &[1, 2]), Target { epoch: 2, partitions: &of(&[1]) }, None, |_, _| false);
        let target = Target { epoch: 3, partitions: &of(&[1, 2]) };
        let back = reconcile(&asked, target, Some(&of(&[1])), |_, _| false);
        assert_eq!(back.assignment_epochs, epochs(&[(1, &[1]), (3, &[2])]));
    }

    #[test]
    fn what_others_hold_is_waited_for() {
        let target = Target { epoch: 2, partitions: &of(&[1, 2]) };
        let waiting = reconcile(&at(1, &[1]), target, None, |_, index| index == 2);
        assert_eq!((waiting.epoch, waiting.state), (2, MemberState::UnreleasedPartitions));
        assert_eq!(reconcile(&waiting, target, None, |_, index| index == 2), waiting, "nothing new");
        let served = reconcile(&waiting, target, None, |_, _| false);
        assert_eq!((served.epoch, served.state, served.assigned), (2, MemberState::Stable, of(&[1, 2])));
        assert_eq!(served.assignment_epochs, epochs(&[(1, &[1]), (2, &[2])]));
    }
}
