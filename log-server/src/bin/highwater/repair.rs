//! `highwater repair`: shows what damage would cost, and gives it up when it is told to.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use log_core::log::{Hole, Inspection, Loss, Severity, inspect, skip_holes};
use log_core::storage::LockError;
use serde_json::json;

use crate::data_dir::{DataDir, Opened};
use crate::human;
use crate::{Outcome, say};

/// Show what is damaged in a data directory and what giving it up would cost. Changes nothing by itself.
///
/// With --skip-holes the damaged stretches of the partitions that are named are given up, for good: their bytes are
/// kept in quarantine/, losses.json in the partition's directory says what is lost, and the partition takes writes
/// again. Consumers that come across them go on behind them. No broker may run in the directory. The exit status is 0
/// if nothing is damaged any more, 1 if something is, and 2 if the directory cannot be repaired.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater repair
  highwater repair orders-0 --skip-holes")]
pub struct Repair {
    /// Only these partitions, named as their directories are (orders-0); all without it
    #[arg(required_if_eq("skip_holes", "true"))]
    partitions: Vec<String>,
    #[command(flatten)]
    data_dir: DataDir,
    /// Give up what is damaged in these partitions
    #[arg(long)]
    skip_holes: bool,
    /// JSON instead of text: one object a line
    #[arg(long)]
    json: bool,
}

impl Repair {
    /// Repairs, or shows what a repair would do.
    pub fn run(self) -> Outcome {
        match self.data_dir.open().and_then(|opened| self.repair(&opened)) {
            Ok(true) => Ok(ExitCode::SUCCESS),
            Ok(false) => Ok(ExitCode::from(1)),
            Err(message) => {
                eprintln!("highwater: {message}");
                Ok(ExitCode::from(2))
            }
        }
    }

    /// Answers whether nothing is damaged any more.
    fn repair(&self, opened: &Opened) -> Result<bool, String> {
        if let Some(missing) = self.partitions.iter().find(|name| !opened.partitions.contains(name)) {
            return Err(format!("there is no partition {missing} in the data directory"));
        }
        let owner = format!("process {} (highwater repair)", std::process::id());
        let _lock = opened.storage.lock("LOCK", &owner).map_err(|error| match error {
            LockError::Held { owner } => {
                format!("the data directory is in use by {owner}: stop that broker first")
            }
            LockError::Io(error) => format!("cannot lock the data directory: {error}"),
        })?;
        let is_wanted = |name: &&String| self.partitions.is_empty() || self.partitions.contains(name);
        let mut sound = true;
        for partition in opened.partitions.iter().filter(is_wanted) {
            let before = look(opened, partition)?;
            // A repair that a crash has cut short is finished even if no hole is left to be seen.
            let begun = before.losses.iter().any(|loss| !loss.done);
            if before.is_sound() && !begun {
                continue;
            }
            if !self.skip_holes {
                before.holes.iter().for_each(|(_, hole)| self.show(partition, hole));
                sound &= self.show_rest(partition, &before);
                continue;
            }
            let known = before.losses.iter().filter(|loss| loss.done).count();
            let losses = skip_holes(&opened.storage, &opened.path(partition), now_ms())
                .map_err(|error| format!("cannot repair partition {partition}: {error}"))?;
            losses.iter().skip(known).for_each(|loss| self.tell(partition, loss));
            sound &= self.show_rest(partition, &look(opened, partition)?);
        }
        if !self.json {
            match (sound, self.skip_holes) {
                (true, _) => say!("Nothing is damaged."),
                (false, false) => say!(
                    "\nNothing was changed. `highwater repair PARTITION --skip-holes` gives up what can be skipped."
                ),
                (false, true) => say!("\nWhat is left can only be restored from a backup."),
            }
        }
        Ok(sound)
    }

    /// Shows a hole that could be skipped.
    fn show(&self, partition: &str, hole: &Hole) {
        let bytes = hole.positions.end - hole.positions.start;
        let (first, last) = (hole.offsets.start, hole.offsets.end - 1);
        if self.json {
            say!(
                "{}",
                json!({
                    "partition": partition, "action": "skip", "first_offset": first, "last_offset": last,
                    "file": hole.file, "position": hole.positions.start, "bytes": bytes, "reason": hole.reason,
                })
            );
            return;
        }
        say!(
            "{partition}: offsets {first} to {last} would be lost, {} at byte {} of {}: {}",
            human::bytes(bytes),
            hole.positions.start,
            hole.file,
            hole.reason
        );
    }

    /// Tells of what was given up just now.
    fn tell(&self, partition: &str, loss: &Loss) {
        match self.json {
            true => say!("{}", json!({"partition": partition, "action": "skipped", "loss": loss})),
            false => say!("{partition}: {}", human::loss(loss)),
        }
    }

    /// Shows damage that is no hole and cannot be skipped. Answers whether there is no damage at all.
    fn show_rest(&self, partition: &str, found: &Inspection) -> bool {
        let damage = found.findings.iter().filter(|finding| finding.severity == Severity::Damage);
        for finding in damage.filter(|finding| finding.offsets.is_none()) {
            match self.json {
                true => say!(
                    "{}",
                    json!({"partition": partition, "action": "none", "file": finding.file, "reason": finding.what})
                ),
                false => say!("{partition}: cannot be skipped: {}: {}", finding.file, finding.what),
            }
        }
        found.is_sound()
    }
}

fn look(opened: &Opened, partition: &str) -> Result<Inspection, String> {
    inspect(Arc::clone(&opened.storage), &opened.path(partition), &mut |_, _, _| {})
        .map_err(|error| format!("cannot read partition {partition}: {error}"))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
