//! Container VMs that outlived their nodes: found by what is left of them on the machine, ended.
//!
//! The clean way is through the API; this is for what that could not reach.

use super::cell_file::CellFile;
use super::mark::Mark;
use super::members::ended_within;
use anyhow::Result;
use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;

/// Ends every hypervisor of the cell that still runs, at once; answers how many.
pub async fn power_off(cell: &CellFile) -> Result<usize> {
    let left = running(cell)?;
    for mark in &left {
        mark.signal(Signal::KILL)?;
    }
    for mark in &left {
        anyhow::ensure!(
            ended_within(mark, Duration::from_secs(10)).await?,
            "the hypervisor with pid {} cannot be ended",
            mark.pid
        );
    }
    Ok(left.len())
}

/// Hypervisors of this cell: programs called qemu-… that name one of its run directories.
fn running(cell: &CellFile) -> Result<Vec<Mark>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Whatever ends while it is looked at is not left over.
        let Ok(command_line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let working_directory = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let ours = cell
            .hosts
            .iter()
            .any(|host| is_hypervisor_in(&host.run, &command_line, &working_directory));
        if ours && let Some(mark) = Mark::of(pid)? {
            found.push(mark);
        }
    }
    Ok(found)
}

fn is_hypervisor_in(run: &Path, command_line: &[u8], working_directory: &Path) -> bool {
    let mut arguments = command_line.split(|byte| *byte == 0);
    let program = arguments.next().map(String::from_utf8_lossy).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    if !name.starts_with("qemu-") {
        return false;
    }
    // With the slash, so that h1 is not found in h10.
    let folder = format!("{}/", run.display());
    working_directory.starts_with(run)
        || arguments.any(|argument| String::from_utf8_lossy(argument).contains(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypervisors_of_this_host_are_found() {
        let check = |line: &str, cwd: &str| {
            let line = line.replace(' ', "\0");
            is_hypervisor_in(Path::new("/s/run/h1"), line.as_bytes(), Path::new(cwd))
        };
        assert!(check("/usr/bin/qemu-system-x86_64 -qmp unix:/s/run/h1/c/1/qmp", "/"));
        assert!(check("qemu-system-x86_64 -qmp unix:qmp", "/s/run/h1/c/1"));
        assert!(!check("qemu-system-x86_64 -qmp unix:/s/run/h10/c/1/qmp", "/"));
        assert!(!check("less /s/run/h1/c/1/console", "/"));
        assert!(!check("", "/s/run/h1/c"));
    }
}
