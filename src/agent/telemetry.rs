//! The agent's own metrics and spans, by the OpenTelemetry SDK, through the agent's own intake.
//!
//! They take the way that everybody's telemetry takes: stamped, spooled, exported under the same credential.
//! Nothing here feeds back on itself: there is no span for a request that is received or sent,
//! only for the rare events of the agent's life (a start, a rotation, a pause of the export),
//! and a metric is a fixed number of points every minute, however much is sent.
//! Where nobody else sends anything there is nothing to measure, and nothing leaves: an idle agent keeps no workspace
//! awake.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use opentelemetry::{
    KeyValue,
    metrics::{Meter, MeterProvider as _},
    trace::{Span as _, Status as SpanStatus, Tracer as _, TracerProvider as _},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use tokio::runtime::Handle;

use crate::{
    intake::{Counts, Intake},
    otlp::{Batch, Signal},
    view::status::Status,
};

/// How often the metrics are read. A minute is the SDKs' own default.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often the SDK looks for spans by itself: hardly ever, as each event hands its own over.
const SPANS_BY_THEMSELVES: Duration = Duration::from_secs(3600);

/// The SDK's two providers; dropping them without [`Telemetry::shutdown`] loses what they hold.
#[derive(Debug)]
pub struct Telemetry {
    meters: SdkMeterProvider,
    tracers: SdkTracerProvider,
    runtime: Handle,
}

/// Hands the exporters' requests to the intake instead of a socket.
#[derive(Clone, Debug)]
struct Loopback {
    intake: Intake,
    stillness: Arc<Mutex<Stillness>>,
}

/// Whether anything happened since metrics were last handed over.
#[derive(Debug, Default)]
struct Stillness {
    /// What had gone through the intake by then, the metrics included.
    counts: Counts,
    /// Whether they said already that nothing happens: once, so that the last figures are there.
    is_told: bool,
}

impl Stillness {
    /// Whether metrics at this moment would say nothing new.
    fn is_nothing_new(&mut self, counts: Counts) -> bool {
        let is_still = self.counts == counts;
        let was_told = std::mem::replace(&mut self.is_told, is_still);
        is_still && was_told
    }
}

impl Telemetry {
    /// Builds both providers and registers the instruments, which read `status` when they are asked.
    ///
    /// # Errors
    /// The SDK's own, which would be a mistake in how it is built here.
    pub fn build(
        intake: Intake,
        session: &str,
        status: Arc<dyn Fn() -> Status + Send + Sync>,
    ) -> Result<Telemetry, opentelemetry_otlp::ExporterBuildError> {
        let client = Loopback {
            intake,
            stillness: Arc::default(),
        };
        let resource = Resource::builder()
            .with_service_name("tagalong")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", session.to_owned()),
            ])
            .build();
        let metrics = MetricExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(format!("http://localhost/{}", Signal::Metrics.http_path()))
            .build()?;
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("http://localhost/{}", Signal::Traces.http_path()))
            .build()?;
        let meters = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_reader(PeriodicReader::builder(metrics).with_interval(INTERVAL).build())
            .build();
        let tracers = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(
                BatchSpanProcessor::builder(spans)
                    .with_batch_config(
                        BatchConfigBuilder::default()
                            .with_scheduled_delay(SPANS_BY_THEMSELVES)
                            .build(),
                    )
                    .build(),
            )
            .build();
        register(&meters.meter("tagalong"), status);
        Ok(Telemetry {
            meters,
            tracers,
            runtime: Handle::current(),
        })
    }

    /// One span for one event of the agent's life that took `took` until now. It goes to the spool at once.
    pub fn event(&self, name: &'static str, took: Duration, attributes: Vec<KeyValue>, error: Option<String>) {
        let end = std::time::SystemTime::now();
        let tracer = self.tracers.tracer("tagalong");
        let mut span = tracer
            .span_builder(name)
            .with_start_time(end.checked_sub(took).unwrap_or(end))
            .with_attributes(attributes)
            .start(&tracer);
        if let Some(error) = error {
            span.set_status(SpanStatus::error(error));
        }
        span.end_with_timestamp(end);
        let tracers = self.tracers.clone();
        // It waits for the spool, which nobody here does.
        drop(self.runtime.spawn_blocking(move || tracers.force_flush()));
    }

    /// Hands over what the providers hold. Blocks; call it off the runtime's workers.
    pub fn shutdown(&self) {
        let _ = self.tracers.shutdown();
        let _ = self.meters.shutdown();
    }
}

