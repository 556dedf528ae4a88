//! QEMU as the hypervisor: one process a container VM, each in a session of its own.
//!
//! | file | holds |
//! |---|---|
//! | `command_line` | what QEMU is told; pure |
//! | `confinement` | NUMA nodes and control groups of its process |
//! | `delta` | delta disks from blanks |
//! | `process` | the process: start, find again, end |
//! | `sockets` | its sockets, under paths of any length |
//! | `qmp` | its monitor |
//! | `running` | these together, as one running machine |
//! | `kernel_image` | the guest's kernel, unpacked for translated guests |
//! | `probe` | whether KVM really runs a guest here |
//!
//! Promises: what [`Hypervisor`] promises. Every launch checks again that the guest's kernel is there,
//! for a node lives longer than a package.

pub mod command_line;
pub mod confinement;
mod delta;
mod kernel_image;
mod probe;
mod process;
mod program;
mod qmp;
mod running;
mod sockets;
mod tsc;

use super::{BootSlot, Deadlines, Hypervisor, LaunchError, LaunchPlan, MonitorError, RunningVm};
use berth_model::Bytes;
use berth_model::host::Accelerator;
use command_line::{Listeners, Machine, UserNetwork};
use confinement::{Binding, Confiner, Entrance, Hold};
use process::SpawnError;
use running::QemuVm;
use std::ffi::OsString;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How a node that was started again waits for a monitor that may be busy with its predecessor's end.
const MONITOR_LIMIT: Duration = Duration::from_secs(10);

/// How a start says that its process could not be held on processors.
const NOT_HELD: &str = "its process cannot be held on the processors of its nodes";

/// What an operator decides about QEMU on a host.
#[derive(Clone, Debug)]
pub struct QemuOptions {
    pub program: PathBuf,
    pub image_tool: PathBuf,
    /// `mkfs.ext4`.
    pub format_tool: PathBuf,
    /// Holds `vmlinuz` and `initramfs.img`.
    pub assets: PathBuf,
    /// Keeps what the probe found.
    pub state_directory: PathBuf,
    pub accelerator: AcceleratorChoice,
    pub user_network: UserNetwork,
    pub deadlines: Deadlines,
    /// Most bytes of output in the log of one run.
    pub log_limit: Bytes,
    pub confiner: Confiner,
}

impl QemuOptions {
    /// Defaults for a host whose guests' kernel lies in `assets`.
    pub fn new(assets: PathBuf, state_directory: PathBuf) -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            image_tool: "qemu-img".into(),
            format_tool: "mkfs.ext4".into(),
            assets,
            state_directory,
            accelerator: AcceleratorChoice::Probe,
            user_network: UserNetwork::Open,
            deadlines: Deadlines::default(),
            log_limit: Bytes::gib(1),
            confiner: Confiner::without_groups(),
        }
    }
}

/// How the accelerator is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceleratorChoice {
    /// A guest is booted under KVM; if it does not come up in time, guests are translated.
    #[default]
    Probe,
    Kvm,
    Tcg,
}

/// This host's QEMU, and what was found out about it.
#[derive(Debug)]
pub struct Qemu {
    options: QemuOptions,
    version: String,
    machine: Machine,
    boots: Arc<Semaphore>,
}

impl Qemu {
    /// Asks QEMU what it is, and finds out how guests are executed.
    pub async fn open(options: QemuOptions) -> Result<Arc<Qemu>, LaunchError> {
        let kernel = asset(&options.assets, "kernel", "vmlinuz")?;
        let initramfs = asset(&options.assets, "initramfs", "initramfs.img")?;
        let version = version(&options.program).await?;
        let machine_type = newest_q35(&options.program).await?;
        let mut machine = Machine {
            machine_type,
            accelerator: Accelerator::Tcg,
            kernel,
            initramfs,
            tsc_khz: None,
            user_network: options.user_network,
        };
        machine.accelerator = match options.accelerator {
            AcceleratorChoice::Kvm => Accelerator::Kvm,
            AcceleratorChoice::Tcg => Accelerator::Tcg,
            AcceleratorChoice::Probe => probe::accelerator(&options, &machine, &version).await,
        };
        if machine.accelerator == Accelerator::Tcg {
            machine.kernel = unpacked(&options, machine.kernel).await;
        }
        machine.tsc_khz = tsc::measure_khz().await;
        tracing::info!(%version, ?machine, "hypervisor is ready");
        let boots = Arc::new(Semaphore::new(boots_at_once(machine.accelerator)));
        Ok(Arc::new(Qemu { options, version, machine, boots }))
    }

