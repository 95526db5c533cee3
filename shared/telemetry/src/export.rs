//! [`Export`]: sends traces and metrics to a collector, by OTLP over HTTP.
//!
//! Nothing here is waited for by a request. Spans go into a bounded queue, and what finds no room is
//! counted and dropped; a thread of the SDK's sends them in batches. A collector that is away is one
//! line in the log when that begins, and one when it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _,
};
use reqwest::Url;
use rustls::RootCertStore;
use shared::tls::PemError;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};

use crate::label::Label;
use crate::metrics::{Counter, Metric, Snapshot, Unit};
use crate::otlp;
use crate::trace::Tracing;

/// Spans that found no room.
pub static SPANS_DROPPED: Metric = Metric::counter(
    "meridian.telemetry.spans.dropped",
    Unit::Of("{span}"),
    "Spans that found no room in the queue for the collector.",
    &[],
);
/// Batches sent to the collector.
pub static EXPORTS: Metric = Metric::counter(
    "meridian.telemetry.exports",
    Unit::Of("{batch}"),
    "Batches that were sent to the collector, by what they held and what became of them.",
    &["signal", "outcome"],
);
/// All that are here.
pub static METRICS: [&Metric; 2] = [&SPANS_DROPPED, &EXPORTS];

/// Spans that are sent at once.
const BATCH: usize = 512;
/// A span waits so long at most until it is sent.
const SPAN_DELAY: Duration = Duration::from_secs(2);
/// The collector has so long for its answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long what is left may take when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where traces and metrics go.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    /// The collector's address without `/v1/…`; `None` sends nothing.
    pub endpoint: Option<String>,
    /// Authorities that the collector's certificate must come from; absent is the system's.
    pub ca_file: Option<PathBuf>,
    /// The share of requests that are traced.
    pub sample_ratio: f64,
    /// Spans that may wait.
    pub queue: usize,
    /// How often metrics are sent.
    pub metrics_every: Duration,
}

/// Why nothing can be sent. Each names the setting.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The endpoint is no URL of HTTP.
    #[error(
        "setting `telemetry.otlp_endpoint`: must be http://host:port or https://host:port, without /v1/traces"
    )]
    Endpoint,
    /// The ratio is none.
    #[error("setting `telemetry.sample_ratio`: must be between 0 and 1")]
    Ratio,
    /// Nothing could wait.
    #[error("setting `telemetry.otlp_queue`: must be between 1 and 1000000")]
    Queue,
    /// Too often or never.
    #[error("setting `telemetry.otlp_metrics_ms`: must be at least 100")]
    Period,
    /// The authorities cannot be read.
    #[error("setting `telemetry.otlp_ca_file`")]
    Authorities(#[source] PemError),
    /// The client cannot be built.
    #[error("setting `telemetry.otlp_endpoint`: the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    /// The exporter cannot be built.
    #[error("setting `telemetry.otlp_endpoint`: the exporter cannot be built")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

impl ExportSettings {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn check(&self) -> Result<(), ExportError> {
        self.url()?;
        match self {
            Self { sample_ratio, .. } if !(0.0..=1.0).contains(sample_ratio) => {
                Err(ExportError::Ratio)
            }
            Self { queue, .. } if !(1..=1_000_000).contains(queue) => Err(ExportError::Queue),
            Self { metrics_every, .. } if *metrics_every < Duration::from_millis(100) => {
                Err(ExportError::Period)
            }
            _ => Ok(()),
        }
    }

    fn url(&self) -> Result<Option<Url>, ExportError> {
        let Some(text) = &self.endpoint else {
            return Ok(None);
        };
        let url = Url::parse(text).map_err(|_| ExportError::Endpoint)?;
        let is_base = matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && !url.path().contains("/v1/")
            && url.query().is_none();
        is_base.then_some(Some(url)).ok_or(ExportError::Endpoint)
    }
}

/// What became of what was sent.
#[derive(Debug, Default)]
struct Counts {
    traces: [Counter; 2],
    metrics: [Counter; 2],
    dropped: Counter,
}

/// Sends traces and metrics, if there is somewhere to send them.
#[derive(Clone, Debug, Default)]
pub struct Export {
    tracing: Tracing,
    on: Option<Arc<On>>,
}

#[derive(Debug)]
struct On {
    courier: Courier,
    processor: Arc<BatchSpanProcessor>,
    resource: Vec<KeyValue>,
    metrics_every: Duration,
}

/// Where the spans of a program go.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    processor: Arc<BatchSpanProcessor>,
    waiting: Arc<AtomicUsize>,
    room: usize,
    counts: Arc<Counts>,
}

