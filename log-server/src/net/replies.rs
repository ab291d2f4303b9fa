//! A connection's answers: taken from the queue in the order of their requests, waited for and sent.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use log_core::wire::ApiKey;
use tokio::sync::mpsc;

use super::connection::End;
use super::sender::Sender;
use super::unanswered::Unanswered;
use crate::handler::{ConnectionInfo, Context, PendingFrame, Reply};
use crate::metrics::Phase;

/// A reply with what is needed to account for it.
pub(super) struct Queued {
    pub(super) reply: Reply,
    pub(super) api: ApiKey,
    pub(super) received_at: Instant,
    /// When the handler returned.
    pub(super) handled_at: Instant,
}

/// Sends the answers in the order of their requests until the queue is closed and empty.
pub(super) async fn write(
    sender: &mut Sender,
    mut replies: mpsc::Receiver<Queued>,
    info: &ConnectionInfo,
    context: &Arc<Context>,
    unanswered: &Unanswered,
) -> End {
    let requests = &context.metrics.requests;
    // Answers that are gathered, and when each was there. Used again and again.
    let mut gathered: Vec<(ApiKey, Instant)> = Vec::new();
    while let Some(first) = replies.recv().await {
        let mut next = Some(first);
        let mut synced = None;
        while let Some(queued) = next.take() {
            let taken_at = Instant::now();
            requests.spent(queued.api, Phase::Queue, taken_at - queued.handled_at);
            let waits = !matches!(queued.reply, Reply::Ready(_));
            let queued_bytes = match queued.reply {
                Reply::Ready(frame) => Ok(sender.push(frame)),
                Reply::Pending(pending) => answer(sender, pending).await,
                Reply::PendingSync(turn, pending) => {
                    synced = turn.sync();
                    if sender.client_has_sent() {
                        unanswered.note_company();
                    }
                    answer(sender, pending).await
                }
                Reply::Close(refusal) => return flush_then(sender, End::Refused(refusal)).await,
                // There is nothing to be sent for it, so it is never queued.
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
        unanswered.sent(gathered.len());
        let sent_at = Instant::now();
        for (api, answered_at) in gathered.drain(..) {
            requests.spent(api, Phase::Send, sent_at - answered_at);
        }
        if let Some(flush) = synced {
            flush.map_in();
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

async fn flush_then(sender: &mut Sender, end: End) -> End {
    match sender.flush().await {
        Ok(()) => end,
        Err(error) => End::Send(error),
    }
}
