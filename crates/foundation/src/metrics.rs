//! Metrics, and their text format for Prometheus (version 0.0.4).
//!
//! Counting takes a few relaxed atomic additions: no lock, no allocation, no lookup by name. All HTTP series exist from
//! the start in one array; those that are still zero are left out of the text.

use std::fmt::{Display, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The media type of [`Exposition::finish`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the duration buckets, in microseconds.
const BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];
/// The methods that have their own series; the last stands for all others.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "other"];
/// The statuses that have their own series, in ascending order. Any other status is counted as 0.
const STATUSES: [u16; 33] = [
    0, 200, 201, 204, 206, 301, 302, 304, 400, 401, 403, 404, 405, 406, 408, 409, 411, 412, 413, 414, 415,
    416, 417, 421, 422, 429, 431, 500, 501, 502, 503, 504, 505,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts durations by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last bucket is for durations above all bounds.
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < took_us)].increment();
        self.sum_us.add(took_us);
    }

    /// Writes the samples of the family `name`; nothing while all buckets are zero.
    fn write(&self, name: &str, labels: &[(&str, &str)], text: &mut Exposition) {
        let mut count = 0;
        // Read once, so that the total equals the last bucket even if counting goes on meanwhile.
        let buckets: Vec<u64> = self.buckets.iter().map(Counter::get).collect();
        if buckets.iter().all(|bucket| *bucket == 0) {
            return;
        }
        let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound)).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&buckets) {
            count += bucket;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            text.sample(&format!("{name}_bucket"), &labels, count);
        }
        text.sample(&format!("{name}_sum"), labels, seconds(self.sum_us.get()));
        text.sample(&format!("{name}_count"), labels, count);
    }
}

/// What is counted for one route and method.
#[derive(Debug)]
struct Series {
    statuses: [Counter; STATUSES.len()],
    durations: Histogram,
}

impl Default for Series {
    fn default() -> Self {
        Self { statuses: std::array::from_fn(|_| Counter::default()), durations: Histogram::default() }
    }
}

/// The requests that a server answers, by route, method and status.
#[derive(Debug)]
pub struct HttpMetrics {
    routes: &'static [&'static str],
    /// One for each route and method, in this order.
    series: Box<[Series]>,
    begun: Counter,
    ended: Counter,
}

/// What was counted of all routes and methods together, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTotals {
    statuses: [u64; STATUSES.len()],
    durations: [u64; BOUNDS_US.len() + 1],
}

impl Default for RequestTotals {
    fn default() -> Self {
        Self { statuses: [0; STATUSES.len()], durations: [0; BOUNDS_US.len() + 1] }
    }
}

impl RequestTotals {
    /// What was counted since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (now, before) in difference.statuses.iter_mut().zip(&earlier.statuses) {
            *now = now.saturating_sub(*before);
        }
        for (now, before) in difference.durations.iter_mut().zip(&earlier.durations) {
            *now = now.saturating_sub(*before);
        }
        difference
    }

    /// How many requests there were.
    pub fn count(&self) -> u64 {
        self.durations.iter().sum()
    }

    /// How many were answered with a status that has its own series.
    pub fn answered(&self, status: u16) -> u64 {
        STATUSES.binary_search(&status).map_or(0, |index| self.statuses[index])
    }

    /// How long the given share of the requests took at most, as Prometheus' `histogram_quantile` estimates it: within a
    /// bucket, durations count as evenly spread, and those above all bounds count as the last bound. `None` if there were
    /// no requests.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 52 bits")]
        let (mut rank, mut below_us) = (share * count as f64, 0);
        for (bound_us, bucket) in BOUNDS_US.into_iter().zip(&self.durations) {
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            let (in_bucket, width_us) = (*bucket as f64, (bound_us - below_us) as f64);
            if rank <= in_bucket && *bucket > 0 {
                let within = Duration::from_secs_f64(width_us / 1e6 * (rank / in_bucket));
                return Some(Duration::from_micros(below_us) + within);
            }
            (rank, below_us) = (rank - in_bucket, bound_us);
        }
        Some(Duration::from_micros(below_us))
    }
}

