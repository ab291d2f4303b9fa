//! A shard against a small machine and a log in memory: what is answered when, and what survives.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::memory_log::MemoryLog;
use super::shard::{Phase, ShardHandle, Unavailable};
use super::shard_log::ShardLog;
use super::shards::{query_each, reachable};
use crate::coordinator::machine::{Decision, EntryError, LogEntry, Now, StateMachine, Token};

/// Counters by name: the smallest machine with durable state, parked requests and deadlines.
#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<u8, u8>,
    parked: Vec<Token>,
    bell_at_ms: Option<u64>,
}

#[derive(Debug)]
enum Order {
    /// Durable: counts up, and answers with the new count.
    Count(u8),
    /// Answers at once, changes nothing.
    Ping,
    /// Answers when somebody counts.
    Wait,
    /// Counts `0xff` up in so many milliseconds.
    Bell(u64),
}

#[derive(Debug)]
enum Change {
    Counted(u8, u8),
    Parked(Token),
    Released,
    Bell(Option<u64>),
}

impl Tally {
    fn count(&self, name: u8) -> Change {
        Change::Counted(name, self.counts.get(&name).copied().unwrap_or(0).wrapping_add(1))
    }
}

impl StateMachine for Tally {
    type Command = Order;
    type Event = Change;
    type Reply = u8;

    fn handle(&self, now: Now, token: Token, order: Order) -> Decision<Change, u8> {
        match order {
            Order::Count(name) => {
                let change = self.count(name);
                let Change::Counted(_, count) = change else { unreachable!() };
                let mut replies: Vec<_> = self.parked.iter().map(|token| (*token, count)).collect();
                replies.push((token, count));
                Decision { events: vec![change, Change::Released], replies }
            }
            Order::Ping => Decision::reply(token, 0),
            Order::Wait => Decision { events: vec![Change::Parked(token)], replies: Vec::new() },
            Order::Bell(ms) => {
                let events = vec![Change::Bell(Some(now.monotonic_ms + ms))];
                Decision { events, replies: vec![(token, 0)] }
            }
        }
    }

    fn handle_timeout(&self, now: Now) -> Decision<Change, u8> {
        match self.bell_at_ms {
            Some(at_ms) if at_ms <= now.monotonic_ms => {
                Decision { events: vec![self.count(0xff), Change::Bell(None)], replies: Vec::new() }
            }
            _ => Decision::none(),
        }
    }

    fn poll_timeout(&self) -> Option<u64> {
        self.bell_at_ms
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Counted(name, count) => drop(self.counts.insert(name, count)),
            Change::Parked(token) => self.parked.push(token),
            Change::Released => self.parked.clear(),
            Change::Bell(at_ms) => self.bell_at_ms = at_ms,
        }
    }

    fn encode(change: &Change) -> Option<LogEntry> {
        match change {
            Change::Counted(name, count) => Some(entry(*name, *count)),
            Change::Parked(_) | Change::Released | Change::Bell(_) => None,
        }
    }

    fn decode(entry: &LogEntry) -> Result<Option<Change>, EntryError> {
        match (&entry.key[..], entry.value.as_deref()) {
            (&[name], Some(&[count])) => Ok(Some(Change::Counted(name, count))),
            _ => Err(EntryError::Malformed { what: "count", reason: "not two bytes" }),
        }
    }

    fn snapshot(&self) -> Box<dyn Iterator<Item = LogEntry> + '_> {
        Box::new(self.counts.iter().map(|(name, count)| entry(*name, *count)))
    }

    fn loaded(&mut self, _now: Now) {}
}

fn entry(name: u8, count: u8) -> LogEntry {
    LogEntry { key: Bytes::copy_from_slice(&[name]), value: Some(Bytes::copy_from_slice(&[count])) }
}

struct Running {
    shard: ShardHandle<Tally>,
    log: Arc<MemoryLog>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Running {
    async fn start(log: Arc<MemoryLog>) -> Self {
        Self::start_with(log, u64::MAX).await
    }

    async fn start_with(log: Arc<MemoryLog>, snapshot_bytes: u64) -> Self {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let name = "test".to_owned();
        let shard =
            ShardHandle::spawn(name, Tally::default(), log.clone(), snapshot_bytes, &tasks, shutdown.clone());
        shard.loaded().await;
        Running { shard, log, tasks, shutdown }
    }

    async fn counts(&self) -> BTreeMap<u8, u8> {
        self.shard.query(|tally| tally.counts.clone()).await.unwrap()
    }

    async fn stop(self) -> Arc<MemoryLog> {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.log
    }
}

/// Lets the shard's task run until it has nothing to do.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn commands_are_answered_and_survive_a_restart() {
    let running = Running::start(MemoryLog::quick()).await;
    assert_eq!(running.shard.submit(Order::Count(1)).await, Ok(1));
    assert_eq!(running.shard.submit(Order::Count(1)).await, Ok(2));
    let log = running.stop().await;
    let running = Running::start(log).await;
    assert_eq!(running.counts().await, BTreeMap::from([(1, 2)]));
}

