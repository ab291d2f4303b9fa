//! A driver without a runtime for tests: it keeps the log in memory, moves the clock by hand, writes markers when it is
//! told to, and after every step checks that replaying the log gives the live state.

use super::*;
use std::collections::BTreeMap;

pub(super) const ID: &str = "payments";
pub(super) const TIMEOUT_MS: i32 = 60_000;

/// Whoever writes markers, in tests.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) machine: TransactionCoordinator,
    pub(super) now: Now,
    pub(super) log: Vec<LogEntry>,
    config: TransactionConfig,
    next_token: u64,
    /// The request for markers that is not answered yet.
    asking: Option<Token>,
    /// What is to be written.
    pub(super) markers: Vec<Markers>,
    next_fresh_id: i64,
}

impl Driver {
    pub(super) fn new() -> Self {
        Driver::with(TransactionConfig::default())
    }

    pub(super) fn with(config: TransactionConfig) -> Self {
        let now = Now { monotonic_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        Driver::on(Vec::new(), config, now)
    }

    /// A coordinator that has just replayed `log`.
    pub(super) fn on(log: Vec<LogEntry>, config: TransactionConfig, now: Now) -> Self {
        let mut machine = replay(&config, &log);
        machine.loaded(now);
        let mut driver = Driver {
            machine,
            now,
            log,
            config,
            next_token: 0,
            asking: None,
            markers: Vec::new(),
            next_fresh_id: 1_000,
        };
        driver.ask_for_markers();
        driver
    }

    /// Sends a command; it is answered at once.
    pub(super) fn call(&mut self, command: Command) -> Reply {
        let token = self.token();
        let decision = self.machine.handle(self.now, token, command);
        let reply = self.take(decision, Some(token)).expect("an answer at once");
        self.ask_for_markers();
        reply
    }

    /// A command whose decision cannot be logged, as on a full disk: nothing of it happens.
    pub(super) fn call_on_full_disk(&mut self, command: Command) {
        let token = self.token();
        drop(self.machine.handle(self.now, token, command));
        self.check();
    }

    fn ask_for_markers(&mut self) {
        while self.asking.is_none() {
            let token = self.token();
            self.asking = Some(token);
            let decision = self.machine.handle(self.now, token, Command::NextMarkers);
            self.take(decision, None);
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn take(&mut self, decision: Decision, token: Option<Token>) -> Option<Reply> {
        self.log.extend(decision.events.iter().filter_map(TransactionCoordinator::encode));
        for event in decision.events {
            self.machine.apply(event);
        }
        let mut own = None;
        for (to, reply) in decision.replies {
            match reply {
                Reply::Markers(markers) => {
                    assert_eq!(self.asking.take(), Some(to), "markers go to who asked, once");
                    assert!(!markers.is_empty());
                    self.markers.extend(markers);
                }
                reply => {
                    assert_eq!(Some(to), token, "the request is answered");
                    assert!(own.replace(reply).is_none(), "once");
                }
            }
        }
        self.check();
        own
    }

    /// Lets time pass, stopping at each deadline on the way.
    pub(super) fn advance(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        let mut stuck = 0;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            stuck = if at <= self.now.monotonic_ms { stuck + 1 } else { 0 };
            assert!(stuck < 1_000, "a deadline stays due though it was handled: {:?}", self.machine);
            let step = at.max(self.now.monotonic_ms) - self.now.monotonic_ms;
            self.now.monotonic_ms += step;
            self.now.wall_ms += i64::try_from(step).expect("short");
            let decision = self.machine.handle_timeout(self.now);
            self.take(decision, None);
            self.ask_for_markers();
        }
        self.now.wall_ms += i64::try_from(end - self.now.monotonic_ms).expect("short");
        self.now.monotonic_ms = end;
    }

    /// The broker stops and starts: what was to be written is asked for anew.
    pub(super) fn restart(&mut self) {
        let next_fresh_id = self.next_fresh_id;
        *self = Driver::on(std::mem::take(&mut self.log), self.config.clone(), self.now);
        self.next_fresh_id = next_fresh_id;
        self.check();
    }

    /// All markers that are to be written are.
    pub(super) fn write_markers(&mut self) {
        while let Some(Markers { transactional_id, producer, .. }) = self.markers.first().cloned() {
            let reply = self.call(Command::MarkersWritten { transactional_id, producer });
            assert_eq!(reply, Reply::MarkersWritten);
            self.markers.remove(0);
        }
    }

    pub(super) fn fresh_id(&mut self) -> i64 {
        self.next_fresh_id += 1;
        self.next_fresh_id
    }

    pub(super) fn init(&mut self, expected: Option<Producer>) -> Result<Producer, TransactionError> {
        match self.call(init(expected, None)) {
            Reply::FreshIdWanted => {
                let id = self.fresh_id();
                match self.call(init(expected, Some(id))) {
                    Reply::Init(outcome) => outcome,
                    other => panic!("expected a producer, got {other:?}"),
                }
            }
            Reply::Init(outcome) => outcome,
            other => panic!("expected a producer, got {other:?}"),
        }
    }

    pub(super) fn add(
        &mut self,
        producer: Producer,
        index: i32,
        protocol: Protocol,
    ) -> Result<(), TransactionError> {
        match self.call(add(producer, index, protocol)) {
            Reply::AddPartitions(outcome) => outcome,
            other => panic!("expected an outcome, got {other:?}"),
        }
    }

    pub(super) fn end(
        &mut self,
        producer: Producer,
        outcome: Outcome,
        protocol: Protocol,
    ) -> Result<Producer, TransactionError> {
        match self.call(end(producer, outcome, protocol, None)) {
            Reply::FreshIdWanted => {
                let id = self.fresh_id();
                match self.call(end(producer, outcome, protocol, Some(id))) {
                    Reply::End(outcome) => outcome,
                    other => panic!("expected an outcome, got {other:?}"),
                }
            }
            Reply::End(outcome) => outcome,
            other => panic!("expected an outcome, got {other:?}"),
        }
    }

    /// Has the transactional id in `state`, and returns its producer as the client knows it.
    pub(super) fn in_state(state: State, protocol: Protocol) -> (Driver, Producer) {
        let mut driver = Driver::new();
        let mut producer = driver.init(None).unwrap();
        if state != State::Empty {
            driver.add(producer, 0, protocol).unwrap();
        }
        if let State::Prepare(outcome) | State::Complete(outcome) = state {
            producer = driver.end(producer, outcome, protocol).unwrap();
        }
        if matches!(state, State::Complete(_)) {
            driver.write_markers();
        }
        assert_eq!(driver.state(), Some(state));
        (driver, producer)
    }

    pub(super) fn state(&self) -> Option<State> {
        self.machine.describe(ID).map(|it| it.state)
    }

    pub(super) fn transaction(&self) -> &Transaction {
        &self.machine.entries[ID].transaction
    }

    fn check(&self) {
        let live = transactions(&self.machine);
        assert_eq!(
            transactions(&replay(&self.config, &self.log)),
            live,
            "replaying the log gives another state"
        );
        let snapshot: Vec<LogEntry> = self.machine.snapshot().collect();
        assert_eq!(transactions(&replay(&self.config, &snapshot)), live, "the snapshot gives another state");
        let deadlines: BTreeSet<_> = (self.machine.entries.iter())
            .filter_map(|(id, entry)| Some((entry.deadline_ms?, id.clone())))
            .collect();
        assert_eq!(deadlines, self.machine.deadlines);
        for (id, entry) in &self.machine.entries {
            let transaction = &entry.transaction;
            assert_eq!(transaction.state == State::Ongoing, entry.deadline_ms.is_some(), "{transaction:?}");
            let is_prepared = matches!(transaction.state, State::Prepare(_));
            assert!(is_prepared || !self.machine.unsent.contains(id));
            assert!(!is_prepared || !transaction.partitions.is_empty(), "{transaction:?}");
            assert!(is_prepared || transaction.state == State::Ongoing || transaction.partitions.is_empty());
            assert!(is_prepared || transaction.next_id.is_none(), "{transaction:?}");
            assert!(transaction.producer.epoch >= 0 && transaction.producer.id >= 0);
            assert!(transaction.state != State::Ongoing || transaction.started_at_ms.is_some());
            // Nobody is forgotten: it is yet to be asked for, or is being written.
            let is_known = self.machine.unsent.contains(id)
                || self
                    .markers
                    .iter()
                    .any(|it| it.transactional_id == *id && it.producer == transaction.producer);
            assert!(!is_prepared || is_known, "nobody writes the markers of {transaction:?}");
        }
    }
}

pub(super) fn replay(config: &TransactionConfig, log: &[LogEntry]) -> TransactionCoordinator {
    let mut machine = TransactionCoordinator::new(config.clone());
    for entry in log {
        let event = TransactionCoordinator::decode(entry).expect("what was encoded can be decoded");
        machine.apply(event.expect("every entry says something"));
    }
    machine
}

/// The durable state in a form that can be compared.
pub(super) fn transactions(machine: &TransactionCoordinator) -> BTreeMap<Arc<str>, Transaction> {
    machine.entries.iter().map(|(id, entry)| (id.clone(), entry.transaction.clone())).collect()
}

pub(super) fn init(expected: Option<Producer>, fresh_id: Option<i64>) -> Command {
    Command::Init(InitProducer { transactional_id: ID.into(), timeout_ms: TIMEOUT_MS, expected, fresh_id })
}

pub(super) fn add(producer: Producer, index: i32, protocol: Protocol) -> Command {
    let partitions = vec![partition(index)];
    Command::AddPartitions(AddPartitions { transactional_id: ID.into(), producer, partitions, protocol })
}

pub(super) fn end(
    producer: Producer,
    outcome: Outcome,
    protocol: Protocol,
    fresh_id: Option<i64>,
) -> Command {
    Command::End(EndTransaction { transactional_id: ID.into(), producer, outcome, protocol, fresh_id })
}

pub(super) fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: "orders".into(), partition: index }
}

pub(super) fn older(producer: Producer) -> Producer {
    Producer { epoch: producer.epoch - 1, ..producer }
}

pub(super) fn newer(producer: Producer) -> Producer {
    Producer { epoch: producer.epoch + 1, ..producer }
}

pub(super) fn stranger(producer: Producer) -> Producer {
    Producer { id: producer.id + 500, ..producer }
}
