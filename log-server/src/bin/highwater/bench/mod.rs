//! `highwater bench`: puts load on a broker and measures what becomes of it.
//!
//! Producers send at a given rate, or as fast as it goes; a group reads at the same time. Latency counts from when a
//! record was due, so that a broker that stalls is charged for all that had to wait. What is measured is measured
//! here, by this process's clock, so it means the same on any broker.

mod backlog;
mod load;
mod meter;
mod payload;
mod picture;
mod plan;
mod readers;
mod report;
mod stage;
mod timeline;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use log_client::admin::NewTopic;
use log_client::producer::Acks;
use log_client::{Client, Compression, Producer, ProducerConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::load::Load;
use self::meter::Meter;
use self::payload::{Fill, Payloads, STAMP_BYTES};
use self::plan::Plan;
use self::readers::Readers;
use self::report::{End, Report};
use self::stage::Stage;
use crate::Outcome;
use crate::connect::{self, Bootstrap, INTERRUPTED};
use crate::say;

/// How often the run is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// For how long it runs unless told otherwise, in seconds.
const SECONDS_DEFAULT: u64 = 10;

/// How long the readers may receive nothing before what is missing is given up: as planned, and after a signal or an
/// error.
const DRAIN_PATIENCE: Duration = Duration::from_secs(15);
const DRAIN_PATIENCE_AFTER_STOP: Duration = Duration::from_secs(2);

/// How long a record may be without an answer. Shorter than an application's, so that a broker that is gone is soon
/// told.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that all producers together may hold, shared out among them.
const BUFFER_BYTES_MAX: usize = 256 << 20;

/// Put load on a broker, and measure throughput, latency and lag.
///
/// Sends records to a topic of its own, which it deletes at the end, and reads them at the same time. Latency is
/// measured from when a record was due under --rate, else from when it was handed over, until its acknowledgement
/// (produce) or until it was read (end to end). Works on any Kafka broker. Ends with status 1 if a record was not
/// delivered or did not come back, with 130 when interrupted, and prints the figures all the same.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater bench
  highwater bench --rate 5000 --seconds 60 --consumers 3 --picture bench.svg
  highwater bench --records 1000000 --record-size 200 --fill text --compression zstd --acks 1
  highwater bench --topic orders --rate 100 --format json --bootstrap kafka:9092")]
pub struct Bench {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Send to this topic, which stays, instead of one of its own
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["partitions", "keep"])]
    topic: Option<String>,
    /// Partitions of its own topic
    #[arg(long, short, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Leave its own topic there at the end
    #[arg(long)]
    keep: bool,
    /// Records a second, of all producers together; as many as it can without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// Send for this long; 10 unless --records is given. At a rate, that many seconds' worth of records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: Option<u64>,
    /// Send this many records, if --seconds does not end it before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// Bytes of each record's value
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=1_000_000))]
    record_size: u32,
    /// What values are filled with
    #[arg(long, value_enum, default_value_t = Fill::Random)]
    fill: Fill,
    /// How many send at the same time, each on connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    producers: u16,
    /// Members of the group that reads; 0 to send only
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=64))]
    consumers: u16,
    /// Who must have a record before it counts: 0 nobody, 1 the broker, all its disk
    #[arg(long, default_value = "all")]
    acks: Acks,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value = "none")]
    compression: Compression,
    /// Bytes of a batch before compression
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_size: u32,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    linger: u64,
    /// How to print the figures
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Draw latencies and lag into this SVG file
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sentences and a table
    Text,
    /// One JSON object, with the course of the run
    Json,
}

impl Bench {
    /// Runs the load and prints what was measured.
    pub fn run(self) -> Outcome {
        connect::run(async move { self.bench().await })
    }