/// A request that is being answered. Dropping this marks its end.
#[derive(Debug)]
pub struct InFlight<'m> {
    metrics: &'m HttpMetrics,
    since: Instant,
}

impl InFlight<'_> {
    /// Counts the answer. `route` is an index into the list given to [`HttpMetrics::new`].
    pub fn answered(self, route: usize, method: &str, status: u16) {
        self.metrics.record(route, method, status, self.since.elapsed());
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.ended.increment();
    }
}

impl HttpMetrics {
    /// Metrics for these routes: templates such as `/api/movies/{id}`, never paths that a client sent, so that clients
    /// cannot create series.
    pub fn new(routes: &'static [&'static str]) -> Self {
        let series = (0..routes.len() * METHODS.len()).map(|_| Series::default()).collect();
        Self { routes, series, begun: Counter::default(), ended: Counter::default() }
    }

    /// Counts a request that has arrived.
    pub fn begin(&self) -> InFlight<'_> {
        self.begun.increment();
        InFlight { metrics: self, since: Instant::now() }
    }

    /// Counts an answer without [`HttpMetrics::begin`].
    pub fn record(&self, route: usize, method: &str, status: u16, took: Duration) {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let Some(series) = self.series.get(route * METHODS.len() + method) else { return };
        series.statuses[STATUSES.binary_search(&status).unwrap_or(0)].increment();
        series.durations.record(took);
    }

    /// How many requests were answered so far on some of the routes, by their positions in the list.
    pub fn answered_on(&self, routes: Range<usize>) -> u64 {
        let series = self.series.get(routes.start * METHODS.len()..routes.end * METHODS.len());
        series.unwrap_or_default().iter().flat_map(|series| &series.statuses).map(Counter::get).sum()
    }

    /// What was counted so far, of all routes and methods together.
    pub fn totals(&self) -> RequestTotals {
        let mut totals = RequestTotals::default();
        for series in &self.series {
            for (total, count) in totals.statuses.iter_mut().zip(&series.statuses) {
                *total += count.get();
            }
            for (total, count) in totals.durations.iter_mut().zip(&series.durations.buckets) {
                *total += count.get();
            }
        }
        totals
    }

    /// Writes all families.
    pub fn write(&self, text: &mut Exposition) {
        text.family("http_requests_total", "counter", "Requests answered, by route, method and status.");
        self.each(|labels, series| {
            for (status, count) in STATUSES.iter().zip(&series.statuses) {
                if count.get() > 0 {
                    let status = if *status == 0 { "other".to_owned() } else { status.to_string() };
                    let labels = [labels[0], labels[1], ("status", &status)];
                    text.sample("http_requests_total", &labels, count.get());
                }
            }
        });
        text.family(
            "http_request_duration_seconds",
            "histogram",
            "Time from a request's head to the last byte of its answer.",
        );
        self.each(|labels, series| series.durations.write("http_request_duration_seconds", &labels, text));
        text.family("http_requests_in_flight", "gauge", "Requests that are being answered now.");
        // `ended` is read first: a request that begins and ends in between would otherwise make the difference
        // negative.
        let ended = self.ended.get();
        text.sample("http_requests_in_flight", &[], self.begun.get().saturating_sub(ended));
    }

    fn each(&self, mut visit: impl FnMut([(&str, &str); 2], &Series)) {
        for (route, series) in self.routes.iter().zip(self.series.chunks(METHODS.len())) {
            for (method, series) in METHODS.iter().zip(series) {
                visit([("route", route), ("method", method)], series);
            }
        }
    }
}

