//! The order of batches through failures, checked on the state machine alone.

use log_core::record::RecordBatch;

use super::super::batch::BatchStyle;
use super::*;

const LIMITS: QueueLimits = QueueLimits {
    linger: Duration::from_millis(5),
    batch_bytes_max: 1000,
    in_flight_max: 5,
    may_renew: true,
    backoff: Backoff { initial: Duration::from_millis(100), max: Duration::from_millis(100) },
};

struct Fixture {
    queue: Queue,
    now: Instant,
    next_id: u64,
    identity: Option<Identity>,
    lost: Vec<Batch>,
}

impl Fixture {
    fn with_batches(count: usize) -> Fixture {
        let mut fixture = Fixture {
            queue: Queue::default(),
            now: Instant::now(),
            next_id: 0,
            identity: Some(Identity { producer_id: 7, epoch: 0 }),
            lost: Vec::new(),
        };
        for _ in 0..count {
            fixture.add(2);
        }
        fixture
    }

    /// Adds a sealed batch of `records` records.
    fn add(&mut self, records: usize) {
        let deadline = self.now + Duration::from_secs(10);
        let mut batch = Batch::new(self.next_id, BatchStyle::default(), self.now, deadline);
        self.next_id += 1;
        for _ in 0..records {
            batch.append(usize::MAX, 0, None, Some(b"value"), &[]).unwrap().unwrap();
        }
        self.queue.set_open(batch);
        self.queue.seal();
    }

    fn take(&mut self) -> Option<Batch> {
        let mut batch = self.queue.take(self.now, &LIMITS, &mut self.identity, &mut self.lost)?;
        batch.build().unwrap();
        Some(batch)
    }

    fn take_stamp(&mut self) -> (Batch, i16, i32) {
        let mut batch = self.take().expect("a batch is due");
        let bytes = batch.build().unwrap();
        let view = RecordBatch::parse(&bytes).unwrap();
        view.verify_crc().unwrap();
        assert_eq!(view.producer_id(), 7);
        let (epoch, sequence) = (view.producer_epoch(), view.base_sequence());
        (batch, epoch, sequence)
    }
}

#[test]
fn linger_is_waited_for_unless_full_or_sealed() {
    let mut fixture = Fixture::with_batches(0);
    assert_eq!(fixture.queue.due(fixture.now, &LIMITS), Due::Never);
    let mut batch = Batch::new(0, BatchStyle::default(), fixture.now, fixture.now + Duration::from_secs(1));
    batch.append(usize::MAX, 0, None, None, &[]).unwrap();
    fixture.queue.set_open(batch);
    assert_eq!(fixture.queue.due(fixture.now, &LIMITS), Due::At(fixture.now + LIMITS.linger));
    assert!(fixture.take().is_none());
    fixture.now += LIMITS.linger;
    assert!(fixture.take().is_some());
}

#[test]
fn five_are_in_flight_at_most() {
    let mut fixture = Fixture::with_batches(6);
    let first = fixture.take().unwrap();
    for _ in 1..5 {
        fixture.take().unwrap();
    }
    assert!(fixture.take().is_none());
    fixture.queue.succeeded(&first);
    assert!(fixture.take().is_some());
}

#[test]
fn retries_keep_their_numbers_and_go_one_at_a_time() {
    let mut fixture = Fixture::with_batches(4);
    let (first, _, 0) = fixture.take_stamp() else { panic!() };
    let (second, _, 2) = fixture.take_stamp() else { panic!() };
    let (third, _, 4) = fixture.take_stamp() else { panic!() };
    // The second fails before the first does: the order is by creation all the same.
    let second_id = second.id;
    fixture.queue.failed(second, fixture.now, &LIMITS);
    assert!(fixture.take().is_none(), "others are still in flight");
    fixture.queue.failed(first, fixture.now, &LIMITS);
    assert!(fixture.queue.has_older(third.id));
    fixture.queue.failed(third, fixture.now, &LIMITS);
    assert!(fixture.take().is_none(), "backing off");
    fixture.now += Duration::from_millis(121);
    let (first, epoch, sequence) = fixture.take_stamp();
    assert_eq!((epoch, sequence), (0, 0));
    assert!(fixture.take().is_none(), "one retry at a time");
    assert!(!fixture.queue.has_older(first.id) && fixture.queue.has_older(second_id));
    fixture.queue.succeeded(&first);
    let (second, _, 2) = fixture.take_stamp() else { panic!() };
    fixture.queue.succeeded(&second);
    let (third, _, 4) = fixture.take_stamp() else { panic!() };
    fixture.queue.succeeded(&third);
    let (fourth, _, 6) = fixture.take_stamp() else { panic!() };
    fixture.queue.succeeded(&fourth);
    assert!(fixture.queue.is_filling());
}