    fn makers(&self) -> delta::Makers {
        delta::Makers {
            image_tool: self.options.image_tool.clone(),
            format_tool: self.options.format_tool.clone(),
        }
    }
}

#[async_trait::async_trait]
impl Hypervisor for Qemu {
    fn description(&self) -> String {
        format!("qemu {} ({})", self.version, self.machine.machine_type)
    }

    fn accelerator(&self) -> Accelerator {
        self.machine.accelerator
    }

    fn deadlines(&self) -> Deadlines {
        self.options.deadlines
    }

    fn log_limit(&self) -> Bytes {
        self.options.log_limit
    }

    fn weighs(&self) -> bool {
        self.options.confiner.weighs()
    }

    async fn prepare(&self, plan: &LaunchPlan) -> Result<(), LaunchError> {
        asset(&self.options.assets, "kernel", "vmlinuz")?;
        asset(&self.options.assets, "initramfs", "initramfs.img")?;
        if !self.machine.kernel.is_file() {
            let path = self.machine.kernel.clone();
            return Err(LaunchError::AssetMissing { what: "kernel", path });
        }
        if !plan.base.exists() {
            return Err(LaunchError::BaseMissing(plan.base.clone()));
        }
        delta::make(&self.makers(), &plan.datastore, &plan.delta, plan.delta_size).await
    }

    async fn boot_slot(&self) -> BootSlot {
        // Never closed; and without a turn a boot is only slower.
        BootSlot(self.boots.clone().acquire_owned().await.ok())
    }

    async fn launch(&self, plan: &LaunchPlan) -> Result<Arc<dyn RunningVm>, LaunchError> {
        let machine = &self.machine;
        let binding = Binding::to(&plan.numa)?;
        let overhead = crate::facts::overhead(machine.accelerator);
        let confined = self.options.confiner.confine(plan, overhead, binding.as_ref()).await?;
        let (program, run_directory) = (&self.options.program, &plan.run_directory);
        let vm = launch(program, run_directory, MONITOR_LIMIT, confined, |listeners| {
            command_line::words(machine, plan, listeners)
        })
        .await
        .map_err(|error| not_bound(in_use(error, &plan.delta), &plan.numa))?;
        if let Some(binding) = binding
            && let Err(error) = bind(&vm, &binding, plan).await
        {
            vm.power_off().await;
            vm.ended().await;
            return Err(error);
        }
        Ok(Arc::new(vm))
    }

    async fn adopt(
        &self,
        run_directory: &Path,
        name: &str,
    ) -> Result<Option<Arc<dyn RunningVm>>, LaunchError> {
        let found = process::find(run_directory, name)
            .map_err(LaunchError::io("look for the hypervisor of", run_directory))?;
        let Some(process) = found else {
            confinement::forget(run_directory).await;
            return Ok(None);
        };
        let connected = tokio::select! {
            connected = Monitor::connect(run_directory, MONITOR_LIMIT) => connected,
            () = process.ended() => {
                confinement::forget(run_directory).await;
                return Ok(None);
            }
        };
        let monitor = match connected {
            Ok(monitor) => Some(monitor),
            // Frozen, perhaps: it holds the disk all the same, and can still be killed.
            Err(error) => {
                let pid = process.pid();
                tracing::warn!(pid, %error, "a hypervisor of an earlier node does not answer");
                None
            }
        };
        let hold = self.options.confiner.resume(run_directory, name).await;
        Ok(Some(Arc::new(QemuVm::new(process, monitor, run_directory, hold))))
    }
}

use process::Process;
use qmp::Monitor;

