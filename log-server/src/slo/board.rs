//! Every group's objective, and where it stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use super::arrivals::Arrivals;
use super::monitor::{Change, Monitor, State};
use super::relief::Relief;
use super::scale::{Capacity, Load};
use crate::lag::{GroupLag, LagSample};
use crate::resource_config::objective::{Objective, webhook_shown};
use crate::shedding::{Demand, Pressed, Pressure, Reason};
use crate::topic::{Priority, Topics};

/// Of the objective's lag: from where on a topic is one of those that a group is behind in.
const BEHIND_PART: f64 = 0.5;

/// The objectives of all groups that have one.
pub struct Slos {
    /// By group. Held while a sample is judged and while a question is answered, never across an await.
    groups: Mutex<BTreeMap<Arc<str>, Watched>>,
    /// How long load is shed for a group that does not get better by it.
    patience: Duration,
}

struct Watched {
    monitor: Monitor,
    capacity: Capacity,
    relief: Relief,
    /// By topic and partition: since when what the group has not consumed is there.
    arrivals: HashMap<(Arc<str>, i32), Arrivals>,
    /// What the newest sample said, if the group was in it.
    load: Option<Load>,
    catch_up_seconds: Option<f64>,
    /// The highest class of the topics that the group is behind in, or reads if it is behind in none.
    class: Priority,
}

/// Where one objective stands, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Report {
    /// The group.
    pub group: Arc<str>,
    /// How far behind it may be, in seconds.
    pub lag_seconds_objective: f64,
    /// The part of the window in which that is to hold.
    pub target: f64,
    /// The window, in seconds.
    pub window_seconds: f64,
    /// [`State::name`].
    pub state: &'static str,
    /// Since when, in ms since the epoch.
    pub since_ms: i64,
    /// How far behind the group is, in seconds, if that is known: the age of the first record that it has not consumed.
    pub lag_seconds: Option<f64>,
    /// What the objective is held against: how long such records have waited for the group, in seconds. Less than
    /// `lag_seconds` where they were old when they were produced; `None` where it is not known whether it is too long,
    /// as they were there before the broker has watched.
    pub waited_seconds: Option<f64>,
    /// How long it takes to catch up, in seconds, if that is known.
    pub catch_up_seconds: Option<f64>,
    /// See [`Budget::used`](super::Budget::used).
    pub budget_used: f64,
    /// See [`Budget::burn_rate`](super::Budget::burn_rate).
    pub burn_rate: f64,
    /// Where changes are posted, if the objective says so itself: the host. The rest of a URL may hold a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// How many workers a group needs, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Scale {
    /// The group.
    pub group: Arc<str>,
    /// How many it should have.
    pub desired_workers: usize,
    /// How many it has.
    pub current_workers: usize,
    /// The most that can be of use: the partitions that it consumes.
    pub max_workers: usize,
    /// Age of the first record that it has not consumed, in seconds.
    pub lag_seconds: f64,
    /// Records that it has not consumed.
    pub lag_records: i64,
    /// How far behind it may be, in seconds.
    pub lag_seconds_objective: f64,
    /// Records that come in a second, if that is known.
    pub produce_records_per_second: Option<f64>,
    /// Records that it consumes a second, if that is known.
    pub consume_records_per_second: Option<f64>,
    /// Records that one worker can do a second, as far as was seen.
    pub worker_records_per_second: Option<f64>,
}

/// Why it is not said how many workers a group needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoScale {
    /// It has no objective.
    NoObjective,
    /// It has committed nothing, or it is not known yet how much comes in.
    Unknown,
}

/// A change of state with all that is known at that moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The change.
    pub change: Change,
    /// Where the objective stands now.
    pub report: Report,
    /// The URL that it is posted to, if the objective says so itself.
    pub webhook: Option<String>,
}

/// What a sample has come to.
#[derive(Debug, Default)]
pub struct Judgement {
    /// The states that have changed.
    pub events: Vec<Event>,
    /// What load is to be shed for.
    pub demand: Demand,
}

impl Slos {
    /// Of no group. Load is shed for `patience` for a group that does not get better by it.
    pub fn new(patience: Duration) -> Slos {
        Slos { groups: Mutex::default(), patience }
    }

