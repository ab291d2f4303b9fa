use super::*;

fn batch(first_sequence: i32, last_sequence: i32, base_offset: i64) -> ProducerBatch {
    let last_offset = base_offset + i64::from(last_sequence.wrapping_sub(first_sequence) & i32::MAX);
    ProducerBatch { first_sequence, last_sequence, base_offset, last_offset, timestamp: 1000 + base_offset }
}

fn out_of_order(sequence: i32, expected: i32) -> Result<SequenceCheck, SequenceError> {
    Err(SequenceError::OutOfOrder { sequence, expected })
}

#[test]
fn the_next_is_accepted_and_the_last_five_are_known() {
    let mut states = ProducerStates::default();
    assert_eq!(states.check(7, 0, 40, 49, false), Ok(SequenceCheck::Accept), "unknown: may begin anywhere");
    for i in 0..7 {
        let (first, last) = (40 + i * 10, 49 + i * 10);
        assert_eq!(states.check(7, 0, first, last, false), Ok(SequenceCheck::Accept));
        states.update(7, 0, false, batch(first, last, i64::from(i) * 10));
    }
    for i in 2..7 {
        let known = batch(40 + i * 10, 49 + i * 10, i64::from(i) * 10);
        assert_eq!(states.check(7, 0, 40 + i * 10, 49 + i * 10, false), Ok(SequenceCheck::Duplicate(known)));
    }
    assert_eq!(states.check(7, 0, 50, 59, false), out_of_order(50, 110), "forgotten");
    assert_eq!(states.check(7, 0, 100, 104, false), out_of_order(100, 110), "not the same batch");
    assert_eq!(states.check(7, 0, 111, 120, false), out_of_order(111, 110), "a gap");
    assert_eq!(states.check(8, 0, 111, 120, false), Ok(SequenceCheck::Accept), "another producer");
}

