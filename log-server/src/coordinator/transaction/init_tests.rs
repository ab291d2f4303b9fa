//! Who gets a transactional id, with which epoch, and what becomes of who had it.

use super::end_tests::at_last_epoch;
use super::testing::*;
use super::*;
use Outcome::{Abort, Commit};
use Protocol::{V1, V2};
use TransactionError::{Concurrent, InvalidProducerIdMapping, InvalidTimeout, ProducerFenced};

#[test]
fn a_new_id_asks_for_a_producer_id_and_begins_at_epoch_0() {
    let mut driver = Driver::new();
    assert_eq!(driver.call(init(None, None)), Reply::FreshIdWanted);
    assert_eq!(driver.state(), None);
    assert_eq!(driver.call(init(None, Some(7))), Reply::Init(Ok(Producer { id: 7, epoch: 0 })));
    assert_eq!(driver.state(), Some(State::Empty));
    assert_eq!(driver.transaction().timeout_ms, TIMEOUT_MS);
}

#[test]
fn timeouts_out_of_bounds_and_empty_ids_are_refused() {
    let mut driver = Driver::new();
    let request = |transactional_id: &str, timeout_ms| {
        let (transactional_id, fresh_id) = (transactional_id.into(), Some(1));
        Command::Init(InitProducer { transactional_id, timeout_ms, expected: None, fresh_id })
    };
    for timeout_ms in [i32::MIN, -1, 0, 900_001, i32::MAX] {
        assert_eq!(driver.call(request(ID, timeout_ms)), Reply::Init(Err(InvalidTimeout)));
    }
    assert!(matches!(driver.call(request(ID, 900_000)), Reply::Init(Ok(_))));
    let refused = Reply::Init(Err(TransactionError::InvalidTransactionalId));
    assert_eq!(driver.call(request("", 1)), refused);
}

#[test]
fn a_new_producer_bumps_the_epoch_and_fences_the_one_before() {
    for state in [State::Empty, State::Complete(Commit), State::Complete(Abort)] {
        for protocol in [V1, V2] {
            let (mut driver, before) = Driver::in_state(state, protocol);
            assert_eq!(driver.init(None), Ok(newer(before)));
            assert_eq!(driver.state(), Some(State::Empty));
            assert_eq!(driver.add(before, 0, protocol), Err(ProducerFenced));
            assert_eq!(driver.end(before, Abort, protocol), Err(ProducerFenced));
            assert_eq!(driver.init(Some(before)), Err(ProducerFenced));
        }
    }
}

#[test]
fn what_is_open_is_aborted_first_and_its_producer_cannot_come_back() {
    let (mut driver, zombie) = Driver::in_state(State::Ongoing, V2);
    assert_eq!(driver.init(None), Err(Concurrent));
    assert_eq!(driver.state(), Some(State::Prepare(Abort)));
    assert_eq!(driver.markers[0].outcome, Abort);
    assert!(
        driver.markers[0].producer.epoch > newer(zombie).epoch,
        "above what the producer would have by itself"
    );
    for protocol in [V1, V2] {
        assert_eq!(driver.end(zombie, Abort, protocol), Err(ProducerFenced), "not taken for a retry");
        assert_eq!(driver.end(zombie, Commit, protocol), Err(ProducerFenced));
        assert_eq!(driver.add(zombie, 0, protocol), Err(ProducerFenced));
    }
    assert_eq!(driver.init(None), Err(Concurrent), "until the markers are written");
    driver.write_markers();
    for protocol in [V1, V2] {
        assert_eq!(driver.end(zombie, Abort, protocol), Err(ProducerFenced));
        assert_eq!(driver.add(zombie, 0, protocol), Err(ProducerFenced));
    }
    assert_eq!(driver.init(Some(zombie)), Err(ProducerFenced));
    let next = driver.init(None).unwrap();
    assert!(next.id == zombie.id && next.epoch > zombie.epoch + 2);
}

