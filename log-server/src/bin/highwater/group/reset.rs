//! `highwater group reset`: moves what a group has committed, after a look at what that would be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args, ValueEnum};
use jiff::{Span, SpanRelativeTo, Timestamp};
use log_client::admin::GroupDescription;
use log_client::{Admin, CommittedOffset, ErrorCode, IsolationLevel, OffsetSpec, TopicPartition};
use serde::Serialize;

use super::explain;
use super::plan::{Bounds, Move, Target, plan};
use crate::Outcome;
use crate::human;
use crate::offsets::look_up;
use crate::place::Place;
use crate::say;
use crate::table::table;
use crate::topics::TopicChoice;

/// Members that a refusal names; of more, it says how many there are.
const MEMBERS_NAMED_MAX: usize = 5;

/// A group may commit what is in the log, whoever can see it.
const UNCOMMITTED: IsolationLevel = IsolationLevel::ReadUncommitted;

/// Move what a group has committed. Shows what would change; --execute changes it.
///
/// The group may have no members then, since they would commit their own positions again. A consumer that assigns
/// itself its partitions and only commits is no member, and nobody can see whether it runs: stop it first.
#[derive(Args)]
#[command(
    group = ArgGroup::new("where").required(true),
    group = ArgGroup::new("scope").required(true).multiple(true),
    after_help = "Examples:
  highwater group reset billing --topic orders --to first
  highwater group reset billing --topic orders:0,2 --shift-by -100 --execute
  highwater group reset billing --all-topics --by-duration 2h --execute
  highwater group reset billing --all-topics --to-current --format csv > offsets.csv
  highwater group reset billing --from-file offsets.csv --execute"
)]
pub struct Reset {
    /// The group
    group: String,
    /// A topic, or some of its partitions (orders:0,2); repeat for several
    #[arg(long, short, value_name = "TOPIC[:N,N]", group = "scope")]
    topic: Vec<TopicChoice>,
    /// Everything that the group has committed for
    #[arg(long, group = "scope", conflicts_with = "topic")]
    all_topics: bool,
    /// Where to: first, last, an offset, a time (RFC 3339, or @ and ms since the epoch), or how long ago (10m)
    #[arg(long, value_name = "PLACE", group = "where")]
    to: Option<Place>,
    /// To this offset
    #[arg(long, value_name = "OFFSET", group = "where")]
    to_offset: Option<i64>,
    /// To the first record that is there
    #[arg(long, group = "where")]
    to_earliest: bool,
    /// To the end
    #[arg(long, group = "where")]
    to_latest: bool,
    /// To the first record of at least this time: RFC 3339; without an offset from UTC it is UTC
    #[arg(long, value_name = "TIME", value_parser = datetime, group = "where")]
    to_datetime: Option<Timestamp>,
    /// To the first record of so long ago or later: 2h, 7d, or PT2H as Kafka's tool has it
    #[arg(long, value_name = "DURATION", value_parser = duration_ms, group = "where")]
    by_duration: Option<i64>,
    /// So many records on from what is committed, or back (-100)
    #[arg(long, value_name = "N", allow_negative_numbers = true, group = "where")]
    shift_by: Option<i64>,
    /// To what is committed, if that is still there: what a backup is made of, with --format csv
    #[arg(long, group = "where")]
    to_current: bool,
    /// To the offsets in this file, - for standard input: lines of topic,partition,offset
    #[arg(long, value_name = "FILE", groups = ["where", "scope"], conflicts_with_all = ["topic", "all_topics"])]
    from_file: Option<PathBuf>,
    /// Commit. Without it nothing is changed
    #[arg(long)]
    execute: bool,
    /// Only show what would change, which is what happens without --execute
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// How to print what changes
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line a partition: the old offset, the new one, and why it is another than was asked for
    Table,
    /// One JSON object a line
    Json,
    /// topic,partition,offset: what --from-file reads
    Csv,
}

#[derive(Serialize)]
struct Row<'a> {
    group: &'a str,
    topic: &'a str,
    partition: i32,
    old_offset: Option<i64>,
    new_offset: i64,
    note: Option<&'a str>,
    committed: bool,
}

/// A time of day is UTC unless it says otherwise, as for Kafka's tool.
fn datetime(word: &str) -> Result<Timestamp, String> {
    let utc = || word.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    word.parse::<Timestamp>()
        .ok()
        .or_else(|| utc().map(|zoned| zoned.timestamp()))
        .ok_or_else(|| format!("'{word}' is no time such as 2013-07-01T00:00:00Z"))
}

