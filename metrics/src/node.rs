//! What a node measures of itself: its session, its streams, its datastores, its images.
//!
//! Promises: no container id is a label here; those of single container VMs stand with the VMs.
//! All handles are cheap clones of one registration.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Where a session stands, as the label `state` names it; exactly one is 1.
pub const SESSION_STATES: [&str; 4] = ["waiting", "dialling", "registering", "registered"];
/// Kinds of streams, as the label `kind` names them.
pub const STREAM_KINDS: [&str; 6] = ["attach", "logs", "load", "signal", "resize", "stats"];
/// Steps that an assignment makes the agent take, as the label `step` names them.
pub const STEPS: [&str; 6] =
    ["start", "stop", "kill", "discard", "report_exit", "report_discarded"];

#[derive(Clone)]
pub struct NodeMetrics {
    session_state: IntGaugeVec,
    pub sessions_opened: IntCounter,
    pub sessions_lost: IntCounter,
    pub heartbeats: IntCounter,
    pub reports_pending: IntGauge,
    pub facts_reported: IntCounter,
    pub assignment_generation: IntGauge,
    pub assignments_obeyed: IntCounter,
    assignments_refused: IntCounterVec,
    steps: IntCounterVec,
    pub discarded: IntCounter,
    streams_open: IntGaugeVec,
    streams_refused: IntCounterVec,
    image_loads: IntCounterVec,
    pub image_loads_running: IntGauge,
    pub image_load_seconds: Histogram,
    datastore_reachable: IntGaugeVec,
    datastore_capacity: IntGaugeVec,
    datastore_free: IntGaugeVec,
    mailbox: IntGaugeVec,
    pub vms_bound: IntGauge,
    pub vms_grouped: IntGauge,
    pub shares: IntGauge,
    lease_kept: IntGaugeVec,
    pub keeper_connected: IntGauge,
    pub switch_connected: IntGauge,
    pub switch_generation: IntGauge,
}

