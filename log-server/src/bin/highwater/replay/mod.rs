//! `highwater replay`: copies a range of a topic into another topic or into a file, as it is.
//!
//! The range is fixed before the first record is read, so that a copy ends. Records keep their key, value, headers and
//! time, and within a partition their order. What is copied into a topic is sent idempotently: a request that is
//! repeated doubles nothing. A replay that is ended goes on where it stopped.

mod pace;
mod stops;
mod target;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use log_client::consumer::{OffsetReset, StartAt};
use log_client::{
    Admin, Client, Compression, Consumer, ConsumerConfig, ConsumerRecord, OffsetSpec, TopicPartition,
};
use tokio_util::sync::CancellationToken;

use self::pace::Pace;
use self::stops::{State, Stops};
use self::target::Target;
use crate::Outcome;
use crate::connect::{self, Bootstrap, INTERRUPTED, text};
use crate::human;
use crate::offsets::Isolation;
use crate::place::Place;
use crate::range::{Range, ranges};
use crate::say;
use crate::topics::TopicChoice;

/// How long one look for records lasts.
const POLL: Duration = Duration::from_millis(500);

/// How often what has been reached is made safe and written down.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// Copy a range of a topic into another topic, on the same cluster or another, or into a file.
///
/// Keys, values, headers, times and partitions stay as they are. Ends where the topic ends now. Interrupted, it says
/// how to go on, and ends with status 130.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater replay orders --into orders-copy
  highwater replay orders:0,2 --from 2h --to 1h --into orders-copy --records-per-second 500
  highwater replay orders --into orders --into-bootstrap other:9092 --state orders.state
  highwater replay orders --from 1d --into-file orders.ndjson
  highwater produce orders-again --format record orders.ndjson")]
pub struct Replay {
    /// The topic, or some of its partitions (orders:0,2)
    #[arg(value_name = "TOPIC[:N,N]")]
    source: TopicChoice,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Where to begin: first, last, an offset, a time (RFC 3339, or @ and ms since the epoch), or how long ago (10m)
    #[arg(long, value_name = "PLACE", default_value = "first")]
    from: Place,
    /// Where to end, written as for --from: the record at that place is not copied. The end as it is now without it
    #[arg(long, value_name = "PLACE")]
    to: Option<Place>,
    /// The topic to write to. It has to be there
    #[arg(long, value_name = "TOPIC", required_unless_present = "into_file", conflicts_with = "into_file")]
    into: Option<String>,
    /// The cluster of that topic, if it is another
    #[arg(long, value_name = "HOST:PORT", requires = "into")]
    into_bootstrap: Option<String>,
    /// The file to write to, - for standard output: JSON lines that `produce --format record` reads back
    #[arg(long, value_name = "FILE")]
    into_file: Option<PathBuf>,
    /// Choose partitions by key instead of keeping them
    #[arg(long, requires = "into")]
    by_key: bool,
    /// none, gzip, snappy, lz4 or zstd, for what is written to a topic
    #[arg(long, short = 'z', default_value = "none", requires = "into")]
    compression: Compression,
    /// What to read of transactions: what has been committed, or everything
    #[arg(long, value_enum, default_value_t = Isolation::ReadCommitted)]
    isolation: Isolation,
    /// No more records a second than this
    #[arg(long, value_name = "N")]
    records_per_second: Option<u64>,
    /// No more bytes of keys and values a second than this
    #[arg(long, value_name = "BYTES")]
    bytes_per_second: Option<u64>,
    /// Keep in this file how far it has come, and go on from there if the file is there already
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    state: Option<PathBuf>,
    /// Go on from these offsets, as an interrupted replay has printed them
    #[arg(long, value_name = "PARTITION:OFFSET,...")]
    resume: Option<Stops>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Summary::Text)]
    format: Summary,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Summary {
    /// A sentence, on standard error
    Text,
    /// A JSON object, on standard output
    Json,
}

impl Replay {
    /// Copies to the end of the range, or until interrupted.
    pub fn run(self) -> Outcome {
        if self.format == Summary::Json
            && self.into_file.as_deref().is_some_and(|path| path.as_os_str() == "-")
        {
            return Err("standard output cannot have the records and the result: write to a file".to_owned());
        }
        connect::run(async move { self.copy().await })
    }

    async fn copy(&self) -> Outcome {
        let client = self.bootstrap.connect().await?;
        let admin = Admin::new(&client);
        let other = match &self.into_bootstrap {
            Some(bootstrap) => Some(Client::connect(bootstrap).await.map_err(text)?),
            None => None,
        };
        let into = other.as_ref().unwrap_or(&client);
        let partitions = self.source.resolve(&admin).await?;
        self.refuse_onto_itself(&client, into)?;
        let state = self.read_state(&client, into)?;
        let resumed = state.as_ref().map(|state| &state.next).or(self.resume.as_ref());
        let mut ranges = ranges(&admin, &partitions, self.from, self.to, self.isolation.into()).await?;
        if let Some(stops) = resumed {
            for (partition, range) in &mut ranges {
                range.start = range.start.max(stops.0.get(&partition.partition).copied().unwrap_or(0));
            }
            ranges.retain(|_, range| range.start < range.end);
        }
        let target = self.open_target(into, &ranges, resumed.is_some()).await?;
        self.warn(&admin, into, &ranges).await;
        let mut copying = Copying::new(self, target, ranges, resumed.cloned().unwrap_or_default());
        let outcome = copying.run(&client, self.whose(&client, into)).await;
        copying.report(outcome)
    }

