//! One connection: frames in, answers out in the same order.
//!
//! ```text
//! socket ─► Receiver ─► dispatch ─► queue of replies (bounded) ─► Sender ─► socket
//! ```
//! Both halves live in one task, so that an answer that is ready needs no other thread to be woken. The reader runs
//! ahead of the writer by at most [`REPLIES_QUEUED_MAX`] requests; when the client does not take its answers it
//! stops being read.
//!
//! A client whose requests wait for a sync of their own, one at a time, is served on a [`Lane`](super::lane::Lane) for as
//! long as it goes on like that.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use log_core::wire::{ApiKey, RequestHeader};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::lane::{Lane, Lanes};
use super::receiver::{ReceiveError, Receiver};
use super::sender::{SendError, Sender};
use super::unanswered::Unanswered;
use super::{replies, requests};
use crate::handler::{ConnectionInfo, Context, Refusal};

/// Answers that may be queued or waited for on one connection before it is not read any further.
const REPLIES_QUEUED_MAX: usize = 64;

/// How long a connection that has nothing to say keeps its lane: not between the requests of somebody who is slow.
const LANE_KEPT: Duration = Duration::from_millis(200);

/// Why a connection ended.
pub(super) enum End {
    /// The client went away, or the broker is shutting down.
    Quiet,
    /// The client was idle for too long.
    Idle,
    /// Receiving failed: the client broke the protocol or a limit.
    Receive(ReceiveError),
    /// Sending failed.
    Send(SendError),
    /// A request cannot be answered.
    Refused(Refusal),
    /// A handler panicked.
    Panicked,
}

/// Where a connection is served.
pub(super) enum Place {
    /// On the broker's runtime, whose threads must not wait for the disk.
    Runtime,
    /// On a thread of its own, which may. With the broker's runtime.
    Lane(Handle),
}

impl Place {
    pub(super) fn is_lane(&self) -> bool {
        matches!(self, Place::Lane(_))
    }
}

/// What stays with a connection wherever it is served.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) context: Arc<Context>,
    pub(super) last: LastRequest,
    budget: Arc<Semaphore>,
    /// What was received of requests that are not read yet.
    unread: BytesMut,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(
    socket: TcpStream,
    info: Arc<ConnectionInfo>,
    context: Arc<Context>,
    budget: Arc<Semaphore>,
    lanes: Lanes,
) {
    // Answers are written whole, so there is nothing for Nagle's algorithm to gather.
    let _ = socket.set_nodelay(true);
    let (last, unread) = (LastRequest::default(), BytesMut::new());
    let mut connection = Connection { info, context, last, budget, unread };
    let ControlFlow::Break(end) = connection.move_about(socket, &lanes).await;
    connection.report(end);
}

/// What has become of a connection at a place: it has ended, or it moves, with its socket registered nowhere.
type Stayed = ControlFlow<End, std::net::TcpStream>;

impl Connection {
    /// Serves it where it is best off.
    async fn move_about(&mut self, socket: TcpStream, lanes: &Lanes) -> ControlFlow<End, Infallible> {
        let mut socket = unregistered(socket)?;
        loop {
            socket = self.stay(socket, &Place::Runtime).await?;
            if let Some(lane) = lanes.open() {
                socket = self.visit(lane, socket).await?;
            }
        }
    }

    /// Has a lane serve it.
    async fn visit(&mut self, lane: Lane, socket: std::net::TcpStream) -> Stayed {
        let mut visitor = Connection { unread: std::mem::take(&mut self.unread), ..self.clone() };
        let place = Place::Lane(Handle::current());
        let (mut back, returned) = oneshot::channel();
        lane.start(move |runtime| {
            let stayed = match runtime {
                Ok(runtime) => runtime.block_on(async {
                    tokio::select! {
                        stayed = visitor.stay(socket, &place) => stayed,
                        // The broker's runtime is gone, and with it everybody to whom it could go back.
                        () = back.closed() => ControlFlow::Break(End::Quiet),
                    }
                }),
                Err(error) => {
                    tracing::debug!(%error, "no runtime for a connection of its own");
                    ControlFlow::Continue(socket)
                }
            };
            let _ = back.send((visitor, stayed));
        });
        self.context.metrics.connections_on_lanes.inc();
        let returned = returned.await;
        self.context.metrics.connections_on_lanes.dec();
        let Ok((visitor, stayed)) = returned else { return ControlFlow::Break(End::Panicked) };
        *self = visitor;
        stayed
    }

