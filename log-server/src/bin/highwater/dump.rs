//! `highwater dump`: what the files of a data directory hold, for people and for scripts.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use log_core::log::{AbortedTransaction, Inspection, inspect};
use log_core::record::{DecompressLimits, RecordBatch, TimestampType};
use serde_json::{Value, json};

use crate::data_dir::{DataDir, Opened};
use crate::human;
use crate::table::table;
use crate::{Outcome, say};

/// Show what a data directory's files hold, without changing anything.
///
/// Without a partition: the partitions, their segments and sizes. With one: its checkpoint, leader epochs, producers
/// and segments, and on request every batch, every record and the indexes.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater dump
  highwater dump orders-0 --batches
  highwater dump orders-0 --records --from 1000 --count 20 --json")]
pub struct Dump {
    /// A partition, named as its directory is: topic, '-', number
    partition: Option<String>,
    #[command(flatten)]
    data_dir: DataDir,
    /// Every batch, where it lies and what its header says
    #[arg(long, requires = "partition")]
    batches: bool,
    /// Every record of every batch
    #[arg(long, requires = "partition")]
    records: bool,
    /// The entries of the offset and time indexes, and the aborted transactions
    #[arg(long, requires = "partition")]
    indexes: bool,
    /// Leave out batches that end before this offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Show this many batches at most
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// JSON instead of text, one object a line
    #[arg(long)]
    json: bool,
}

