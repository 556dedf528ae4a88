//! Metrics of one scheduler beside its replica: `berth_scheduler_*`, and `berth_actor_mailbox_*` of
//! its actors.
//!
//! Promises: labels come from small fixed sets, every one of which shows from the start; no host,
//! endpoint or container VM is a label, so series do not grow with the fleet.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result,
};

/// Handles of one scheduler's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SchedulerMetrics {
    placements: IntCounterVec,
    refusals: IntCounterVec,
    decisions: HistogramVec,
    commits: HistogramVec,
    submits: IntCounterVec,
    container_vms: IntGaugeVec,
    hosts: IntGaugeVec,
    /// Container VMs that wait for a datastore or a host.
    pub pending: IntGauge,
    pub node_sessions: IntGauge,
    sessions_ended: IntCounterVec,
    pub registrations_refused: IntCounter,
    pub registrations_redirected: IntCounter,
    pub handshakes_failed: IntCounter,
    pub assignments: IntCounter,
    pub assignments_whole: IntCounter,
    pub reports: IntCounter,
    pub hosts_silenced: IntCounter,
    pub apply_seconds: Histogram,
    pub plan_seconds: Histogram,
    sync_seconds: Histogram,
    conflicts: IntCounterVec,
    placement_decisions: IntCounter,
    placement_outcomes: IntCounterVec,
    placement_requests: IntCounterVec,
    placement_seconds: Histogram,
    placement_turn_seconds: Histogram,
    placement_queue: IntGauge,
    placement_commands: IntGauge,
    mailbox: IntGaugeVec,
    mailbox_dropped: IntCounterVec,
}

/// Values of the label `outcome` of placements.
const PLACEMENTS: [&str; 5] = ["datastore", "host", "displace", "nowhere", "rejected"];
/// Values of the label `filter` of refusals.
const FILTERS: [&str; 7] =
    ["availability", "rules", "capacity", "datastores", "networks", "quota", "admission"];
/// Values of the label `step`.
const STEPS: [&str; 2] = ["datastore", "host"];
/// Values of the label `origin`.
const ORIGINS: [&str; 5] = ["client", "planner", "placer", "dispatcher", "bootstrap"];
/// Values of the label `planner`: what it decides about.
const PLANNERS: [&str; 2] = ["container_vms", "placements"];
/// Values of the label `outcome` of decisions on placement requests.
const PLACEMENT_OUTCOMES: [&str; 3] = ["held", "told", "refused"];
/// Values of the label `outcome` of placement requests.
const PLACEMENT_REQUESTS: [&str; 7] =
    ["answered", "rejected", "full", "no_leader", "unknown", "too_large", "stopped"];
/// Values of the label `outcome` of submits.
const SUBMITS: [&str; 7] =
    ["accepted", "rejected", "full", "no_leader", "unknown", "stopped", "too_large"];
/// Values of the label `state` of container VMs.
const VM_STATES: [&str; 7] =
    ["pending", "created", "waiting", "starting", "running", "exited", "removing"];
/// Values of the label `state` of hosts.
const HOST_STATES: [&str; 3] = ["connected", "silent", "maintenance"];
/// Values of the label `reason`.
const ENDS: [&str; 5] = ["closed", "broken", "replaced", "redirected", "silent"];
/// Values of the label `actor`.
const ACTORS: [&str; 2] = ["dispatcher", "node_session"];