/// Microseconds as exact decimal seconds.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The text of the answer to a scrape.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// An empty text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family of samples; `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and in `sample`.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds a sample to the family that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// Adds a family of one sample.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Adds a family of one histogram, without labels.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        histogram.write(name, &[], self);
    }

    /// Adds the metrics of the process: build, start time, memory, open files.
    pub fn process(&mut self, service: &str, version: &str, started: SystemTime) {
        self.family("build_info", "gauge", "Which program this is; the value is always 1.");
        self.sample("build_info", &[("service", service), ("version", version)], 1);
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.single(
            "process_start_time_seconds",
            "gauge",
            "When the process started, in seconds since 1970.",
            format_args!("{started:.3}"),
        );
        if let Some(bytes) = resident_bytes() {
            self.single("process_resident_memory_bytes", "gauge", "Memory that the process holds.", bytes);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.single("process_open_fds", "gauge", "Open files and sockets.", files.count());
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// The resident set size of this process in bytes, as Linux reports it; `None` on other systems.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &[&str] = &["/api/movies", "/api/movies/{id}"];

    fn text(metrics: &HttpMetrics) -> String {
        let mut text = Exposition::new();
        metrics.write(&mut text);
        text.finish()
    }

    #[test]
    fn an_answer_is_counted_under_its_route_method_and_status() {
        let metrics = HttpMetrics::new(ROUTES);
        metrics.record(1, "GET", 200, Duration::from_millis(3));
        metrics.record(1, "GET", 200, Duration::from_millis(5));
        metrics.record(0, "PURGE", 799, Duration::from_secs(60));
        let text = text(&metrics);
        for line in [
            "http_requests_total{route=\"/api/movies/{id}\",method=\"GET\",status=\"200\"} 2",
            "http_requests_total{route=\"/api/movies\",method=\"other\",status=\"other\"} 1",
            "http_request_duration_seconds_bucket{route=\"/api/movies/{id}\",method=\"GET\",le=\"0.0025\"} 0",
            // A bound belongs to its bucket.
            "http_request_duration_seconds_bucket{route=\"/api/movies/{id}\",method=\"GET\",le=\"0.005\"} 2",
            "http_request_duration_seconds_bucket{route=\"/api/movies/{id}\",method=\"GET\",le=\"+Inf\"} 2",
            "http_request_duration_seconds_sum{route=\"/api/movies/{id}\",method=\"GET\"} 0.008",
            "http_request_duration_seconds_count{route=\"/api/movies/{id}\",method=\"GET\"} 2",
            "http_request_duration_seconds_bucket{route=\"/api/movies\",method=\"other\",le=\"10\"} 0",
            "http_requests_in_flight 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert_eq!(text.matches("http_requests_total{").count(), 2, "{text}");
    }

    #[test]
    fn a_request_is_in_flight_until_it_is_dropped() {
        let metrics = HttpMetrics::new(ROUTES);
        let (first, second) = (metrics.begin(), metrics.begin());
        assert!(text(&metrics).contains("http_requests_in_flight 2\n"));
        first.answered(0, "GET", 200);
        drop(second);
        let text = text(&metrics);
        assert!(text.contains("http_requests_in_flight 0\n"), "{text}");
        assert!(
            text.contains("http_requests_total{route=\"/api/movies\",method=\"GET\",status=\"200\"} 1\n")
        );
    }

    #[test]
    fn totals_are_of_all_routes_and_differences_of_moments() {
        let metrics = HttpMetrics::new(ROUTES);
        metrics.record(0, "GET", 200, Duration::from_micros(10));
        let before = metrics.totals();
        assert_eq!(before.since(&before).quantile(0.5), None);
        for (route, status, took_ms) in [(0, 200, 3), (1, 503, 4), (1, 200, 5), (0, 200, 60_000)] {
            metrics.record(route, "GET", status, Duration::from_millis(took_ms));
        }
        let totals = metrics.totals().since(&before);
        assert_eq!((totals.count(), totals.answered(200), totals.answered(503)), (4, 3, 1));
        assert_eq!([0..0, 0..1, 1..2, 0..2, 1..3].map(|routes| metrics.answered_on(routes)), [0, 3, 2, 5, 0]);
        // Three of four are in the bucket from 2.5 to 5 ms: the second of them counts as two thirds of the way.
        assert_eq!(totals.quantile(0.5).map(|took| took.as_micros()), Some(4_166));
        assert_eq!(totals.quantile(0.99), Some(Duration::from_secs(10)));
    }

    #[test]
    fn what_could_end_a_label_is_escaped() {
        let mut text = Exposition::new();
        text.sample("a", &[("b", "\"\\\n")], 1);
        assert_eq!(text.finish(), "a{b=\"\\\"\\\\\\n\"} 1\n");
    }

    #[test]
    fn the_statuses_are_sorted() {
        assert!(STATUSES.is_sorted() && BOUNDS_US.is_sorted());
    }
}
