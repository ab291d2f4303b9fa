use super::*;

/// A monitor with an objective of 100 s, fed once a second.
struct Fed {
    monitor: Monitor,
    now: Instant,
    began: Instant,
    changes: Vec<(u64, State)>,
}

impl Fed {
    fn new(target: f64) -> Fed {
        let lag = Duration::from_secs(100);
        let objective = Objective { lag, target, window: Duration::from_secs(3600), webhook: None };
        let now = Instant::now();
        Fed { monitor: Monitor::new(objective, now, 0), now, began: now, changes: Vec::new() }
    }

    fn feed(&mut self, readings: impl IntoIterator<Item = Option<f64>>) -> State {
        for lag in readings {
            let second = (self.now - self.began).as_secs();
            let before = self.monitor.state();
            let change = self.monitor.observe(self.now, second as i64 * 1000, lag);
            if let Some(change) = change {
                assert_eq!((change.from, change.to), (before, self.monitor.state()));
                assert_eq!(self.monitor.since_ms(), second as i64 * 1000);
                self.changes.push((second, change.to));
            }
            assert_eq!(change.is_some(), before != self.monitor.state());
            self.now += Duration::from_secs(1);
        }
        self.monitor.state()
    }

    fn hold(&mut self, lag: f64, count: usize) -> State {
        self.feed(std::iter::repeat_n(Some(lag), count))
    }
}

#[test]
fn a_group_that_falls_behind_and_catches_up_goes_through_every_state_once() {
    let mut fed = Fed::new(0.5);
    assert_eq!(fed.monitor.state(), State::Unknown);
    // The consumer stops: a second of lag a second. Then it catches up, ten times as fast.
    fed.feed((0..=120).map(|lag| Some(f64::from(lag))));
    fed.feed((0..=12).map(|step| Some(f64::from(120 - 10 * step))));
    fed.hold(0.0, 10);
    let states: Vec<State> = fed.changes.iter().map(|(_, state)| *state).collect();
    assert_eq!(states, [State::Ok, State::AtRisk, State::Violated, State::AtRisk, State::Ok]);
    let at_risk = fed.changes[1].0;
    assert!((50..=53).contains(&at_risk), "it grows so fast that half the objective is enough: {at_risk}");
    assert_eq!(fed.changes[2].0, 102, "the second reading beyond the objective");
}

#[test]
fn one_odd_reading_changes_nothing() {
    let mut fed = Fed::new(0.5);
    fed.hold(0.0, 10);
    for _ in 0..20 {
        fed.feed([Some(1e9)]);
        fed.hold(0.0, 10);
    }
    assert_eq!(fed.changes, [(0, State::Ok)]);
    fed.hold(500.0, 2);
    for _ in 0..20 {
        fed.hold(0.0, 2);
        fed.feed([Some(500.0)]);
    }
    assert_eq!(fed.monitor.state(), State::Violated, "nor does one of calm end it");
}

#[test]
fn a_lag_that_moves_about_a_limit_does_not_flap() {
    for limit in [75.0, 100.0] {
        let mut fed = Fed::new(0.5);
        for step in 0..500 {
            // Runs of four each way, 3 % above and below.
            fed.feed([Some(limit * if step / 4 % 2 == 0 { 1.03 } else { 0.97 })]);
        }
        assert!(fed.changes.len() <= 2, "{:?}", fed.changes);
    }
}

#[test]
fn a_steady_lag_below_the_objective_is_ok_and_just_below_at_risk() {
    let mut fed = Fed::new(0.5);
    assert_eq!(fed.hold(74.0, 100), State::Ok);
    assert_eq!(fed.hold(76.0, 2), State::AtRisk);
    assert_eq!(fed.hold(70.0, 100), State::AtRisk, "it is left at nine tenths");
    assert_eq!(fed.hold(67.0, 3), State::Ok);
    assert_eq!(fed.hold(100.0, 100), State::AtRisk, "the objective itself is allowed");
}

#[test]
fn a_sawtooth_of_commits_is_no_growth() {
    let mut fed = Fed::new(0.5);
    fed.feed((0..600).map(|second| Some(f64::from(second % 30))));
    assert_eq!(fed.changes, [(0, State::Ok)]);
}