/// Starts QEMU in `run_directory` and waits until its monitor answers; else nothing is left running.
async fn launch(
    program: &Path,
    run_directory: &Path,
    limit: Duration,
    (entrance, hold): (Entrance, Hold),
    words: impl FnOnce(Listeners) -> Vec<OsString>,
) -> Result<QemuVm, LaunchError> {
    match start(program, run_directory, limit, entrance, words).await {
        Ok((process, monitor)) => Ok(QemuVm::new(process, Some(monitor), run_directory, hold)),
        Err(error) => {
            hold.release().await;
            Err(error)
        }
    }
}

async fn start(
    program: &Path,
    run_directory: &Path,
    limit: Duration,
    entrance: Entrance,
    words: impl FnOnce(Listeners) -> Vec<OsString>,
) -> Result<(Process, Monitor), LaunchError> {
    let listen = |name| {
        sockets::listen(run_directory, name).map_err(LaunchError::io("listen in", run_directory))
    };
    let inherited =
        [listen(sockets::AGENT)?, listen(sockets::MONITOR)?, listen(sockets::DEBUG_MONITOR)?];
    let listeners = Listeners {
        agent: inherited[0].as_raw_fd(),
        monitor: inherited[1].as_raw_fd(),
        debug_monitor: inherited[2].as_raw_fd(),
    };
    let words = words(listeners);
    let process = process::spawn(program, &words, run_directory, &inherited, entrance)
        .map_err(|error| not_spawned(error, program, run_directory))?;
    drop(inherited);
    let connected = tokio::select! {
        // Its end says more than the broken connection.
        biased;
        () = process.ended() => Err(None),
        connected = Monitor::connect(run_directory, limit) => connected.map_err(Some),
    };
    match connected {
        Ok(monitor) => Ok((process, monitor)),
        Err(trouble) => {
            if let Err(error) = process.signal(rustix::process::Signal::KILL) {
                tracing::error!(pid = process.pid(), %error, "cannot kill the hypervisor");
            }
            process.ended().await;
            let last_words = program::last_lines_of(&run_directory.join(process::WORDS_FILE), 3);
            Err(match trouble {
                Some(MonitorError::Closed | MonitorError::Io(_)) | None => {
                    LaunchError::NotStarted { last_words }
                }
                Some(error) => LaunchError::Monitor(error),
            })
        }
    }
}

/// Holds the virtual CPUs where their memory is.
async fn bind(vm: &QemuVm, binding: &Binding, plan: &LaunchPlan) -> Result<(), LaunchError> {
    let monitor = vm.monitor().await.map_err(LaunchError::Monitor)?;
    binding.hold(&monitor, plan.vcpus).await?;
    let (container, epoch) = (plan.container, plan.epoch);
    tracing::info!(%container, %epoch, numa = ?plan.numa, "container VM is bound to NUMA nodes");
    Ok(())
}

fn not_spawned(error: SpawnError, program: &Path, run_directory: &Path) -> LaunchError {
    match error {
        SpawnError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            LaunchError::ProgramMissing {
                program: program.display().to_string(),
                package: "qemu-system-x86",
            }
        }
        SpawnError::Io(error) => LaunchError::io("start a hypervisor in", run_directory)(error),
        SpawnError::Bind(error) => {
            LaunchError::NotStarted { last_words: format!("{NOT_HELD}: {error}") }
        }
        SpawnError::Join(error) => LaunchError::NotStarted {
            last_words: format!("it cannot be put into its control group: {error}"),
        },
    }
}

/// QEMU tells of memory that it cannot bind only in words.
fn not_bound(error: LaunchError, numa: &[u16]) -> LaunchError {
    if let LaunchError::NotStarted { last_words } = &error
        && !numa.is_empty()
        && [NOT_HELD, "host-nodes", "NUMA"].iter().any(|word| last_words.contains(word))
    {
        return LaunchError::Numa { nodes: numa.to_vec(), reason: last_words.clone() };
    }
    error
}

/// QEMU tells of a disk that another process holds only in words.
fn in_use(error: LaunchError, delta: &Path) -> LaunchError {
    if let LaunchError::NotStarted { last_words } = &error
        && (last_words.contains("Failed to get \"write\" lock")
            || last_words.contains("Failed to get shared \"write\" lock"))
    {
        return LaunchError::DiskInUse(delta.to_owned());
    }
    error
}

