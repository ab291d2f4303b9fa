//! Requests by API: how many, how long they took, and where the time went.
//!
//! ```text
//! last byte of the request ─ handle ─ queue ─ wait ─ answer is there ─ send ─ the system has its last byte
//!                           └────────── highwater_request_seconds ──┘
//! ```
//! - `handle`: in the handler, before the connection's next request is dispatched.
//! - `queue`: behind earlier answers of the connection.
//! - `wait`: for what the answer depends on: a sync, new records, a rebalance. Of answers that were not there at once.
//! - `send`: from then until the system has taken the answer, with those that were sent together with it.

use std::fmt;
use std::time::Duration;

use log_core::wire::ApiKey;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::histogram::Histogram;

/// Where the time of a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In the handler.
    Handle,
    /// Behind earlier answers.
    Queue,
    /// For what the answer depends on.
    Wait,
    /// Until the system has taken the answer.
    Send,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Handle, Phase::Queue, Phase::Wait, Phase::Send];

    fn label(self) -> &'static str {
        match self {
            Phase::Handle => "handle",
            Phase::Queue => "queue",
            Phase::Wait => "wait",
            Phase::Send => "send",
        }
    }
}

/// The requests of all APIs, by key, so that counting one takes no lock and looks up no label.
pub struct RequestMetrics {
    apis: Vec<Option<OfApi>>,
}

struct OfApi {
    name: &'static str,
    total: Histogram,
    phases: [Histogram; Phase::ALL.len()],
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiLabels {
    api: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabels {
    api: &'static str,
    phase: &'static str,
}

impl RequestMetrics {
    /// Nothing answered yet.
    pub(super) fn new() -> RequestMetrics {
        let keys = ApiKey::ALL.iter().map(|api| api.code() as usize).max().unwrap_or(0) + 1;
        let mut apis: Vec<Option<OfApi>> = (0..keys).map(|_| None).collect();
        for &api in ApiKey::ALL {
            apis[api.code() as usize] = Some(OfApi {
                name: api.name(),
                total: Histogram::of_seconds(),
                phases: std::array::from_fn(|_| Histogram::of_seconds()),
            });
        }
        RequestMetrics { apis }
    }

    /// Counts an answered request: `took` from its last byte until its answer was there.
    pub fn answered(&self, api: ApiKey, took: Duration) {
        if let Some(of_api) = self.of(api) {
            of_api.total.observe_duration(took);
        }
    }

    /// Counts what a request has spent in a phase.
    pub fn spent(&self, api: ApiKey, phase: Phase, took: Duration) {
        if let Some(of_api) = self.of(api) {
            of_api.phases[phase as usize].observe_duration(took);
        }
    }

    fn of(&self, api: ApiKey) -> Option<&OfApi> {
        self.apis.get(api.code() as usize)?.as_ref()
    }
}

impl Collector for RequestMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let apis = || self.apis.iter().flatten();
        // Histograms of the APIs that somebody uses: of all of them they would be most of the page.
        let used = || apis().filter(|of_api| of_api.total.snapshot().count() > 0);
        let mut family = encoder.encode_descriptor(
            "highwater_requests",
            "Requests answered.",
            None,
            MetricType::Counter,
        )?;
        for of_api in apis() {
            let count = ConstCounter::new(of_api.total.snapshot().count());
            count.encode(family.encode_family(&ApiLabels { api: of_api.name })?)?;
        }
        let mut family = encoder.encode_descriptor(
            "highwater_request_seconds",
            "From a request's last byte until its answer was there.",
            None,
            MetricType::Histogram,
        )?;
        for of_api in used() {
            of_api.total.encode_into(&mut family.encode_family(&ApiLabels { api: of_api.name })?)?;
        }
        let mut family = encoder.encode_descriptor(
            "highwater_request_phase_seconds",
            "Where the time of requests went.",
            None,
            MetricType::Histogram,
        )?;
        for of_api in used() {
            for phase in Phase::ALL {
                let labels = PhaseLabels { api: of_api.name, phase: phase.label() };
                of_api.phases[phase as usize].encode_into(&mut family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestMetrics")
    }
}