    async fn bench(&self) -> Outcome {
        // Before the load, so that a path that is wrong costs nothing.
        let picture = self.picture.as_ref().map(|path| {
            File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))
        });
        let picture = picture.transpose()?;
        let client = self.bootstrap.connect().await?;
        let interrupted = connect::interrupted();
        let run = fastrand::u64(..);
        let stage = self.stage(&client, &format!("{run:016x}")).await?;
        let outcome = self.play(&client, &stage, run, &interrupted).await;
        stage.clear(self.keep).await;
        let (report, error) = outcome?;
        match self.format {
            Format::Text => report.print(),
            Format::Json => say!("{}", serde_json::to_string(&report).map_err(connect::text)?),
        }
        if let (Some(mut file), Some(path)) = (picture, &self.picture) {
            let written = file.write_all(picture::draw(&report)?.as_bytes());
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        match (error, report.end) {
            (Some(error), _) => Err(error),
            (None, End::Interrupted) => Ok(ExitCode::from(INTERRUPTED)),
            (None, _) => Ok(ExitCode::SUCCESS),
        }
    }

    async fn stage(&self, client: &Client, run: &str) -> Result<Stage, String> {
        match &self.topic {
            Some(topic) => Stage::on(client, run, topic).await,
            None => {
                let topic = NewTopic::new(format!("highwater-bench-{run}"), self.partitions);
                Stage::create(client, run, topic).await
            }
        }
    }

    fn plan(&self) -> Plan {
        let seconds = self.seconds.or(self.records.is_none().then_some(SECONDS_DEFAULT));
        Plan {
            producers: self.producers.into(),
            consumers: self.consumers.into(),
            record_bytes: self.record_size as usize,
            rate: self.rate,
            seconds,
            records: self.records,
        }
    }

    /// The load from end to end. The error is what it came to beside its figures.
    async fn play(
        &self,
        client: &Client,
        stage: &Stage,
        run: u64,
        interrupted: &CancellationToken,
    ) -> Result<(Report, Option<String>), String> {
        let plan = Arc::new(self.plan());
        let meter = Arc::new(Meter::new(run, stage.partitions));
        let producers = self.connect_each(plan.producers).await?;
        let readers = if plan.consumers > 0 {
            stage.place_group().await?;
            let starting = Readers::start(client, stage, plan.consumers, &meter);
            tokio::select! {
                readers = starting => Some(readers?),
                () = interrupted.cancelled() => return Err("interrupted before the load began".to_owned()),
            }
        } else {
            None
        };
        let stop = interrupted.child_token();
        let start = meter.now();
        let mut load = JoinSet::new();
        for (number, client) in producers.iter().enumerate() {
            let load_of_one = Load {
                plan: plan.clone(),
                number,
                producer: Producer::new(client, self.producer_config()),
                topic: stage.topic.clone(),
                partitions: stage.partitions,
                payloads: Payloads::new(run, plan.record_bytes, self.fill, number),
                meter: meter.clone(),
                stop: stop.clone(),
            };
            load.spawn(load_of_one.run(start));
        }
        let progress = self.progress(&plan);
        let watch = Watch { meter: &meter, start, progress: &progress };
        watch.until_sent(load, readers.as_ref(), &stop).await;
        let patience = if stop.is_cancelled() { DRAIN_PATIENCE_AFTER_STOP } else { DRAIN_PATIENCE };
        let read = match readers {
            Some(readers) => {
                watch.until_received(&readers, patience).await;
                readers.stop().await
            }
            None => Ok(()),
        };
        watch.look();
        progress.finish_and_clear();
        Ok(meter.with_all(|found| {
            let failure = found.failures.first.clone().or(read.err());
            let end = match (&failure, interrupted.is_cancelled()) {
                (Some(_), _) => End::Failed,
                (None, true) => End::Interrupted,
                (None, false) => End::Complete,
            };
            let report = Report::new(&stage.topic, stage.partitions, &plan, end, start, &found);
            // Of acks=0 nobody has promised that it would come.
            let is_lost = end == End::Complete && report.missing > 0 && self.acks != Acks::None;
            let error = failure.or_else(|| {
                is_lost.then(|| format!("{} acknowledged records did not come back", report.missing))
            });
            (report, error)
        }))
    }

    /// A client for each producer: what they send is not to wait for one another on one connection.
    async fn connect_each(&self, count: usize) -> Result<Vec<Client>, String> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(self.bootstrap.connect().await?);
        }
        Ok(clients)
    }

    fn producer_config(&self) -> ProducerConfig {
        let defaults = ProducerConfig::default();
        ProducerConfig {
            acks: self.acks,
            compression: self.compression,
            batch_bytes_max: self.batch_size as usize,
            linger: Duration::from_millis(self.linger),
            buffer_bytes_max: defaults.buffer_bytes_max.min(BUFFER_BYTES_MAX / usize::from(self.producers)),
            block_max: DELIVERY_TIMEOUT,
            delivery_timeout: DELIVERY_TIMEOUT,
            create_topics: false,
            ..defaults
        }
    }

    fn progress(&self, plan: &Plan) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match plan.records_total() {
            Some(total) => (
                ProgressBar::new(total),
                "{wide_bar} {human_pos}/{human_len} records, {per_sec}, {msg}, {eta} to go",
            ),
            None => {
                (ProgressBar::new_spinner(), "{spinner} {human_pos} records, {per_sec}, {msg}, {elapsed}")
            }
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// A run as it is looked at from time to time.
struct Watch<'a> {
    meter: &'a Meter,
    start: Duration,
    progress: &'a ProgressBar,
}

impl Watch<'_> {
    /// Returns when all producers are done. Readers that have failed end the load.
    async fn until_sent(&self, mut load: JoinSet<()>, readers: Option<&Readers>, stop: &CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                ended = load.join_next() => match ended {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        self.meter.failed(error);
                        stop.cancel();
                    }
                    None => return,
                },
                _ = looks.tick() => {
                    self.look();
                    if readers.is_some_and(Readers::have_failed) {
                        stop.cancel();
                    }
                }
            }
        }
    }

    /// Returns when everything that was acknowledged has come, or nothing has for `patience`.
    async fn until_received(&self, readers: &Readers, patience: Duration) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let mut last = (self.meter.now(), 0);
        while self.meter.is_behind() && !readers.have_failed() {
            looks.tick().await;
            self.look();
            let (_, received) = self.meter.counts();
            if received != last.1 {
                last = (self.meter.now(), received);
            } else if self.meter.now().saturating_sub(last.0) > patience {
                break;
            }
        }
    }

    fn look(&self) {
        self.meter.look(self.start);
        let (acknowledged, received) = self.meter.counts();
        self.progress.set_position(acknowledged);
        let behind = acknowledged.saturating_sub(received);
        self.progress.set_message(format!("{} to be read", crate::human::count(behind as i64)));
    }
}
