//! `GET /metrics`: what the broker counts, which partitions are read-only, and the lag of every group as of now.
//!
//! Lag is not counted anywhere; it is computed when it is asked for, and written behind the other metrics.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::coordinator::transaction::{self, TransactionCoordinator};
use crate::handler::Context;
use crate::lag::{self, GroupLag, PartitionLag};
use crate::metrics::escaped;
use crate::partition::Registry;
use crate::runtime::{Transactions, Unavailable};
use crate::telemetry::append_metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What ends a text in the OpenMetrics format.
const END: &str = "# EOF\n";

pub(super) async fn metrics(State(context): State<Arc<Context>>) -> Response {
    let mut text = context.metrics.encode();
    append_damage(&mut text, &context.partitions);
    match TransactionCounts::of_all(&context.transactions).await {
        Ok(counts) => append_transactions(&mut text, &counts),
        Err(error) => tracing::debug!(%error, "metrics without transactions"),
    }
    match lag::of_all_groups(&context).await {
        Ok(groups) => append_lag(&mut text, &groups),
        // The other metrics are needed most when something is wrong.
        Err(error) => tracing::debug!(%error, "metrics without lag"),
    }
    context.telemetry.expire(Instant::now());
    reopen(&mut text);
    append_metrics(&mut text, &context.telemetry);
    text.push_str(END);
    ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}

/// Takes the end off a text, so that more can be written.
fn reopen(text: &mut String) {
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

/// Writes the lag of `groups` behind the metrics in `text`.
fn append_lag(text: &mut String, groups: &[GroupLag]) {
    reopen(text);
    family(
        text,
        groups,
        "group_lag_records",
        "Records between a group's committed offset and the log end",
        |lag| lag.lag_records.to_string(),
    );
    family(
        text,
        groups,
        "group_lag_seconds",
        "Age of the first record that a group has not consumed",
        |lag| lag.lag_seconds.to_string(),
    );
    text.push_str(END);
}

fn family(
    text: &mut String,
    groups: &[GroupLag],
    name: &str,
    help: &str,
    value: impl Fn(&PartitionLag) -> String,
) {
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments).expect("a String takes whatever is written to it");
    };
    line(format_args!("# HELP highwater_{name} {help}.\n# TYPE highwater_{name} gauge\n"));
    for group in groups {
        let group_label = escaped(&group.group);
        for lag in &group.partitions {
            // Topic names need no escaping: they consist of letters, digits, '.', '_' and '-'.
            line(format_args!(
                "highwater_{name}{{group=\"{group_label}\",topic=\"{}\",partition=\"{}\"}} {}\n",
                lag.topic,
                lag.partition,
                value(lag)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_written_before_the_end_with_labels_escaped() {
        let lag = PartitionLag {
            topic: "flights".into(),
            partition: 3,
            committed_offset: 10,
            log_end_offset: 52,
            lag_records: 42,
            lag_seconds: 1.5,
        };
        let group = GroupLag { group: "a\"b\\c\nd".into(), partitions: vec![lag] };
        let mut text = "highwater_x 1\n# EOF\n".to_owned();
        append_lag(&mut text, &[group]);
        let labels = r#"group="a\"b\\c\nd",topic="flights",partition="3""#;
        assert!(text.starts_with("highwater_x 1\n# HELP highwater_group_lag_records "), "{text}");
        assert!(text.contains(&format!("highwater_group_lag_records{{{labels}}} 42\n")), "{text}");
        assert!(text.contains(&format!("highwater_group_lag_seconds{{{labels}}} 1.5\n")), "{text}");
        assert!(text.ends_with("1.5\n# EOF\n") && text.matches(END).count() == 1, "{text}");
    }
}
