//! Frames off a socket: their length checked before anything is allocated for them, each charged to the global
//! budget, the receive buffer used again and again.
//!
//! ```text
//! length i32 │ api key i16 │ version i16 │ correlation id i32 │ …
//! ```
//! The payload is copied once on its way to the log, from the receive buffer into the segment. So that it is not
//! copied within the receive buffer as well, a large frame is read to its last byte and no further: what follows
//! it starts at the front of the buffer, which the kernel then fills while it is still in the processor's cache.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use log_core::wire::{ApiKey, CONTROL_AMPLIFICATION_MAX};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::BrokerConfig;

/// Length, API key, version and correlation id: what every request has.
const HEAD_BYTES: usize = LENGTH_BYTES + FRAME_BYTES_MIN;
const LENGTH_BYTES: usize = 4;
const FRAME_BYTES_MIN: usize = 8;

/// What is asked of the kernel when no frame has begun: a whole small request, usually, or several.
const READ_BYTES: usize = 16 << 10;

/// Frames up to this size are not charged to the budget: the caps on connections and on queued replies bound them.
const FREE_BYTES: usize = 4 << 10;

/// How long a connection that has nothing to say keeps its receive buffer.
const BUFFER_KEPT: Duration = Duration::from_secs(1);

/// Buffers up to this size are kept for as long as the connection lasts.
const BUFFER_BYTES_KEPT: usize = 4 << 10;

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// No request for longer than was to be waited for.
    #[error("idle")]
    Idle,
    /// A frame's length cannot be right.
    #[error("a frame of {size} bytes: at least {FRAME_BYTES_MIN} and at most {max} are accepted")]
    Size {
        /// What its length field says.
        size: i32,
        /// What `request_bytes_max` allows.
        max: u32,
    },
    /// A frame began and did not end within `request_receive_ms`.
    #[error("only {have} of a request's {want} bytes arrived within {within_ms} ms")]
    HalfSent {
        /// Bytes received, the length field included.
        have: usize,
        /// Bytes announced, the length field included; that field's when not even it arrived whole.
        want: usize,
        /// The deadline that passed.
        within_ms: u64,
    },
    /// The connection ended within a frame.
    #[error("the connection ended after {have} bytes of a request")]
    Truncated {
        /// Bytes received, the length field included.
        have: usize,
    },
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
}

impl ReceiveError {
    /// The label under which it is counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            ReceiveError::Idle => "idle",
            ReceiveError::Size { .. } => "frame_size",
            ReceiveError::HalfSent { .. } => "half_sent",
            ReceiveError::Truncated { .. } => "truncated",
            ReceiveError::Socket(_) => "socket",
        }
    }
}

/// A frame's share of the budget, given back when dropped.
pub(super) type Charge = Option<OwnedSemaphorePermit>;

/// The receiving half of a connection.
pub(super) struct Receiver {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    frame_bytes_max: u32,
    idle_after: Duration,
    frame_within: Duration,
}

impl Receiver {
    /// `unread` was received already; a connection is idle after `idle_after`.
    pub(super) fn new(
        socket: OwnedReadHalf,
        unread: BytesMut,
        config: &BrokerConfig,
        idle_after: Duration,
        budget: Arc<Semaphore>,
    ) -> Self {
        Receiver {
            socket,
            buffer: unread,
            budget,
            budget_bytes: config.requests_in_flight_bytes_max as usize,
            frame_bytes_max: config.request_bytes_max,
            idle_after,
            frame_within: Duration::from_millis(config.request_receive_ms),
        }
    }

    /// The socket, and what was received and is not part of a frame that was handed out.
    pub(super) fn into_parts(self) -> (OwnedReadHalf, BytesMut) {
        (self.socket, self.buffer)
    }