fn duration_ms(word: &str) -> Result<i64, String> {
    let bad = || format!("'{word}' is no duration such as 90s, 2h, 7d or PT2H30M");
    let span = word.parse::<Span>().map_err(|_| bad())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
    i64::try_from(duration.as_millis()).map_err(|_| bad())
}

impl Reset {
    /// Shows the moves, and commits them if that is asked for. A dry run ends with the status that --execute
    /// would have.
    pub async fn run(self, admin: &Admin) -> Outcome {
        let described = match admin.describe_group(&self.group).await {
            Ok(described) => Some(described),
            // Committing for it is what makes the group.
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => None,
            Err(error) => return Err(explain(error)),
        };
        let committed: BTreeMap<TopicPartition, CommittedOffset> =
            admin.group_offsets(&self.group).await.map_err(explain)?.into_iter().collect();
        let (target, partitions) = self.target(admin, &committed).await?;
        let moves = plan(&target, &bounds(admin, &partitions, &committed).await?)?;
        let refusal = described.as_ref().and_then(refusal);
        if self.execute && refusal.is_none() {
            let offsets: Vec<_> =
                moves.iter().map(|step| (step.partition.clone(), CommittedOffset::at(step.new))).collect();
            admin.reset_group_offsets(&self.group, &offsets).await.map_err(explain)?;
        }
        self.print(&moves, self.execute && refusal.is_none());
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let count = moves.len();
        match self.execute {
            true => eprintln!("\nCommitted {count} offsets of group {}.", self.group),
            false => {
                eprintln!("\nThis is a dry run, nothing was committed. --execute commits {count} offsets.");
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Where to, and which partitions go there.
    async fn target(
        &self,
        admin: &Admin,
        committed: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(Target, Vec<TopicPartition>), String> {
        if let Some(file) = &self.from_file {
            let offsets = parse_offsets(&read(file)?, &self.group)?;
            let partitions = offsets.keys().cloned().collect();
            return Ok((Target::Found(offsets), partitions));
        }
        let mut partitions = Vec::new();
        for choice in &self.topic {
            partitions.extend(choice.resolve(admin).await?);
        }
        if self.all_topics {
            partitions.extend(committed.keys().cloned());
        }
        partitions.sort();
        partitions.dedup();
        if partitions.is_empty() {
            return Err(format!("group {} has committed nothing: say --topic TOPIC", self.group));
        }
        let spec = match self.place() {
            Where::Offset(offset) => return Ok((Target::Offset(offset), partitions)),
            Where::Shift(by) => return Ok((Target::Shift(by), partitions)),
            Where::Current => return Ok((Target::Current, partitions)),
            Where::Log(spec) => spec,
        };
        Ok((Target::Found(look_up(admin, &partitions, spec, UNCOMMITTED).await?), partitions))
    }

    fn place(&self) -> Where {
        let time = |ms| Where::Log(OffsetSpec::Time(ms));
        if let Some(offset) = self.to_offset {
            Where::Offset(offset)
        } else if let Some(by) = self.shift_by {
            Where::Shift(by)
        } else if let Some(at) = self.to_datetime {
            time(at.as_millisecond())
        } else if let Some(ago_ms) = self.by_duration {
            time(Timestamp::now().as_millisecond().saturating_sub(ago_ms))
        } else if self.to_earliest {
            Where::Log(OffsetSpec::Earliest)
        } else if self.to_latest {
            Where::Log(OffsetSpec::Latest)
        } else {
            match self.to {
                Some(Place::Offset(offset)) => Where::Offset(offset),
                Some(Place::Log(spec)) => Where::Log(spec),
                // One of them is given: the only one left is --to-current.
                None => Where::Current,
            }
        }
    }

    fn print(&self, moves: &[Move], committed: bool) {
        let mut shown = table(&["TOPIC", "#PARTITION", "#OLD OFFSET", "#NEW OFFSET", "NOTE"]);
        for step in moves {
            let TopicPartition { topic, partition } = &step.partition;
            match self.format {
                Format::Csv => say!("{topic},{partition},{}", step.new),
                Format::Json => {
                    let row = Row {
                        group: &self.group,
                        topic,
                        partition: *partition,
                        old_offset: step.old,
                        new_offset: step.new,
                        note: step.note.as_deref(),
                        committed,
                    };
                    say!("{}", serde_json::json!(row));
                }
                Format::Table => {
                    shown.add_row([
                        topic.to_string(),
                        partition.to_string(),
                        step.old.map_or("-".to_owned(), human::count),
                        human::count(step.new),
                        step.note.clone().unwrap_or_default(),
                    ]);
                }
            }
        }
        if self.format == Format::Table {
            say!("{shown}");
        }
    }
}

enum Where {
    Offset(i64),
    Shift(i64),
    Current,
    Log(OffsetSpec),
}

/// Why the group cannot be reset now: who is in it.
fn refusal(group: &GroupDescription) -> Option<String> {
    if group.members.is_empty() {
        return None;
    }
    let named = group.members.iter().take(MEMBERS_NAMED_MAX).map(|member| {
        let id = member.instance_id.as_ref().unwrap_or(&member.id);
        format!("\n    {id} (client {}, at {})", member.client_id, member.host.trim_start_matches('/'))
    });
    let more = match group.members.len().saturating_sub(MEMBERS_NAMED_MAX) {
        0 => String::new(),
        more => format!("\n    and {more} more"),
    };
    Some(format!(
        "group {} is {} and cannot be reset: it has {} members, which would commit over it.\n  \
         Stop them first:{}{more}",
        group.id,
        group.state,
        group.members.len(),
        named.collect::<String>()
    ))
}

async fn bounds(
    admin: &Admin,
    partitions: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<BTreeMap<TopicPartition, Bounds>, String> {
    let topics: std::collections::BTreeSet<_> = partitions.iter().map(|it| it.topic.clone()).collect();
    for topic in topics {
        admin.describe_topic(&topic).await.map_err(crate::topics::no_topic)?;
    }
    let first = look_up(admin, partitions, OffsetSpec::Earliest, UNCOMMITTED).await?;
    let end = look_up(admin, partitions, OffsetSpec::Latest, UNCOMMITTED).await?;
    let bounds = partitions.iter().map(|partition| {
        let first = first.get(partition).copied().unwrap_or(0);
        let end = end.get(partition).copied().unwrap_or(first).max(first);
        (partition.clone(), Bounds { first, end, committed: committed.get(partition).map(|it| it.offset) })
    });
    Ok(bounds.collect())
}

fn read(file: &Path) -> Result<String, String> {
    let read = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    read.map_err(|error| format!("cannot read {}: {error}", file.display()))
}

/// Lines of topic,partition,offset; also with the group before them, as Kafka's tool writes them for several groups.
fn parse_offsets(lines: &str, group: &str) -> Result<BTreeMap<TopicPartition, i64>, String> {
    let mut offsets = BTreeMap::new();
    for (line, number) in lines.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
        let (topic, partition, offset) = match fields[..] {
            [topic, partition, offset] => (topic, partition, offset),
            [of, topic, partition, offset] if of == group => (topic, partition, offset),
            [_, _, _, _] => continue,
            _ => return Err(format!("line {number} is not topic,partition,offset: {line}")),
        };
        let bad = |what: &str| format!("line {number}: '{what}' is no number from 0: {line}");
        let partition = partition.parse().ok().filter(|&it: &i32| it >= 0).ok_or_else(|| bad(partition))?;
        let offset = offset.parse().ok().filter(|&it: &i64| it >= 0).ok_or_else(|| bad(offset))?;
        offsets.insert(TopicPartition::new(topic, partition), offset);
    }
    match offsets.is_empty() {
        true => Err(format!("the file has no line for group {group}")),
        false => Ok(offsets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_with_and_without_the_group() {
        let read = parse_offsets("t,0,5\n\n\"g\",\"t\",1,6\nother,t,2,7\r\n", "g").unwrap();
        assert_eq!(read, [(TopicPartition::new("t", 0), 5), (TopicPartition::new("t", 1), 6)].into());
        for (bad, says) in
            [("t,0", "line 1"), ("t,x,5", "'x'"), ("t,0,-1", "'-1'"), ("", "no line"), ("o,t,0,1", "no line")]
        {
            assert!(parse_offsets(bad, "g").unwrap_err().contains(says), "{bad}");
        }
    }

    #[test]
    fn durations_are_taken_as_people_and_as_kafka_write_them() {
        for (word, ms) in [("90s", 90_000), ("7d", 604_800_000), ("PT2H30M", 9_000_000), ("P1D", 86_400_000)]
        {
            assert_eq!(duration_ms(word), Ok(ms), "{word}");
        }
        assert!(duration_ms("soon").is_err());
        assert_eq!(datetime("1970-01-01T00:00:01").unwrap().as_millisecond(), 1000);
        assert_eq!(datetime("1970-01-01T01:00:01+01:00").unwrap().as_millisecond(), 1000);
    }
}
