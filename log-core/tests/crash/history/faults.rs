//! The faults that a disk is armed with, and the errors that they account for: any other breaks a promise.

use std::io;

use log_core::log::{AppendError, LogDirError, OpenError};
use log_core::storage::Storage;

use super::{History, Step, Stop};

impl History {
    pub(super) fn choose_fault(&mut self) {
        match self.random.u8(0..10) {
            0..6 => self.sim.cut_at(self.sim.operations() + self.random.u64(0..400)),
            6..8 => self.sim.fail_sync(self.sim.syncs() + self.random.u64(0..80)),
            8 => {
                let used = u64::MAX - self.sim.free_bytes().expect("the power is on");
                self.sim.set_capacity(used + self.random.u64(0..500_000));
                self.full = true;
            }
            _ => {}
        }
    }

    /// An error is what the fault calls for, or the engine has broken a promise.
    pub(super) fn check<T, E: std::fmt::Debug>(
        &self,
        result: Result<T, E>,
        io: impl Fn(&E) -> Option<io::ErrorKind>,
    ) -> Step<T> {
        match result {
            Ok(value) => Ok(value),
            Err(_) if self.sim.is_cut() => Err(Stop::Down),
            Err(error) => match io(&error) {
                Some(io::ErrorKind::StorageFull) if self.full => Err(Stop::Down),
                // EIO has no kind of its own.
                Some(kind) if kind != io::ErrorKind::StorageFull && self.sim.has_failed_sync() => {
                    Err(Stop::Down)
                }
                _ => Err(Stop::Broken(format!("an error on a healthy disk: {error:?}"))),
            },
        }
    }

    /// As `check`, for what may be left undone on a full disk. Answers whether it was done.
    pub(super) fn tolerate_full<T, E: std::fmt::Debug>(
        &mut self,
        result: Result<T, E>,
        io: impl Fn(&E) -> Option<io::ErrorKind>,
    ) -> Step<bool> {
        match self.check(result, io) {
            Err(Stop::Down) if !self.sim.is_cut() && !self.offline() && self.full => {
                self.give_room();
                Ok(false)
            }
            done => done.map(|_| true),
        }
    }

    /// What was found wrong, unless the power went while it was looked for.
    pub(super) fn judge(&self, checked: Result<(), String>) -> Step {
        match checked {
            Err(_) if self.sim.is_cut() => Err(Stop::Down),
            checked => Ok(checked?),
        }
    }

    pub(super) fn offline(&self) -> bool {
        self.log_dir.as_ref().is_some_and(|log_dir| log_dir.health().is_offline())
    }

    pub(super) fn give_room(&mut self) {
        self.coverage.full_disks += 1;
        self.sim.set_capacity(u64::MAX);
        self.full = false;
    }
}

pub(super) fn io_error(error: &io::Error) -> Option<io::ErrorKind> {
    Some(error.kind())
}

pub(super) fn append_error(error: &AppendError) -> Option<io::ErrorKind> {
    match error {
        AppendError::Storage(error) => Some(error.kind()),
        AppendError::Offline { .. } => Some(io::ErrorKind::Other),
        _ => None,
    }
}

pub(super) fn dir_error(error: &LogDirError) -> Option<io::ErrorKind> {
    match error {
        LogDirError::Storage { source, .. } => Some(source.kind()),
        LogDirError::Log(OpenError::Storage { source, .. }) => Some(source.kind()),
        LogDirError::Log(OpenError::Offline { .. }) => Some(io::ErrorKind::Other),
        _ => None,
    }
}