#[test]
fn a_refused_batch_with_others_behind_it_raises_the_epoch() {
    let mut fixture = Fixture::with_batches(3);
    let (first, ..) = fixture.take_stamp();
    let (second, ..) = fixture.take_stamp();
    let (mut third, ..) = fixture.take_stamp();
    fixture.queue.gave_up(&first);
    fixture.queue.failed(second, fixture.now, &LIMITS);
    third.outcome_unknown = true;
    let third_id = third.id;
    fixture.queue.failed(third, fixture.now, &LIMITS);
    fixture.now += Duration::from_millis(121);
    let (second, epoch, sequence) = fixture.take_stamp();
    assert_eq!((epoch, sequence), (1, 0), "numbered anew");
    assert_eq!(fixture.lost.iter().map(|batch| batch.id).collect::<Vec<_>>(), [third_id]);
    fixture.queue.succeeded(&second);
    fixture.add(1);
    let (_, epoch, sequence) = fixture.take_stamp();
    assert_eq!((epoch, sequence), (1, 2));
}

#[test]
fn a_refused_batch_with_nothing_behind_it_gives_its_numbers_back() {
    let mut fixture = Fixture::with_batches(1);
    let (first, ..) = fixture.take_stamp();
    fixture.queue.gave_up(&first);
    fixture.add(1);
    let (_, epoch, sequence) = fixture.take_stamp();
    assert_eq!((epoch, sequence), (0, 0));
}

#[test]
fn expired_batches_leave_in_order_and_only_numbered_ones_leave_a_hole() {
    let mut fixture = Fixture::with_batches(2);
    let deadline = fixture.now + Duration::from_secs(10);
    assert!(fixture.queue.expire(fixture.now).is_empty());
    assert_eq!(fixture.queue.expire(deadline).len(), 2);
    fixture.now = deadline;
    fixture.add(1);
    let (mut sent, epoch, sequence) = fixture.take_stamp();
    assert_eq!((epoch, sequence), (0, 0), "unsent batches were never numbered");
    sent.outcome_unknown = true;
    fixture.queue.failed(sent, fixture.now, &LIMITS);
    assert_eq!(fixture.queue.expire(deadline + Duration::from_secs(10)).len(), 1);
    fixture.now = deadline + Duration::from_secs(10);
    fixture.add(1);
    let (_, epoch, sequence) = fixture.take_stamp();
    assert_eq!((epoch, sequence), (1, 0));
}

#[test]
fn halves_of_a_batch_keep_its_numbers() {
    let mut fixture = Fixture::with_batches(0);
    fixture.add(5);
    let (batch, _, 0) = fixture.take_stamp() else { panic!() };
    let id = batch.id;
    let pieces = batch.split().expect("five records can be divided");
    fixture.queue.split(id, pieces);
    let (first, _, 0) = fixture.take_stamp() else { panic!() };
    assert_eq!(first.record_count(), 2);
    fixture.queue.succeeded(&first);
    let (second, _, 2) = fixture.take_stamp() else { panic!() };
    assert_eq!(second.record_count(), 3);
    assert!(second.split().is_ok());
}

#[test]
fn a_producer_without_a_next_epoch_asks_for_a_new_id() {
    let mut fixture = Fixture::with_batches(2);
    fixture.identity = Some(Identity { producer_id: 7, epoch: i16::MAX });
    let (first, ..) = fixture.take_stamp();
    let (second, ..) = fixture.take_stamp();
    fixture.queue.gave_up(&first);
    fixture.queue.failed(second, fixture.now, &LIMITS);
    fixture.now += Duration::from_millis(121);
    assert!(fixture.take().is_none());
    assert_eq!(fixture.identity, None);
    fixture.identity = Some(Identity { producer_id: 7, epoch: 0 });
    let (_, epoch, sequence) = fixture.take_stamp();
    assert_eq!((epoch, sequence), (0, 0));
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(advance_sequence(i32::MAX, 1), 0);
    assert_eq!(advance_sequence(i32::MAX - 1, 1), i32::MAX);
}
