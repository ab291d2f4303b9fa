//! `highwater trace`: every record that carries a correlation id, over all topics, in order of time.

mod marks;
mod search;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use log_client::{Admin, Client, TopicPartition};

use self::marks::Marks;
use self::search::{Counts, Found, search};
use crate::Outcome;
use crate::connect::{self, Bootstrap, text};
use crate::format::Format;
use crate::human;
use crate::offsets::Isolation;
use crate::place::Place;
use crate::range::{Range, ranges};
use crate::say;
use crate::table::table;
use crate::topics::TopicChoice;

/// How often the bar moves.
const SHOW_INTERVAL: Duration = Duration::from_millis(200);

/// Find every record that carries a correlation id, over all topics, in order of time.
///
/// Looks at headers (correlation-id and its spellings, x-request-id, the trace id of a W3C traceparent), at the key, and
/// at the fields correlation_id, correlationId, trace_id and traceId of JSON values. Reads every record of the time
/// asked for: narrow it with --since, --until and --topic where there is much.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater trace 7f3c9a
  highwater trace 4bf92f3577b34da6a3ce929d0e0e4736 --since 2h --topic orders --topic payments:0,1
  highwater trace 1042 --json-field order.id --since first
  highwater trace ERR-17 --value-contains --format json")]
pub struct Trace {
    /// The id to look for
    id: String,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// In this topic, or some of its partitions (orders:0,2), instead of all but the internal ones; repeat for several
    #[arg(long, short, value_name = "TOPIC[:N,N]")]
    topic: Vec<TopicChoice>,
    /// Where to begin: first, an offset, a time (RFC 3339, or @ and ms since the epoch), or how long ago (10m)
    #[arg(long, value_name = "PLACE", default_value = "24h")]
    since: Place,
    /// Where to end, written as for --since. The end as it is now without it
    #[arg(long, value_name = "PLACE")]
    until: Option<Place>,
    /// Look at this header instead of the usual ones; repeat for several
    #[arg(long, value_name = "NAME")]
    header: Vec<String>,
    /// Look at this field of JSON values instead of the usual ones (order.id is a field in an object); repeat for
    /// several
    #[arg(long, value_name = "FIELD")]
    json_field: Vec<String>,
    /// Take any value that contains the id, too
    #[arg(long)]
    value_contains: bool,
    /// What to read of transactions: everything, or what has been committed, up to the first that is still open
    #[arg(long, value_enum, default_value_t = Isolation::ReadUncommitted)]
    isolation: Isolation,
    /// Stop when so many are found
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10_000)]
    limit: u64,
    /// Consumers that read at a time, 1 to 16
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    readers: u8,
    /// How to print what is found
    #[arg(long, value_enum, default_value_t = Shown::Table)]
    format: Shown,
    /// No progress and no summary
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// A line a record: time, time since the one before, topic, partition, offset, where the id stands, and the key
    Table,
    /// One JSON object a line, as `consume --format json` prints it, with found_in and since_previous_ms
    Json,
}

impl Trace {
    /// Searches. Ends with 1 if nothing is found, or something could not be looked at.
    pub fn run(self) -> Outcome {
        connect::run(async move { self.search().await })
    }

