//! Traces: [`TraceText`], the names of a trace as they travel (W3C Trace Context); [`Tracing`], the
//! decision whether a request is traced; [`Trace`], the spans of one that is.
//!
//! A request that is not traced costs the decision, a comparison of its random trace id. Spans are
//! made when what they tell of has ended, of times that were noted, so nothing is held meanwhile.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks,
};

use crate::export::Sink;
use crate::label::Label;

/// The parts of a valid `traceparent` (W3C Trace Context, version 00).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceText<'t> {
    /// The trace: 32 hexadecimal digits, not all zero.
    pub trace: &'t str,
    /// The span above: 16 hexadecimal digits, not all zero.
    pub parent: &'t str,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl<'t> TraceText<'t> {
    /// Reads a `traceparent`; `None` where it is not valid.
    #[must_use]
    pub fn parse(text: &'t str) -> Option<Self> {
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
        let mut parts = text.split('-');
        let (version, trace, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_valid = version == "00"
            && is_hex(trace, 32)
            && !is_zero(trace)
            && is_hex(parent, 16)
            && !is_zero(parent)
            && is_hex(flags, 2)
            && parts.next().is_none();
        let flags = u8::from_str_radix(flags, 16).ok()?;
        is_valid.then_some(Self {
            trace,
            parent,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// The span above that of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent(SpanId);

impl Parent {
    /// Of the 16 hexadecimal digits in a `traceparent`.
    #[must_use]
    pub fn of(text: TraceText<'_>) -> Option<Self> {
        SpanId::from_hex(text.parent).ok().map(Self)
    }
}

/// Decides which requests are traced, and knows where their spans go.
#[derive(Clone, Debug, Default)]
pub struct Tracing {
    threshold: u64,
    sink: Option<Sink>,
}

impl Tracing {
    /// Traces this share of requests, between 0 and 1.
    #[must_use]
    pub(crate) fn new(ratio: f64, sink: Sink) -> Self {
        Self {
            threshold: threshold(ratio),
            sink: Some(sink),
        }
    }

    /// Whether a request that begins a trace of its own is traced. The trace's random id decides,
    /// as OpenTelemetry's `TraceIdRatioBased` does, so that all who look at it decide alike.
    #[must_use]
    pub fn samples(&self, trace: &str) -> bool {
        self.threshold > 0
            && trace
                .get(16..)
                .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                .is_some_and(|random| random >> 1 < self.threshold)
    }

    /// Begins to trace a request that is sampled; `None` where spans go nowhere.
    #[must_use]
    pub fn begin(&self, trace: &str, parent: Option<Parent>) -> Option<Trace> {
        let sink = self.sink.as_ref()?;
        Some(Trace {
            sink: sink.clone(),
            trace: TraceId::from_hex(trace).ok()?,
            root: RandomIdGenerator::default().new_span_id(),
            parent: parent.map_or(SpanId::INVALID, |Parent(id)| id),
            began: Moment::now(),
        })
    }
}

/// What a trace's 63 random bits must be below.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of 2^63; the cast saturates"
)]
fn threshold(ratio: f64) -> u64 {
    match ratio {
        whole if whole >= 1.0 => u64::MAX,
        share => (share.max(0.0) * (1_u64 << 63) as f64) as u64,
    }
}

/// A moment by both clocks: spans tell the machine's time, durations are measured by the other one.
#[derive(Clone, Copy, Debug)]
struct Moment {
    instant: Instant,
    system: SystemTime,
}

impl Moment {
    #[expect(
        clippy::disallowed_methods,
        reason = "a trace tells the machine's time, as the log does"
    )]
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            system: SystemTime::now(),
        }
    }

    fn system_at(&self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.system + later,
            None => {
                let earlier = self.instant.saturating_duration_since(instant);
                self.system.checked_sub(earlier).unwrap_or(self.system)
            }
        }
    }
}

/// One request that is traced.
#[derive(Debug)]
pub struct Trace {
    sink: Sink,
    trace: TraceId,
    root: SpanId,
    parent: SpanId,
    began: Moment,
}