/// A translated boot keeps one processor busy from end to end; more at once only make each later, and
/// the last one miss its deadline. With the hardware's help it mostly waits.
fn boots_at_once(accelerator: Accelerator) -> usize {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
    match accelerator {
        Accelerator::Tcg | Accelerator::Simulated => processors,
        Accelerator::Kvm => processors * 4,
    }
}

/// The faster form of a kernel, if it can be had.
async fn unpacked(options: &QemuOptions, vmlinuz: PathBuf) -> PathBuf {
    let (source, state_directory) = (vmlinuz.clone(), options.state_directory.clone());
    let made =
        tokio::task::spawn_blocking(move || kernel_image::unpacked(&source, &state_directory));
    match made.await.map_err(std::io::Error::other).and_then(|made| made) {
        Ok(made) => made.unwrap_or(vmlinuz),
        Err(error) => {
            tracing::warn!(kernel = %vmlinuz.display(), %error, "cannot unpack the guest's kernel");
            vmlinuz
        }
    }
}

fn asset(assets: &Path, what: &'static str, name: &str) -> Result<PathBuf, LaunchError> {
    let path = assets.join(name);
    if path.is_file() { Ok(path) } else { Err(LaunchError::AssetMissing { what, path }) }
}

async fn version(program: &Path) -> Result<String, LaunchError> {
    let said = program::output(program, "qemu-system-x86", ["--version"]).await?;
    let said = String::from_utf8_lossy(&said);
    // `QEMU emulator version 7.2.22 (Debian …)`
    let version = said.split_whitespace().nth(3).unwrap_or("of unknown version");
    Ok(version.to_owned())
}

/// The newest versioned q35, which is what a bare `q35` stands for today.
async fn newest_q35(program: &Path) -> Result<String, LaunchError> {
    let said = program::output(program, "qemu-system-x86", ["-machine", "help"]).await?;
    let said = String::from_utf8_lossy(&said);
    alias_of_q35(&said).ok_or_else(|| LaunchError::ProgramFailed {
        program: program.display().to_string(),
        last_words: "it knows no machine type q35".to_owned(),
    })
}

fn alias_of_q35(help: &str) -> Option<String> {
    help.lines()
        .find(|line| line.split_whitespace().next() == Some("q35"))
        .and_then(|line| line.split_once("(alias of "))
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_type_is_the_pinned_one() {
        let help = "Supported machines are:\n\
                    pc                   Standard PC (i440FX) (alias of pc-i440fx-7.2)\n\
                    q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n\
                    pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)\n";
        assert_eq!(alias_of_q35(help).as_deref(), Some("pc-q35-7.2"));
        assert_eq!(alias_of_q35("pc  Standard PC (alias of pc-i440fx-7.2)"), None);
    }

    #[tokio::test]
    async fn a_missing_kernel_is_named_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let options = QemuOptions::new(directory.path().into(), directory.path().into());
        let text = Qemu::open(options).await.unwrap_err().to_string();
        let path = directory.path().join("vmlinuz");
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains("cargo xtask assets"), "{text}");
    }

    #[tokio::test]
    async fn a_hypervisor_that_does_not_start_is_quoted_and_gone() {
        let directory = tempfile::tempdir().unwrap();
        let free = Default::default();
        let started =
            launch(Path::new("qemu-system-x86_64"), directory.path(), MONITOR_LIMIT, free, |_| {
                vec!["-machine".into(), "no-such-machine".into()]
            })
            .await;
        let text = started.unwrap_err().to_string();
        assert!(text.starts_with("the hypervisor did not start:"), "{text}");
        assert!(text.contains("no-such-machine") || text.contains("unsupported machine"), "{text}");
    }

    #[test]
    fn memory_that_qemu_cannot_bind_is_told_as_stale_facts() {
        let said = || LaunchError::NotStarted {
            last_words: "cannot bind memory to host NUMA nodes: Invalid argument".to_owned(),
        };
        let text = not_bound(said(), &[1]).to_string();
        assert!(
            text.starts_with("container VM was placed on NUMA nodes [1], but cannot"),
            "{text}"
        );
        assert!(matches!(not_bound(said(), &[]), LaunchError::NotStarted { .. }));
    }
}
