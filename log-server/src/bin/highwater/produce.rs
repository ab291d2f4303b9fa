//! `highwater produce`: lines or NDJSON from a file or standard input into a topic.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use log_client::producer::{Acks, Delivery, ProduceError};
use log_client::{Compression, Header, Producer, ProducerConfig, ProducerRecord};
use tokio::sync::mpsc;

use crate::Outcome;
use crate::connect::{self, Bootstrap, text};
use crate::human;
use crate::produce_input::{self, Content, Line, Shape};

/// Unanswered records that are remembered. Beyond that, sending waits for the oldest.
const DELIVERIES_MAX: usize = 200_000;

/// How long a transaction may be open: the longest that brokers allow by default.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Send lines from a file or standard input, one record a line.
///
/// Input that is gzip is unpacked. Ends when the input does and everything has been acknowledged; the
/// exit status is 0 only if every line was, those aside that --on-error skip leaves out.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater produce events --format ndjson --key-field user --timestamp-field at events.ndjson.gz
  tail -F app.log | highwater produce app-log --compression zstd")]
pub struct Produce {
    /// Topic to send to; created if the broker does that
    topic: String,
    /// File to read, - for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// What a line is
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    format: Format,
    /// Take the key from this field of the JSON object
    #[arg(long, value_name = "FIELD", conflicts_with = "key")]
    key_field: Option<String>,
    /// Take the time from this field: RFC 3339, or milliseconds since the epoch
    #[arg(long, value_name = "FIELD")]
    timestamp_field: Option<String>,
    /// The same key for every record
    #[arg(long)]
    key: Option<String>,
    /// A header for every record; repeat for several
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<Header>,
    /// Send to this partition instead of by key
    #[arg(long, short)]
    partition: Option<i32>,
    /// With --format record: choose partitions by key instead of those that the records name
    #[arg(long, conflicts_with = "partition")]
    repartition: bool,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value = "none")]
    compression: Compression,
    /// Who must have a record before it counts: 0 nobody, 1 the broker, all its disk
    #[arg(long, default_value = "all")]
    acks: Acks,
    /// Bytes of a batch before compression
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 10)]
    batch_size: usize,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20)]
    linger: u64,
    /// Send all of it in one transaction under this id: readers of what is committed see every line or none. It has to
    /// be done within 15 minutes
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,
    /// Malformed lines: stop at the first, or report and leave them out
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    on_error: OnError,
    /// No progress and no summary
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text as it stands: the record's value
    Lines,
    /// A JSON object, which is the record's value all the same
    #[value(alias = "json")]
    Ndjson,
    /// A whole record with key, value, headers, time and partition, as `consume --format json` and `replay --into-file`
    /// write it
    Record,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnError {
    Stop,
    Skip,
}

