//! One log on the simulated disk through one process after another, and what has been promised of where it begins and
//! ends.

use std::io;
use std::sync::Arc;

use log_core::log::{
    AppendError, CompactionError, DeleteRecordsError, DirHealth, LogConfig, OpenError, PartitionLog, inspect,
};
use log_core::storage::Storage;
use log_core::storage::sim::SimStorage;

/// The outcome of a process that is killed on a disk that lives on.
pub(crate) const KILLED: u64 = 1;

/// Why a history stops short.
pub(crate) enum Stop {
    /// The process has come to its end.
    Down,
    /// A promise is broken.
    Broken(String),
}

impl From<String> for Stop {
    fn from(broken: String) -> Stop {
        Stop::Broken(broken)
    }
}

/// What is wrong with a life on a disk without faults.
pub(crate) fn healthy(lived: Result<(), Stop>) -> Result<(), String> {
    match lived {
        Err(Stop::Broken(broken)) => Err(broken),
        Err(Stop::Down) => Err("a healthy disk was given up".to_owned()),
        Ok(()) => Ok(()),
    }
}

/// The process that runs, and what those before it have promised.
pub(crate) struct Process {
    pub(crate) sim: SimStorage,
    pub(crate) config: LogConfig,
    path: &'static str,
    log: Option<PartitionLog>,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    /// The log start of a call that may have been interrupted.
    log_start_tried: i64,
}

impl Process {
    /// None yet: [`open`](Process::open) starts one.
    pub(crate) fn new(sim: SimStorage, path: &'static str, config: LogConfig) -> Process {
        Process { sim, config, path, log: None, high_watermark: 0, log_start: 0, log_start_tried: 0 }
    }

    pub(crate) fn log(&mut self) -> &mut PartitionLog {
        self.log.as_mut().expect("open")
    }

    /// What an operation gave; `None` if the disk was full.
    pub(crate) fn done<T, E: std::fmt::Debug>(
        &self,
        result: Result<T, E>,
        kind: impl Fn(&E) -> Option<io::ErrorKind>,
    ) -> Result<Option<T>, Stop> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.sim.is_cut() || self.sim.has_failed_sync() => {
                self.sim.note(format_args!("{error:?}, {:?}", kind(&error)));
                Err(Stop::Down)
            }
            Err(error) if kind(&error) == Some(io::ErrorKind::StorageFull) => Ok(None),
            Err(error) => Err(Stop::Broken(format!("{error:?} on a healthy disk"))),
        }
    }

    /// What an operation gave on a disk that is never full.
    pub(crate) fn certain<T, E: std::fmt::Debug>(
        &self,
        result: Result<T, E>,
        kind: impl Fn(&E) -> Option<io::ErrorKind>,
    ) -> Result<T, Stop> {
        self.done(result, kind)?.ok_or_else(|| "the disk is full".to_owned().into())
    }

    /// Consumers are shown what is durable now.
    pub(crate) fn saw(&mut self) {
        self.high_watermark = self.log().watermarks().high_watermark();
    }

    /// DeleteRecords.
    pub(crate) fn delete_records(&mut self, before: i64) -> Result<(), Stop> {
        self.log_start_tried = before;
        let deleted = self.log().delete_records(before);
        let deleted = self.done(deleted, |error| match error {
            DeleteRecordsError::Unwritable(error) => append_error(error),
            DeleteRecordsError::OutOfRange { .. } => None,
        })?;
        // It may have moved before there was no room for the rest.
        self.log_start = deleted.unwrap_or_else(|| self.log().watermarks().log_start());
        self.log_start_tried = self.log_start;
        Ok(())
    }

    /// A clean end.
    pub(crate) fn close(&mut self) -> Result<(), Stop> {
        let closed = self.log().close();
        if self.done(closed, storage_error)?.is_some() {
            self.saw();
        }
        self.log = None;
        Ok(())
    }

    /// An end in the middle of things: the power is cut, or the process killed. `outcome` decides, and what has
    /// reached the disk.
    pub(crate) fn end(&mut self, outcome: u64) {
        self.log = None;
        self.sim = if outcome.is_multiple_of(2) { self.sim.crash(outcome) } else { self.sim.restart() };
    }

    /// Starts the next process and holds what it finds against what was promised; where the log ends.
    pub(crate) fn open(&mut self) -> Result<i64, Stop> {
        let made = self.sim.create_dir_all(self.path).and_then(|()| {
            self.sim.sync_dir("")?;
            self.sim.sync_dir("topics")
        });
        if self.done(made, storage_error)?.is_none() {
            return Err(Stop::Down);
        }
        let storage = Arc::new(self.sim.clone());
        if let Ok(found) = inspect(storage.clone(), self.path, &mut |_, _, _| {})
            && !found.is_sound()
        {
            return Err(format!("verify would say: {:?}", found.findings).into());
        }
        let health = Arc::new(DirHealth::default());
        let opened = PartitionLog::open(storage, self.path, health, self.config.clone());
        let opened = self.done(opened, |error| match error {
            OpenError::Storage { source, .. } => Some(source.kind()),
            OpenError::Offline { .. } => None,
        })?;
        let Some((log, report)) = opened else { return Err(Stop::Down) };
        let watermarks = log.watermarks();
        self.sim.note(format_args!("open: {watermarks:?}, {report:?}"));
        if let Some(corruption) = report.corruption {
            return Err(format!("a crash was taken for damage: {corruption}").into());
        }
        self.log = Some(log);
        let log_end = watermarks.log_end();
        if log_end < self.high_watermark {
            return Err(format!("ends at {log_end}, {} was acknowledged", self.high_watermark).into());
        }
        if !(self.log_start..=self.log_start_tried).contains(&watermarks.log_start()) {
            return Err(format!("starts at {}, not {}", watermarks.log_start(), self.log_start).into());
        }
        self.log_start = watermarks.log_start();
        self.log_start_tried = self.log_start;
        self.high_watermark = log_end;
        Ok(log_end)
    }
}

pub(crate) fn storage_error(error: &io::Error) -> Option<io::ErrorKind> {
    Some(error.kind())
}

pub(crate) fn append_error(error: &AppendError) -> Option<io::ErrorKind> {
    match error {
        AppendError::Storage(error) => Some(error.kind()),
        _ => None,
    }
}

pub(crate) fn compaction_error(error: &CompactionError) -> Option<io::ErrorKind> {
    match error {
        CompactionError::Storage(error) => Some(error.kind()),
        _ => None,
    }
}
