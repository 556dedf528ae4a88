//! `berth up`: a whole cell on one machine, as real processes.
//!
//! ```text
//!  lock state ─► check tools ─► identity ─► adopt what runs ─► network ─► certificates, configs
//!      ─► start what is missing ─► wait until ready ─► supervise ─► (Ctrl-C, berth down) take down
//! ```
//! Promises: what cannot work is said before anything is made; a start that fails leaves nothing
//! behind that it made; killed at any point, the next `up` finds and adopts what runs and `down`
//! finds and removes what is left; state comes back.
//! Does not: act on more than this machine.

pub mod api;
pub mod arguments;
pub mod cell_file;
mod certificates;
mod configs;
pub mod down;
mod firewall;
mod guests;
pub mod identity;
pub mod isolation;
mod launch;
mod machine;
pub mod mark;
mod members;
mod network;
mod plan;
mod ports;
pub mod progress;
mod resolver;
mod shell;
mod signals;
pub mod state;
mod subnet;
mod summary;
mod tools;

use crate::logging::LogFormat;
use anyhow::{Context, Result, bail};
use arguments::UpArguments;
use cell_file::CellFile;
use identity::{Identity, Wanted};
use isolation::Isolation;
use members::Members;
use progress::{Progress, line};
use resolver::Resolver;
use signals::{Call, Signals};
use state::StateLock;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// From the first process to a cell that serves; the probe of the accelerator, which boots a guest,
/// is in it.
const READY_LIMIT: Duration = Duration::from_secs(150);

/// Brings a cell up and, unless detached, stays until it is taken down.
pub async fn up(arguments: UpArguments, log_format: LogFormat) -> Result<()> {
    arguments.validate()?;
    let mut signals = Signals::listen()?;
    let mut progress = Progress::new();
    let (state, made) = state::open(arguments.state.clone())?;
    let lock = StateLock::take_or_fail(&state)?;
    let prepared = prepare(&arguments, &state, &mut progress, log_format);
    if prepared.is_err() && made {
        state::discard_unused(&state);
    }
    let mut run = prepared?;
    let started = tokio::select! {
        started = start(&mut run, &arguments, &mut progress) => started,
        call = signals.next() => match call {
            Call::TakeDown => Err(anyhow::anyhow!("interrupted")),
            Call::LetGo => Err(anyhow::anyhow!("interrupted by `berth down`")),
        },
    };
    if let Err(error) = started {
        undo(run, &mut progress).await;
        return Err(error);
    }
    summary::print(&state, &run.cell, run.adopted);
    if arguments.detach {
        drop(lock);
        return detach(&state).await;
    }
    line("\nCtrl-C, or `berth down` from elsewhere, stops the container VMs and ends the cell.");
    let call = supervise(&mut run, &mut signals).await;
    match call {
        Call::TakeDown => down::take_down(&state, &run.cell, &mut progress, &mut signals).await,
        Call::LetGo => {
            line("handed over to `berth down`");
            Ok(())
        }
    }
}

/// A cell on its way up.
struct Run {
    state: PathBuf,
    identity: Identity,
    cell: CellFile,
    resolver: Resolver,
    machine: Option<network::MachineLock>,
    members: Members,
    /// How many processes ran already.
    adopted: usize,
    /// Whether the network was there before.
    network_was_there: bool,
}

