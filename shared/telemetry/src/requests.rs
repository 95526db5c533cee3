//! [`Requests`]: how long requests took, by region, route, method and status.
//!
//! Each combination has a histogram of its own, which is made when it is first needed: from then on
//! a request costs a few comparisons and two additions.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use shared::RegionId;

use crate::label::Label;
use crate::metrics::{Histogram, HistogramTotal, Metric, Sharded, Snapshot, Unit};

/// How long requests took.
pub static DURATION: Metric = Metric::histogram(
    "http.server.request.duration",
    Unit::Seconds,
    "How long requests took, by region, route template, method and status of the answer.",
    &[
        "region",
        "http.route",
        "http.request.method",
        "http.response.status_code",
    ],
);

/// The names of methods; what HTTP does not define is the last one.
const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "other",
];

/// Statuses that are told apart, in ascending order; 0 is no answer, because the client was gone.
const STATUSES: [u16; 32] = [
    0, 200, 201, 202, 204, 206, 302, 303, 304, 307, 400, 401, 403, 404, 405, 406, 408, 409, 410,
    412, 413, 414, 415, 417, 421, 429, 431, 500, 501, 502, 503, 504,
];

/// The word for a route, a method or a status that has no name of its own, and for the region of a
/// request that named none.
pub const OTHER: &str = "other";

/// The name of a method; what HTTP does not define could be anything, and is not repeated.
#[must_use]
pub fn method_name(method: &str) -> &'static str {
    METHODS
        .into_iter()
        .find(|name| *name == method)
        .unwrap_or(OTHER)
}

type Statuses = Box<[OnceLock<Histogram>]>;

/// How long requests took, at one program.
#[derive(Debug)]
pub struct Requests {
    regions: Box<[RegionId]>,
    /// In ascending order.
    routes: Box<[&'static str]>,
    cells: Sharded<Box<[OnceLock<Statuses>]>>,
}

impl Requests {
    /// Of these regions and routes; of no request yet.
    #[must_use]
    pub fn new(
        regions: impl IntoIterator<Item = RegionId>,
        routes: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let regions: Box<[RegionId]> = regions.into_iter().collect();
        let mut routes: Vec<&'static str> = routes.into_iter().collect();
        routes.sort_unstable();
        routes.dedup();
        let cells = (regions.len() + 1) * (routes.len() + 1) * METHODS.len();
        Self {
            regions,
            routes: routes.into(),
            cells: Sharded::new(|| (0..cells).map(|_| OnceLock::new()).collect()),
        }
    }

    /// The template of a route as the program has it; `None` for a text that is none.
    #[must_use]
    pub fn template(&self, route: &str) -> Option<&'static str> {
        let place = self.routes.binary_search(&route).ok()?;
        self.routes.get(place).copied()
    }

    /// Notes a request that has ended. `status` is 0 where it got no answer.
    pub fn record(
        &self,
        region: Option<&RegionId>,
        route: &str,
        method: &str,
        status: u16,
        duration: Duration,
    ) {
        let region = region
            .and_then(|region| self.regions.iter().position(|known| known == region))
            .unwrap_or(self.regions.len());
        let route = self.routes.binary_search(&route);
        let route = route.unwrap_or(self.routes.len());
        let method = METHODS.iter().position(|known| *known == method);
        let method = method.unwrap_or(METHODS.len() - 1);
        let status = STATUSES.binary_search(&status).unwrap_or(STATUSES.len());
        let cell = (region * (self.routes.len() + 1) + route) * METHODS.len() + method;
        let Some(statuses) = self.cells.mine().get(cell) else {
            return;
        };
        let statuses =
            statuses.get_or_init(|| (0..=STATUSES.len()).map(|_| OnceLock::new()).collect());
        if let Some(histogram) = statuses.get(status) {
            histogram
                .get_or_init(Histogram::of_durations)
                .record_duration(duration);
        }
    }

    /// Adds what was noted.
    pub fn observe(&self, snapshot: &mut Snapshot) {
        let mut totals: BTreeMap<(usize, usize), HistogramTotal> = BTreeMap::new();
        for shard in self.cells.iter() {
            for (cell, statuses) in shard.iter().enumerate() {
                for (status, histogram) in statuses.get().into_iter().flatten().enumerate() {
                    let Some(histogram) = histogram.get() else {
                        continue;
                    };
                    let total = histogram.total();
                    totals
                        .entry((cell, status))
                        .and_modify(|sum| sum.merge(&total))
                        .or_insert(total);
                }
            }
        }
        for ((cell, status), total) in totals {
            let (rest, method) = (cell / METHODS.len(), cell % METHODS.len());
            let routes = self.routes.len() + 1;
            let (region, route) = (rest / routes, rest % routes);
            let word = |word: Option<&&'static str>| Label::word(word.map_or(OTHER, |word| *word));
            let labels = [
                self.regions
                    .get(region)
                    .map_or(Label::word(OTHER), Label::from),
                word(self.routes.get(route)),
                word(METHODS.get(method)),
                STATUSES
                    .get(status)
                    .map_or(Label::word(OTHER), |status| Label::number((*status).into())),
            ];
            snapshot.add(&DURATION, labels, crate::metrics::Value::Histogram(total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus;

    #[test]
    fn requests_are_told_apart_and_nothing_unknown_is_repeated() {
        let us = RegionId::parse("us").unwrap();
        let requests = Requests::new([us.clone()], ["Users/{id}", "Users"]);
        let time = Duration::from_millis(3);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        requests.record(Some(&us), "Users/{id}", "PATCH", 200, time);
                    }
                });
            }
        });
        requests.record(None, "Users/jdoe", "JDOE", 299, time);
        let mut snapshot = Snapshot::default();
        requests.observe(&mut snapshot);
        let text = prometheus::text(&snapshot);
        let count = "http_server_request_duration_seconds_count{region=\"us\",\
                     http_route=\"Users/{id}\",http_request_method=\"PATCH\",\
                     http_response_status_code=\"200\"} 100";
        assert!(text.contains(count), "{text}");
        let unknown = "_count{region=\"other\",http_route=\"other\",\
                       http_request_method=\"other\",http_response_status_code=\"other\"} 1";
        assert!(text.contains(unknown), "{text}");
        assert!(!text.to_lowercase().contains("jdoe"), "{text}");
    }

    #[test]
    fn statuses_are_in_order() {
        assert!(STATUSES.is_sorted());
    }
}
