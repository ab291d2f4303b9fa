//! `highwater lag`: what each group is behind by, in records and in seconds, and when it will have caught up.

mod over_http;
mod over_kafka;

pub use over_kafka::timestamps;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use log_client::Client;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::connect::{self, Bootstrap, text};
use crate::http::HttpAddress;
use crate::human;
use crate::say;
use crate::table::table;

/// The exit status of a group that is further behind than it may be.
const TOO_FAR_BEHIND: u8 = 3;

/// Show how far groups are behind, in records and in seconds, and when they will have caught up.
///
/// Seconds are the age of the first record that the group has not consumed; 0 when it has caught up. Of a cluster of
/// Highwater it is told over HTTP, with rates and members, and records are those that the group will see. Of another,
/// records are offsets.
#[derive(Args)]
pub struct Lag {
    /// Groups to show; all without it
    groups: Vec<String>,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Where the broker serves HTTP, HOST:PORT; without it the broker is asked
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Only this topic
    #[arg(long, short)]
    topic: Option<String>,
    /// One line a group instead of one a partition
    #[arg(long)]
    summary: bool,
    /// Show again and again, every so many seconds
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
    /// JSON instead of a table, one object a partition and line
    #[arg(long)]
    json: bool,
    /// End with status 3 if one of the groups is further behind than this, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "watch")]
    fail_above: Option<Duration>,
}

/// What a group is behind by in one partition.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct Row {
    group: String,
    topic: String,
    partition: i32,
    committed_offset: i64,
    log_end_offset: i64,
    lag_records: i64,
    /// `None` where the first unconsumed record could not be had.
    lag_seconds: Option<f64>,
    consume_records_per_second: Option<f64>,
    produce_records_per_second: Option<f64>,
    catch_up_seconds: Option<f64>,
    member_id: Option<String>,
    client_id: Option<String>,
    /// Of all partitions of the group together.
    #[serde(skip)]
    group_catch_up_seconds: Option<f64>,
}

/// How the cluster is asked.
enum Source {
    Http(HttpAddress),
    Kafka(Client),
}

impl Lag {
    /// Shows it once, or until interrupted.
    pub fn run(self) -> Outcome {
        connect::run(async move {
            tokio::select! {
                outcome = self.show() => outcome,
                _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
            }
        })
    }

    async fn show(&self) -> Outcome {
        let source = self.source().await?;
        let topic = self.topic.as_deref();
        loop {
            let rows = match &source {
                Source::Http(http) => over_http::measure(http, &self.groups, topic).await?,
                Source::Kafka(client) => over_kafka::measure(client, &self.groups, topic).await?,
            };
            if self.watch.is_some() && !self.json {
                // Home, and clear from there: less flicker than clearing first.
                say!("\x1b[H\x1b[J{}\n", human::time(Timestamp::now().as_millisecond()));
            }
            self.print(&rows)?;
            match self.watch {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => return Ok(self.status(&rows)),
            }
        }
    }

    async fn source(&self) -> Result<Source, String> {
        if let Some(address) = &self.http {
            return Ok(Source::Http(HttpAddress::at(address.clone())));
        }
        let client = self.bootstrap.connect().await?;
        Ok(match over_http::find(&client).await {
            Some(http) => Source::Http(http),
            None => Source::Kafka(client),
        })
    }

    /// A lag in seconds that is not known is no reason to be content.
    fn status(&self, rows: &[Row]) -> ExitCode {
        let allowed = self.fail_above.map_or(f64::INFINITY, |allowed| allowed.as_secs_f64());
        let is_behind = |row: &Row| match row.lag_seconds {
            Some(seconds) => seconds > allowed,
            None => self.fail_above.is_some(),
        };
        if rows.iter().any(is_behind) { ExitCode::from(TOO_FAR_BEHIND) } else { ExitCode::SUCCESS }
    }

    fn print(&self, rows: &[Row]) -> Result<(), String> {
        if self.json {
            for row in rows {
                say!("{}", serde_json::to_string(row).map_err(text)?);
            }
            return Ok(());
        }
        if self.summary {
            print_groups(rows);
        } else {
            print_partitions(rows);
        }
        Ok(())
    }
}

fn print_groups(rows: &[Row]) {
    let mut shown = table(&[
        "GROUP",
        "#PARTITIONS",
        "#LAG RECORDS",
        "#LAG SECONDS",
        "#CONSUMED/S",
        "#PRODUCED/S",
        "#CATCH UP",
    ]);
    let groups: BTreeSet<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    for group in groups {
        let of_group: Vec<&Row> = rows.iter().filter(|row| row.group == group).collect();
        let sum = |rate: fn(&Row) -> Option<f64>| {
            of_group.iter().filter_map(|row| rate(row)).reduce(|sum, rate| sum + rate)
        };
        let seconds = of_group.iter().try_fold(0.0, |most, row| Some(row.lag_seconds?.max(most)));
        shown.add_row([
            group.to_owned(),
            of_group.len().to_string(),
            human::count(of_group.iter().map(|row| row.lag_records).sum()),
            decimal(seconds),
            decimal(sum(|row| row.consume_records_per_second)),
            decimal(sum(|row| row.produce_records_per_second)),
            span(of_group.first().and_then(|row| row.group_catch_up_seconds)),
        ]);
    }
    say!("{shown}");
}

fn print_partitions(rows: &[Row]) {
    let mut shown = table(&[
        "GROUP",
        "TOPIC",
        "#PARTITION",
        "#COMMITTED",
        "#END",
        "#LAG RECORDS",
        "#LAG SECONDS",
        "#CONSUMED/S",
        "#PRODUCED/S",
        "#CATCH UP",
        "MEMBER",
    ]);
    for row in rows {
        shown.add_row([
            row.group.clone(),
            row.topic.clone(),
            row.partition.to_string(),
            human::count(row.committed_offset),
            human::count(row.log_end_offset),
            human::count(row.lag_records),
            decimal(row.lag_seconds),
            decimal(row.consume_records_per_second),
            decimal(row.produce_records_per_second),
            span(row.catch_up_seconds),
            row.member_id.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    say!("{shown}");
}

fn decimal(number: Option<f64>) -> String {
    number.map_or("?".to_owned(), |number| format!("{number:.1}"))
}

/// Seconds as a person says them; `-` for a time that does not come.
fn span(seconds: Option<f64>) -> String {
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.ceil()).ok()) {
        Some(span) => humantime::format_duration(span).to_string(),
        None => "-".to_owned(),
    }
}

fn nothing_committed(group: &str, topic: Option<&str>) -> String {
    let for_topic = topic.map(|topic| format!(" for topic {topic}")).unwrap_or_default();
    format!(
        "group {group} has committed nothing{for_topic}\n  `highwater group list` shows the groups that there are."
    )
}
