//! `highwater consume`: records of a topic to standard output.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use log_client::consumer::{Assignor, GroupConfig, OffsetReset, StartAt};
use log_client::{Admin, Client, Consumer, ConsumerConfig, ConsumerRecord, OffsetSpec, TopicPartition};

use crate::Outcome;
use crate::connect::{self, Bootstrap, text};
use crate::format::Format;
use crate::human;
use crate::offsets::{Isolation, look_up};
use crate::place::Place;

/// How long one look for records lasts.
const POLL: Duration = Duration::from_millis(500);

/// Read a topic's records and print them.
///
/// Reads from the first record to where the topic ends now, and ends; with --follow it goes on.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater consume events --from first --format json
  highwater consume events --from 2013-07-01T00:00:00Z --to 2013-07-02T00:00:00Z
  highwater consume events --from 10m --follow
  highwater consume events --group billing --follow")]
pub struct Consume {
    /// Topic to read
    topic: String,
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// Where to begin: first, last, an offset, a time (RFC 3339, or @ and ms since the epoch), or how long ago (10m).
    /// Without it: the first record, or with --group where the group has committed
    #[arg(long, value_name = "PLACE")]
    from: Option<Place>,
    /// Where to end, written as for --from: the record at that place is not printed
    #[arg(long, value_name = "PLACE", conflicts_with = "follow")]
    to: Option<Place>,
    /// End after this many records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// End where the topic ends now; this is what happens without --follow
    #[arg(long, conflicts_with = "follow")]
    exit_at_end: bool,
    /// Read these partitions only; repeat for several
    #[arg(long, short, value_name = "N", conflicts_with = "group")]
    partition: Vec<i32>,
    /// Read as a member of this group, which shares the partitions out and remembers what was read
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// How the group shares partitions out: range, roundrobin or cooperative-sticky; in order of preference
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "range,roundrobin")]
    assignor: Vec<Assignor>,
    /// With --group: leave what the group has committed as it is
    #[arg(long, requires = "group")]
    no_commit: bool,
    /// What to print of a record
    #[arg(long, value_enum, default_value_t = Format::Value)]
    format: Format,
    /// What to read of transactions: everything, or what has been committed, up to the first that is still open
    #[arg(long, value_enum, default_value_t = Isolation::ReadUncommitted)]
    isolation: Isolation,
    /// Print a summary to standard error at the end
    #[arg(long, short)]
    stats: bool,
}

impl Consume {
    /// Reads until the end, or until interrupted.
    pub fn run(self) -> Outcome {
        connect::run(async move { self.read().await })
    }

    async fn read(&self) -> Outcome {
        let client = self.bootstrap.connect().await?;
        let admin = Admin::new(&client);
        let described = admin
            .describe_topic(&self.topic)
            .await
            .map_err(|error| format!("{error}\n  `highwater topic list` shows the topics that there are."))?;
        let count = described.partitions.len() as i32;
        if let Some(missing) = self.partition.iter().find(|&&number| !(0..count).contains(&number)) {
            return Err(format!(
                "topic {} has partitions 0 to {}, so none of number {missing}",
                self.topic,
                count - 1
            ));
        }
        let partitions: Vec<TopicPartition> = (0..count)
            .filter(|number| self.partition.is_empty() || self.partition.contains(number))
            .map(|number| TopicPartition::new(described.name.clone(), number))
            .collect();
        let ends = match self.follow {
            true => None,
            false => Some(self.ends(&admin, &partitions).await?),
        };
        let mut consumer = self.consumer(&client);
        match (&self.group, self.from) {
            (Some(_), _) => consumer.subscribe([self.topic.as_str()]).map_err(text)?,
            (None, from) => {
                let start = match from.unwrap_or(Place::Log(OffsetSpec::Earliest)) {
                    Place::Offset(offset) => StartAt::Offset(offset),
                    Place::Log(spec) => StartAt::Log(spec),
                };
                let starting =
                    partitions.iter().filter(|partition| is_wanted(ends.as_ref(), partition, start));
                consumer.assign(starting.map(|partition| (partition.clone(), start)));
            }
        }
        let mut printing = Printing::new(self, ends);
        let outcome = printing.run(&mut consumer).await;
        let closed = consumer.close().await.map_err(text);
        if self.stats {
            eprintln!("{}", human::rate(printing.records, printing.bytes, printing.started.elapsed()));
        }
        outcome?;
        closed?;
        Ok(ExitCode::SUCCESS)
    }