impl SchedulerMetrics {
    /// Makes the metrics and registers them; fails when the registry has them already.
    pub fn register(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            placements: counters(
                registry,
                "berth_scheduler_placements_total",
                "Decisions of this leader's planner, by what they became.",
                "outcome",
                &PLACEMENTS,
            )?,
            refusals: counters(
                registry,
                "berth_scheduler_refusals_total",
                "Hosts that were refused while no place was found, by the filter that refused them.",
                "filter",
                &FILTERS,
            )?,
            decisions: histograms(
                registry,
                "berth_scheduler_decision_seconds",
                "From the wish for a place to the decision applied here, by what was sought.",
                "step",
                &STEPS,
            )?,
            commits: histograms(
                registry,
                "berth_scheduler_commit_seconds",
                "From proposing a command to its answer, by who proposed it.",
                "origin",
                &ORIGINS,
            )?,
            submits: counters(
                registry,
                "berth_scheduler_submits_total",
                "Commands of clients through this replica, by outcome.",
                "outcome",
                &SUBMITS,
            )?,
            container_vms: gauges(
                registry,
                "berth_scheduler_container_vms",
                "Container VMs in the fleet, by state.",
                "state",
                &VM_STATES,
            )?,
            hosts: gauges(
                registry,
                "berth_scheduler_hosts",
                "Hosts in the fleet, by state; one in maintenance counts as connected or silent too.",
                "state",
                &HOST_STATES,
            )?,
            pending: gauge(
                registry,
                "berth_scheduler_pending",
                "Container VMs that wait for a datastore or a host.",
            )?,
            node_sessions: gauge(
                registry,
                "berth_scheduler_node_sessions",
                "Nodes that have a session with this replica.",
            )?,
            sessions_ended: counters(
                registry,
                "berth_scheduler_node_sessions_ended_total",
                "Node sessions that ended here, by why.",
                "reason",
                &ENDS,
            )?,
            registrations_refused: counter(
                registry,
                "berth_scheduler_registrations_refused_total",
                "Registrations of nodes that could not stand.",
            )?,
            registrations_redirected: counter(
                registry,
                "berth_scheduler_registrations_redirected_total",
                "Registrations of nodes that were sent to another replica.",
            )?,
            handshakes_failed: counter(
                registry,
                "berth_scheduler_node_handshakes_failed_total",
                "Connections to the nodes listener that did not become a registration.",
            )?,
            assignments: counter(
                registry,
                "berth_scheduler_assignments_total",
                "Assignments that were sent to nodes.",
            )?,
            assignments_whole: counter(
                registry,
                "berth_scheduler_assignments_whole_total",
                "Assignments that were sent whole, not as a difference.",
            )?,
            reports: counter(
                registry,
                "berth_scheduler_reports_total",
                "Reports of nodes that were committed.",
            )?,
            hosts_silenced: counter(
                registry,
                "berth_scheduler_hosts_silenced_total",
                "Hosts that this leader found silent past the timer.",
            )?,
            apply_seconds: histogram(
                registry,
                "berth_scheduler_apply_seconds",
                "Time to apply one command to the fleet.",
                prometheus::exponential_buckets(0.000_001, 4.0, 10)?,
            )?,
            plan_seconds: histogram(
                registry,
                "berth_scheduler_plan_seconds",
                "Time to make one plan.",
                prometheus::exponential_buckets(0.000_01, 4.0, 10)?,
            )?,
            sync_seconds: histogram(
                registry,
                "berth_scheduler_mirror_sync_seconds",
                "Time to bring a planner's mirror up to the newest fleet, in seconds.",
                prometheus::exponential_buckets(0.000_001, 4.0, 12)?,
            )?,
            conflicts: counters(
                registry,
                "berth_scheduler_plan_conflicts_total",
                "Decisions that apply rejected because something else was quicker, by what they \
                 were about. Each is decided again.",
                "planner",
                &PLANNERS,
            )?,
            placement_decisions: counter(
                registry,
                "berth_scheduler_placement_decisions_total",
                "Decisions on items of placement requests here, those made again too.",
            )?,
            placement_outcomes: counters(
                registry,
                "berth_scheduler_placement_items_total",
                "Items of placement requests that were decided here for good, by outcome: held, \
                 told in a dry run, or refused.",
                "outcome",
                &PLACEMENT_OUTCOMES,
            )?,
            placement_requests: counters(
                registry,
                "berth_scheduler_placement_requests_total",
                "Placement requests through this replica, by outcome.",
                "outcome",
                &PLACEMENT_REQUESTS,
            )?,
            placement_seconds: histogram(
                registry,
                "berth_scheduler_placement_request_seconds",
                "From a placement request to its answer, in seconds.",
                prometheus::exponential_buckets(0.000_25, 2.0, 16)?,
            )?,
            placement_turn_seconds: histogram(
                registry,
                "berth_scheduler_placement_turn_seconds",
                "Time to decide once for all placement requests that are there, in seconds.",
                prometheus::exponential_buckets(0.000_01, 4.0, 10)?,
            )?,
            placement_queue: gauge(
                registry,
                "berth_scheduler_placement_queue_items",
                "Items of placement requests that wait for a decision here.",
            )?,
            placement_commands: gauge(
                registry,
                "berth_scheduler_placement_commands",
                "Commands with decisions on placement requests that are under way from here.",
            )?,
            mailbox: gauges(
                registry,
                "berth_actor_mailbox_messages",
                "Messages that wait in the mailboxes of a kind of actor.",
                "actor",
                &ACTORS,
            )?,
            mailbox_dropped: counters(
                registry,
                "berth_actor_mailbox_dropped_total",
                "Messages that found a mailbox full or its actor gone, by kind of actor.",
                "actor",
                &ACTORS,
            )?,
        };
        Ok(metrics)
    }

    /// `outcome` is `datastore`, `host`, `displace`, `nowhere` or `rejected`.
    pub fn placed(&self, outcome: &str) {
        self.placements.with_label_values(&[outcome]).inc();
    }

    /// `filter` as the model names it.
    pub fn refused(&self, filter: &str, hosts: u64) {
        self.refusals.with_label_values(&[filter]).inc_by(hosts);
    }

    /// `step` is `datastore` or `host`.
    pub fn decided(&self, step: &str, seconds: f64) {
        self.decisions.with_label_values(&[step]).observe(seconds);
    }

    /// `planner` is `container_vms` or `placements`.
    pub fn conflicts(&self, planner: &str, count: u64) {
        if count > 0 {
            self.conflicts.with_label_values(&[planner]).inc_by(count);
        }
    }

    pub fn mirror_synced(&self, seconds: f64) {
        self.sync_seconds.observe(seconds);
    }

    /// Handles for one desk of placement requests.
    pub fn placer(&self) -> PlacerMetrics {
        let outcome = |outcome| self.placement_outcomes.with_label_values(&[outcome]);
        let request = |outcome| self.placement_requests.with_label_values(&[outcome]);
        PlacerMetrics {
            decisions: self.placement_decisions.clone(),
            outcomes: PLACEMENT_OUTCOMES.map(outcome),
            requests: PLACEMENT_REQUESTS.map(request),
            seconds: self.placement_seconds.clone(),
            turn_seconds: self.placement_turn_seconds.clone(),
            sync_seconds: self.sync_seconds.clone(),
            queue: Part::of(&self.placement_queue),
            commands: Part::of(&self.placement_commands),
        }
    }

    /// `origin` is `client`, `planner`, `placer`, `dispatcher` or `bootstrap`.
    pub fn committed(&self, origin: &str, seconds: f64) {
        self.commits.with_label_values(&[origin]).observe(seconds);
    }

    /// `outcome` is `accepted`, `rejected`, `full`, `no_leader`, `unknown`, `stopped` or
    /// `too_large`.
    pub fn submitted(&self, outcome: &str) {
        self.submits.with_label_values(&[outcome]).inc();
    }

    /// `state` as the model names it.
    pub fn set_container_vms(&self, state: &str, count: u64) {
        self.container_vms
            .with_label_values(&[state])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// `state` is `connected`, `silent` or `maintenance`.
    pub fn set_hosts(&self, state: &str, count: u64) {
        self.hosts.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// `reason` is `closed`, `broken`, `replaced`, `redirected` or `silent`.
    pub fn session_ended(&self, reason: &str) {
        self.sessions_ended.with_label_values(&[reason]).inc();
    }

    /// Messages that wait, and messages that were lost, of `dispatcher` or `node_session`.
    pub fn mailbox(&self, actor: &str) -> (IntGauge, IntCounter) {
        (self.mailbox.with_label_values(&[actor]), self.mailbox_dropped.with_label_values(&[actor]))
    }
}

/// One desk's handles: nothing is looked up for a single item.
#[derive(Debug)]
pub struct PlacerMetrics {
    decisions: IntCounter,
    outcomes: [IntCounter; PLACEMENT_OUTCOMES.len()],
    requests: [IntCounter; PLACEMENT_REQUESTS.len()],
    seconds: Histogram,
    turn_seconds: Histogram,
    sync_seconds: Histogram,
    queue: Part,
    commands: Part,
}

/// What items of placement requests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlacementOutcomes {
    pub held: u64,
    pub told: u64,
    pub refused: u64,
}

