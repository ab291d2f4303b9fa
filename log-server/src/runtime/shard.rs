//! One shard: a task that drives one [`StateMachine`] over one log.
//!
//! ```text
//! mailbox ──► handle ──► append (one batch) ──► apply ──► hold the answers ──► durable ──► answer
//!                                                            │
//!             next command ◄──────────────────────────────────┘   nobody waits for the disk but the answers
//! ```
//! While answers are held, later commands are handled on top of what is applied, and their appends ride on the next
//! sync: group commit. No answer overtakes one that was decided before it, so none shows state that a power cut could
//! take back, reads included. When a sync fails, everything that is held is refused, and so is everything after it.
//!
//! **The log stays short.** It is not compacted; instead, after `snapshot_bytes` of appends, the live state is
//! appended anew and, once that is durable, everything before it is deleted. A crash in between costs nothing: every
//! entry sets its key's whole state, so replaying old entries and then a part of the snapshot, or all of it, ends in
//! the same state.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shard_log::{Offline, ReadFailed, ShardLog};
use crate::coordinator::machine::{Decision, LogEntry, Now, StateMachine, Token};

/// Commands that wait in a shard's mailbox at most. Beyond it, senders wait.
const MAILBOX_MAX: usize = 4_096;

/// Commands handled between two looks at the clock and at the disk.
const BURST_MAX: usize = 64;

/// Bytes of entries in one batch of a snapshot.
const SNAPSHOT_BATCH_BYTES: usize = 256 << 10;

/// How long to leave deadlines alone whose decision could not be logged.
const RETRY_MS: u64 = 1_000;

/// Why a shard does not answer a command. Nothing has happened, or what has happened is not promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The log is being replayed.
    #[error("the coordinator is loading")]
    Loading,
    /// The log did not take the decision.
    #[error("the coordinator's log cannot be written")]
    NotWritten,
    /// The log cannot be read, or a sync of it has failed.
    #[error("the coordinator's log is offline")]
    Offline,
    /// The broker is shutting down.
    #[error("the coordinator is stopping")]
    Stopped,
}

/// Where a shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Replaying its log.
    Loading,
    /// Taking commands.
    Serving,
    /// Its log cannot be read, so it does not know its state and takes no commands.
    Failed,
}

/// Sends commands and questions to a shard.
pub struct ShardHandle<M: StateMachine> {
    mailbox: mpsc::Sender<Message<M>>,
    phase: watch::Receiver<Phase>,
}

impl<M: StateMachine> Clone for ShardHandle<M> {
    fn clone(&self) -> Self {
        ShardHandle { mailbox: self.mailbox.clone(), phase: self.phase.clone() }
    }
}

enum Message<M: StateMachine> {
    Command(M::Command, oneshot::Sender<Result<M::Reply, Unavailable>>),
    /// Looks at the state, and gives back what delivers the answer.
    Query(Box<dyn FnOnce(&M) -> Release + Send>),
}

/// What is done with an answer once it is durable, or once it is known that it never will be.
type Release = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;

