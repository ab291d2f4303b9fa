//! `GET /metrics`: what the broker counts, which partitions are read-only, and the lag of every group as of now.
//!
//! OpenMetrics, or Prometheus' text format 0.0.4 for a scraper that ranks it first in `Accept`.
//!
//! Lag is not counted anywhere; it is computed when it is asked for, and written behind the other metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lag_metrics;
use super::partition_metrics::append_partitions;
use crate::coordinator::transaction::{self, TransactionCoordinator};
use crate::handler::Context;
use crate::lag::{self, LagSample};
use crate::metrics::{END, Format};
use crate::partition::Registry;
use crate::runtime::{Transactions, Unavailable};
use crate::telemetry::append_metrics;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// All metrics, in the OpenMetrics text format or in Prometheus' own, whichever is asked for.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, content_type = "application/openmetrics-text", body = String)),
)]
async fn metrics(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let format = Format::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    let mut text = context.metrics.encode();
    append_damage(&mut text, &context.partitions);
    reopen(&mut text);
    append_partitions(&mut text, &context.partitions, context.config.metrics_partitions_max);
    append_groups(&mut text, &context.lag.latest());
    match TransactionCounts::of_all(&context.transactions).await {
        Ok(counts) => append_transactions(&mut text, &counts),
        Err(error) => tracing::debug!(%error, "metrics without transactions"),
    }
    match lag::of_all_groups(&context).await {
        Ok(groups) => lag_metrics::append(&mut text, &groups),
        // The other metrics are needed most when something is wrong.
        Err(error) => tracing::debug!(%error, "metrics without lag"),
    }
    context.telemetry.expire(Instant::now());
    reopen(&mut text);
    append_metrics(&mut text, &context.telemetry);
    text.push_str(END);
    ([(CONTENT_TYPE, format.content_type()), (VARY, "Accept")], format.of(text)).into_response()
}

/// Takes the end off a text, so that more can be written.
pub(super) fn reopen(text: &mut String) {
    if text.ends_with(END) {
        text.truncate(text.len() - END.len());
    }
}

/// Names every partition that takes no writes because durable data of it is damaged, and every one of which an operator
/// has given something up.
fn append_damage(text: &mut String, partitions: &Registry) {
    reopen(text);
    let (mut read_only, mut lost) = (String::new(), String::new());
    for partition in partitions.all() {
        let (reader, topic, index) = (partition.reader(), partition.topic(), partition.index());
        let labels = format!("{{topic=\"{topic}\",partition=\"{index}\"}}");
        if reader.corruption().is_some() {
            read_only += &format!("highwater_partition_read_only{labels} 1\n");
        }
        if reader.lost_offsets() > 0 {
            lost += &format!("highwater_partition_lost_offsets{labels} {}\n", reader.lost_offsets());
        }
    }
    for (name, help, lines) in [
        ("partition_read_only", "1 for a partition that is damaged and takes no writes", read_only),
        ("partition_lost_offsets", "Offsets that an operator has given up by `highwater repair`", lost),
    ] {
        *text += &format!("# HELP highwater_{name} {help}.\n# TYPE highwater_{name} gauge\n{lines}");
    }
    text.push_str(END);
}

/// Counts groups by what they are and do, as of the newest sample of their lag.
fn append_groups(text: &mut String, sample: &LagSample) {
    reopen(text);
    let mut groups: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for group in &sample.groups {
        *groups.entry((group.protocol.name(), group.state.name())).or_default() += 1;
    }
    *text += "# HELP highwater_groups Groups by their protocol and state.\n# TYPE highwater_groups gauge\n";
    for ((protocol, state), count) in groups {
        *text += &format!("highwater_groups{{protocol=\"{protocol}\",state=\"{state}\"}} {count}\n");
    }
    text.push_str(END);
}

/// What the coordinators know of transactions, counted.
#[derive(Debug, Default)]
struct TransactionCounts {
    by_state: BTreeMap<transaction::State, usize>,
    timed_out: u64,
    markers_pending: usize,
}

impl TransactionCounts {
    async fn of_all(transactions: &Transactions) -> Result<TransactionCounts, Unavailable> {
        let counts = |machine: &TransactionCoordinator| TransactionCounts {
            by_state: machine.count_by_state(),
            timed_out: machine.timed_out(),
            markers_pending: machine.markers_pending(),
        };
        let mut all = TransactionCounts::default();
        for of_shard in transactions.query_all(counts).await? {
            for (state, count) in of_shard.by_state {
                *all.by_state.entry(state).or_default() += count;
            }
            all.timed_out += of_shard.timed_out;
            all.markers_pending += of_shard.markers_pending;
        }
        Ok(all)
    }
}

/// Writes what there is of transactions behind the metrics in `text`.
fn append_transactions(text: &mut String, counts: &TransactionCounts) {
    reopen(text);
    *text += "# HELP highwater_transactional_ids Transactional ids by the state of their transaction.\n";
    *text += "# TYPE highwater_transactional_ids gauge\n";
    for state in transaction::State::ALL {
        let count = counts.by_state.get(&state).copied().unwrap_or_default();
        *text += &format!("highwater_transactional_ids{{state=\"{}\"}} {count}\n", state.name());
    }
    *text += "# HELP highwater_transactions_timed_out Transactions aborted because they took too long.\n";
    *text += "# TYPE highwater_transactions_timed_out counter\n";
    *text += &format!("highwater_transactions_timed_out_total {}\n", counts.timed_out);
    *text +=
        "# HELP highwater_transaction_markers_pending Markers of decided transactions yet to be written.\n";
    *text += "# TYPE highwater_transaction_markers_pending gauge\n";
    *text += &format!("highwater_transaction_markers_pending {}\n", counts.markers_pending);
    text.push_str(END);
}