/// Everything that changes nothing but files under the state directory.
fn prepare(
    arguments: &UpArguments,
    state: &Path,
    progress: &mut Progress,
    log_format: LogFormat,
) -> Result<Run> {
    progress.begin("tools");
    let simulated = arguments.simulated();
    tools::require(simulated)?;
    if !simulated {
        tools::require_assets(&arguments.assets()?)?;
    }
    progress.done(if simulated { "hypervisor is simulated" } else { "all there" });

    progress.begin("cell");
    let before = CellFile::read(state)?;
    let wanted = Wanted {
        replicas: arguments.replicas,
        hosts: arguments.hosts,
        clusters: arguments.clusters(),
    };
    let identity = Identity::load_or_create(state, &wanted)?;
    let (isolation, reason) = isolation::decide(arguments.isolation)?;
    let network_was_there = network::exists(&arguments.name);
    // From the choice of a subnet until it is taken.
    let machine = match isolation {
        Isolation::Namespaces => Some(network::lock_machine()?),
        Isolation::Processes => None,
    };
    let resolver = resolver::look();
    let basis = plan::Basis {
        identity: &identity,
        name: &arguments.name,
        state,
        ports: ports::Ports::new(arguments.port_base)?,
        port_base: arguments.port_base,
        subnet: match isolation {
            Isolation::Namespaces => Some(subnet(arguments, before.as_ref(), network_was_there)?),
            Isolation::Processes => None,
        },
        resolver: &resolver,
    };
    let mut cell = basis.plan();
    require_short_paths(&cell)?;
    require_same(before.as_ref(), &cell)?;
    let mut members = Members::new(log_format);
    let adopted = members.adopt(&mut cell)?;
    require_free_ports(&cell)?;
    progress.done(format!("{} in {}", cell.cell, state.display()));
    if let Some(reason) = reason {
        progress.note(format!(
            "hosts are plain processes on loopback, for want of namespaces: {reason}"
        ));
    }
    if adopted > 0 {
        progress.note(format!("{adopted} of its processes run already and are adopted"));
    }
    let state = state.to_owned();
    Ok(Run { state, identity, cell, resolver, machine, members, adopted, network_was_there })
}

/// The subnet of before if it is still there, else a free one.
fn subnet(
    arguments: &UpArguments,
    before: Option<&CellFile>,
    network_is_there: bool,
) -> Result<subnet::Subnet> {
    let ours = before.filter(|cell| cell.name == arguments.name).and_then(|cell| cell.subnet);
    match ours {
        Some(subnet) if network_is_there => Ok(subnet),
        None if network_is_there => bail!(
            "a bridge {} is on this machine and not of this state directory: another cell has this \
             name; choose another --name",
            network::bridge(&arguments.name)
        ),
        Some(_) | None => network::choose_subnet(&arguments.name),
    }
}

/// The processes of a host speak over sockets in its run directory, and the kernel takes paths of
/// sockets up to 107 bytes.
fn require_short_paths(cell: &CellFile) -> Result<()> {
    const LONGEST: &str = "keeper.sock";
    for host in &cell.hosts {
        let length = host.run.join(LONGEST).as_os_str().len();
        if length > 107 {
            bail!(
                "{} is too long by {} bytes for the path of a socket; choose a shorter --state",
                host.run.join(LONGEST).display(),
                length - 107
            );
        }
    }
    Ok(())
}

/// What runs must be what is asked for, for adopted processes keep their configuration.
fn require_same(before: Option<&CellFile>, wanted: &CellFile) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    if before.processes.iter().all(|process| process.running().is_none())
        && before.name == wanted.name
    {
        return Ok(());
    }
    let differs = [
        ("--name", before.name != wanted.name),
        ("--port-base", before.port_base != wanted.port_base),
        ("--isolation", before.isolation != wanted.isolation),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((option, _)) => bail!(
            "a cell runs from this state directory with another {option} ({}, ports from {}, {}); \
             `berth down` it first, or use the same",
            before.name,
            before.port_base,
            before.isolation.name()
        ),
    }
}

/// Only what listens in the machine's own namespace can be tried from here; in a namespace of ours
/// there is nobody else.
fn require_free_ports(cell: &CellFile) -> Result<()> {
    let on_machine = cell
        .processes
        .iter()
        .filter(|process| process.namespace.is_none() && process.running().is_none());
    let mut wanted: Vec<std::net::SocketAddr> = on_machine
        .flat_map(|process| process.addresses.values().copied())
        .map(|address| match cell.isolation {
            Isolation::Processes => address,
            // The bridge's address may not be there yet; the port is what must be free.
            Isolation::Namespaces => (std::net::Ipv4Addr::LOCALHOST, address.port()).into(),
        })
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let advice = format!(
        "end what uses it, or choose another --port-base (now {}, {} ports from there on)",
        cell.port_base,
        ports::SPAN
    );
    ports::require_free(&wanted, &advice)
}