impl Sink {
    /// Sends a span, or drops it.
    pub(crate) fn send(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.room {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.increment();
            return;
        }
        self.processor.on_end(span);
    }
}

impl Export {
    /// Makes ready to send as the settings say, under a service's name and what else tells it from
    /// others. Connects to nothing. Must be called on a runtime, which goes on to send.
    ///
    /// # Errors
    /// [`ExportError`], which names the setting.
    pub fn new(
        settings: &ExportSettings,
        service: &'static str,
        attributes: impl IntoIterator<Item = (&'static str, Label)>,
    ) -> Result<Self, ExportError> {
        settings.check()?;
        let Some(url) = settings.url()? else {
            return Ok(Self::default());
        };
        let courier = Courier {
            client: client(settings)?,
            runtime: Handle::current(),
            base: url.as_str().trim_end_matches('/').to_owned(),
            counts: Arc::default(),
            is_failing: Arc::default(),
        };
        let attributes = attributes
            .into_iter()
            .map(|(name, label)| KeyValue::new(name, label));
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource: Vec<KeyValue> = [KeyValue::new("service.name", service), version]
            .into_iter()
            .chain(attributes)
            .collect();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(courier.clone())
            .with_endpoint(courier.url(TRACES))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .build()
            .map_err(ExportError::Exporter)?;
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = Counted {
            exporter,
            waiting: Arc::clone(&waiting),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue)
            .with_max_export_batch_size(BATCH.min(settings.queue))
            .with_scheduled_delay(SPAN_DELAY)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(config)
            .build();
        let described = Resource::builder_empty().with_attributes(resource.clone());
        opentelemetry_sdk::trace::SpanProcessor::set_resource(&mut processor, &described.build());
        let processor = Arc::new(processor);
        let sink = Sink {
            processor: Arc::clone(&processor),
            waiting,
            room: settings.queue,
            counts: Arc::clone(&courier.counts),
        };
        Ok(Self {
            tracing: Tracing::new(settings.sample_ratio, sink),
            on: Some(Arc::new(On {
                courier,
                processor,
                resource,
                metrics_every: settings.metrics_every,
            })),
        })
    }

    /// Which requests are traced.
    #[must_use]
    pub fn tracing(&self) -> &Tracing {
        &self.tracing
    }

    /// Adds what became of what was sent; nothing where nothing is.
    pub fn observe(&self, snapshot: &mut Snapshot) {
        let Some(on) = &self.on else {
            return;
        };
        let counts = &on.courier.counts;
        snapshot.add(&SPANS_DROPPED, [], &counts.dropped);
        let signals = [("traces", &counts.traces), ("metrics", &counts.metrics)];
        for (signal, [sent, failed]) in signals {
            for (outcome, count) in [("sent", sent), ("failed", failed)] {
                let labels = [Label::word(signal), Label::word(outcome)];
                snapshot.add(&EXPORTS, labels, count);
            }
        }
    }

    /// Sends metrics again and again, for as long as it is polled.
    pub async fn keep_sending<S: Future<Output = Snapshot>>(self, snapshot: impl Fn() -> S) {
        let Some(on) = self.on else {
            return std::future::pending().await;
        };
        let mut ticks = interval(on.metrics_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let since = otlp::now();
        loop {
            ticks.tick().await;
            on.send_metrics(&snapshot().await, since).await;
        }
    }

    /// Sends what is left, within a short time.
    pub async fn close(&self) {
        let Some(on) = &self.on else {
            return;
        };
        let processor = Arc::clone(&on.processor);
        // It waits for a thread, so it needs one of its own.
        let closing = tokio::task::spawn_blocking(move || {
            // What a collector that is away does not get is lost with the process.
            let _unsent = processor.shutdown_with_timeout(LAST_WORDS);
        });
        drop(tokio::time::timeout(LAST_WORDS, closing).await);
    }
}

impl On {
    async fn send_metrics(&self, snapshot: &Snapshot, since: u64) {
        let body = otlp::metrics(snapshot, &self.resource, since);
        let request = Request::post(self.courier.url(METRICS_PATH))
            .header("content-type", "application/x-protobuf")
            .body(Bytes::from(body));
        if let Ok(request) = request {
            // Counted and logged there; the next one holds all that this one did.
            let _sent = self.courier.send(request).await;
        }
    }
}

const TRACES: &str = "/v1/traces";
const METRICS_PATH: &str = "/v1/metrics";

fn client(settings: &ExportSettings) -> Result<reqwest::Client, ExportError> {
    let roots = match &settings.ca_file {
        Some(file) => shared::tls::authorities(file).map_err(ExportError::Authorities)?,
        None => {
            let mut roots = RootCertStore::empty();
            // One that cannot be read signs no collector.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let tls = shared::tls::client_config(roots, None).map_err(ExportError::Authorities)?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .map_err(ExportError::Client)
}

/// Carries batches to the collector, counts them, and says once when it is away.
#[derive(Clone, Debug)]
struct Courier {
    client: reqwest::Client,
    runtime: Handle,
    base: String,
    counts: Arc<Counts>,
    is_failing: Arc<AtomicBool>,
}

impl Courier {
    fn url(&self, path: &str) -> String {
        [self.base.as_str(), path].concat()
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let [sent, failed] = match request.uri().path().ends_with(TRACES) {
            true => &self.counts.traces,
            false => &self.counts.metrics,
        };
        let exchange = async {
            let answer = self.client.execute(request.try_into()?).await?;
            let status = answer.status();
            let body = answer.bytes().await?;
            Ok::<_, reqwest::Error>((status, body))
        };
        let outcome = exchange.await;
        let trouble = match &outcome {
            Ok((status, _)) if status.is_success() => None,
            Ok((status, _)) => Some(format!("it answers {}", status.as_u16())),
            Err(error) if error.is_timeout() => Some("it does not answer in time".to_owned()),
            Err(error) if error.is_connect() => Some("it cannot be reached".to_owned()),
            Err(_) => Some("the connection to it broke".to_owned()),
        };
        match &trouble {
            None => sent.increment(),
            Some(_) => failed.increment(),
        }
        let was_failing = self.is_failing.swap(trouble.is_some(), Ordering::Relaxed);
        match (was_failing, trouble) {
            (false, Some(trouble)) => tracing::warn!(
                "the collector takes no traces and metrics (setting telemetry.otlp_endpoint): \
                 {trouble}"
            ),
            (true, None) => tracing::info!("the collector takes traces and metrics again"),
            _ => {}
        }
        let (status, body) = outcome.map_err(reqwest::Error::without_url)?;
        Ok(Response::builder().status(status).body(body)?)
    }
}

#[async_trait::async_trait]
impl HttpClient for Courier {
    /// Called by a thread of the SDK's, which is none of the runtime.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let courier = self.clone();
        let sending = self
            .runtime
            .spawn(async move { courier.send(request).await });
        sending.await?
    }
}

/// Notes when spans leave the queue.
#[derive(Debug)]
struct Counted {
    exporter: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        self.exporter.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: Option<&str>) -> ExportSettings {
        ExportSettings {
            endpoint: endpoint.map(str::to_owned),
            ca_file: None,
            sample_ratio: 0.01,
            queue: 10,
            metrics_every: Duration::from_secs(15),
        }
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        settings(None).check().unwrap();
        settings(Some("http://127.0.0.1:4318")).check().unwrap();
        settings(Some("https://otel.example/tenant"))
            .check()
            .unwrap();
        for odd in ["", "localhost:4318", "grpc://x:4317", "http://x/v1/traces"] {
            let error = settings(Some(odd)).check().unwrap_err().to_string();
            assert!(error.contains("telemetry.otlp_endpoint"), "{error}");
        }
        let often = ExportSettings {
            sample_ratio: 1.5,
            ..settings(None)
        };
        assert!(often.check().unwrap_err().to_string().contains("ratio"));
    }

    #[tokio::test]
    async fn spans_that_find_no_room_are_dropped_and_counted() {
        // Nobody listens there.
        let away = ExportSettings {
            sample_ratio: 1.0,
            ..settings(Some("http://127.0.0.1:1"))
        };
        let export = Export::new(&away, "test", []).unwrap();
        let trace = "0af7651916cd43dd8448eb211c80319c";
        assert!(export.tracing().samples(trace));
        let begun = export.tracing().begin(trace, None).unwrap();
        for _ in 0..1000 {
            begun.request(("GET", "Users"), std::time::Instant::now(), false, []);
        }
        let mut snapshot = Snapshot::default();
        export.observe(&mut snapshot);
        let dropped = snapshot
            .families()
            .iter()
            .find(|family| family.metric == &SPANS_DROPPED);
        let (_, value) = dropped.unwrap().points.first().unwrap();
        assert!(
            matches!(value, crate::metrics::Value::Number(count) if *count > 0.0),
            "{value:?}"
        );
    }
}
