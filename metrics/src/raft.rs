//! Metrics of one Raft replica, all named `berth_raft_*`.
//!
//! Promises: no label but those of small fixed sets, so a scheduler's series do not grow with the
//! fleet.
//! Does not: label by peer or by group; one process runs one group for now.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    Result,
};

/// Handles of one replica's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RaftMetrics {
    role: IntGaugeVec,
    pub term: IntGauge,
    pub leader_changes: IntCounter,
    pub commit_index: IntGauge,
    pub applied_index: IntGauge,
    pub last_index: IntGauge,
    pub in_flight: IntGauge,
    pub proposals_applied: IntCounter,
    pub proposals_full: IntCounter,
    pub proposals_no_leader: IntCounter,
    pub proposals_unknown: IntCounter,
    pub proposals_stopped: IntCounter,
    pub proposals_too_large: IntCounter,
    pub proposals_forwarded: IntCounter,
    pub reads_confirmed: IntCounter,
    pub reads_failed: IntCounter,
    pub fsync_seconds: Histogram,
    pub write_entries: Histogram,
    pub entry_commands: Histogram,
    pub log_bytes: IntGauge,
    pub snapshots_made: IntCounter,
    pub snapshots_sent: IntCounter,
    pub snapshots_received: IntCounter,
    pub snapshots_failed: IntCounter,
    pub snapshot_bytes: IntGauge,
    pub messages_sent: IntCounter,
    pub messages_received: IntCounter,
    pub messages_dropped: IntCounter,
    pub peers_connected: IntGauge,
    pub loop_stalls: IntCounter,
    pub loop_seconds: Histogram,
    pub state_hashes_compared: IntCounter,
    pub state_hash_mismatches: IntCounter,
}

/// Values of the label `role`.
const ROLES: [&str; 4] = ["leader", "follower", "candidate", "learner"];

impl RaftMetrics {
    /// Makes the metrics and registers them; fails when the registry has them already.
    pub fn register(registry: &Registry) -> Result<Self> {
        let proposals = counters(
            registry,
            "berth_raft_proposals_total",
            "Commands that were proposed through this replica, by outcome.",
            "outcome",
        )?;
        let reads = counters(
            registry,
            "berth_raft_reads_total",
            "Linearizable reads through this replica, by outcome.",
            "outcome",
        )?;
        let snapshots = counters(
            registry,
            "berth_raft_snapshots_total",
            "Snapshots of the state machine, by what was done with them.",
            "event",
        )?;
        let messages = counters(
            registry,
            "berth_raft_messages_total",
            "Messages between replicas, by what became of them here.",
            "event",
        )?;
        let role = IntGaugeVec::new(
            Opts::new("berth_raft_role", "1 for the role that this replica has, 0 for the others."),
            &["role"],
        )?;
        registry.register(Box::new(role.clone()))?;
        let metrics = Self {
            role,
            term: gauge(registry, "berth_raft_term", "Current Raft term.")?,
            leader_changes: counter(
                registry,
                "berth_raft_leader_changes_total",
                "How often this replica saw another leader take over.",
            )?,
            commit_index: gauge(registry, "berth_raft_commit_index", "Highest committed index.")?,
            applied_index: gauge(registry, "berth_raft_applied_index", "Highest applied index.")?,
            last_index: gauge(registry, "berth_raft_last_index", "Index of the log's last entry.")?,
            in_flight: gauge(
                registry,
                "berth_raft_proposals_in_flight",
                "Commands that wait for their outcome here.",
            )?,
            proposals_applied: proposals.with_label_values(&["applied"]),
            proposals_full: proposals.with_label_values(&["full"]),
            proposals_no_leader: proposals.with_label_values(&["no_leader"]),
            proposals_unknown: proposals.with_label_values(&["unknown"]),
            proposals_stopped: proposals.with_label_values(&["stopped"]),
            proposals_too_large: proposals.with_label_values(&["too_large"]),
            proposals_forwarded: counter(
                registry,
                "berth_raft_proposals_forwarded_total",
                "Commands that this replica passed on to the leader.",
            )?,
            reads_confirmed: reads.with_label_values(&["confirmed"]),
            reads_failed: reads.with_label_values(&["failed"]),
            fsync_seconds: histogram(
                registry,
                "berth_raft_fsync_seconds",
                "Time of one synchronous write to the log.",
                prometheus::exponential_buckets(0.0001, 2.0, 14)?,
            )?,
            write_entries: histogram(
                registry,
                "berth_raft_write_entries",
                "Log entries in one synchronous write.",
                prometheus::exponential_buckets(1.0, 2.0, 9)?,
            )?,
            entry_commands: histogram(
                registry,
                "berth_raft_entry_commands",
                "Commands that were packed into one log entry.",
                prometheus::exponential_buckets(1.0, 2.0, 10)?,
            )?,
            log_bytes: gauge(registry, "berth_raft_log_bytes", "Size of the log on disk.")?,
            snapshots_made: snapshots.with_label_values(&["made"]),
            snapshots_sent: snapshots.with_label_values(&["sent"]),
            snapshots_received: snapshots.with_label_values(&["received"]),
            snapshots_failed: snapshots.with_label_values(&["failed"]),
            snapshot_bytes: gauge(
                registry,
                "berth_raft_snapshot_bytes",
                "Size of the newest snapshot on disk.",
            )?,
            messages_sent: messages.with_label_values(&["sent"]),
            messages_received: messages.with_label_values(&["received"]),
            messages_dropped: messages.with_label_values(&["dropped"]),
            peers_connected: gauge(
                registry,
                "berth_raft_peers_connected",
                "Replicas to which this one has a link.",
            )?,
            loop_stalls: counter(
                registry,
                "berth_raft_loop_stalls_total",
                "How often the replica's loop came back over three ticks late.",
            )?,
            loop_seconds: histogram(
                registry,
                "berth_raft_loop_seconds",
                "Time of one turn of the replica's loop, waiting excluded.",
                prometheus::exponential_buckets(0.0001, 4.0, 9)?,
            )?,
            state_hashes_compared: counter(
                registry,
                "berth_raft_state_hashes_compared_total",
                "How often this replica's state was compared with the leader's.",
            )?,
            state_hash_mismatches: counter(
                registry,
                "berth_raft_state_hash_mismatches_total",
                "How often this replica's state was another than the leader's; it then stops.",
            )?,
        };
        metrics.set_role("follower");
        Ok(metrics)
    }

    /// `role` is `leader`, `follower`, `candidate` or `learner`.
    pub fn set_role(&self, role: &str) {
        for known in ROLES {
            self.role.with_label_values(&[known]).set(i64::from(known == role));
        }
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

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_register_once_and_are_all_ours() {
        let registry = Registry::new();
        let metrics = RaftMetrics::register(&registry).unwrap();
        assert!(RaftMetrics::register(&registry).is_err());
        metrics.set_role("leader");
        let families = registry.gather();
        assert!(families.len() > 20);
        for family in &families {
            assert!(family.name().starts_with("berth_raft_"), "{}", family.name());
        }
    }

    #[test]
    fn a_replica_has_one_role() {
        let metrics = RaftMetrics::register(&Registry::new()).unwrap();
        metrics.set_role("leader");
        metrics.set_role("candidate");
        let roles: Vec<i64> =
            ROLES.iter().map(|role| metrics.role.with_label_values(&[role]).get()).collect();
        assert_eq!(roles, [0, 0, 1, 0]);
    }
}
