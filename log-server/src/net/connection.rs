//! One connection: frames in, answers out in the same order.
//!
//! ```text
//! socket ─► Receiver ─► dispatch ─► queue of replies (bounded) ─► Sender ─► socket
//! ```
//! Both halves live in one task, so that an answer that is ready needs no other thread to be woken. The reader runs
//! ahead of the writer by at most [`REPLIES_QUEUED_MAX`] requests; when the client does not take its answers it
//! stops being read.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use log_core::wire::{ApiKey, RequestHeader};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::receiver::{ReceiveError, Receiver};
use super::sender::{SendError, Sender};
use crate::handler::{self, ConnectionInfo, Context, PendingFrame, Refusal, Reply, Request};
use crate::metrics::Phase;
use crate::partition::Turn;

/// Answers that may be queued or waited for on one connection before it is not read any further.
const REPLIES_QUEUED_MAX: usize = 64;

/// A reply with what is needed to account for it.
struct Queued {
    reply: Reply,
    api: ApiKey,
    received_at: Instant,
    /// When the handler returned.
    handled_at: Instant,
}

/// Why a connection ended.
enum End {
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

/// Serves a connection until either side ends it.
pub(super) async fn serve(
    stream: TcpStream,
    info: Arc<ConnectionInfo>,
    context: Arc<Context>,
    budget: Arc<Semaphore>,
) {
    // Answers are written whole, so there is nothing for Nagle's algorithm to gather.
    let _ = stream.set_nodelay(true);
    let (read_half, write_half) = stream.into_split();
    let mut last = LastRequest::default();
    let (queue, replies) = mpsc::channel(REPLIES_QUEUED_MAX);
    let mut receiver = Receiver::new(read_half, &context.config, budget);
    let sender = Sender::new(write_half, Duration::from_millis(context.config.response_send_ms));
    let end = {
        let read = read_requests(&mut receiver, queue, &info, &context, &mut last);
        let write = write_replies(sender, replies, &info, &context);
        tokio::pin!(read, write);
        tokio::select! {
            // The writer ends when the queue is closed and empty, with an error, or with a refusal that it met.
            end = &mut write => end,
            // The reader ends when there is no more to read. What is queued is still answered when it was the
            // client's mistake or our shutdown that ended it, and dropped when nobody is there to receive it.
            end = &mut read => match end {
                End::Quiet if !context.shutdown.is_cancelled() => End::Quiet,
                end => match write.await {
                    End::Quiet => end,
                    earlier => earlier,
                },
            },
        }
    };
    report(end, &info, &last, &context);
}

/// Reads frames and dispatches them in order until there is nothing more to read.
async fn read_requests(
    receiver: &mut Receiver,
    queue: mpsc::Sender<Queued>,
    info: &Arc<ConnectionInfo>,
    context: &Arc<Context>,
    last: &mut LastRequest,
) -> End {
    loop {
        // A place in the queue first: a request is only read when its answer has somewhere to go.
        let Ok(place) = queue.reserve().await else { return End::Quiet };
        // A client that is over its quota is left to wait, with what it sends in the system's buffers.
        if muted(info, context).await {
            return End::Quiet;
        }
        let idle = || queue.capacity() + 1 == queue.max_capacity();
        let received = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return End::Quiet,
            received = receiver.frame(idle) => received,
        };
        let (frame, charge) = match received {
            Ok(Some(received)) => received,
            Ok(None) => return End::Quiet,
            Err(ReceiveError::Idle) => return End::Idle,
            Err(error) => return End::Receive(error),
        };
        // An answer that came in between may have told the client to wait.
        if muted(info, context).await {
            return End::Quiet;
        }
        let received_at = Instant::now();
        context.metrics.received_bytes.inc_by(frame.len() as u64 + 4);
        info.request_received(received_at, frame.len() as u64 + 4);
        let (mut header, body) = match RequestHeader::decode(frame) {
            Ok(decoded) => decoded,
            Err(error) => return End::Refused(Refusal::new(format!("request header: {error}"))),
        };
        if last.note(&mut header) {
            info.set_client_id(header.client_id.as_deref());
        }
        let Some(api) = header.served().filter(|api| handler::HANDLED.contains(api)) else {
            if header.api_key == ApiKey::ApiVersions.code() {
                let reply = handler::unsupported_version(&header).into();
                place.send(Queued { reply, api: ApiKey::ApiVersions, received_at, handled_at: received_at });
                continue;
            }
            return End::Refused(Refusal::new("the API or its version is not served"));
        };
        let request = Request { api, header, body, connection: info.clone(), received_at };
        let reply = match AssertUnwindSafe(handler::dispatch(context, request)).catch_unwind().await {
            Ok(reply) => reply,
            Err(_) => return End::Panicked,
        };
        drop(charge);
        let handled_at = Instant::now();
        context.metrics.requests.spent(api, Phase::Handle, handled_at - received_at);
        match reply {
            // Nothing will be sent, so the place goes back unused.
            Reply::None => context.metrics.requests.answered(api, handled_at - received_at),
            reply => {
                let refused = matches!(reply, Reply::Close(_));
                place.send(Queued { reply, api, received_at, handled_at });
                if refused {
                    // The writer ends the connection when it gets there. Nothing behind it may take effect.
                    queue.closed().await;
                    return End::Quiet;
                }
            }
        }
    }
}

/// Waits until the connection may be read. Whether the broker began to stop instead.
async fn muted(info: &ConnectionInfo, context: &Context) -> bool {
    tokio::select! {
        biased;
        () = info.mute.over() => false,
        () = context.shutdown.cancelled() => true,
    }
}

