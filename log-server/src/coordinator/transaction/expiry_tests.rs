//! Transactions that take too long, and transactional ids that nobody uses.

use super::testing::*;
use super::*;
use Outcome::{Abort, Commit};
use Protocol::{V1, V2};
use TransactionError::ProducerFenced;

const TIMEOUT: u64 = TIMEOUT_MS as u64;

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    for protocol in [V1, V2] {
        let (mut driver, producer) = Driver::in_state(State::Ongoing, protocol);
        driver.advance(TIMEOUT - 1);
        assert_eq!(driver.add(producer, 1, protocol), Ok(()), "which does not make it last longer");
        driver.advance(1);
        assert_eq!(driver.state(), Some(State::Prepare(Abort)));
        assert_eq!(driver.machine.timed_out(), 1);
        driver.write_markers();
        assert_eq!(driver.end(producer, Commit, protocol), Err(ProducerFenced));
        assert_eq!(driver.end(producer, Abort, protocol), Err(ProducerFenced));
        assert_eq!(driver.add(producer, 0, protocol), Err(ProducerFenced));
        assert_eq!(driver.init(Some(producer)), Err(ProducerFenced));
        assert!(driver.init(None).is_ok());
    }
}

#[test]
fn an_ended_transaction_does_not_time_out() {
    for state in [State::Prepare(Commit), State::Complete(Commit)] {
        let (mut driver, _) = Driver::in_state(state, V1);
        driver.advance(2 * TIMEOUT);
        assert_eq!(driver.state(), Some(state));
    }
}

#[test]
fn a_restart_does_not_make_a_transaction_last_longer() {
    let (mut driver, _) = Driver::in_state(State::Ongoing, V1);
    driver.advance(TIMEOUT - 10);
    driver.restart();
    driver.advance(9);
    assert_eq!(driver.state(), Some(State::Ongoing));
    driver.advance(1);
    assert_eq!(driver.state(), Some(State::Prepare(Abort)));
}

#[test]
fn a_clock_that_was_set_back_while_the_broker_was_down_costs_one_timeout_at_most() {
    let (mut driver, _) = Driver::in_state(State::Ongoing, V1);
    driver.now.wall_ms -= 1_000_000_000;
    driver.restart();
    driver.advance(TIMEOUT);
    assert_eq!(driver.state(), Some(State::Prepare(Abort)));
}

#[test]
fn many_time_out_at_once() {
    let mut driver = Driver::new();
    for n in 0..200 {
        let transactional_id: Arc<str> = format!("app-{n}").into();
        let (timeout_ms, expected, fresh_id) = (TIMEOUT_MS, None, Some(n));
        let init =
            InitProducer { transactional_id: transactional_id.clone(), timeout_ms, expected, fresh_id };
        driver.call(Command::Init(init));
        let producer = Producer { id: n, epoch: 0 };
        let (partitions, protocol) = (vec![partition(0)], V1);
        driver.call(Command::AddPartitions(AddPartitions {
            transactional_id,
            producer,
            partitions,
            protocol,
        }));
    }
    driver.advance(TIMEOUT);
    assert_eq!(driver.machine.timed_out(), 200);
    assert_eq!(driver.markers.len(), 200, "whoever writes markers is told of all of them, each once");
    driver.write_markers();
    assert!(driver.machine.list().iter().all(|it| it.state == State::Complete(Abort)));
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_begins_anew() {
    let config = TransactionConfig {
        expiration_ms: 1_000_000,
        expiration_check_interval_ms: 10_000,
        ..TransactionConfig::default()
    };
    for (state, is_forgotten) in [
        (State::Empty, true),
        (State::Complete(Commit), true),
        (State::Complete(Abort), true),
        (State::Prepare(Commit), false),
    ] {
        let (before, producer) = Driver::in_state(state, V1);
        let mut driver = Driver::on(before.log, config.clone(), before.now);
        driver.advance(990_000);
        assert_eq!(driver.state(), Some(state), "{state:?} too early");
        driver.advance(20_000);
        assert_eq!(driver.state().is_none(), is_forgotten, "{state:?}");
        if is_forgotten {
            assert_eq!(driver.machine.poll_timeout(), None, "nothing is left to look at");
            assert_eq!(driver.add(producer, 0, V1), Err(TransactionError::InvalidProducerIdMapping));
            let fresh_id = Some(producer.id + 1);
            assert_eq!(driver.call(init(None, None)), Reply::FreshIdWanted);
            assert!(matches!(driver.call(init(None, fresh_id)), Reply::Init(Ok(Producer { epoch: 0, .. }))));
        }
    }
}

#[test]
fn use_keeps_an_id() {
    let config = TransactionConfig {
        expiration_ms: 50_000,
        expiration_check_interval_ms: 10_000,
        ..Default::default()
    };
    let mut driver = Driver::with(config);
    for _ in 0..5 {
        driver.init(None).unwrap();
        driver.advance(40_000);
    }
    assert_eq!(driver.state(), Some(State::Empty));
}