impl NodeMetrics {
    /// Registers all of them; fails if the registry holds them already.
    pub fn register(registry: &Registry) -> Result<NodeMetrics, prometheus::Error> {
        let metrics = NodeMetrics {
            session_state: gauges(
                registry,
                "berth_node_session_state",
                "1 for the state that the session with the leader is in.",
                &["state"],
            )?,
            sessions_opened: counter(
                registry,
                "berth_node_sessions_opened_total",
                "Sessions that a leader welcomed.",
            )?,
            sessions_lost: counter(
                registry,
                "berth_node_sessions_lost_total",
                "Connections to schedulers that ended or failed, redirects aside.",
            )?,
            heartbeats: counter(
                registry,
                "berth_node_heartbeats_total",
                "Heartbeats sent to a leader.",
            )?,
            reports_pending: gauge(
                registry,
                "berth_node_reports_pending",
                "Facts that no leader has acknowledged yet.",
            )?,
            facts_reported: counter(
                registry,
                "berth_node_facts_reported_total",
                "Facts that a leader has acknowledged.",
            )?,
            assignment_generation: gauge(
                registry,
                "berth_node_assignment_generation",
                "Generation of the assignment that is obeyed.",
            )?,
            assignments_obeyed: counter(
                registry,
                "berth_node_assignments_obeyed_total",
                "Assignment updates that were taken over.",
            )?,
            assignments_refused: counters(
                registry,
                "berth_node_assignments_refused_total",
                "Assignment updates that were refused, by reason.",
                &["reason"],
            )?,
            steps: counters(
                registry,
                "berth_node_steps_total",
                "Steps taken to follow assignments, by kind.",
                &["step"],
            )?,
            discarded: counter(
                registry,
                "berth_node_containers_discarded_total",
                "Directories of container VMs that were deleted from datastores.",
            )?,
            streams_open: gauges(
                registry,
                "berth_node_streams_open",
                "Streams that are open, by kind.",
                &["kind"],
            )?,
            streams_refused: counters(
                registry,
                "berth_node_streams_refused_total",
                "Streams that were refused, by kind.",
                &["kind"],
            )?,
            image_loads: counters(
                registry,
                "berth_node_image_loads_total",
                "Archives of images that were loaded or refused, by result.",
                &["result"],
            )?,
            image_loads_running: gauge(
                registry,
                "berth_node_image_loads_running",
                "Archives of images that are being read.",
            )?,
            image_load_seconds: histogram(
                registry,
                "berth_node_image_load_seconds",
                "Time from a whole archive to base disks on the datastore.",
                prometheus::exponential_buckets(0.05, 2.0, 12)?,
            )?,
            datastore_reachable: gauges(
                registry,
                "berth_node_datastore_reachable",
                "1 if the datastore is there and can be written.",
                &["datastore"],
            )?,
            datastore_capacity: gauges(
                registry,
                "berth_node_datastore_capacity_bytes",
                "Size of the file system that the datastore lies on.",
                &["datastore"],
            )?,
            datastore_free: gauges(
                registry,
                "berth_node_datastore_free_bytes",
                "What is free in the file system that the datastore lies on.",
                &["datastore"],
            )?,
            mailbox: gauges(
                registry,
                "berth_node_mailbox_messages",
                "Messages that wait in an actor's mailbox.",
                &["actor"],
            )?,
            vms_bound: gauge(
                registry,
                "berth_node_vms_bound",
                "Container VMs that are bound to NUMA nodes.",
            )?,
            vms_grouped: gauge(
                registry,
                "berth_node_vms_grouped",
                "Container VMs whose hypervisor has a control group of its own.",
            )?,
            shares: gauge(
                registry,
                "berth_node_shares",
                "1 if container VMs are weighed against each other on this host.",
            )?,
            lease_kept: gauges(
                registry,
                "berth_node_lease_kept",
                "1 if the keeper renews this host's lease on the datastore in time.",
                &["datastore"],
            )?,
            keeper_connected: gauge(
                registry,
                "berth_node_keeper_connected",
                "1 if the keeper of this host answers.",
            )?,
            switch_connected: gauge(
                registry,
                "berth_node_switch_connected",
                "1 if the switch of this host answers.",
            )?,
            switch_generation: gauge(
                registry,
                "berth_node_switch_generation",
                "Generation of the network state that the switch has kept.",
            )?,
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// A series that appears only with its first event hides that event from `rate`.
    fn start_at_zero(&self) {
        self.session_is(SESSION_STATES[0]);
        for kind in STREAM_KINDS {
            self.streams_open.with_label_values(&[kind]).set(0);
            self.streams_refused.with_label_values(&[kind]).reset();
        }
        for step in STEPS {
            self.steps.with_label_values(&[step]).reset();
        }
        for result in ["loaded", "refused"] {
            self.image_loads.with_label_values(&[result]).reset();
        }
        for reason in ["older", "misfit"] {
            self.assignments_refused.with_label_values(&[reason]).reset();
        }
    }

    /// `state` is one of [`SESSION_STATES`].
    pub fn session_is(&self, state: &str) {
        for each in SESSION_STATES {
            self.session_state.with_label_values(&[each]).set(i64::from(each == state));
        }
    }

    /// `reason` is `older` or `misfit`.
    pub fn assignment_refused(&self, reason: &str) {
        self.assignments_refused.with_label_values(&[reason]).inc();
    }

    /// `step` is one of [`STEPS`].
    pub fn step_taken(&self, step: &str) {
        self.steps.with_label_values(&[step]).inc();
    }

    /// `kind` is one of [`STREAM_KINDS`].
    pub fn streams_open(&self, kind: &str) -> IntGauge {
        self.streams_open.with_label_values(&[kind])
    }

    /// `kind` is one of [`STREAM_KINDS`].
    pub fn stream_refused(&self, kind: &str) {
        self.streams_refused.with_label_values(&[kind]).inc();
    }

    pub fn image_load_ended(&self, loaded: bool) {
        let result = if loaded { "loaded" } else { "refused" };
        self.image_loads.with_label_values(&[result]).inc();
    }

    pub fn datastore_is(&self, name: &str, space: Option<(u64, u64)>) {
        let label = [name];
        self.datastore_reachable.with_label_values(&label).set(i64::from(space.is_some()));
        if let Some((capacity, free)) = space {
            let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            self.datastore_capacity.with_label_values(&label).set(whole(capacity));
            self.datastore_free.with_label_values(&label).set(whole(free));
        }
    }

    pub fn lease_is(&self, datastore: &str, kept: bool) {
        self.lease_kept.with_label_values(&[datastore]).set(i64::from(kept));
    }

    /// Counts what waits for `actor`: raised by who sends, lowered by who takes.
    pub fn mailbox(&self, actor: &str) -> IntGauge {
        self.mailbox.with_label_values(&[actor])
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: Vec<f64>,
) -> Result<Histogram, prometheus::Error> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_the_prefix_and_shows_before_its_first_event() {
        let registry = Registry::new();
        let metrics = NodeMetrics::register(&registry).unwrap();
        metrics.session_is("registered");
        let text = crate::exposition::text(&registry).unwrap();
        assert!(text.contains("berth_node_session_state{state=\"registered\"} 1"), "{text}");
        assert!(text.contains("berth_node_streams_open{kind=\"attach\"} 0"), "{text}");
        assert!(registry.gather().iter().all(|family| family.name().starts_with("berth_node_")));
    }
}
