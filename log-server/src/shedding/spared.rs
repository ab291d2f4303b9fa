//! Whose batches are taken whatever the class: those of the very groups that load is shed for.
//!
//! A process that reads one topic and writes to another commits what it has read only once its output is taken. If that
//! is refused, for the sake of its own lag, it never gets there. Such a process is told by either of two things:
//!
//! - its producer has committed offsets of the group within a transaction;
//! - its producer has the client id and the address of a member of the group. A name that clients give themselves when
//!   nobody has named them says nothing: every producer on the machine may have it.
//!
//! A group is remembered from when its objective is missed until nothing is shed any more, so that its producers are not
//! refused while what was shed comes back step by step.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::partition::ReaderId;

/// Producers that are remembered to have committed for a group. Beyond it all are forgotten; each is known again with its
/// next commit.
const COMMITTERS_MAX: usize = 65_536;

/// What clients call themselves unless they are told a name.
const UNNAMED: [&str; 6] = ["", "rdkafka", "sarama", "kafkajs", "kgo", "highwater-client"];

/// The beginnings of such names.
const UNNAMED_PREFIXES: [&str; 2] = ["kafka-python-", "aiokafka-"];

/// A group under pressure, and who is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// The group.
    pub group: Arc<str>,
    /// Its members that can be told from other clients.
    pub members: HashSet<ReaderId>,
}

impl Pressed {
    /// A group whose members are at these addresses, written as Kafka writes them, under these client ids.
    pub fn new<'a>(group: &Arc<str>, members: impl Iterator<Item = (&'a str, &'a str)>) -> Pressed {
        let named = members.filter(|(client_id, _)| is_name(client_id));
        let members = named.filter_map(|(client_id, host)| ReaderId::of_member(client_id, host)).collect();
        Pressed { group: group.clone(), members }
    }
}

fn is_name(client_id: &str) -> bool {
    !UNNAMED.contains(&client_id) && !UNNAMED_PREFIXES.iter().any(|prefix| client_id.starts_with(prefix))
}

/// Who is spared.
#[derive(Debug, Default)]
pub struct Spared {
    /// By group. Replaced as a whole by the one who takes the steps; looked at for each batch that would be shed.
    groups: ArcSwap<BTreeMap<Arc<str>, HashSet<ReaderId>>>,
    /// The group that a producer has committed for last within a transaction, by producer id, as a hash. Held for a
    /// look-up.
    committers: Mutex<HashMap<i64, u64>>,
}

impl Spared {
    /// Notes that a producer commits offsets of a group.
    pub fn note_committer(&self, producer_id: i64, group: &str) {
        let mut committers = self.committers.lock();
        if committers.len() >= COMMITTERS_MAX && !committers.contains_key(&producer_id) {
            committers.clear();
        }
        committers.insert(producer_id, hash(group));
    }

    /// Takes in who is under pressure now, beside who was before.
    pub(super) fn add(&self, pressed: Vec<Pressed>) {
        if pressed.is_empty() {
            return;
        }
        let mut groups = BTreeMap::clone(&self.groups.load());
        groups.extend(pressed.into_iter().map(|pressed| (pressed.group, pressed.members)));
        self.groups.store(Arc::new(groups));
    }

    /// Forgets who was under pressure.
    pub(super) fn clear(&self) {
        if !self.groups.load().is_empty() {
            self.groups.store(Arc::default());
        }
    }

    /// Whether a client's batches are taken whatever the class. `producer_id` is that of an idempotent producer.
    pub fn has(&self, client: ReaderId, producer_id: Option<i64>) -> bool {
        let groups = self.groups.load();
        let group = producer_id.and_then(|id| self.committers.lock().get(&id).copied());
        groups.iter().any(|(name, members)| members.contains(&client) || group == Some(hash(name)))
    }
}

/// Stands for a group's name, however long that is.
fn hash(group: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    group.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, last: u8) -> ReaderId {
        ReaderId::new(name, [10, 0, 0, last].into())
    }

    fn pressed(group: &str, members: &[(&str, &str)]) -> Vec<Pressed> {
        vec![Pressed::new(&group.into(), members.iter().copied())]
    }

    #[test]
    fn members_are_spared_by_name_and_address_until_nothing_is_shed() {
        let spared = Spared::default();
        assert!(!spared.has(client("join-1", 1), None));
        spared.add(pressed("join", &[("join-1", "/10.0.0.1"), ("rdkafka", "/10.0.0.1"), ("x", "nowhere")]));
        spared.add(pressed("other", &[("other-1", "/10.0.0.2")]));
        assert!(spared.has(client("join-1", 1), None) && spared.has(client("other-1", 2), Some(7)));
        assert!(!spared.has(client("join-1", 2), None), "the same name somewhere else");
        assert!(!spared.has(client("rdkafka", 1), None), "anybody's name");
        spared.add(pressed("join", &[("join-2", "/10.0.0.1")]));
        assert!(!spared.has(client("join-1", 1), None), "it has left the group");
        assert!(spared.has(client("join-2", 1), None) && spared.has(client("other-1", 2), None));
        spared.clear();
        assert!(!spared.has(client("join-2", 1), None));
    }

    #[test]
    fn a_producer_is_spared_while_the_group_that_it_has_committed_for_is_under_pressure() {
        let spared = Spared::default();
        spared.note_committer(7, "join");
        assert!(!spared.has(client("rdkafka", 1), Some(7)));
        spared.add(pressed("join", &[]));
        assert!(spared.has(client("rdkafka", 1), Some(7)));
        assert!(!spared.has(client("rdkafka", 1), Some(8)) && !spared.has(client("rdkafka", 1), None));
        spared.note_committer(7, "other");
        assert!(!spared.has(client("rdkafka", 1), Some(7)));
        for id in 0..2 * COMMITTERS_MAX as i64 {
            spared.note_committer(id, "join");
            assert!(spared.committers.lock().len() <= COMMITTERS_MAX);
        }
    }

    #[test]
    fn what_clients_call_themselves_unasked_is_no_name() {
        assert!(["", "rdkafka", "kafka-python-2.0.2"].into_iter().all(|name| !is_name(name)));
        assert!(["join-1", "consumer-join-1", "rdkafka-join"].into_iter().all(is_name));
    }
}
