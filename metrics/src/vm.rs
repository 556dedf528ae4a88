//! Container VMs of one node: what state they are in, how long their starts take, what each uses.
//!
//! Promises: the series of a container VM vanish with its run; boots, exits and states show before their
//! first event. Series per container VM are right here and only here: a host has hundreds of them, a
//! cell has a hundred thousand.

use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

/// Parts of a start, as the label `phase` names them: the delta disk is made, others boot first, the
/// hypervisor starts, the guest boots until its agent speaks, the agent sets up and starts the
/// process, all of it together.
pub const PHASES: [&str; 6] = ["delta", "queue", "launch", "boot", "setup", "total"];
/// What a run is doing, as the label `state` names it.
pub const STATES: [&str; 7] =
    ["adopting", "preparing", "launching", "booting", "setting_up", "running", "ending"];
/// What became of an order to start, as the label `outcome` names it.
pub const OUTCOMES: [&str; 3] = ["started", "failed", "adopted"];

/// Labels of every series of one container VM.
const EACH: [&str; 2] = ["container", "name"];

#[derive(Clone)]
pub struct VmMetrics {
    states: IntGaugeVec,
    start_phases: HistogramVec,
    starts: IntCounterVec,
    exits: IntCounterVec,
    silent: prometheus::IntCounter,
    stalls: prometheus::IntCounter,
    hypervisors: prometheus::IntGauge,
    each: Each,
}

#[derive(Clone)]
struct Each {
    cpu: CounterVec,
    memory: GaugeVec,
    memory_limit: GaugeVec,
    processes: GaugeVec,
    disk: CounterVec,
    network: CounterVec,
    log: GaugeVec,
    hypervisor_cpu: CounterVec,
    hypervisor_memory: GaugeVec,
}

/// What a container VM used when it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VmSample {
    pub cpu_seconds: f64,
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    pub processes: u64,
    pub disk_read_bytes: u64,
    pub disk_written_bytes: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