#[async_trait::async_trait]
impl HttpClient for Loopback {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let signal = Signal::ALL
            .into_iter()
            .find(|signal| request.uri().path().ends_with(signal.http_path()))
            .ok_or("an exporter asked for a path that is no signal's")?;
        let is_idle = signal == Signal::Metrics && self.stillness().is_nothing_new(self.intake.counts());
        if is_idle {
            return Ok(http::Response::new(Bytes::new()));
        }
        let batch = Batch {
            signal,
            bytes: request.into_body(),
        };
        // The SDK drives this future on a thread of its own: nothing of it needs a runtime.
        let taken = self.intake.take(batch).await;
        if signal == Signal::Metrics {
            self.stillness().counts = self.intake.counts();
        }
        let status = match taken {
            Ok(_) => http::StatusCode::OK,
            Err(_) => http::StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = status;
        Ok(response)
    }
}

impl Loopback {
    fn stillness(&self) -> std::sync::MutexGuard<'_, Stillness> {
        self.stillness.lock().expect("nothing panics while it is held")
    }
}

/// Every instrument, each read from one status value.
fn register(meter: &Meter, status: Arc<dyn Fn() -> Status + Send + Sync>) {
    let gauge = |name: &'static str, unit: &'static str, read: fn(&Status) -> Option<f64>| {
        let status = status.clone();
        meter
            .f64_observable_gauge(name)
            .with_unit(unit)
            .with_callback(move |observer| {
                if let Some(value) = read(&status()) {
                    observer.observe(value, &[]);
                }
            })
            .build();
    };
    gauge("tagalong.spool.size", "By", |status| Some(status.spool.bytes as f64));
    gauge("tagalong.spool.oldest_age", "s", |status| {
        status.spool.oldest_age.map(|seconds| seconds as f64)
    });
    gauge("tagalong.credential.expires_in", "s", |status| {
        status.credential.expires_in
    });
    gauge("tagalong.credential.generation", "1", |status| {
        Some(status.credential.generation as f64)
    });

    let counter = |name: &'static str, unit: &'static str, read: fn(&Status) -> Vec<(u64, KeyValue)>| {
        let status = status.clone();
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_callback(move |observer| {
                for (value, attribute) in read(&status()) {
                    observer.observe(value, &[attribute]);
                }
            })
            .build();
    };
    counter("tagalong.items.accepted", "{item}", |status| {
        by_signal(status, |books| books.accepted)
    });
    counter("tagalong.items.delivered", "{item}", |status| {
        by_signal(status, |books| books.delivered)
    });
    counter("tagalong.items.refused", "{item}", |status| {
        by_signal(status, |books| books.rejected + books.set_aside)
    });
    counter("tagalong.upstream.unauthenticated", "{answer}", |status| {
        vec![
            (
                status.export.unauthenticated_current,
                KeyValue::new("generation", "current"),
            ),
            (
                status.export.unauthenticated_stale,
                KeyValue::new("generation", "stale"),
            ),
        ]
    });
    counter("tagalong.credential.rotations", "{rotation}", |status| {
        vec![
            (status.credential.rotations, KeyValue::new("result", "success")),
            (status.credential.failures, KeyValue::new("result", "failure")),
        ]
    });
}

fn by_signal(status: &Status, read: fn(&crate::spool::Books) -> u64) -> Vec<(u64, KeyValue)> {
    status
        .spool
        .books
        .iter()
        .map(|(signal, books)| (read(books), KeyValue::new("signal", signal.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_say_once_that_nothing_happens_and_begin_again_with_the_next_request() {
        let mut stillness = Stillness::default();
        let busy = Counts {
            turned_away: 1,
            ..Counts::default()
        };
        assert!(!stillness.is_nothing_new(busy));
        stillness.counts = busy;
        assert!(!stillness.is_nothing_new(busy), "the last figures are said");
        assert!(stillness.is_nothing_new(busy) && stillness.is_nothing_new(busy));
        let more = Counts { turned_away: 2, ..busy };
        assert!(!stillness.is_nothing_new(more));
    }
}
