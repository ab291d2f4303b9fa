use proptest::prelude::*;

use super::*;

/// A consumer that commits every `interval_ms` from `from_ms` to before `to_ms`, `per_second` records a second.
fn commits(rate: &mut ConsumeRate, from_ms: i64, to_ms: i64, interval_ms: i64, per_second: u64) {
    let mut at_ms = from_ms;
    while at_ms < to_ms {
        rate.committed(at_ms, per_second * interval_ms as u64 / 1_000);
        at_ms += interval_ms;
    }
}

#[test]
fn a_steady_consumer_has_its_rate_however_often_it_commits() {
    for interval_ms in [100, 1_000, 5_000, 14_000, 60_000] {
        let mut rate = ConsumeRate::default();
        commits(&mut rate, 0, 600_000, interval_ms, 70);
        let last_ms = 600_000 - interval_ms;
        for now_ms in [last_ms, last_ms + interval_ms / 2, last_ms + interval_ms] {
            assert_eq!(rate.per_second(now_ms), Some(70.0), "every {interval_ms} ms");
        }
    }
}

#[test]
fn a_pause_is_seen_and_does_not_water_down_what_follows() {
    let mut rate = ConsumeRate::default();
    commits(&mut rate, 0, 30_000, 1_000, 100);
    assert_eq!(rate.per_second(29_500), Some(100.0));
    assert_eq!(rate.per_second(40_000), Some(100.0), "perhaps it is a long batch");
    assert_eq!(rate.per_second(45_000), Some(0.0), "stopped");
    rate.committed(90_000, 500);
    assert_eq!(rate.per_second(90_100), None, "one commit says nothing");
    rate.committed(91_000, 500);
    assert_eq!(rate.per_second(91_100), Some(500.0));
}

#[test]
fn a_change_of_speed_is_there_within_the_window() {
    let mut rate = ConsumeRate::default();
    commits(&mut rate, 0, 60_000, 1_000, 100);
    commits(&mut rate, 60_000, 85_000, 1_000, 1_000);
    assert_eq!(rate.per_second(85_000), Some(1_000.0));
}

#[test]
fn going_back_is_no_consumption() {
    let mut rate = ConsumeRate::default();
    commits(&mut rate, 0, 10_000, 1_000, 100);
    rate.reset(10_000);
    assert_eq!(rate.per_second(10_000), None);
    commits(&mut rate, 11_000, 13_000, 1_000, 200);
    assert_eq!(rate.per_second(13_000), Some(200.0));
}

#[test]
fn a_log_that_grows_in_jumps_has_its_mean() {
    let mut rate = ProduceRate::default();
    assert_eq!(rate.per_second(), None);
    for second in 0..60 {
        rate.observe(second * 1_000, if second % 4 == 0 { 400 } else { 0 });
    }
    let per_second = rate.per_second().unwrap();
    assert!((80.0..=120.0).contains(&per_second), "{per_second}");
    for second in 60..90 {
        rate.observe(second * 1_000, 0);
    }
    assert_eq!(rate.per_second(), Some(0.0), "it ends within the window");
    rate.observe(1_000, 5);
    assert_eq!(rate.per_second(), None, "the clock went back");
}

#[test]
fn time_to_catch_up() {
    assert_eq!(catch_up_seconds(0, None, None, 0.0), Some(0.0));
    assert_eq!(catch_up_seconds(6_000, Some(300.0), Some(100.0), 1.0), Some(30.0));
    assert_eq!(catch_up_seconds(6_000, Some(100.0), Some(300.0), 1.0), None, "it falls behind");
    assert_eq!(catch_up_seconds(6_000, Some(100.0), Some(99.9), 1.0), None, "that is noise");
    assert_eq!(catch_up_seconds(6_000, Some(0.0), Some(0.0), 0.0), None, "it is stopped");
    assert_eq!(catch_up_seconds(6_000, None, Some(1.0), 0.0), None);
    assert_eq!(catch_up_seconds(400, Some(100.0), Some(101.0), 5.0), Some(0.0), "it is between two commits");
}

proptest! {
    #[test]
    fn a_window_is_bounded_and_its_rate_never_negative(
        steps in prop::collection::vec((-5_000i64..100_000, 0u64..1 << 40), 1..300)
    ) {
        let (mut consume, mut produce, mut now_ms) = (ConsumeRate::default(), ProduceRate::default(), 0);
        for (step_ms, records) in steps {
            now_ms += step_ms;
            consume.committed(now_ms, records);
            produce.observe(now_ms, records);
            for points in [&consume.window.points, &produce.window.points] {
                prop_assert!(points.len() as i64 <= 2 * (WINDOW_MS / SPACING_MS) + 3);
                let rising = points.iter().zip(points.iter().skip(1)).all(|(a, b)| a.at_ms < b.at_ms);
                prop_assert!(rising);
            }
            prop_assert!(consume.per_second(now_ms).is_none_or(|rate| rate >= 0.0));
            prop_assert!(produce.per_second().is_none_or(|rate| rate >= 0.0));
        }
    }
}