impl<M> ShardHandle<M>
where
    M: StateMachine + Send + 'static,
    M::Command: Send,
    M::Event: Send,
    M::Reply: Send,
{
    /// Starts the shard's task on `tasks`: it replays `log` into `machine`, then serves until `shutdown`.
    pub fn spawn<L: ShardLog>(
        name: String,
        machine: M,
        log: Arc<L>,
        snapshot_bytes: u64,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(MAILBOX_MAX);
        let (phase_sender, phase) = watch::channel(Phase::Loading);
        tasks.spawn(async move {
            let clock = Clock::start();
            let replayed = {
                let log = log.clone();
                tokio::task::spawn_blocking(move || replay(machine, &*log)).await
            };
            let (mut machine, replayed_bytes) = match replayed {
                Ok(Ok(replayed)) => replayed,
                Ok(Err(error)) => {
                    tracing::error!(shard = name, %error, "a coordinator's log cannot be read: what is in it is not served");
                    phase_sender.send_replace(Phase::Failed);
                    return;
                }
                // The thread panicked, or the runtime is going down.
                Err(error) => {
                    tracing::error!(shard = name, %error, "replaying a coordinator's log was cut short");
                    phase_sender.send_replace(Phase::Failed);
                    return;
                }
            };
            machine.loaded(clock.now());
            phase_sender.send_replace(Phase::Serving);
            let shard = Shard {
                name,
                machine,
                log,
                clock,
                mailbox: receiver,
                tokens: HashMap::new(),
                next_token: 0,
                held: VecDeque::new(),
                sync: None,
                offline: false,
                retry_at_ms: 0,
                snapshot_bytes,
                snapshot_due_bytes: snapshot_bytes,
                appended_bytes: replayed_bytes,
            };
            shard.run(shutdown).await;
        });
        ShardHandle { mailbox: sender, phase }
    }

    /// Sends a command. It is in the mailbox when this returns, unless the mailbox is full: then it gets there when
    /// the future is polled.
    pub fn submit(
        &self,
        command: M::Command,
    ) -> impl Future<Output = Result<M::Reply, Unavailable>> + Send + use<M> {
        let (sender, answer) = oneshot::channel();
        self.deliver(Message::Command(command, sender), answer)
    }

    /// Asks a question about the state after all commands that were submitted before.
    pub fn query<T, Q>(
        &self,
        question: Q,
    ) -> impl Future<Output = Result<T, Unavailable>> + Send + use<M, T, Q>
    where
        T: Send + 'static,
        Q: FnOnce(&M) -> T + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let question = move |machine: &M| -> Release {
            let value = question(machine);
            // Whoever asked may be gone; then nobody misses the answer.
            Box::new(move |durable| drop(sender.send(durable.map(|()| value))))
        };
        self.deliver(Message::Query(Box::new(question)), answer)
    }

    fn deliver<T: Send + 'static>(
        &self,
        message: Message<M>,
        answer: oneshot::Receiver<Result<T, Unavailable>>,
    ) -> impl Future<Output = Result<T, Unavailable>> + Send + use<M, T> {
        let sent = match *self.phase.borrow() {
            Phase::Loading => Err(Unavailable::Loading),
            Phase::Failed => Err(Unavailable::Offline),
            Phase::Serving => match self.mailbox.try_send(message) {
                Ok(()) => Ok(None),
                Err(mpsc::error::TrySendError::Full(message)) => Ok(Some((self.mailbox.clone(), message))),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(Unavailable::Stopped),
            },
        };
        async move {
            if let Some((mailbox, message)) = sent? {
                mailbox.send(message).await.map_err(|_| Unavailable::Stopped)?;
            }
            answer.await.unwrap_or(Err(Unavailable::Stopped))
        }
    }

    /// Where the shard stands.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until the shard has replayed its log, or failed to.
    pub async fn loaded(&self) -> Phase {
        let mut phase = self.phase.clone();
        // The sender lives as long as the task; without it nothing is being loaded any more.
        phase.wait_for(|phase| *phase != Phase::Loading).await.map_or(Phase::Failed, |phase| *phase)
    }
}

/// Reads the clocks. The monotonic one begins when the shard does.
struct Clock {
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        Clock { started: Instant::now() }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// When `monotonic_ms` is. Far-off times are brought near enough to be represented; waking early is harmless.
    fn instant(&self, monotonic_ms: u64) -> Instant {
        const FAR_MS: u64 = 365 * 24 * 60 * 60 * 1_000;
        self.started + Duration::from_millis(monotonic_ms.min(self.now().monotonic_ms.saturating_add(FAR_MS)))
    }
}

/// Reads the whole log into `machine`. Entries that it does not understand are skipped and named: they were written by
/// another version, and refusing to start would not bring them back.
fn replay<M: StateMachine, L: ShardLog>(mut machine: M, log: &L) -> Result<(M, u64), ReadFailed> {
    let end = log.end();
    let mut offset = log.start();
    let mut bytes = 0;
    while offset < end {
        let chunk = log.read(offset)?;
        if chunk.next <= offset {
            return Err(ReadFailed { offset, reason: format!("the log ends here, and not at {end}") });
        }
        for entry in &chunk.entries {
            match M::decode(entry) {
                Ok(Some(event)) => machine.apply(event),
                Ok(None) => {}
                Err(error) => tracing::warn!(offset, %error, "skipped an entry of a coordinator's log"),
            }
        }
        offset = chunk.next;
        bytes += chunk.bytes;
    }
    Ok((machine, bytes))
}

