//! The QEMU process: started so that it outlives the node, and found again after the node's restart.
//!
//! Promises: it is a session of its own with its output in files, so nothing of the node's end
//! reaches it; its pid is in the run directory before its program is loaded, so a node that dies at
//! any moment leaves nothing that cannot be found. It is recognised by boot id, pid and its own
//! name on its command line (which holds container and epoch), so a pid that was given out again
//! is never taken for it.
//! Does not: speak to it.

use super::confinement::Entrance;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::io::unix::AsyncFd;

const PID_FILE: &str = "hypervisor.pid";
/// What the process says on stdout and stderr.
pub const WORDS_FILE: &str = "hypervisor.log";

/// Steps of a start that a child names to its parent.
const JOIN: u8 = 1;
const BIND: u8 = 2;

/// A process that is surely ours, dead or alive.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    handle: AsyncFd<OwnedFd>,
}

/// Why no process was started.
#[derive(Debug)]
pub enum SpawnError {
    /// It could not be held on the processors of its NUMA nodes.
    Bind(io::Error),
    /// It could not be put into its control group.
    Join(io::Error),
    Io(io::Error),
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> SpawnError {
        SpawnError::Io(error)
    }
}

impl From<rustix::io::Errno> for SpawnError {
    fn from(error: rustix::io::Errno) -> SpawnError {
        SpawnError::Io(error.into())
    }
}

/// Starts `program` with `run_directory` as working directory, where `entrance` puts it;
/// `inherited` keep their numbers.
pub fn spawn(
    program: &Path,
    words: &[OsString],
    run_directory: &Path,
    inherited: &[OwnedFd],
    entrance: Entrance,
) -> Result<Process, SpawnError> {
    let output = File::options().append(true).create(true).open(run_directory.join(WORDS_FILE))?;
    let mut pid_file = File::create(run_directory.join(PID_FILE))?;
    writeln!(pid_file, "{}", boot_id()?)?;
    let inherited: Vec<i32> = inherited.iter().map(|fd| fd.as_raw_fd()).collect();
    let pid_fd = pid_file.as_raw_fd();

    // What fails between fork and exec comes back as a number alone; the pipe says which step it was.
    let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
    let (failed, tell) = rustix::pipe::pipe_with(flags)?;

    let mut command = Command::new(program);
    command
        .args(words)
        .current_dir(run_directory)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let before_exec = move || {
        for door in &entrance.doors {
            if let Err(error) = rustix::io::write(door, b"0") {
                rustix::io::write(&tell, &[JOIN])?;
                return Err(error.into());
            }
        }
        if let Some(processors) = &entrance.processors
            && let Err(error) = rustix::thread::sched_setaffinity(None, processors)
        {
            rustix::io::write(&tell, &[BIND])?;
            return Err(error.into());
        }
        rustix::process::setsid()?;
        for fd in &inherited {
            // SAFETY: the descriptors are open in the parent until `spawn` returns, so also here.
            #[expect(unsafe_code, reason = "descriptors cross a fork as numbers")]
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(*fd) };
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "descriptors cross a fork as numbers")]
        let pid_file = unsafe { std::os::fd::BorrowedFd::borrow_raw(pid_fd) };
        let mut digits = [0; 10];
        rustix::io::write(pid_file, decimal(std::process::id(), &mut digits))?;
        Ok(())
    };
    // SAFETY: the closure makes system calls on its own stack and neither allocates nor locks.
    #[expect(unsafe_code, reason = "a session and inherited descriptors need code before exec")]
    unsafe {
        command.pre_exec(before_exec);
    }
    let child = command.spawn().map_err(|error| {
        let mut step = [0];
        match rustix::io::read(&failed, &mut step) {
            Ok(1) if step[0] == JOIN => SpawnError::Join(error),
            Ok(1) if step[0] == BIND => SpawnError::Bind(error),
            Ok(_) | Err(_) => SpawnError::Io(error),
        }
    })?;
    // Not waited for by pid but through the pidfd, as is a process that an earlier node started.
    Ok(Process::open(child.id())?)
}

