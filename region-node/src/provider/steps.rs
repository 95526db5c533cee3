//! [`Steps`]: how long the parts of a request's work take, as figures and, where the request is
//! traced, as spans.
//!
//! The trace of a request goes with its task, so that nobody has to hand it on who has nothing to
//! add to it.

use std::sync::Arc;
use std::time::Instant;

use telemetry::{Histogram, Label, Part, Sharded, Trace};

tokio::task_local! {
    static TRACE: Arc<Trace>;
}

/// A part of a request's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The store is read.
    Read,
    /// What is to be written is worked out of what was read and what was sent.
    Plan,
    /// The store is written, until it is durable.
    Commit,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Plan, Self::Commit];

    /// Its name in figures and traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Plan => "plan",
            Self::Commit => "commit",
        }
    }
}

/// How long steps took.
#[derive(Debug)]
pub struct Steps(Sharded<[Histogram; 3]>);

impl Default for Steps {
    fn default() -> Self {
        let durations = || [(); 3].map(|()| Histogram::of_durations());
        Self(Sharded::new(durations))
    }
}

impl Steps {
    /// A step begins. It ends with [`UnderWay::end`]; one that is dropped before was given up.
    #[must_use]
    pub fn begin(&self, step: Step) -> UnderWay<'_> {
        UnderWay {
            steps: self,
            step,
            begun: Instant::now(),
            has_failed: true,
        }
    }

    /// How long steps took, each with its name.
    #[must_use]
    pub fn totals(&self) -> Vec<(Label, telemetry::HistogramTotal)> {
        let mut totals: Vec<_> = Step::ALL
            .into_iter()
            .map(|step| {
                (
                    Label::word(step.as_str()),
                    Histogram::of_durations().total(),
                )
            })
            .collect();
        for shard in self.0.iter() {
            for ((_, total), histogram) in totals.iter_mut().zip(shard) {
                total.merge(&histogram.total());
            }
        }
        totals
    }
}

/// A step that is under way.
#[derive(Debug)]
pub struct UnderWay<'s> {
    steps: &'s Steps,
    step: Step,
    begun: Instant,
    has_failed: bool,
}

impl UnderWay<'_> {
    /// It is over.
    pub fn end(mut self, has_failed: bool) {
        self.has_failed = has_failed;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let [read, plan, commit] = self.steps.0.mine();
        let durations = match self.step {
            Step::Read => read,
            Step::Plan => plan,
            Step::Commit => commit,
        };
        durations.record_duration(self.begun.elapsed());
        let tell = |trace: &Arc<Trace>| {
            let part = Part {
                name: self.step.as_str(),
                begun: self.begun,
                ended: Instant::now(),
                has_failed: self.has_failed,
            };
            trace.part(&part, []);
        };
        // Most requests are not traced.
        let _untraced = TRACE.try_with(tell);
    }
}

/// Does the work of a request that is traced.
pub async fn traced<W: Future>(trace: Arc<Trace>, work: W) -> W::Output {
    TRACE.scope(trace, work).await
}
