//! How transactions end: every state, both protocols, producers of now and of before, commit and abort.

use super::testing::*;
use super::*;
use Outcome::{Abort, Commit};
use Protocol::{V1, V2};
use TransactionError::{Concurrent, InvalidProducerIdMapping, InvalidState, ProducerFenced};

#[test]
fn a_transaction_of_the_first_protocol_keeps_its_epoch() {
    for outcome in [Commit, Abort] {
        let (mut driver, producer) = Driver::in_state(State::Ongoing, V1);
        assert_eq!(driver.end(producer, outcome, V1), Ok(producer));
        assert_eq!(driver.state(), Some(State::Prepare(outcome)));
        let [markers] = &driver.markers[..] else { panic!("one transaction: {:?}", driver.markers) };
        assert_eq!((markers.producer, markers.outcome), (producer, outcome));
        assert_eq!(markers.partitions, Partitions::from([("orders".into(), BTreeSet::from([0]))]));
        driver.write_markers();
        assert_eq!(driver.state(), Some(State::Complete(outcome)));
        assert_eq!(driver.add(producer, 1, V1), Ok(()), "the next one");
        assert_eq!(
            driver.transaction().partitions,
            Partitions::from([("orders".into(), BTreeSet::from([1]))])
        );
    }
}

#[test]
fn a_transaction_of_the_second_protocol_bumps_the_epoch_and_its_markers_carry_the_new_one() {
    for outcome in [Commit, Abort] {
        let (mut driver, producer) = Driver::in_state(State::Ongoing, V2);
        assert_eq!(driver.end(producer, outcome, V2), Ok(newer(producer)));
        assert_eq!(driver.markers[0].producer, newer(producer));
        assert_eq!(
            driver.add(producer, 1, V2),
            Err(ProducerFenced),
            "a straggler of the transaction that has ended"
        );
        assert_eq!(driver.add(newer(producer), 1, V2), Err(Concurrent));
        driver.write_markers();
        assert_eq!(driver.add(newer(producer), 1, V2), Ok(()));
    }
}

/// What EndTxn of the first protocol leads to in `state`, when the epoch is the current one.
fn expected_v1(state: State, outcome: Outcome) -> Result<State, TransactionError> {
    match state {
        State::Ongoing => Ok(State::Prepare(outcome)),
        State::Complete(before) if before == outcome => Ok(state),
        State::Prepare(before) if before == outcome => Err(Concurrent),
        State::Empty | State::Prepare(_) | State::Complete(_) => Err(InvalidState),
    }
}

#[test]
fn every_state_and_outcome_of_the_first_protocol() {
    for (state, outcome) in State::ALL.into_iter().flat_map(|state| [(state, Commit), (state, Abort)]) {
        let (mut driver, producer) = Driver::in_state(state, V1);
        let log = driver.log.len();
        for (who, error) in [
            (stranger(producer), InvalidProducerIdMapping),
            (older(producer), ProducerFenced),
            (newer(producer), ProducerFenced),
        ] {
            assert_eq!(driver.end(who, outcome, V1), Err(error), "{state:?} {outcome:?} {who:?}");
        }
        assert_eq!(driver.log.len(), log, "a refusal changes nothing");
        let answer = driver.end(producer, outcome, V1);
        match expected_v1(state, outcome) {
            Ok(next) => {
                assert_eq!((answer, driver.state()), (Ok(producer), Some(next)), "{state:?} {outcome:?}");
            }
            Err(error) => assert_eq!(answer, Err(error), "{state:?} {outcome:?}"),
        }
    }
}

/// What EndTxn of the second protocol leads to: the new state and whether the epoch is bumped.
fn expected_v2(state: State, outcome: Outcome, is_retry: bool) -> Result<(State, bool), TransactionError> {
    match state {
        State::Empty if is_retry => Err(ProducerFenced),
        State::Ongoing if is_retry => Err(ProducerFenced),
        State::Ongoing => Ok((State::Prepare(outcome), true)),
        State::Prepare(before) if is_retry => Err(if before == outcome { Concurrent } else { InvalidState }),
        State::Prepare(_) => Err(Concurrent),
        State::Complete(before) if is_retry && before == outcome => Ok((state, false)),
        State::Complete(_) if is_retry => Err(InvalidState),
        State::Empty | State::Complete(_) => match outcome {
            // There is nothing to write markers to.
            Abort => Ok((State::Complete(Abort), true)),
            Commit => Err(InvalidState),
        },
    }
}

#[test]
fn every_state_outcome_and_epoch_of_the_second_protocol() {
    for (state, outcome) in State::ALL.into_iter().flat_map(|state| [(state, Commit), (state, Abort)]) {
        for is_retry in [false, true] {
            let (mut driver, current) = Driver::in_state(state, V2);
            let log = driver.log.len();
            assert_eq!(driver.end(stranger(current), outcome, V2), Err(InvalidProducerIdMapping));
            assert_eq!(driver.end(newer(current), outcome, V2), Err(ProducerFenced));
            assert_eq!(driver.log.len(), log, "a refusal changes nothing");
            let who = if is_retry { older(current) } else { current };
            let answer = driver.end(who, outcome, V2);
            let case = format!("{state:?} {outcome:?} {is_retry}");
            match expected_v2(state, outcome, is_retry) {
                Ok((next, is_bumped)) => {
                    let told = if is_bumped { newer(current) } else { current };
                    assert_eq!((answer, driver.state()), (Ok(told), Some(next)), "{case}");
                }
                Err(error) => assert_eq!(answer, Err(error), "{case}"),
            }
        }
    }
}

