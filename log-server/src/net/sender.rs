//! Answers onto a socket: parts gathered into vectored writes, never copied together.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;

use crate::handler::Frame;

/// Parts that one system call takes.
const PARTS_PER_WRITE: usize = 64;

/// Queued bytes above which answers are sent before more of them are gathered.
const GATHER_BYTES: usize = 64 << 10;

/// Why answers cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The client did not take a single byte for `response_send_ms`.
    #[error("no progress for {0:?}")]
    Stalled(Duration),
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
}

/// The sending half of a connection.
pub(super) struct Sender {
    socket: OwnedWriteHalf,
    parts: VecDeque<Bytes>,
    queued_bytes: usize,
    stall_after: Duration,
}

impl Sender {
    pub(super) fn new(socket: OwnedWriteHalf, stall_after: Duration) -> Self {
        Sender { socket, parts: VecDeque::new(), queued_bytes: 0, stall_after }
    }

    /// The socket. What is not sent is dropped.
    pub(super) fn into_socket(self) -> OwnedWriteHalf {
        self.socket
    }

    /// Puts an answer behind those that are not sent yet. Returns its size in bytes.
    pub(super) fn push(&mut self, frame: Frame) -> u64 {
        let bytes: usize = frame.iter().map(Bytes::len).sum();
        self.parts.extend(frame.into_iter().filter(|part| !part.is_empty()));
        self.queued_bytes += bytes;
        bytes as u64
    }

    /// Whether enough is gathered to be sent.
    pub(super) fn wants_flush(&self) -> bool {
        self.queued_bytes >= GATHER_BYTES
    }

    /// Sends all that was pushed.
    ///
    /// # Errors
    /// The socket's, and [`SendError::Stalled`].
    pub(super) async fn flush(&mut self) -> Result<(), SendError> {
        while !self.parts.is_empty() {
            let (slices, count) = slices(&self.parts);
            let write = self.socket.write_vectored(&slices[..count]);
            let written = timeout(self.stall_after, write)
                .await
                .map_err(|_| SendError::Stalled(self.stall_after))??;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.advance(written);
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.queued_bytes -= written;
        while written > 0 {
            let part = self.parts.front_mut().expect("no more is written than was queued");
            if part.len() > written {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.parts.pop_front();
        }
    }
}

/// As many parts as one system call takes, and how many they are.
fn slices(parts: &VecDeque<Bytes>) -> ([IoSlice<'_>; PARTS_PER_WRITE], usize) {
    let mut slices = [IoSlice::new(&[]); PARTS_PER_WRITE];
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    (slices, parts.len().min(PARTS_PER_WRITE))
}
