//! Where the objectives stand, on `/metrics`: made of the board when somebody scrapes, so nothing is counted twice.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::board::{Report, Slos};
use super::monitor::State;
use crate::metrics::escaped;

/// The metrics of all objectives.
pub struct SloMetrics(pub Arc<Slos>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GroupLabels {
    group: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    group: String,
    state: &'static str,
}

/// A metric that each objective has one of: name, meaning, value.
type Row = (&'static str, &'static str, fn(&Report) -> f64);

const ROWS: [Row; 3] = [
    ("slo_lag_objective_seconds", "How far behind a group may be by its objective.", |report| {
        report.lag_seconds_objective
    }),
    (
        "slo_budget_used_ratio",
        "The part that is used of the time that an objective may be missed within its window.",
        |report| report.budget_used,
    ),
    (
        "slo_burn_rate",
        "How many times as fast as it may be an objective's budget is being used up.",
        |report| report.burn_rate,
    ),
];

impl Collector for SloMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reports = self.0.reports(Instant::now());
        let name = |report: &Report| escaped(&report.group);
        let mut family = encoder.encode_descriptor(
            "slo_state",
            "1 for the state that a group's lag objective is in.",
            None,
            MetricType::Gauge,
        )?;
        for report in &reports {
            for state in State::ALL {
                let labels = StateLabels { group: name(report), state: state.name() };
                let is = ConstGauge::new(i64::from(state.name() == report.state));
                is.encode(family.encode_family(&labels)?)?;
            }
        }
        for (metric, help, value) in ROWS {
            let mut family = encoder.encode_descriptor(metric, help, None, MetricType::Gauge)?;
            for report in &reports {
                let labels = GroupLabels { group: name(report) };
                ConstGauge::new(value(report)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "slo_desired_workers",
            "How many members a group should have, where that is known.",
            None,
            MetricType::Gauge,
        )?;
        for scale in reports.iter().filter_map(|report| self.0.scale(&report.group).ok()) {
            let labels = GroupLabels { group: escaped(&scale.group) };
            let desired = i64::try_from(scale.desired_workers).unwrap_or(i64::MAX);
            ConstGauge::new(desired).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for SloMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SloMetrics")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;
    use crate::resource_config::objective::Objective;

    #[test]
    fn every_objective_has_its_state_and_budget() {
        let (metrics, slos) = (Metrics::new(), Arc::new(Slos::new(Duration::MAX)));
        metrics.register(|registry| registry.register_collector(Box::new(SloMetrics(slos.clone()))));
        let (lag, window) = (Duration::from_secs(30), Duration::from_secs(60));
        let objective = Objective { lag, target: 0.9, window, webhook: None };
        slos.set([("a\"b".into(), objective)].into(), Instant::now(), 0);
        let text = metrics.encode();
        for line in [
            r#"highwater_slo_state{group="a\"b",state="unknown"} 1"#,
            r#"highwater_slo_state{group="a\"b",state="violated"} 0"#,
            r#"highwater_slo_lag_objective_seconds{group="a\"b"} 30.0"#,
            r#"highwater_slo_budget_used_ratio{group="a\"b"} 0.0"#,
            r#"highwater_slo_burn_rate{group="a\"b"} 0.0"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("highwater_slo_desired_workers{"), "nothing is known of the group");
    }
}
