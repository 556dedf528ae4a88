//! Starts one process of the cell so that it outlives whoever started it.
//!
//! The child makes a session of its own (`--own-session`), so that a Ctrl-C at the terminal reaches
//! `berth up` alone; its output goes to its log file, never to a pipe that could break.

use super::cell_file::Process;
use super::mark::Mark;
use super::tools;
use crate::config::ENVIRONMENT_PREFIX;
use crate::logging::LogFormat;
use anyhow::{Context, Result};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts `process` and writes its pid file.
pub fn launch(process: &Process, log_format: LogFormat) -> Result<(Child, Mark)> {
    let label = process.label();
    let log = File::options()
        .create(true)
        .append(true)
        .open(&process.log)
        .with_context(|| format!("cannot open {}", process.log.display()))?;
    let mut command = match &process.resolv_conf {
        None => Command::new(own_program()?),
        Some(resolv_conf) => with_resolv_conf(resolv_conf, &own_program()?),
    };
    command
        .args(["--log-format", log_format.name()])
        .args([process.kind.name(), "--own-session", "--config"])
        .arg(&process.config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot duplicate a log file")?)
        .stderr(log);
    // What is meant for one process would be an unknown key to the next.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(ENVIRONMENT_PREFIX) {
            command.env_remove(name);
        }
    }
    command.env("PATH", tools::search_path());
    let mut child = match &process.namespace {
        None => command.spawn().with_context(|| format!("cannot start {label}"))?,
        Some(namespace) => spawn_inside(&mut command, namespace)
            .with_context(|| format!("cannot start {label} in namespace {namespace}"))?,
    };
    let Some(mark) = Mark::of(child.id())? else {
        let status = child.wait().with_context(|| format!("cannot wait for {label}"))?;
        anyhow::bail!("{label} ended at once with {status}; see {}", process.log.display());
    };
    mark.write(&process.pid_file)?;
    Ok((child, mark))
}

/// A command that sees `resolv_conf` in place of the machine's and then becomes `program`, under
/// the same process id. Mounts of the machine go on to arrive, for datastores may be among them.
fn with_resolv_conf(resolv_conf: &Path, program: &Path) -> Command {
    const SCRIPT: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "slave", "--", "sh", "-c", SCRIPT]);
    command.arg(resolv_conf).arg(program);
    command
}

/// This program as a file. It may have been replaced since; then the running one is still found.
pub fn own_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("cannot find the berth program")?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

/// A child is born into the namespaces of the thread that starts it; so a thread goes there first.
/// Only the network is another: files and control groups stay those of the machine.
fn spawn_inside(command: &mut Command, namespace: &str) -> Result<Child> {
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    let spawned = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                rustix::thread::move_into_link_name_space(
                    file.as_fd(),
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )?;
                command.spawn()
            })
            .join()
    });
    match spawned {
        Ok(child) => Ok(child?),
        Err(_) => anyhow::bail!("the thread that starts it panicked"),
    }
}

/// The last lines of a log, for an error message.
pub fn log_tail(process: &Process) -> String {
    let bytes = std::fs::read(&process.log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(8192)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