/// The wait for the sync that the first held answer needs.
type Sync = Pin<Box<dyn Future<Output = Result<(), Offline>> + Send>>;

struct Shard<M: StateMachine, L> {
    name: String,
    machine: M,
    log: Arc<L>,
    clock: Clock,
    mailbox: mpsc::Receiver<Message<M>>,
    /// Who waits for which answer. Bounded by what the machine parks.
    tokens: HashMap<Token, oneshot::Sender<Result<M::Reply, Unavailable>>>,
    next_token: u64,
    /// Answers in the order of their decisions, each with the offset below which all has to be durable.
    held: VecDeque<(i64, Release)>,
    sync: Option<Sync>,
    /// A sync has failed: what is applied may not be on disk, so nothing is answered any more.
    offline: bool,
    /// Deadlines are left alone until then.
    retry_at_ms: u64,
    snapshot_bytes: u64,
    /// The length of the log at which it is shortened.
    snapshot_due_bytes: u64,
    /// Bytes in the log since the last snapshot, which counts.
    appended_bytes: u64,
}

impl<M, L> Shard<M, L>
where
    M: StateMachine,
    M::Reply: Send + 'static,
    L: ShardLog,
{
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            self.pass_time();
            self.shorten_log();
            self.await_sync();
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                durable = synced(&mut self.sync) => self.release(durable),
                message = self.mailbox.recv() => match message {
                    Some(message) => self.take_burst(message),
                    None => break,
                },
                () = sleep_until(wake_at) => {}
            }
        }
        self.stop().await;
    }

    fn take_burst(&mut self, first: Message<M>) {
        self.take(first);
        for _ in 1..BURST_MAX {
            match self.mailbox.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
    }

    fn take(&mut self, message: Message<M>) {
        match message {
            Message::Command(_, sender) if self.offline => drop(sender.send(Err(Unavailable::Offline))),
            Message::Command(command, sender) => {
                self.next_token += 1;
                let token = Token(self.next_token);
                self.tokens.insert(token, sender);
                let now = self.clock.now();
                let decision = self.machine.handle(now, token, command);
                if !self.carry_out(now, decision)
                    && let Some(sender) = self.tokens.remove(&token)
                {
                    drop(sender.send(Err(Unavailable::NotWritten)));
                }
            }
            Message::Query(question) => {
                let release = question(&self.machine);
                match self.held.back() {
                    _ if self.offline => release(Err(Unavailable::Offline)),
                    Some(&(end, _)) => self.held.push_back((end, release)),
                    None => release(Ok(())),
                }
            }
        }
    }

    /// Logs and applies a decision and answers, or holds the answers. False if the log refused: then nothing has
    /// happened.
    fn carry_out(&mut self, now: Now, decision: Decision<M::Event, M::Reply>) -> bool {
        let entries: Vec<LogEntry> = decision.events.iter().filter_map(M::encode).collect();
        let durable_at = if entries.is_empty() {
            self.held.back().map(|(end, _)| *end)
        } else {
            match self.log.append(entries, now.wall_ms) {
                Ok(written) => {
                    self.appended_bytes += written.bytes;
                    Some(written.end)
                }
                Err(error) => {
                    tracing::warn!(shard = self.name, %error, "a coordinator's decision could not be logged");
                    return false;
                }
            }
        };
        for event in decision.events {
            self.machine.apply(event);
        }
        for (token, reply) in decision.replies {
            let Some(sender) = self.tokens.remove(&token) else { continue };
            match durable_at {
                None => drop(sender.send(Ok(reply))),
                Some(end) => {
                    let release =
                        move |durable: Result<(), Unavailable>| drop(sender.send(durable.map(|()| reply)));
                    self.held.push_back((end, Box::new(release)));
                }
            }
        }
        if let Some(end) = durable_at
            && self.held.back().is_none_or(|(held, _)| *held < end)
        {
            // Nobody waits for this one, but whoever reads from now on must.
            self.held.push_back((end, Box::new(|_| ())));
        }
        true
    }

    fn pass_time(&mut self) {
        let mut now = self.clock.now();
        while !self.offline
            && now.monotonic_ms >= self.retry_at_ms
            && self.machine.poll_timeout().is_some_and(|at_ms| at_ms <= now.monotonic_ms)
        {
            let decision = self.machine.handle_timeout(now);
            if !self.carry_out(now, decision) {
                self.retry_at_ms = now.monotonic_ms + RETRY_MS;
            }
            now = self.clock.now();
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let at_ms = self.machine.poll_timeout().filter(|_| !self.offline)?;
        Some(self.clock.instant(at_ms.max(self.retry_at_ms)))
    }

    /// Waits for the first held answer's sync, unless that is waited for already.
    fn await_sync(&mut self) {
        if self.sync.is_none()
            && let Some(&(end, _)) = self.held.front()
        {
            let log = self.log.clone();
            self.sync = Some(Box::pin(async move { log.wait_durable(end).await }));
        }
    }

    fn release(&mut self, durable: Result<(), Offline>) {
        self.sync = None;
        match durable {
            Ok(()) => {
                let durable_end = self.log.durable_end();
                while let Some((_, release)) = self.held.pop_front_if(|(end, _)| *end <= durable_end) {
                    release(Ok(()));
                }
            }
            Err(Offline) => {
                tracing::error!(
                    shard = self.name,
                    "a coordinator's log is offline: what is in it is not served any more"
                );
                self.offline = true;
                for (_, release) in self.held.drain(..) {
                    release(Err(Unavailable::Offline));
                }
                for (_, sender) in self.tokens.drain() {
                    drop(sender.send(Err(Unavailable::Offline)));
                }
            }
        }
    }

    /// Appends the live state and has everything before it deleted once that is durable, if the log is long enough.
    fn shorten_log(&mut self) {
        if self.appended_bytes < self.snapshot_due_bytes || self.offline {
            return;
        }
        let start = self.log.end();
        let wall_ms = self.clock.now().wall_ms;
        let written = append_in_batches(&*self.log, self.machine.snapshot(), wall_ms);
        let Some(bytes) = written else {
            // The disk is full. What was appended changes nothing; the attempt is repeated after more appends.
            self.snapshot_due_bytes = self.appended_bytes + self.snapshot_bytes;
            return;
        };
        self.appended_bytes = bytes;
        // A state larger than the interval must not be written over and over: at least as much as it again comes first.
        self.snapshot_due_bytes = bytes.saturating_mul(2).max(self.snapshot_bytes);
        let (log, name) = (self.log.clone(), self.name.clone());
        let delete = move |durable: Result<(), Unavailable>| {
            if durable.is_ok() {
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = log.delete_before(start) {
                        tracing::warn!(shard = name, error, "a coordinator's log could not be shortened");
                    }
                });
            }
        };
        self.held.push_back((self.log.end(), Box::new(delete)));
    }

    /// Keeps the promises that were made: what is held is answered once it is durable. What is parked is told to look
    /// for a coordinator elsewhere, or here after the restart.
    async fn stop(mut self) {
        self.mailbox.close();
        for (_, sender) in self.tokens.drain() {
            drop(sender.send(Err(Unavailable::Stopped)));
        }
        while let Some(&(end, _)) = self.held.front() {
            let durable = self.log.wait_durable(end).await;
            self.release(durable);
        }
    }
}

async fn synced(sync: &mut Option<Sync>) -> Result<(), Offline> {
    match sync {
        Some(sync) => sync.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Appends all of `entries`, and says how many bytes that were; `None` if the log refused some of them.
fn append_in_batches<L: ShardLog>(
    log: &L,
    entries: impl Iterator<Item = LogEntry>,
    wall_ms: i64,
) -> Option<u64> {
    let mut bytes = 0;
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    let mut append = |batch: Vec<LogEntry>| match log.append(batch, wall_ms) {
        Ok(written) => {
            bytes += written.bytes;
            true
        }
        Err(error) => {
            tracing::warn!(?log, %error, "a coordinator's snapshot could not be logged");
            false
        }
    };
    for entry in entries {
        batch_bytes += entry.key.len() + entry.value.as_ref().map_or(0, bytes::Bytes::len);
        batch.push(entry);
        if batch_bytes >= SNAPSHOT_BATCH_BYTES {
            batch_bytes = 0;
            if !append(std::mem::take(&mut batch)) {
                return None;
            }
        }
    }
    (batch.is_empty() || append(batch)).then_some(bytes)
}