    /// Goes by these objectives from now on: new ones begin with nothing known, and those that are gone are forgotten.
    pub fn set(&self, objectives: BTreeMap<Arc<str>, Objective>, now: Instant, wall_ms: i64) {
        let mut groups = self.groups.lock();
        groups.retain(|group, _| objectives.contains_key(group));
        for (group, objective) in objectives {
            match groups.get_mut(&group) {
                Some(watched) if *watched.monitor.objective() == objective => {}
                Some(watched) => watched.monitor.set_objective(objective, now),
                None => {
                    groups.insert(group, Watched::new(Monitor::new(objective, now, wall_ms)));
                }
            }
        }
    }

    /// Judges every objective by a sample.
    pub fn judge(&self, sample: &LagSample, topics: &Topics, now: Instant, wall_ms: i64) -> Judgement {
        let mut judgement = Judgement::default();
        for (group, watched) in self.groups.lock().iter_mut() {
            let lag = sample.group(group).filter(|lag| !lag.partitions.is_empty());
            watched.take_in(lag, topics, now);
            let waited_seconds = watched.load.and_then(|load| load.waited_seconds);
            if let Some(change) = watched.monitor.observe(now, wall_ms, waited_seconds) {
                let webhook = watched.monitor.objective().webhook.clone();
                judgement.events.push(Event { change, report: watched.report(group, now), webhook });
            }
            watched.relieve(now, self.patience);
            demand(&mut judgement.demand, group, watched, lag);
        }
        judgement
    }

    /// Where every objective stands, by group.
    pub fn reports(&self, now: Instant) -> Vec<Report> {
        self.groups.lock().iter().map(|(group, watched)| watched.report(group, now)).collect()
    }

    /// Where one group's objective stands, if it has one.
    pub fn report(&self, group: &str, now: Instant) -> Option<Report> {
        self.groups.lock().get_key_value(group).map(|(group, watched)| watched.report(group, now))
    }

    /// The state of a group's objective, if it has one.
    pub fn state(&self, group: &str) -> Option<State> {
        self.groups.lock().get(group).map(|watched| watched.monitor.state())
    }

    /// How many workers a group needs.
    ///
    /// # Errors
    /// The group has no objective, or nothing is known of it or of what comes in: a scaler that were told 0 then would
    /// take all workers away.
    pub fn scale(&self, group: &str) -> Result<Scale, NoScale> {
        let groups = self.groups.lock();
        let (group, watched) = groups.get_key_value(group).ok_or(NoScale::NoObjective)?;
        // A group whose producers are not known to be idle is not scaled down to nobody.
        let load = watched.load.filter(|load| load.produced_per_second.is_some()).ok_or(NoScale::Unknown)?;
        let objective = watched.monitor.objective().lag;
        Ok(Scale {
            group: group.clone(),
            desired_workers: watched.capacity.desired_workers(&load, objective),
            current_workers: load.workers,
            max_workers: load.partitions,
            lag_seconds: load.lag_seconds,
            lag_records: load.lag_records,
            lag_seconds_objective: objective.as_secs_f64(),
            produce_records_per_second: load.produced_per_second,
            consume_records_per_second: load.consumed_per_second,
            worker_records_per_second: watched.capacity.records_per_second(),
        })
    }
}

impl Watched {
    fn new(monitor: Monitor) -> Watched {
        Watched {
            monitor,
            capacity: Capacity::default(),
            relief: Relief::default(),
            arrivals: HashMap::new(),
            load: None,
            catch_up_seconds: None,
            class: Priority::default(),
        }
    }

    /// Takes in what a sample says of the group, if it says anything.
    fn take_in(&mut self, lag: Option<&GroupLag>, topics: &Topics, now: Instant) {
        self.load = None;
        self.catch_up_seconds = lag.and_then(|lag| lag.rates.catch_up_seconds);
        let Some(lag) = lag else { return };
        let objective = self.monitor.objective().lag;
        let waited = self.waited(lag, objective, now);
        // What is not known is neither well nor too far behind.
        let Some(lag_seconds) = lag.lag_seconds() else { return };
        let load = load(lag, lag_seconds, longest(&waited, objective));
        self.class = class(lag, &waited, objective.as_secs_f64() * BEHIND_PART, topics);
        self.capacity.observe(&load, objective, now);
        self.load = Some(load);
    }

