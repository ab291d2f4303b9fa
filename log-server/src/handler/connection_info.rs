//! What is known of a connection, for its handlers and for whoever lists them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Mute;
use crate::clock::now_ms;

/// Bytes of a client id that are kept to be shown. Clients choose them, and there are many connections.
const CLIENT_ID_BYTES_MAX: usize = 256;

/// A connection: who is at its other end, and what has gone over it.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// A number for the logs, unique within this run.
    pub id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// Name and version of the client's software, once ApiVersions v3 or later has told them.
    pub software: OnceLock<(String, String)>,
    /// Until when it is not read, because its client is over a quota.
    pub mute: Mute,
    /// What its last request called the client. Locked for a copy, and changed only when the name does.
    client_id: Mutex<Option<Arc<str>>>,
    connected_at: Instant,
    connected_at_ms: i64,
    // Relaxed, all of them: they are shown, and nothing is decided by them.
    /// When the last request came, in milliseconds after `connected_at`.
    last_request_after_ms: AtomicU64,
    requests: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl ConnectionInfo {
    /// A connection that is made at this moment.
    pub fn new(id: u64, peer: SocketAddr) -> ConnectionInfo {
        ConnectionInfo {
            id,
            peer,
            software: OnceLock::new(),
            mute: Mute::default(),
            client_id: Mutex::default(),
            connected_at: Instant::now(),
            connected_at_ms: now_ms(),
            last_request_after_ms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// What stands for all clients of another protocol that are this broker's client together.
    pub fn of_many(peer: SocketAddr) -> ConnectionInfo {
        ConnectionInfo { mute: Mute::shared(), ..ConnectionInfo::new(0, peer) }
    }

    /// Counts a request of so many bytes, its length included.
    pub fn request_received(&self, at: Instant, bytes: u64) {
        let after = at.saturating_duration_since(self.connected_at);
        self.last_request_after_ms.store(after.as_millis() as u64, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of answers.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Keeps what the client calls itself, or the beginning of it.
    pub fn set_client_id(&self, client_id: Option<&str>) {
        let kept = client_id.map(|id| &id[..id.floor_char_boundary(CLIENT_ID_BYTES_MAX)]);
        *self.client_id.lock() = kept.map(Into::into);
    }

    /// What the client calls itself, if it does.
    pub fn client_id(&self) -> Option<Arc<str>> {
        self.client_id.lock().clone()
    }

    /// When the connection was made, in milliseconds since the epoch.
    pub fn connected_at_ms(&self) -> i64 {
        self.connected_at_ms
    }

    /// When its last request came, in milliseconds since the epoch; `None` before the first.
    pub fn last_request_at_ms(&self) -> Option<i64> {
        let after = Duration::from_millis(self.last_request_after_ms.load(Ordering::Relaxed));
        (self.requests() > 0).then(|| self.connected_at_ms + after.as_millis() as i64)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of them.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the answers.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_client_ids_are_cut_between_characters() {
        let info = ConnectionInfo::new(1, ([127, 0, 0, 1], 1).into());
        assert_eq!((info.client_id(), info.last_request_at_ms()), (None, None));
        info.set_client_id(Some(&"ä".repeat(300)));
        assert_eq!(info.client_id().unwrap().chars().count(), 128);
        info.request_received(Instant::now() + Duration::from_secs(2), 10);
        assert!(info.last_request_at_ms().unwrap() >= info.connected_at_ms() + 2000);
    }
}
