//! The task that judges every sample of lag, tells of what has changed, and has load shed for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::webhook::{Notice, Webhooks};
use super::webhook_target::{AllowedHosts, Target};
use crate::clock::now_ms;
use crate::handler::Context;
use crate::lag::LagSample;
use crate::shedding::{Demand, Reason};
use crate::topic::{Priority, Topics};

/// How often the disk is looked at when no sample of lag comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest that the next sample is expected to take, however long the last one took.
const SAMPLE_WAIT_MAX: Duration = Duration::from_secs(20);

/// Runs until the broker stops.
pub async fn run(context: Arc<Context>) {
    let mut samples = context.lag.subscribe();
    let hosts = AllowedHosts::new(&context.config.slo_webhook_hosts);
    let webhooks = Webhooks::new(hosts, &context.metrics, context.shutdown.clone());
    let interval = Duration::from_millis(context.config.lag_sample_interval_ms);
    let mut rhythm = Rhythm::new(interval, Instant::now());
    let mut by_lag = Demand::default();
    loop {
        let sampled = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return,
            changed = tokio::time::timeout(PATIENCE, samples.changed()) => matches!(changed, Ok(Ok(()))),
        };
        let (now, wall_ms) = (Instant::now(), now_ms());
        let topics = context.catalog.topics();
        if sampled {
            rhythm.sampled(now);
            by_lag = judge(&context, &webhooks, &context.lag.latest(), now, wall_ms);
        } else if rhythm.is_missed(now) {
            by_lag = judge(&context, &webhooks, &LagSample::default(), now, wall_ms);
        }
        let demand = with_disk(by_lag.clone(), context.space.is_low(), &topics);
        context.shedding.step(demand, &topics, now, wall_ms);
        context.shedding.sweep_gaps(now);
    }
}

/// When samples are due, by how they have come. One that does not come is as one without groups, so that after a few of
/// them nothing is known any more, and nothing demanded: what the last sample said does not outlive the sampler.
struct Rhythm {
    interval: Duration,
    /// What the last sample has taken to come.
    gap: Duration,
    last: Instant,
}

impl Rhythm {
    fn new(interval: Duration, now: Instant) -> Rhythm {
        Rhythm { interval, gap: interval, last: now }
    }

    fn sampled(&mut self, now: Instant) {
        let longest = SAMPLE_WAIT_MAX.max(self.interval);
        self.gap = now.saturating_duration_since(self.last).clamp(self.interval, longest);
        self.last = now;
    }

    /// Whether another sample has not come by now, though it is past its time by half as much again.
    fn is_missed(&mut self, now: Instant) -> bool {
        let missed = now.saturating_duration_since(self.last) > self.gap * 3 / 2;
        if missed {
            self.last = now;
        }
        missed
    }
}

/// Judges a sample, and tells of what has changed. Answers with what load is to be shed for.
fn judge(context: &Context, webhooks: &Webhooks, sample: &LagSample, now: Instant, wall_ms: i64) -> Demand {
    context.slos.set(context.resource_configs.objectives(), now, wall_ms);
    let judgement = context.slos.judge(sample, &context.catalog.topics(), now, wall_ms);
    for event in judgement.events {
        let (group, report) = (&event.report.group, &event.report);
        tracing::info!(
            %group,
            from = event.change.from.name(),
            to = report.state,
            lag_seconds = report.lag_seconds,
            objective_seconds = report.lag_seconds_objective,
            "a lag objective has changed its state"
        );
        let target = match event.webhook.clone() {
            Some(url) => Target { url, is_operators: false },
            None => Target { url: context.config.slo_webhook.clone(), is_operators: true },
        };
        if !target.url.is_empty() {
            webhooks.post(&target, &Notice::of(&event, &context.cluster_id, context.config.node_id));
        }
    }
    judgement.demand
}

/// Adds what a disk past its soft limit demands: that the highest class there is goes on for as long as it can.
fn with_disk(mut demand: Demand, low: bool, topics: &Topics) -> Demand {
    if !low {
        return demand;
    }
    let classes = topics.iter().filter(|topic| !topic.is_internal()).map(|topic| Priority::of(topic));
    let highest = classes.max();
    if highest > demand.pressure.presses {
        demand.pressure.presses = highest;
        demand.reason = Some(Reason::Disk);
    }
    demand
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::shedding::Pressure;
    use crate::topic::{PRIORITY_CONFIG, Topic};

    fn topics(names: &[&str]) -> Topics {
        let topic = |name: &&str| {
            let config = BTreeMap::from([(PRIORITY_CONFIG.to_owned(), (*name).to_owned())]);
            Topic::new(name, 1, config)
        };
        names.iter().map(topic).collect()
    }

    #[test]
    fn a_sample_is_missed_once_it_is_late_by_the_rhythm_in_which_they_come() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut rhythm = Rhythm::new(second, start);
        assert!(!rhythm.is_missed(start + second));
        assert!(rhythm.is_missed(start + 2 * second), "none has come since the start");
        assert!(!rhythm.is_missed(start + 3 * second), "the next one is not due for that");
        assert!(rhythm.is_missed(start + 4 * second));
        let begun = start + 5 * second;
        rhythm.sampled(begun);
        rhythm.sampled(begun + 10 * second);
        assert!(!rhythm.is_missed(begun + 24 * second), "the sampler is slow");
        assert!(rhythm.is_missed(begun + 26 * second));
        rhythm.sampled(begun + 3600 * second);
        assert!(rhythm.is_missed(begun + 3631 * second), "an hour without any is no rhythm");
    }

    #[test]
    fn a_disk_that_fills_up_presses_for_the_highest_class_there_is() {
        let empty = Topics::default();
        assert_eq!(with_disk(Demand::default(), true, &empty), Demand::default());
        let by_lag = Demand {
            pressure: Pressure { presses: Some(Priority::Normal), holds: None },
            reason: Some(Reason::Group("g".into())),
            groups: Vec::new(),
        };
        assert_eq!(with_disk(by_lag.clone(), true, &empty), by_lag);
        let all = topics(&["low", "normal", "high"]);
        assert_eq!(with_disk(by_lag.clone(), false, &all), by_lag);
        let demand = with_disk(by_lag.clone(), true, &all);
        assert_eq!((demand.pressure.presses, demand.reason), (Some(Priority::High), Some(Reason::Disk)));
        assert_eq!(with_disk(by_lag.clone(), true, &topics(&["low", "normal"])), by_lag);
        let only_low = with_disk(Demand::default(), true, &topics(&["low"]));
        assert_eq!(only_low.pressure.presses, Some(Priority::Low), "below which there is nothing to be shed");
    }
}