    /// How long the first unconsumed record of each partition has waited, in their order; see
    /// [`Arrivals::waited_seconds`].
    fn waited(&mut self, lag: &GroupLag, objective: Duration, now: Instant) -> Vec<Option<f64>> {
        let mut before = std::mem::take(&mut self.arrivals);
        let waited = lag.partitions.iter().map(|partition| {
            let place = (partition.topic.clone(), partition.partition);
            let mut arrivals = before.remove(&place).unwrap_or_default();
            arrivals.observe(now, partition.log_end_offset, objective);
            // Where the first record is, and not the marker or the aborted ones before it, which may have come long ago.
            let next =
                partition.first_offset.unwrap_or(partition.committed_offset.max(partition.log_start_offset));
            let age_seconds = partition.lag_seconds;
            let waited = age_seconds.and_then(|age| arrivals.waited_seconds(now, next, age, objective));
            self.arrivals.insert(place, arrivals);
            waited
        });
        waited.collect()
    }

    /// Decides anew whether load is to be shed for the group.
    fn relieve(&mut self, now: Instant, patience: Duration) {
        match (self.monitor.state_by_lag(), &self.load) {
            (State::Violated, Some(load)) => self.relief.missed(now, load.lag_records, patience),
            // A sample without the group: its state is still the one before.
            (State::Violated, None) => {}
            _ => self.relief.held(),
        }
    }

    fn report(&self, group: &Arc<str>, now: Instant) -> Report {
        let objective = self.monitor.objective();
        Report {
            group: group.clone(),
            lag_seconds_objective: objective.lag.as_secs_f64(),
            target: objective.target,
            window_seconds: objective.window.as_secs_f64(),
            state: self.monitor.state().name(),
            since_ms: self.monitor.since_ms(),
            lag_seconds: self.load.map(|load| load.lag_seconds),
            waited_seconds: self.load.and_then(|load| load.waited_seconds),
            catch_up_seconds: self.catch_up_seconds,
            budget_used: self.monitor.budget_used(now),
            burn_rate: self.monitor.burn_rate(now),
            webhook: objective.webhook.as_deref().map(webhook_shown),
        }
    }
}

fn load(lag: &GroupLag, lag_seconds: f64, waited_seconds: Option<f64>) -> Load {
    // What a member is to read counts before anything of it is committed.
    let assigned = lag.members.iter().flat_map(|member| {
        let topics = member.assignment.iter();
        topics.flat_map(|(topic, partitions)| partitions.iter().map(|index| (&**topic, *index)))
    });
    let committed = lag.partitions.iter().map(|partition| (&*partition.topic, partition.partition));
    let partitions: BTreeSet<(&str, i32)> = assigned.chain(committed).collect();
    Load {
        lag_records: lag.lag_records(),
        lag_seconds,
        waited_seconds,
        produced_per_second: lag.rates.produce_records_per_second,
        consumed_per_second: lag.rates.consume_records_per_second,
        workers: lag.members.len(),
        partitions: partitions.len(),
    }
}

/// The longest wait in any partition; `None` if those that are known are not too long, and others may be.
fn longest(waited: &[Option<f64>], objective: Duration) -> Option<f64> {
    let longest = waited.iter().copied().flatten().fold(0.0, f64::max);
    let decides = longest > objective.as_secs_f64() || waited.iter().all(Option::is_some);
    decides.then_some(longest)
}

/// The highest class of the topics that a group is behind in, or of all that it reads if it is behind in none.
fn class(lag: &GroupLag, waited: &[Option<f64>], behind_seconds: f64, topics: &Topics) -> Priority {
    let highest = |is_behind: &dyn Fn(&Option<f64>) -> bool| {
        let partitions = lag.partitions.iter().zip(waited).filter(|(_, waited)| is_behind(waited));
        partitions.filter_map(|(it, _)| topics.get(&it.topic)).map(|topic| Priority::of(topic)).max()
    };
    let behind = highest(&|waited| waited.is_some_and(|waited| waited >= behind_seconds));
    behind.or_else(|| highest(&|_| true)).unwrap_or_default()
}

/// Adds what a group needs to what all need. Its lag counts, and not what of its budget was used before: shedding does
/// not bring that back.
fn demand(demand: &mut Demand, group: &Arc<str>, watched: &Watched, lag: Option<&GroupLag>) {
    let state = watched.monitor.state_by_lag();
    let Pressure { presses, holds } = &mut demand.pressure;
    match state {
        State::Violated if watched.relief.is_due() && *presses < Some(watched.class) => {
            *presses = Some(watched.class);
            demand.reason = Some(Reason::Group(group.clone()));
        }
        State::AtRisk => *holds = (*holds).max(Some(watched.class)),
        _ => {}
    }
    if let (State::Violated | State::AtRisk, Some(lag)) = (state, lag) {
        let members = lag.members.iter().map(|member| (&*member.client_id, &*member.client_host));
        demand.groups.push(Pressed::new(group, members));
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
