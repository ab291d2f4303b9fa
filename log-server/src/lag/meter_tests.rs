use super::*;
use crate::coordinator::group::{GroupProtocol, GroupState};

/// A group in its partitions, as one sample sees it.
fn group(partitions: Vec<PartitionLag>) -> GroupLag {
    GroupLag {
        group: "app".into(),
        state: GroupState::Empty,
        protocol_type: "".into(),
        protocol: GroupProtocol::OffsetsOnly,
        members: Vec::new(),
        partitions,
        rates: Rates::default(),
    }
}

/// Of two offsets one is a record.
fn lag(partition: i32, committed_offset: i64, committed_at_ms: i64, log_end_offset: i64) -> PartitionLag {
    PartitionLag {
        topic: "flights".into(),
        partition,
        committed_offset,
        committed_at_ms,
        log_start_offset: 0,
        log_end_offset,
        isolation: Isolation::Uncommitted,
        lag_records: records(committed_offset..log_end_offset) as i64,
        exact: true,
        lag_seconds: Some(0.0),
        first_offset: None,
        rates: Rates::default(),
        member_id: None,
        client_id: None,
    }
}

fn records(offsets: Range<i64>) -> u64 {
    (offsets.end - offsets.start) as u64 / 2
}

/// The samples of some seconds, one a second; the last one.
fn after(meters: &mut Meters, seconds: Range<i64>, at: impl Fn(i64) -> Vec<PartitionLag>) -> GroupLag {
    let mut last = None;
    for second in seconds {
        let mut lag = group(at(second));
        meters.observe(&mut lag, second as u64, second * 1_000, |_, offsets| records(offsets));
        meters.forget_before(second as u64);
        last = Some(lag);
    }
    last.expect("a sample")
}

/// 200 offsets a second are committed and 80 come in, behind 12,000.
fn steady(partition: i32, second: i64) -> PartitionLag {
    lag(partition, 200 * second, second * 1_000, 12_000 + 80 * second)
}

#[test]
fn rates_are_of_records_and_a_groups_are_those_of_its_partitions_together() {
    let told = after(&mut Meters::default(), 0..10, |second| vec![steady(0, second), steady(1, second)]);
    for partition in &told.partitions {
        let Rates { consume_records_per_second, produce_records_per_second, catch_up_seconds, .. } =
            partition.rates;
        assert_eq!((consume_records_per_second, produce_records_per_second), (Some(100.0), Some(40.0)));
        assert_eq!(catch_up_seconds, Some((6_000.0 - 9.0 * 60.0) / 60.0));
    }
    assert_eq!(told.rates.consume_records_per_second, Some(200.0));
    assert_eq!(told.rates.produce_records_per_second, Some(80.0));
    assert_eq!(told.rates.catch_up_seconds, told.partitions[0].rates.catch_up_seconds);
}

#[test]
fn a_group_that_goes_back_or_reads_other_records_begins_anew() {
    let consumed = |at: &dyn Fn(PartitionLag) -> PartitionLag| {
        let mut meters = Meters::default();
        after(&mut meters, 0..10, |second| vec![steady(0, second)]);
        let told = after(&mut meters, 10..11, |second| vec![at(steady(0, second))]);
        (told.rates.consume_records_per_second, told.rates.produce_records_per_second)
    };
    assert_eq!(consumed(&|lag| lag), (Some(100.0), Some(40.0)));
    assert_eq!(consumed(&|lag| PartitionLag { committed_offset: 3, ..lag }), (None, Some(40.0)));
    assert_eq!(consumed(&|lag| PartitionLag { isolation: Isolation::Committed, ..lag }), (None, None));
    assert_eq!(consumed(&|lag| PartitionLag { log_end_offset: 11_000, ..lag }), (None, None));
}

#[test]
fn groups_and_partitions_that_are_gone_are_forgotten() {
    let mut meters = Meters::default();
    after(&mut meters, 0..10, |second| vec![steady(0, second), steady(1, second)]);
    after(&mut meters, 10..11, |second| vec![steady(0, second)]);
    assert_eq!(meters.groups["app"].partitions.len(), 1);
    let told = after(&mut meters, 11..12, |second| vec![steady(0, second), steady(1, second)]);
    assert_eq!(told.partitions[0].rates.consume_records_per_second, Some(100.0));
    assert_eq!(told.partitions[1].rates.consume_records_per_second, None, "it is new");
    meters.forget_before(12);
    assert!(meters.groups.is_empty());
}
