//! Which records the consumers of a partition ask for: those of open and aborted transactions too, or committed ones
//! only. The protocol says so with every fetch and nowhere else, so it is noted there, for whoever tells how far
//! behind a consumer is.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use log_core::log::Isolation;
use parking_lot::Mutex;

/// Readers that are remembered of a partition, 16 bytes each. The one that came first goes first.
const READERS_MAX: usize = 16;

/// A client as it can be told from others: by what it calls itself and where it connects from. A number that stands for
/// both; that two of them get the same one is unlikely, and would matter little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId(u64);

impl ReaderId {
    /// The client that calls itself `client_id` at `address`.
    pub fn new(client_id: &str, address: IpAddr) -> ReaderId {
        let mut hasher = DefaultHasher::new();
        (client_id, address.to_canonical()).hash(&mut hasher);
        ReaderId(hasher.finish())
    }

    /// The same of a group's member, whose host is written as Kafka writes it: `/127.0.0.1`.
    pub fn of_member(client_id: &str, client_host: &str) -> Option<ReaderId> {
        Some(ReaderId::new(client_id, client_host.trim_start_matches('/').parse().ok()?))
    }
}

/// How the clients that fetched last from a partition read it.
#[derive(Debug, Default)]
pub struct Readers {
    /// In the order in which they came. Guarded for as long as it takes to go through them, once a fetch.
    seen: Mutex<VecDeque<(ReaderId, Isolation)>>,
}

impl Readers {
    /// Notes a fetch.
    pub fn note(&self, reader: ReaderId, isolation: Isolation) {
        let mut seen = self.seen.lock();
        if let Some((_, known)) = seen.iter_mut().find(|(other, _)| *other == reader) {
            *known = isolation;
            return;
        }
        if seen.len() == READERS_MAX {
            seen.pop_front();
        }
        seen.push_back((reader, isolation));
    }

    /// How a client reads, if it has fetched.
    pub fn isolation_of(&self, reader: ReaderId) -> Option<Isolation> {
        self.seen.lock().iter().find(|(other, _)| *other == reader).map(|(_, isolation)| *isolation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_of_a_few_clients_is_known() {
        let readers = Readers::default();
        let reader = |number: usize| ReaderId::new(&format!("app-{number}"), [127, 0, 0, 1].into());
        for number in 0..=READERS_MAX {
            readers.note(reader(number), Isolation::Uncommitted);
        }
        readers.note(reader(3), Isolation::Committed);
        assert_eq!(readers.isolation_of(reader(0)), None, "there is room for the others only");
        assert_eq!(readers.isolation_of(reader(1)), Some(Isolation::Uncommitted));
        assert_eq!(readers.isolation_of(reader(3)), Some(Isolation::Committed));
        assert_eq!(ReaderId::of_member("app-3", "/127.0.0.1"), Some(reader(3)));
        assert_eq!(ReaderId::new("app-3", "::ffff:127.0.0.1".parse().unwrap()), reader(3));
        assert_eq!(ReaderId::of_member("app-3", "somewhere"), None);
    }
}