    /// Serves it here until it ends or moves.
    async fn stay(&mut self, socket: std::net::TcpStream, place: &Place) -> Stayed {
        let socket = TcpStream::from_std(socket).map_or_else(broken, ControlFlow::Continue)?;
        let (read_half, write_half) = socket.into_split();
        let (info, context) = (self.info.clone(), self.context.clone());
        let mut idle_after = Duration::from_millis(context.config.connection_idle_ms);
        if place.is_lane() {
            idle_after = idle_after.min(LANE_KEPT);
        }
        let unread = std::mem::take(&mut self.unread);
        let mut receiver = Receiver::new(read_half, unread, &context.config, idle_after, self.budget.clone());
        let mut sender = Sender::new(write_half, Duration::from_millis(context.config.response_send_ms));
        let (queue, replies) = mpsc::channel(REPLIES_QUEUED_MAX);
        let unanswered = Unanswered::default();
        let stayed = {
            let read = requests::read(self, &mut receiver, queue, &unanswered, place);
            let write = replies::write(&mut sender, replies, &info, &context, &unanswered);
            tokio::pin!(read, write);
            tokio::select! {
                // What the reader has queued the writer takes in the same turn.
                biased;
                // The reader ends when there is no more to read here. What is queued is still answered when it was the
                // client's mistake or our shutdown that ended it, and dropped when nobody is there to receive it.
                stayed = &mut read => match stayed {
                    ControlFlow::Break(End::Quiet) if !context.shutdown.is_cancelled() => stayed,
                    stayed => match write.await {
                        End::Quiet => stayed,
                        earlier => ControlFlow::Break(earlier),
                    },
                },
                // The writer ends when the queue is closed and empty, with an error, or with a refusal that it met.
                end = &mut write => ControlFlow::Break(end),
            }
        };
        match stayed {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(End::Idle) if place.is_lane() => {}
            ControlFlow::Break(end) => return ControlFlow::Break(end),
        }
        let (read_half, unread) = receiver.into_parts();
        self.unread = unread;
        unregistered(read_half.reunite(sender.into_socket()).expect("halves of one socket"))
    }

    /// One count for a connection that has ended, and a log line if it was the broker that has closed it.
    fn report(&self, end: End) {
        let Connection { info, context, last, .. } = self;
        let (reason, why) = match end {
            End::Quiet => {
                let stopping = context.shutdown.is_cancelled();
                context.metrics.connection_closed(if stopping { "shutdown" } else { "client" });
                return;
            }
            End::Idle => {
                context.metrics.connection_closed("idle");
                tracing::debug!(peer = %info.peer, "closed an idle connection");
                return;
            }
            End::Receive(error) => (error.reason(), error.to_string()),
            End::Send(error) => {
                context.metrics.connection_closed("send");
                tracing::debug!(peer = %info.peer, %error, "closed: the client does not take its answers");
                return;
            }
            End::Refused(refusal) => ("refused", refusal.to_string()),
            End::Panicked => {
                context.metrics.handler_panics.inc();
                (
                    "panic",
                    "the handler panicked; this is a bug, please report it with the lines above".to_owned(),
                )
            }
        };
        context.metrics.connection_closed(reason);
        let client_id = last.header.as_ref().and_then(|header| header.client_id.as_deref()).unwrap_or("");
        tracing::warn!(peer = %info.peer, connection = info.id, client_id, request = %last, why, "closed a connection");
    }
}

/// Takes a socket from the runtime that it is registered with.
fn unregistered(socket: TcpStream) -> Stayed {
    socket.into_std().map_or_else(broken, ControlFlow::Continue)
}

fn broken<T>(error: io::Error) -> ControlFlow<End, T> {
    ControlFlow::Break(End::Receive(error.into()))
}

/// What the log line says of the request that ended a connection.
#[derive(Clone, Default)]
pub(super) struct LastRequest {
    header: Option<RequestHeader>,
}

impl LastRequest {
    /// Notes a request. Whether its client calls itself otherwise than the one before.
    pub(super) fn note(&mut self, header: &mut RequestHeader) -> bool {
        // The client id is a slice of the frame and would keep the receive buffer alive for as long as the answer is
        // waited for. It hardly ever changes.
        let (client_id, changed) = match &self.header {
            Some(last) if last.client_id == header.client_id => (last.client_id.clone(), false),
            _ => (header.client_id.as_deref().map(Into::into), true),
        };
        header.client_id = client_id;
        self.header = Some(header.clone());
        changed
    }
}

impl fmt::Display for LastRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(header) = &self.header else { return f.write_str("none") };
        match ApiKey::from_code(header.api_key) {
            Some(api) => write!(f, "{api} v{}", header.api_version),
            None => write!(f, "key {} v{}", header.api_key, header.api_version),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_request_keeps_no_slice_of_its_frame() {
        let mut last = LastRequest::default();
        for (client, changed) in [("a", true), ("a", false), ("b", true)] {
            let client_id = Bytes::from(client.to_owned());
            let mut header = RequestHeader {
                api_key: ApiKey::Produce.code(),
                api_version: 9,
                correlation_id: 1,
                client_id: Some(client_id.clone().try_into().unwrap()),
            };
            assert_eq!(last.note(&mut header), changed);
            assert_eq!(header.client_id.as_deref(), Some(client));
            assert!(client_id.is_unique(), "{client}");
        }
    }
}