#[test]
fn nobody_is_initialised_while_markers_are_written() {
    for (outcome, protocol) in [(Commit, V1), (Abort, V1), (Commit, V2), (Abort, V2)] {
        let (mut driver, producer) = Driver::in_state(State::Prepare(outcome), protocol);
        assert_eq!(driver.init(None), Err(Concurrent));
        assert_eq!(driver.init(Some(producer)), Err(Concurrent));
        assert_eq!(driver.init(Some(stranger(producer))), Err(ProducerFenced));
    }
}

#[test]
fn a_producer_goes_on_after_an_error_and_its_retry_gets_the_same_epoch() {
    for state in [State::Empty, State::Complete(Commit), State::Complete(Abort)] {
        let (mut driver, producer) = Driver::in_state(state, V1);
        assert_eq!(driver.init(Some(producer)), Ok(newer(producer)));
        driver.restart();
        assert_eq!(driver.init(Some(producer)), Ok(newer(producer)), "a retry");
        assert_eq!(driver.init(Some(newer(producer))), Ok(newer(newer(producer))));
        assert_eq!(driver.init(Some(producer)), Err(ProducerFenced));
        assert_eq!(driver.init(None), Ok(newer(newer(newer(producer)))), "somebody else");
        assert_eq!(
            driver.init(Some(newer(newer(producer)))),
            Err(ProducerFenced),
            "so that is no retry any more"
        );
    }
}

#[test]
fn only_the_current_producer_can_have_its_transaction_aborted_by_name() {
    let (mut driver, producer) = Driver::in_state(State::Ongoing, V1);
    let log = driver.log.len();
    for other in [older(producer), newer(producer), stranger(producer)] {
        assert_eq!(driver.init(Some(other)), Err(ProducerFenced));
    }
    assert_eq!(driver.log.len(), log);
    assert_eq!(driver.init(Some(producer)), Err(Concurrent));
    assert_eq!(driver.state(), Some(State::Prepare(Abort)));
}

#[test]
fn used_up_epochs_give_another_producer_id() {
    let (mut driver, last) = at_last_epoch(V1);
    let next = driver.init(None).unwrap();
    assert!(next.id != last.id && next.epoch == 0);
    assert_eq!(
        driver.init(Some(last)),
        Err(ProducerFenced),
        "it did not say who it was, so this is another one"
    );
    assert_eq!(driver.add(last, 0, V1), Err(InvalidProducerIdMapping));

    let (mut driver, last) = at_last_epoch(V1);
    let next = driver.init(Some(last)).unwrap();
    assert!(next.id != last.id && next.epoch == 0);
    driver.restart();
    assert_eq!(driver.init(Some(last)), Ok(next), "a retry by the old id");
    driver.add(next, 0, V1).unwrap();
    assert_eq!(driver.init(Some(last)), Err(ProducerFenced));
}

#[test]
fn fencing_at_the_last_epoch_leaves_no_way_back() {
    for epoch in [EPOCH_LAST - 1, EPOCH_LAST] {
        for protocol in [V1, V2] {
            let (mut driver, producer) = Driver::in_state(State::Ongoing, protocol);
            let last = Producer { epoch, ..producer };
            let transaction = Transaction { producer: last, ..driver.transaction().clone() };
            driver.log = vec![record::encode_transaction(ID, &transaction)];
            driver.restart();
            assert_eq!(driver.init(None), Err(Concurrent));
            assert_eq!(driver.transaction().producer.epoch, i16::MAX);
            driver.write_markers();
            for zombie in [last, newer(last)] {
                if zombie.epoch < i16::MAX {
                    assert_eq!(driver.end(zombie, Abort, V2), Err(ProducerFenced));
                }
            }
            let next = driver.init(None).unwrap();
            assert!(next.id != last.id && next.epoch == 0);
            assert_eq!(driver.end(last, Abort, V2), Err(InvalidProducerIdMapping));
        }
    }
}
