//! Answers onto a socket: parts gathered into vectored writes, never copied together.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
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

    /// Whether the client has sent something that was not received yet.
    pub(super) fn client_has_sent(&self) -> bool {
        SockRef::from(self.socket.as_ref()).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|bytes| bytes > 0)
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_a_client_has_sent_is_seen_until_it_is_received() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut read_half, write_half) = listener.accept().await.unwrap().0.into_split();
        let sender = Sender::new(write_half, Duration::from_secs(1));
        assert!(!sender.client_has_sent());
        client.write_all(b"r").await.unwrap();
        read_half.readable().await.unwrap();
        assert!(sender.client_has_sent() && sender.client_has_sent());
        read_half.read_u8().await.unwrap();
        assert!(!sender.client_has_sent());
        drop(client);
        read_half.readable().await.unwrap();
        assert!(!sender.client_has_sent(), "an end is no request");
    }
}