    async fn search(&self) -> Outcome {
        let client = self.bootstrap.connect().await?;
        let admin = Admin::new(&client);
        let partitions = self.partitions(&admin).await?;
        let ranges = ranges(&admin, &partitions, self.since, self.until, self.isolation.into()).await?;
        let counts = Arc::new(Counts::default());
        let started = Instant::now();
        let outcome = self.search_with_bar(&client, &ranges, &counts).await?;
        self.print(&outcome.found)?;
        let looked_at = human::count(counts.records.load(Ordering::Relaxed) as i64);
        let summary = format!(
            "looked at {looked_at} records of {} partitions in {:.2} s",
            ranges.len(),
            started.elapsed().as_secs_f64()
        );
        for unread in &outcome.unread {
            eprintln!("highwater: not looked at: {unread}");
        }
        if outcome.found.is_empty() {
            return Err(format!(
                "no record carries {}; {summary}.\n  --since goes back further, --value-contains looks into all \
                 of the value.",
                self.id
            ));
        }
        if !self.quiet {
            eprintln!("\n{} found; {summary}.", human::count(outcome.found.len() as i64));
        }
        if counts.is_full(self.limit) {
            eprintln!(
                "highwater: there may be more: the search stopped here. --limit says how many it takes."
            );
        }
        Ok(if outcome.unread.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn partitions(&self, admin: &Admin) -> Result<Vec<TopicPartition>, String> {
        let mut partitions = Vec::new();
        for choice in &self.topic {
            partitions.extend(choice.resolve(admin).await?);
        }
        if self.topic.is_empty() {
            // Kafka counts only its own among the internal ones; by convention two underscores say so.
            let topics = admin.list_topics().await.map_err(text)?.into_iter();
            let topics = topics.filter(|topic| !topic.is_internal && !topic.name.starts_with("__"));
            partitions = topics
                .flat_map(|topic| {
                    let numbers = 0..topic.partitions.len() as i32;
                    numbers.map(move |number| TopicPartition::new(topic.name.clone(), number))
                })
                .collect();
        }
        partitions.sort();
        partitions.dedup();
        Ok(partitions)
    }

    async fn search_with_bar(
        &self,
        client: &Client,
        ranges: &BTreeMap<TopicPartition, Range>,
        counts: &Arc<Counts>,
    ) -> Result<search::Outcome, String> {
        let or = |named: &[String], usual: &[&str]| match named.is_empty() {
            true => usual.iter().map(ToString::to_string).collect(),
            false => named.to_vec(),
        };
        let headers = or(&self.header, &marks::HEADERS);
        let fields = or(&self.json_field, &marks::FIELDS);
        let marks = Arc::new(Marks::new(&self.id, &headers, &fields, self.value_contains));
        let total = ranges.values().map(|range| range.len()).sum();
        let bar = bar(self.quiet, total);
        let isolation = self.isolation.into();
        let readers = usize::from(self.readers);
        let search = search(client, ranges, marks, isolation, readers, self.limit, counts.clone());
        let mut search = std::pin::pin!(search);
        loop {
            tokio::select! {
                outcome = &mut search => {
                    bar.finish_and_clear();
                    return outcome;
                }
                () = tokio::time::sleep(SHOW_INTERVAL) => bar.set_position(counts.records.load(Ordering::Relaxed)),
            }
        }
    }

    fn print(&self, found: &[Found]) -> Result<(), String> {
        let mut rows =
            table(&["TIME", "#SINCE PREVIOUS", "TOPIC", "#PARTITION", "#OFFSET", "FOUND IN", "KEY"]);
        let mut previous_ms = None;
        for Found { record, place } in found {
            let since_ms = previous_ms.map(|previous| record.timestamp_ms - previous);
            previous_ms = Some(record.timestamp_ms);
            if self.format == Shown::Json {
                let mut line = Vec::new();
                Format::Json.write(&mut line, record).map_err(text)?;
                let mut object: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_slice(&line).map_err(text)?;
                object.insert("found_in".to_owned(), place.as_str().into());
                object.insert("since_previous_ms".to_owned(), since_ms.into());
                say!("{}", serde_json::Value::from(object));
                continue;
            }
            rows.add_row([
                human::time(record.timestamp_ms),
                since_ms.map_or("-".to_owned(), |ms| format!("{} ms", human::count(ms))),
                record.topic.to_string(),
                record.partition.to_string(),
                human::count(record.offset),
                place.clone(),
                record.key.as_deref().map_or("-".to_owned(), human::excerpt),
            ]);
        }
        if self.format == Shown::Table && !found.is_empty() {
            say!("{rows}");
        }
        Ok(())
    }
}

/// A bar over the offsets, on a terminal.
fn bar(quiet: bool, total: u64) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} to go") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
