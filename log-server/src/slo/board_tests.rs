use std::time::Duration;

use log_core::log::Isolation;

use super::*;
use crate::coordinator::group::{GroupProtocol, GroupState, MemberOverview};
use crate::lag::{PartitionLag, Rates};
use crate::slo::MISSING_READINGS;
use crate::topic::{PRIORITY_CONFIG, Topic};

fn objective(seconds: u64) -> Objective {
    Objective {
        lag: Duration::from_secs(seconds),
        target: 0.9,
        window: Duration::from_secs(3600),
        webhook: None,
    }
}

/// The lag of a group in the first partition of each topic, in seconds.
fn lag(group: &str, topics: &[(&str, f64)]) -> GroupLag {
    let partitions = topics.iter().map(|(topic, lag_seconds)| PartitionLag {
        topic: (*topic).into(),
        partition: 0,
        committed_offset: 0,
        committed_at_ms: 0,
        log_start_offset: 0,
        log_end_offset: 100,
        isolation: Isolation::Uncommitted,
        lag_records: 100,
        exact: true,
        lag_seconds: Some(*lag_seconds),
        first_offset: None,
        rates: Rates::default(),
        member_id: None,
        client_id: None,
    });
    let mut rates = Rates::default();
    rates.produce_records_per_second = Some(50.0);
    GroupLag {
        group: group.into(),
        state: GroupState::Empty,
        protocol_type: "".into(),
        protocol: GroupProtocol::OffsetsOnly,
        members: Vec::new(),
        partitions: partitions.collect(),
        rates,
    }
}

/// Topics of each class, named by it.
fn topics() -> Topics {
    let topic = |class: Priority| {
        let config = BTreeMap::from([(PRIORITY_CONFIG.to_owned(), class.name().to_owned())]);
        Topic::new(class.name(), 1, config)
    };
    Priority::ALL.into_iter().map(topic).collect()
}

const PATIENCE: Duration = Duration::from_secs(300);

struct Board {
    slos: Slos,
    now: Instant,
    wall_ms: i64,
}

impl Board {
    fn new(objectives: &[(&str, u64)]) -> Board {
        let board = Board { slos: Slos::new(PATIENCE), now: Instant::now(), wall_ms: 0 };
        board.set(objectives);
        board
    }

    fn set(&self, objectives: &[(&str, u64)]) {
        let objectives = objectives.iter().map(|(group, seconds)| ((*group).into(), objective(*seconds)));
        self.slos.set(objectives.collect(), self.now, self.wall_ms);
    }

    fn judge(&mut self, groups: Vec<GroupLag>) -> Judgement {
        self.now += Duration::from_secs(1);
        self.wall_ms += 1000;
        let sample = LagSample { number: 1, sampled_at_ms: self.wall_ms, groups };
        self.slos.judge(&sample, &topics(), self.now, self.wall_ms)
    }

    /// The same for so many seconds, with the events of all of them: what is there from the beginning has to be seen for
    /// as long as the objective before it is known to have waited for too long.
    fn judge_for(&mut self, seconds: usize, groups: impl Fn() -> Vec<GroupLag>) -> Judgement {
        let mut events = Vec::new();
        let mut demand = Demand::default();
        for _ in 0..seconds {
            let judgement = self.judge(groups());
            events.extend(judgement.events);
            demand = judgement.demand;
        }
        Judgement { events, demand }
    }
}

/// Seconds after which an objective of 30 s that was missed from the beginning is known to be.
const KNOWN: usize = 33;

#[test]
fn every_objective_is_judged_and_a_change_is_told_once() {
    let mut board = Board::new(&[("a", 30), ("b", 30), ("gone", 30)]);
    let sample =
        || vec![lag("a", &[("normal", 100.0)]), lag("b", &[("normal", 1.0)]), lag("c", &[("normal", 9.0)])];
    let told: Vec<_> = (board.judge_for(KNOWN, sample).events.into_iter())
        .map(|event| (event.report.group.to_string(), event.change.to, event.report.state))
        .collect();
    let expected =
        [("b", State::Ok, "ok"), ("a", State::AtRisk, "at_risk"), ("a", State::Violated, "violated")];
    assert_eq!(told, expected.map(|(group, state, name)| (group.to_owned(), state, name)));
    assert_eq!(board.judge(sample()).events, []);
    let states: Vec<_> =
        board.slos.reports(board.now).iter().map(|report| (report.state, report.lag_seconds)).collect();
    assert_eq!(states, [("violated", Some(100.0)), ("ok", Some(1.0)), ("unknown", None)]);
    assert_eq!(board.slos.state("c"), None);
    // What is set anew goes on where it was, what is not is forgotten.
    board.set(&[("a", 40)]);
    assert_eq!(board.slos.reports(board.now).len(), 1);
    let report = board.slos.report("a", board.now).unwrap();
    assert_eq!(
        (report.state, report.lag_seconds_objective, report.since_ms),
        ("violated", 40.0, 1000 * KNOWN as i64)
    );
    assert!(report.budget_used > 0.0 && report.burn_rate > 0.0);
}

