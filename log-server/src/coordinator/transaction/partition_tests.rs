//! Which partitions a transaction has, and who may add to it.

use super::testing::*;
use super::*;
use Outcome::{Abort, Commit};
use Protocol::{V1, V2};
use TransactionError::{Concurrent, InvalidProducerIdMapping, InvalidTransactionalId, ProducerFenced};

#[test]
fn the_first_partition_begins_a_transaction_and_later_ones_join_it() {
    for state in [State::Empty, State::Complete(Commit), State::Complete(Abort)] {
        let (mut driver, producer) = Driver::in_state(state, V1);
        driver.advance(5_000);
        assert_eq!(driver.add(producer, 1, V1), Ok(()));
        let began_ms = driver.now.wall_ms;
        driver.advance(5_000);
        assert_eq!(driver.add(producer, 2, V1), Ok(()));
        let described = driver.machine.describe(ID).unwrap();
        assert_eq!(described.state, State::Ongoing);
        assert_eq!(described.started_at_ms, Some(began_ms), "the first one counts");
        assert_eq!(described.partitions, Partitions::from([("orders".into(), BTreeSet::from([1, 2]))]));
    }
}

#[test]
fn a_partition_that_is_there_is_not_logged_again() {
    let (mut driver, producer) = Driver::in_state(State::Ongoing, V1);
    let log = driver.log.len();
    assert_eq!(driver.add(producer, 0, V1), Ok(()));
    assert_eq!(driver.log.len(), log);
}

#[test]
fn nobody_adds_while_markers_are_written() {
    for outcome in [Commit, Abort] {
        for protocol in [V1, V2] {
            let (mut driver, producer) = Driver::in_state(State::Prepare(outcome), protocol);
            assert_eq!(driver.add(producer, 0, protocol), Err(Concurrent));
            assert_eq!(driver.add(stranger(producer), 0, protocol), Err(InvalidProducerIdMapping));
            assert_eq!(driver.add(newer(producer), 0, protocol), Err(ProducerFenced));
        }
    }
}

#[test]
fn only_the_current_producer_adds_or_is_told() {
    for state in [State::Empty, State::Ongoing, State::Complete(Commit)] {
        let (mut driver, producer) = Driver::in_state(state, V1);
        let log = driver.log.len();
        for (who, error) in [
            (stranger(producer), InvalidProducerIdMapping),
            (older(producer), ProducerFenced),
            (newer(producer), ProducerFenced),
        ] {
            assert_eq!(driver.add(who, 1, V1), Err(error));
            assert_eq!(driver.machine.verify(ID, who, &[partition(0)]), Err(error));
        }
        assert_eq!(driver.log.len(), log);
    }
    let mut driver = Driver::new();
    let producer = Producer { id: 1, epoch: 0 };
    assert_eq!(driver.add(producer, 1, V1), Err(InvalidProducerIdMapping));
    assert_eq!(driver.machine.verify("", producer, &[]), Err(InvalidTransactionalId));
}

#[test]
fn verification_tells_what_is_in_an_open_transaction() {
    let asked = [partition(0), partition(1)];
    for (state, expected) in [
        (State::Empty, Ok(vec![false, false])),
        (State::Ongoing, Ok(vec![true, false])),
        (State::Prepare(Commit), Err(Concurrent)),
        (State::Complete(Commit), Ok(vec![false, false])),
    ] {
        let (driver, producer) = Driver::in_state(state, V1);
        assert_eq!(driver.machine.verify(ID, producer, &asked), expected, "{state:?}");
    }
}
