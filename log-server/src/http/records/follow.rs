//! Following records as server-sent events.
//!
//! The next records are read when the client has taken the ones before: a slow reader has a page of them here, and the
//! rest stays in the log. Every event's id says where all partitions stand behind it, so that a client that comes back
//! with the last one misses nothing and sees nothing twice.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::stream::{self, Stream};
use log_core::log::Isolation;
use tokio::sync::Notify;

use super::cursor::Scan;
use super::page::{self, Wanted};
use super::query::{Selection, Start, parse_offsets};
use super::shown::Shown;
use super::{SCAN_BYTES_MAX, account, on_threads, placed};
use crate::handler::Context;
use crate::http::extract::{Path, Query, Shared};
use crate::http::gate::Gate;
use crate::http::topics::find;
use crate::http::{ApiError, ErrorBody};
use crate::partition::{Awaited, Partition};

/// Partitions that are followed together at most: an event's id has all of them.
const PARTITIONS_MAX: usize = 256;

/// Records and bytes that are read ahead of a client.
const RECORDS_AHEAD_MAX: usize = 100;
const BYTES_AHEAD_MAX: usize = 256 << 10;

/// How often a silent stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a stream waits that finds too many others reading.
const TURN_PAUSE: Duration = Duration::from_millis(500);

/// Follows records as server-sent events: from now on without a beginning, or from an offset, a time, the earliest.
///
/// Each event is called `record`, its data is a record as a page has it, and its id is for `Last-Event-ID`. Within a
/// partition records come by offset; what is there already is merged by time. The stream ends after `limit` records, when
/// the broker stops, and, with an event `end` that says why, when records cannot be read any more.
#[utoipa::path(
    get, path = "/api/v1/topics/{topic}/records/stream", tag = "records",
    params(
        ("topic", description = "The topic's name"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on behind this event; goes before any beginning"),
        Selection,
    ),
    responses(
        (status = 200, description = "A stream of events `record`", content_type = "text/event-stream", body = String),
        (status = 400, description = "A parameter that is not understood, or an offset past the end", body = ErrorBody),
        (status = 404, description = "There is no such topic or partition", body = ErrorBody),
    ),
)]
pub(super) async fn follow(
    State(context): State<Arc<Context>>,
    Shared(gate): Shared,
    Path(topic): Path<String>,
    Query(selection): Query<Selection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let (_, all) = find(&context, &topic)?;
    let partitions = selection.partitions(&all)?;
    if partitions.len() > PARTITIONS_MAX {
        return Err(ApiError::bad_request(format!(
            "{PARTITIONS_MAX} partitions can be followed together; name one by partition="
        )));
    }
    let last_event = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let (start, otherwise) = match last_event {
        // A partition that the id does not have was added since.
        Some(id) if !id.is_empty() => (parse_offsets(id)?, Start::Earliest),
        _ => (selection.start()?.unwrap_or(Start::Latest), Start::Latest),
    };
    let positions = placed(&context, partitions, start, otherwise, &selection).await?;
    let follower = Follower {
        left: selection.stream_limit(),
        all,
        positions,
        selection,
        events: VecDeque::new(),
        ended: false,
        context,
        gate,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Follower {
    context: Arc<Context>,
    gate: Arc<Gate>,
    /// The topic's partitions, by index.
    all: Arc<[Arc<Partition>]>,
    /// Where each followed partition stands behind the events that are made.
    positions: Vec<(Arc<Partition>, i64)>,
    selection: Selection,
    /// Made and not taken.
    events: VecDeque<Event>,
    /// Records that may still be sent, if that is limited.
    left: Option<usize>,
    ended: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.ended || self.left == Some(0) || self.context.shutdown.is_cancelled() {
                return None;
            }
            let wake = Arc::new(Notify::new());
            // Before the look, so that nothing is missed that comes in between.
            let _registrations = self.register(&wake);
            match self.look().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Event::default().event("end").data(error.to_json()));
                }
            }
            tokio::select! {
                biased;
                () = self.context.shutdown.cancelled() => return None,
                () = wake.notified() => {}
            }
        }
    }

    fn register(&self, wake: &Arc<Notify>) -> Vec<crate::partition::Registration> {
        let awaited = match self.selection.isolation() {
            Isolation::Committed => Awaited::LastStable,
            Isolation::Uncommitted | Isolation::LogEnd => Awaited::HighWatermark,
        };
        let waits = self
            .positions
            .iter()
            .map(|(partition, position)| partition.waiters().register(position + 1, awaited, wake.clone()));
        waits.collect()
    }

    /// Makes events of what there is. Whether anything was gone through.
    async fn look(&mut self) -> Result<bool, ApiError> {
        if self.positions.iter().any(|(partition, _)| partition.is_closed()) {
            return Err(ApiError::not_found("the topic is being deleted"));
        }
        let value_bytes_max = self.selection.value_bytes_max();
        let wanted = Wanted {
            from: self.positions.clone(),
            records_max: self.left.unwrap_or(RECORDS_AHEAD_MAX).min(RECORDS_AHEAD_MAX),
            bytes_max: BYTES_AHEAD_MAX,
            value_bytes_max,
        };
        let (isolation, key) = (self.selection.isolation(), self.selection.key());
        let read = move |read_log| {
            let mut scan = Scan { read_log, isolation, key: key.clone(), bytes_left: SCAN_BYTES_MAX };
            page::forward(&wanted, &mut scan)
        };
        let page = loop {
            match on_threads(&self.context, &self.gate, read.clone()).await {
                Err(error) if error.is_retriable() && !self.context.shutdown.is_cancelled() => {
                    self.pause(TURN_PAUSE).await;
                }
                page => break page?,
            }
        };
        while let Err(error) = account(&self.context, &self.all, &page) {
            self.pause(error.wait().unwrap_or(TURN_PAUSE)).await;
            if self.context.shutdown.is_cancelled() {
                return Ok(false);
            }
        }
        for found in &page.records {
            let place = self.positions.iter_mut().find(|(it, _)| it.index() == found.partition);
            if let Some((_, position)) = place {
                *position = found.record.offset + 1;
            }
            let shown =
                serde_json::to_string(&Shown::of(found, value_bytes_max)).map_err(ApiError::bad_request)?;
            self.events.push_back(Event::default().event("record").id(id(&self.positions)).data(shown));
        }
        self.left = self.left.map(|left| left.saturating_sub(page.records.len()));
        let mut moved = !page.records.is_empty();
        for ((_, position), (_, next)) in self.positions.iter_mut().zip(page.next) {
            moved |= next > *position;
            *position = next.max(*position);
        }
        Ok(moved)
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = self.context.shutdown.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    }
}

/// Where all partitions stand, as [`parse_offsets`] reads it.
fn id(positions: &[(Arc<Partition>, i64)]) -> String {
    let mut id = String::new();
    for (partition, position) in positions {
        let comma = if id.is_empty() { "" } else { "," };
        write!(id, "{comma}{}:{position}", partition.index())
            .expect("a String takes whatever is written to it");
    }
    id
}