#[tokio::test]
async fn answers_wait_for_the_disk_and_later_commands_do_not() {
    let running = Running::start(MemoryLog::manual()).await;
    let mut first = Box::pin(running.shard.submit(Order::Count(1)));
    let second = running.shard.submit(Order::Count(1));
    let read = running.shard.query(|tally| tally.counts[&1]);
    let ping = running.shard.submit(Order::Ping);
    settle().await;
    assert_eq!(running.log.undurable_batches(), 2, "both are appended, to be synced together");
    assert!(futures_util::poll!(&mut first).is_pending());
    running.log.sync();
    assert_eq!((first.await, second.await, read.await, ping.await), (Ok(1), Ok(2), Ok(2), Ok(0)));
}

#[tokio::test]
async fn a_read_does_not_see_what_a_power_cut_could_take_back() {
    let running = Running::start(MemoryLog::manual()).await;
    let _count = running.shard.submit(Order::Count(1));
    let mut read = Box::pin(running.shard.query(|tally| tally.counts.clone()));
    settle().await;
    assert!(futures_util::poll!(&mut read).is_pending());
    let after = Running::start(running.log.crash(0)).await;
    assert!(after.counts().await.is_empty());
}

#[tokio::test]
async fn a_parked_command_is_answered_by_a_later_one() {
    let running = Running::start(MemoryLog::quick()).await;
    let mut parked = Box::pin(running.shard.submit(Order::Wait));
    settle().await;
    assert!(futures_util::poll!(&mut parked).is_pending());
    running.shard.submit(Order::Count(3)).await.unwrap();
    assert_eq!(parked.await, Ok(1));
}