/// The process that an earlier node started here under `name`, if it still lives.
pub fn find(run_directory: &Path, name: &str) -> io::Result<Option<Process>> {
    let text = match std::fs::read_to_string(run_directory.join(PID_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = text.lines();
    if lines.next() != Some(boot_id()?.as_str()) {
        return Ok(None);
    }
    let Some(pid) = lines.next().and_then(|line| line.parse::<u32>().ok()) else {
        return Ok(None);
    };
    // The handle first: from then on the pid cannot come to mean another process unnoticed.
    let process = match Process::open(pid) {
        Ok(process) => process,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let ours = command_line.windows(name.len()).any(|window| window == name.as_bytes());
    Ok(ours.then_some(process))
}

impl Process {
    fn open(pid: u32) -> io::Result<Process> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        let handle = rustix::process::pidfd_open(raw, PidfdFlags::empty())?;
        Ok(Process { pid, handle: crate::readiness::register(handle)? })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it is gone, and buries it if it is our child.
    pub async fn ended(&self) {
        // The only way that this fails is a runtime that shuts down.
        if let Ok(mut ready) = self.handle.readable().await {
            ready.retain_ready();
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // A process of an earlier node is not our child, and init buries it.
        let _ = rustix::process::waitid(WaitId::PidFd(self.handle.get_ref().as_fd()), options);
    }

    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.handle.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Changes when the machine boots.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The number's digits, without the allocator, which must not be used between fork and exec.
fn decimal(mut number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut start = buffer.len();
    loop {
        start -= 1;
        // A digit is below ten.
        buffer[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::CpuSet;
    use std::time::Duration;

    #[test]
    fn digits_come_out_without_an_allocator() {
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            assert_eq!(decimal(number, &mut [0; 10]), number.to_string().as_bytes());
        }
    }

    #[tokio::test]
    async fn a_process_is_found_by_its_name_and_only_while_it_lives() {
        let directory = tempfile::tempdir().unwrap();
        let words = ["-c", "read line; exit 3", "berth-abc-1"].map(OsString::from);
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let words = {
            let mut words = words.to_vec();
            words[1] = format!("read line </proc/self/fd/{}", reader.as_raw_fd()).into();
            words
        };
        let (shell, entrance) = (Path::new("/bin/sh"), Entrance::default());
        let process = spawn(shell, &words, directory.path(), &[reader], entrance).unwrap();
        // The name is on the command line only once the program is loaded, which spawn awaits.
        let found = find(directory.path(), "berth-abc-1").unwrap().unwrap();
        assert_eq!(found.pid(), process.pid());
        assert!(find(directory.path(), "berth-abc-2").unwrap().is_none());

        found.signal(Signal::KILL).unwrap();
        tokio::time::timeout(Duration::from_secs(10), process.ended()).await.unwrap();
        assert!(find(directory.path(), "berth-abc-1").unwrap().is_none());
    }

    #[tokio::test]
    async fn what_a_process_cannot_be_put_into_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let start = |entrance| spawn(Path::new("true"), &[], directory.path(), &[], entrance);
        let nowhere = Entrance { processors: Some(CpuSet::new()), doors: vec![] };
        assert!(matches!(start(nowhere), Err(SpawnError::Bind(_))));
        let closed = File::open("/dev/null").unwrap();
        let closed = Entrance { processors: None, doors: vec![closed] };
        assert!(matches!(start(closed), Err(SpawnError::Join(_))));
        let absent = Path::new("/no/such/program");
        let absent = spawn(absent, &[], directory.path(), &[], Entrance::default());
        assert!(matches!(absent, Err(SpawnError::Io(_))));
    }

    #[tokio::test]
    async fn nothing_is_found_where_nothing_was_started() {
        let directory = tempfile::tempdir().unwrap();
        assert!(find(directory.path(), "berth-abc-1").unwrap().is_none());
        std::fs::write(directory.path().join(PID_FILE), "another-boot\n1\n").unwrap();
        assert!(find(directory.path(), "").unwrap().is_none());
    }
}