/// Sends the answers in the order of their requests until the queue is closed and empty.
async fn write_replies(
    mut sender: Sender,
    mut replies: mpsc::Receiver<Queued>,
    info: &ConnectionInfo,
    context: &Arc<Context>,
) -> End {
    let requests = &context.metrics.requests;
    // Answers that are gathered, and when each was there. Used again and again.
    let mut gathered: Vec<(ApiKey, Instant)> = Vec::new();
    while let Some(first) = replies.recv().await {
        let mut next = Some(first);
        while let Some(queued) = next.take() {
            let taken_at = Instant::now();
            requests.spent(queued.api, Phase::Queue, taken_at - queued.handled_at);
            let waits = !matches!(queued.reply, Reply::Ready(_));
            let queued_bytes = match queued.reply {
                Reply::Ready(frame) => Ok(sender.push(frame)),
                Reply::Pending(pending) => answer(&mut sender, pending).await,
                Reply::PendingSync(turn, pending) if replies.is_empty() && sender.is_empty() => {
                    let Some((back, answered)) = answer_with_sync(sender, turn, pending).await else {
                        return End::Panicked;
                    };
                    sender = back;
                    match answered {
                        Answered::Sent(bytes) => Ok(bytes),
                        Answered::Waits(pending) => answer(&mut sender, pending).await,
                        Answered::Not(end) => Err(end),
                    }
                }
                Reply::PendingSync(turn, pending) => {
                    // The sync is to have begun before anybody waits for it.
                    drop(turn);
                    answer(&mut sender, pending).await
                }
                Reply::Close(refusal) => return flush_then(&mut sender, End::Refused(refusal)).await,
                Reply::None => continue,
            };
            let bytes = match queued_bytes {
                Ok(bytes) => bytes,
                Err(end) => return end,
            };
            let answered_at = if waits { Instant::now() } else { taken_at };
            if waits {
                requests.spent(queued.api, Phase::Wait, answered_at - taken_at);
            }
            requests.answered(queued.api, answered_at - queued.received_at);
            gathered.push((queued.api, answered_at));
            context.metrics.sent_bytes.inc_by(bytes);
            info.sent(bytes);
            if sender.wants_flush() {
                break;
            }
            next = replies.try_recv().ok();
        }
        if let Err(error) = sender.flush().await {
            return End::Send(error);
        }
        let sent_at = Instant::now();
        for (api, answered_at) in gathered.drain(..) {
            requests.spent(api, Phase::Send, sent_at - answered_at);
        }
    }
    End::Quiet
}

/// Waits for an answer and queues it. Those that are there already do not wait behind it. Returns its size in bytes.
async fn answer(sender: &mut Sender, mut pending: PendingFrame) -> Result<u64, End> {
    let waited = match AssertUnwindSafe(&mut pending).catch_unwind().now_or_never() {
        Some(done) => done,
        None => {
            sender.flush().await.map_err(End::Send)?;
            AssertUnwindSafe(pending).catch_unwind().await
        }
    };
    match waited {
        Ok(Ok(frame)) => Ok(sender.push(frame)),
        Ok(Err(refusal)) => Err(flush_then(sender, End::Refused(refusal)).await),
        Err(_) => Err(flush_then(sender, End::Panicked).await),
    }
}

/// What has become of an answer that the thread which syncs was to send.
enum Answered {
    /// Its bytes are sent, or queued.
    Sent(u64),
    /// It is not there yet.
    Waits(PendingFrame),
    /// There is none.
    Not(End),
}

/// Has the thread that syncs send the answer, which is there then. The sender comes back, but for a bug.
async fn answer_with_sync(
    mut sender: Sender,
    turn: Turn,
    mut pending: PendingFrame,
) -> Option<(Sender, Answered)> {
    let (back, answered) = oneshot::channel();
    let runtime = Handle::current();
    turn.sync_then(move || {
        let _entered = runtime.enter();
        let answer = match AssertUnwindSafe(&mut pending).catch_unwind().now_or_never() {
            Some(Ok(Ok(frame))) => {
                let bytes = sender.push(frame);
                sender.send_at_once();
                Answered::Sent(bytes)
            }
            Some(Ok(Err(refusal))) => Answered::Not(End::Refused(refusal)),
            Some(Err(_)) => Answered::Not(End::Panicked),
            None => Answered::Waits(pending),
        };
        // Nobody takes it if the connection has ended.
        let _ = back.send((sender, answer));
    });
    answered.await.ok()
}

async fn flush_then(sender: &mut Sender, end: End) -> End {
    match sender.flush().await {
        Ok(()) => end,
        Err(error) => End::Send(error),
    }
}

/// What the log line says of the request that ended a connection.
#[derive(Default)]
struct LastRequest {
    header: Option<RequestHeader>,
}

impl LastRequest {
    /// Notes a request. Whether its client calls itself otherwise than the one before.
    fn note(&mut self, header: &mut RequestHeader) -> bool {
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

/// One count for a connection that has ended, and a log line if it was the broker that has closed it.
fn report(end: End, info: &ConnectionInfo, last: &LastRequest, context: &Context) {
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
            ("panic", "the handler panicked; this is a bug, please report it with the lines above".to_owned())
        }
    };
    context.metrics.connection_closed(reason);
    let client_id = last.header.as_ref().and_then(|header| header.client_id.as_deref()).unwrap_or("");
    tracing::warn!(peer = %info.peer, connection = info.id, client_id, request = %last, why, "closed a connection");
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