/// What a span of a request tells of.
#[derive(Debug)]
pub struct Part {
    /// What was done.
    pub name: &'static str,
    /// When it began.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Whether it failed.
    pub has_failed: bool,
}

impl Trace {
    /// A part of the request's work, within this program.
    pub fn part(&self, part: &Part, labels: impl IntoIterator<Item = (&'static str, Label)>) {
        let id = RandomIdGenerator::default().new_span_id();
        self.child(part, id, SpanKind::Internal, labels);
    }

    /// A call of another program, under the span id that it was told: 16 hexadecimal digits.
    pub fn call(
        &self,
        part: &Part,
        span: &str,
        labels: impl IntoIterator<Item = (&'static str, Label)>,
    ) {
        let id = SpanId::from_hex(span).unwrap_or(SpanId::INVALID);
        self.child(part, id, SpanKind::Client, labels);
    }

    fn child(
        &self,
        part: &Part,
        id: SpanId,
        kind: SpanKind,
        labels: impl IntoIterator<Item = (&'static str, Label)>,
    ) {
        let times = (part.begun, part.ended);
        let name = Cow::Borrowed(part.name);
        self.end(id, self.root, kind, name, times, part.has_failed, labels);
    }

    /// The request itself, which has ended. Its name is made of method and route, as OpenTelemetry
    /// names the spans of HTTP servers.
    pub fn request(
        &self,
        (method, route): (&'static str, &'static str),
        begun: Instant,
        has_failed: bool,
        labels: impl IntoIterator<Item = (&'static str, Label)>,
    ) {
        let times = (begun, Instant::now());
        let name = Cow::Owned(format!("{method} {route}"));
        let (id, parent, kind) = (self.root, self.parent, SpanKind::Server);
        self.end(id, parent, kind, name, times, has_failed, labels);
    }

    #[expect(clippy::too_many_arguments, reason = "the one place that makes a span")]
    fn end(
        &self,
        id: SpanId,
        parent: SpanId,
        kind: SpanKind,
        name: Cow<'static, str>,
        (begun, ended): (Instant, Instant),
        has_failed: bool,
        labels: impl IntoIterator<Item = (&'static str, Label)>,
    ) {
        let labels = labels.into_iter();
        let state = TraceState::NONE;
        self.sink.send(SpanData {
            span_context: SpanContext::new(self.trace, id, TraceFlags::SAMPLED, false, state),
            parent_span_id: parent,
            parent_span_is_remote: kind == SpanKind::Server && parent != SpanId::INVALID,
            span_kind: kind,
            name,
            start_time: self.began.system_at(begun),
            end_time: self.began.system_at(ended),
            attributes: labels
                .map(|(name, label)| KeyValue::new(Key::from_static_str(name), label))
                .collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: match has_failed {
                true => Status::error(""),
                false => Status::Unset,
            },
            instrumentation_scope: InstrumentationScope::builder("meridian").build(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn only_a_valid_traceparent_is_one() {
        let valid = format!("00-{TRACE}-b7ad6b7169203331-01");
        let read = TraceText::parse(&valid).unwrap();
        assert_eq!((read.trace, read.parent), (TRACE, "b7ad6b7169203331"));
        assert!(read.is_sampled);
        let unsampled = format!("00-{TRACE}-b7ad6b7169203331-00");
        assert!(!TraceText::parse(&unsampled).unwrap().is_sampled);
        for odd in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
        ] {
            assert_eq!(TraceText::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_share_of_traces_is_taken() {
        let with = |ratio| Tracing {
            threshold: threshold(ratio),
            sink: None,
        };
        // Every 256th of the values that the random part can begin with.
        let taken = |ratio| {
            let tracing = with(ratio);
            let traces = (0..256).map(|first| format!("{:016x}{first:02x}{:014x}", 1, 0));
            traces.filter(|trace| tracing.samples(trace)).count()
        };
        assert_eq!(
            [0.0, 0.25, 0.5, 1.0].map(taken),
            [0, 64, 128, 256],
            "{:?}",
            with(0.25)
        );
        assert!(!with(1.0).samples("short"));
    }
}