#[test]
fn sequences_wrap() {
    let mut states = ProducerStates::default();
    states.update(7, 0, false, batch(i32::MAX - 4, i32::MAX, 0));
    assert_eq!(states.check(7, 0, 0, 9, false), Ok(SequenceCheck::Accept));
    states.update(7, 0, false, batch(0, 9, 5));
    let across = batch(i32::MAX - 1, 2, 100);
    assert_eq!(across.last_offset, 104);
    states.update(8, 0, false, across);
    assert_eq!(states.check(8, 0, i32::MAX - 1, 2, false), Ok(SequenceCheck::Duplicate(across)));
    assert_eq!(states.check(8, 0, 3, 3, false), Ok(SequenceCheck::Accept));
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old() {
    let mut states = ProducerStates::default();
    states.update(7, 3, false, batch(0, 9, 0));
    assert_eq!(states.check(7, 2, 10, 19, false), Err(SequenceError::InvalidEpoch { epoch: 2, current: 3 }));
    assert_eq!(states.check(7, 4, 10, 19, false), out_of_order(10, 0));
    assert_eq!(states.check(7, 4, 0, 9, false), Ok(SequenceCheck::Accept), "no duplicate of the old epoch's");
    states.update(7, 4, false, batch(0, 4, 10));
    assert_eq!(states.get(7).expect("known").batches(), [batch(0, 4, 10)]);
    assert_eq!(states.check(7, 3, 10, 19, false), Err(SequenceError::InvalidEpoch { epoch: 3, current: 4 }));
}

#[test]
fn the_silent_are_forgotten_and_a_clock_that_went_back_forgets_nobody() {
    let mut states = ProducerStates::default();
    states.update(7, 0, false, ProducerBatch { timestamp: 1_000_000, ..batch(0, 0, 0) });
    states.update(8, 0, false, ProducerBatch { timestamp: 2_000_000, ..batch(0, 0, 1) });
    states.update(8, 0, false, ProducerBatch { timestamp: 0, ..batch(1, 1, 2) });
    states.expire(0);
    states.expire(i64::MIN);
    assert_eq!(states.len(), 2);
    states.expire(1_000_000 + EXPIRATION_MS);
    assert_eq!(states.iter().map(|(id, _)| id).collect::<Vec<_>>(), [8]);
}

#[test]
fn their_number_is_bounded_and_the_silent_go_first() {
    let mut states = ProducerStates::default();
    for id in 0..PRODUCERS_MAX as i64 + 1 {
        states.update(id, 0, false, batch(0, 0, id));
    }
    assert!(states.len() < PRODUCERS_MAX);
    assert_eq!(states.get(0), None);
    assert!(states.get(PRODUCERS_MAX as i64).is_some());
    // All of one age, where the age alone cannot tell whom to keep.
    let mut states = ProducerStates::default();
    for id in 0..PRODUCERS_MAX as i64 + 1 {
        states.update(id, 0, false, ProducerBatch { timestamp: 5, ..batch(0, 0, id) });
    }
    assert!(states.len() > PRODUCERS_MAX / 2 && states.len() < PRODUCERS_MAX);
}

fn marker(marker: Marker, coordinator_epoch: i32) -> EndOfTransaction {
    EndOfTransaction { marker, coordinator_epoch }
}

#[test]
fn a_transaction_lasts_from_its_first_batch_to_its_end() {
    let mut states = ProducerStates::default();
    states.update(7, 0, true, batch(0, 9, 0));
    states.update(8, 0, false, batch(0, 9, 10));
    states.update(9, 0, true, batch(0, 9, 20));
    states.update(7, 0, true, batch(10, 19, 30));
    assert_eq!(states.get(7).and_then(ProducerState::transaction_start), Some(0));
    assert_eq!(states.get(8).and_then(ProducerState::transaction_start), None);
    assert_eq!(states.last_stable(40), 0);
    assert_eq!(states.check(7, 0, 20, 29, true), Ok(SequenceCheck::Accept));
    let outside = Err(SequenceError::OutsideTransaction { first_offset: 0 });
    assert_eq!(states.check(7, 0, 20, 29, false), outside);

    let aborted = states.end_transaction(7, 0, marker(Marker::Abort, 0), 40, 1040);
    let expected = AbortedTransaction { producer_id: 7, first_offset: 0, last_offset: 40, last_stable: 20 };
    assert_eq!(aborted, Some(expected));
    assert_eq!(states.last_stable(40), 0, "the end is not durable");
    assert_eq!(states.last_stable(41), 20);
    assert_eq!(states.end_transaction(9, 0, marker(Marker::Commit, 0), 41, 1041), None);
    assert_eq!(states.last_stable(42), 42);
    assert_eq!(states.check(7, 0, 20, 29, false), Ok(SequenceCheck::Accept), "the sequence goes on");
    let again = states.end_transaction(7, 0, marker(Marker::Abort, 0), 42, 1042);
    assert_eq!(again, None, "an end that is repeated ends nothing");
}

#[test]
fn what_the_coordinator_said_of_a_transaction_is_no_word_on_the_next() {
    let mut states = ProducerStates::default();
    assert_eq!(states.check_open(7, 0), Ok(()));
    states.update(7, 0, true, batch(0, 9, 0));
    states.end_transaction(7, 0, marker(Marker::Commit, 0), 10, 1010);
    assert_eq!(states.check_open(7, 10), Err(SequenceError::TransactionEnded { offset: 10 }));
    assert_eq!(states.check_open(7, 11), Ok(()), "asked after the end");
}

#[test]
fn where_every_transaction_has_its_epoch_its_sequences_begin_at_zero() {
    let mut states = ProducerStates::default();
    let early = Err(SequenceError::OutOfOrder { sequence: 10, expected: 0 });
    assert_eq!(states.check_first(7, 0, 10), early, "the one before it has not come");
    assert_eq!(states.check_first(7, 0, 0), Ok(()));
    states.update(7, 0, true, batch(0, 9, 0));
    assert_eq!(states.check_first(7, 0, 10), Ok(()), "it has");
    states.end_transaction(7, 1, marker(Marker::Commit, 0), 10, 1010);
    assert_eq!(states.check_first(7, 1, 10), early);
    assert_eq!(states.check_first(7, 0, 10), Ok(()), "fenced, as the other check says");
    // Of this one only the end is known.
    states.end_transaction(8, 1, marker(Marker::Commit, 0), 11, 1011);
    assert_eq!(
        states.check(8, 1, 10, 19, true),
        Ok(SequenceCheck::Accept),
        "in the first version of the protocol"
    );
    assert_eq!(states.check_first(8, 1, 10), early);
}

#[test]
fn ends_fence_and_are_fenced() {
    let mut states = ProducerStates::default();
    assert_eq!(states.check_marker(7, 0, 0), Ok(()), "of a producer that has written nothing here");
    states.update(7, 3, true, batch(0, 9, 0));
    assert_eq!(states.check_marker(7, 2, 0), Err(SequenceError::InvalidEpoch { epoch: 2, current: 3 }));
    // The second version of the protocol: the end bears the epoch after that of the transaction.
    assert_eq!(states.check_marker(7, 4, 5), Ok(()));
    states.end_transaction(7, 4, marker(Marker::Commit, 5), 10, 1010);
    let late = states.check(7, 3, 10, 19, true);
    assert_eq!(late, Err(SequenceError::InvalidEpoch { epoch: 3, current: 4 }), "a late batch opens nothing");
    assert_eq!(states.check(7, 4, 10, 19, true), out_of_order(10, 0));
    assert_eq!(states.check(7, 4, 0, 9, true), Ok(SequenceCheck::Accept));
    states.end_transaction(8, 0, marker(Marker::Commit, 5), 11, 1011);
    let anywhere = states.check(8, 0, 10, 19, true);
    assert_eq!(anywhere, Ok(SequenceCheck::Accept), "what it wrote before may have been deleted");
    let fenced = Err(SequenceError::CoordinatorFenced { epoch: 4, current: 5 });
    assert_eq!(states.check_marker(7, 4, 4), fenced);
    assert_eq!(states.check_marker(7, 4, 5), Ok(()), "repeated");
    states.update(7, 6, true, batch(0, 9, 20));
    assert_eq!(states.check_marker(7, 6, 4), fenced, "a new epoch of the producer's changes nothing there");
}

#[test]
fn whoever_has_a_transaction_open_is_not_forgotten() {
    let mut states = ProducerStates::default();
    for id in 0..OPEN_TRANSACTIONS_MAX as i64 {
        assert_eq!(states.check(id, 0, 0, 0, true), Ok(SequenceCheck::Accept));
        states.update(id, 0, true, batch(0, 0, id));
    }
    let newcomer = OPEN_TRANSACTIONS_MAX as i64;
    assert_eq!(states.check(newcomer, 0, 0, 0, true), Err(SequenceError::TooManyTransactions));
    assert_eq!(states.check(0, 0, 1, 1, true), Ok(SequenceCheck::Accept), "it has begun");
    assert_eq!(states.check(newcomer, 0, 0, 0, false), Ok(SequenceCheck::Accept));
    for id in newcomer..2 * PRODUCERS_MAX as i64 {
        states.update(id, 0, false, batch(0, 0, id));
    }
    states.expire(i64::MAX);
    let all: Vec<i64> = states.iter().map(|(id, _)| id).collect();
    assert_eq!(all, (0..newcomer).collect::<Vec<_>>());
}
