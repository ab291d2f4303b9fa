//! Records: reading pages of them, following them, and producing.

mod cursor;
mod follow;
mod found;
mod input;
mod page;
mod produce;
mod query;
mod shown;
mod tail;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use log_core::log::LogReader;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::call::CLIENT_ID;
use super::extract::{Path, Query, Shared};
use super::gate::Gate;
use super::{ApiError, ErrorBody};
use crate::handler::Context;
use crate::http::topics::find;
use crate::partition::Partition;
use crate::quota::Direction;
use cursor::{ReadLog, Scan, ScanError};
use found::Found;
use page::{Page, Wanted};
use query::{Selection, Start, place};
use shown::Shown;

/// Bytes of records, decompressed, that one request looks through at most.
const SCAN_BYTES_MAX: usize = 32 << 20;

/// The routes of this room.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new().routes(routes!(read, produce::produce)).routes(routes!(follow::follow))
}

/// Records, and where to go on.
#[derive(Serialize, ToSchema)]
struct Records {
    records: Vec<Shown>,
    /// By partition, the offset to go on from: the `offset` of the next request, as `0:12,1:40`. It is past what was
    /// looked through, with or without a record found.
    #[schema(value_type = BTreeMap<String, i64>)]
    next: BTreeMap<i32, i64>,
    /// By partition, the end of what can be read: the high watermark, or the last stable offset for `read_committed`.
    #[schema(value_type = BTreeMap<String, i64>)]
    end: BTreeMap<i32, i64>,
    /// With `from=latest`: whether records before these are missing, because 32 MiB were looked through before they were
    /// found, or because the log is damaged there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
}

/// Reads records: from an offset, from a time, the earliest or the latest. Without a beginning it reads the earliest.
///
/// Several partitions are merged by time. One request looks through 32 MiB of records at most; with a `key` an answer may
/// have fewer records than there are, or none, and goes on with `next`. The latest are then `incomplete`.
#[utoipa::path(
    get, path = "/api/v1/topics/{topic}/records", tag = "records",
    params(("topic", description = "The topic's name"), Selection),
    responses(
        (status = 200, body = Records),
        (status = 400, description = "A parameter that is not understood, or an offset past the end", body = ErrorBody),
        (status = 404, description = "There is no such topic or partition", body = ErrorBody),
        (status = 429, description = "The quota of client id `http` is spent", body = ErrorBody),
        (status = 500, description = "The log is damaged there", body = ErrorBody),
        (status = 503, description = "Too many requests at once", body = ErrorBody),
    ),
)]
async fn read(
    State(context): State<Arc<Context>>,
    Shared(gate): Shared,
    Path(topic): Path<String>,
    Query(selection): Query<Selection>,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), ApiError> {
    let (_, all) = find(&context, &topic)?;
    let start = selection.start()?.unwrap_or(Start::Earliest);
    let latest = start == Start::Latest;
    // The last records are looked for from the end on, back to the log's start at most.
    let start = if latest { Start::Earliest } else { start };
    let from = placed(&context, selection.partitions(&all)?, start, Start::Earliest, &selection).await?;
    let value_bytes_max = selection.value_bytes_max();
    let wanted = Wanted {
        from,
        records_max: selection.page_limit(),
        bytes_max: selection.bytes_max(),
        value_bytes_max,
    };
    let make = move |read_log: ReadLog| {
        let mut scan = Scan {
            read_log,
            isolation: selection.isolation(),
            key: selection.key(),
            bytes_left: SCAN_BYTES_MAX,
        };
        let page = if latest { page::last(&wanted, &mut scan) } else { page::forward(&wanted, &mut scan) }?;
        // Here, because there may be megabytes of it.
        let text = serde_json::to_vec(&Records {
            records: page.records.iter().map(|found| Shown::of(found, value_bytes_max)).collect(),
            next: page.next.iter().copied().collect(),
            end: page.end.iter().copied().collect(),
            incomplete: page.incomplete,
        });
        Ok((page, text))
    };
    let (page, text) = on_threads(&context, &gate, make).await?;
    account(&context, &all, &page)?;
    let text = text.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(([(CONTENT_TYPE, "application/json")], text))
}

/// Where each partition is read from, see [`place`]. A time is looked for on a blocking thread.
async fn placed(
    context: &Context,
    partitions: Vec<Arc<Partition>>,
    start: Start,
    otherwise: Start,
    selection: &Selection,
) -> Result<Vec<(Arc<Partition>, i64)>, ApiError> {
    let isolation = selection.isolation();
    match start {
        Start::Time(_) => {
            context.cold_reads.run(move || place(partitions, &start, &otherwise, isolation)).await
        }
        _ => place(partitions, &start, &otherwise, isolation),
    }
}

/// Reads on a blocking thread: what is in memory at once, else when it is a cold read's turn.
async fn on_threads<T: Send + 'static>(
    context: &Context,
    gate: &Gate,
    read: impl Fn(ReadLog) -> Result<T, ScanError> + Send + Sync + 'static,
) -> Result<T, ApiError> {
    let turn = gate.read().await?;
    let read = Arc::new(read);
    let first = read.clone();
    // The turn goes along: whoever asked may be gone long before the thread is done.
    let done = match tokio::task::spawn_blocking(move || (first(LogReader::read_resident), turn)).await {
        Ok((Err(ScanError::Cold), turn)) => {
            let read = move || {
                let _turn = turn;
                read(LogReader::read)
            };
            context.cold_reads.run(read).await
        }
        Ok((done, _turn)) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    done.map_err(|error| match error {
        ScanError::Gone(_) => ApiError::not_found(error),
        ScanError::Cold | ScanError::Unreadable { .. } => {
            tracing::error!(%error, "records cannot be read");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error)
        }
    })
}

/// Counts what is handed out, if the quota has it.
///
/// # Errors
/// 429 if it has not.
fn account(context: &Context, partitions: &[Arc<Partition>], page: &Page) -> Result<(), ApiError> {
    let mut bytes: BTreeMap<i32, u64> = BTreeMap::new();
    for Found { partition, size_bytes, .. } in &page.records {
        *bytes.entry(*partition).or_default() += *size_bytes as u64;
    }
    let all = bytes.values().sum();
    context.quotas.try_spend(Direction::Fetch, CLIENT_ID, all).map_err(ApiError::over_quota)?;
    context.metrics.fetched_bytes.inc_by(all);
    for (index, bytes) in bytes {
        if let Some(partition) = usize::try_from(index).ok().and_then(|index| partitions.get(index)) {
            partition.traffic().fetched(bytes);
        }
    }
    Ok(())
}