impl VmMetrics {
    /// Registers all of them; fails if the registry holds them already.
    pub fn register(registry: &Registry) -> Result<VmMetrics, prometheus::Error> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let start_phases = HistogramVec::new(
            HistogramOpts::new(
                "berth_node_vm_start_seconds",
                "Time that parts of a container VM's start take, by phase.",
            )
            .buckets(vec![
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0,
                20.0, 40.0, 60.0,
            ]),
            &["phase"],
        )?;
        registry.register(Box::new(start_phases.clone()))?;
        let silent = prometheus::IntCounter::new(
            "berth_node_vm_agents_silent_total",
            "Guest agents that were not heard in time while asked.",
        )?;
        registry.register(Box::new(silent.clone()))?;
        let stalls = prometheus::IntCounter::new(
            "berth_node_vm_stalls_total",
            "Times that a container VM was found halted because its disk could not be written.",
        )?;
        registry.register(Box::new(stalls.clone()))?;
        let hypervisors = prometheus::IntGauge::new(
            "berth_node_hypervisor_processes",
            "Machines that run, each one hypervisor process.",
        )?;
        registry.register(Box::new(hypervisors.clone()))?;
        let metrics = VmMetrics {
            states: gauges(
                "berth_node_vm_states",
                "Container VMs that this node runs, by state.",
                &["state"],
            )?,
            start_phases,
            starts: counters(
                "berth_node_vm_starts_total",
                "Runs that began on this node, by outcome.",
                &["outcome"],
            )?,
            exits: counters(
                "berth_node_vm_exits_total",
                "Processes of container VMs that ended, by whether the code was 0.",
                &["result"],
            )?,
            silent,
            stalls,
            hypervisors,
            each: Each::register(registry)?,
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn start_at_zero(&self) {
        for state in STATES {
            self.states.with_label_values(&[state]).set(0);
        }
        for phase in PHASES {
            let _ = self.start_phases.with_label_values(&[phase]);
        }
        for outcome in OUTCOMES {
            self.starts.with_label_values(&[outcome]).reset();
        }
        for result in ["success", "failure"] {
            self.exits.with_label_values(&[result]).reset();
        }
    }

    /// A run went from one state to another; `None` is before and after its life here. Names are those of
    /// [`STATES`].
    pub fn moved(&self, from: Option<&str>, to: Option<&str>) {
        if let Some(from) = from {
            self.states.with_label_values(&[from]).dec();
        }
        if let Some(to) = to {
            self.states.with_label_values(&[to]).inc();
        }
    }

    /// `phase` is one of [`PHASES`].
    pub fn phase_took(&self, phase: &str, seconds: f64) {
        self.start_phases.with_label_values(&[phase]).observe(seconds);
    }

    /// `outcome` is one of [`OUTCOMES`].
    pub fn began(&self, outcome: &str) {
        self.starts.with_label_values(&[outcome]).inc();
    }

    pub fn exited(&self, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.exits.with_label_values(&[result]).inc();
    }

    pub fn agent_silent(&self) {
        self.silent.inc();
    }

    pub fn stalled(&self) {
        self.stalls.inc();
    }

    /// One machine more, or one less.
    pub fn machine_runs(&self, runs: bool) {
        if runs { self.hypervisors.inc() } else { self.hypervisors.dec() }
    }

    pub fn sampled(&self, container: &str, name: &str, sample: &VmSample) {
        let (each, labels) = (&self.each, [container, name]);
        rise(&each.cpu, &labels, sample.cpu_seconds);
        each.memory.with_label_values(&labels).set(sample.memory_bytes as f64);
        each.memory_limit.with_label_values(&labels).set(sample.memory_limit_bytes as f64);
        each.processes.with_label_values(&labels).set(sample.processes as f64);
        rise(&each.disk, &[container, name, "read"], sample.disk_read_bytes as f64);
        rise(&each.disk, &[container, name, "written"], sample.disk_written_bytes as f64);
        rise(&each.network, &[container, name, "received"], sample.received_bytes as f64);
        rise(&each.network, &[container, name, "sent"], sample.sent_bytes as f64);
    }

    pub fn log_size(&self, container: &str, name: &str, bytes: u64) {
        self.each.log.with_label_values(&[container, name]).set(bytes as f64);
    }

    pub fn hypervisor_used(&self, container: &str, name: &str, cpu_seconds: f64, resident: u64) {
        let labels = [container, name];
        rise(&self.each.hypervisor_cpu, &labels, cpu_seconds);
        self.each.hypervisor_memory.with_label_values(&labels).set(resident as f64);
    }

    /// The run is over: its series vanish.
    pub fn forget(&self, container: &str, name: &str) {
        self.each.forget(container, name);
    }
}

/// Brings a counter to what was counted elsewhere. One that fell belongs to a new run.
fn rise(counters: &CounterVec, labels: &[&str], to: f64) {
    let counter = counters.with_label_values(labels);
    let by = to - counter.get();
    if by < 0.0 {
        counter.reset();
        counter.inc_by(to.max(0.0));
    } else {
        counter.inc_by(by);
    }
}

impl Each {
    fn register(registry: &Registry) -> Result<Each, prometheus::Error> {
        let gauges = |name: &str, help: &str, more: &[&str]| {
            let labels = [&EACH[..], more].concat();
            let gauges = GaugeVec::new(Opts::new(name, help), &labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let counters = |name: &str, help: &str, more: &[&str]| {
            let labels = [&EACH[..], more].concat();
            let counters = CounterVec::new(Opts::new(name, help), &labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        Ok(Each {
            cpu: counters(
                "berth_node_vm_cpu_seconds_total",
                "CPU time of the container's processes since they started.",
                &[],
            )?,
            memory: gauges(
                "berth_node_vm_memory_bytes",
                "Memory of the container's processes.",
                &[],
            )?,
            memory_limit: gauges(
                "berth_node_vm_memory_limit_bytes",
                "Memory that the container's processes may use.",
                &[],
            )?,
            processes: gauges("berth_node_vm_processes", "Processes in the container.", &[])?,
            disk: counters(
                "berth_node_vm_disk_bytes_total",
                "Bytes that the container moved from and to its disks, by direction.",
                &["direction"],
            )?,
            network: counters(
                "berth_node_vm_network_bytes_total",
                "Bytes that the container moved over its network, by direction.",
                &["direction"],
            )?,
            log: gauges("berth_node_vm_log_bytes", "Size of the output log of the run.", &[])?,
            hypervisor_cpu: counters(
                "berth_node_vm_hypervisor_cpu_seconds_total",
                "CPU time of the hypervisor process, its guest's work included.",
                &[],
            )?,
            hypervisor_memory: gauges(
                "berth_node_vm_hypervisor_memory_bytes",
                "Resident memory of the hypervisor process, its guest's included.",
                &[],
            )?,
        })
    }

    fn forget(&self, container: &str, name: &str) {
        // A series that was never shown cannot be removed, and that is as well.
        let labels = [container, name];
        for gauges in
            [&self.memory, &self.memory_limit, &self.processes, &self.log, &self.hypervisor_memory]
        {
            let _ = gauges.remove_label_values(&labels);
        }
        for counters in [&self.cpu, &self.hypervisor_cpu] {
            let _ = counters.remove_label_values(&labels);
        }
        for direction in ["read", "written"] {
            let _ = self.disk.remove_label_values(&[container, name, direction]);
        }
        for direction in ["received", "sent"] {
            let _ = self.network.remove_label_values(&[container, name, direction]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_container_vm_vanish_with_it() {
        let registry = Registry::new();
        let metrics = VmMetrics::register(&registry).unwrap();
        let text = || crate::exposition::text(&registry).unwrap();
        let before = text();
        assert!(before.contains("berth_node_vm_states{state=\"running\"} 0"), "{before}");
        assert!(registry.gather().iter().all(|family| family.name().starts_with("berth_node_")));

        metrics.sampled("abc", "web", &VmSample { sent_bytes: 7, ..VmSample::default() });
        metrics.hypervisor_used("abc", "web", 1.0, 2);
        metrics.log_size("abc", "web", 3);
        let during = text();
        let series = "berth_node_vm_network_bytes_total{container=\"abc\",direction=\"sent\",name=\"web\"} 7";
        assert!(during.contains(series), "{during}");

        metrics.forget("abc", "web");
        assert_eq!(text(), before);
    }
}
