use log_core::log::Isolation;
use proptest::prelude::*;

use super::*;
use crate::coordinator::group::{GroupProtocol, GroupState};
use crate::lag::{PartitionLag, Rates};

/// A group that is behind by so many records, and by a tenth as many seconds.
fn group(name: &str, lag_records: i64) -> GroupLag {
    let partition = PartitionLag {
        topic: "flights".into(),
        partition: 0,
        committed_offset: 0,
        committed_at_ms: 0,
        log_start_offset: 0,
        log_end_offset: lag_records,
        isolation: Isolation::Uncommitted,
        lag_records,
        exact: true,
        lag_seconds: Some(lag_records as f64 / 10.0),
        first_offset: None,
        rates: Rates::default(),
        member_id: None,
        client_id: None,
    };
    GroupLag {
        group: name.into(),
        state: GroupState::Empty,
        protocol_type: "".into(),
        protocol: GroupProtocol::OffsetsOnly,
        members: Vec::new(),
        partitions: vec![partition],
        rates: Rates::default(),
    }
}

const NOW_MS: i64 = 1_800_000_000_000;

#[test]
fn a_peak_is_seen_at_every_step() {
    let mut histories = Histories::default();
    for second in 0..7 * 3600 {
        // A peak of one second, half an hour before the end.
        let lag = if second == 7 * 3600 - 1800 { 5000 } else { second % 10 };
        histories.observe(&[group("slow", lag)], NOW_MS + second * 1000, 10);
    }
    let end_ms = NOW_MS + 7 * 3_600_000;
    for (seconds, points_max, step_seconds) in
        [(600, 300, 2.0), (600, 100, 6.0), (3600, 300, 15.0), (3600, 30, 120.0), (86_400, 1000, 60.0)]
    {
        let history = histories.read("slow", end_ms, seconds, points_max).expect("there");
        assert_eq!(history.step_seconds, step_seconds, "{seconds} in {points_max}");
        assert!(history.points.len() <= points_max as usize);
        let step_ms = (step_seconds * 1000.0) as i64;
        let steps = history.points.iter().zip(history.points.iter().skip(1));
        for (point, next) in steps {
            assert_eq!(next.at_ms - point.at_ms, step_ms);
        }
        let first_ms = history.points[0].at_ms;
        let span_ms = (i64::from(seconds) * 1000).min(HORIZON_MS);
        assert!(first_ms + step_ms > end_ms - span_ms && first_ms <= end_ms - span_ms + 2 * step_ms);
        let peaks = history.points.iter().filter(|point| point.lag_records == 5000).count();
        assert_eq!(peaks, usize::from(seconds > 1800));
    }
    assert_eq!(histories.read("nobody", end_ms, 60, 10), None);
}

#[test]
fn there_is_room_for_so_many_groups_and_those_that_are_gone_make_it() {
    let mut histories = Histories::default();
    let groups = ["a", "b", "c"].map(|name| group(name, 1));
    histories.observe(&groups, NOW_MS, 2);
    let known = |histories: &Histories| {
        let mut names: Vec<String> = histories.groups.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names.concat()
    };
    assert_eq!(known(&histories), "ab");
    histories.observe(&groups[1..], NOW_MS + 1000, 2);
    assert_eq!(known(&histories), "bc", "a is gone");
    histories.observe(&groups, NOW_MS + 2000, 2);
    assert_eq!(known(&histories), "bc");
    histories.observe(&[], NOW_MS + 2000 + HORIZON_MS, 2);
    assert_eq!(known(&histories), "");
    histories.observe(&groups, NOW_MS, 0);
    assert_eq!(known(&histories), "");
}

#[test]
fn a_lag_that_was_not_known_is_none_and_hides_no_other() {
    let mut histories = Histories::default();
    let mut unknown = group("slow", 7);
    unknown.partitions[0].lag_seconds = None;
    for second in 0..4 {
        let known = group("slow", 5);
        histories.observe(&[if second == 3 { known } else { unknown.clone() }], NOW_MS + second * 1000, 1);
    }
    let history = histories.read("slow", NOW_MS + 4000, 600, 300).expect("there");
    let points: Vec<_> = history.points.iter().map(|point| (point.lag_records, point.lag_seconds)).collect();
    assert_eq!(points, [(7, None), (7, Some(0.5))]);
}

proptest! {
    #[test]
    fn rings_are_bounded_and_rise_whatever_the_clock_does(
        steps in prop::collection::vec((-4_000_000i64..4_000_000, 0i64..100), 1..200),
        seconds in 0u32..u32::MAX,
        points_max in 0u32..u32::MAX,
    ) {
        let (mut histories, mut now_ms) = (Histories::default(), NOW_MS);
        for (step_ms, lag) in steps {
            now_ms += step_ms;
            histories.observe(&[group("g", lag)], now_ms, 1);
            if let Some(history) = histories.groups.get("g") {
                for (ring, (_, slots_max)) in history.rings.iter().zip(RINGS) {
                    prop_assert!(ring.slots.len() <= slots_max);
                    let rising = ring.slots.iter().zip(ring.slots.iter().skip(1)).all(|(a, b)| a.step < b.step);
                    prop_assert!(rising);
                }
            }
        }
        if let Some(history) = histories.read("g", now_ms, seconds, points_max) {
            prop_assert!(history.points.len() <= points_max.max(1) as usize);
        }
    }
}