#[test]
fn load_is_shed_for_the_highest_class_that_a_violated_group_is_behind_in() {
    let presses = |groups: Vec<GroupLag>, objectives: &[(&str, u64)]| {
        let mut board = Board::new(objectives);
        board.judge_for(KNOWN, || groups.clone()).demand
    };
    let one = |topics: &[(&str, f64)]| presses(vec![lag("a", topics)], &[("a", 30)]);
    let demand = one(&[("normal", 100.0)]);
    assert_eq!(demand.pressure, Pressure { presses: Some(Priority::Normal), holds: None });
    assert_eq!(demand.reason, Some(Reason::Group("a".into())));
    assert_eq!(one(&[("low", 100.0), ("high", 1.0)]).pressure.presses, Some(Priority::Low));
    assert_eq!(one(&[("low", 100.0), ("high", 20.0)]).pressure.presses, Some(Priority::High));
    assert_eq!(one(&[("high", 25.0)]).pressure, Pressure { presses: None, holds: Some(Priority::High) });
    assert_eq!(one(&[("high", 1.0)]), Demand::default());
    assert_eq!(one(&[]), Demand::default(), "nothing is known");
    let both =
        presses(vec![lag("a", &[("normal", 100.0)]), lag("b", &[("high", 100.0)])], &[("a", 30), ("b", 30)]);
    assert_eq!((both.pressure.presses, both.reason), (Some(Priority::High), Some(Reason::Group("b".into()))));
    let no_objective = presses(vec![lag("a", &[("high", 100.0)])], &[("b", 30)]);
    assert_eq!(no_objective, Demand::default());
}

#[test]
fn what_was_demanded_is_not_once_samples_fail_to_come() {
    let mut board = Board::new(&[("a", 30)]);
    let behind = || vec![lag("a", &[("high", 100.0)])];
    assert!(board.judge_for(KNOWN, behind).demand.pressure.presses.is_some());
    for _ in 1..MISSING_READINGS {
        assert!(board.judge(vec![]).demand.pressure.presses.is_some(), "a shard may be loading");
    }
    let judgement = board.judge(vec![]);
    assert_eq!(judgement.demand, Demand::default());
    assert_eq!(judgement.events[0].change.to, State::Unknown);
    assert_eq!(board.slos.scale("a"), Err(NoScale::Unknown));
}

#[test]
fn a_lag_that_is_not_known_is_neither_good_nor_bad() {
    let mut board = Board::new(&[("a", 30)]);
    let unknown = || {
        let mut lag = lag("a", &[("normal", 0.0), ("high", 0.0)]);
        lag.partitions[1].lag_seconds = None;
        vec![lag]
    };
    assert_eq!(board.judge(unknown()).demand, Demand::default());
    let report = board.slos.report("a", board.now).unwrap();
    assert_eq!((report.state, report.lag_seconds), ("unknown", None));
    assert_eq!(board.slos.scale("a"), Err(NoScale::Unknown));
}

#[test]
fn what_does_not_help_a_group_is_not_shed_for_it_any_more() {
    let mut board = Board::new(&[("a", 30)]);
    let behind = || vec![lag("a", &[("high", 100.0)])];
    let reason = Some(Reason::Group("a".into()));
    assert_eq!(board.judge_for(KNOWN + 299, behind).demand.reason, reason);
    let demand = board.judge(behind()).demand;
    assert_eq!((demand.pressure, demand.reason), (Pressure::default(), None));
    assert_eq!(demand.groups.len(), 1, "what it writes is spared as long as it is behind");
    assert_eq!(board.slos.state("a"), Some(State::Violated));
    assert_eq!(board.judge_for(300, behind).demand.reason, reason, "it is tried again");
}

/// A group that is so many records behind in a copy of old records, a thousand of which come each second.
fn copy(second: i64, behind: i64) -> Vec<GroupLag> {
    let mut lag = lag("a", &[("high", 4e8)]);
    let partition = &mut lag.partitions[0];
    partition.log_end_offset = second * 1000;
    partition.committed_offset = partition.log_end_offset - behind;
    vec![lag]
}

#[test]
fn who_keeps_up_with_a_copy_of_old_records_is_not_years_behind() {
    let mut board = Board::new(&[("a", 30)]);
    for second in 0..120 {
        let judgement = board.judge(copy(second, 5000.min(second * 1000)));
        assert_eq!(judgement.demand, Demand::default(), "after {second} s");
    }
    let report = board.slos.report("a", board.now).unwrap();
    assert_eq!((report.state, report.lag_seconds), ("ok", Some(4e8)));
    assert!(report.waited_seconds.is_some_and(|waited| (5.0..7.0).contains(&waited)), "{report:?}");
    for second in 120..200 {
        board.judge(copy(second, 1000 * (second - 115)));
    }
    assert_eq!(board.slos.state("a"), Some(State::Violated), "who does not is as far behind as it does not");
}

#[test]
fn how_many_workers_are_needed_is_told_where_it_is_known() {
    let mut board = Board::new(&[("a", 30), ("b", 30)]);
    assert_eq!(board.slos.scale("c"), Err(NoScale::NoObjective));
    board.judge(vec![lag("a", &[("normal", 20.0), ("high", 10.0)])]);
    assert_eq!(board.slos.scale("b"), Err(NoScale::Unknown));
    let scale = board.slos.scale("a").unwrap();
    assert_eq!((scale.desired_workers, scale.current_workers, scale.max_workers), (1, 0, 2));
    assert_eq!((scale.lag_seconds, scale.lag_records), (20.0, 200));
    assert_eq!(scale.produce_records_per_second, Some(50.0));
    let mut starting = lag("a", &[("normal", 20.0)]);
    starting.rates = Rates::default();
    board.judge(vec![starting]);
    assert_eq!(board.slos.scale("a"), Err(NoScale::Unknown), "it is not known yet what comes in");
    let mut assigned = lag("a", &[("normal", 20.0)]);
    assigned.members.push(MemberOverview {
        member_id: "m".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "h".into(),
        assignment: [("normal".into(), vec![0, 1, 2])].into(),
    });
    board.judge(vec![assigned]);
    let scale = board.slos.scale("a").unwrap();
    assert_eq!((scale.current_workers, scale.max_workers), (1, 3), "of two nothing is committed yet");
}