#[test]
fn a_budget_that_burns_keeps_it_at_risk_for_a_while_but_not_for_those_who_act_on_the_lag() {
    let mut fed = Fed::new(0.99);
    fed.hold(0.0, 600);
    fed.hold(200.0, 60);
    assert_eq!(fed.monitor.state(), State::Violated);
    fed.hold(0.0, 5);
    assert_eq!(fed.monitor.state(), State::AtRisk);
    assert_eq!(fed.monitor.state_by_lag(), State::Ok);
    assert!(fed.monitor.budget_used(fed.now) > 1.0, "a hundredth of an hour is 36 s");
    assert!(fed.monitor.burn_rate(fed.now) > FAST_BURN);
    assert_eq!(fed.hold(0.0, 360), State::Ok, "the newest twelfth of the window is good again");
    assert!(fed.monitor.budget_used(fed.now) > 1.0, "what is used stays used");
}

#[test]
fn without_readings_nothing_is_known_and_the_first_one_counts() {
    let mut fed = Fed::new(0.5);
    fed.hold(500.0, 1);
    assert_eq!(
        fed.monitor.state(),
        State::AtRisk,
        "the first reading is not waited for, and not enough for more"
    );
    fed.hold(500.0, 1);
    assert_eq!(fed.monitor.state(), State::Violated);
    assert_eq!(fed.feed([None, None]), State::Violated, "a shard may be loading");
    assert_eq!(fed.feed([None]), State::Unknown);
    assert_eq!(fed.hold(500.0, 1), State::AtRisk, "what was read before does not count with it");
    fed.feed([None, None, None]);
    assert_eq!(fed.hold(0.0, 6), State::Ok);
    fed.feed([None, None, None]);
    assert_eq!(fed.hold(60.0, 1), State::Ok, "nor is it a growth");
}

#[test]
fn another_objective_judges_the_next_reading_and_keeps_the_budget_of_the_same_window() {
    let mut fed = Fed::new(0.5);
    fed.hold(50.0, 60);
    let mut stricter = fed.monitor.objective().clone();
    stricter.lag = Duration::from_secs(10);
    fed.monitor.set_objective(stricter.clone(), fed.now);
    assert_eq!(fed.hold(50.0, 60), State::Violated);
    let used = fed.monitor.budget_used(fed.now);
    assert!(used > 0.0);
    stricter.lag = Duration::from_secs(20);
    fed.monitor.set_objective(stricter.clone(), fed.now);
    assert_eq!(fed.monitor.budget_used(fed.now), used);
    stricter.target = 0.9;
    fed.monitor.set_objective(stricter, fed.now);
    assert_eq!(fed.monitor.budget_used(fed.now), 0.0);
}

/// Whatever the readings: a state is only entered after as many of them as it takes, and violation is neither missed
/// nor made up.
#[test]
fn random_readings_keep_the_rules() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut fed = Fed::new(0.0);
    let mut recent = VecDeque::new();
    for step in 0..20_000 {
        // Runs of the same kind, so that every state is reached.
        let level = if rng.u8(..8) == 0 {
            rng.f64() * 200.0
        } else {
            recent.back().copied().flatten().unwrap_or(0.0)
        };
        let reading = (rng.u8(..20) > 0).then_some(level);
        let before = fed.monitor.state();
        let after = fed.feed([reading]);
        recent.push_back(reading);
        let last = |count: usize| recent.iter().rev().take(count).copied().collect::<Vec<_>>();
        let all = |count: u32, test: fn(Option<f64>) -> bool| {
            recent.len() >= count as usize && last(count as usize).into_iter().all(test)
        };
        let place = format!("seed {seed}, step {step}: {before:?} to {after:?} on {:?}", last(5));
        if after == State::Violated && !matches!(before, State::Violated | State::Unknown) {
            assert!(last(1)[0].is_some_and(|lag| lag > 100.0), "{place}");
        }
        if before == State::Violated && matches!(after, State::Ok | State::AtRisk) {
            assert!(last(1)[0].is_some_and(|lag| lag <= 90.0), "{place}");
        }
        if all(WORSE_READINGS, |lag| lag.is_some_and(|lag| lag > 100.0)) {
            assert_eq!(after, State::Violated, "{place}");
        }
        if all(MISSING_READINGS, |lag| lag.is_none()) {
            assert_eq!(after, State::Unknown, "{place}");
        }
        if all(2 * BETTER_READINGS, |lag| lag == Some(0.0)) {
            assert_eq!(after, State::Ok, "{place}");
        }
    }
}