#[test]
fn a_retry_is_known_after_a_restart_and_not_two_transactions_later() {
    let (mut driver, producer) = Driver::in_state(State::Complete(Commit), V2);
    driver.restart();
    assert_eq!(driver.end(older(producer), Commit, V2), Ok(producer));
    driver.add(producer, 0, V2).unwrap();
    assert_eq!(driver.end(older(producer), Commit, V2), Err(ProducerFenced));
    driver.end(producer, Commit, V2).unwrap();
    driver.write_markers();
    assert_eq!(driver.end(older(producer), Commit, V2), Err(ProducerFenced));
}

#[test]
fn used_up_epochs_give_another_producer_id_at_the_end_of_the_transaction() {
    let (mut driver, producer) = at_last_epoch(V2);
    driver.add(producer, 0, V2).unwrap();
    let token = driver.call(end(producer, Commit, V2, None));
    assert_eq!(token, Reply::FreshIdWanted);
    assert_eq!(driver.state(), Some(State::Ongoing), "asking for an id changes nothing");
    let next = driver.end(producer, Commit, V2).unwrap();
    assert!(next.id != producer.id && next.epoch == 0);
    assert_eq!(
        driver.markers[0].producer,
        Producer { epoch: i16::MAX, ..producer },
        "markers fence the old one"
    );
    assert_eq!(driver.add(next, 0, V2), Err(Concurrent), "told already, and not its own yet");
    assert_eq!(driver.end(producer, Commit, V2), Err(Concurrent));
    assert_eq!(driver.end(next, Abort, V2), Err(Concurrent));
    driver.restart();
    driver.write_markers();
    assert_eq!(driver.end(producer, Commit, V2), Ok(next), "a retry by the old id");
    assert_eq!(driver.end(producer, Abort, V2), Err(InvalidState));
    assert_eq!(driver.add(producer, 0, V2), Err(InvalidProducerIdMapping));
    assert_eq!(driver.add(next, 0, V2), Ok(()));
    assert_eq!(driver.end(producer, Commit, V2), Err(InvalidProducerIdMapping));
}

#[test]
fn an_abort_of_the_next_transaction_waits_for_the_end_of_the_last() {
    for outcome in [Commit, Abort] {
        let (mut driver, producer) = Driver::in_state(State::Prepare(outcome), V2);
        assert_eq!(driver.end(producer, Abort, V2), Err(Concurrent), "who has begun anew is not fenced");
        driver.write_markers();
        assert_eq!(driver.end(producer, Abort, V2), Ok(newer(producer)));
    }
}

/// An empty transactional id whose producer has the last epoch.
pub(super) fn at_last_epoch(protocol: Protocol) -> (Driver, Producer) {
    let (mut driver, producer) = Driver::in_state(State::Empty, protocol);
    let last = Producer { epoch: EPOCH_LAST, ..producer };
    let transaction = Transaction { producer: last, ..driver.transaction().clone() };
    driver.log = vec![record::encode_transaction(ID, &transaction)];
    driver.restart();
    (driver, last)
}

#[test]
fn markers_that_are_reported_twice_or_late_complete_nothing_else() {
    let (mut driver, producer) = Driver::in_state(State::Prepare(Commit), V1);
    let written = |producer| Command::MarkersWritten { transactional_id: ID.into(), producer };
    assert_eq!(driver.call(written(older(producer))), Reply::MarkersWritten);
    assert_eq!(driver.state(), Some(State::Prepare(Commit)));
    driver.write_markers();
    driver.add(producer, 0, V1).unwrap();
    assert_eq!(driver.call(written(producer)), Reply::MarkersWritten);
    assert_eq!(driver.state(), Some(State::Ongoing));
}

#[test]
fn unknown_and_empty_ids_end_nothing() {
    let mut driver = Driver::new();
    let producer = Producer { id: 1, epoch: 0 };
    for protocol in [V1, V2] {
        assert_eq!(driver.end(producer, Commit, protocol), Err(InvalidProducerIdMapping));
        let nameless = EndTransaction {
            transactional_id: "".into(),
            producer,
            outcome: Commit,
            protocol,
            fresh_id: None,
        };
        let refused = Reply::End(Err(TransactionError::InvalidTransactionalId));
        assert_eq!(driver.call(Command::End(nameless)), refused);
    }
}

/// Every prefix of the log of a transaction is what a crash may leave; a Prepare in it is completed as it was decided,
/// whether markers were written before or not.
#[test]
fn a_crash_after_any_entry_keeps_what_was_decided() {
    for (protocol, outcome) in [(V1, Commit), (V1, Abort), (V2, Commit), (V2, Abort)] {
        let (driver, _) = Driver::in_state(State::Complete(outcome), protocol);
        for length in 0..=driver.log.len() {
            let left = driver.log[..length].to_vec();
            let mut after = Driver::on(left, TransactionConfig::default(), driver.now);
            match after.state() {
                Some(State::Prepare(decided)) => {
                    assert_eq!(decided, outcome);
                    // Lost or repeated: they are asked for again.
                    assert_eq!(after.markers.len(), 1);
                    assert_eq!(after.markers[0].outcome, outcome);
                    after.write_markers();
                    assert_eq!(after.state(), Some(State::Complete(outcome)));
                }
                _ => assert!(after.markers.is_empty()),
            }
            // A new producer gets the transactional id in any case, at once or after what was open is aborted.
            if after.init(None) == Err(Concurrent) {
                after.write_markers();
                assert!(after.init(None).is_ok());
            }
        }
    }
}
