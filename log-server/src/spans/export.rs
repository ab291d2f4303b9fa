//! From ended spans to the collector: a bounded queue, a thread that gathers batches, and OTLP over HTTP.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use opentelemetry::Context as Ancestry;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use tokio::runtime::Handle;

use super::QUEUE_SPANS_MAX;
use crate::metrics::SpanMetrics;

/// Spans sent at once.
const BATCH_SPANS_MAX: usize = 512;

/// How long a span waits for others to be sent with it.
const GATHER: Duration = Duration::from_secs(1);

/// How long the collector may take to answer. Meanwhile the queue fills up.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The way that spans take to `endpoint`.
///
/// # Errors
/// The endpoint is no address.
pub(super) fn processor(
    endpoint: &str,
    runtime: Handle,
    metrics: SpanMetrics,
) -> Result<impl SpanProcessor + use<>, ExporterBuildError> {
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_http_client(OnRuntime {
            runtime,
            client: HyperClient::with_default_connector(ANSWER_WAIT, None),
        })
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(ANSWER_WAIT)
        // A batch that is not taken is counted and let go. Trying again would hold up those behind it.
        .with_retry_policy(RetryPolicy::default().with_max_retries(0))
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()?;
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS_MAX)
        .with_max_export_batch_size(BATCH_SPANS_MAX)
        .with_scheduled_delay(GATHER)
        .build();
    let exporter = Counted { exporter, metrics: metrics.clone() };
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    Ok(Gate { batches, metrics })
}

/// Lets spans into the queue while there is room, and counts those that find none: the queue itself drops them
/// silently.
#[derive(Debug)]
struct Gate {
    batches: BatchSpanProcessor,
    metrics: SpanMetrics,
}

impl SpanProcessor for Gate {
    fn on_start(&self, _span: &mut Span, _ancestry: &Ancestry) {}

    fn on_end(&self, span: SpanData) {
        if self.metrics.enter(QUEUE_SPANS_MAX) {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what leaves the queue, and what becomes of it.
#[derive(Debug)]
struct Counted {
    exporter: OtlpExporter,
    metrics: SpanMetrics,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.metrics.leave(spans);
        let sent = self.exporter.export(batch).await;
        match &sent {
            Ok(()) => self.metrics.exported(spans),
            Err(error) => {
                self.metrics.failed(spans);
                tracing::debug!(%error, spans, "the collector has not taken spans");
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends requests on the broker's runtime for a thread that has none.
#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    client: HyperClient,
}

impl HttpClient for OnRuntime {
    fn send_bytes<'a, 'sent>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'a: 'sent,
        Self: 'sent,
    {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await });
        Box::pin(async move { sent.await? })
    }
}