fn header(word: &str) -> Result<Header, String> {
    let (name, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not NAME=VALUE"))?;
    Ok(Header::new(name.to_owned(), Some(value.to_owned())))
}

impl Produce {
    /// Sends until the input ends.
    pub fn run(self) -> Outcome {
        // A field can only be taken out of JSON.
        let takes_field = self.key_field.is_some() || self.timestamp_field.is_some();
        let content = match self.format {
            Format::Record if takes_field || self.key.is_some() => {
                return Err("with --format record, key and time are the record's own".to_owned());
            }
            Format::Record => Content::Record,
            Format::Lines if !takes_field => Content::Text,
            _ => Content::Json,
        };
        let shape = Shape {
            topic: self.topic.as_str().into(),
            partition: self.partition,
            repartition: self.repartition,
            key: self.key.clone().map(Into::into),
            headers: self.headers.clone(),
            content,
            key_field: self.key_field.clone(),
            timestamp_field: self.timestamp_field.clone(),
        };
        connect::run(self.send(shape))
    }

    async fn send(self, shape: Shape) -> Outcome {
        let client = self.bootstrap.connect().await?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let name = self.file.display().to_string();
        let source = produce_input::open(&self.file, bytes_read.clone())
            .map_err(|error| format!("cannot read {name}: {error}"))?;
        let config = ProducerConfig {
            acks: self.acks,
            compression: self.compression,
            batch_bytes_max: self.batch_size.min(1_000_000),
            linger: Duration::from_millis(self.linger),
            transactional_id: self.transactional_id.clone(),
            transaction_timeout: TRANSACTION_TIMEOUT,
            ..ProducerConfig::default()
        };
        let mut sending =
            Sending::start(Producer::new(&client, config), self.transactional_id.is_some()).await?;
        let progress = self.progress();
        // Eight groups of lines read ahead; the thread ends with the input or with this receiver.
        let (lines, mut read) = mpsc::channel(8);
        let reader = std::thread::spawn(move || {
            produce_input::read(source, &shape, |group| lines.blocking_send(group).is_ok())
        });
        let mut skipped = 0u64;
        'input: while let Some(group) = read.recv().await {
            for line in group {
                match line {
                    Line::Record(record) => {
                        if let Err(error) = sending.send(record).await {
                            sending.abort().await;
                            return Err(error);
                        }
                    }
                    Line::Malformed(number, reason) => {
                        progress.suspend(|| eprintln!("{name}:{number}: {reason}"));
                        if self.on_error == OnError::Stop {
                            sending.malformed = Some(number);
                            break 'input;
                        }
                        skipped += 1;
                    }
                }
            }
            progress.set_position(bytes_read.load(Ordering::Relaxed));
            progress.set_message(human::count(sending.records as i64));
        }
        let is_stopped = sending.malformed;
        drop(read);
        if let (Some(number), true) = (is_stopped, sending.is_transactional) {
            sending.abort().await;
            progress.finish_and_clear();
            return Err(format!(
                "stopped at line {number} of {name}; the transaction was aborted, so that no line counts. \
                 Mend it, or leave such lines out with --on-error skip."
            ));
        }
        let report = sending.finish().await;
        progress.finish_and_clear();
        let report = report?;
        if !self.quiet {
            eprintln!("{}", human::rate(report.records, report.bytes, report.took));
        }
        if skipped > 0 {
            eprintln!("{} malformed lines were left out", human::count(skipped as i64));
        }
        if let Some(number) = is_stopped {
            return Err(format!(
                "stopped at line {number} of {name}; the lines before it were sent. \
                 Mend it, or leave such lines out with --on-error skip."
            ));
        }
        match reader.join() {
            Ok(Ok(())) => Ok(ExitCode::SUCCESS),
            Ok(Err(error)) => Err(format!("cannot read on in {name}: {error}")),
            Err(_) => Err(format!("reading {name} failed")),
        }
    }

    fn progress(&self) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let total = self.file.metadata().map(|metadata| metadata.len()).ok();
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg} records {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {msg} records, {binary_bytes} {elapsed}"),
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// Records on their way.
struct Sending {
    producer: Producer,
    deliveries: VecDeque<Delivery>,
    started: Instant,
    records: u64,
    bytes: u64,
    malformed: Option<u64>,
    is_transactional: bool,
}

struct Report {
    records: u64,
    bytes: u64,
    took: Duration,
}

impl Sending {
    async fn start(producer: Producer, is_transactional: bool) -> Result<Sending, String> {
        if is_transactional {
            producer.init_transactions().await.map_err(text)?;
            producer.begin_transaction().map_err(text)?;
        }
        let (deliveries, started) = (VecDeque::new(), Instant::now());
        Ok(Sending { producer, deliveries, started, records: 0, bytes: 0, malformed: None, is_transactional })
    }

    /// Takes back what was sent in a transaction. If that fails, the broker does it when the transaction times out.
    async fn abort(&self) {
        if self.is_transactional {
            self.producer.abort_transaction().await.ok();
        }
    }

    async fn send(&mut self, record: ProducerRecord) -> Result<(), String> {
        self.bytes += record.value.as_ref().map_or(0, |value| value.len() as u64);
        self.deliveries.push_back(self.producer.send(record).await.map_err(failure)?);
        self.records += 1;
        // The oldest are answered first, by and large: looking at the front is enough.
        while let Some(Some(outcome)) = self.deliveries.front_mut().map(|front| front.now_or_never()) {
            outcome.map_err(failure)?;
            self.deliveries.pop_front();
        }
        if self.deliveries.len() >= DELIVERIES_MAX
            && let Some(front) = self.deliveries.pop_front()
        {
            front.await.map_err(failure)?;
        }
        Ok(())
    }

    async fn finish(self) -> Result<Report, String> {
        // The failure that is reported is the one that came first.
        self.producer.flush().await.ok();
        for delivery in &self.deliveries {
            if let Err(error) = delivery.clone().await {
                self.abort().await;
                return Err(failure(error));
            }
        }
        if self.is_transactional {
            self.producer.commit_transaction().await.map_err(text)?;
        }
        self.producer.close().await.map_err(failure)?;
        Ok(Report { records: self.records, bytes: self.bytes, took: self.started.elapsed() })
    }
}

fn failure(error: ProduceError) -> String {
    match error {
        ProduceError::DeliveryTimeout { outcome_unknown: true, .. } => {
            format!("{error}\n  The broker may have the record all the same.")
        }
        other => text(other),
    }
}
