//! What all HTTP requests share: bounds on how much they take at once, and the one client that they are.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;
use crate::handler::ConnectionInfo;

/// Bytes of bodies that are held at a time, in units of [`BODY_UNIT`].
const BODY_BYTES_MAX: usize = 128 << 20;

/// What a body's share is counted in.
const BODY_UNIT: usize = 1 << 10;

/// Pages of records that are made at a time. Each may hold decompressed batches.
const READS_MAX: usize = 8;

/// How long a request waits for its turn before it is told to come back.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Shared by all connections of a broker's HTTP side.
pub(super) struct Gate {
    body_units: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    /// Whom records are produced by, so that a quota holds up all of HTTP together, as it would a client. Load shedding
    /// refuses what it would hold up of one client, so that it does not hold up the others.
    producer: Arc<ConnectionInfo>,
    /// The next partition for a record without a key, modulo how many there are.
    round: AtomicUsize,
}

impl Gate {
    pub(super) fn new() -> Gate {
        Gate {
            body_units: Arc::new(Semaphore::new(BODY_BYTES_MAX / BODY_UNIT)),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            producer: Arc::new(ConnectionInfo::of_many(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))),
            round: AtomicUsize::new(0),
        }
    }

    /// Room for a body of so many bytes, for as long as what is returned lives.
    ///
    /// # Errors
    /// 503 when there is none for [`TURN_WAIT`].
    pub(super) async fn body(&self, bytes: u64) -> Result<OwnedSemaphorePermit, ApiError> {
        let units = usize::try_from(bytes).unwrap_or(usize::MAX).min(BODY_BYTES_MAX).div_ceil(BODY_UNIT);
        turn(&self.body_units, units as u32).await
    }

    /// A turn to read records.
    ///
    /// # Errors
    /// As [`body`](Gate::body).
    pub(super) async fn read(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        turn(&self.reads, 1).await
    }

    /// Whom records are produced by, once no quota holds it up.
    ///
    /// # Errors
    /// 429 when it is held up for longer than [`TURN_WAIT`].
    pub(super) async fn producer(&self) -> Result<Arc<ConnectionInfo>, ApiError> {
        match tokio::time::timeout(TURN_WAIT, self.producer.mute.over()).await {
            Ok(()) => Ok(self.producer.clone()),
            Err(_) => Err(ApiError::over_quota(TURN_WAIT)),
        }
    }

    /// Whose turn it is among `partitions`, of which there is at least one.
    pub(super) fn next_partition(&self, partitions: usize) -> usize {
        // Relaxed: it only has to go round.
        self.round.fetch_add(1, Ordering::Relaxed) % partitions
    }
}

async fn turn(semaphore: &Arc<Semaphore>, permits: u32) -> Result<OwnedSemaphorePermit, ApiError> {
    match tokio::time::timeout(TURN_WAIT, semaphore.clone().acquire_many_owned(permits)).await {
        Ok(permit) => Ok(permit.expect("never closed")),
        Err(_) => Err(ApiError::unavailable("too many requests are being answered; try again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_is_told_to_come_back() {
        let gate = Gate::new();
        let all = gate.body(u64::MAX).await.unwrap();
        assert_eq!(
            gate.body(1).await.unwrap_err(),
            ApiError::unavailable("too many requests are being answered; try again")
        );
        drop(all);
        assert!(gate.body(1).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_lasts_is_an_answer_of_its_own() {
        let gate = Gate::new();
        gate.producer().await.unwrap().mute.impose(Duration::from_secs(3600));
        assert_eq!(gate.producer().await.unwrap_err(), ApiError::over_quota(TURN_WAIT));
    }
}
