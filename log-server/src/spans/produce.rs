//! The spans of one produced batch.

use std::sync::Arc;
use std::time::SystemTime;

use log_core::record::RecordBatch;
use opentelemetry::trace::{Span as _, Status, TraceContextExt, Tracer};
use opentelemetry::{Context as Ancestry, KeyValue};
use opentelemetry_sdk::trace::Span;

use super::{Budget, Operation, Origins, Spans, time_of};
use crate::handler::Request;
use crate::partition::Partition;

/// A batch on its way: `produce`, and within it `append` and `wait durable`. The span ends when this is dropped.
#[derive(Debug)]
pub struct ProduceSpans {
    spans: Arc<Spans>,
    span: Span,
    topic: Arc<str>,
    /// When the step that is under way began.
    step_began: SystemTime,
}

impl Spans {
    /// Begins the spans of a batch that is to be appended; `None` if no trace of its records is sampled.
    pub fn produce(
        self: &Arc<Self>,
        request: &Request,
        partition: &Partition,
        records: Option<&[u8]>,
        budget: &mut Budget,
    ) -> Option<Box<ProduceSpans>> {
        let batch = RecordBatch::parse(records?).ok()?;
        let mut origins = Origins::default();
        origins.add(&batch, budget);
        if origins.is_empty() {
            return None;
        }
        let mut attributes = Operation::Produce.attributes(request, partition);
        attributes.push(KeyValue::new("messaging.batch.message_count", i64::from(batch.record_count())));
        attributes.push(KeyValue::new("messaging.message.envelope.size", batch.size_bytes() as i64));
        let span = self.serve(
            Operation::Produce,
            partition.topic(),
            &origins,
            time_of(request.received_at),
            attributes,
        );
        let spans = Arc::clone(self);
        let topic = partition.topic().clone();
        Some(Box::new(ProduceSpans { spans, span, topic, step_began: SystemTime::now() }))
    }
}

impl ProduceSpans {
    /// The batch is in the log, from `base_offset` on.
    pub fn appended(&mut self, base_offset: i64) {
        self.span.set_attribute(KeyValue::new("messaging.kafka.offset", base_offset));
        self.step("append");
    }

    /// The batch is durable.
    pub fn durable(&mut self) {
        self.step("wait durable");
    }

    /// The client is answered with this error, by Kafka's name for it.
    pub fn failed(&mut self, error: &'static str) {
        self.span.set_attribute(KeyValue::new("error.type", error));
        self.span.set_status(Status::error(error));
    }

    /// Sends a span about what was done since the last one.
    fn step(&mut self, name: &str) {
        let ancestry = Ancestry::new().with_remote_span_context(self.span.span_context().clone());
        let now = SystemTime::now();
        let step = self.spans.tracer.span_builder(format!("{name} {}", self.topic));
        let tracer = &self.spans.tracer;
        step.with_start_time(self.step_began).start_with_context(tracer, &ancestry).end_with_timestamp(now);
        self.step_began = now;
    }
}
