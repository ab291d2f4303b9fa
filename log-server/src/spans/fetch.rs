//! The span of records that a consumer is handed.

use bytes::Bytes;
use log_core::record::{RecordBatch, batches};
use opentelemetry::KeyValue;

use super::{Budget, Operation, Origins, Spans, time_of};
use crate::handler::Request;
use crate::partition::Partition;

impl Spans {
    /// Sends a span for the records of a partition that a fetch is answered with, if a trace of them is sampled.
    pub fn fetched(&self, request: &Request, partition: &Partition, records: &[Bytes], budget: &mut Budget) {
        let mut origins = Origins::default();
        let all = || records.iter().flat_map(|records| batches(records).map_while(Result::ok));
        for batch in all() {
            origins.add(&batch, budget);
        }
        if origins.is_empty() {
            return;
        }
        let mut attributes = Operation::Fetch.attributes(request, partition);
        let count: i64 = all().map(|batch| i64::from(batch.record_count())).sum();
        attributes.push(KeyValue::new("messaging.batch.message_count", count));
        attributes.extend(all().next().map(first_offset));
        // Dropping a span ends it.
        let began = time_of(request.received_at);
        drop(self.serve(Operation::Fetch, partition.topic(), &origins, began, attributes));
    }
}

fn first_offset(batch: RecordBatch<'_>) -> KeyValue {
    KeyValue::new("messaging.kafka.offset", batch.base_offset())
}
