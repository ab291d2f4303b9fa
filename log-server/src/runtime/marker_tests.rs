//! Markers against a coordinator whose log is in memory, and partitions that write down what they are told: the order of
//! what becomes durable, and a crash after every step of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::markers::{ENDING_MAX, MarkerTarget, NotMarked, end_transactions};
use super::memory_log::MemoryLog;
use super::shard::ShardHandle;
use crate::coordinator::transaction::{
    AddPartitions, Command, EndTransaction, InitProducer, Outcome, Producer, Protocol, Reply, State,
    TopicPartition, TransactionConfig, TransactionCoordinator,
};

const ID: &str = "payments";

/// Partitions that remember their markers.
#[derive(Debug, Default)]
struct Partitions {
    written: Mutex<BTreeMap<i32, Vec<(Producer, Outcome)>>>,
    /// What the next marker of a partition comes to.
    failures: Mutex<BTreeMap<i32, NotMarked>>,
    /// The partition whose disk is full.
    full: Mutex<Option<i32>>,
}

impl MarkerTarget for Partitions {
    async fn write(
        &self,
        partition: TopicPartition,
        producer: Producer,
        outcome: Outcome,
    ) -> Result<(), NotMarked> {
        if let Some(failure) = self.failures.lock().remove(&partition.partition) {
            return Err(failure);
        }
        if *self.full.lock() == Some(partition.partition) {
            return Err(NotMarked::Later("no space".to_owned()));
        }
        self.written.lock().entry(partition.partition).or_default().push((producer, outcome));
        Ok(())
    }
}

impl Partitions {
    fn markers(&self) -> Vec<(i32, usize, Outcome)> {
        let written = self.written.lock();
        written.iter().map(|(partition, all)| (*partition, all.len(), all.last().unwrap().1)).collect()
    }
}