    fn consumer(&self, client: &Client) -> Consumer {
        let group = self.group.as_ref().map(|id| GroupConfig {
            assignors: self.assignor.clone(),
            auto_commit: (!self.no_commit).then_some(Duration::from_secs(5)),
            ..GroupConfig::new(id)
        });
        let config = ConsumerConfig {
            group,
            offset_reset: match self.from {
                Some(Place::Log(OffsetSpec::Latest)) => OffsetReset::Latest,
                _ => OffsetReset::Earliest,
            },
            isolation: self.isolation.into(),
            poll_records_max: 20_000,
            ..ConsumerConfig::default()
        };
        Consumer::new(client, config)
    }

    /// Where each partition ends for this run.
    async fn ends(
        &self,
        admin: &Admin,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, String> {
        let isolation = self.isolation.into();
        let latest = look_up(admin, partitions, OffsetSpec::Latest, isolation).await?;
        let to = match self.to {
            None => return Ok(latest),
            Some(Place::Offset(offset)) => partitions.iter().map(|p| (p.clone(), offset)).collect(),
            Some(Place::Log(spec)) => look_up(admin, partitions, spec, isolation).await?,
        };
        // No record is as late as that: the end as it is now.
        let end = |partition: TopicPartition, latest| {
            let to = to.get(&partition).copied().unwrap_or(latest).min(latest);
            (partition, to)
        };
        Ok(latest.into_iter().map(|(partition, latest)| end(partition, latest)).collect())
    }
}

/// Whether there can be a record to print in a partition.
fn is_wanted(
    ends: Option<&BTreeMap<TopicPartition, i64>>,
    partition: &TopicPartition,
    start: StartAt,
) -> bool {
    let end = ends.and_then(|ends| ends.get(partition)).copied();
    match (end, start) {
        (Some(0), _) => false,
        (Some(end), StartAt::Offset(offset)) => offset < end,
        _ => true,
    }
}

/// Records on their way to standard output.
struct Printing<'a> {
    consume: &'a Consume,
    ends: Option<BTreeMap<TopicPartition, i64>>,
    out: BufWriter<io::StdoutLock<'static>>,
    started: Instant,
    records: u64,
    bytes: u64,
}

impl<'a> Printing<'a> {
    fn new(consume: &'a Consume, ends: Option<BTreeMap<TopicPartition, i64>>) -> Printing<'a> {
        let out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
        Printing { consume, ends, out, started: Instant::now(), records: 0, bytes: 0 }
    }

    async fn run(&mut self, consumer: &mut Consumer) -> Result<(), String> {
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        while !self.is_done(consumer) {
            let records = tokio::select! {
                records = consumer.poll(POLL) => records.map_err(text)?,
                // Not at once: a group is to know what has been printed.
                _ = &mut interrupted => break,
            };
            let is_idle = records.is_empty();
            match self.print(&records, consumer) {
                Ok(()) if is_idle || self.consume.follow => self.out.flush().or_else(reader_is_gone)?,
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(format!("cannot write to standard output: {error}")),
            }
        }
        self.out.flush().or_else(reader_is_gone)
    }

    /// Prints up to the count and the ends. The consumer goes back to what was not printed, so that a
    /// group does not take it for done.
    fn print(&mut self, records: &[ConsumerRecord], consumer: &mut Consumer) -> io::Result<()> {
        let mut left_out: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for record in records {
            let end = self.ends.as_ref().and_then(|ends| ends.get(&record.topic_partition()));
            if self.has_enough() || end.is_some_and(|&end| record.offset >= end) {
                left_out.entry(record.topic_partition()).or_insert(record.offset);
                continue;
            }
            self.consume.format.write(&mut self.out, record)?;
            self.records += 1;
            let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
            self.bytes += len(&record.key) + len(&record.value);
        }
        for (partition, offset) in left_out {
            if consumer.seek(&partition, StartAt::Offset(offset)).is_ok() {
                consumer.pause(&partition).ok();
            }
        }
        Ok(())
    }

    fn has_enough(&self) -> bool {
        self.consume.count.is_some_and(|count| self.records >= count)
    }

    /// Whether the count is reached, or every partition's end.
    fn is_done(&self, consumer: &Consumer) -> bool {
        if self.has_enough() {
            return true;
        }
        let Some(ends) = &self.ends else { return false };
        let assignment = consumer.assignment();
        // A member of a group waits for its share first; it may be told to read nothing at all.
        if assignment.is_empty() {
            return self.consume.group.is_none();
        }
        assignment.iter().all(|partition| {
            let end = ends.get(partition).copied().unwrap_or(0);
            end == 0 || consumer.position(partition).is_some_and(|position| position >= end)
        })
    }
}

/// Whoever read the output has seen enough; anything else is an error.
fn reader_is_gone(error: io::Error) -> Result<(), String> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(format!("cannot write to standard output: {error}")),
    }
}