/// Makes the network, starts the processes and waits for them.
async fn start(run: &mut Run, arguments: &UpArguments, progress: &mut Progress) -> Result<()> {
    let state = run.state.clone();
    run.identity.save(&state)?;
    run.cell.write(&state)?;
    configs::make_directories(&state, &run.cell)?;

    progress.begin("certificates");
    let authority = certificates::authority(&state, &run.cell.cell.to_string())?;
    certificates::issue(&state, &authority, &run.cell)?;
    let share = machine::share(arguments.hosts, arguments.host_cpus, arguments.host_memory_mib)?;
    let choices = configs::Choices {
        clusters: arguments.clusters(),
        assets: arguments.assets()?,
        hypervisor: arguments.hypervisor.into(),
        host_cpu_milli: share.cpu_milli,
        host_memory_mib: share.memory_mib,
    };
    configs::write(&state, &run.cell, &choices)?;
    run.resolver.write(&state)?;
    progress.done("mutual TLS between all processes");

    progress.begin("network");
    match run.cell.subnet.zip(run.machine.take()) {
        None => {
            progress.done(
                "hosts share this machine's; guests reach nothing outside, for they would also reach \
                 its loopback",
            );
        }
        Some((subnet, machine)) => {
            let network =
                network::Network { name: run.cell.name.clone(), subnet, hosts: arguments.hosts };
            let nodes: Vec<u16> = run.cell.addresses("nodes").map(|nodes| nodes.port()).collect();
            let mut notes = network.set_up(&machine, &nodes, &run.resolver)?.into_iter();
            progress.done(notes.next().unwrap_or_default());
            notes.for_each(|note| progress.note(note));
        }
    }

    progress.begin("processes");
    run.members.start_missing(&mut run.cell)?;
    run.cell.write(&state)?;
    let started = run.members.started(&run.cell).len();
    progress.done(format!(
        "{started} started: {}, {} of node, keeper and switch ({})",
        summary::count(run.cell.addresses("api").count(), "scheduler"),
        summary::count(run.cell.hosts.len(), "host"),
        share
    ));
    share.note.iter().for_each(|note| progress.note(note));

    let Run { cell, members, .. } = run;
    tokio::select! {
        ready = api::wait_ready(cell, READY_LIMIT, progress) => ready,
        loss = members.first_loss(cell) => Err(loss),
    }
}

/// After a start that failed: ends what it started, and leaves alone what ran before.
async fn undo(mut run: Run, progress: &mut Progress) {
    // Taking the network down takes the lock itself.
    drop(run.machine.take());
    progress.begin("undo");
    let started = run.members.started(&run.cell);
    let mut failures = Vec::new();
    if let Err(error) = members::stop(&started, Duration::from_secs(10)).await {
        failures.push(format!("{error:#}"));
    }
    if run.adopted == 0 && !run.network_was_there {
        failures.extend(guests::power_off(&run.cell).await.err().map(|e| format!("{e:#}")));
        failures.extend(down::remove_network(&run.cell).err().map(|e| format!("{e:#}")));
        if failures.is_empty() {
            failures.extend(down::forget(&run.state, &run.cell).err().map(|e| format!("{e:#}")));
        }
    }
    match failures.is_empty() {
        true => progress.done("ended what was started; the state stays"),
        false => progress.done(format!(
            "{}; `berth down --state {}` tries again",
            failures.join("; "),
            run.state.display()
        )),
    }
}

/// Watches over the processes until a signal says otherwise.
async fn supervise(run: &mut Run, signals: &mut Signals) -> Call {
    let Run { state, cell, members, .. } = run;
    let report = |cell: &CellFile, text: &str| {
        line(text);
        if let Err(error) = cell.write(state) {
            line(&format!("{error:#}"));
        }
    };
    tokio::select! {
        () = members.keep_alive(cell, report) => Call::TakeDown,
        call = signals.next() => call,
    }
}

/// Starts a supervisor in the background, which adopts everything, and waits until it has.
async fn detach(state: &Path) -> Result<()> {
    let path = state.join("log/up.log");
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach");
    let child = Command::new(launch::own_program()?)
        .args(arguments)
        .arg("--own-session")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot duplicate a log file")?)
        .stderr(log)
        .spawn()
        .context("cannot start the supervisor")?;
    let mark = mark::Mark::of(child.id())?.context("the supervisor ended at once")?;
    StateLock::handed_to(state, &mark, Duration::from_secs(30))
        .await
        .context("the supervisor in the background did not take over")?;
    line(&format!(
        "\nberth goes on in the background (pid {}, log {}); `berth down --state {}` ends it",
        mark.pid,
        path.display(),
        state.display()
    ));
    Ok(())
}