struct Running {
    shard: ShardHandle<TransactionCoordinator>,
    partitions: Arc<Partitions>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Running {
    async fn start(log: Arc<MemoryLog>, partitions: Arc<Partitions>) -> Self {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let machine = TransactionCoordinator::new(TransactionConfig::default());
        let shard = ShardHandle::spawn("test".to_owned(), machine, log, u64::MAX, &tasks, shutdown.clone());
        shard.loaded().await;
        tasks.spawn(end_transactions(shard.clone(), partitions.clone(), Arc::default(), shutdown.clone()));
        Running { shard, partitions, tasks, shutdown }
    }

    async fn init(&self) -> Producer {
        let init = InitProducer {
            transactional_id: ID.into(),
            timeout_ms: 60_000,
            expected: None,
            fresh_id: Some(7),
        };
        match self.shard.submit(Command::Init(init)).await {
            Ok(Reply::Init(Ok(producer))) => producer,
            other => panic!("no producer but {other:?}"),
        }
    }

    async fn add(&self, producer: Producer, indexes: &[i32]) {
        let partition = |index: &i32| TopicPartition { topic: "orders".into(), partition: *index };
        let add = AddPartitions {
            transactional_id: ID.into(),
            producer,
            partitions: indexes.iter().map(partition).collect(),
            protocol: Protocol::V2,
        };
        let answer = self.shard.submit(Command::AddPartitions(add)).await;
        assert_eq!(answer, Ok(Reply::AddPartitions(Ok(()))));
    }

    fn end(&self, producer: Producer, outcome: Outcome) -> impl Future<Output = bool> + use<> {
        let (protocol, fresh_id) = (Protocol::V2, None);
        let end = EndTransaction { transactional_id: ID.into(), producer, outcome, protocol, fresh_id };
        let answer = self.shard.submit(Command::End(end));
        async move { matches!(answer.await, Ok(Reply::End(Ok(_)))) }
    }

    async fn state(&self) -> Option<State> {
        self.shard.query(|machine| machine.describe(ID)).await.unwrap().map(|it| it.state)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Lets the tasks run until they have nothing to do.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_marker_is_written_before_the_outcome_is_durable() {
    let log = MemoryLog::manual();
    let running = Running::start(log.clone(), Arc::default()).await;
    let init = running.init();
    let producer = tokio::join!(init, async {
        settle().await;
        log.sync();
    })
    .0;
    tokio::join!(running.add(producer, &[0, 1]), async {
        settle().await;
        log.sync();
    });
    let mut ended = Box::pin(running.end(producer, Outcome::Commit));
    settle().await;
    assert!(futures_util::poll!(&mut ended).is_pending());
    assert_eq!(running.partitions.markers(), [], "a power cut could still take the outcome back");
    log.sync();
    assert!(ended.await);
    settle().await;
    assert_eq!(running.partitions.markers(), [(0, 1, Outcome::Commit), (1, 1, Outcome::Commit)]);
    log.sync();
    assert_eq!(running.state().await, Some(State::Complete(Outcome::Commit)));
    running.stop().await;
}

/// A transaction with two partitions, cut off after each batch of the coordinator's log, with the markers that were
/// written until then, with none of them, and with one.
#[tokio::test]
async fn a_crash_after_any_step_ends_in_what_was_decided() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let log = MemoryLog::manual();
        let whole = Running::start(log.clone(), Arc::default()).await;
        let script = async {
            let producer = whole.init().await;
            whole.add(producer, &[0, 1]).await;
            assert!(whole.end(producer, outcome).await);
            settle().await;
        };
        // Each batch is synced on its own, so that the log has what every one of them was made on.
        let mut images = Vec::new();
        let mut script = Box::pin(script);
        while futures_util::poll!(&mut script).is_pending() {
            settle().await;
            images.push(log.crash(0));
            images.push(log.crash(usize::MAX));
            log.sync();
        }
        drop(script);
        log.sync();
        images.push(log.crash(0));
        let mut completed = 0;
        for image in images {
            for already in [&[][..], &[0], &[0, 1]] {
                let partitions = Arc::new(Partitions::default());
                for index in already {
                    let marked = (Producer { id: 7, epoch: 1 }, outcome);
                    partitions.written.lock().insert(*index, vec![marked]);
                }
                let after = Running::start(image.crash(usize::MAX), partitions).await;
                settle().await;
                match after.state().await {
                    Some(State::Complete(decided)) => {
                        assert_eq!(decided, outcome);
                        completed += 1;
                    }
                    Some(State::Prepare(_)) => panic!("an outcome is left undone"),
                    None | Some(State::Empty | State::Ongoing) => {
                        assert_eq!(after.partitions.markers().len(), already.len(), "nothing was decided");
                    }
                }
                assert!(after.partitions.markers().iter().all(|(_, _, of)| *of == outcome));
                after.stop().await;
            }
        }
        assert!(completed >= 6, "the script reaches its end");
        whole.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_marker_that_cannot_be_written_is_tried_again_until_it_is() {
    let partitions = Arc::new(Partitions::default());
    partitions.failures.lock().insert(1, NotMarked::Later("no space".to_owned()));
    let running = Running::start(MemoryLog::quick(), partitions).await;
    let producer = running.init().await;
    running.add(producer, &[0, 1]).await;
    assert!(running.end(producer, Outcome::Abort).await);
    settle().await;
    assert_eq!(running.state().await, Some(State::Prepare(Outcome::Abort)));
    assert_eq!(running.partitions.markers(), [(0, 1, Outcome::Abort)]);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(running.state().await, Some(State::Complete(Outcome::Abort)));
    assert_eq!(running.partitions.markers(), [(0, 1, Outcome::Abort), (1, 1, Outcome::Abort)]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn transactions_that_wait_for_a_full_disk_hold_up_no_other() {
    let partitions = Arc::new(Partitions::default());
    *partitions.full.lock() = Some(1);
    let running = Running::start(MemoryLog::quick(), partitions.clone()).await;
    let waiting = ENDING_MAX + 1;
    for n in 0..=waiting {
        let (transactional_id, fresh_id): (Arc<str>, _) = (n.to_string().into(), Some(n as i64));
        let (timeout_ms, expected) = (60_000, None);
        let init =
            InitProducer { transactional_id: transactional_id.clone(), timeout_ms, expected, fresh_id };
        let Ok(Reply::Init(Ok(producer))) = running.shard.submit(Command::Init(init)).await else {
            panic!("no producer")
        };
        let partition = TopicPartition { topic: "orders".into(), partition: i32::from(n < waiting) };
        let (partitions, protocol) = (vec![partition], Protocol::V2);
        let id = transactional_id.clone();
        let add = AddPartitions { transactional_id: id, producer, partitions, protocol };
        assert!(running.shard.submit(Command::AddPartitions(add)).await.is_ok());
        let (outcome, fresh_id) = (Outcome::Commit, None);
        let end = EndTransaction { transactional_id, producer, outcome, protocol, fresh_id };
        assert!(running.shard.submit(Command::End(end)).await.is_ok());
        settle().await;
    }
    assert_eq!(running.partitions.markers(), [(0, 1, Outcome::Commit)], "the last one has room");
    *partitions.full.lock() = None;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(running.partitions.markers(), [(0, 1, Outcome::Commit), (1, waiting, Outcome::Commit)]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_cannot_be_logged_is_tried_again() {
    let log = MemoryLog::quick();
    let running = Running::start(log.clone(), Arc::default()).await;
    let producer = running.init().await;
    running.add(producer, &[0]).await;
    log.set_room(1);
    assert!(running.end(producer, Outcome::Commit).await);
    settle().await;
    assert_eq!(running.state().await, Some(State::Prepare(Outcome::Commit)));
    log.set_room(10);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(running.state().await, Some(State::Complete(Outcome::Commit)));
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_is_offline_leaves_the_outcome_to_the_next_start() {
    let partitions = Arc::new(Partitions::default());
    partitions.failures.lock().insert(0, NotMarked::Offline);
    let log = MemoryLog::quick();
    let running = Running::start(log.clone(), partitions.clone()).await;
    let producer = running.init().await;
    running.add(producer, &[0, 1]).await;
    assert!(running.end(producer, Outcome::Commit).await);
    settle().await;
    assert_eq!(running.state().await, Some(State::Prepare(Outcome::Commit)));
    assert_eq!(running.partitions.markers(), [(1, 1, Outcome::Commit)], "the other one is not kept open");
    running.stop().await;
    let running = Running::start(log, partitions).await;
    settle().await;
    assert_eq!(running.state().await, Some(State::Complete(Outcome::Commit)));
    assert_eq!(running.partitions.markers(), [(0, 1, Outcome::Commit), (1, 2, Outcome::Commit)]);
    running.stop().await;
}
