//! [`Metric`]: what a figure is called and means; [`Counter`], [`Histogram`]: what counts it;
//! [`Snapshot`]: all figures of a moment.
//!
//! Counting takes a relaxed addition or two. What each request counts is [`Sharded`]: threads have
//! places of their own, so that they do not wait for each other's cache lines.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::label::Label;

/// What a figure is called and means. The one place for its name: as OpenTelemetry writes names,
/// from which [`Metric::prometheus_name`] follows.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with dots.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// In what it is measured.
    pub unit: Unit,
    /// What it means.
    pub help: &'static str,
    /// What stands beside it, with dots.
    pub labels: &'static [&'static str],
}

/// How a figure moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many measurements fell into which range.
    Histogram,
}

impl MetricKind {
    /// The word for it in Prometheus' format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// In what a figure is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Things, as UCUM annotates them: `{request}`.
    Of(&'static str),
}

impl Unit {
    /// As OpenTelemetry writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "By",
            Self::Of(what) => what,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Seconds => "_seconds",
            Self::Bytes => "_bytes",
            Self::Of(_) => "",
        }
    }
}

impl Metric {
    const fn new(
        kind: MetricKind,
        name: &'static str,
        unit: Unit,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            kind,
            unit,
            help,
            labels,
        }
    }

    /// Something that only grows.
    #[must_use]
    pub const fn counter(
        name: &'static str,
        unit: Unit,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self::new(MetricKind::Counter, name, unit, help, labels)
    }

    /// Something that goes up and down.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self::new(MetricKind::Gauge, name, unit, help, labels)
    }

    /// A distribution.
    #[must_use]
    pub const fn histogram(
        name: &'static str,
        unit: Unit,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self::new(MetricKind::Histogram, name, unit, help, labels)
    }

    /// Its name at `/metrics`, by OpenTelemetry's rules for Prometheus: underscores, the unit
    /// behind, and `_total` behind what only grows.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let total = match self.kind {
            MetricKind::Counter => "_total",
            MetricKind::Gauge | MetricKind::Histogram => "",
        };
        [
            self.name.replace('.', "_").as_str(),
            self.unit.suffix(),
            total,
        ]
        .concat()
    }
}

/// Something that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// How many since this was last asked.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// More places than this help nobody.
const MOST_SHARDS: usize = 16;

/// The number of this thread among those that count.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
            number.set(Some(fresh));
            fresh
        })
    })
}

/// One of a thing for each of several threads.
#[derive(Debug)]
pub struct Sharded<T> {
    first: T,
    others: Box<[T]>,
}

impl<T> Sharded<T> {
    /// As many as there are processors, at most 16.
    #[must_use]
    pub fn new(make: impl Fn() -> T) -> Self {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            first: make(),
            others: (1..count.min(MOST_SHARDS)).map(|_| make()).collect(),
        }
    }

    /// This thread's.
    #[must_use]
    pub fn mine(&self) -> &T {
        match thread_number() % (self.others.len() + 1) {
            0 => &self.first,
            other => self.others.get(other - 1).unwrap_or(&self.first),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(Counter);

/// Something that each request may count.
#[derive(Debug)]
pub struct ShardedCounter(Sharded<Apart>);

impl Default for ShardedCounter {
    fn default() -> Self {
        Self(Sharded::new(Apart::default))
    }
}

impl ShardedCounter {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.mine().0.add(more);
    }

    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.get()).sum()
    }
}

/// The upper ends of a histogram's ranges, in whole ticks of which `per_unit` make one unit.
#[derive(Debug, PartialEq)]
pub struct Bounds {
    /// The ends, in ascending order.
    pub ticks: &'static [u64],
    /// Ticks that make one unit.
    pub per_unit: f64,
}

/// Of the time that something takes: those that OpenTelemetry advises for HTTP, and some below for
/// what takes less than its first.
pub static DURATIONS: Bounds = Bounds {
    ticks: &[
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        75_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        750_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        7_500_000_000,
        10_000_000_000,
    ],
    per_unit: 1e9,
};

/// Of how many things go together.
pub static SIZES: Bounds = Bounds {
    ticks: &[1, 2, 4, 8, 16, 32, 64, 128, 256],
    per_unit: 1.0,
};

