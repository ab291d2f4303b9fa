//! What the passing of time does: transactions that take too long are aborted, and ids that nobody uses are forgotten.

use super::{Decision, Event, State, TransactionCoordinator};
use crate::coordinator::machine::Now;
use std::sync::Arc;

/// Transactional ids that one decision aborts or forgets at most. A decision is one batch in the log; this keeps it, and
/// the time for which commands wait, short.
const IDS_PER_DECISION_MAX: usize = 64;

impl TransactionCoordinator {
    pub(super) fn expire(&self, now: Now) -> Decision {
        let mut decision = Decision::none();
        let due = self.deadlines.range(..(now.monotonic_ms.saturating_add(1), Arc::from("")));
        for (_, transactional_id) in due.take(IDS_PER_DECISION_MAX) {
            let fenced = self.entries[transactional_id].transaction.fenced(now);
            // Only the first of several goes to whoever waits; he asks for the others then.
            match decision.replies.is_empty() {
                true => decision.extend(self.store(transactional_id, fenced)),
                false => decision
                    .events
                    .push(Event::Stored { transactional_id: transactional_id.clone(), transaction: fenced }),
            }
            decision.events.push(Event::TimedOut);
        }
        if decision.events.is_empty() && self.sweep_at_ms <= now.monotonic_ms {
            return self.sweep(now);
        }
        decision
    }

    fn sweep(&self, now: Now) -> Decision {
        let idle_since_ms = now.wall_ms.saturating_sub(self.config.expiration_ms);
        let expired = self.entries.iter().filter(|(_, entry)| {
            let transaction = &entry.transaction;
            matches!(transaction.state, State::Empty | State::Complete(_))
                && transaction.updated_at_ms <= idle_since_ms
        });
        let mut events: Vec<_> = expired
            .take(IDS_PER_DECISION_MAX)
            .map(|(transactional_id, _)| Event::Forgotten { transactional_id: transactional_id.clone() })
            .collect();
        if events.len() < IDS_PER_DECISION_MAX {
            let next_ms = now.monotonic_ms.saturating_add(self.config.expiration_check_interval_ms.max(1));
            events.push(Event::Swept { next_ms });
        }
        Decision { events, replies: Vec::new() }
    }
}