    /// Whether something was received that is not part of a frame that was handed out.
    pub(super) fn has_unread(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Waits until a frame has begun. False: the client has closed the connection between two frames.
    ///
    /// A connection is only idle while `idle()` says that no answer is being waited for.
    ///
    /// # Errors
    /// See [`ReceiveError`]; all of them end the connection.
    pub(super) async fn begins(&mut self, idle: impl Fn() -> bool) -> Result<bool, ReceiveError> {
        Ok(self.has_unread() || self.first_bytes(idle).await?)
    }

    /// The rest of a frame that has begun, without its length.
    ///
    /// # Errors
    /// See [`ReceiveError`]; all of them end the connection.
    pub(super) async fn frame(&mut self) -> Result<(Bytes, Charge), ReceiveError> {
        let deadline = Instant::now() + self.frame_within;
        while self.buffer.len() < LENGTH_BYTES {
            self.read(READ_BYTES, LENGTH_BYTES, deadline).await?;
        }
        let size = i32::from_be_bytes([self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]]);
        if size < FRAME_BYTES_MIN as i32 || size as u32 > self.frame_bytes_max {
            return Err(ReceiveError::Size { size, max: self.frame_bytes_max });
        }
        let size = size as usize;
        let whole = LENGTH_BYTES + size;
        while self.buffer.len() < HEAD_BYTES {
            self.read(READ_BYTES, whole, deadline).await?;
        }
        let charge = self.charge(size, deadline).await?;
        while self.buffer.len() < whole {
            let missing = whole - self.buffer.len();
            // A small frame may bring the beginning of the next one along, a large one may not.
            let most = if missing < READ_BYTES { READ_BYTES } else { missing };
            self.read(most, whole, deadline).await?;
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok((self.buffer.split_to(size).freeze(), charge))
    }

    /// Waits for the first bytes of a frame. False: the client has closed the connection.
    async fn first_bytes(&mut self, idle: impl Fn() -> bool) -> Result<bool, ReceiveError> {
        let mut waited = Duration::ZERO;
        loop {
            let was_idle = idle();
            // A buffer that is there anyway is read into at once, so that a wait costs no call that finds nothing.
            let keeps_buffer = waited.is_zero() && self.buffer.capacity() > BUFFER_BYTES_KEPT;
            let wait = if keeps_buffer { BUFFER_KEPT.min(self.idle_after) } else { self.idle_after - waited };
            let received = timeout(wait, async {
                if !keeps_buffer {
                    self.socket.readable().await?;
                }
                self.buffer.reserve(READ_BYTES);
                self.socket.read_buf(&mut (&mut self.buffer).limit(READ_BYTES)).await
            });
            match received.await {
                Ok(Ok(bytes)) => return Ok(bytes > 0),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if keeps_buffer && self.idle_after > BUFFER_KEPT => {
                    self.buffer = BytesMut::new();
                    waited = BUFFER_KEPT;
                }
                Err(_) if was_idle && idle() => return Err(ReceiveError::Idle),
                Err(_) => waited = Duration::ZERO,
            }
        }
    }

    /// Reads at least one and at most `most` bytes.
    async fn read(&mut self, most: usize, whole: usize, deadline: Instant) -> Result<(), ReceiveError> {
        self.buffer.reserve(most);
        let have = self.buffer.len();
        let mut buffer = (&mut self.buffer).limit(most);
        match timeout_at(deadline, self.socket.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => Err(ReceiveError::Truncated { have }),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(self.half_sent(whole)),
        }
    }

    /// Takes a frame's share of the budget, waiting for it if it is spent.
    async fn charge(&self, size: usize, deadline: Instant) -> Result<Charge, ReceiveError> {
        if size <= FREE_BYTES {
            return Ok(None);
        }
        let key = i16::from_be_bytes([self.buffer[4], self.buffer[5]]);
        // Produce refers to the frame's bytes; what other requests decode to can be much larger than they are.
        let cost =
            if key == ApiKey::Produce.code() { size } else { size.saturating_mul(CONTROL_AMPLIFICATION_MAX) };
        let cost = cost.min(self.budget_bytes).min(u32::MAX as usize) as u32;
        match self.budget.clone().try_acquire_many_owned(cost) {
            Ok(charge) => Ok(Some(charge)),
            Err(_) => match timeout_at(deadline, self.budget.clone().acquire_many_owned(cost)).await {
                Ok(charge) => Ok(Some(charge.expect("the budget's semaphore is never closed"))),
                Err(_) => Err(self.half_sent(LENGTH_BYTES + size)),
            },
        }
    }

    fn half_sent(&self, want: usize) -> ReceiveError {
        ReceiveError::HalfSent {
            have: self.buffer.len(),
            want,
            within_ms: self.frame_within.as_millis() as u64,
        }
    }
}
