//! Random histories: producers that behave and producers that do not, time, restarts, full disks, markers that are late.
//! What must hold after every step is checked by the driver. Here the answers are checked, too: of all that say they
//! are the producer, only the one that was told so last changes anything; an outcome, once decided, is the one that the
//! markers carry; and no transaction is left behind when time goes on.

use super::testing::*;
use super::*;
use proptest::prelude::*;

/// What a test does next. `who` is how many tellings ago the producer was told what it says that it is.
#[derive(Clone, Debug)]
enum Step {
    Init { who: Option<usize> },
    Add { who: usize, index: i32, protocol: Protocol },
    End { who: usize, outcome: Outcome, protocol: Protocol },
    EndOnFullDisk { who: usize },
    WriteMarkers,
    Advance { ms: u64 },
    SetClock { by_ms: i64 },
    Restart,
    UseUpEpochs,
}

fn step() -> impl Strategy<Value = Step> {
    let who = prop_oneof![6 => Just(0usize), 1 => 1usize..4];
    let protocol = prop_oneof![Just(Protocol::V1), Just(Protocol::V2)];
    let outcome = prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)];
    prop_oneof![
        3 => proptest::option::of(who.clone()).prop_map(|who| Step::Init { who }),
        6 => (who.clone(), 0i32..3, protocol.clone())
            .prop_map(|(who, index, protocol)| Step::Add { who, index, protocol }),
        5 => (who.clone(), outcome, protocol)
            .prop_map(|(who, outcome, protocol)| Step::End { who, outcome, protocol }),
        1 => who.prop_map(|who| Step::EndOnFullDisk { who }),
        4 => Just(Step::WriteMarkers),
        2 => prop_oneof![0u64..30_000, 50_000u64..70_000, Just(700_000_000)].prop_map(|ms| Step::Advance { ms }),
        1 => (-100_000i64..100_000).prop_map(|by_ms| Step::SetClock { by_ms }),
        2 => Just(Step::Restart),
        1 => Just(Step::UseUpEpochs),
    ]
}

struct History {
    driver: Driver,
    /// Who was told that it is the producer, the last one last.
    told: Vec<Producer>,
}

impl History {
    fn who(&self, tellings_ago: usize) -> Option<Producer> {
        self.told.len().checked_sub(tellings_ago + 1).map(|at| self.told[at])
    }

    /// Whether `producer` is the one that may act.
    fn is_current(&self, producer: Producer) -> bool {
        self.driver.machine.transaction(ID).is_some_and(|it| it.told() == producer)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Init { who } => {
                let expected = who.and_then(|who| self.who(who));
                if let Ok(producer) = self.driver.init(expected) {
                    assert_eq!(self.driver.state(), Some(State::Empty));
                    self.tell(producer);
                }
            }
            Step::Add { who, index, protocol } => {
                let Some(producer) = self.who(who) else { return };
                let is_current = self.is_current(producer);
                if self.driver.add(producer, index, protocol).is_ok() {
                    assert!(is_current, "{producer:?} is not the producer any more");
                    assert_eq!(self.driver.machine.verify(ID, producer, &[partition(index)]), Ok(vec![true]));
                }
            }
            Step::End { who, outcome, protocol } => {
                let Some(producer) = self.who(who) else { return };
                let (is_current, log) = (self.is_current(producer), self.driver.log.len());
                if let Ok(next) = self.driver.end(producer, outcome, protocol) {
                    let state = self.driver.state().expect("it was ended");
                    assert!(
                        matches!(state, State::Prepare(o) | State::Complete(o) if o == outcome),
                        "{state:?}"
                    );
                    assert!(
                        is_current || self.driver.log.len() == log,
                        "only a retry is answered to an earlier one"
                    );
                    self.tell(next);
                }
            }
            Step::EndOnFullDisk { who } => {
                let Some(producer) = self.who(who) else { return };
                self.driver.call_on_full_disk(end(producer, Outcome::Commit, Protocol::V2, Some(1)));
            }
            Step::WriteMarkers => self.write_markers(),
            Step::Advance { ms } => self.driver.advance(ms),
            Step::SetClock { by_ms } => self.driver.now.wall_ms += by_ms,
            Step::Restart => self.driver.restart(),
            Step::UseUpEpochs => {
                let Some(transaction) = self.driver.machine.transaction(ID) else { return };
                if transaction.state != State::Empty {
                    return;
                }
                let last = Producer { epoch: EPOCH_LAST, ..transaction.producer };
                let transaction = Transaction { producer: last, ..transaction.clone() };
                self.driver.log.push(record::encode_transaction(ID, &transaction));
                self.driver.restart();
                self.tell(last);
            }
        }
    }

    fn write_markers(&mut self) {
        let decided: Vec<_> = self.driver.markers.iter().map(|it| it.outcome).collect();
        self.driver.write_markers();
        if let Some(outcome) = decided.last() {
            assert_eq!(self.driver.state(), Some(State::Complete(*outcome)));
        }
    }

    fn tell(&mut self, producer: Producer) {
        if self.told.last() != Some(&producer) {
            assert!(
                !self.told.contains(&producer),
                "{producer:?} is told anew of an epoch that others had since"
            );
            self.told.push(producer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn random_histories(steps in proptest::collection::vec(step(), 1..60)) {
        let mut history = History { driver: Driver::new(), told: Vec::new() };
        for step in steps {
            history.step(step);
        }
        // Whatever is open times out, and its markers are written: then a new producer can have the id.
        history.driver.advance(TIMEOUT_MS as u64);
        history.write_markers();
        assert!(history.driver.init(None).is_ok());
    }
}
