//! A hypervisor without machines: each container VM plays a script, for benchmarks, simulations and the
//! tests of the actor.
//!
//! The script is the container's command, steps separated by `;`, a leading `sh -c` ignored:
//!
//! | step | does |
//! |---|---|
//! | `print TEXT`, `warn TEXT` | one line on stdout, stderr |
//! | `sleep SECONDS` | waits, by the runtime's clock, which tests may hold |
//! | `cat` | stdin to stdout, until stdin ends |
//! | `exit CODE` | ends the process |
//! | `stubborn` | from now on no signal but SIGKILL ends it |
//! | `immortal` | not even that |
//! | `vanish` | the machine ends without a word |
//! | `fail-launch`, `never-ready`, `fail-setup`, `missing`, `mute` | the machine does not start, the agent never comes, the surroundings cannot be made, the program is not found, the agent falls silent |
//!
//! Anything else runs until a signal ends it. The guest's half of the protocol is the real one.
//!
//! NUMA nodes and shares are taken and kept, and change nothing.
//!
//! Promises: what [`Hypervisor`] promises, within one process. Does not: outlive it.

mod guest;
mod script;

use super::{
    BootSlot, Deadlines, Ended, GuestStream, Hypervisor, LaunchError, LaunchPlan, MonitorError,
    ProcessUsage, RunningVm, until_ended,
};
use berth_model::Bytes;
use berth_model::host::Accelerator;
use dashmap::DashMap;
use script::{Script, Step};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};

/// What a connection to the agent's port holds on its way.
const PIPE: usize = 64 << 10;

#[derive(Debug)]
pub struct Simulated {
    deadlines: Deadlines,
    log_limit: Bytes,
    machines: DashMap<PathBuf, Arc<SimulatedVm>>,
}

impl Simulated {
    pub fn new(deadlines: Deadlines, log_limit: Bytes) -> Simulated {
        Simulated { deadlines, log_limit, machines: DashMap::new() }
    }

    /// What was ordered of the machine last launched in `run_directory`.
    pub fn plan_in(&self, run_directory: &Path) -> Option<LaunchPlan> {
        self.machines.get(run_directory).map(|machine| machine.plan.clone())
    }

    /// How many machines run.
    pub fn running(&self) -> usize {
        self.machines.iter().filter(|machine| machine.ended.borrow().is_none()).count()
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Simulated::new(Deadlines::default(), Bytes::gib(1))
    }
}

#[async_trait::async_trait]
impl Hypervisor for Simulated {
    fn description(&self) -> String {
        "simulated".to_owned()
    }

    fn accelerator(&self) -> Accelerator {
        Accelerator::Simulated
    }

    fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    fn log_limit(&self) -> Bytes {
        self.log_limit
    }

    /// Nothing runs, so nothing is short; orders are kept, see [`Simulated::plan_in`].
    fn weighs(&self) -> bool {
        true
    }

    async fn prepare(&self, _plan: &LaunchPlan) -> Result<(), LaunchError> {
        Ok(())
    }

    async fn boot_slot(&self) -> BootSlot {
        BootSlot::default()
    }

    async fn launch(&self, plan: &LaunchPlan) -> Result<Arc<dyn RunningVm>, LaunchError> {
        let script = Script::of(&plan.spec);
        if script.begins_with(Step::FailLaunch) {
            return Err(LaunchError::NotStarted { last_words: "the script says so".to_owned() });
        }
        let (links, connections) = mpsc::unbounded_channel();
        let (tell, ended) = watch::channel(None);
        let (cut, power) = watch::channel(true);
        let vm = Arc::new(SimulatedVm {
            plan: plan.clone(),
            links,
            ended,
            power: cut,
            executing: AtomicBool::new(true),
        });
        self.machines.insert(plan.run_directory.clone(), vm.clone());
        let log = plan.log.clone();
        tokio::spawn(async move {
            let by_guest = guest::run(script, &log, connections, power).await;
            tell.send_replace(Some(Ended { by_guest, last_words: String::new() }));
        });
        Ok(vm)
    }

    async fn adopt(
        &self,
        run_directory: &Path,
        _name: &str,
    ) -> Result<Option<Arc<dyn RunningVm>>, LaunchError> {
        let known = self.machines.get(run_directory).map(|machine| machine.value().clone());
        let living = known.filter(|machine| machine.ended.borrow().is_none());
        Ok(living.map(|machine| machine as Arc<dyn RunningVm>))
    }
}

#[derive(Debug)]
struct SimulatedVm {
    plan: LaunchPlan,
    links: mpsc::UnboundedSender<DuplexStream>,
    ended: watch::Receiver<Option<Ended>>,
    power: watch::Sender<bool>,
    executing: AtomicBool,
}

#[async_trait::async_trait]
impl RunningVm for SimulatedVm {
    async fn guest_link(&self) -> io::Result<Box<dyn GuestStream>> {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.links.send(theirs).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(Box::new(ours))
    }

    async fn ended(&self) -> Ended {
        until_ended(self.ended.clone()).await
    }

    async fn power_off(&self) {
        self.power.send_replace(false);
    }

    async fn executing(&self) -> Result<bool, MonitorError> {
        Ok(self.executing.load(Ordering::Relaxed))
    }

    async fn unstall(&self) -> Result<bool, MonitorError> {
        Ok(false)
    }

    /// Scripts play on; only what [`Self::executing`] answers changes.
    async fn pause(&self) -> Result<(), MonitorError> {
        self.executing.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn resume(&self) -> Result<(), MonitorError> {
        self.executing.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn usage(&self) -> Option<ProcessUsage> {
        None
    }
}