#[tokio::test]
async fn a_full_disk_refuses_the_command_changes_nothing_and_heals() {
    let running = Running::start(MemoryLog::quick()).await;
    let mut parked = Box::pin(running.shard.submit(Order::Wait));
    settle().await;
    running.log.set_full(true);
    assert_eq!(running.shard.submit(Order::Count(1)).await, Err(Unavailable::NotWritten));
    assert!(futures_util::poll!(&mut parked).is_pending(), "the one who waited still does");
    assert_eq!(running.shard.submit(Order::Ping).await, Ok(0));
    assert!(running.counts().await.is_empty());
    running.log.set_full(false);
    assert_eq!(running.shard.submit(Order::Count(1)).await, Ok(1));
    assert_eq!(parked.await, Ok(1));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_answered_any_more() {
    let running = Running::start(MemoryLog::manual()).await;
    let parked = running.shard.submit(Order::Wait);
    let held = running.shard.submit(Order::Count(1));
    settle().await;
    running.log.fail_sync();
    assert_eq!(held.await, Err(Unavailable::Offline));
    drop(parked);
    assert_eq!(running.shard.submit(Order::Ping).await, Err(Unavailable::Offline));
    assert_eq!(running.shard.query(|_| ()).await, Err(Unavailable::Offline));
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_met_and_retried_when_the_disk_is_full() {
    let running = Running::start(MemoryLog::quick()).await;
    running.shard.submit(Order::Bell(5_000)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(4_900)).await;
    assert!(running.counts().await.is_empty());
    running.log.set_full(true);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(running.counts().await.is_empty());
    running.log.set_full(false);
    tokio::time::sleep(std::time::Duration::from_millis(2_000)).await;
    assert_eq!(running.counts().await, BTreeMap::from([(0xff, 1)]));
}

#[tokio::test]
async fn a_stopping_shard_answers_what_it_holds_and_sends_the_others_away() {
    let running = Running::start(MemoryLog::manual()).await;
    let parked = running.shard.submit(Order::Wait);
    settle().await;
    let held = running.shard.submit(Order::Count(1));
    let late = running.shard.submit(Order::Wait);
    settle().await;
    running.shutdown.cancel();
    settle().await;
    running.log.sync();
    assert_eq!((parked.await, held.await), (Ok(1), Ok(1)));
    assert_eq!(late.await, Err(Unavailable::Stopped));
    settle().await;
    assert_eq!(running.shard.submit(Order::Ping).await, Err(Unavailable::Stopped));
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_not_served() {
    let running = Running::start(MemoryLog::quick()).await;
    running.shard.submit(Order::Count(1)).await.unwrap();
    let log = running.stop().await;
    log.set_unreadable();
    let running = Running::start(log).await;
    assert_eq!(running.shard.phase(), Phase::Failed);
    assert_eq!(running.shard.submit(Order::Ping).await, Err(Unavailable::Offline));
}

#[tokio::test]
async fn who_can_do_with_less_is_answered_by_the_shards_that_can() {
    let good = Running::start(MemoryLog::quick()).await;
    let log = MemoryLog::quick();
    log.append(vec![entry(1, 7)], 0).unwrap();
    log.set_unreadable();
    let bad = Running::start(log).await;
    let ask = async |shards: &[ShardHandle<Tally>]| query_each(shards, |tally| tally.counts.len()).await;
    let answers = ask(&[good.shard.clone(), bad.shard.clone()]).await;
    assert_eq!(answers, [Ok(0), Err(Unavailable::Offline)]);
    assert_eq!(reachable(answers), Ok(vec![0]));
    assert_eq!(reachable(ask(&[bad.shard]).await), Err(Unavailable::Offline));
    assert_eq!(reachable(ask(&[]).await), Ok(vec![]));
}

#[tokio::test]
async fn entries_that_are_not_understood_are_skipped() {
    let log = MemoryLog::quick();
    let strange = LogEntry { key: Bytes::from_static(b"strange"), value: None };
    log.append(vec![entry(1, 7), strange, entry(2, 8)], 0).unwrap();
    let running = Running::start(log).await;
    assert_eq!(running.counts().await, BTreeMap::from([(1, 7), (2, 8)]));
}

/// Waits, without a clock, for the blocking thread that deletes.
async fn log_starts_at_least_at(log: &MemoryLog, offset: i64) {
    while log.start() < offset {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_log_stays_short_and_keeps_the_state() {
    let running = Running::start_with(MemoryLog::quick(), 64).await;
    for i in 0..200u8 {
        running.shard.submit(Order::Count(i % 4)).await.unwrap();
    }
    log_starts_at_least_at(&running.log, 160).await;
    let log = running.stop().await;
    assert!(log.end() - log.start() < 100, "{} entries are left", log.end() - log.start());
    let running = Running::start(log).await;
    assert_eq!(running.counts().await, BTreeMap::from([(0, 50), (1, 50), (2, 50), (3, 50)]));
}

#[tokio::test]
async fn a_crash_at_any_point_of_a_snapshot_keeps_the_state() {
    let log = MemoryLog::manual();
    let running = Running::start_with(log.clone(), 64).await;
    let counts: Vec<_> = (0..40u8).map(|i| running.shard.submit(Order::Count(i % 8))).collect();
    settle().await;
    assert!(log.end() > 40, "the snapshot is appended behind the counts");
    for kept in 0..=log.undurable_batches() {
        let crashed = log.crash(kept);
        let end = crashed.end().min(40);
        let after = Running::start(crashed).await;
        let expected: BTreeMap<u8, u8> = (0..8u8)
            .map(|name| (name, (0..end).filter(|i| i % 8 == i64::from(name)).count() as u8))
            .collect();
        let expected = expected.into_iter().filter(|(_, count)| *count > 0).collect::<BTreeMap<_, _>>();
        assert_eq!(after.counts().await, expected, "{kept} batches were kept");
    }
    assert_eq!(log.start(), 0, "nothing is deleted before the snapshot is durable");
    log.sync();
    for count in counts {
        count.await.unwrap();
    }
    log_starts_at_least_at(&log, 1).await;
    let after = Running::start(log.crash(usize::MAX)).await;
    assert_eq!(after.counts().await, (0..8).map(|name| (name, 5)).collect());
}

#[tokio::test]
async fn a_snapshot_that_the_disk_has_no_room_for_is_given_up_and_made_later() {
    let log = MemoryLog::quick();
    let running = Running::start_with(log.clone(), 64).await;
    log.set_room(32);
    for _ in 0..32 {
        running.shard.submit(Order::Count(1)).await.unwrap();
    }
    settle().await;
    assert_eq!((log.start(), log.end()), (0, 32));
    log.set_room(1_000);
    for _ in 0..64 {
        running.shard.submit(Order::Count(1)).await.unwrap();
    }
    log_starts_at_least_at(&log, 64).await;
    assert_eq!(running.counts().await, BTreeMap::from([(1, 96)]));
}
