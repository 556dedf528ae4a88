//! Metrics of both HTTP APIs of a scheduler: `berth_api_*`.
//!
//! Promises: `route` is a template of a path and never a path, `method` one that routes have, so
//! series do not grow with clients or containers.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Values of the label `api`.
pub const DOCKER: &str = "docker";
pub const PLACEMENT: &str = "placement";
/// The route of a request that has none.
pub const NO_ROUTE: &str = "none";
/// Kinds of streams to nodes, as the label `kind` names them.
pub const STREAM_KINDS: [&str; 5] = ["attach", "logs", "load", "signal", "resize"];

/// Cheap to clone; every clone is the same metrics.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    /// Requests whose answer has not begun.
    pub in_flight: IntGauge,
    pub connections: IntGauge,
    pub connections_refused: IntCounter,
    /// Connections taken out of HTTP by attach.
    pub hijacked: IntGauge,
    streams_open: IntGaugeVec,
    streams_failed: IntCounterVec,
    /// Streams of events that clients follow.
    pub event_streams: IntGauge,
    /// Those that were cut, for their clients took nothing.
    pub event_streams_cut: IntCounter,
}

impl ApiMetrics {
    /// Makes the metrics and registers them; fails when the registry has them already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "berth_api_requests_total",
                    "Requests answered, by API, method, template of the path and status.",
                ),
                &["api", "method", "route", "status"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "berth_api_request_seconds",
                    "Time from a request's head to its answer's head, by API and route.",
                )
                .buckets(vec![
                    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
                    30.0, 120.0,
                ]),
                &["api", "method", "route"],
            )?,
            in_flight: IntGauge::new(
                "berth_api_requests_in_flight",
                "Requests whose answer has not begun.",
            )?,
            connections: IntGauge::new(
                "berth_api_docker_connections",
                "Open connections to the Docker endpoint.",
            )?,
            connections_refused: IntCounter::new(
                "berth_api_docker_connections_refused_total",
                "Connections to the Docker endpoint that were over the limit or failed TLS.",
            )?,
            hijacked: IntGauge::new(
                "berth_api_hijacked_connections",
                "Connections that attach took out of HTTP.",
            )?,
            streams_open: IntGaugeVec::new(
                Opts::new("berth_api_streams_open", "Open streams to nodes, by kind."),
                &["kind"],
            )?,
            streams_failed: IntCounterVec::new(
                Opts::new(
                    "berth_api_streams_failed_total",
                    "Streams to nodes that were refused, failed or were cut, by kind.",
                ),
                &["kind"],
            )?,
            event_streams: IntGauge::new(
                "berth_api_event_streams",
                "Streams of events that clients of /v1 follow.",
            )?,
            event_streams_cut: IntCounter::new(
                "berth_api_event_streams_cut_total",
                "Streams of events that were cut, for their clients took nothing.",
            )?,
        };
        registry.register(Box::new(metrics.event_streams.clone()))?;
        registry.register(Box::new(metrics.event_streams_cut.clone()))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.connections_refused.clone()))?;
        registry.register(Box::new(metrics.hijacked.clone()))?;
        registry.register(Box::new(metrics.streams_open.clone()))?;
        registry.register(Box::new(metrics.streams_failed.clone()))?;
        for kind in STREAM_KINDS {
            metrics.streams_open.with_label_values(&[kind]).set(0);
            metrics.streams_failed.with_label_values(&[kind]).inc_by(0);
        }
        Ok(metrics)
    }

    /// Counts one answer; `seconds` from the request's head to the answer's.
    pub fn answered(&self, api: &str, method: &str, route: &str, status: u16, seconds: f64) {
        self.requests.with_label_values(&[api, method, route, &status.to_string()]).inc();
        self.seconds.with_label_values(&[api, method, route]).observe(seconds);
    }

    pub fn stream_opened(&self, kind: &str) {
        self.streams_open.with_label_values(&[kind]).inc();
    }

    pub fn stream_closed(&self, kind: &str) {
        self.streams_open.with_label_values(&[kind]).dec();
    }

    pub fn stream_failed(&self, kind: &str) {
        self.streams_failed.with_label_values(&[kind]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_registered_once_and_show_what_was_counted() {
        let registry = Registry::new();
        let metrics = ApiMetrics::register(&registry).unwrap();
        metrics.answered(DOCKER, "GET", "/_ping", 200, 0.002);
        let text = crate::exposition::text(&registry).unwrap();
        let line =
            r#"berth_api_requests_total{api="docker",method="GET",route="/_ping",status="200"} 1"#;
        assert!(text.contains(line), "{text}");
        assert!(ApiMetrics::register(&registry).is_err());
    }
}