impl Dump {
    /// Prints what is asked for.
    pub fn run(self) -> Outcome {
        let opened = self.data_dir.open()?;
        match &self.partition {
            None => self.overview(&opened)?,
            Some(partition) if opened.partitions.contains(partition) => self.partition(&opened, partition)?,
            Some(partition) => {
                return Err(format!(
                    "there is no partition {partition} in the data directory; `highwater dump` lists those that there are"
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn overview(&self, opened: &Opened) -> Result<(), String> {
        let identity = &opened.identity;
        if !self.json {
            say!(
                "Cluster {}, node {}, directory {}, layout {}\n",
                identity.cluster_id,
                identity.node_id,
                identity.directory_id,
                identity.format
            );
        }
        let mut rows = table(&["PARTITION", "#FIRST", "#END", "#SEGMENTS", "#BATCHES", "#RECORDS", "#SIZE"]);
        for partition in &opened.partitions {
            let found = look(opened, partition, &mut |_, _, _| {})?;
            let (first, end) = (log_start(&found), log_end(&found));
            let sum =
                |of: fn(&log_core::log::InspectedSegment) -> u64| found.segments.iter().map(of).sum::<u64>();
            let (batches, records, bytes) = (sum(|s| s.batches), sum(|s| s.records), sum(|s| s.batch_bytes));
            if self.json {
                say!(
                    "{}",
                    json!({
                        "partition": partition, "log_start": first, "log_end": end, "segments": found.segments.len(),
                        "batches": batches, "records": records, "bytes": bytes,
                    })
                );
                continue;
            }
            rows.add_row([
                partition.clone(),
                human::count(first),
                human::count(end),
                found.segments.len().to_string(),
                human::count(batches as i64),
                human::count(records as i64),
                human::bytes(bytes),
            ]);
        }
        if !self.json {
            say!("{rows}");
        }
        Ok(())
    }

    fn partition(&self, opened: &Opened, partition: &str) -> Result<(), String> {
        let mut shown = 0;
        let found = look(opened, partition, &mut |segment, position, batch| {
            let is_wanted = batch.last_offset() >= self.from && self.count.is_none_or(|count| shown < count);
            if (self.batches || self.records) && is_wanted {
                shown += 1;
                self.batch(segment, position, batch);
            }
        })?;
        if self.indexes {
            self.index_entries(&found);
        }
        if self.batches || self.records || self.indexes {
            return Ok(());
        }
        match self.json {
            true => say!("{}", summary_json(partition, &found)),
            false => summary(opened, partition, &found),
        }
        Ok(())
    }

    fn batch(&self, segment: i64, position: u64, batch: &RecordBatch<'_>) {
        let attributes = batch.attributes();
        let compression = attributes.compression().map_or("unknown".to_owned(), |codec| codec.to_string());
        let time = match attributes.timestamp_type() {
            TimestampType::CreateTime => "create",
            TimestampType::LogAppendTime => "append",
        };
        if self.json {
            say!(
                "{}",
                json!({
                    "segment": segment, "position": position, "base_offset": batch.base_offset(),
                    "last_offset": batch.last_offset(), "records": batch.record_count(), "bytes": batch.size_bytes(),
                    "crc": batch.crc(), "compression": compression, "timestamp_type": time,
                    "base_timestamp": batch.base_timestamp(), "max_timestamp": batch.max_timestamp(),
                    "leader_epoch": batch.partition_leader_epoch(), "producer_id": batch.producer_id(),
                    "producer_epoch": batch.producer_epoch(), "base_sequence": batch.base_sequence(),
                    "transactional": attributes.is_transactional(), "control": attributes.is_control(),
                })
            );
        } else {
            let producer = match batch.producer_id() {
                -1 => String::new(),
                id => format!(
                    ", producer {id} epoch {} sequence {} to {}",
                    batch.producer_epoch(),
                    batch.base_sequence(),
                    batch.last_sequence()
                ),
            };
            let kind = match (attributes.is_control(), attributes.is_transactional()) {
                (true, _) => ", control",
                (false, true) => ", transactional",
                (false, false) => "",
            };
            say!(
                "segment {segment} byte {position}: offsets {} to {}, {} records, {} bytes, {compression}, {time} time up to {}, \
                 epoch {}, crc {:#010x}{producer}{kind}",
                batch.base_offset(),
                batch.last_offset(),
                batch.record_count(),
                batch.size_bytes(),
                human::time(batch.max_timestamp()),
                batch.partition_leader_epoch(),
                batch.crc()
            );
        }
        if self.records {
            self.batch_records(batch);
        }
    }

    fn batch_records(&self, batch: &RecordBatch<'_>) {
        let payload = match batch.decompressed_payload(DecompressLimits::default()) {
            Ok(payload) => payload,
            Err(error) => return eprintln!("highwater: batch at offset {}: {error}", batch.base_offset()),
        };
        for record in batch.record_refs(&payload) {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    return eprintln!("highwater: batch at offset {}: {error}", batch.base_offset());
                }
            };
            if record.offset < self.from {
                continue;
            }
            let headers: Vec<_> = record
                .headers()
                .map(|(name, value)| json!([readable(Some(name)), readable(value)]))
                .collect();
            let (key, value) = (readable(record.key), readable(record.value));
            if self.json {
                say!(
                    "{}",
                    json!({"offset": record.offset, "timestamp": record.timestamp, "key": key, "value": value, "headers": headers})
                );
            } else {
                say!(
                    "  {} {} key {key} value {value} headers {}",
                    record.offset,
                    human::time(record.timestamp),
                    json!(headers)
                );
            }
        }
    }

    fn index_entries(&self, found: &Inspection) {
        for segment in &found.segments {
            for entry in &segment.offset_index {
                let offset = segment.base_offset + i64::from(entry.relative_offset);
                match self.json {
                    true => say!(
                        "{}",
                        json!({"segment": segment.base_offset, "offset": offset, "position": entry.position})
                    ),
                    false => {
                        say!("segment {}: offset {offset} at byte {}", segment.base_offset, entry.position)
                    }
                }
            }
            for aborted in &segment.aborted {
                let AbortedTransaction { producer_id, first_offset, last_offset, last_stable } = aborted;
                match self.json {
                    true => say!(
                        "{}",
                        json!({
                            "segment": segment.base_offset, "aborted": {
                                "producer_id": producer_id, "first_offset": first_offset,
                                "last_offset": last_offset, "last_stable_offset": last_stable,
                            },
                        })
                    ),
                    false => say!(
                        "segment {}: producer {producer_id} aborted offsets {first_offset} to {last_offset}, \
                         last stable offset {last_stable}",
                        segment.base_offset
                    ),
                }
            }
            for entry in &segment.time_index {
                let offset = segment.base_offset + i64::from(entry.relative_offset);
                match self.json {
                    true => {
                        say!(
                            "{}",
                            json!({"segment": segment.base_offset, "timestamp": entry.timestamp, "offset": offset})
                        );
                    }
                    false => {
                        say!(
                            "segment {}: {} up to offset {offset}",
                            segment.base_offset,
                            human::time(entry.timestamp)
                        );
                    }
                }
            }
        }
    }
}

fn look(
    opened: &Opened,
    partition: &str,
    visit: &mut dyn FnMut(i64, u64, &RecordBatch<'_>),
) -> Result<Inspection, String> {
    inspect(Arc::clone(&opened.storage), &opened.path(partition), visit)
        .map_err(|error| format!("cannot read partition {partition}: {error}"))
}

fn log_start(found: &Inspection) -> i64 {
    let first = found.segments.first().map_or(0, |segment| segment.base_offset);
    found.checkpoint.map_or(first, |checkpoint| checkpoint.log_start)
}

fn log_end(found: &Inspection) -> i64 {
    found.segments.last().map_or(0, |segment| segment.next_offset)
}

fn summary(opened: &Opened, partition: &str, found: &Inspection) {
    let id = opened
        .partition_identity(partition)
        .map_or_else(|what| what, |identity| identity.topic_id.to_string());
    say!("Partition {partition}, topic id {id}, offsets {} to {}", log_start(found), log_end(found));
    match found.checkpoint {
        Some(checkpoint) => say!(
            "Durable up to offset {} (segment {}, byte {})",
            checkpoint.durable_end,
            checkpoint.segment,
            checkpoint.position
        ),
        None => say!("No checkpoint can be read"),
    }
    let epochs = found.epochs.iter().flat_map(|epochs| epochs.entries());
    epochs.for_each(|epoch| say!("Leader epoch {} from offset {}", epoch.epoch, epoch.start_offset));
    if let Some(snapshot) = found.snapshots.last() {
        say!("Producers as of offset {}: {}", snapshot.offset, snapshot.producers.len());
        for (id, producer) in snapshot.producers.iter() {
            let last = producer.batches().last().map_or(-1, |batch| batch.last_sequence);
            let open =
                producer.transaction_start().map(|first| format!(", transaction open since offset {first}"));
            say!(
                "  {id} epoch {} last sequence {last}, {}{}",
                producer.epoch(),
                human::time(producer.last_timestamp()),
                open.unwrap_or_default()
            );
        }
    }
    say!("");
    let mut rows = table(&[
        "#SEGMENT",
        "#NEXT",
        "#BATCHES",
        "#RECORDS",
        "#SIZE",
        "#FILE",
        "LARGEST TIME",
        "#OFFSET INDEX",
        "#TIME INDEX",
        "#ABORTED",
    ]);
    for segment in &found.segments {
        rows.add_row([
            segment.base_offset.to_string(),
            segment.next_offset.to_string(),
            human::count(segment.batches as i64),
            human::count(segment.records as i64),
            human::bytes(segment.batch_bytes),
            human::bytes(segment.file_bytes),
            human::time(segment.largest_timestamp.unwrap_or(-1)),
            segment.offset_index.len().to_string(),
            segment.time_index.len().to_string(),
            segment.aborted.len().to_string(),
        ]);
    }
    say!("{rows}");
    for finding in &found.findings {
        say!("{:?}: {}: {}", finding.severity, finding.file, finding.what);
    }
    found.losses.iter().for_each(|loss| say!("Lost: {}", human::loss(loss)));
}

fn summary_json(partition: &str, found: &Inspection) -> Value {
    let segments: Vec<_> = found
        .segments
        .iter()
        .map(|segment| {
            json!({
                "base_offset": segment.base_offset, "next_offset": segment.next_offset, "batches": segment.batches,
                "records": segment.records, "bytes": segment.batch_bytes, "file_bytes": segment.file_bytes,
                "largest_timestamp": segment.largest_timestamp, "offset_index_entries": segment.offset_index.len(),
                "time_index_entries": segment.time_index.len(), "aborted_transactions": segment.aborted.len(),
            })
        })
        .collect();
    let epochs: Vec<_> = found
        .epochs
        .iter()
        .flat_map(|epochs| epochs.entries())
        .map(|epoch| json!({"epoch": epoch.epoch, "start_offset": epoch.start_offset}))
        .collect();
    let findings: Vec<_> = found
        .findings
        .iter()
        .map(|finding| json!({"severity": format!("{:?}", finding.severity).to_lowercase(), "file": finding.file, "what": finding.what}))
        .collect();
    json!({
        "partition": partition, "log_start": log_start(found), "log_end": log_end(found),
        "durable_end": found.checkpoint.map(|checkpoint| checkpoint.durable_end),
        "leader_epochs": epochs, "segments": segments, "findings": findings, "losses": found.losses,
    })
}

/// Text as it is, null as null, other bytes in hexadecimal that says so.
fn readable(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => text.into(),
        Some(Err(_)) => {
            let bytes = bytes.unwrap_or_default();
            json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()})
        }
    }
}
