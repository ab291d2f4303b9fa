//! What becomes of the broker's own spans.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Spans that wait, and how those ended that do not any more. A handle: clones count together.
#[derive(Clone, Debug, Default)]
pub struct SpanMetrics {
    queued: Gauge,
    exported: Counter,
    failed: Counter,
    dropped: Counter,
}

impl SpanMetrics {
    pub(super) fn register(registry: &mut Registry) -> SpanMetrics {
        let spans = SpanMetrics::default();
        registry.register("spans_queued", "Spans that wait to be sent", spans.queued.clone());
        registry.register("spans_exported", "Spans that the collector has taken", spans.exported.clone());
        let help = "Spans that the collector has not taken";
        registry.register("spans_failed", help, spans.failed.clone());
        let help = "Spans that were not sent because too many waited";
        registry.register("spans_dropped", help, spans.dropped.clone());
        spans
    }

    /// Counts a span that has ended: whether it may wait, beside less than `max` others.
    pub fn enter(&self, max: usize) -> bool {
        let room = self.queued.inc() < i64::try_from(max).unwrap_or(i64::MAX);
        if !room {
            self.queued.dec();
            self.dropped.inc();
        }
        room
    }

    /// Counts spans that are being sent.
    pub fn leave(&self, spans: usize) {
        self.queued.dec_by(i64::try_from(spans).unwrap_or(i64::MAX));
    }

    /// Counts spans that were taken.
    pub fn exported(&self, spans: usize) {
        self.exported.inc_by(spans as u64);
    }

    /// Counts spans that were sent and not taken.
    pub fn failed(&self, spans: usize) {
        self.failed.inc_by(spans as u64);
    }

    /// Spans that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_finds_no_room_is_counted() {
        let spans = SpanMetrics::default();
        assert_eq!([spans.enter(2), spans.enter(2), spans.enter(2)], [true, true, false]);
        spans.leave(1);
        assert!(spans.enter(2));
        assert_eq!((spans.dropped(), spans.queued.get()), (1, 2));
    }
}
