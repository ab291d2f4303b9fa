//! The lag of every group on `/metrics`.

use std::fmt::{Display, Write};

use super::metrics::reopen;
use crate::lag::{GroupLag, PartitionLag};
use crate::metrics::{END, escaped};

/// Writes the lag of `groups` behind the metrics in `text`. What is not known has no line.
pub(super) fn append(text: &mut String, groups: &[GroupLag]) {
    reopen(text);
    let mut partitions = |name, help, value: &dyn Fn(&PartitionLag) -> Option<Value>| {
        by_partition(text, groups, name, help, value);
    };
    partitions(
        "lag_records",
        "Records that a group will see between its committed offset and the end",
        &|lag| Some(Value::Count(lag.lag_records)),
    );
    partitions("lag_seconds", "Age in seconds of the first record that a group has not consumed", &|lag| {
        lag.lag_seconds.map(Value::Float)
    });
    partitions("consume_records_per_second", "Records that a group commits a second", &|lag| {
        lag.rates.consume_records_per_second.map(Value::Float)
    });
    partitions("produce_records_per_second", "Records for a group to read that come in a second", &|lag| {
        lag.rates.produce_records_per_second.map(Value::Float)
    });
    let mut wholes = |name, help, value: &dyn Fn(&GroupLag) -> Option<Value>| {
        by_group(text, groups, name, help, value);
    };
    wholes("catch_up_seconds", "Seconds until a group has consumed its lag; none if it never will", &|lag| {
        lag.rates.catch_up_seconds.map(Value::Float)
    });
    wholes("members", "Members of a group", &|lag| {
        Some(Value::Count(i64::try_from(lag.members.len()).unwrap_or(i64::MAX)))
    });
    wholes(
        "lag_exact",
        "1 if the records of a group's lag are counted exactly, 0 until the log is looked through",
        &|lag| Some(Value::Count(lag.is_exact().into())),
    );
    text.push_str(END);
}

enum Value {
    Count(i64),
    Float(f64),
}

impl Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Count(count) => count.fmt(f),
            Value::Float(float) => float.fmt(f),
        }
    }
}

fn by_partition(
    text: &mut String,
    groups: &[GroupLag],
    name: &str,
    help: &str,
    value: &dyn Fn(&PartitionLag) -> Option<Value>,
) {
    head(text, name, help);
    for group in groups {
        let label = escaped(&group.group);
        for lag in &group.partitions {
            let Some(value) = value(lag) else { continue };
            // Topic names need no escaping: they consist of letters, digits, '.', '_' and '-'.
            let (topic, partition) = (&lag.topic, lag.partition);
            line(
                text,
                format_args!(
                    "{name}{{group=\"{label}\",topic=\"{topic}\",partition=\"{partition}\"}} {value}"
                ),
            );
        }
    }
}

fn by_group(
    text: &mut String,
    groups: &[GroupLag],
    name: &str,
    help: &str,
    value: &dyn Fn(&GroupLag) -> Option<Value>,
) {
    head(text, name, help);
    for group in groups {
        let Some(value) = value(group) else { continue };
        line(text, format_args!("{name}{{group=\"{}\"}} {value}", escaped(&group.group)));
    }
}

fn head(text: &mut String, name: &str, help: &str) {
    *text += &format!("# HELP highwater_group_{name} {help}.\n# TYPE highwater_group_{name} gauge\n");
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "highwater_group_{line}").expect("a String takes whatever is written to it");
}

#[cfg(test)]
mod tests {
    use log_core::log::Isolation;

    use super::*;
    use crate::coordinator::group::{GroupProtocol, GroupState};
    use crate::lag::Rates;

    #[test]
    fn lag_is_written_before_the_end_with_labels_escaped() {
        let partition = PartitionLag {
            topic: "flights".into(),
            partition: 3,
            committed_offset: 10,
            committed_at_ms: 0,
            log_start_offset: 0,
            log_end_offset: 52,
            isolation: Isolation::Uncommitted,
            lag_records: 42,
            exact: true,
            lag_seconds: Some(1.5),
            first_offset: None,
            rates: Rates::default(),
            member_id: None,
            client_id: None,
        };
        let group = GroupLag {
            group: "a\"b\\c\nd".into(),
            state: GroupState::Empty,
            protocol_type: "".into(),
            protocol: GroupProtocol::OffsetsOnly,
            members: Vec::new(),
            partitions: vec![partition],
            rates: Rates::default(),
        };
        let mut group = group;
        group.rates.catch_up_seconds = Some(2.25);
        let mut text = "highwater_x 1\n# EOF\n".to_owned();
        append(&mut text, &[group]);
        let labels = r#"group="a\"b\\c\nd",topic="flights",partition="3""#;
        assert!(text.starts_with("highwater_x 1\n# HELP highwater_group_lag_records "), "{text}");
        assert!(text.contains(&format!("highwater_group_lag_records{{{labels}}} 42\n")), "{text}");
        assert!(text.contains(&format!("highwater_group_lag_seconds{{{labels}}} 1.5\n")), "{text}");
        assert!(
            text.contains("highwater_group_catch_up_seconds{group=\"a\\\"b\\\\c\\nd\"} 2.25\n"),
            "{text}"
        );
        assert!(!text.contains("highwater_group_consume_records_per_second{"), "it is not known: {text}");
        assert!(text.ends_with("\n# EOF\n") && text.matches(END).count() == 1, "{text}");
    }
}
