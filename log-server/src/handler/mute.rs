//! Until when a connection is not read: how a client is held to its quota (KIP-219).

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::topic::Priority;

/// A connection's silence. Handlers impose it, the connection's reader keeps it.
#[derive(Debug, Default)]
pub struct Mute {
    /// The end of it. Locked for a look or a change, never across an await.
    until: Mutex<Option<Instant>>,
    /// The highest class of topics that went on while load was shed, and was written to by this connection: whoever
    /// carries such is not held up for the sake of it. Locked for a look or a change.
    highest: Mutex<Option<Priority>>,
    /// Whether the connection stands for many clients, none of which is to be held up for another.
    shared: bool,
}

impl Mute {
    /// Of a connection that stands for many clients.
    pub fn shared() -> Mute {
        Mute { shared: true, ..Mute::default() }
    }

    /// Whether the connection stands for many clients.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Has the connection not read for `time` from now on, or for longer if it already is to.
    pub fn impose(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut until = self.until.lock();
        *until = Some(until.map_or(end, |before| before.max(end)));
    }

    /// Notes that the connection writes to topics of this class, which goes on while load is shed.
    pub fn carries(&self, class: Priority) {
        let mut highest = self.highest.lock();
        *highest = (*highest).max(Some(class));
    }

    /// The highest class that was noted.
    pub fn highest(&self) -> Option<Priority> {
        *self.highest.lock()
    }

    /// Whether the connection is not to be read.
    pub fn is_imposed(&self) -> bool {
        self.until.lock().is_some_and(|until| until > Instant::now())
    }

    /// Returns when the connection may be read.
    pub async fn over(&self) {
        loop {
            let Some(until) = *self.until.lock() else { return };
            if until <= Instant::now() {
                let mut now = self.until.lock();
                // It may have been prolonged in between.
                if *now == Some(until) {
                    *now = None;
                }
                continue;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_of_several_counts() {
        let mute = Mute::default();
        mute.over().await;
        let start = Instant::now();
        mute.impose(Duration::from_millis(40));
        mute.impose(Duration::from_millis(1));
        mute.over().await;
        assert!(start.elapsed() >= Duration::from_millis(40));
        mute.over().await;
    }
}