    fn refuse_onto_itself(&self, client: &Client, into: &Client) -> Result<(), String> {
        let cluster = |client: &Client| client.metadata().cluster_id.clone();
        let same =
            self.into_bootstrap.is_none() || cluster(client).is_some() && cluster(client) == cluster(into);
        match &self.into {
            Some(topic) if same && *topic == self.source.topic => Err(format!(
                "a copy of {topic} onto itself would double its records: name another topic with --into"
            )),
            _ => Ok(()),
        }
    }

    /// Which copy a state file is of.
    fn whose(&self, client: &Client, into: &Client) -> (String, String) {
        let cluster = |client: &Client| client.metadata().cluster_id.clone().unwrap_or_default();
        let from = format!("{}/{}", cluster(client), self.source.topic);
        let into = match (&self.into, &self.into_file) {
            (Some(topic), _) => format!("{}/{topic}", cluster(into)),
            (None, file) => file.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
        };
        (from, into)
    }

    fn read_state(&self, client: &Client, into: &Client) -> Result<Option<State>, String> {
        let Some(path) = &self.state else { return Ok(None) };
        let Some(state) = State::read(path)? else { return Ok(None) };
        let (from, into) = self.whose(client, into);
        if (&state.from, &state.into) != (&from, &into) {
            return Err(format!(
                "{} is of a replay from {} into {}, and this is one from {from} into {into}: name another file",
                path.display(),
                state.from,
                state.into
            ));
        }
        Ok(Some(state))
    }

    async fn open_target(
        &self,
        into: &Client,
        ranges: &BTreeMap<TopicPartition, Range>,
        resumed: bool,
    ) -> Result<Target, String> {
        match (&self.into, &self.into_file) {
            (Some(topic), _) => {
                let needed = ranges.keys().map(|partition| partition.partition + 1).max().unwrap_or(1);
                Target::topic(into, topic, needed, self.by_key, self.compression).await
            }
            (None, Some(path)) => Target::file(path, resumed),
            (None, None) => Err("say where to: --into TOPIC or --into-file FILE".to_owned()),
        }
    }

    /// Says what the target will do to records that are as old as the oldest.
    async fn warn(&self, admin: &Admin, into: &Client, ranges: &BTreeMap<TopicPartition, Range>) {
        let Some(topic) = &self.into else { return };
        let asked: Vec<_> = ranges.keys().map(|partition| (partition.clone(), OffsetSpec::Time(0))).collect();
        let oldest = admin.list_offsets(&asked).await.into_iter();
        let oldest = oldest.filter_map(|(_, answer)| answer.ok()?.timestamp_ms).min();
        let Some(oldest_ms) = oldest else { return };
        if let Some(warning) =
            target::warning(into, topic, oldest_ms, Timestamp::now().as_millisecond()).await
        {
            eprintln!("highwater: warning: {warning}");
        }
    }
}

/// A copy under way.
struct Copying<'a> {
    replay: &'a Replay,
    target: Target,
    ranges: BTreeMap<TopicPartition, Range>,
    /// Of each partition what is not yet safe at the target.
    next: Stops,
    paces: Vec<(Pace, Unit)>,
    progress: ProgressBar,
    started: Instant,
    records: u64,
    bytes: u64,
}

#[derive(Clone, Copy)]
enum Unit {
    Records,
    Bytes,
}

/// How a copy ended without an error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Interrupted,
}

