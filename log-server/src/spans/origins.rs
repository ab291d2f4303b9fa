//! Which traces the records of a batch come from.

use log_core::record::{DecompressLimits, RecordBatch, RecordRef};
use opentelemetry::Context as Ancestry;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// Contexts that are told apart for one span; more of them are left out.
pub const LINKS_MAX: usize = 32;

/// The header that holds a context, by W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// A context's bytes: 55 of them, and room for what later versions may add.
const TRACEPARENT_BYTES_MAX: usize = 256;

/// Bytes of vendors' state that are passed on, which is what the standard wants at least. A longer one is left out: it
/// would be kept with every span.
const TRACESTATE_BYTES_MAX: usize = 512;

/// What one request may have looked at for the sake of its spans.
#[derive(Debug)]
pub struct Budget {
    records: usize,
    unpacked_bytes: usize,
}

impl Default for Budget {
    /// 4,096 records, and 1 MiB of what compressed batches unpack to: a batch that is larger is not opened any further.
    fn default() -> Budget {
        Budget { records: 4096, unpacked_bytes: 1 << 20 }
    }
}

/// The distinct contexts of sampled spans that records were made in, in the order of the records.
#[derive(Debug, Default)]
pub struct Origins {
    contexts: Vec<SpanContext>,
}

impl Origins {
    /// The contexts, at most [`LINKS_MAX`].
    pub fn contexts(&self) -> &[SpanContext] {
        &self.contexts
    }

    /// Whether no record tells of a sampled trace.
    pub fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }

    /// The first context, if all of them are of one trace.
    pub fn parent(&self) -> Option<&SpanContext> {
        let first = self.contexts.first()?;
        self.contexts.iter().all(|context| context.trace_id() == first.trace_id()).then_some(first)
    }

    /// Adds those of a batch, as far as the budget goes. A batch that cannot be read has none.
    pub fn add(&mut self, batch: &RecordBatch<'_>, budget: &mut Budget) {
        if batch.attributes().is_control() || budget.records == 0 || self.contexts.len() >= LINKS_MAX {
            return;
        }
        let limits =
            DecompressLimits { output_bytes_max: budget.unpacked_bytes, ..DecompressLimits::default() };
        let Ok(payload) = batch.decompressed_payload(limits) else {
            // What was unpacked before it was too much counts as well.
            budget.unpacked_bytes = 0;
            return;
        };
        if let std::borrow::Cow::Owned(unpacked) = &payload {
            budget.unpacked_bytes = budget.unpacked_bytes.saturating_sub(unpacked.len());
        }
        for record in batch.record_refs(&payload).take(budget.records).map_while(Result::ok) {
            budget.records -= 1;
            self.add_record(&record);
            if self.contexts.len() >= LINKS_MAX {
                return;
            }
        }
    }

    fn add_record(&mut self, record: &RecordRef<'_>) {
        if record.header_count() == 0 || Headers(record).get(TRACEPARENT).is_none() {
            return;
        }
        let extracted =
            TraceContextPropagator::new().extract_with_context(&Ancestry::new(), &Headers(record));
        let span = extracted.span();
        let context = span.span_context();
        // A context has a few bytes that identify it and a state that may be long: the first of each is kept.
        let known = |known: &SpanContext| {
            (known.trace_id(), known.span_id()) == (context.trace_id(), context.span_id())
        };
        if context.is_valid() && context.is_sampled() && !self.contexts.iter().any(known) {
            self.contexts.push(context.clone());
        }
    }
}

/// A record's headers, for the propagator.
struct Headers<'a>(&'a RecordRef<'a>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let bytes_max = if key == TRACEPARENT { TRACEPARENT_BYTES_MAX } else { TRACESTATE_BYTES_MAX };
        // The last one counts, as for Kafka's own `lastHeader`.
        let value =
            self.0.headers().filter(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes())).last()?.1?;
        if value.len() > bytes_max {
            return None;
        }
        std::str::from_utf8(value).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.headers().filter_map(|(name, _)| std::str::from_utf8(name).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use log_core::record::{BatchBuilder, Compression, Header};

    use super::*;

    /// A batch with one record for each of these headers' values.
    fn batch(compression: Compression, contexts: impl IntoIterator<Item = String>) -> Bytes {
        let mut builder = BatchBuilder::new(compression);
        for (at, context) in (0..).zip(contexts) {
            let headers = [Header::new("other", Some("x")), Header::new(TRACEPARENT, Some(context))];
            builder.append(at, None, Some(b"value"), &headers).unwrap();
        }
        builder.build(0).unwrap()
    }

    fn context(trace: u128, span: u64, flags: u8) -> String {
        format!("00-{trace:032x}-{span:016x}-{flags:02x}")
    }

    fn origins(bytes: &Bytes, budget: &mut Budget) -> Origins {
        let mut origins = Origins::default();
        origins.add(&RecordBatch::parse(bytes).unwrap(), budget);
        origins
    }

    #[test]
    fn contexts_are_told_once_and_only_if_they_are_sampled() {
        let contexts = [context(1, 1, 1), context(1, 1, 1), context(2, 2, 0), context(1, 3, 1)];
        for compression in [Compression::None, Compression::Zstd] {
            let found = origins(&batch(compression, contexts.clone()), &mut Budget::default());
            let spans: Vec<String> = found.contexts().iter().map(|it| it.span_id().to_string()).collect();
            assert_eq!(spans, ["0000000000000001", "0000000000000003"]);
            assert_eq!(
                found.parent().map(|it| it.span_id().to_string()).as_deref(),
                Some("0000000000000001")
            );
        }
    }

    #[test]
    fn what_is_no_context_is_none() {
        for nonsense in
            ["", "00-", "00-0-0-01", "ff-1-1-01", "no context at all", &context(0, 1, 1), &context(1, 0, 1)]
        {
            let found = origins(&batch(Compression::None, [nonsense.to_owned()]), &mut Budget::default());
            assert!(found.is_empty(), "{nonsense}");
        }
    }

    #[test]
    fn contexts_of_several_traces_have_no_parent_and_are_bounded() {
        let many = (1..100).map(|trace| context(trace, 7, 1));
        let found = origins(&batch(Compression::None, many), &mut Budget::default());
        assert_eq!((found.contexts().len(), found.parent()), (LINKS_MAX, None));
    }

    #[test]
    fn no_more_is_looked_at_than_the_budget_allows() {
        let last_of_ten = || (0..10).map(|at| if at == 9 { context(1, 1, 1) } else { context(1, 1, 0) });
        let bytes = batch(Compression::None, last_of_ten());
        assert!(origins(&bytes, &mut Budget { records: 9, unpacked_bytes: 0 }).is_empty());
        assert!(!origins(&bytes, &mut Budget { records: 10, unpacked_bytes: 0 }).is_empty());

        let packed = batch(Compression::Gzip, last_of_ten());
        let mut small = Budget { records: 10, unpacked_bytes: 100 };
        assert!(origins(&packed, &mut small).is_empty());
        assert_eq!(small.unpacked_bytes, 0, "the attempt is paid for");
        let mut enough = Budget { records: 20, unpacked_bytes: 10_000 };
        assert!(!origins(&packed, &mut enough).is_empty());
        assert!(enough.unpacked_bytes < 9_500 && enough.records == 10, "{enough:?}");
    }
}