impl PlacerMetrics {
    pub fn decided(&self, decisions: u64, outcomes: PlacementOutcomes) {
        if decisions > 0 {
            self.decisions.inc_by(decisions);
        }
        let PlacementOutcomes { held, told, refused } = outcomes;
        for (counter, count) in self.outcomes.iter().zip([held, told, refused]) {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }

    /// `outcome` is `answered`, `rejected`, `full`, `no_leader`, `unknown`, `too_large` or
    /// `stopped`.
    pub fn answered(&self, outcome: &str, seconds: f64) {
        let position = PLACEMENT_REQUESTS.iter().position(|known| *known == outcome);
        if let Some(counter) = position.and_then(|position| self.requests.get(position)) {
            counter.inc();
        }
        self.seconds.observe(seconds);
    }

    pub fn turned(&self, sync_seconds: f64, turn_seconds: f64) {
        self.sync_seconds.observe(sync_seconds);
        self.turn_seconds.observe(turn_seconds);
    }

    pub fn set_queued(&mut self, items: usize) {
        self.queue.set(items);
    }

    pub fn set_commands(&mut self, commands: usize) {
        self.commands.set(commands);
    }
}

/// One holder's part of a gauge that several share; gone with its holder.
#[derive(Debug)]
struct Part {
    sum: IntGauge,
    own: i64,
}

impl Part {
    fn of(sum: &IntGauge) -> Self {
        Self { sum: sum.clone(), own: 0 }
    }

    fn set(&mut self, value: usize) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        if value != self.own {
            self.sum.add(value - self.own);
            self.own = value;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(gauges.clone()))?;
    for value in values {
        gauges.with_label_values(&[value]).set(0);
    }
    Ok(gauges)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    for value in values {
        counters.with_label_values(&[value]).inc_by(0);
    }
    Ok(counters)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> Result<HistogramVec> {
    let buckets = prometheus::exponential_buckets(0.000_5, 2.0, 15)?;
    let histograms = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label])?;
    registry.register(Box::new(histograms.clone()))?;
    for value in values {
        histograms.with_label_values(&[value]);
    }
    Ok(histograms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_shows_before_its_first_event_and_registers_once() {
        let registry = Registry::new();
        SchedulerMetrics::register(&registry).unwrap();
        assert!(SchedulerMetrics::register(&registry).is_err());
        let families = registry.gather();
        assert_eq!(families.len(), 30);
        for family in &families {
            let name = family.name();
            assert!(
                name.starts_with("berth_scheduler_") || name.starts_with("berth_actor_mailbox_")
            );
            assert!(!family.get_metric().is_empty(), "{name}");
        }
    }
}
