//! A [`ShardLog`] in memory, for tests: its disk syncs when the test says so, runs full, fails and loses power.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::shard_log::{Chunk, NotWritten, Offline, ReadFailed, ShardLog, Written};
use crate::coordinator::machine::LogEntry;

#[derive(Debug, Default)]
pub(crate) struct MemoryLog {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Batches with their base offsets.
    batches: Vec<(i64, Vec<LogEntry>)>,
    start: i64,
    end: i64,
    durable: i64,
    manual: bool,
    full: bool,
    /// Appends that succeed before the disk is full.
    room: Option<usize>,
    offline: bool,
    unreadable: bool,
}

impl MemoryLog {
    /// Everything is durable at once.
    pub(crate) fn quick() -> Arc<Self> {
        Arc::default()
    }

    /// Nothing is durable before [`sync`](Self::sync).
    pub(crate) fn manual() -> Arc<Self> {
        let log = MemoryLog::default();
        log.state.lock().manual = true;
        Arc::new(log)
    }

    pub(crate) fn sync(&self) {
        let mut state = self.state.lock();
        state.durable = state.end;
        drop(state);
        self.changed.notify_waiters();
    }

    pub(crate) fn fail_sync(&self) {
        self.state.lock().offline = true;
        self.changed.notify_waiters();
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    pub(crate) fn set_room(&self, appends: usize) {
        self.state.lock().room = Some(appends);
    }

    pub(crate) fn set_unreadable(&self) {
        self.state.lock().unreadable = true;
    }

    /// What a power cut leaves: what is durable and some of the batches behind it.
    pub(crate) fn crash(&self, kept_batches: usize) -> Arc<Self> {
        let mut state = self.state.lock().clone();
        let durable = state.durable;
        let mut kept = 0;
        state.batches.retain(|(base, _)| {
            kept += usize::from(*base >= durable);
            *base < durable || kept <= kept_batches
        });
        state.end = state.batches.last().map_or(state.start, |(base, entries)| base + entries.len() as i64);
        state.durable = state.end;
        state.manual = false;
        Arc::new(MemoryLog { state: Mutex::new(state), changed: Notify::new() })
    }

    pub(crate) fn undurable_batches(&self) -> usize {
        let state = self.state.lock();
        state.batches.iter().filter(|(base, _)| *base >= state.durable).count()
    }
}

impl ShardLog for MemoryLog {
    fn append(&self, entries: Vec<LogEntry>, _now_ms: i64) -> Result<Written, NotWritten> {
        let mut state = self.state.lock();
        if state.full || state.offline || state.room == Some(0) {
            return Err(NotWritten("no space".to_owned()));
        }
        if let Some(room) = &mut state.room {
            *room -= 1;
        }
        let bytes = entries.iter().map(|entry| entry.key.len() + entry.value.as_ref().map_or(0, |v| v.len()));
        let bytes = bytes.sum::<usize>() as u64;
        let base = state.end;
        state.end += entries.len() as i64;
        state.batches.push((base, entries));
        if !state.manual {
            state.durable = state.end;
        }
        Ok(Written { end: state.end, bytes })
    }

    async fn wait_durable(&self, offset: i64) -> Result<(), Offline> {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state.lock();
                if state.durable >= offset {
                    return Ok(());
                }
                if state.offline {
                    return Err(Offline);
                }
            }
            changed.await;
        }
    }

    fn start(&self) -> i64 {
        self.state.lock().start
    }

    fn durable_end(&self) -> i64 {
        self.state.lock().durable
    }

    fn end(&self) -> i64 {
        self.state.lock().end
    }

    fn read(&self, offset: i64) -> Result<Chunk, ReadFailed> {
        let state = self.state.lock();
        if state.unreadable {
            return Err(ReadFailed { offset, reason: "bad sector".to_owned() });
        }
        let batch = state.batches.iter().find(|(base, entries)| base + entries.len() as i64 > offset);
        let (base, entries) = batch.cloned().unwrap_or((offset, Vec::new()));
        let next = base + entries.len() as i64;
        let bytes = entries.iter().map(|entry| entry.key.len() as u64).sum();
        Ok(Chunk { entries, next, bytes })
    }

    fn delete_before(&self, offset: i64) -> Result<(), String> {
        let mut state = self.state.lock();
        assert!(offset <= state.durable, "what is not durable was to be deleted");
        state.start = state.start.max(offset);
        let start = state.start;
        state.batches.retain(|(base, entries)| base + entries.len() as i64 > start);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }
}
