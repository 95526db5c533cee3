//! A [`Snapshot`] as an OTLP request. It is written from the same figures as `/metrics`: an SDK's own
//! instruments would count each request a second time, and under a lock.

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    self as common, AnyValue, InstrumentationScope, any_value,
};
use opentelemetry_proto::tonic::metrics::v1::{
    self as proto, AggregationTemporality, Gauge, HistogramDataPoint, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use crate::label::Label;
use crate::metrics::{Family, HistogramTotal, MetricKind, Snapshot, Value};

/// The machine's time, in nanoseconds since 1970.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "metrics tell the machine's time, as the log does"
)]
pub fn now() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The body of a `POST` to `/v1/metrics`: all figures of a program that counts since a moment.
#[must_use]
pub fn metrics(snapshot: &Snapshot, resource: &[KeyValue], since: u64) -> Vec<u8> {
    let times = Times { since, now: now() };
    let metrics = snapshot
        .families()
        .iter()
        .map(|family| family_of(family, times));
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: resource
                    .iter()
                    .map(|pair| {
                        attribute(
                            pair.key.as_str(),
                            any_value::Value::StringValue(pair.value.to_string()),
                        )
                    })
                    .collect(),
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "meridian".to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics: metrics.collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    request.encode_to_vec()
}

#[derive(Clone, Copy)]
struct Times {
    since: u64,
    now: u64,
}

fn family_of(family: &Family, times: Times) -> proto::Metric {
    let numbers = || {
        let points = family
            .points
            .iter()
            .filter_map(|(labels, value)| match value {
                Value::Number(number) => Some((labels, *number)),
                Value::Histogram(_) => None,
            });
        points
            .map(|(labels, number)| NumberDataPoint {
                attributes: attributes(family, labels),
                start_time_unix_nano: times.since,
                time_unix_nano: times.now,
                value: Some(number_data_point::Value::AsDouble(number)),
                ..NumberDataPoint::default()
            })
            .collect()
    };
    let histograms = || {
        let points = family
            .points
            .iter()
            .filter_map(|(labels, value)| match value {
                Value::Histogram(total) => Some((labels, total)),
                Value::Number(_) => None,
            });
        points
            .map(|(labels, total)| histogram_point(attributes(family, labels), total, times))
            .collect()
    };
    let cumulative = AggregationTemporality::Cumulative.into();
    let metric = family.metric;
    proto::Metric {
        name: metric.name.to_owned(),
        description: metric.help.to_owned(),
        unit: metric.unit.as_str().to_owned(),
        data: Some(match metric.kind {
            MetricKind::Counter => metric::Data::Sum(Sum {
                data_points: numbers(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            MetricKind::Gauge => metric::Data::Gauge(Gauge {
                data_points: numbers(),
            }),
            MetricKind::Histogram => metric::Data::Histogram(proto::Histogram {
                data_points: histograms(),
                aggregation_temporality: cumulative,
            }),
        }),
        ..proto::Metric::default()
    }
}

fn histogram_point(
    attributes: Vec<common::KeyValue>,
    total: &HistogramTotal,
    times: Times,
) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes,
        start_time_unix_nano: times.since,
        time_unix_nano: times.now,
        count: total.count(),
        sum: Some(total.sum_in_units()),
        bucket_counts: total.counts.clone(),
        explicit_bounds: total.ends().collect(),
        ..HistogramDataPoint::default()
    }
}

fn attributes(family: &Family, labels: &[Label]) -> Vec<common::KeyValue> {
    let pairs = family.metric.labels.iter().zip(labels);
    pairs
        .map(|(name, label)| {
            let value = match label.as_number() {
                Some(number) => {
                    any_value::Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX))
                }
                None => any_value::Value::StringValue(label.text().into_owned()),
            };
            attribute(name, value)
        })
        .collect()
}

fn attribute(key: &str, value: any_value::Value) -> common::KeyValue {
    common::KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..common::KeyValue::default()
    }
}