impl<'a> Copying<'a> {
    fn new(
        replay: &'a Replay,
        target: Target,
        ranges: BTreeMap<TopicPartition, Range>,
        mut next: Stops,
    ) -> Copying<'a> {
        for (partition, range) in &ranges {
            next.0.insert(partition.partition, range.start);
        }
        let limit = |per_second: Option<u64>, unit| per_second.map(|it| (Pace::new(it), unit));
        let paces =
            [limit(replay.records_per_second, Unit::Records), limit(replay.bytes_per_second, Unit::Bytes)];
        let total = ranges.values().map(|range| range.len()).sum();
        Copying {
            progress: progress(replay.quiet, total),
            replay,
            target,
            ranges,
            next,
            paces: paces.into_iter().flatten().collect(),
            started: Instant::now(),
            records: 0,
            bytes: 0,
        }
    }

    /// Copies, and makes safe what was copied however it ends.
    async fn run(&mut self, client: &Client, whose: (String, String)) -> Result<End, String> {
        let interrupted = connect::interrupted();
        let mut end = self.copy(client, &interrupted, &whose).await;
        if let Err(error) = self.target.flush(&mut self.next).await {
            end = end.and(Err(error));
        }
        if end == Ok(End::Whole) {
            // Behind the last record there may be markers of transactions.
            for (partition, range) in &self.ranges {
                self.next.0.insert(partition.partition, range.end);
            }
        }
        self.note(&whose)?;
        end
    }

    async fn copy(
        &mut self,
        client: &Client,
        interrupted: &CancellationToken,
        whose: &(String, String),
    ) -> Result<End, String> {
        let config = ConsumerConfig {
            offset_reset: OffsetReset::None,
            isolation: self.replay.isolation.into(),
            poll_records_max: 5000,
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(client, config);
        let starts = self.ranges.iter();
        consumer.assign(starts.map(|(partition, range)| (partition.clone(), StartAt::Offset(range.start))));
        let mut noted = Instant::now();
        while !self.is_read(&consumer) {
            let records = tokio::select! {
                records = consumer.poll(POLL) => records.map_err(text)?,
                () = interrupted.cancelled() => return Ok(End::Interrupted),
            };
            for record in records {
                let partition = record.topic_partition();
                if self.ranges.get(&partition).is_none_or(|range| record.offset >= range.end) {
                    consumer.pause(&partition).map_err(text)?;
                    continue;
                }
                if !self.wait_for_turn(&record, interrupted).await {
                    return Ok(End::Interrupted);
                }
                self.target.put(record, &mut self.next).await?;
                if noted.elapsed() >= NOTE_INTERVAL {
                    self.target.flush(&mut self.next).await?;
                    self.note(whose)?;
                    noted = Instant::now();
                }
            }
            self.show(&consumer);
        }
        Ok(End::Whole)
    }

    /// Whether every partition has been read to its end.
    fn is_read(&self, consumer: &Consumer) -> bool {
        let is_over = |partition, end| consumer.position(partition).is_some_and(|position| position >= end);
        self.ranges.iter().all(|(partition, range)| is_over(partition, range.end))
    }

    /// Waits as long as the rates ask for; false when interrupted.
    async fn wait_for_turn(&mut self, record: &ConsumerRecord, interrupted: &CancellationToken) -> bool {
        let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let bytes = len(&record.key) + len(&record.value);
        let now = self.started.elapsed();
        let waits = self.paces.iter_mut().map(|(pace, unit)| match unit {
            Unit::Records => pace.take(1, now),
            Unit::Bytes => pace.take(bytes, now),
        });
        let wait = waits.max().unwrap_or_default();
        if interrupted.is_cancelled() {
            return false;
        }
        // The timer's resolution is a millisecond.
        if wait >= Duration::from_millis(1) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = interrupted.cancelled() => return false,
            }
        }
        self.records += 1;
        self.bytes += bytes;
        true
    }

    fn show(&self, consumer: &Consumer) {
        let done = self.ranges.iter().map(|(partition, range)| {
            let position = consumer.position(partition).unwrap_or(range.start);
            Range { end: position.clamp(range.start, range.end), ..*range }.len()
        });
        self.progress.set_position(done.sum());
        self.progress.set_message(human::bytes(self.bytes));
    }

    fn note(&self, (from, into): &(String, String)) -> Result<(), String> {
        let Some(path) = &self.replay.state else { return Ok(()) };
        State { from: from.clone(), into: into.clone(), next: self.next.clone() }.write(path)
    }

    /// Says how it ended, and unless it is whole, how to go on.
    fn report(&self, outcome: Result<End, String>) -> Outcome {
        self.progress.finish_and_clear();
        let took = self.started.elapsed();
        if self.replay.format == Summary::Json {
            say!(
                "{}",
                serde_json::json!({
                    "complete": outcome == Ok(End::Whole),
                    "records": self.records,
                    "bytes": self.bytes,
                    "seconds": took.as_secs_f64(),
                    "next": self.next,
                })
            );
        } else if !self.replay.quiet {
            eprintln!("{}", human::rate(self.records, self.bytes, took));
        }
        if outcome == Ok(End::Whole) {
            return Ok(ExitCode::SUCCESS);
        }
        let how = match &self.replay.state {
            Some(_) => "The same command goes on there.".to_owned(),
            None => format!("To go on there, add --resume {}", self.next),
        };
        let stopped = format!("stopped before (partition:offset) {}\n  {how}", self.next);
        match outcome {
            Err(error) => Err(format!("{error}\n  {stopped}")),
            Ok(_) => {
                eprintln!("highwater: interrupted; {stopped}");
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    }
}

/// A bar with what is to come, on a terminal.
fn progress(quiet: bool, total: u64) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template(
        "{wide_bar} {human_pos}/{human_len} offsets, {msg}, {per_sec}, {eta} to go",
    ) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
