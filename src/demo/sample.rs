//! The sample application: real traces through the real OpenTelemetry SDK, knowing nothing of the agent.
//!
//! It counts a span as accepted only when the SDK's exporter reported success for it, and offers again whatever was
//! not accepted, as a patient application would. It runs on threads of its own, because the SDK's exporter blocks.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Span, SpanKind, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};

use super::serve::lock;

/// Between two traces of five spans each: a hundred spans a second, enough to see and too few to warm the machine.
const PACE: Duration = Duration::from_millis(50);
/// Between two offers of a batch that was not accepted.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long the last batches are still offered once the application stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Trace id and span id.
pub(super) type SpanKey = (Vec<u8>, Vec<u8>);

/// The running application.
#[derive(Debug)]
pub(super) struct Sample {
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    stop: Option<mpsc::Sender<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: Mutex<HashSet<SpanKey>>,
    // When the application began to stop.
    stopping: Mutex<Option<Instant>>,
    stopped: Condvar,
}

/// The SDK's own exporter, watched and made patient.
#[derive(Debug)]
struct Watched {
    inner: opentelemetry_otlp::SpanExporter,
    shared: Arc<Shared>,
}

impl Sample {
    /// Starts sending to the OTLP/HTTP receiver at `receiver`.
    pub(super) fn start(receiver: SocketAddr) -> io::Result<Sample> {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let watched = shared.clone();
        let thread = std::thread::Builder::new().name("sample".to_owned()).spawn(move || {
            match provider(receiver, watched) {
                Ok(provider) => {
                    let _ = ready.send(Ok(()));
                    work(&provider, &stopped);
                    // The exporter has its own limit; one that is reached shows in the figures.
                    let _ = provider.shutdown_with_timeout(FAREWELL + Duration::from_secs(1));
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Sample {
            thread: Some(thread),
            shared,
            stop: Some(stop),
        })
    }

    /// How many spans the agent accepted so far.
    pub(super) fn accepted(&self) -> u64 {
        lock(&self.shared.accepted).len() as u64
    }

    /// How many accepted spans `arrived` says no to.
    pub(super) fn missing(&self, arrived: impl Fn(&SpanKey) -> bool) -> u64 {
        lock(&self.shared.accepted).iter().filter(|key| !arrived(key)).count() as u64
    }

    /// Stops making spans, and returns when the last ones were accepted or given up. Blocks; call it off the runtime.
    pub(super) fn stop(&mut self) {
        *lock(&self.shared.stopping) = Some(Instant::now());
        self.shared.stopped.notify_all();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed by then.
            let _ = thread.join();
        }
    }
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        loop {
            let result = self.inner.export(batch.clone()).await;
            if result.is_ok() {
                lock(&self.shared.accepted).extend(batch.iter().map(key));
                return result;
            }
            if !self.shared.pause() {
                return result;
            }
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl Shared {
    /// Waits before another offer; false if there is to be none.
    fn pause(&self) -> bool {
        let stopping = lock(&self.stopping);
        let (stopping, _) = self
            .stopped
            .wait_timeout(stopping, PATIENCE)
            .unwrap_or_else(PoisonError::into_inner);
        stopping.is_none_or(|since| since.elapsed() < FAREWELL)
    }
}

fn provider(receiver: SocketAddr, shared: Arc<Shared>) -> io::Result<SdkTracerProvider> {
    // Loopback is never behind a proxy, whatever the environment says, and needs no certificates.
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(io::Error::other)?;
    let inner = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(format!("http://{receiver}/v1/traces"))
        .build()
        .map_err(io::Error::other)?;
    let config = BatchConfigBuilder::default()
        .with_scheduled_delay(Duration::from_millis(250))
        .with_max_queue_size(8192)
        .build();
    let processor = BatchSpanProcessor::builder(Watched { inner, shared })
        .with_batch_config(config)
        .build();
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", "sample-shop"))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(resource)
        .build())
}

/// Makes one trace after another until told to stop.
fn work(provider: &SdkTracerProvider, stop: &mpsc::Receiver<()>) {
    let tracer = provider.tracer("shop");
    let mut order: i64 = 0;
    while stop.recv_timeout(PACE) == Err(mpsc::RecvTimeoutError::Timeout) {
        order += 1;
        let mut root = tracer
            .span_builder("POST /orders")
            .with_kind(SpanKind::Server)
            .start(&tracer);
        root.set_attribute(KeyValue::new("http.request.method", "POST"));
        root.set_attribute(KeyValue::new("shop.order", order));
        let context = Context::new().with_span(root);
        for step in ["authorize", "reserve stock", "charge card", "send receipt"] {
            let mut span = tracer.start_with_context(step, &context);
            span.set_attribute(KeyValue::new("shop.order", order));
            span.end();
        }
        context.span().end();
    }
}

fn key(span: &SpanData) -> SpanKey {
    let context = &span.span_context;
    (
        context.trace_id().to_bytes().to_vec(),
        context.span_id().to_bytes().to_vec(),
    )
}
