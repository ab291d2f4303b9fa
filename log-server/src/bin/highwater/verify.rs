//! `highwater verify`: reads a whole data directory and says whether everything that was durable is
//! still there.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use log_core::log::{Finding, Loss, Severity, inspect};
use serde_json::json;

use crate::data_dir::{DataDir, Opened};
use crate::human;
use crate::{Outcome, say};

/// Check a data directory from end to end, without changing anything.
///
/// Every batch's checksum and offsets are checked, and checkpoints, indexes and snapshots against them. The exit
/// status is 0 if nothing that was durable is lost, 1 if something is, and 2 if the directory cannot be checked.
#[derive(Args)]
pub struct Verify {
    /// Only these partitions, named as their directories are (orders-0); all without it
    partitions: Vec<String>,
    #[command(flatten)]
    data_dir: DataDir,
    /// JSON instead of text: one object a finding, and one at the end
    #[arg(long)]
    json: bool,
    /// Only what is damaged
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Default)]
struct Totals {
    partitions: u64,
    segments: u64,
    batches: u64,
    records: u64,
    bytes: u64,
    findings: [u64; 3],
    lost_offsets: u64,
}

impl Verify {
    /// Checks, and prints what it finds.
    pub fn run(self) -> Outcome {
        let totals = self.data_dir.open().and_then(|opened| self.check(&opened));
        match totals {
            Ok(totals) if totals.findings[2] > 0 => Ok(ExitCode::from(1)),
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(message) => {
                eprintln!("highwater: {message}");
                Ok(ExitCode::from(2))
            }
        }
    }

    fn check(&self, opened: &Opened) -> Result<Totals, String> {
        if let Some(missing) = self.partitions.iter().find(|name| !opened.partitions.contains(name)) {
            return Err(format!("there is no partition {missing} in the data directory"));
        }
        let started = Instant::now();
        let mut totals = Totals::default();
        for partition in opened.partitions.iter().filter(|name| self.is_wanted(name)) {
            let failed = |error| format!("cannot read partition {partition}: {error}");
            if opened.is_unfinished(partition).map_err(failed)? {
                let what =
                    "empty: its creation was interrupted, and the next start takes no notice of it".into();
                let (severity, file) = (Severity::Repairable, opened.path(partition));
                self.report(&mut totals, &Finding { severity, file, position: None, offsets: None, what });
                continue;
            }
            if !opened.is_in_catalog(partition) {
                let what = "not in catalog.json: its creation or deletion was interrupted, and no start \
                            takes it for a partition"
                    .into();
                let (severity, file) = (Severity::Repairable, opened.path(partition));
                self.report(&mut totals, &Finding { severity, file, position: None, offsets: None, what });
                continue;
            }
            if let Err(what) = opened.partition_identity(partition) {
                let file = format!("{}/partition.json", opened.path(partition));
                self.report(
                    &mut totals,
                    &Finding { severity: Severity::Damage, file, position: None, offsets: None, what },
                );
            }
            let inspection = inspect(Arc::clone(&opened.storage), &opened.path(partition), &mut |_, _, _| {});
            let inspection = inspection.map_err(failed)?;
            totals.partitions += 1;
            for segment in &inspection.segments {
                totals.segments += 1;
                totals.batches += segment.batches;
                totals.records += segment.records;
                totals.bytes += segment.batch_bytes;
            }
            inspection.findings.iter().for_each(|finding| self.report(&mut totals, finding));
            inspection.losses.iter().for_each(|loss| self.report_loss(&mut totals, loss));
        }
        self.summarize(&totals, started);
        Ok(totals)
    }

    fn is_wanted(&self, partition: &str) -> bool {
        self.partitions.is_empty() || self.partitions.iter().any(|wanted| wanted == partition)
    }

    fn report(&self, totals: &mut Totals, finding: &Finding) {
        let (index, word) = match finding.severity {
            Severity::Repairable => (0, "repairable"),
            Severity::Torn => (1, "torn"),
            Severity::Damage => (2, "damage"),
        };
        totals.findings[index] += 1;
        if self.quiet && finding.severity != Severity::Damage {
            return;
        }
        if self.json {
            let position = finding.position;
            let offsets = finding.offsets.as_ref().map(|offsets| [offsets.start, offsets.end]);
            say!(
                "{}",
                json!({
                    "severity": word, "file": finding.file, "position": position, "offsets": offsets,
                    "what": finding.what,
                })
            );
            return;
        }
        let position = finding.position.map(|position| format!(" at byte {position}")).unwrap_or_default();
        say!("{word}: {}{position}: {}", finding.file, finding.what);
    }

    /// What was given up earlier is no damage any more, and is told all the same.
    fn report_loss(&self, totals: &mut Totals, loss: &Loss) {
        totals.lost_offsets += loss.last_offset.abs_diff(loss.first_offset) + 1;
        match (self.quiet, self.json) {
            (true, _) => {}
            (false, true) => say!("{}", json!({"severity": "lost", "loss": loss})),
            (false, false) => say!("lost: {}", human::loss(loss)),
        }
    }

    fn summarize(&self, totals: &Totals, started: Instant) {
        let [repairable, torn, damaged] = totals.findings;
        if self.json {
            say!(
                "{}",
                json!({
                    "partitions": totals.partitions, "segments": totals.segments, "batches": totals.batches,
                    "records": totals.records, "bytes": totals.bytes,
                    "repairable": repairable, "torn": torn, "damage": damaged, "lost_offsets": totals.lost_offsets,
                })
            );
            return;
        }
        if self.quiet {
            return;
        }
        say!(
            "{} partitions, {} segments, {} batches, {} records, {} read in {:.2} s",
            human::count(totals.partitions as i64),
            human::count(totals.segments as i64),
            human::count(totals.batches as i64),
            human::count(totals.records as i64),
            human::bytes(totals.bytes),
            started.elapsed().as_secs_f64()
        );
        if repairable + torn > 0 {
            say!(
                "{repairable} findings that the next start repairs, {torn} torn ends that it cuts: nothing durable is lost by them."
            );
        }
        match damaged {
            0 => say!("Sound: everything that was durable can be read."),
            _ => say!(
                "DAMAGED in {damaged} places. The broker serves these partitions read-only, up to the damage. \
                 Keep a copy of the directory before anything else is tried; `highwater repair` shows what can be done."
            ),
        }
    }
}
