//! A connection's requests: read, dispatched in order, and their replies queued.

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use log_core::wire::{ApiKey, RequestHeader};
use tokio::sync::mpsc;
use tokio_util::context::TokioContext;

use super::connection::{Connection, End, Place};
use super::receiver::{ReceiveError, Receiver};
use super::replies::Queued;
use super::unanswered::Unanswered;
use crate::handler::{self, ConnectionInfo, Context, Refusal, Reply, Request};
use crate::metrics::Phase;

/// So many more requests that waited for a sync of their own, with no other request beside them, than did not have a
/// connection go to a lane; so many more that did not have it come back.
const HABIT: usize = 64;

/// Reads frames and dispatches them in order until there is nothing more to read, or the connection is better off at
/// another place and has all its answers.
pub(super) async fn read(
    connection: &mut Connection,
    receiver: &mut Receiver,
    queue: mpsc::Sender<Queued>,
    unanswered: &Unanswered,
    place: &Place,
) -> ControlFlow<End> {
    let Connection { info, context, last, .. } = connection;
    // How many more requests of late speak for another place than for this one.
    let mut elsewhere = 0_usize;
    loop {
        // A place in the queue first: a request is only read when its answer has somewhere to go.
        let Ok(room) = queue.reserve().await else { return ControlFlow::Break(End::Quiet) };
        // A client that is over its quota is left to wait, with what it sends in the system's buffers, and not on a
        // lane.
        if place.is_lane() && info.mute.is_imposed() {
            elsewhere = 2 * HABIT;
        } else if muted(info, context).await {
            return ControlFlow::Break(End::Quiet);
        }
        let begun = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return ControlFlow::Break(End::Quiet),
            () = unanswered.none(), if elsewhere >= HABIT => return ControlFlow::Continue(()),
            // Who always has something unanswered is not read any more in the end, so that he has all his answers.
            begun = receiver.begins(|| unanswered.is_none()), if elsewhere < 2 * HABIT => begun,
        };
        let received = match begun {
            Ok(false) => return ControlFlow::Break(End::Quiet),
            Ok(true) => tokio::select! {
                biased;
                () = context.shutdown.cancelled() => return ControlFlow::Break(End::Quiet),
                received = receiver.frame() => received,
            },
            Err(error) => Err(error),
        };
        let (frame, charge) = match received {
            Ok(received) => received,
            Err(ReceiveError::Idle) => return ControlFlow::Break(End::Idle),
            Err(error) => return ControlFlow::Break(End::Receive(error)),
        };
        // An answer that came in between may have told the client to wait.
        if muted(info, context).await {
            return ControlFlow::Break(End::Quiet);
        }
        let received_at = Instant::now();
        let is_alone = unanswered.is_none() && !receiver.has_unread() && !unanswered.take_company();
        context.metrics.received_bytes.inc_by(frame.len() as u64 + 4);
        info.request_received(received_at, frame.len() as u64 + 4);
        let (mut header, body) = match RequestHeader::decode(frame) {
            Ok(decoded) => decoded,
            Err(error) => {
                return ControlFlow::Break(End::Refused(Refusal::new(format!("request header: {error}"))));
            }
        };
        if last.note(&mut header) {
            info.set_client_id(header.client_id.as_deref());
        }
        let Some(api) = header.served().filter(|api| handler::HANDLED.contains(api)) else {
            if header.api_key == ApiKey::ApiVersions.code() {
                let reply = handler::unsupported_version(&header).into();
                unanswered.add();
                room.send(Queued { reply, api: ApiKey::ApiVersions, received_at, handled_at: received_at });
                continue;
            }
            return ControlFlow::Break(End::Refused(Refusal::new("the API or its version is not served")));
        };
        let request = Request { api, header, body, connection: info.clone(), received_at };
        let Some(reply) = dispatch(context, request, place).await else {
            return ControlFlow::Break(End::Panicked);
        };
        drop(charge);
        let handled_at = Instant::now();
        context.metrics.requests.spent(api, Phase::Handle, handled_at - received_at);
        let is_for_a_lane = is_alone && matches!(reply, Reply::PendingSync(..));
        elsewhere =
            if is_for_a_lane == place.is_lane() { elsewhere.saturating_sub(1) } else { elsewhere + 1 };
        match reply {
            // Nothing will be sent, so the room goes back unused.
            Reply::None => context.metrics.requests.answered(api, handled_at - received_at),
            reply => {
                let refused = matches!(reply, Reply::Close(_));
                let keeps_turn = is_for_a_lane && place.is_lane();
                let reply = if keeps_turn { reply } else { reply.without_turn() };
                unanswered.add();
                room.send(Queued { reply, api, received_at, handled_at });
                if refused {
                    // The writer ends the connection when it gets there. Nothing behind it may take effect.
                    queue.closed().await;
                    return ControlFlow::Break(End::Quiet);
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

/// The handler's reply, or `None` if it panicked.
///
/// What a lane is not there for is handled on it as if it were on the broker's runtime, whose threads and tasks it may
/// need for longer than the lane lasts. Produce needs none, and compresses by itself what it would have the broker's
/// runtime step aside for.
async fn dispatch(context: &Arc<Context>, request: Request, place: &Place) -> Option<Reply> {
    let api = request.api;
    let handled = AssertUnwindSafe(handler::dispatch(context, request)).catch_unwind();
    let Place::Lane(home) = place else { return handled.await.ok() };
    let reply = match api {
        ApiKey::Produce => handled.await,
        _ => TokioContext::new(handled, home.clone()).await,
    };
    match reply.ok()? {
        Reply::Pending(pending) => Some(Reply::Pending(Box::pin(TokioContext::new(pending, home.clone())))),
        reply => Some(reply),
    }
}