/// How many measurements fell into which range.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing was measured yet.
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.ticks.len())
                .map(|_| AtomicU64::new(0))
                .collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Of durations.
    #[must_use]
    pub fn of_durations() -> Self {
        Self::new(&DURATIONS)
    }

    /// Notes a measurement, in ticks.
    pub fn record(&self, ticks: u64) {
        let range = self.bounds.ticks.partition_point(|end| *end < ticks);
        if let Some(count) = self.counts.get(range) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Notes how long something took.
    pub fn record_duration(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was measured.
    #[must_use]
    pub fn total(&self) -> HistogramTotal {
        let counts = self.counts.iter();
        HistogramTotal {
            bounds: self.bounds,
            counts: counts.map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What a histogram had at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramTotal {
    /// The ends of its ranges.
    pub bounds: &'static Bounds,
    /// Measurements in each range; the last one has no end.
    pub counts: Vec<u64>,
    /// The sum of all measurements, in ticks.
    pub sum: u64,
}

impl HistogramTotal {
    /// Adds what another one measured.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// How many measurements there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, in units.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
    pub fn sum_in_units(&self) -> f64 {
        self.sum as f64 / self.bounds.per_unit
    }

    /// The ends of the ranges, in units.
    #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
    pub fn ends(&self) -> impl Iterator<Item = f64> {
        let per_unit = self.bounds.per_unit;
        let ticks = self.bounds.ticks.iter();
        ticks.map(move |ticks| *ticks as f64 / per_unit)
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A distribution.
    Histogram(HistogramTotal),
}

impl From<u64> for Value {
    #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
    fn from(number: u64) -> Self {
        Self::Number(number as f64)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<bool> for Value {
    fn from(is_so: bool) -> Self {
        Self::from(u64::from(is_so))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Self::Number(duration.as_secs_f64())
    }
}

impl From<&Counter> for Value {
    fn from(counter: &Counter) -> Self {
        Self::from(counter.get())
    }
}

impl From<&Histogram> for Value {
    fn from(histogram: &Histogram) -> Self {
        Self::Histogram(histogram.total())
    }
}

/// All figures of one metric.
#[derive(Debug)]
pub struct Family {
    /// Which.
    pub metric: &'static Metric,
    /// Its figures, each with what stands beside it, in the order of [`Metric::labels`].
    pub points: Vec<(Vec<Label>, Value)>,
}

/// All figures of a moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    families: Vec<Family>,
}

impl Snapshot {
    /// Adds a figure.
    pub fn add(
        &mut self,
        metric: &'static Metric,
        labels: impl IntoIterator<Item = Label>,
        value: impl Into<Value>,
    ) {
        let labels: Vec<Label> = labels.into_iter().collect();
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        let point = (labels, value.into());
        let known = self
            .families
            .iter_mut()
            .find(|family| family.metric.name == metric.name);
        match known {
            Some(family) => family.points.push(point),
            None => self.families.push(Family {
                metric,
                points: vec![point],
            }),
        }
    }

    /// By metric.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_falls_into_the_range_that_it_is_the_end_of() {
        let histogram = Histogram::new(&SIZES);
        for size in [1, 2, 3, 256, 257] {
            histogram.record(size);
        }
        let total = histogram.total();
        assert_eq!(total.counts, [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((total.count(), total.sum), (5, 519));
    }

    #[test]
    fn threads_count_together() {
        let counter = ShardedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.get(), 8000);
    }

    #[test]
    fn names_follow_the_rules_for_prometheus() {
        let metric = |name, kind, unit| Metric::new(kind, name, unit, "", &[]).prometheus_name();
        assert_eq!(
            metric(
                "http.server.request.duration",
                MetricKind::Histogram,
                Unit::Seconds
            ),
            "http_server_request_duration_seconds"
        );
        assert_eq!(
            metric(
                "meridian.store.commits",
                MetricKind::Counter,
                Unit::Of("{commit}")
            ),
            "meridian_store_commits_total"
        );
        assert_eq!(
            metric("process.resident_memory", MetricKind::Gauge, Unit::Bytes),
            "process_resident_memory_bytes"
        );
    }
}
