//! OpenTelemetry traces: what became of records whose producer traces them. Off unless `otlp_endpoint` is set.
//!
//! A producer puts its trace context into a record's header `traceparent` (W3C Trace Context). Of a batch that holds
//! such records, and whose traces are sampled, these spans are sent:
//!
//! ```text
//! the producer's span
//! └─ produce TOPIC          from the request's last byte until the batch is acknowledged
//!    ├─ append TOPIC        checked and in the log
//!    └─ wait durable TOPIC  until a sync has made it durable (acks=all)
//! └─ fetch TOPIC            one for each answer to a consumer that the batch is part of
//! ```
//! A batch holds records of any number of producers' spans, and a span has one parent: where all of them are of one
//! trace, the broker's spans are of that trace too; otherwise they are of a trace of their own. They link to every
//! context that is not their parent, up to [`LINKS_MAX`]; a fetch links to all.
//!
//! While it is off it costs one branch a request. While it is on, headers are looked at within a [`Budget`], spans wait
//! in a queue of [`QUEUE_SPANS_MAX`] for a thread of their own to send them, and what finds no room there is dropped
//! and counted. A collector that is away or hangs holds up neither requests nor the shutdown.
//!
//! Names and attributes follow the semantic conventions for messaging spans of OpenTelemetry.

mod export;
mod fetch;
mod origins;
mod produce;

pub use origins::{Budget, LINKS_MAX, Origins};
pub use produce::ProduceSpans;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context as Ancestry, KeyValue};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};
use tokio::runtime::Handle;

use crate::handler::Request;
use crate::metrics::SpanMetrics;
use crate::partition::Partition;

/// Spans that wait to be sent, at most.
pub const QUEUE_SPANS_MAX: usize = 2048;

/// Characters of a client's id that go into a span: clients choose it, and many spans are kept.
const CLIENT_ID_CHARS_MAX: usize = 256;

/// How long the last spans may take to be sent when the broker stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// What makes spans and has them sent.
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    stopped: AtomicBool,
}

impl Spans {
    /// Starts the thread that sends spans to `endpoint`, an address as `http://host:4318`, to which `/v1/traces` is
    /// added. `instance` tells this broker from others. Requests run on `runtime`.
    ///
    /// # Errors
    /// The endpoint is no address.
    pub fn start(
        endpoint: &str,
        instance: String,
        runtime: Handle,
        metrics: SpanMetrics,
    ) -> Result<Arc<Spans>, ExporterBuildError> {
        let resource = Resource::builder_empty().with_service_name("highwater").with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ]);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            // A batch none of whose producers' traces is sampled has no span at all.
            .with_sampler(Sampler::AlwaysOn)
            .with_max_links_per_span(u32::try_from(LINKS_MAX).unwrap_or(u32::MAX))
            .with_span_processor(export::processor(endpoint, runtime, metrics)?)
            .build();
        Ok(Arc::new(Spans {
            tracer: provider.tracer("highwater"),
            provider,
            stopped: AtomicBool::new(false),
        }))
    }

    /// Sends what is left, for two seconds at most, and ends. Blocks.
    pub fn stop(&self) {
        // Relaxed: whoever drops this has it alone by then.
        self.stopped.store(true, Ordering::Relaxed);
        if let Err(error) = self.provider.shutdown_with_timeout(STOP_WAIT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }

    /// Begins a span of the broker's about what comes from `origins`.
    fn serve(
        &self,
        operation: Operation,
        topic: &str,
        origins: &Origins,
        started_at: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Span {
        let parent = origins.parent();
        let ancestry = match parent {
            Some(parent) => Ancestry::new().with_remote_span_context(parent.clone()),
            None => Ancestry::new(),
        };
        let linked =
            origins.contexts().iter().filter(|&origin| operation.links_to_all() || Some(origin) != parent);
        self.tracer
            .span_builder(format!("{} {topic}", operation.name()))
            .with_kind(SpanKind::Server)
            .with_start_time(started_at)
            .with_links(linked.cloned().map(Link::with_context).collect())
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &ancestry)
    }
}

/// What the broker is asked to do with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Produce,
    Fetch,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Produce => "produce",
            Operation::Fetch => "fetch",
        }
    }

    /// As the semantic conventions sort it.
    fn kind(self) -> &'static str {
        match self {
            Operation::Produce => "send",
            Operation::Fetch => "receive",
        }
    }

    fn links_to_all(self) -> bool {
        self == Operation::Fetch
    }

    /// What is known before anything has happened.
    fn attributes(self, request: &Request, partition: &Partition) -> Vec<KeyValue> {
        let peer = request.connection.peer;
        let mut attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", self.name()),
            KeyValue::new("messaging.operation.type", self.kind()),
            KeyValue::new("messaging.destination.name", partition.topic().clone()),
            KeyValue::new("messaging.destination.partition.id", partition.index().to_string()),
            KeyValue::new("network.peer.address", peer.ip().to_string()),
            KeyValue::new("network.peer.port", i64::from(peer.port())),
        ];
        if !request.client_id().is_empty() {
            let client_id: String = request.client_id().chars().take(CLIENT_ID_CHARS_MAX).collect();
            attributes.push(KeyValue::new("messaging.client.id", client_id));
        }
        attributes
    }
}

/// The time of day at a moment that the monotonic clock has told.
fn time_of(moment: Instant) -> SystemTime {
    SystemTime::now() - moment.elapsed()
}

impl Drop for Spans {
    /// A broker that is dropped instead of stopped does not wait for a collector; its thread ends all the same.
    fn drop(&mut self) {
        if !*self.stopped.get_mut() {
            let provider = self.provider.clone();
            std::thread::spawn(move || provider.shutdown_with_timeout(STOP_WAIT));
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spans")
    }
}
